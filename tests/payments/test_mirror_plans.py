"""Stripe's products and prices as products and plans of ours."""

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from pytest_django.fixtures import Settings as Given

from billing_admin.flows.catalog import MirroredFromStripe, archive_plan, edit_plan, update
from billing_admin.flows.enable_plan import propose
from billing_admin.flows.stripe_mirror import mirror_price, mirror_product
from catalog.models import Plan, Product
from catalog.publish import open_draft, read_items, write_items
from payments.facts import PriceFacts
from payments.gateway import gateway
from payments.mirroring import FEE, PriceTerms, fees_of, kept_of, names_of
from payments.models import StripePrice
from tests import builders as a
from tests.instants import APRIL_1, MARCH_1, MARCH_16
from tests.payments.mirror_world import amount_of, bring, conflicts, give, price, product, the_plan, use

if TYPE_CHECKING:
    from tests.stripe_double import Double


def facts(**given: object) -> PriceTerms:
    values = {
        "id": "price_1",
        "product": "prod_1",
        "currency": "USD",
        "active": True,
        "amount": 2000,
        "exact_amount": "2000",
        "interval": "month",
    }
    return PriceTerms.read(kept_of(PriceFacts(**values | given)))


@pytest.mark.parametrize(
    ("given", "amount"),
    [
        ({}, "20"),
        ({"exact_amount": "0.5"}, "0.005"),
        ({"currency": "JPY", "exact_amount": "1200"}, "1200"),
        ({"currency": "KWD", "exact_amount": "1230"}, "1.23"),
        ({"scheme": "tiered", "exact_amount": ""}, None),
        ({"usage_type": "metered"}, None),
        ({"divided_by": 100}, None),
    ],
)
def test_only_a_flat_licensed_price_has_an_amount_of_ours(given, amount):
    terms = facts(**given)

    assert terms.amount == (None if amount is None else Decimal(amount))
    assert [fee.key for fee in fees_of(terms)] == ([] if amount is None else [FEE])


@pytest.mark.parametrize(
    ("prices", "names"),
    [
        ([{}], ["Pro"]),
        ([{"nickname": "Starter deal"}], ["Starter deal"]),
        ([{}, {"interval": "year"}], ["Pro · monthly", "Pro · yearly"]),
        ([{}, {"currency": "EUR"}], ["Pro · monthly · USD", "Pro · monthly · EUR"]),
        (
            [{}, {"exact_amount": "2500"}],
            ["Pro · monthly · $20.00 each / month", "Pro · monthly · $25.00 each / month"],
        ),
        ([{}, {"nickname": "Old"}], ["Pro · monthly", "Old"]),
    ],
)
def test_plans_are_named_after_their_product_and_what_tells_them_apart(prices, names):
    assert list(names_of("Pro", {n: facts(**given) for n, given in enumerate(prices)}).values()) == names


def test_tiers_are_described_a_line_each():
    tiers = (
        {"up_to": 10, "unit_amount": 500, "flat_amount": None},
        {"up_to": None, "unit_amount_decimal": "0.2", "flat_amount": 100},
    )

    terms = facts(scheme="tiered", exact_amount="", tiers=tiers)

    assert terms.describe() == ["Each, in tiers / month", "1 to 10: $5.00 each", "from 11: $0.002 each + $1.00 flat"]


@pytest.fixture
def stripe(settings: Given, double: "Double", db: None) -> "Double":
    use(settings, double)
    return double


def test_a_product_with_prices_is_a_product_with_plans(stripe):
    pro = product("Pro")
    monthly, yearly = price(pro), price(pro, 20000, "year")

    bring()

    assert [p.name for p in Product.objects.all()] == ["Pro"]
    found = [the_plan(each) for each in (monthly, yearly)]
    assert [(p.kind, p.name, p.title, p.currency) for p in found] == [
        ("stripe", "Pro · monthly", "Pro · monthly", "USD"),
        ("stripe", "Pro · yearly", "Pro · yearly", "USD"),
    ]
    assert [(p.current_version.cadence, amount_of(p)) for p in found] == [("P1M", 20), ("P1Y", 200)]


