"""The import: page by page, interrupted anywhere, and the same in the end."""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import transaction
from django.test import Client
from pytest_django.fixtures import Settings as Given

from billing_admin.flows import stripe_import
from billing_admin.tasks import go_on_importing
from catalog.models import Plan
from customers.models import Operation, Subscription
from payments.gateway import gateway
from payments.models import StripeAccount, StripeCustomer, StripePrice, StripeProduct, StripeRun
from tests import builders as a
from tests.admin.catalog_desk import staff
from tests.instants import MARCH_1, MARCH_16
from tests.payments.mirror_world import bring, conflicts, price, product, stripe_customer, subscribe, use
from tests.payments.pages_world import get, post, words

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def stripe(settings: Given, double: "Double") -> "Double":
    use(settings, double)
    return double


def a_world() -> None:
    """Three of ours with a subscription each, one with two of a product; somebody unknown, and a price that is none."""
    pro, team = product("Pro"), product("Team")
    prices = [price(pro), price(pro, 20000, "year"), price(team), price(team, every="week")]
    people = [stripe_customer(a.customer(name)) for name in ("Acme", "Borealis", "Cirrus")]
    people += [stripe_customer(), stripe_customer(key="nobody")]
    for owner, each in zip(people, [*prices[:3], prices[0]], strict=False):
        subscribe(owner, each)
    subscribe(people[0], prices[1])
    subscribe(people[1], prices[2], quantity=4)


def everything() -> list[object]:
    """What an import leaves behind, without our own numbers."""
    held = Subscription.objects.order_by("customer__name", "product__name")
    return [
        list(StripeProduct.objects.order_by("stripe_id").values_list("stripe_id", "product__key", "name")),
        list(StripePrice.objects.order_by("stripe_id").values_list("stripe_id", "plan__key", "plan__name", "conflict")),
        list(StripeCustomer.objects.order_by("stripe_id").values_list("stripe_id", "customer__name", "conflict")),
        list(held.values_list("customer__name", "product__name", "state", "quantity", "period_ends_at")),
        conflicts(),
        StripeRun.objects.get().counts,
        Operation.objects.filter(verb__startswith="subscription.").count(),
    ]


def test_an_import_brings_everything_that_can_be_mirrored():
    a_world()

    run = bring()

    assert run.counts == {
        "products": 2,
        "prices": 4,
        "customers": 5,
        "subscriptions": 6,
        "links": 4,
        "contracts": 3,
    }
    assert Plan.objects.filter(kind="stripe").count() == 3
    assert Subscription.objects.filter(state="active").count() == 4
    assert len(conflicts()) == 2
    account = StripeAccount.present()
    assert account is not None
    assert (run.finished_at, account.mirrored_at) == (MARCH_1, MARCH_1)


def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("payments.gateway.PAGE", 2)
    monkeypatch.setattr("billing_admin.flows.stripe_import.BATCH", 2)


class Killed(BaseException):
    """As if the machine had gone away."""


@pytest.mark.parametrize("at", [0, 3, 6, 9, 11, 13])
def test_an_import_that_is_killed_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch, at: int):
    """The page that was being written when the worker died is written once, by the next one."""
    small_pages(monkeypatch)
    a_world()
    expected = undisturbed()

    stripe_import.begin(actor=a.STAFF, now=MARCH_1)
    steps = 0
    while steps < at and stripe_import.step(MARCH_1):
        steps += 1
    with monkeypatch.context() as dying:
        dying.setattr(stripe_import, "_next_place", die)
        with pytest.raises(Killed):
            stripe_import.step(MARCH_1)
    assert stripe_import.step(MARCH_1) is False  # for all anybody knows, its worker is at it still
    later = MARCH_1 + stripe_import.CLAIM + timedelta(seconds=1)
    while stripe_import.step(later):
        pass

    assert everything() == expected


def die(*_: object) -> None:
    raise Killed


def undisturbed() -> list[object]:
    """What an import leaves that nobody interrupts; then the books are as they were before."""
    block = transaction.atomic()
    block._from_testcase = True  # it is the test's: what is tried inside may call Stripe
    with block:
        bring()
        found = everything()
        transaction.set_rollback(True)
    return found


def test_only_one_import_runs_at_a_time():
    stripe_import.begin(actor=a.STAFF, now=MARCH_1)

    with pytest.raises(stripe_import.ImportRunning):
        stripe_import.begin(actor=a.STAFF, now=MARCH_1)


