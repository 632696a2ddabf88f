"""The resolution table: every combination of who contributes, which overrides hold and what stands beside, answered by
the engine as by a reference that was written from the rules alone."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from itertools import islice, product

from catalog.charges import Price
from catalog.terms import BOOLEAN, METERED, STATIC, FeatureTerms, ItemTerms, PlanTerms
from customers.contracts import Contract, order
from entitlements.access import Access, decide
from entitlements.allowances import contributions_of, sources_of
from entitlements.balances import Bucket, GrantTerms, Kind, Mode, burn, extra, fresh
from entitlements.overrides import Override
from entitlements.pool import Pool, pool_of
from tests.entitlements.reference import ENDLESS, NO_ACCESS, ON, Answer, Says, Situation, Units, answer
from tests.instants import MARCH_1, MARCH_16, day

NOW = MARCH_16
TYPES = {
    BOOLEAN: FeatureTerms("sso", "SSO", BOOLEAN, id=1),
    STATIC: FeatureTerms("rate-limit", "Rate limit", STATIC, id=2),
    METERED: FeatureTerms("credits", "Credits", METERED, id=3),
}
# Plans begin in the order of the table; a feature override holds since some days and for good.
SINCE = {1: MARCH_1, 2: day("2026-03-02"), None: MARCH_1}
OVERRIDDEN_AT = day("2026-03-10")


# From a situation to the engine's values -----------------------------------------------------------------------------


def item_of(says: Says, type: str) -> ItemTerms | None:
    if says.gives is None:
        return None
    feature, row = TYPES[type], 10 + (says.subscription or 0)
    if type == BOOLEAN:
        return ItemTerms("it", feature=feature, id=row)
    if type == STATIC:
        endless = says.gives == ENDLESS
        return ItemTerms("it", feature=feature, value="" if endless else str(says.gives), unlimited=endless, id=row)
    priced = says.beyond == "priced" or isinstance(says.beyond, int)
    return ItemTerms(
        "it",
        feature=feature,
        included=None if says.gives == ENDLESS else as_decimal(says.gives),
        unlimited=says.gives == ENDLESS,
        reset="P1M",
        limit="hard" if says.beyond == "hard" else "soft",
        price=Price(rate=Decimal("0.10")) if priced else None,
        max_overage=Decimal(says.beyond) if isinstance(says.beyond, int) else None,
        id=row,
    )


def as_decimal(units: Units) -> Decimal:
    assert isinstance(units, Fraction | int)
    return Decimal(int(units))


def contract_of(says: Says, type: str) -> Contract:
    item = item_of(says, type)
    plan_id = 100 + (says.subscription or 0)
    since = SINCE[says.subscription]
    return Contract(
        plan_id=plan_id,
        plan_name=f"Plan {plan_id}",
        kind=says.kind,
        version_id=plan_id,
        terms=PlanTerms(plan_id, "USD", "P1M", (item,) if item else (), kind=says.kind),
        anchor=MARCH_1,
        since=since,
        phase_starts_at=since,
        subscription_id=says.subscription,
        phase_id=says.subscription,
        add_on=says.add_on,
        quantity=says.quantity,
    )


def override_of(number: int, subscription: int | None, value: Units, type: str) -> Override:
    said: dict[str, object] = {"text": str(value)} if type == STATIC else {}
    if value in (NO_ACCESS, ON):
        said = {"on": value == ON}
    elif value == ENDLESS:
        said = {"unlimited": True}
    elif type == METERED:
        said = {"units": as_decimal(value)}
    return Override(number, f"fov_{number}", TYPES[type], subscription, OVERRIDDEN_AT, None, **said)


def rows_of(s: Situation, contracts: list[Contract]) -> list[Bucket]:
    """The buckets as they were written before any override began, with what is used of each."""
    if s.type != METERED:
        return []
    used = {says.subscription: Decimal(says.used) for says in s.contracts}
    rows = [
        replace(fresh(c, NOW), id=number, used=used[c.contract.subscription_id])
        for number, c in enumerate(contributions_of(contracts), 1)
    ]
    for number, kind, units in ((50, Kind.BONUS, s.bonus), (51, Kind.PURCHASE, s.purchase)):
        if units is not None:
            own = extra(TYPES[METERED], Decimal(units), starts_at=MARCH_1, ends_at=None, label=kind.value, kind=kind)
            grant = GrantTerms(number, Decimal(units), MARCH_1, None)
            rows.append(replace(own, id=number, grant=grant))
    return rows


def pool_in(s: Situation, contracts: list[Contract], rows: list[Bucket], at: datetime = NOW) -> Pool:
    overrides = [override_of(900 + pk, pk, value, s.type) for pk, value in s.of_subscriptions]
    if s.of_customer is not None:
        overrides.append(override_of(999, None, s.of_customer, s.type))
    return pool_of(
        contributions_of(contracts),
        rows,
        at,
        overrides=list(reversed(overrides)),  # as rows come: the newest first
        subscriptions=[contract.subscription_id for contract in contracts],
        slug=TYPES[s.type].slug,
    )


def contracts_in(s: Situation) -> list[Contract]:
    return order(contract_of(says, s.type) for says in s.contracts)


def decided(s: Situation, contracts: list[Contract], pool: Pool, required: int | None = None) -> Access:
    feature = TYPES[s.type]
    return decide(
        feature,
        sources_of(contracts, feature.slug),
        pool.of(feature.slug),
        holds_plan=bool(contracts),
        required=Decimal(s.required if required is None else required),
        replaced=pool.overrides(feature.slug),
    )


def as_answer(access: Access) -> Answer:
    value = access.value
    said = f"{value.normalize():f}" if isinstance(value, Decimal) else None if isinstance(value, bool) else value
    return Answer(
        has_access=access.has_access,
        allowed=access.allowed,
        reason=access.reason,
        source=access.source,
        value=said,
        unlimited=access.unlimited,
        limit=None if access.limit is None else Fraction(access.limit),
        remaining=None if access.remaining is None else Fraction(access.remaining),
        conflicts=access.conflicts,
    )


def written(pool: Pool) -> list[Bucket]:
    """The pool's buckets as rows, as if somebody had written them."""
    ids = iter(range(200, 300))
    return [bucket if bucket.id is not None else replace(bucket, id=next(ids)) for bucket in pool.buckets]


