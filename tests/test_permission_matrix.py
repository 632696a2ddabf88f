"""Who gets in where: every address, role and method against one table; and the same for the API."""

import os
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Group, User
from django.db import connection, transaction
from django.test import Client

from billing_admin.api.endpoints import ApiKeyAuth
from billing_admin.api.v1 import api
from billing_admin.flows.approvals import ApprovalNeeded, ask
from billing_admin.flows.batches import begin_file
from billing_admin.flows.deals import create_deal
from billing_admin.flows.exports import ask_for
from billing_admin.flows.grants import Wanted, give_units
from billing_admin.flows.saved_filters import save_filter
from billing_admin.models import ApiKey, ApprovalRequest, ApprovalRule, Batch
from billing_admin.roles import ROLES
from catalog.models import Feature, Meter, PromoCode
from customers.models import Customer, PlanMigration, Subscription
from entitlements.override import override
from payments.gateway import NetworkInTransaction
from tests import builders as a
from tests import permission_matrix as matrix
from tests.admin.catalog_desk import staff
from tests.flows import coupon_world as coupons
from tests.instants import APRIL_1, MARCH_1

pytestmark = pytest.mark.django_db
NO_METHOD, NOT_THERE = "no such method", "not there"


def world() -> dict[str, Any]:
    """One row of everything that an address names, by `beginning of the route|argument`."""
    with connection.cursor() as cursor:  # no other row has the customer's number by chance
        cursor.execute("SELECT setval('customers_customer_id_seq', 900000)")
    customer = a.on(a.pro())
    a.use(customer, 3)
    subscription, invoice = customer.subscriptions.get(), customer.invoices.get()
    plan = subscription.phases.get().version.plan
    feature = Feature.objects.get(slug="credits")
    applied = coupons.apply(customer, coupons.percent())
    meter = Meter.objects.create(slug="calls", name="Calls", event_name="call", aggregation=Meter.Aggregation.COUNT)
    given = {"reason": "promised", "actor": a.STAFF, "now": MARCH_1}
    higher = override(customer, feature, Decimal(400), effective_until=APRIL_1, **given)
    grant = give_units(customer, Wanted(feature, Decimal(5), APRIL_1, "Bonus"), **given)
    key, _secret = ApiKey.issue("The app", Group.objects.get(name="Application"), by="boss")
    deal = create_deal(customer, plan.current_version, name="Acme, a year", actor=a.STAFF, now=MARCH_1)
    somebody = User.objects.create_user("somebody")
    a_filter = {"page": "customers_customer_changelist", "query": "q=acme", "name": "Acme", "is_shared": True}
    return {
        "|pk": customer.pk,
        "|key": customer.pk,
        "|public_id": subscription.public_id,
        "|object_id": customer.pk,
        "|number": plan.current_version.number,
        "|act": "top-up",
        "|line": invoice.lines.get().pk,
        "|method": "pm_none",
        "|event_id": customer.usage_events.get().public_id,
        "|feature": feature.slug,
        "|balance": customer.balances.order_by("id").first().pk,
        "|field": "name",
        "|applied": applied.public_id,
        "|promo": PromoCode.objects.create(coupon=applied.coupon, code="LAUNCH").pk,
        "|id": User.objects.create_user("colleague").pk,
        "approvals/|public_id": (asked := a_request(customer, feature)).public_id,
        "approvals/rules/|pk": asked.rule_id,
        "auth/group/|object_id": key.role_id,
        "auth/user/|object_id": somebody.pk,
        "billing_admin/apikey/|pk": key.pk,
        "billing_admin/apikey/|object_id": key.pk,
        "catalog/coupon/|pk": applied.coupon_id,
        "catalog/coupon/|object_id": applied.coupon_id,
        "catalog/feature/|pk": feature.pk,
        "catalog/feature/|object_id": feature.pk,
        "catalog/meter/|pk": meter.pk,
        "catalog/meter/|object_id": meter.pk,
        "catalog/plan/|pk": plan.pk,
        "catalog/plan/|object_id": plan.pk,
        "catalog/planversion/|object_id": plan.current_version.pk,
        "catalog/product/|pk": plan.product_id,
        "catalog/product/|object_id": plan.product_id,
        "bulk/|kind": "notes",
        "imports/|kind": "customers",
        "imports/|public_id": an_import(customer).public_id,
        "exports/|public_id": ask_for("customers", "", user=somebody, now=MARCH_1).public_id,
        "filters/|pk": save_filter(**a_filter, user=somebody, now=MARCH_1).pk,
        "customers/operation/|operation": customer.operations.filter(verb="override.given").get().public_id,
        "deals/|key": deal.public_id,
        "deals/deal/|object_id": deal.pk,
        "events/|public_id": customer.usage_events.get().public_id,
        "grants/|pk": grant.pk,
        "invoicing/invoice/|pk": invoice.pk,
        "invoicing/taxrate/|pk": a.tax_rate().pk,
        "migrations/|public_id": (moving := a_migration(subscription)).public_id,
        "migrations/|pk": moving.rows.get().pk,
        "migrations/try/|key": "none",
        "migrations/try/|which": "moving",
        "overrides/|public_id": higher.public_id,
        "special-prices/|public_id": a.special_price(customer).public_id,
        "stripe/invoices/|pk": invoice.pk,
        "taxes/plan/|pk": plan.pk,
    }


