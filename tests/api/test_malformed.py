"""Whatever is sent, the answer is one of ours: never a 500, always the one shape."""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from decimal import Decimal
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_django import DjangoDbBlocker

from billing_admin.api.v1 import api as described
from billing_admin.flows.accepted import Use, accept
from billing_admin.flows.approvals import ApprovalNeeded, ask
from billing_admin.flows.batches import begin_chosen, begin_trying
from billing_admin.flows.corrections import credit_invoice
from billing_admin.flows.deals import create_deal
from billing_admin.flows.drafts import add_line
from billing_admin.flows.exports import ask_for
from billing_admin.flows.grants import Wanted, give_units
from billing_admin.flows.migrate_order import Chosen
from billing_admin.flows.override_batch import Row, begin
from billing_admin.models import ApprovalRequest, ApprovalRule, Batch
from catalog.models import Feature, Meter, Plan, PromoCode
from customers.models import Customer, PlanMigration
from entitlements.grant import grant
from entitlements.models import FeatureOverride
from entitlements.override import override
from invoicing.models import Invoice, InvoiceLine, PendingLine
from tests import builders as world
from tests.api.conftest import Caller, caller_with
from tests.builders import allowance, assigned, customer, enable, feature, fee, on, plan, static, switch
from tests.flows.coupon_world import apply, credit, percent
from tests.instants import MARCH_1

pytestmark = pytest.mark.django_db

Ids = dict[str, list[str]]
HUGE, TINY = 10**400, "0.0000000000000000001"
STRANGE = [
    None,
    True,
    "",
    " ",
    "a" * 600,
    "\u0000",
    "\ud800",
    "💸 ünïcode",
    "%s %(x)d {0}",
    "'; DROP TABLE customers; --",
    "<script>",
    0,
    -1,
    1.5,
    2**31,
    2**63,
    -(2**63) - 1,
    HUGE,
    1e308,
    TINY,
    "1e999999999",
    "NaN",
    "-Infinity",
    [],
    {},
    [[]],
    {"a": {"b": []}},
    "9999-12-31T23:59:59-12:00",
    "0001-01-01T00:00:00+12:00",
    "2026-02-30T00:00:00Z",
    "2026-03-01",
    "P1M",
    "P0D",
    "P99999999999999999999M",
    "never",
    "acme",
    "pro",
    "credits",
]
ODD = st.sampled_from(STRANGE) | st.text(max_size=20) | st.integers() | st.floats(allow_nan=False) | st.booleans()
ANYTHING = st.recursive(ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))
FEW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
# Where nothing but an address and a query is sent, there is less to get wrong.
FEWER = settings(FEW, max_examples=6)


