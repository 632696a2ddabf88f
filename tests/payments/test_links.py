"""Whose Stripe's customers are: by their key, by hand, by a file, over the API; never by a guess."""

from typing import TYPE_CHECKING

import pytest
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pytest_django.fixtures import Settings as Given

from billing_admin.flows import stripe_collect
from billing_admin.flows.customers import close_customer
from billing_admin.flows.stripe_follow import follow_due
from billing_admin.flows.stripe_links import LinkRefused, link, link_by_key, link_of, read_file, suggestions, unlink
from billing_admin.flows.stripe_mirror import mirror_customer
from billing_admin.models import ApiKey
from customers.models import Customer, Operation
from payments.gateway import gateway
from payments.models import StripeCustomer, StripeInvoice
from tests import builders as a
from tests.admin.catalog_desk import staff
from tests.api.conftest import Caller, role
from tests.instants import MARCH_1, MARCH_16
from tests.payments.mirror_world import bring, price, product, stripe_customer, subscribe, subscriber, use
from tests.payments.pages_world import get, post, words

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def stripe(settings: Given, double: "Double") -> "Double":
    use(settings, double)
    return double


def row_of(stripe_id: str) -> StripeCustomer:
    return StripeCustomer.objects.select_related("customer").get(stripe_id=stripe_id)


def known(**more: str) -> StripeCustomer:
    """Somebody in Stripe whom nobody here is."""
    made = stripe_customer(**more)
    bring()
    return row_of(made)


# By the key -----------------------------------------------------------------------------------------------------------


def test_the_key_in_the_metadata_links():
    who = a.customer()
    made = stripe_customer(who)

    bring()

    row = row_of(made)
    assert (row.customer, row.linked_by, row.conflict) == (who, "metadata", "")
    assert link_of(who) == row


def test_two_customers_with_the_same_key_are_linked_with_nobody():
    who = a.customer()
    first, second = stripe_customer(who), stripe_customer(who)

    bring()

    rows = [row_of(first), row_of(second)]
    assert [row.customer for row in rows] == [None, None]
    assert [row.conflict for row in rows] == [
        f"{second} in Stripe has the same key, “{who.customer_id}”.",
        f"{first} in Stripe has the same key, “{who.customer_id}”.",
    ]


def test_the_rest_is_linked_once_the_key_is_one_customers_only():
    who = a.customer()
    first, second = stripe_customer(who), stripe_customer(who)
    bring()

    gateway().v1.customers.update(second, {"metadata": {"customer_id": ""}})
    mirror_customer(second, MARCH_16)

    assert (row_of(first).customer, row_of(second).customer) == (who, None)
    assert row_of(second).conflict == ""


def test_a_key_of_nobody_is_a_conflict():
    row = known(key="globex")

    assert (row.customer, row.conflict) == (None, "Nobody here has the customer id “globex”.")


def test_a_key_of_somebody_who_is_linked_already_is_a_conflict():
    who = a.customer()
    first = known()
    link(first, who, actor=a.STAFF, now=MARCH_1)

    second = stripe_customer(who)
    mirror_customer(second, MARCH_16)

    assert row_of(second).conflict == f"{who.name} is linked with {first.stripe_id} already."


def test_a_key_of_a_closed_customer_is_a_conflict():
    who = a.customer()
    close_customer(who, confirm_name=who.name, reason="left", actor=a.STAFF, now=MARCH_1)

    row = known(key=who.customer_id)

    assert row.conflict == f"{who.name} is closed."


def test_the_same_email_is_a_suggestion_and_never_a_link():
    who = a.customer()
    row = known(email=who.email.upper())
    twice = a.customer("Twice"), a.customer("Twice")
    other = known(email=twice[0].email)

    assert row.customer is None
    assert suggestions([row, other]) == {row.pk: who}


def test_a_customer_deleted_in_stripe_is_kept_and_ends_what_followed(stripe: "Double"):
    who, _ = subscriber(a.allowance(100))
    row = StripeCustomer.objects.get()

    stripe.set_clock(MARCH_16)
    gateway().delete_customer(row.stripe_id)
    mirror_customer(row.stripe_id, MARCH_16)

    assert StripeCustomer.objects.get().deleted_at == MARCH_16
    assert [s.state for s in who.subscriptions.all()] == ["ended"]
    assert link_of(who) is None


# By hand --------------------------------------------------------------------------------------------------------------


def test_a_link_by_hand_follows_what_is_subscribed_to():
    owner = stripe_customer()
    subscribe(owner, price(product()))
    bring()
    who = a.customer()

    link(row_of(owner), who, actor=a.STAFF, now=MARCH_16)

    assert (who.subscriptions.get().state, row_of(owner).linked_by) == ("active", "hand")
    assert who.operations.filter(verb="stripe.linked").get().actor == "ops"