def a_request(customer: Customer, feature: Feature) -> ApprovalRequest:
    """Of a rule that is switched off again, so that it meets no act of the matrix."""
    finance = Group.objects.get(name="Finance")
    rule = ApprovalRule.objects.create(act="grant.given", measure="units", above=10, approver=finance)
    try:
        give_units(customer, Wanted(feature, Decimal(50), APRIL_1, "Bonus"), reason="x", actor=a.STAFF, now=MARCH_1)
    except ApprovalNeeded as needed:
        request = ask(needed, actor=a.STAFF, now=MARCH_1)
    ApprovalRule.objects.filter(pk=rule.pk).update(is_active=False)
    return request


def an_import(customer: Customer) -> Batch:
    text = f"customer_id,text\n{customer.customer_id},Called."
    user = User.objects.create_superuser("importer")
    return begin_file("notes", text, name="notes.csv", reason="moved", user=user, now=MARCH_1)


def a_migration(subscription: Subscription) -> PlanMigration:
    version = subscription.phases.get().version
    versions = {"plan": version.plan, "from_version": version, "to_version": version}
    made = PlanMigration.objects.create(**versions, reason="new prices", created_by="boss", created_at=MARCH_1)
    made.rows.create(customer=subscription.customer, subscription=subscription)
    return made


class Everybody:
    """One signed-in person per role."""

    def __init__(self) -> None:
        self.clients = {role: staff(role) for role in ROLES}
        self.broken: dict[str, list[str]] = {}
        for client in self.clients.values():
            client.raise_request_exception = False

    def who(self, method: str, url: str) -> str:
        """The roles that are not refused; nothing that they do stays."""
        codes = {role: self.code(client, method, url) for role, client in self.clients.items()}
        if wrong := [role for role, code in codes.items() if code >= 500]:
            self.broken[f"{method} {url}"] = wrong
        inside = [role for role, code in codes.items() if code != 403]
        if inside and all(codes[role] == 405 for role in inside):
            return NO_METHOD
        if inside and all(codes[role] == 404 for role in inside):
            return NOT_THERE if len(inside) == len(codes) else f"{NOT_THERE} for {', '.join(inside)}"
        return ", ".join(inside) or "nobody"

    def code(self, client: Client, method: str, url: str) -> int:
        with transaction.atomic():
            answer = getattr(client, method.lower())(url)
            # Let in as far as the call to Stripe, which the test's transaction forbids.
            reached = answer.exc_info is not None and isinstance(answer.exc_info[1], NetworkInTransaction)
            code: int = 200 if reached else answer.status_code
            transaction.set_rollback(True)
        return code


@pytest.fixture
def midday(settings) -> Iterator[None]:
    """With keys of Stripe, so that its pages are there; nobody answers."""
    settings.STRIPE_SECRET_KEY, settings.STRIPE_PUBLISHABLE_KEY = "sk_test_matrix", "pk_test_matrix"
    settings.STRIPE_WEBHOOK_SECRET, settings.STRIPE_API_URL = "whsec_matrix", "http://127.0.0.1:9"
    with time_machine.travel(MARCH_1, tick=False):
        yield


@pytest.mark.parametrize("method", matrix.METHODS)
def test_each_address_lets_in_the_roles_of_the_table_and_no_other(method: str, midday):
    """A-53"""
    rows, everybody = world(), Everybody()
    found = {f"{method} {each.route}": everybody.who(method, each.filled(rows)) for each in matrix.addresses()}
    if os.environ.get("WRITE_MATRIX"):
        matrix.write(matrix.of_other_methods(method) | found)

    assert everybody.broken == {}
    assert found == {key: who for key, who in matrix.read().items() if key.startswith(f"{method} ")}


def test_a_visitor_gets_in_nowhere(midday):
    """A-53"""
    rows, visitor = world(), Client()

    inside = {}
    for address in matrix.addresses():
        for method in matrix.METHODS:
            answer = getattr(visitor, method.lower())(address.filled(rows))
            at_the_door = answer.status_code == 302 and answer.headers["Location"].startswith("/login/")
            if not at_the_door and answer.status_code not in (403, 404, 405):
                inside[f"{method} {address.route}"] = answer.status_code

    assert inside == {}


def operations() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for prefix, router in api._routers:
        for path, view in router.path_operations.items():
            for operation in view.operations:
                needs = [auth.permissions for auth in operation.auth_callbacks if isinstance(auth, ApiKeyAuth)]
                for method in operation.methods:
                    yield method, f"/api/v1{prefix}{path}", tuple(p for group in needs for p in group)


def test_each_endpoint_of_the_api_lets_in_the_keys_whose_role_has_its_permission():
    """A-53"""
    keys = {role: ApiKey.issue(role, Group.objects.get(name=role), by="boss")[1] for role in ROLES}
    held = {role: permissions(role) for role in ROLES}
    wrong = {}
    for method, path, needs in operations():
        url = matrix.ARGUMENT.sub("none", path.replace("{", "<").replace("}", ">"))
        assert needs, f"{method} {path} is open to whoever has a key"
        for role, secret in keys.items():
            with transaction.atomic():
                answer = Client().generic(
                    method, url, "{}", "application/json", headers={"Authorization": f"Bearer {secret}"}
                )
                transaction.set_rollback(True)
            if (answer.status_code == 403) == bool(set(needs) & held[role]):
                wrong[f"{method} {path} {role}"] = answer.status_code

    assert wrong == {}


def permissions(role: str) -> set[str]:
    held = Group.objects.get(name=role).permissions.select_related("content_type")
    return {f"{p.content_type.app_label}.{p.codename}" for p in held}
