from dataclasses import replace
from decimal import Decimal

import pytest

from catalog.charges import Price
from catalog.terms import METERED, ChangeKind, FeatureTerms, ItemTerms, PlanTerms, compare, differences

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