def test_nothing_is_overwritten_here_unless_somebody_says_so():
    first, second = known(name="In Stripe", email="billing@stripe.example"), known(name="Taken", email="t@o.example")
    keeps, takes = a.customer("Keeps"), a.customer("Takes")

    link(first, keeps, actor=a.STAFF, now=MARCH_1)
    link(second, takes, takes_over=True, actor=a.STAFF, now=MARCH_1)

    names = Customer.objects.order_by("pk").values_list("name", "email")
    assert list(names) == [("Keeps", "ops@keeps.example"), ("Taken", "t@o.example")]
    assert list(StripeCustomer.objects.out_of_step().values_list("name", flat=True)) == ["Taken", "In Stripe"]


def test_both_sides_are_free_or_the_link_is_refused():
    who, other = a.customer(), a.customer("Borealis")
    first, second = known(), known()
    link(first, who, actor=a.STAFF, now=MARCH_1)

    with pytest.raises(LinkRefused, match="is linked with Acme Robotics already"):
        link(first, other, actor=a.STAFF, now=MARCH_1)
    with pytest.raises(LinkRefused, match=f"is linked with {first.stripe_id} already"):
        link(second, who, actor=a.STAFF, now=MARCH_1)


def test_a_link_that_is_taken_back_is_made_again_by_hand_only():
    who = a.customer()
    row = known(key=who.customer_id)

    unlink(row, reason="wrong company", actor=a.STAFF, now=MARCH_16)
    link_by_key([row.pk], MARCH_16)

    parted = row_of(row.stripe_id)
    assert (parted.customer, parted.conflict) == (
        None,
        "It was unlinked by hand, and is linked again by hand only.",
    )
    assert Operation.objects.get(verb="stripe.unlinked").reason == "wrong company"
    link(parted, who, actor=a.STAFF, now=MARCH_16)
    assert link_of(who) == parted


def test_a_link_stays_while_something_hangs_on_it():
    subscriber(a.allowance(100))
    row = StripeCustomer.objects.get()
    paying = a.customer("Paying")
    link(other := known(), paying, actor=a.STAFF, now=MARCH_1)
    a.enable(paying, a.pro())
    stripe_collect.enqueue(MARCH_1)
    StripeInvoice.objects.get_or_create(
        invoice=paying.invoices.get(), defaults={"method": "send_invoice", "queued_at": MARCH_1}
    )

    with pytest.raises(LinkRefused, match="Cancel them in Stripe first"):
        unlink(row, reason="wrong", actor=a.STAFF, now=MARCH_16)
    with pytest.raises(LinkRefused, match="Invoices were sent to Stripe"):
        unlink(other, reason="wrong", actor=a.STAFF, now=MARCH_16)
    with pytest.raises(ValidationError, match="Give a reason"):
        unlink(row, reason=" ", actor=a.STAFF, now=MARCH_16)


@pytest.fixture
def finance(db: None) -> Client:
    return staff("Finance")


def test_the_dialog_searches_shows_both_sides_and_links(finance: Client):
    who, row = a.customer(), known(name="Acme Inc")
    address = f"/stripe/customers/{row.pk}/link/"

    search = words(get(finance, f"{address}?q=acme"))
    sides = words(get(finance, f"{address}?customer={who.pk}"))
    answer = post(finance, f"{address}?customer={who.pk}")

    assert "Acme Robotics" in search
    assert "Acme Inc Acme Robotics differs" in sides
    assert "Link with Acme Robotics" in sides
    assert answer.status_code == 204
    assert row_of(row.stripe_id).customer == who


def test_the_dialog_takes_over_the_name_when_that_is_ticked(finance: Client):
    who, row = a.customer(), known(name="Acme Inc", email="new@acme.example")

    post(finance, f"/stripe/customers/{row.pk}/link/?customer={who.pk}", {"takes_over": "on"})

    who.refresh_from_db()
    assert (who.name, who.email) == ("Acme Inc", "new@acme.example")


def test_the_dialog_says_when_stripe_is_away_and_links_nothing(finance: Client, stripe: "Double"):
    who, row = a.customer(), known()
    stripe.fault("*", "/v1/**", "down")

    answer = post(finance, f"/stripe/customers/{row.pk}/link/?customer={who.pk}")

    assert "Nothing was linked; try again." in words(answer)
    assert row_of(row.stripe_id).customer is None


def test_the_list_shows_who_is_linked_suggested_or_in_conflict(finance: Client):
    who, other = a.customer(), a.customer("Borealis")
    stripe_customer(who)
    stripe_customer(email=other.email)
    known(key="globex")

    everybody = words(get(finance, "/stripe/customers/"))
    unlinked = words(get(finance, "/stripe/customers/?shown=unlinked"))
    found = words(get(finance, "/stripe/customers/?q=acme"))

    assert "By the metadata key" in everybody
    assert "Borealis has the same e-mail" in unlinked
    assert "By the metadata key" not in unlinked
    assert "Nobody here has the customer id “globex”." in unlinked
    assert "Acme Robotics" in found
    assert "globex" not in found


