"""The command palette: by name, number or id, each kind only for those who may see it, in a fixed number of queries."""

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from billing_admin.models import ApiKey, ApprovalRequest
from billing_admin.search import MOST
from catalog.models import Coupon, PromoCode
from customers.models import Customer, Operation
from entitlements.models import FeatureOverride
from invoicing.models import Invoice
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk
from tests.instants import MARCH_1, MAY_1

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client)


def found(desk: CustomerDesk, words: str) -> list[tuple[str, str]]:
    """Title and address of each result."""
    answer = desk.get("search", s=words).answer
    return [(item.title, item.link) for item in answer.context["results"]] if answer.context else []


def links(desk: CustomerDesk, words: str) -> list[str]:
    return [link for _, link in found(desk, words)]


def test_customers_are_found_by_name_id_and_mail(desk):
    who = a.customer("Acme Robotics", customer_id="acme-1")
    page = f"/customers/customer/{who.pk}/"

    assert all(page in links(desk, words) for words in ("acme rob", "ACME-1", "ops@acme_rob"))


def test_a_whole_id_leads_straight_to_what_it_names(desk):
    who = a.on(a.pro())
    subscription, invoice = a.the_subscription(who), Invoice.objects.get(customer=who)
    customer_page = [f"/customers/customer/{who.pk}/"]

    assert links(desk, who.public_id) == customer_page
    assert links(desk, subscription.public_id) == customer_page
    assert links(desk, invoice.public_id) == [f"/invoicing/invoice/{invoice.pk}/"]


def test_an_act_is_found_by_its_id_and_shown_alone(desk):
    who = a.on(a.pro())
    operation = Operation.objects.filter(customer=who).first()

    [link] = links(desk, operation.public_id)
    page = desk.get("customers_operation_changelist", q=operation.public_id)

    assert link == f"/customers/operation/?q={operation.public_id}"
    assert [row.public_id for row in page.answer.context["rows"]] == [operation.public_id]


def test_what_somebody_may_not_see_is_not_found(desk):
    """A-53"""
    who = a.on(a.pro())
    invoice = Invoice.objects.get(customer=who)
    desk.client.force_login(User.objects.create_user("visitor", is_staff=True))

    assert links(desk, invoice.public_id) == links(desk, "acme") == []


def test_api_keys_are_found_by_admins_alone(client):
    """A-53"""
    role = Group.objects.get(name="Read-only")
    key, _ = ApiKey.issue("Storefront", role, by="tests")

    assert found(CustomerDesk(client), "storefr")[0][0] == str(key)
    assert found(CustomerDesk(client, role="Ops"), "storefr") == []
    assert found(CustomerDesk(client, role="Ops"), key.public_id) == []


def test_coupons_are_found_by_their_promo_codes(desk):
    coupon = Coupon.objects.create(code="launch", name="Launch", kind=Coupon.Kind.PERCENT, percent=20)
    PromoCode.objects.create(coupon=coupon, code="FRIENDS20")

    assert links(desk, "friends") == [f"/catalog/coupon/{coupon.pk}/change/"]


def test_invoices_are_found_by_how_their_number_begins(desk):
    who = a.on(a.pro())
    invoice = Invoice.objects.get(customer=who)

    assert f"/invoicing/invoice/{invoice.pk}/" in links(desk, invoice.number.lower()[:6])


def test_a_version_is_found_by_its_plan_and_number(desk):
    plan = a.pro()

    assert links(desk, "pro v1") == [f"/catalog/plan/{plan.pk}/change/?version=1"]


def test_an_override_leads_to_its_customer(desk):
    who = a.customer()
    row = FeatureOverride.objects.create(
        customer=who,
        feature=a.feature("credits"),
        units=500,
        reason="promised",
        effective_from=MARCH_1,
        effective_until=MAY_1,
        stops_at=MAY_1,
        created_by="ops",
        created_at=MARCH_1,
    )

    assert links(desk, row.public_id) == [f"/customers/customer/{who.pk}/"]


def test_an_id_that_names_nothing_is_looked_up_as_words(desk):
    Customer.objects.create(customer_id="sub_12345678abcd", name="Odd", created_at=MARCH_1)

    assert [title for title, _ in found(desk, "sub_12345678abcd")] == ["Odd"]


def test_the_number_of_queries_does_not_grow_with_what_is_found(desk, django_assert_max_num_queries):
    for number in range(12):
        who = a.customer(f"Acme {number}")
        Invoice.objects.create(customer=who, number=f"ACME-{number:04}", currency="USD", subtotal=100, total=100)
    desk.get("search", s="acme")

    with django_assert_max_num_queries(18):
        results = found(desk, "acme")

    assert len([link for _, link in results if "/customers/customer/" in link]) == MOST


def test_a_whole_id_asks_one_question_of_each_kind(desk, django_assert_max_num_queries):
    who = a.on(a.pro())
    desk.get("search", s=who.public_id)

    with django_assert_max_num_queries(7):
        desk.get("search", s=who.public_id)


def test_approvals_are_found_by_their_id(desk):
    request = ApprovalRequest.objects.create(
        act="bulk.started",
        title="Notes",
        why="rule",
        approver=Group.objects.get(name="Finance"),
        inputs={},
        shown={},
        fingerprint="x",
        requested_by="ops",
        requested_at=MARCH_1,
        expires_at=MAY_1,
    )

    assert links(desk, request.public_id) == [f"/approvals/{request.public_id}/"]