# The table ------------------------------------------------------------------------------------------------------------


def holders(main: Units, other: Units, **says: object) -> dict[str, tuple[Says, ...]]:
    """Every kind of contributor; `main` and `other` are what the first and the second of them give."""
    first = Says(1, main, **says)  # type: ignore[arg-type]
    return {
        "nobody": (),
        "billed": (first,),
        "billed twice": (replace(first, quantity=2),),
        "assigned": (replace(first, kind="assigned", quantity=2),),
        "default": (replace(first, subscription=None, kind="assigned"),),
        "add-on": (first, Says(2, other, add_on=True)),
        "two plans": (first, Says(2, other, kind="assigned")),
        "not in the plan": (replace(first, gives=None, used=0, beyond="hard"),),
        "only in the add-on": (replace(first, gives=None, used=0, beyond="hard"), Says(2, other, add_on=True)),
    }


Level = tuple[tuple[tuple[int, Units], ...], Units | None]


def levels(values: list[Units], on: int = 1) -> Iterator[Level]:
    """No override, one level, the other, and both, with every value."""
    yield (), None
    for value in values:
        yield ((on, value),), None
        yield (), value
    for own, of_customer in product(values, values):
        yield ((on, own),), of_customer


def boolean_table() -> Iterator[Situation]:
    for contracts, (own, all_), on in product(holders(ON, ON).values(), [*levels([ON, NO_ACCESS])], [1, 2]):
        yield Situation(BOOLEAN, contracts, tuple((on, value) for _, value in own), all_)