def test_an_import_waits_while_stripe_is_away_and_says_so(stripe: "Double"):
    a_world()
    stripe_import.begin(actor=a.STAFF, now=MARCH_1)
    stripe.fault("GET", "/v1/prices", "down")

    while stripe_import.step(MARCH_1):
        pass
    run = stripe_import.latest()
    assert run is not None
    problem, account = run.problem, StripeAccount.present()
    stripe.lift()
    too_early = stripe_import.step(MARCH_1)
    while stripe_import.step(MARCH_1 + stripe_import.PAUSE):
        pass

    assert problem == "Stripe cannot be reached, or did not answer in time."
    assert account is not None
    assert (account.failing_since, too_early) == (MARCH_1, False)
    assert StripeRun.objects.get().finished_at == MARCH_1 + stripe_import.PAUSE


def test_an_import_does_not_undo_what_an_event_brought_meanwhile(stripe: "Double", monkeypatch: pytest.MonkeyPatch):
    from billing_admin.flows.stripe_catalog import fetch_product, write_product

    pro = product("Pro")
    price(pro)
    bring()
    stripe_import.begin(actor=a.STAFF, now=MARCH_16)
    listed = gateway().products()
    gateway().v1.products.update(pro, {"name": "Professional"})
    write_product(fetch_product(pro), MARCH_16 + timedelta(seconds=5))

    monkeypatch.setattr("payments.gateway.Gateway.products", lambda *_, **__: listed)
    while stripe_import.step(MARCH_16 + timedelta(seconds=9)):
        pass

    assert StripeProduct.objects.get().name == "Professional"


def test_importing_again_changes_nothing_and_brings_what_is_new():
    a_world()
    bring()
    before = everything()[:5]
    StripeRun.objects.all().delete()

    bring(MARCH_16)

    assert everything()[:5] == before


def test_a_worker_goes_on_with_an_import(settings: Given):
    settings.STRIPE_SECRET_KEY = "sk_test_double"
    a_world()
    stripe_import.begin(actor=a.STAFF, now=MARCH_1)

    go_on_importing()

    assert StripeRun.objects.get().finished_at is not None


# The page -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def finance(db: None) -> Client:
    return staff("Finance")


def test_the_page_offers_the_import_then_shows_how_far_it_is(finance: Client):
    a_world()
    before = words(get(finance, "/stripe/mirror/"))

    answer = post(finance, "/stripe/mirror/import/")
    stripe_import.step(MARCH_1)
    stripe_import.step(MARCH_1)
    page = get(finance, "/stripe/mirror/progress/").content.decode()
    while stripe_import.step(MARCH_1):
        pass
    after = get(finance, "/stripe/mirror/progress/").content.decode()

    assert "Nothing is mirrored yet" in before
    assert "Import from Stripe" in before
    assert answer.status_code == 302
    assert 'value="2"' in page
    assert 'hx-trigger="every 1s"' in page
    assert "hx-trigger" not in after
    assert "Complete since" in after


def test_conflicts_are_listed_with_why_and_looked_at_again(finance: Client):
    a_world()
    bring()

    page = words(get(finance, "/stripe/mirror/conflicts/"))

    assert "Acme" in page
    assert "Only one can be followed." in page
    assert "Nobody here has the customer id “nobody”." in page
    assert "It repeats every week" in page
    a.customer("New", customer_id="nobody")
    post(finance, "/stripe/mirror/conflicts/again/")
    assert StripeCustomer.objects.get(key="nobody").customer is not None


def test_the_pages_of_the_mirror_take_few_queries(finance: Client, django_assert_max_num_queries):
    a_world()
    bring()

    for address in ("/stripe/mirror/", "/stripe/mirror/conflicts/", "/stripe/customers/"):
        get(finance, address)
        with django_assert_max_num_queries(14):
            get(finance, address)


def test_a_plan_says_what_it_mirrors(stripe: "Double"):
    tiers = [{"up_to": 10, "unit_amount": 500}, {"up_to": "inf", "unit_amount": 300}]
    tiered = {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": tiers}
    made = gateway().v1.prices.create(
        {"product": product(), "currency": "usd", "recurring": {"interval": "month"}} | tiered
    )
    bring()

    plan = Plan.objects.get()
    page = words(get(staff("Admin"), f"/catalog/plan/{plan.pk}/change/"))

    assert made.id in page
    assert "1 to 10: $5.00 each" in page
    assert "from 11: $3.00 each" in page


def test_who_may_only_look_starts_no_import():
    client = staff("Read-only")

    assert "Import from Stripe" not in words(get(client, "/stripe/mirror/"))
    assert post(client, "/stripe/mirror/import/").status_code == 403
    assert post(client, "/stripe/mirror/conflicts/again/").status_code == 403


ADDRESSES = [
    "/stripe/mirror/",
    "/stripe/mirror/progress/",
    "/stripe/mirror/conflicts/",
    "/stripe/customers/",
    "/stripe/customers/file/",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_without_keys_there_are_no_such_pages(settings: Given, address: str):
    settings.STRIPE_SECRET_KEY = ""
    client = staff("Admin")

    assert get(client, address).status_code == 404
    assert "Stripe customers" not in words(get(client, "/"))
