"""The page of the comparison: what differs side by side, who may repair, and what it says when nothing differs."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from billing_admin.admin.links import invoice_link
from billing_admin.flows import stripe_compare
from billing_admin.flows.exports import ask_for, path_of, write
from billing_admin.roles import ROLES
from payments.comparing import Kind, Subject
from payments.models import Difference, StripeRun
from payments.words import DIFFERENCES, NOT_REPAIRED
from tests import builders as a
from tests.admin.catalog_desk import staff
from tests.admin.taken_away import buttons
from tests.payments.compare_world import (
    LATER,
    PLANTS,
    compare,
    forget_payment,
    open_invoice,
    paid_invoice,
    sent,
    use,
)
from tests.payments.pages_world import get, post

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db
PAGE = "/stripe/compare/"


@pytest.fixture(autouse=True)
def keys(settings: Any, double: "Double", tmp_path: Path) -> None:
    use(settings, double)
    settings.EXPORT_FOLDER = tmp_path


@pytest.fixture
def finance(db: None) -> Client:
    return staff("Finance")


def text_of(client: Client, address: str = PAGE) -> str:
    return str(get(client, address, LATER).content.decode())


def the_repair() -> str:
    return f"{PAGE}{Difference.objects.get(settled_at=None).pk}/repair/"


def confirmed(client: Client) -> dict[str, str]:
    """What the dialog sends back."""
    seen = get(client, the_repair(), LATER, **{"HX-Request": "true"}).context["seen"]
    return {"confirmed": seen.fingerprint}


def test_every_difference_has_its_words_and_says_why_it_has_no_button():
    planted = {expected for plant in PLANTS for expected in plant.expected}

    assert {(subject, kind) for subject, kind, _ in planted} == set(DIFFERENCES)
    assert {(subject, kind) for subject, kind, repair in planted if not repair} == set(NOT_REPAIRED)
    assert {subject for subject, _ in DIFFERENCES} <= set(Subject.values)
    assert {kind for _, kind in DIFFERENCES} == set(Kind.values)


@pytest.mark.parametrize("address", ["", "progress/", "runs/", "repair/"])
def test_without_keys_there_is_no_such_page(address: str, settings: Any, finance: Client):
    settings.STRIPE_SECRET_KEY = ""

    assert finance.get(PAGE + address).status_code == 404
    assert PAGE not in finance.get("/").content.decode()


@pytest.mark.parametrize("role", [role for role in ROLES if role not in ("Finance", "Admin")])
def test_everybody_looks_and_only_who_may_use_stripe_begins_or_repairs(role: str, double: "Double"):
    """A-53"""
    forget_payment(paid_invoice(double))
    compare()
    client = staff(role)

    page = text_of(client)
    refused = [client.get(the_repair()), client.post(the_repair()), client.post(f"{PAGE}begin/")]
    refused += [client.get(f"{PAGE}repair/"), client.post(f"{PAGE}repair/")]

    assert "Not recorded here" in page and "/repair/" not in page and "Compare now" not in page
    assert {answer.status_code for answer in refused} == {403}


def test_before_the_first_comparison_it_says_what_will_happen(finance: Client):
    page = text_of(finance)

    assert "Nothing was compared yet" in page and "Compare now" in page


def test_when_nothing_differs_it_says_as_of_when(double: "Double", finance: Client):
    paid_invoice(double)
    compare()

    page = text_of(finance)

    assert "Everything in step as of" in page and "2 Mar 2026" in page


def test_a_difference_shows_both_sides_with_links_to_each(double: "Double", finance: Client):
    invoice = paid_invoice(double)
    forget_payment(invoice)
    compare()
    row = Difference.objects.get()

    page = text_of(finance)

    assert row.ours in page and row.theirs in page
    assert invoice_link(invoice.pk) in page
    assert f"https://dashboard.stripe.com/test/payments/{row.stripe_id}" in page
    assert the_repair() in page


def test_the_dialog_says_what_is_written_and_the_button_does_it(double: "Double", finance: Client):
    invoice = paid_invoice(double)
    forget_payment(invoice)
    compare()

    dialog = get(finance, the_repair(), LATER, **{"HX-Request": "true"}).content.decode()
    done = post(finance, the_repair(), confirmed(finance), LATER)

    assert f"a payment of $50.00 ({Difference.objects.get().stripe_id}) for {invoice}" in dialog
    assert (done.status_code, done.headers["HX-Redirect"]) == (204, PAGE)
    assert Difference.objects.get().settled_by.startswith("staff-")
    invoice.refresh_from_db()
    assert invoice.state == "paid"


def test_what_moved_since_the_dialog_opened_is_refused_and_shown_anew(double: "Double", finance: Client):
    forget_payment(paid_invoice(double))
    compare()

    answer = post(finance, the_repair(), {"confirmed": "of another time"}, LATER)

    page = answer.content.decode()
    assert "moved meanwhile" in page and "This is written" in page
    assert Difference.objects.get().settled_at is None


def test_all_of_a_kind_are_previewed_and_repaired_together(double: "Double", finance: Client):
    for name in ("Acme", "Globex", "Initech"):
        forget_payment(paid_invoice(double, name))
    compare()
    address = f"{PAGE}repair/?subject=payment&kind=missing_here&repair=record"

    assert address.replace("&", "&amp;") in text_of(finance)
    page = get(finance, address, LATER)
    ones = [f"{each.difference.pk}-{each.preview.fingerprint}" for each, _ in page.context["tried"]]
    ones[2] = ones[2].split("-")[0] + "-moved"
    post(finance, address, {"one": ones}, LATER)

    assert page.content.decode().count("a payment of $50.00") == 3
    assert Difference.objects.filter(settled_at=None).count() == 1


def test_the_list_is_narrowed_in_the_url_and_exported_as_it_is(double: "Double", finance: Client):
    forget_payment(paid_invoice(double))
    double.edit(sent(open_invoice(double, "Globex")), status="uncollectible")
    compare()

    invoices = text_of(finance, f"{PAGE}?subject=invoice")
    [asked] = buttons(text_of(finance, f"{PAGE}?kind=missing_here")).items()
    export = write(ask_for(*asked, user=User.objects.get(), now=LATER), clock=lambda: LATER)
    lines = path_of(export).read_text().splitlines()
    of_customer = text_of(finance, f"{PAGE}?customer={Difference.objects.get(subject='payment').customer.customer_id}")

    assert ">uncollectible<" in invoices and "$50.00 received for" not in invoices
    assert len(lines) == 2 and lines[1].startswith("payment,missing_here,Not recorded here")
    assert "$50.00 received for" in of_customer and ">uncollectible<" not in of_customer


def test_while_one_runs_the_page_follows_and_its_end_brings_the_page_anew(double: "Double", finance: Client):
    run = stripe_compare.begin(actor=a.STAFF, now=LATER)

    page = text_of(finance)
    moving = get(finance, f"{PAGE}progress/", LATER)
    stripe_compare.carry_on(run, LATER, pages=1000)
    over = get(finance, f"{PAGE}progress/", LATER)

    assert 'hx-trigger="every 2s"' in page and "0 of 10" in moving.content.decode()
    assert over.headers["HX-Refresh"] == "true"


def test_a_comparison_that_waits_for_stripe_says_that_it_goes_on(double: "Double", finance: Client):
    run = stripe_compare.begin(actor=a.STAFF, now=LATER)
    double.fault("GET", "/v1/customers", "down")
    stripe_compare.carry_on(run, LATER)

    assert "goes on by itself from where it stopped" in text_of(finance)


def test_compare_now_begins_one_and_a_second_click_none(double: "Double", finance: Client):
    for _ in range(2):
        assert post(finance, f"{PAGE}begin/", now=LATER).status_code == 302

    assert StripeRun.objects.get().started_by.startswith("staff-")


def test_the_first_page_counts_what_is_open(double: "Double", finance: Client):
    forget_payment(paid_invoice(double))
    compare()

    assert "1 difference from Stripe" in get(finance, "/", LATER).content.decode()


def test_a_long_list_is_read_in_few_queries(double: "Double", finance: Client, django_assert_max_num_queries: Any):
    forget_payment(paid_invoice(double))
    compare()
    row = Difference.objects.get()
    Difference.objects.bulk_create(
        [
            Difference(run=row.run, subject=row.subject, kind=row.kind, our_id=row.our_id, stripe_id=f"pi_{n}",
                       customer=row.customer, ours=row.ours, theirs=row.theirs, repair=row.repair, since=row.since)
            for n in range(120)
        ]
    )  # fmt: skip
    get(finance, PAGE, LATER)

    with django_assert_max_num_queries(20):
        page = text_of(finance)

    assert page.count("<tr>") == 51 and "Older" in page


def test_earlier_comparisons_are_listed_newest_first_with_what_they_told(double: "Double", finance: Client):
    forget_payment(paid_invoice(double))
    first = compare()
    post(finance, the_repair(), confirmed(finance), LATER)
    second = compare(LATER + timedelta(days=1))

    rows = get(finance, f"{PAGE}runs/", LATER).context["rows"]

    assert [(row.run, told) for row, told in rows] == [(second, 0), (first, 1)]
