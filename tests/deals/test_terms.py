"""What a deal says comes back as it was, names what cannot be, and says how it differs from another."""

from dataclasses import replace
from decimal import Decimal

import pytest

from catalog.charges import GRADUATED, Price, Tier
from catalog.rollovers import Rollover
from catalog.terms import HARD, METERED, SOFT, FeatureTerms, ItemTerms
from catalog.terms_json import item_from_json, item_to_json
from deals.terms import (
    DealCoupon,
    DealOverride,
    DealPhase,
    DealPrice,
    DealTerms,
    InvalidDeal,
    StandsOn,
    differences,
    validate,
)
from invoicing.special import Component, Rule
from tests.instants import MARCH_1

CREDITS = FeatureTerms("credits", "Credits", METERED)
TIERED = Price(model=GRADUATED, tiers=(Tier(Decimal("1000"), Decimal("0.000002")), Tier(None, Decimal("0.0000015"))))
BASE = ItemTerms(key="base", amount=Decimal("3333.333333333333"), cadence="P1M")
USE = ItemTerms(key="credits", feature=CREDITS, included=Decimal("0.5"), reset="P1M", limit=SOFT, price=TIERED)
MONTHLY = Rule("MONTHLY")


def deal(**changes: object) -> DealTerms:
    ramp = (DealPhase("Year 1", 12, (BASE, USE), commitment=Decimal("40000")), DealPhase("Year 2", None, (BASE, USE)))
    terms = DealTerms(1, "Pro", "USD", 7, "P1M", 24, ramp)
    return replace(terms, **changes)  # type: ignore[arg-type]


def codes(terms: DealTerms) -> dict[str, str]:
    with pytest.raises(InvalidDeal) as refused:
        validate(terms)
    return {problem.field: problem.code for problem in refused.value.problems}


def test_an_item_comes_back_to_the_last_decimal() -> None:
    """Y-37: what was agreed is what is enabled."""
    item = replace(USE, rollover=Rollover("P3M", most=Decimal("12.5")), max_overage=Decimal("0.000001"), limit=HARD)

    assert item_from_json(item_to_json(item)) == item


def test_an_item_takes_the_feature_that_exists_now() -> None:
    present = FeatureTerms("credits", "AI credits", METERED, id=5)

    [feature] = [item_from_json(item_to_json(USE), {"credits": present}).feature]

    assert feature is not None and (feature.name, feature.id) == ("AI credits", 5)


def test_a_deal_comes_back_with_the_same_fingerprint() -> None:
    """Y-37"""
    terms = deal(
        starts_at=MARCH_1,
        renews=False,
        net_terms_days=30,
        coupons=(DealCoupon("launch", "customer", "Launch"),),
        overrides=(DealOverride("credits", Decimal("1e3"), 0, 6), DealOverride("sso", True)),
        prices=(DealPrice("base", (Component("Launch", 3000, MONTHLY),), cycles=12),),
        use=(("credits", Decimal("1234.5")),),
        stands_on=StandsOn("sub_1", 3),
    )

    again = DealTerms.from_json(terms.to_json())

    assert again == terms
    assert again.fingerprint == terms.fingerprint


def test_phases_follow_one_another_until_the_end_of_the_term() -> None:
    assert deal().spans() == [(0, 12), (12, 24)]


def test_the_use_of_a_phase_replaces_that_of_the_deal() -> None:
    ramp = replace(deal().phases[0], use=(("credits", Decimal(9)),))
    terms = deal(use=(("credits", Decimal(5)), ("calls", Decimal(1))))

    assert terms.use_in(ramp) == {"credits": Decimal(9), "calls": Decimal(1)}


def test_every_wrong_field_is_named_at_once() -> None:
    first = replace(deal().phases[0], label="", quantity=0)
    wrong = deal(term_months=40, net_terms_days=999, phases=(first, deal().phases[1]))

    assert codes(wrong) == {
        "term_months": "bad_term",
        "net_terms_days": "bad_net_terms",
        "phases.0.label": "bad_label",
        "phases.0.quantity": "bad_quantity",
    }


def test_phases_that_do_not_fill_the_term_are_refused() -> None:
    short = (replace(deal().phases[0], months=6),)

    assert codes(deal(phases=short)) == {"phases": "bad_length"}


def test_only_the_last_phase_is_open() -> None:
    first, second = deal().phases

    assert codes(deal(phases=(replace(first, months=None), second)))["phases.0.months"] == "bad_months"


def test_a_phase_lasts_whole_periods_of_the_plan() -> None:
    yearly = deal(cadence="P1Y", phases=(replace(deal().phases[0], months=6), deal().phases[1]))

    assert codes(yearly)["phases.0.months"] == "bad_months"


def test_two_values_of_a_feature_at_once_are_refused() -> None:
    overrides = (DealOverride("credits", Decimal(1), 0, 6), DealOverride("credits", Decimal(2), 5))

    assert codes(deal(overrides=overrides)) == {"overrides.1.feature": "override_overlaps"}


def test_a_special_price_of_what_no_phase_sells_is_refused() -> None:
    price = DealPrice("seats", (Component("Half", 100, MONTHLY),))

    assert codes(deal(prices=(price,))) == {"prices.0.item_key": "not_priced"}


def test_differences_are_sentences() -> None:
    dearer = replace(deal().phases[0], items=(replace(BASE, amount=Decimal(5000)), USE), commitment=Decimal(60000))
    later = deal(term_months=36, net_terms_days=30, phases=(dearer, deal().phases[1]), coupons=(DealCoupon("launch"),))

    assert differences(deal(), later) == [
        "Term: 24 months → 36 months",
        "Net terms: the account's → 30 days",
        "Year 1: at least $40,000.00 → $60,000.00 a period",
        "Year 1: Base fee: $3,333.333333333333 / month → $5,000.00 / month",
        "Coupon launch for this contract: added",
    ]