def static_table() -> Iterator[Situation]:
    values: list[Units] = ["50", "100", "500", "gold", ENDLESS, NO_ACCESS]
    given = [("100", "200"), ("silver", "gold"), ("silver", "200"), ("100", ENDLESS), (ENDLESS, "1"), ("gold", "gold")]
    for main, other in given:
        for contracts, (own, all_), on in product(holders(main, other).values(), [*levels(values)], [1, 2]):
            yield Situation(STATIC, contracts, tuple((on, value) for _, value in own), all_)


# (used of the first window, what happens beyond it), and (bonus, purchase, units asked for).
USES: list[tuple[int, str | int]] = [
    *((used, "hard") for used in (0, 60, 100)),
    *((used, beyond) for used in (60, 130) for beyond in ("soft", "priced", 50)),
]
BESIDE = [(None, None, 1), (None, None, 90), (30, None, 90), (None, 25, 1), (30, 25, 90)]


def metered_table() -> Iterator[Situation]:
    raised_equal_lowered: list[Units] = [Fraction(n) for n in (0, 30, 100, 140, 200)]
    given: list[tuple[Units, Units]] = [
        (Fraction(100), Fraction(40)),
        (ENDLESS, Fraction(40)),
        (Fraction(100), ENDLESS),
    ]
    for (main, other), (used, beyond) in product(given, USES):
        who = holders(main, other, used=used, beyond=beyond).values()
        said = [*levels([*raised_equal_lowered, ENDLESS, NO_ACCESS])]
        for number, (contracts, (own, of_customer)) in enumerate(product(who, said)):
            bonus, purchase, required = BESIDE[number % len(BESIDE)]
            yield Situation(METERED, contracts, own, of_customer, bonus, purchase, required)


def expect(s: Situation) -> tuple[list[Contract], Pool]:
    contracts = contracts_in(s)
    pool = pool_in(s, contracts, rows_of(s, contracts))
    assert as_answer(decided(s, contracts, pool)) == answer(s), s
    return contracts, pool


def test_switches_resolve_as_the_rules_say():
    """P-20, P-23, L-10, L-11, L-31, L-32"""
    table = [*boolean_table()]
    for situation in table:
        expect(situation)
    assert len(table) > 100


def test_numbers_and_texts_resolve_as_the_rules_say():
    """P-20, L-10, L-11, L-31"""
    table = [*static_table()]
    for situation in table:
        expect(situation)
    assert len(table) > 4_000


def test_metered_features_resolve_as_the_rules_say():
    """P-19, P-20, P-21, P-22, L-01, L-10, L-11, L-33, L-35"""
    table = [*metered_table()]
    for situation in table:
        expect(situation)
    assert len(table) > 10_000


def test_the_answer_stays_once_it_is_written_down():
    """L-33, A-38"""
    for situation in _every(metered_table(), 7):
        contracts, pool = expect(situation)
        again = pool_in(situation, contracts, written(pool))
        assert as_answer(decided(situation, contracts, again)) == answer(situation), situation
        assert not again.needs_writing, situation


def test_what_is_counted_is_missing_afterwards_and_nothing_else_changes():
    """L-34"""
    for situation in _every(metered_table(), 11):
        contracts, pool = expect(situation)
        before = decided(situation, contracts, pool)
        after = decided(situation, contracts, pool_in(situation, contracts, counted(pool, Decimal(7))))
        if before.remaining is not None:
            assert after.limit == before.limit, situation
            assert after.remaining == max(Decimal(0), before.remaining - 7), situation


def counted(pool: Pool, units: Decimal) -> list[Bucket]:
    """The rows after so many units were counted, as far as they fit."""
    rows = written(pool)
    burnt = burn([rows[place] for place in pool.usable], units, Mode.CAP)
    for i, part in burnt.parts:
        place = pool.usable[i]
        rows[place] = replace(rows[place], used=rows[place].used + part)
    return rows


def _every(table: Iterator[Situation], step: int) -> Iterator[Situation]:
    """A share of the table; every kind of situation is in it."""
    return islice(table, 0, None, step)
