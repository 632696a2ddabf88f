"""Stripe for staff: the account and how it collects, and what waits."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from billing_admin.flows.stripe_settings import NotConnected, change_account
from customers.models import Operation
from payments.models import Method, StripeAccount, StripeInvoice
from tests import builders as a
from tests.admin.catalog_desk import staff
from tests.instants import MARCH_1
from tests.payments import pages_world as world
from tests.payments.pages_world import DECLINES, collect, get, owing, post

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db
PAGES = ["/stripe/settings/", "/stripe/backlog/"]
ACTS = ["/stripe/settings/save/", "/stripe/settings/check/", "/stripe/backlog/retry/"]
SAID = {"method": Method.SEND, "auto_advance": "on", "link_key": "crm_id"}


@pytest.fixture(autouse=True)
def keys(settings: Any, double: "Double") -> None:
    world.use(settings, double)


@pytest.fixture
def finance(db: None) -> Client:
    return staff("Finance")


# Settings


def test_the_page_says_whose_keys_these_are_and_in_which_mode(finance: Client, double: "Double"):
    text = world.words(get(finance, "/stripe/settings/"))

    assert "Stripe settings Test mode" in text and "Test: no real money moves" in text
    assert double.account in text and "Connected 1 Mar 2026" in text


def test_each_setting_says_what_it_means(finance: Client):
    text = world.words(get(finance, "/stripe/settings/"))

    assert "is charged when an invoice is issued" in text
    assert "a declined payment is tried again on the days of the billing settings" in text


def test_what_is_saved_holds_and_is_recorded(finance: Client):
    post(finance, "/stripe/settings/save/", SAID)

    account = StripeAccount.objects.get()
    assert (account.method, account.auto_advance, account.link_key) == (Method.SEND, True, "crm_id")
    [said] = Operation.objects.filter(verb="stripe.changed")
    assert said.inputs["method"] == {"from": "charge_automatically", "to": "send_invoice"}


def test_saving_what_is_there_already_records_nothing(finance: Client):
    post(finance, "/stripe/settings/save/", {"method": Method.CHARGE, "link_key": "customer_id"})

    assert not Operation.objects.filter(verb="stripe.changed").exists()


@pytest.mark.parametrize("key", ["two words", "back_office_id", "x" * 41, ""])
def test_a_key_that_cannot_be_is_refused_at_its_field(finance: Client, key: str):
    answer = post(finance, "/stripe/settings/save/", SAID | {"link_key": key})

    assert answer.status_code == 200 and StripeAccount.objects.get().link_key == "customer_id"


def test_the_connection_can_be_checked(finance: Client, double: "Double"):
    double.fault("GET", "/v1/account", "down")

    away = world.words(post(finance, "/stripe/settings/check/"))
    failing = StripeAccount.objects.get().failing_since
    double.lift()
    there = post(finance, "/stripe/settings/check/", now=MARCH_1 + timedelta(minutes=5))

    assert "Stripe cannot be reached" in away and failing == MARCH_1
    assert there.status_code == 204 and StripeAccount.objects.get().failing_since is None


def test_what_is_missing_in_the_environment_is_named(finance: Client, settings: Any):
    settings.STRIPE_WEBHOOK_SECRET = settings.STRIPE_PUBLISHABLE_KEY = ""

    text = world.words(get(finance, "/stripe/settings/"))

    assert "STRIPE_WEBHOOK_SECRET is not set" in text and "STRIPE_PUBLISHABLE_KEY is not set" in text


def test_before_stripe_has_answered_there_is_nothing_to_change(finance: Client):
    StripeAccount.objects.all().delete()

    assert "Stripe has not answered yet" in world.words(get(finance, "/stripe/settings/"))
    with pytest.raises(NotConnected):
        change_account(method=Method.SEND, auto_advance=False, link_key="x", actor=a.STAFF, now=MARCH_1)


# The backlog


def test_an_empty_backlog_says_so(finance: Client):
    assert "Nothing waits for Stripe" in world.words(get(finance, "/stripe/backlog/"))


def test_what_waits_shows_since_when_how_often_it_failed_and_why(finance: Client, double: "Double"):
    invoice = owing()
    double.fault("POST", "/v1/invoices", "down", times=None)
    collect(invoice)

    text = world.words(get(finance, "/stripe/backlog/"))

    assert "Stripe has not answered since 1 Mar 2026" in text and "Waiting: $50.00." in text
    assert f"{invoice} Acme Robotics Waiting for Stripe Stripe cannot be reached" in text
    assert "1×" in text and "Try all again now" in text


def test_a_declined_payment_waits_for_its_next_day(finance: Client, double: "Double"):
    invoice = owing(card=DECLINES, double=double)
    collect(invoice)

    text = world.words(get(finance, "/stripe/backlog/"))

    assert "Declined" in text and "4 Mar 2026" in text
    assert "Try all again now" not in text


def test_everything_that_failed_can_be_tried_at_once(finance: Client, double: "Double"):
    invoice = owing()
    double.fault("POST", "/v1/invoices", "down", times=None)
    collect(invoice)
    double.lift()
    soon = MARCH_1 + timedelta(seconds=5)

    post(finance, "/stripe/backlog/retry/", now=soon)
    row = collect(invoice, soon)

    assert row.state == StripeInvoice.State.NEEDS_METHOD and row.attempts == 0
    assert Operation.objects.filter(verb="stripe.retried").count() == 1


def test_the_backlog_takes_as_many_queries_with_ten_rows(finance: Client, django_assert_max_num_queries: Any):
    for n in range(10):
        owing(f"Number {n}")
    world.stripe_collect.enqueue(MARCH_1)

    with django_assert_max_num_queries(12):
        text = world.words(get(finance, "/stripe/backlog/"))

    assert "Number 9" in text


# Who may


@pytest.mark.parametrize("address", ACTS)
def test_acts_take_the_permission(address: str):
    """A-53."""
    client = staff("Ops")

    assert {get(client, address).status_code, post(client, address, SAID).status_code} == {403}


@pytest.mark.parametrize("address", PAGES)
def test_everybody_may_look(address: str):
    html = get(staff("Read-only"), address).content.decode()

    assert not [act for act in (*ACTS, "Save settings") if act in html.replace('action="/stripe/settings/save/"', "")]


@pytest.mark.parametrize("address", [*PAGES, *ACTS])
def test_without_keys_there_is_nothing(settings: Any, address: str):
    settings.STRIPE_SECRET_KEY = ""

    assert get(staff("Admin"), address).status_code == 404


def test_the_menu_has_these_pages_only_with_keys(settings: Any):
    client = staff("Admin")
    shown = get(client, "/").content.decode()
    settings.STRIPE_SECRET_KEY = ""

    assert "/stripe/backlog/" in shown and "/stripe/settings/" in shown
    assert "/stripe/" not in get(client, "/").content.decode()
