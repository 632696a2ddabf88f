"""What is promised, merged over plans. No database."""

from decimal import Decimal

import pytest

from catalog.terms import BOOLEAN, METERED, STATIC, FeatureTerms, ItemTerms, PlanTerms
from customers.contracts import Contract, order
from entitlements.access import decide
from entitlements.allowances import Value, as_number, sources_of, static_value
from tests.instants import MARCH_1, MARCH_16

RATE = FeatureTerms("rate", "Rate", STATIC, id=1)
SSO = FeatureTerms("sso", "SSO", BOOLEAN, id=2)
CREDITS = FeatureTerms("credits", "Credits", METERED, id=3)


def holding(*items, name="Pro", since=MARCH_1, id=1, add_on=False, custom=False):
    return Contract(
        plan_id=id,
        plan_name=name,
        kind="billed",
        version_id=id,
        terms=PlanTerms(id, "USD", "P1M", items),
        anchor=since,
        since=since,
        phase_starts_at=since,
        subscription_id=id,
        add_on=add_on,
        is_custom=custom,
    )


def rate(value):
    return ItemTerms(key="rate", feature=RATE, value="" if value is None else value, unlimited=value is None)


def merged(*values):
    contracts = [holding(rate(value), id=number) for number, value in enumerate(values, 1)]
    return static_value([Value(s.item.value, unlimited=s.item.unlimited) for s in sources_of(contracts, "rate")])


def test_of_numbers_the_largest_counts():
    """Design 5, 2; Y-58"""
    assert (merged("100", "20", "9").number, merged("100", "20").conflicts) == (100, False)


def test_unlimited_beats_every_number():
    """P-22"""
    assert (merged("100", None).value, merged("100", None).unlimited) == ("unlimited", True)


def test_of_other_values_the_main_plans_counts_and_the_conflict_is_flagged():
    """Design 5, 2"""
    found = merged("gold", "silver")

    assert (found.value, found.conflicts) == ("gold", True)


def test_equal_texts_are_no_conflict():
    assert not merged("gold", "gold").conflicts


@pytest.mark.parametrize(("text", "number"), [("1e3", 1000), ("0.5", Decimal("0.5")), ("NaN", None), ("fast", None)])
def test_a_value_is_a_number_when_it_is_a_finite_one(text, number):
    assert as_number(text) == number


def test_main_plans_are_asked_before_add_ons_and_older_ones_before_younger():
    young, old = holding(id=3, since=MARCH_16), holding(id=2)

    assert order([holding(id=1, add_on=True), young, old]) == [old, young, holding(id=1, add_on=True)]


def test_an_on_off_feature_is_on_when_one_plan_has_it():
    """P-20"""
    contracts = [holding(id=1), holding(ItemTerms(key="sso", feature=SSO), id=2)]

    access = decide(SSO, sources_of(contracts, "sso"), [], holds_plan=True)

    assert (access.allowed, access.value, access.source) == (True, True, "plan")


@pytest.mark.parametrize(("holds", "reason"), [(True, "not_in_plan"), (False, "no_plan")])
def test_a_feature_that_no_plan_mentions_is_denied_with_the_reason(holds, reason):
    """P-23, L-32"""
    access = decide(CREDITS, [], [], holds_plan=holds)

    assert (access.allowed, access.has_access, access.reason, access.source) == (False, False, reason, "default")


def test_a_source_says_that_it_was_made_for_the_customer():
    [source] = sources_of([holding(rate("5"), custom=True)], "rate")

    assert source.name == "Pro (custom)"
