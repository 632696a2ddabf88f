"""Every act that a rule can name, tried through each door that it has: the page, the API, the bulk act or import.

At each door the act is not done, and can be asked for; once somebody else has approved it, it is done. Doors that do
not exist: money for the next invoices is given through the API alone; payouts, corrections, credit notes, refunds,
special prices, balance edits, custom plans, trials, pauses, invoices that are given up and deletions have no bulk act;
overrides of many have rows of their own kind (`test_approvals_inside.py`). Migrations and deals are tested by
themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from billing_admin.approving import ACTS
from billing_admin.flows import batches
from billing_admin.flows.approval_rules import ruled_acts
from billing_admin.flows.approvals import approve
from billing_admin.flows.plan_change import Activation
from billing_admin.models import ApprovalRequest, Batch, BatchRow
from billing_admin.pages import ASK
from customers.models import Customer
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk, Page
from tests.admin.enable_desk import Desk, person
from tests.api.conftest import Answer, Caller, caller_with
from tests.approving import coupon, rule
from tests.instants import APRIL_1, MARCH_16

pytestmark = pytest.mark.django_db
MONTHLY = "RRULE:FREQ=MONTHLY;INTERVAL=1"
SPECIAL = {"type": "fixed", "label": "Friend", "amount_cents": 1000, "recurrence_rule": MONTHLY}


@dataclass(frozen=True)
class Case:
    """One act with its doors: `page` posts its form with what is added to it, `api` calls, `rows` is (kind, cells)."""

    act: str
    rule: dict[str, str]
    world: Callable[[], Customer]
    done: Callable[[Customer], bool]
    page: Callable[[CustomerDesk, Customer, dict[str, str]], Page] | None = None
    api: Callable[[Caller, Customer], Answer] | None = None
    rows: tuple[str, dict[str, str]] | None = None


def on_pro() -> Customer:
    coupon("half", percent="50")
    a.feature("credits")
    return a.on(a.pro(50))


def nobody_yet() -> Customer:
    a.pro(50)
    return a.customer()


def owing() -> Customer:
    """Somebody whose first invoice is open, and who has their plan already."""
    who = a.customer()
    a.enable(who, a.pro(50))
    return who


def waiting_to_pay() -> Customer:
    """Somebody whose plan waits for its first invoice."""
    who = a.customer()
    a.enable(who, a.pro(50), now=MARCH_16, activation=Activation.AFTER_PAYMENT)
    return who


def on_trial() -> Customer:
    """Until 31 March."""
    who = a.customer()
    a.enable(who, a.plan("pro", a.fee(50), trial_days=30))
    return who


def contract(who: Customer) -> str:
    return a.the_subscription(who).public_id


def state_of(who: Customer) -> str:
    return str(invoice(who).state)


def with_wallet() -> Customer:
    return a.filled(500)


def wallet(page: str, **typed: str) -> Callable[[CustomerDesk, Customer, dict[str, str]], Page]:
    return lambda desk, who, more: desk.post(page, who.pk, **{"reason": "agreed", **typed, **more})


def invoice(who: Customer) -> Any:
    return who.invoices.get()


def credits(who: Customer, settlement: str) -> dict[str, str]:
    return {"what": "amount", "amount": "30", "settlement": settlement, "reason": "downtime", "reference": "wire 7"}


def enables(desk: CustomerDesk, who: Customer, more: dict[str, str]) -> Page:
    """The page as somebody types into it; asked once more it posts the same again."""
    visit = Desk(desk.client, who, now=MARCH_16, role="Admin").open(plan="pro")
    visit.type("base", amount="30").type(reason="a deal").preview()
    with visit.at():
        return Page(desk.client.post(visit.url, {**visit._body(), "act": "enable", **more}))


def overrides_many(desk: CustomerDesk, who: Customer, more: dict[str, str]) -> Page:
    rows = f"customer_id,feature,value,until\n{who.customer_id},credits,500,2026-05-01"
    shown = desk.post("override_batch_new", step="try", rows=rows, reason="outage").answer.context
    said = {"step": "give", "rows": shown["text"], "reason": shown["reason"], "seen": shown["seen"]}
    return desk.post("override_batch_new", **said, **more)


def bulk_through_the_api(api: Caller, act: str, who: Customer, inputs: dict[str, str]) -> Answer:
    asked = {"act": act, "inputs": inputs, "customers": [who.customer_id], "reason": "outage"}
    batch = api.post("batches", asked)
    return api.post(f"batches/{batch['id']}/confirm", {"confirmation": batch["confirmation"]})


def bucket(who: Customer) -> str:
    return f"s{a.the_subscription(who).pk}"


CASES = [
    Case(
        "coupon.applied",
        {"measure": "discount", "above": "20"},
        on_pro,
        lambda who: who.applied_coupons.exists(),
        page=lambda desk, who, more: desk.post(
            "customer_coupon", who.pk, code="half", at="next_invoice", subscription="", reason="they asked", **more
        ),
        api=lambda api, who: api.post(f"customers/{who.customer_id}/coupons", {"code": "half"}),
        rows=("coupons", {"coupon": "half", "at": "", "reason": ""}),
    ),
    Case(
        "invoice_credit.given",
        {"measure": "amount", "above": "20"},
        on_pro,
        lambda who: who.invoice_credits.exists(),
        api=lambda api, who: api.post(
            f"customers/{who.customer_id}/invoice-credits",
            {"amount": 5000, "currency": "USD", "label": "Goodwill", "reason": "outage"},
        ),
    ),
    Case(
        "price.overridden",
        {"measure": "discount", "above": "20"},
        on_pro,
        lambda who: a.the_subscription(who).price_overrides.exists(),
        page=lambda desk, who, more: desk.post(
            "give_special_price",
            who.pk,
            item=f"{a.the_subscription(who).public_id}:base",
            mode="replace",
            lasts="periods",
            cycles="2",
            label_0="Friend",
            amount_0="10",
            every_0=MONTHLY,
            reason="a deal",
            **more,
        ),
        api=lambda api, who: api.post(
            f"subscriptions/{a.the_subscription(who).public_id}/price-overrides",
            {"priceId": "base", "components": [SPECIAL], "expiresAfterBillingCycles": 2, "reason": "a deal"},
        ),
    ),
    Case(
        "plan.enabled",
        {"measure": "discount", "above": "20"},
        nobody_yet,
        lambda who: who.subscriptions.exists(),
        page=enables,
        api=lambda api, who: api.post(
            f"customers/{who.customer_id}/plan-changes",
            {"planKey": "pro", "items": [{"key": "base", "amount": "30"}], "reason": "a deal"},
        ),
    ),
    Case(
        "invoice.credited",
        {"measure": "amount", "above": "20"},
        on_pro,
        lambda who: who.invoices.filter(kind="credit_note").exists(),
        page=lambda desk, who, more: desk.post(
            "invoice_credit", invoice(who).pk, **credits(who, "account_credit"), **more
        ),
        api=lambda api, who: api.post(
            f"invoices/{invoice(who).public_id}/credit-notes",
            {"amount": 3000, "settlement": "account_credit", "reason": "downtime"},
        ),
    ),
    Case(
        "invoice.credited",
        {"measure": "refund", "above": "20"},
        on_pro,
        lambda who: who.invoices.filter(kind="credit_note").exists(),
        page=lambda desk, who, more: desk.post("invoice_credit", invoice(who).pk, **credits(who, "refund"), **more),
        api=lambda api, who: api.post(
            f"invoices/{invoice(who).public_id}/credit-notes",
            {"amount": 3000, "settlement": "refund", "reason": "downtime"},
        ),
    ),
    Case(
        "subscription.canceled",
        {"measure": "refund", "above": "20"},
        on_pro,
        lambda who: not who.subscriptions.live().exists(),
        page=lambda desk, who, more: desk.post(
            "cancel_subscription",
            a.the_subscription(who).public_id,
            when="now",
            bill_use="yes",
            unused="refund",
            access="at_once",
            reason="they leave",
            **more,
        ),
        api=lambda api, who: api.post(
            f"subscriptions/{a.the_subscription(who).public_id}/cancel",
            {"atOnce": True, "unused": "refund", "reason": "they leave"},
        ),
    ),
    Case(
        "invoice.voided",
        {"measure": "amount", "above": "20"},
        owing,
        lambda who: state_of(who) == "void",
        page=lambda desk, who, more: desk.post("invoice_void", invoice(who).pk, reason="goodwill", **more),
        api=lambda api, who: api.post(f"invoices/{invoice(who).public_id}/void", {"reason": "goodwill"}),
    ),
    Case(
        "invoice.uncollectible",
        {"measure": "amount", "above": "20"},
        owing,
        lambda who: state_of(who) == "uncollectible",
        page=lambda desk, who, more: desk.post("invoice_give_up", invoice(who).pk, reason="insolvent", **more),
        api=lambda api, who: api.post(f"invoices/{invoice(who).public_id}/uncollectible", {"reason": "insolvent"}),
    ),
    Case(
        "plan.activated",
        {"measure": "amount", "above": "20"},
        waiting_to_pay,
        lambda who: who.subscriptions.get().state == "active",
        page=lambda desk, who, more: desk.post("invoice_activate", invoice(who).pk, reason="by cheque", **more),
        api=lambda api, who: api.post(f"invoices/{invoice(who).public_id}/activate", {"reason": "by cheque"}),
    ),
    Case(
        "trial.extended",
        {"measure": "days", "above": "30"},
        on_trial,
        lambda who: a.the_subscription(who).trial_ends_at > APRIL_1,
        page=lambda desk, who, more: desk.post(
            "extend_trial", contract(who), days="20", until="", reason="needs time", **more
        ),
        api=lambda api, who: api.post(
            f"subscriptions/{contract(who)}/trial/extend", {"days": 20, "reason": "needs time"}
        ),
    ),
    Case(
        "collection.paused",
        {"measure": "days", "above": "30"},
        on_pro,
        lambda who: a.the_subscription(who).collection_paused_at is not None,
        page=lambda desk, who, more: desk.post(
            "pause_collection", contract(who), behavior="keep_as_draft", resumes_on="", reason="dispute", **more
        ),
        api=lambda api, who: api.post(
            f"subscriptions/{contract(who)}/collection/pause",
            {"behavior": "void", "resumesAt": "2026-06-01T00:00:00Z", "reason": "dispute"},
        ),
    ),
    Case(
        "override.given",
        {"measure": "units", "above": "100"},
        on_pro,
        lambda who: who.feature_overrides.exists(),
        page=lambda desk, who, more: desk.post(
            "override_give",
            who.pk,
            feature="credits",
            what="value",
            value="500",
            level="customer",
            starts="",
            until="2026-05-01",
            reason="outage",
            **more,
        ),
        api=lambda api, who: api.post(
            f"customers/{who.customer_id}/overrides",
            {"featureSlug": "credits", "value": 500, "effectiveUntil": "2026-05-01T00:00:00Z", "reason": "outage"},
        ),
    ),
    Case(
        "price.overridden",
        {"measure": "amount", "above": "20", "currency": "USD"},
        on_pro,
        lambda who: a.the_subscription(who).price_overrides.exists(),
        api=lambda api, who: api.post(
            f"subscriptions/{contract(who)}/price-overrides",
            {"priceId": "base", "components": [SPECIAL], "expiresAfterBillingCycles": 2, "reason": "a deal"},
        ),
    ),
    Case(
        "wallet.topped_up",
        {"measure": "amount", "above": "100"},
        with_wallet,
        lambda who: a.wallet_balance(who) == 700,
        page=lambda desk, who, more: desk.post(
            "wallet_top_up", who.pk, amount="200", currency="USD", reference="wire 7", key="k1", **more
        ),
        api=lambda api, who: api.post(
            f"customers/{who.customer_id}/wallet/top-ups",
            {"amount": "200", "currency": "USD", "reference": "wire 7", "idempotencyKey": "k1"},
        ),
    ),
    Case(
        "wallet.paid_out",
        {"measure": "amount", "above": "100"},
        with_wallet,
        lambda who: a.wallet_balance(who) < 500,
        page=wallet("wallet_pay_out", amount="200", reference="wire 7"),
        api=lambda api, who: api.post(
            f"customers/{who.customer_id}/wallet/payouts", {"amount": "200", "reason": "agreed"}
        ),
    ),
    Case(
        "wallet.corrected",
        {"measure": "amount", "above": "100"},
        with_wallet,
        lambda who: a.wallet_balance(who) != 500,
        page=wallet("wallet_correct", amount="200"),
        api=lambda api, who: api.post(
            f"customers/{who.customer_id}/wallet/corrections", {"amount": "-200", "reason": "agreed"}
        ),
    ),
    Case(
        "balance.edited",
        {"measure": "units", "above": "100"},
        on_pro,
        lambda who: a.left(who, now=MARCH_16) == 500,
        page=lambda desk, who, more: desk.post(
            "customer_balance", who.pk, "credits", bucket=bucket(who), to="500", reason="outage", **more
        ),
        api=lambda api, who: api.post(
            f"customers/{who.customer_id}/balances",
            {"featureSlug": "credits", "balance": 500, "reason": "outage"},
        ),
    ),
    Case(
        "grant.given",
        {"measure": "units", "above": "100"},
        on_pro,
        lambda who: who.grants.exists(),
        page=lambda desk, who, more: desk.post(
            "grant_give",
            who.pk,
            feature="credits",
            source="bonus",
            units="500",
            label="Sorry",
            until="2026-05-01",
            priority="0",
            reason="outage",
            **more,
        ),
        api=lambda api, who: api.post(
            f"customers/{who.customer_id}/grants",
            {"featureSlug": "credits", "units": 500, "endsAt": "2026-05-01T00:00:00Z", "reason": "outage"},
        ),
        rows=(
            "grants",
            {"feature": "credits", "units": "500", "until": "2026-05-01", "label": "", "recurs": "", "reason": ""},
        ),
    ),
    Case(
        "override_batch.begun",
        {"measure": "customers", "above": "0"},
        on_pro,
        lambda who: who.feature_overrides.exists() or bool(a.left(who, now=MARCH_16) == 500),
        page=overrides_many,
        api=lambda api, who: api.post(
            "overrides/bulk",
            {
                "customers": [who.customer_id],
                "featureSlug": "credits",
                "value": 500,
                "effectiveUntil": "2026-05-01T00:00:00Z",
                "reason": "outage",
            },
        ),
    ),
    Case(
        "bulk.started",
        {"measure": "customers", "above": "0"},
        on_pro,
        lambda who: who.applied_coupons.exists(),
        api=lambda api, who: bulk_through_the_api(api, "coupons", who, {"coupon": "half"}),
    ),
    Case(
        "customer.closed",
        {},
        a.customer,
        lambda who: Customer.objects.get(pk=who.pk).closed_at is not None,
        page=lambda desk, who, more: desk.post(
            "customers_customer_delete", who.pk, confirm_name=who.name, reason="asked us to", **more
        ),
        api=lambda api, who: api.delete(
            f"customers/{who.customer_id}", {"confirmName": who.name, "reason": "asked us to"}
        ),
    ),
]
# Their rows are done by a worker.
BY_WORKERS = ("override_batch.begun", "bulk.started")
WITH = {door: [c for c in CASES if getattr(c, door)] for door in ("page", "api", "rows")}


def name_of(case: Case) -> str:
    return f"{case.act} {case.rule.get('measure', '')}".strip()


def waiting() -> ApprovalRequest:
    return ApprovalRequest.objects.get(state="waiting")


def approved(request: ApprovalRequest) -> str:
    return approve(request, user=User.objects.create_superuser("boss"), now=MARCH_16 + timedelta(minutes=5)).state


@pytest.mark.parametrize("case", WITH["page"], ids=name_of)
def test_a_page_shows_what_would_be_asked_for_and_asks_when_it_is_pressed_again(case: Case, client: Client):
    """A-53"""
    who, desk = case.world(), CustomerDesk(client)
    rule(case.act, **case.rule)
    assert case.page is not None

    shown = case.page(desk, who, {})

    assert "needs approval by Finance" in shown.text and "Ask for approval" in shown.text
    assert not case.done(who) and not ApprovalRequest.objects.exists()

    asked = case.page(desk, who, {ASK: "yes"})

    assert asked.went_on and waiting().act == case.act
    assert not case.done(who)


@pytest.mark.parametrize("case", WITH["page"], ids=name_of)
def test_what_was_asked_for_at_a_page_is_done_once_it_is_approved(case: Case, client: Client):
    """A-53"""
    who, desk = case.world(), CustomerDesk(client)
    rule(case.act, **case.rule)
    assert case.page is not None
    case.page(desk, who, {ASK: "yes"})
    request = waiting()

    assert approved(request) == "applied"

    request.refresh_from_db()
    assert request.operation is not None and request.operation.verb in (case.act, "plan.enabled")
    assert (request.operation.actor, request.operation.approved_by) == ("admin", "boss")
    if case.act not in BY_WORKERS:
        assert case.done(who)


@pytest.mark.parametrize("case", WITH["api"], ids=name_of)
def test_the_api_answers_that_it_is_asked_for_and_does_nothing(case: Case):
    """A-53"""
    who, api = case.world(), caller_with("Admin").at(MARCH_16)
    rule(case.act, **case.rule)
    assert case.api is not None

    answer = case.api(api, who)

    assert (answer.status, answer["approval"]["state"]) == (202, "waiting"), answer.body
    assert (answer["approval"]["id"], waiting().act) == (waiting().public_id, case.act)
    assert not case.done(who)


@pytest.mark.parametrize("case", WITH["api"], ids=name_of)
def test_what_was_asked_for_through_the_api_is_done_once_it_is_approved(case: Case):
    """A-53"""
    who, api = case.world(), caller_with("Admin").at(MARCH_16)
    rule(case.act, **case.rule)
    assert case.api is not None
    asked = case.api(api, who)

    assert approved(waiting()) == "applied"

    told = api.get(f"approvals/{asked['approval']['id']}")
    assert (told["state"], told["decidedBy"], told["requestedBy"]) == ("applied", "boss", "api:backend")
    if case.act not in BY_WORKERS:
        assert case.done(who)


@pytest.mark.parametrize("door", ["page", "api"])
@pytest.mark.parametrize("case", WITH["rows"], ids=name_of)
def test_a_row_of_a_bulk_act_is_refused_with_the_rule(case: Case, door: str):
    """A-53: the same verb meets the same rule; the other rows go on."""
    who = case.world()
    rule(case.act, **case.rule)
    assert case.rows is not None
    kind, cells = case.rows

    row = bulk_row(kind, who, cells) if door == "page" else bulk_row_through_the_api(kind, who, cells)

    assert (row.state, row.code) == (BatchRow.State.FAILED, "approval_required")
    assert "needs approval by Finance" in row.problem
    assert not case.done(who)


def bulk_row(kind: str, who: Customer, cells: dict[str, str]) -> BatchRow:
    """The one row of a bulk act that was confirmed and carried out."""
    user = person("Admin")
    batch = batches.begin_chosen(
        kind, [who.customer_id], cells, title="1 customer", reason="outage", user=user, now=MARCH_16
    )
    go_on(batch)
    batches.confirm(batch, batch.fingerprint, actor=batches.actor_of(batch), now=MARCH_16)
    batch.refresh_from_db()
    go_on(batch)
    return batch.rows.get()


def bulk_row_through_the_api(kind: str, who: Customer, cells: dict[str, str]) -> BatchRow:
    inputs = {name: cell for name, cell in cells.items() if name != "reason"}
    bulk_through_the_api(caller_with("Admin").at(MARCH_16), kind, who, inputs)
    batch = Batch.objects.get()
    go_on(batch)
    return batch.rows.get()


def go_on(batch: Batch) -> None:
    batches.go_on(batch, clock=lambda: MARCH_16, until=MARCH_16 + timedelta(seconds=1))
    batch.refresh_from_db()


def test_a_bulk_act_as_a_whole_needs_somebody_when_it_is_about_many():
    """A-53"""
    who = on_pro()
    rule("bulk.started", measure="customers", above="0")
    cells = {"coupon": "half", "at": "", "reason": ""}
    user = person("Admin")
    batch = batches.begin_chosen(
        "coupons", [who.customer_id], cells, title="1 customer", reason="sale", user=user, now=MARCH_16
    )
    go_on(batch)

    with pytest.raises(Exception, match="needs approval by Finance"):
        batches.confirm(batch, batch.fingerprint, actor=batches.actor_of(batch), now=MARCH_16)

    assert not who.applied_coupons.exists()


def test_every_act_that_a_rule_can_name_is_tried_here_or_where_it_is_made():
    elsewhere = {"customers.migrated", "plan.migrated", "deal.approved", "deal.submitted"}

    left = set(ruled_acts()) - {case.act for case in CASES}

    assert left - elsewhere <= {key for key in ACTS if key.startswith(("deal", "migration", "version"))}


def test_small_ones_need_nobody_at_any_door(client: Client):
    who = on_pro()
    rule("grant.given", measure="units", above="1000")
    rule("balance.edited", measure="units", above="1000")
    cases = {case.act: case for case in CASES}

    for key in ("grant.given", "balance.edited"):
        page, api = cases[key].page, cases[key].api
        assert page is not None and api is not None
        assert page(CustomerDesk(client), who, {}).went_on
        assert api(caller_with("Admin").at(MARCH_16), who).status in (200, 201)

    assert who.grants.count() == 2 and Decimal(500) <= (a.left(who, now=MARCH_16) or 0)