def test_what_plans_cannot_be_is_a_conflict_with_a_sentence(stripe):
    pro = product("Pro")
    for each in [price(pro, every="week"), price(pro, count=2), price(pro, currency="chf"), price(pro, every="")]:
        assert each

    bring()

    assert not Plan.objects.exists()
    assert not Product.objects.exists()
    assert conflicts() == [
        "CHF is not a currency of this account. Allowed: USD, EUR.",
        "It is paid once; only prices that repeat are plans.",
        "It repeats every 2 months; plans here are monthly, quarterly, yearly.",
        "It repeats every week; plans here are monthly, quarterly, yearly.",
    ]


def test_the_next_plan_of_a_product_starts_with_the_features_of_its_newest_one(stripe):
    pro = product("Pro")
    first = price(pro)
    bring()
    give(first, a.allowance(100), a.switch())

    second = price(pro, 20000, "year")
    mirror_price(second, MARCH_16)

    items = the_plan(second).current_version.terms().items
    assert [item.key for item in items] == [FEE, "credits", "sso"]
    assert the_plan(first).name == "Pro · monthly"


def test_a_new_name_in_stripe_is_the_name_here(stripe):
    pro = product("Pro")
    only = price(pro)
    bring()

    gateway().v1.products.update(pro, {"name": "Professional"})
    mirror_product(pro, MARCH_16)

    plan = the_plan(only)
    assert (plan.name, plan.invoice_display_name, plan.product.name, plan.key) == (
        "Professional",
        "Professional",
        "Professional",
        "pro",
    )


def test_a_price_that_is_archived_archives_its_plan_and_back(stripe):
    pro = product("Pro")
    only = price(pro)
    bring()

    gateway().v1.prices.update(only, {"active": False})
    mirror_price(only, MARCH_16)
    archived = the_plan(only).archived_at
    gateway().v1.prices.update(only, {"active": True})
    mirror_price(only, APRIL_1)

    assert (archived, the_plan(only).archived_at) == (MARCH_16, None)


def test_a_product_that_is_archived_archives_its_plans(stripe):
    pro = product("Pro")
    only = price(pro)
    bring()

    gateway().v1.products.update(pro, {"active": False})
    mirror_product(pro, MARCH_16)

    assert the_plan(only).archived_at == MARCH_16


def test_a_price_that_changes_is_a_new_version_with_the_same_features(stripe):
    only = price(product("Pro"))
    bring()
    plan = give(only, a.allowance(100))
    draft = open_draft(plan, by="ops")
    write_items(draft, [*read_items(draft), a.switch()])

    stripe.edit(only, unit_amount=2500, unit_amount_decimal="2500")
    mirror_price(only, MARCH_16)
    mirror_price(only, APRIL_1)

    plan = the_plan(only)
    assert [i.key for i in plan.current_version.terms().items] == [FEE, "credits"]
    assert (plan.current_version.number, amount_of(plan)) == (3, 25)
    [draft] = plan.versions.filter(state="draft")
    assert [(i.key, i.amount) for i in read_items(draft)] == [(FEE, 25), ("credits", None), ("sso", None)]


def test_name_and_price_of_a_mirrored_plan_are_not_edited_here_its_features_are(stripe):
    """P-42"""
    only = price(product("Pro"))
    bring()
    plan = the_plan(only)
    words = {"invoice_display_name": "Pro", "description": "", "currency": "USD", "billing_version": 1}

    with pytest.raises(MirroredFromStripe):
        edit_plan(plan, name="Ours", **words, actor=a.STAFF, now=MARCH_1)
    for items, cadence in [([a.fee(1)], "P1M"), ([], "P1M"), (read_items(plan.current_version), "P1Y")]:
        with pytest.raises(MirroredFromStripe):
            update(plan, items, cadence=cadence, message="cheaper", actor=a.STAFF, now=MARCH_1)
    with pytest.raises(MirroredFromStripe):
        archive_plan(plan, reason="", actor=a.STAFF, now=MARCH_1)
    assert [i.key for i in give(only, a.allowance(5)).current_version.terms().items] == [FEE, "credits"]


def test_a_mirrored_plan_cannot_be_enabled_or_assigned_by_hand(stripe):
    """P-07, P-42"""
    only = price(product("Pro"))
    bring()
    who = a.customer()

    with pytest.raises(Exception, match="its subscriptions are made there"):
        propose(who, the_plan(only))


def test_products_are_none_of_our_business_before_the_first_import(stripe):
    pro = product("Pro")
    only = price(pro)

    assert mirror_price(only, MARCH_1) == "Nothing is mirrored before the first import."
    assert not StripePrice.objects.exists()