def test_who_may_only_look_links_nothing():
    client, row = staff("Ops"), known()

    for address in (
        f"/stripe/customers/{row.pk}/link/",
        f"/stripe/customers/{row.pk}/unlink/",
        "/stripe/customers/file/",
    ):
        assert {get(client, address).status_code, post(client, address).status_code} == {403}
    assert f"/stripe/customers/{row.pk}/link/" not in get(client, "/stripe/customers/").content.decode()


# By a file ------------------------------------------------------------------------------------------------------------


def test_a_file_says_line_by_line_what_it_would_do():
    who, twice, linked = a.customer(), a.customer("Twice"), a.customer("Linked")
    row, second, taken = known(), known(), known(key=linked.customer_id)
    text = (
        "stripe_id,customer_id\n"
        f"{row.stripe_id},{who.customer_id}\n"
        f"cus_unknown,{who.customer_id}x\n"
        f"{second.stripe_id},nobody\n"
        f"{taken.stripe_id},{linked.customer_id}\n"
        f"cus_a,{twice.customer_id}\n"
        f"cus_b,{twice.customer_id}\n"
    )

    assert [(line.line, line.why_not) for line in read_file(text)] == [
        (2, ""),
        (3, "No customer cus_unknown is known from Stripe; import first."),
        (4, "Nobody here has the customer id “nobody”."),
        (5, "They are linked already."),
        (6, "It stands in the file more than once."),
        (7, "It stands in the file more than once."),
    ]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty_file"),
        ("stripe_id,customer_id\n", "empty_file"),
        ("cus_1\n", "bad_file"),
        ("a,b\n" * 5001, "too_many_rows"),
    ],
)
def test_a_file_that_is_no_table_is_refused(text: str, code: str):
    with pytest.raises(LinkRefused) as refused:
        read_file(text)

    assert refused.value.code == code


def test_a_file_is_tried_then_carried_out_as_one_act(finance: Client):
    owner = stripe_customer()
    subscribe(owner, price(product()))
    bring()
    who = a.customer()
    file = SimpleUploadedFile("links.csv", f"{owner},{who.customer_id}\ncus_unknown,x\n".encode(), "text/csv")

    tried = get_page(finance, {"step": "try", "file": file})
    html = tried.content.decode()
    before = Operation.objects.filter(verb__startswith="stripe.linked").count()
    seen = html.split('name="seen" value="')[1].split('"')[0]
    get_page(finance, {"step": "link", "rows": f"{owner},{who.customer_id}\ncus_unknown,x\n", "seen": seen})
    follow_due(MARCH_1)

    assert "1 link to make" in words(tried)
    assert "No customer cus_unknown is known from Stripe" in words(tried)
    assert before == 0
    [act] = Operation.objects.filter(verb="stripe.linked_by_file")
    assert act.effects["linked"] == [{"stripeCustomer": owner, "customerId": who.customer_id}]
    assert (row_of(owner).linked_by, who.subscriptions.get().state) == ("csv", "active")


def test_a_file_whose_lines_would_do_something_else_by_now_is_shown_again(finance: Client):
    who, row = a.customer(), known()

    answer = get_page(finance, {"step": "link", "rows": f"{row.stripe_id},{who.customer_id}", "seen": "other"})

    assert "Something changed since you looked." in words(answer)
    assert row_of(row.stripe_id).customer is None


def get_page(client: Client, data: dict[str, object]) -> object:
    return client.post("/stripe/customers/file/", data)


# Over the API ---------------------------------------------------------------------------------------------------------


def caller(name: str = "Finance") -> Caller:
    _, secret = ApiKey.issue("backend", role(name), by="tests")
    return Caller(secret)


def test_the_api_lists_links_and_parts():
    who, row = a.customer(), known()
    api = caller()
    pair = {"customerId": who.customer_id, "stripeCustomerId": row.stripe_id}

    free = api.get("stripe/customers", unlinked="true")
    made = api.post("stripe/links", pair)
    again = api.post("stripe/links", pair, Idempotency_Key="once")
    parted = api.delete("stripe/links", {"stripeCustomerId": row.stripe_id, "reason": "wrong company"})

    assert [each["stripeCustomerId"] for each in free["data"]] == [row.stripe_id]
    assert (made.status, made["customerId"], made["linkedBy"]) == (201, who.customer_id, "hand")
    assert (again.status, again["code"]) == (409, "link_refused")
    assert (parted.status, parted["customerId"]) == (200, None)


def test_the_api_of_links_takes_the_permission_and_the_keys(settings: Given):
    assert caller("Ops").post("stripe/links", {"customerId": "a", "stripeCustomerId": "b"}).status == 403

    settings.STRIPE_SECRET_KEY = ""

    assert caller("Finance").get("stripe/customers").status == 404
