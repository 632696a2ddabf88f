"""Which price becomes which, from one version to another."""

from decimal import Decimal

import pytest

from catalog.charges import Price
from catalog.mapping import BadMapping, PriceMapping, Proposed, check_mapping, price_differences, propose_mappings
from catalog.terms import ALLOCATED, IN_ADVANCE, METERED, FeatureTerms, ItemTerms, PlanTerms

CREDITS = FeatureTerms("credits", "Credits", METERED)
SEATS = FeatureTerms("seats", "Seats", METERED, ALLOCATED)


def card(*items: ItemTerms, cadence: str = "P1M", commitment: str | None = None) -> PlanTerms:
    return PlanTerms(1, "USD", cadence, items, commitment=Decimal(commitment) if commitment else None)


def fee(amount: int, key: str = "base") -> ItemTerms:
    return ItemTerms(key, amount=Decimal(amount), cadence="P1M")


def used(price: str | None, key: str = "credits", included: int = 100, feature: FeatureTerms = CREDITS) -> ItemTerms:
    made = Price(rate=Decimal(price)) if price else None
    return ItemTerms(key, feature=feature, included=Decimal(included), reset="P1M", price=made)


def problems(old: PlanTerms, new: PlanTerms, *maps: tuple[str, str | None]) -> list[tuple[str, str, str]]:
    with pytest.raises(BadMapping) as refused:
        check_mapping(old, new, [PriceMapping(*pair) for pair in maps])
    return [(p.key, p.side, p.code) for p in refused.value.problems]


def test_the_same_key_becomes_the_same_key():
    """L-25"""
    found = propose_mappings(card(fee(50), used("0.1")), card(fee(60), used("0.2")))

    assert found == Proposed((PriceMapping("base", "base"), PriceMapping("credits", "credits")))


def test_a_key_that_is_gone_becomes_the_price_of_its_feature():
    """L-25"""
    found = propose_mappings(card(used("0.1", "old-credits")), card(used("0.2", "credits")))

    assert found == Proposed((PriceMapping("old-credits", "credits"),))


def test_what_nobody_can_guess_is_left_open():
    """L-25"""
    found = propose_mappings(card(fee(50), fee(20, "support")), card(fee(60), fee(9, "care")))

    assert found == Proposed((PriceMapping("base", "base"),), ("support",))


def test_features_without_a_price_need_no_mapping():
    """L-25"""
    old, new = card(fee(50), used(None)), card(fee(60))

    assert propose_mappings(old, new).unmapped == ()
    check_mapping(old, new, [PriceMapping("base", "base")])


def test_every_price_that_nobody_mapped_is_named():
    """L-25"""
    old = card(fee(50), fee(20, "support"), used("0.1"))

    assert problems(old, card(fee(60)), ("base", "base")) == [
        ("support", "from", "unmapped_price"),
        ("credits", "from", "unmapped_price"),
    ]


def test_a_price_can_be_dropped_on_purpose():
    """L-25"""
    check_mapping(card(fee(50), fee(20, "support")), card(fee(60)), [PriceMapping("base", "base"), _dropped("support")])


def _dropped(key: str) -> PriceMapping:
    return PriceMapping(key, None)


def test_unknown_keys_are_named_on_their_side():
    """L-25"""
    assert problems(card(fee(50)), card(fee(60)), ("base", "bass"), ("support", "base")) == [
        ("bass", "to", "unknown_price_key"),
        ("support", "from", "unknown_price_key"),
    ]


def test_a_key_is_mapped_once_on_either_side():
    """L-25"""
    old = card(fee(50), fee(20, "support"))

    assert problems(old, card(fee(60)), ("base", "base"), ("base", None), ("support", "base")) == [
        ("base", "from", "mapped_twice"),
        ("base", "to", "mapped_twice"),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (card(fee(50)), card(fee(50), fee(20, "support"))),
        (card(fee(50), fee(20, "support")), card(fee(50))),
        (card(fee(50)), card(fee(60))),
        (card(used("0.1")), card(used("0.2"))),
        (card(used("0.1")), card(used(None))),
        (card(fee(50)), card(ItemTerms("base", amount=Decimal(50), cadence="P1M", term="in_arrears"))),
        (card(fee(50)), card(fee(50), cadence="P1Y")),
        (card(fee(50)), card(fee(50), commitment="500")),
        (card(used("10", included=2, feature=SEATS)), card(used("10", included=3, feature=SEATS))),
    ],
    ids=["added", "removed", "amount", "rate", "no price", "term", "cadence", "minimum", "seats included"],
)
def test_prices_differ(old: PlanTerms, new: PlanTerms):
    """L-24"""
    assert price_differences(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (card(fee(50), used(None)), card(fee(50), used(None, included=250))),
        (card(fee(50), used("0.1")), card(fee(50), used("0.1", included=250))),
        (card(fee(50)), card(fee(50), used(None))),
        (card(fee(50), used(None)), card(fee(50))),
        (card(fee(50)), card(fee(50), fee(0, "free"))),
    ],
    ids=["allowance", "allowance before a price", "added", "removed", "a fee of nothing"],
)
def test_only_features_differ(old: PlanTerms, new: PlanTerms):
    """L-24"""
    assert not price_differences(old, new)


def test_units_included_in_what_is_bought_ahead_are_a_part_of_its_price():
    """L-24"""
    old, new = (
        ItemTerms("credits", feature=CREDITS, included=Decimal(n), price=Price(rate=Decimal(1)), term=IN_ADVANCE)
        for n in (100, 200)
    )

    assert price_differences(card(old), card(new)) == ("Credits: 100 → 200",)
