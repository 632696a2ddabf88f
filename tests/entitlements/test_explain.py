"""Explaining an answer: the same verdict as the check, told from the same values."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from itertools import chain, islice
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.terms import BOOLEAN, METERED, STATIC
from entitlements.explain import Decider, Explanation, Limit, Rule, explain
from tests.entitlements.reference import ENDLESS, NO_ACCESS, ON, Says, Situation
from tests.entitlements.test_resolution import (
    NOW,
    TYPES,
    boolean_table,
    contracts_in,
    decided,
    metered_table,
    pool_in,
    rows_of,
    static_table,
)


def explained(s: Situation) -> Explanation:
    contracts = contracts_in(s)
    pool = pool_in(s, contracts, rows_of(s, contracts))
    found = explain(TYPES[s.type], contracts, pool, at=NOW, required=Decimal(s.required))
    assert found.access == decided(s, contracts, pool), s
    return found


def pro(**says: Any) -> Says:
    return Says(1, Fraction(100), **says)


# The same answer, always -------------------------------------------------------------------------------------------


def test_the_verdict_is_that_of_the_check_in_every_situation_of_the_table():
    """L-31"""
    for situation in chain(boolean_table(), islice(static_table(), 0, None, 7), islice(metered_table(), 0, None, 13)):
        adds_up(explained(situation))


values = st.sampled_from([Fraction(0), Fraction(30), Fraction(100), Fraction(250), ENDLESS, NO_ACCESS])
beyond = st.sampled_from(["hard", "soft", "priced", 20, 500])
contracts = st.builds(
    Says,
    st.just(0),
    st.sampled_from([None, Fraction(40), Fraction(100), ENDLESS]),
    kind=st.sampled_from(["billed", "assigned"]),
    quantity=st.integers(1, 3),
    add_on=st.booleans(),
    used=st.integers(0, 300),
    beyond=beyond,
)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    who = [replace(says, subscription=number) for number, says in enumerate(draw(st.lists(contracts, max_size=2)), 1)]
    who = [says if says.gives is not None else replace(says, used=0, beyond="hard") for says in who]
    return Situation(
        METERED,
        tuple(sorted(who, key=lambda says: says.add_on)),
        tuple((pk, draw(values)) for pk in (1, 2) if draw(st.booleans())),
        draw(st.none() | values),
        draw(st.none() | st.integers(1, 60)),
        draw(st.none() | st.integers(1, 60)),
        draw(st.integers(0, 400)),
    )


@settings(max_examples=400, deadline=None)
@given(situation=situations())
def test_the_verdict_is_that_of_the_check_in_random_situations(situation):
    """L-31"""
    adds_up(explained(situation))


def adds_up(found: Explanation) -> None:
    """The units of the story are those that were asked for, and no bucket gives more than it has."""
    assert found.sentence
    if not found.access.has_access:
        assert not found.allowed
    if found.feature.type != METERED:
        return
    told = sum((g.units + g.beyond for g in found.buckets), Decimal(0))
    assert told + found.missing == found.access.required
    assert (found.missing == 0 and bool(found.access.buckets)) == found.allowed or found.access.required == 0
    for part in found.buckets:
        assert part.bucket.remaining is None or part.units <= part.bucket.remaining
        assert not (part.closed_by and (part.units or part.beyond))


# What the story says ------------------------------------------------------------------------------------------------


def test_a_denied_check_says_which_limit_how_much_is_used_and_when_it_resets():
    """Y-38, L-35"""
    found = explained(Situation(METERED, (pro(used=98),), required=5))

    assert (found.allowed, found.reason, found.decided_by) == (False, "limit_reached", Decider.LIMIT)
    assert found.missing == 3
    assert found.beyond is not None and found.beyond.limit is Limit.HARD
    assert found.sentence == "5 asked for, 2 left, and the limit is hard. It resets on 1 Apr 2026."


def test_paid_use_beyond_the_allowance_says_how_much_goes_beyond():
    """L-35"""
    found = explained(Situation(METERED, (pro(used=98, beyond="priced"),), required=5))

    [bucket] = found.buckets
    assert (bucket.units, bucket.beyond, found.decided_by) == (2, 3, Decider.BEYOND)
    assert found.sentence == "5 asked for, 2 left: 3 go beyond, which is paid for."


def test_a_cap_on_what_may_be_owed_is_what_decides_when_it_is_reached():
    found = explained(Situation(METERED, (pro(used=110, beyond=12),), required=5))

    assert (found.decided_by, found.missing) == (Decider.MAX_OVERAGE, 3)
    assert found.beyond is not None and (found.beyond.is_capped, found.beyond.most) == (True, 2)


def test_buckets_stand_in_burn_order_with_what_each_would_give():
    """P-38"""
    found = explained(Situation(METERED, (pro(used=70),), bonus=40, required=60))

    assert [(g.bucket.kind, g.units) for g in found.buckets] == [("plan", 30), ("bonus", 30)]


def test_a_multiplied_allowance_shows_its_sum():
    """P-19"""
    found = explained(Situation(METERED, (pro(quantity=3),)))

    assert [c.promises for c in found.contributors] == ["3 × 100 = 300"]


def test_an_override_says_what_it_adds_and_instead_of_what():
    """L-33"""
    found = explained(Situation(METERED, (pro(),), of_customer=Fraction(500)))

    [applied] = found.overrides
    assert (applied.instead_of, applied.adds, applied.takes) == ("100", 400, 0)
    assert (found.merge.rule, found.merge.result) == (Rule.SUM, "500")


def test_an_override_below_the_allowance_says_what_it_takes():
    """L-01"""
    found = explained(Situation(METERED, (pro(used=10),), of_subscriptions=((1, Fraction(30)),)))

    [applied] = found.overrides
    assert (applied.adds, applied.takes) == (0, 70)


def test_a_number_over_no_limit_sets_one():
    found = explained(Situation(METERED, (Says(1, ENDLESS, used=10),), of_customer=Fraction(30)))

    [applied] = found.overrides
    assert (applied.limits, applied.instead_of, found.access.limit) == (True, "unlimited", 30)


def test_with_both_levels_the_one_of_the_subscription_is_told_first_and_is_outvoted():
    """L-11"""
    both = Situation(METERED, (pro(),), of_subscriptions=((1, Fraction(30)),), of_customer=Fraction(150))
    found = explained(both)

    assert found.both_levels
    assert [(a.override.is_of_customer, a.is_outvoted) for a in found.overrides] == [(False, True), (True, False)]
    assert found.access.limit == 150


def test_what_an_override_closes_stays_in_the_story_with_its_buckets():
    """L-10"""
    found = explained(Situation(METERED, (pro(used=10),), of_customer=NO_ACCESS, bonus=5))

    assert (found.reason, found.decided_by) == ("no_access", Decider.OVERRIDE)
    assert [(g.name, g.closed_by is not None) for g in found.buckets] == [("Plan 101", True), ("bonus", True)]


def test_a_feature_that_no_plan_mentions_names_the_plans_that_are_without_it():
    """P-23, L-32"""
    found = explained(Situation(BOOLEAN, (Says(1, None),)))

    assert (found.reason, found.decided_by, len(found.silent)) == ("not_in_plan", Decider.NOTHING, 1)
    assert found.sentence == "SSO is not part of Plan 101, and nothing else gives it."


def test_nobody_gives_anything_to_whoever_has_no_plan():
    """L-32"""
    found = explained(Situation(METERED, ()))

    assert (found.reason, found.access.source) == ("no_plan", "default")
    assert found.sentence == "There is no plan, no override and no bonus that gives Credits."


def test_the_largest_number_wins_and_texts_that_differ_are_told():
    """P-20"""
    numbers = explained(Situation(STATIC, (Says(1, "100"), Says(2, "250"))))
    texts = explained(Situation(STATIC, (Says(1, "gold"), Says(2, "silver"))))

    assert (numbers.merge.rule, numbers.merge.parts, numbers.merge.result) == (Rule.LARGEST, ("100", "250"), "250")
    assert (texts.merge.rule, texts.merge.result, texts.merge.conflicts) == (Rule.FIRST, "gold", True)


def test_one_switch_that_is_on_is_enough():
    """P-20"""
    found = explained(Situation(BOOLEAN, (Says(1, None), Says(2, ON, add_on=True))))

    assert (found.merge.rule, found.merge.result, found.allowed) == (Rule.ANY, "on", True)
