"""The event loop answers what Django answers: the same numbers of the same type, under the same names."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from catalog.models import Plan
from catalog.terms import ItemTerms
from customers import switch
from customers.models import Customer
from entitlements.grant import grant
from entitlements.models import Balance, UsageEvent, UsageKey
from entitlements.override import override
from tests import builders as a
from tests.hot.conftest import Hot
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1, day

LATER = MARCH_1 + timedelta(hours=3)


def sold(key: str, *items: ItemTerms, **kind: Any) -> Plan:
    """A plan that is made once, however many customers take it."""
    return Plan.objects.filter(key=key).first() or a.plan(key, *items, **kind)


def on_a_plan() -> Customer:
    return a.on(sold("pro", a.fee(50), a.allowance(100)))


def used_up_in_part() -> Customer:
    who = a.on(sold("pro", a.fee(50), a.allowance(100)))
    a.use(who, "40.5", now=MARCH_1)
    return who


def on_two_plans() -> Customer:
    who = a.on(sold("pro", a.fee(50), a.allowance(100)))
    a.enable(who, sold("extra", a.fee(5), a.allowance(30), add_on=True))
    a.pay_all(who)
    return who


def on_the_default_product() -> Customer:
    if not Plan.objects.default().exists():
        a.default(a.allowance(20))
    return a.customer()


def on_an_assigned_plan() -> Customer:
    who = a.customer(since=day("2026-01-31"))
    a.enable(who, sold("partner", a.allowance(1000), of="partners", kind=Plan.Kind.ASSIGNED))
    return who


def with_a_bonus() -> Customer:
    who = a.on(sold("pro", a.fee(50), a.allowance(100)))
    grant(who, a.feature(), Decimal(50), label="Sorry", ends_at=MARCH_16, now=MARCH_1)
    a.use(who, 10, now=MARCH_1)
    return who


def with_a_purchase_and_no_plan() -> Customer:
    who = a.customer()
    grant(who, a.feature(), Decimal(50), label="Bought", ends_at=None, now=MARCH_1)
    return who


def with_an_override() -> Customer:
    who = a.on(sold("pro", a.fee(50), a.allowance(100)))
    given(who, 500, effective_until=MARCH_16)
    return who


def with_an_override_to_come() -> Customer:
    who = a.on(sold("pro", a.fee(50), a.allowance(100)))
    given(who, 500, effective_from=MARCH_16)
    return who


def with_a_lower_override() -> Customer:
    who = a.on(sold("pro", a.fee(50), a.allowance(100)))
    given(who, 60)
    return who


def without_a_limit() -> Customer:
    return a.on(sold("all", a.fee(9), a.allowance(None)))


def paid_by_use() -> Customer:
    who = a.on(sold("metered", a.fee(9), a.allowance(5, price="0.10")))
    a.use(who, 12, now=MARCH_1)
    return who


def with_hourly_windows() -> Customer:
    who = a.on(sold("hourly", a.fee(9), a.allowance(5, resets="PT1H")))
    a.use(who, 2, now=MARCH_1)
    return who


def that_begins_by_its_date() -> Customer:
    return to_begin(waits_for_payment=False)


def that_waits_for_its_first_payment() -> Customer:
    return to_begin(waits_for_payment=True)


def to_begin(**how: bool) -> Customer:
    """A contract that is agreed from 16 March on, which no worker has begun."""
    who, version = a.customer(), sold("pro", a.fee(50), a.allowance(100)).current_version
    assert version is not None
    stage = switch.Stage(version, MARCH_16, MARCH_16)
    switch.plan_start(who, [stage], trial_ends_at=None, starts_at=MARCH_16, ends_at=None, **how)
    return who


def given(who: Customer, value: int, **dates: Any) -> None:
    asked = {"effective_until": None, **dates}
    override(who, a.feature(), Decimal(value), reason="deal", actor=a.STAFF, now=MARCH_1, **asked)


SITUATIONS = [
    on_a_plan,
    used_up_in_part,
    on_two_plans,
    on_the_default_product,
    on_an_assigned_plan,
    with_a_bonus,
    with_a_purchase_and_no_plan,
    with_an_override,
    with_an_override_to_come,
    with_a_lower_override,
    without_a_limit,
    paid_by_use,
    with_hourly_windows,
    that_begins_by_its_date,
    that_waits_for_its_first_payment,
]
INSTANTS = [MARCH_1, LATER, MARCH_16, APRIL_1, APRIL_16, MAY_1]


@pytest.mark.parametrize("made", SITUATIONS, ids=lambda made: made.__name__)
def test_a_check_is_answered_as_django_answers_it(hot: Hot, made: Callable[[], Customer]):
    """A-38: also after windows that nobody opened, asked twice, in order and back in time."""
    who = made()

    for at in [*INSTANTS, *INSTANTS, MARCH_1]:
        expected = hot.caller.at(at).post("check", {"customerId": who.customer_id, "featureSlug": "credits"})
        answer = hot.check(who, at=at)
        assert as_typed(answer) == (as_typed(expected.body) if expected["allowed"] else NOT_OURS), at


@pytest.mark.parametrize(("item", "slug"), [(a.switch, "sso"), (a.static, "rate-limit")])
def test_switches_and_values_are_answered_too(hot: Hot, item: Callable[[], Any], slug: str):
    who = a.on(a.plan("pro", a.fee(50), item()))

    expected = hot.caller.post("check", {"customerId": who.customer_id, "featureSlug": slug})

    assert as_typed(hot.check(who, slug)) == as_typed(expected.body)


@pytest.mark.parametrize("made", SITUATIONS, ids=lambda made: made.__name__)
def test_use_is_counted_as_django_counts_it(hot: Hot, made: Callable[[], Customer]):
    """A-36, P-33: what is answered, and the rows that stay."""
    counted = {}
    for name in ("loop", "django"):
        who = made()
        balances = Balance.objects.filter(customer=who)
        answers = []
        for turn, (value, mode) in enumerate([("3", "reject"), ("0.25", "reject"), ("-1", "reject"), ("7", "cap")]):
            body = {"value": float(value) if "." in value else int(value), "mode": mode, "eventKey": f"key {turn}"}
            answers.append(counted_by(name, hot, who, LATER, {**body, "properties": {"model": 'la"rge\\', "n": turn}}))
        rows = [
            (row.source, row.granted, row.adjusted, row.used, row.starts_at)
            for row in balances.order_by("source", "id")
        ]
        events = list(
            UsageEvent.objects.filter(customer=who)
            .order_by("id")
            .values_list(
                "feature", "name", "amount", "taken", "key", "mode", "properties", "amounts", "at", "recorded_at"
            )
        )
        keys = UsageKey.objects.filter(customer=who).count()
        counted[name] = ([without_ids(answer) for answer in answers], rows, events, keys)

    assert counted["loop"] == counted["django"]


def counted_by(name: str, hot: Hot, who: Customer, at: datetime, body: dict[str, Any]) -> Any:
    """By the event loop, and by Django where it is left to it, as the door does."""
    whole = {"customerId": who.customer_id, "featureSlug": "credits", **body}
    answer = hot.track(who, at=at, **body) if name == "loop" else None
    return answer if answer is not None else hot.caller.at(at).post("track", whole).body


def without_ids(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {name: without_ids(value) for name, value in answer.items() if name != "id"}
    return [without_ids(value) for value in answer] if isinstance(answer, list) else answer


NOT_OURS = ("NoneType", None)


def as_typed(value: Any) -> Any:
    """1 and 1.0 are equal in Python, and different in JSON."""
    if isinstance(value, dict):
        return {name: as_typed(inner) for name, inner in value.items()}
    return [as_typed(inner) for inner in value] if isinstance(value, list) else (type(value).__name__, value)