def endpoints() -> list[tuple[str, str, dict[str, Any] | None, list[str]]]:
    """Method, path, example body and query words of every endpoint, as the API describes itself."""
    found = []
    for path, methods in described.get_openapi_schema(path_prefix="/api/v1/")["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
            words = [p["name"] for p in operation["parameters"] if p["in"] == "query"]
            found.append((method.upper(), path, body, words))
    return found


ENDPOINTS = endpoints()


@pytest.fixture(scope="module")
def world_of_ids(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[tuple[Caller, Ids]]:
    """Built once for all tests of this file; what each of them does to it is rolled back after it."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield caller_with(), small_world()
        transaction.set_rollback(True)


@pytest.fixture
def caller(world_of_ids: tuple[Caller, Ids]) -> Caller:
    """Who may do everything, in the small world."""
    return world_of_ids[0]


@pytest.fixture
def ids(world_of_ids: tuple[Caller, Ids]) -> Ids:
    return world_of_ids[1]


def small_world() -> Ids:
    """A customer and another with something of everything, and the ids that lead to it."""
    world.default(allowance(5))
    for slug, kind in (("tokens", "metered"), ("sso", "boolean"), ("rate-limit", "static")):
        feature(slug, type=kind)
    who = on(plan("pro", fee(50), allowance(100), switch("sso"), static("100")))
    calls = Meter.objects.create(slug="credits", name="Calls", event_name="completion", aggregation="count")
    Feature.objects.create(slug="calls", name="Calls", type="metered", meter=calls)
    Customer.objects.update(customer_id="acme")
    who.refresh_from_db()
    assigned("partner")
    assigned("lab", allowance(5), of="labs")
    world.team()
    other = customer("Globex", customer_id="globex")
    PromoCode.objects.create(coupon=percent(5, name="By a word"), code="SPRING")
    pro = world.reread(who.subscriptions.get().phases.get().version.plan)
    enable(other, pro)
    return {
        "customer_id": [who.customer_id, other.customer_id, "cus_nope", "\u0000"],
        "subscription_id": [s.public_id for c in (who, other) for s in c.subscriptions.all()],
        "invoice_id": [other.invoices.get().public_id],
        "credit_note_id": [refund_of(who).public_id],
        "line_id": [str(line_of(who).pk), "0", str(2**63), "x"],
        "tax_rate_id": [str(world.tax_rate().pk), "0", "-1", "x"],
        "override_id": [world.special_price(other).public_id, feature_override(other).public_id],
        "batch_id": [begin([Row(0, "globex", "sso", True, None)], "x", world.STAFF, MARCH_1).public_id],
        "import_id": [an_import(who).public_id],
        "export_id": [ask_for("customers", "", user=boss(), now=MARCH_1).public_id],
        "grant_id": [grant(other, feature("tokens"), Decimal(5), ends_at=None, label="x", now=MARCH_1).public_id],
        "event_id": [world.use(who, 1).event.public_id],
        "accepted_id": [accept([(who, Use("credits"))], now=MARCH_1)[0].public_id],
        "code": [percent(20, name="Welcome").code, percent(10, name="Spring").code],
        "applied_id": [apply(other, credit()).public_id],
        "credit_id": [other.invoice_credits.get().public_id],
        "key": ["pro", "partner", "api"],
        "slug": ["credits"],
        "number": ["1", "2"],
        "plan_id": [bundle().key, "pro"],
        "migration_id": [a_migration(who).public_id],
        "deal_id": [create_deal(other, pro.current_version, name="Globex", actor=world.STAFF, now=MARCH_1).public_id],
        "approval_id": [a_request(who).public_id],
        "operation_id": [who.operations.latest("id").public_id],
    }


def boss() -> User:
    return User.objects.get_or_create(username="boss", is_superuser=True)[0]


def an_import(who: Customer) -> Batch:
    said = {"title": "1 customer", "reason": "x", "user": boss(), "now": MARCH_1}
    batch = begin_chosen("notes", [who.customer_id], {"text": "Called."}, **said)
    return begin_trying(batch, MARCH_1)


def bundle() -> Plan:
    """A plan with four versions; the last one drops a price."""
    made = plan("bundle", fee(50), fee(20, key="support"))
    for amount in (51, 52):
        world.new_version(made, fee(amount), fee(20, key="support"))
    world.new_version(made, fee(60))
    return made


def a_migration(who: Customer) -> PlanMigration:
    subscription = who.subscriptions.get()
    version = subscription.phases.get().version
    versions = {"plan": version.plan, "from_version": version, "to_version": version}
    how = {"chosen": Chosen().to_json(), "reason": "new prices", "created_by": "boss", "created_at": MARCH_1}
    made = PlanMigration.objects.create(**versions, **how)
    made.rows.create(customer=who, subscription=subscription)
    return made


def a_request(who: Customer) -> ApprovalRequest:
    """Of a rule that is switched off again, so that it meets none of the examples."""
    finance = Group.objects.get(name="Finance")
    rule = ApprovalRule.objects.create(act="grant.given", measure="units", above=10, approver=finance)
    wanted = Wanted(Feature.objects.get(slug="tokens"), Decimal(50), None, "Bonus")
    with pytest.raises(ApprovalNeeded) as needed:
        give_units(who, wanted, reason="x", actor=world.STAFF, now=MARCH_1)
    request = ask(needed.value, actor=world.STAFF, now=MARCH_1)
    ApprovalRule.objects.filter(pk=rule.pk).update(is_active=False)
    return request


def feature_override(who: Customer) -> FeatureOverride:
    asked = {"effective_until": None, "reason": "pilot", "actor": world.STAFF, "now": MARCH_1}
    return override(who, feature("tokens"), 50, **asked)


def refund_of(who: Customer) -> Invoice:
    """A credit note whose money is still to be paid out."""
    [paid] = who.invoices.all()
    return credit_invoice(paid, amount=500, settlement="refund", reason="downtime", actor=world.STAFF, now=MARCH_1)


def line_of(who: Customer) -> InvoiceLine | PendingLine:
    """A line that waits for the next invoice."""
    contract = world.the_subscription(who)
    return add_line(subscription=contract, description="Training", amount=500, actor=world.STAFF, now=MARCH_1)


def spoilt(body: Any, draw: Any) -> Any:
    """The example with one value somewhere replaced, taken away, or joined by another."""
    body = deepcopy(body)
    place, parents = body, []
    while isinstance(place, dict | list) and place and (not parents or draw(st.booleans())):
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        parents.append((place, key))
        place = place[key]
    if not parents:
        return draw(ANYTHING)
    parent, key = parents[-1]
    how = draw(st.sampled_from(["replace", "remove", "add"]))
    if how == "remove" or (how == "add" and isinstance(parent, list)):
        del parent[key]
    elif how == "add":
        parent[draw(st.text(max_size=8))] = draw(ODD)
    else:
        parent[key] = draw(ODD)
    return body


@pytest.mark.parametrize(("method", "path", "example", "words"), ENDPOINTS, ids=[f"{m} {p}" for m, p, *_ in ENDPOINTS])
def test_nothing_that_is_sent_breaks_an_endpoint(caller, ids, method, path, example, words):
    client = Client(raise_request_exception=False, headers={"Authorization": f"Bearer {caller.secret}"})

    @(FEWER if method == "GET" else FEW)
    @given(data=st.data())
    def attempt(data: st.DataObject) -> None:
        draw = data.draw

        def fill(match: re.Match[str]) -> str:
            name = match.group(1)
            known = st.sampled_from(ids[name])
            return quote(str(draw(known | known | known | st.text(min_size=1, max_size=8))), safe="")

        address = re.sub(r"{(\w+)}", fill, path)
        query = {word: str(draw(ODD)).encode("utf-8", "replace").decode() for word in words if draw(st.booleans())}
        sent = b""
        if method != "GET":
            body = draw(ANYTHING) if example is None or not draw(st.integers(0, 3)) else spoilt(example, draw)
            sent = json.dumps(body).encode()
        response = client.generic(method, address, sent, content_type="application/json", query_params=query or None)

        assert response.status_code < 500, (method, address, query, sent, response.content)
        if response.status_code >= 400:
            assert {"code", "message"} <= set(response.json())

    attempt()


def test_plain_examples_are_accepted(caller, ids):
    """The examples on the page are no fiction."""
    refused = {}
    for method, path, example, _ in ENDPOINTS:
        if example is None or "scheduled-change" in path or "reopen" in path or method == "DELETE":
            continue
        body = {k: v for k, v in example.items() if k != "fingerprint"}
        known = ids | {"code": ["SPRING"]} if "/promo-codes/{code}" in path else ids
        if "/overrides/{override_id}" in path:
            known = known | {"override_id": ids["override_id"][1:]}
        address = re.sub(r"{(\w+)}", lambda m, known=known: quote(known[m.group(1)][0]), path)
        answer = caller.call(method, address.removeprefix("/api/v1/"), body)
        # What does not go with how this world stands by then (409) is a fair answer to a good example.
        if answer.status >= 400 and answer.status != HTTPStatus.CONFLICT:
            refused[f"{method} {path}"] = answer.body["code"]
    # No plan of this world sells units in advance, and it has no keys of Stripe.
    units = "POST /api/v1/subscriptions/{subscription_id}/quantities"
    stripe = {"POST /api/v1/stripe/links": "not_found"}
    assert refused == {units: "bad_quantity", f"{units}/preview": "bad_quantity"} | stripe
