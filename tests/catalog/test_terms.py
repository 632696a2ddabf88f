from dataclasses import replace
from decimal import Decimal

import pytest

from catalog.charges import GRADUATED, Price, Tier
from catalog.terms import (
    CANCEL,
    METERED,
    ChangeKind,
    Conditions,
    FeatureTerms,
    ItemTerms,
    PlanTerms,
    compare,
    differences,
)

CREDITS = FeatureTerms("credits", "Credits", METERED)


def card(*items: ItemTerms, plan: int = 1, cadence: str = "P1M") -> PlanTerms:
    return PlanTerms(plan, "USD", cadence, items)


def fee(amount: int, cadence: str = "P1M", key: str = "base") -> ItemTerms:
    return ItemTerms(key, amount=Decimal(amount), cadence=cadence)


def credits(included: int = 100, price: str | None = None) -> ItemTerms:
    return ItemTerms(
        "credits",
        feature=CREDITS,
        included=Decimal(included),
        reset="P1M",
        price=None if price is None else Price(rate=Decimal(price)),
    )


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (card(fee(20), credits()), card(credits(), fee(20)), ChangeKind.NOTHING),
        (card(fee(20), credits()), card(fee(20), credits(200)), ChangeKind.FEATURES),
        (card(fee(20), credits(50, "0.1")), card(fee(20), credits(200, "0.1")), ChangeKind.FEATURES),
        (card(credits()), card(fee(20), credits()), ChangeKind.UP),
        (card(fee(20), credits()), card(credits()), ChangeKind.DOWN),
        (card(fee(20)), card(fee(300, "P0D")), ChangeKind.UP),
        (card(credits(0, "0.1")), card(credits(0, "0.05"), plan=2), ChangeKind.UP),
        (card(fee(20)), card(fee(100, "P1Y"), cadence="P1Y"), ChangeKind.UP),
        (card(fee(20)), card(fee(30)), ChangeKind.UP),
        (card(fee(30)), card(fee(20)), ChangeKind.DOWN),
        (card(fee(300, "P1Y"), cadence="P1Y"), card(fee(20), plan=2), ChangeKind.DOWN),
        (card(fee(240, "P1Y"), cadence="P1Y"), card(fee(20), plan=2), ChangeKind.UP),
        (card(fee(20), credits(0, "0.2")), card(fee(20), credits(0, "0.1")), ChangeKind.DOWN),
        (card(fee(20), credits(0, "0.1")), card(fee(20), credits(0, "0.2")), ChangeKind.UP),
        (card(fee(20)), card(fee(20), plan=2), ChangeKind.UP),
    ],
)
def test_the_first_rule_that_applies_says_what_kind_of_change_it_is(old, new, kind):
    assert compare(old, new) is kind


def test_the_name_of_an_item_makes_no_difference():
    """L-23"""
    assert compare(card(fee(20)), card(replace(fee(20), name="Platform"))) is ChangeKind.NOTHING


def test_weeks_count_as_52_in_12_months():
    terms = PlanTerms(1, "USD", "P1M", (ItemTerms("base", amount=Decimal(12), cadence="P7D"),))

    assert terms.monthly() == 52


def test_differences_are_told_in_words():
    old, new = card(fee(50), credits(100)), card(fee(40), credits(250))

    assert [d.sentence("USD") for d in differences(old, new)] == [
        "Base fee: $50.00 / month → $40.00 / month",
        "Credits: 100 → 250",
    ]


def test_added_and_removed_items_are_told_too():
    assert [d.sentence("USD") for d in differences(card(fee(50)), card(credits(100)))] == [
        "Credits: added (100)",
        "Base fee: removed ($50.00 / month)",
    ]


def graded(*rates: str) -> ItemTerms:
    tiers = (Tier(Decimal(10), Decimal(rates[0])), Tier(None, Decimal(rates[1])))
    return replace(credits(0), price=Price(GRADUATED, tiers=tiers))


def test_two_prices_that_are_described_alike_are_told_apart_by_their_tiers():
    [found] = differences(card(graded("1", "0.5")), card(graded("1", "0.4")))

    assert found.sentence("USD") == (
        "Credits: from $1.00 / unit, 2 tiers; up to 10: $1.00 / unit; over 10: $0.50 / unit"
        " → from $1.00 / unit, 2 tiers; up to 10: $1.00 / unit; over 10: $0.40 / unit"
    )


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (graded("1", "0.5"), graded("1", "0.4"), ChangeKind.DOWN),
        (graded("1", "0.5"), graded("0.9", "0.6"), ChangeKind.UP),
    ],
)
def test_cheaper_tiers_are_down_and_mixed_ones_up(old, new, kind):
    assert compare(card(fee(20), old), card(fee(20), new)) is kind


def test_when_it_is_asked_for_is_told_as_a_difference():
    [found] = differences(card(credits(0, "1")), card(replace(credits(0, "1"), term="in_advance")))

    assert "in arrears → in advance" in found.sentence("USD")


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        (Conditions(), []),
        (Conditions(1), ["1 day free, then billed"]),
        (Conditions(14, CANCEL, Decimal(500)), ["14 days free, then ended", "at least $500.00 a period"]),
    ],
)
def test_trial_and_commitment_are_told_in_words(conditions, words):
    assert conditions.describe("USD") == words
