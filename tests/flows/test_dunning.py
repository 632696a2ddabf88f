"""Invoices that nobody pays: past due, reminders, the end; and pauses of collection."""

from datetime import datetime, timedelta

import pytest
from django.core import mail
from django.core.exceptions import ValidationError

from billing_admin import runs
from billing_admin.flows.collection import NotLive, NotPaused, pause, resume
from billing_admin.flows.gate import collect
from billing_admin.flows.plan_change import Activation
from billing_admin.models import WorkerFailure, WorkerRun
from catalog.models import Plan
from customers.journal import ReasonRequired
from customers.models import Customer, Subscription
from invoicing.issue import void
from invoicing.models import BillingSettings, Invoice
from tests import builders as a
from tests.instants import APRIL_1, MARCH_1, MAY_1
from tests.workers.test_runs import the_database_refusing

pytestmark = pytest.mark.django_db


def late(days: float) -> datetime:
    return APRIL_1 + timedelta(days=days)


def owing(name: str = "Acme Robotics") -> Customer:
    """A customer who paid in March and was invoiced on 1 April."""
    known = Plan.objects.filter(key="pro").first()
    who = a.on(known or a.pro(), name=name)
    runs.renewals(now=APRIL_1)
    return who


def dun(now: datetime) -> WorkerRun | None:
    return runs.work(runs.DUNNING, now=now).finish(now)


def contract(who: Customer) -> Subscription:
    return who.subscriptions.get()


def april_invoice(who: Customer) -> Invoice:
    return who.invoices.get(number__endswith="-0002")


def test_an_invoice_past_its_due_date_makes_its_contract_past_due_and_access_stays() -> None:
    """P-18: past due counts."""
    acme = owing()

    dun(late(1))

    assert contract(acme).state == "past_due"
    assert a.access(acme, now=late(1)).allowed
    assert april_invoice(acme).next_reminder_at == late(3)
    assert mail.outbox == []


def test_an_invoice_that_is_not_overdue_yet_is_left_alone() -> None:
    """Y-54: with terms of 30 days it is due on 1 May."""
    acme = a.on(a.pro())
    acme.subscriptions.update(net_terms_days=30)
    runs.renewals(now=APRIL_1)

    assert dun(late(30)) is None
    dun(late(31))

    assert contract(acme).state == "past_due"
    assert april_invoice(acme).due_at == MAY_1


def test_reminders_go_out_on_their_days_with_the_link(django_capture_on_commit_callbacks) -> None:
    """Design, section 6: retries."""
    acme = owing()

    for day in (1, 3, 4, 7, 14):
        with django_capture_on_commit_callbacks(execute=True):
            dun(late(day))

    invoice = april_invoice(acme)
    assert [(r.number, r.sent_to, r.at) for r in invoice.sent_reminders.all()] == [
        (1, acme.email, late(3)),
        (2, acme.email, late(7)),
        (3, acme.email, late(14)),
    ]
    assert len(mail.outbox) == 3
    assert f"/i/{invoice.token}" in mail.outbox[0].body
    assert "$50.00" in mail.outbox[0].body
    assert invoice.next_reminder_at == late(21)
    assert acme.operations.filter(verb="invoice.reminded").count() == 3


def test_after_the_last_day_it_is_uncollectible_and_the_contract_ends_unpaid() -> None:
    """Design, section 6: 21 days by default."""
    acme = owing()
    dun(late(20.9))

    dun(late(21))

    assert april_invoice(acme).state == "uncollectible"
    assert (contract(acme).state, contract(acme).end_reason, contract(acme).ended_at) == ("ended", "unpaid", late(21))
    assert not a.access(acme, now=late(21)).allowed
    assert not runs.work(runs.DUNNING, now=late(22)).done


def test_the_days_are_the_accounts() -> None:
    """Account settings: retry days."""
    BillingSettings.objects.create(pk=1, retry_days=[1, 2])
    acme = owing()

    dun(late(2))

    assert contract(acme).state == "ended"


def test_a_late_worker_takes_all_missed_steps_at_once_and_mails_only_the_last(
    django_capture_on_commit_callbacks,
) -> None:
    """Law 7"""
    acme = owing()

    with django_capture_on_commit_callbacks(execute=True):
        run = dun(late(15))

    assert run.effects["reminders"] == 3
    assert april_invoice(acme).sent_reminders.count() == 3
    assert [message.subject for message in mail.outbox] == [f"Reminder: {april_invoice(acme)} is overdue"]


def test_paying_in_between_makes_it_active_again() -> None:
    """active ⇄ past_due"""
    acme = owing()
    dun(late(8))

    collect(april_invoice(acme), amount=5_000, reference="bank", actor=a.STAFF, now=late(9))

    assert contract(acme).state == "active"
    assert dun(late(22)) is None


def test_a_debt_that_was_voided_no_longer_holds_the_contract() -> None:
    """What is owed is a query."""
    acme = owing()
    dun(late(4))
    void(april_invoice(acme), reason="our mistake", actor=a.STAFF, now=late(5))

    dun(late(5))

    assert contract(acme).state == "active"


def test_a_first_invoice_has_its_own_window_and_is_not_dunned() -> None:
    """Y-28: after 24 hours it is void, and the subscription ended."""
    acme = a.customer()
    a.enable(acme, a.pro(), activation=Activation.AFTER_PAYMENT)

    assert dun(MARCH_1 + timedelta(hours=23)) is None
    run = runs.work(runs.EXPIRIES, now=MARCH_1 + timedelta(hours=24)).finish(MARCH_1)

    assert (run.done, run.effects["expired"]) == (1, 1)
    assert acme.invoices.get().state == "void"
    assert (contract(acme).state, contract(acme).end_reason) == ("ended", "payment_expired")


def test_a_customer_whose_dunning_fails_is_named_and_holds_up_nobody() -> None:
    """One transaction per customer."""
    acme, globex = owing("Acme"), owing("Globex")

    with the_database_refusing("invoicing_reminder", f"invoice_id <> {april_invoice(acme).pk}"):
        run = dun(late(3))

    assert (run.done, run.failed) == (1, 1)
    assert [failure.what for failure in run.failures.all()] == [acme.public_id]
    assert (contract(acme).state, contract(globex).state) == ("active", "past_due")
    assert runs.retry(runs.open_failures(), actor=a.STAFF, now=late(3))[0].done == 1
    assert not WorkerFailure.objects.filter(resolved_at=None).exists()


def test_nobody_is_reminded_while_collection_is_paused_and_the_days_count_from_its_end() -> None:
    """A pause of collection, which resumes by itself."""
    acme = owing()
    pause(contract(acme), behavior="void", resumes_at=late(30), reason="dispute", actor=a.STAFF, now=late(2))

    assert dun(late(22)) is None
    dun(late(30))

    assert contract(acme).state == "past_due"
    assert april_invoice(acme).next_reminder_at == late(33)


@pytest.mark.parametrize(
    ("behavior", "state"), [("keep_as_draft", "draft"), ("void", "void"), ("mark_uncollectible", "uncollectible")]
)
def test_invoices_of_a_paused_contract_become_what_was_chosen(behavior: str, state: str) -> None:
    """keep_as_draft, void, mark_uncollectible"""
    acme = a.on(a.pro())
    pause(contract(acme), behavior=behavior, reason="dispute", actor=a.STAFF, now=MARCH_1 + timedelta(days=1))

    runs.renewals(now=APRIL_1)

    assert acme.invoices.order_by("-id")[0].state == state
    assert contract(acme).state == "active"


def test_a_pause_that_was_over_before_a_late_run_still_keeps_its_renewal_as_a_draft() -> None:
    """Law 7"""
    acme = a.on(a.pro())
    ended = APRIL_1 + timedelta(days=1)
    pause(contract(acme), behavior="keep_as_draft", resumes_at=ended, reason="dispute", actor=a.STAFF, now=MARCH_1)

    runs.renewals(now=APRIL_1 + timedelta(days=2))

    assert acme.invoices.order_by("-id")[0].state == "draft"


def test_resuming_collects_the_next_invoice_again() -> None:
    acme = a.on(a.pro())
    pause(contract(acme), behavior="void", reason="dispute", actor=a.STAFF, now=MARCH_1)

    operation = resume(contract(acme), actor=a.STAFF, now=MARCH_1 + timedelta(days=3))
    runs.renewals(now=APRIL_1)

    assert operation.verb == "collection.resumed"
    assert april_invoice(acme).state == "open"


def test_a_pause_needs_a_reason_a_running_plan_and_an_end_to_come() -> None:
    """Reasons are required; each refusal has its code."""
    acme = a.on(a.pro())
    said = {"behavior": "void", "reason": "dispute", "actor": a.STAFF, "now": MARCH_1}

    with pytest.raises(ReasonRequired):
        pause(contract(acme), **said | {"reason": " "})
    with pytest.raises(ValidationError, match="Choose what becomes") as refused:
        pause(contract(acme), **said | {"behavior": "forget"})
    assert refused.value.code == "bad_behavior"
    with pytest.raises(ValidationError, match="to come"):
        pause(contract(acme), **said, resumes_at=MARCH_1)
    with pytest.raises(NotPaused):
        resume(contract(acme), actor=a.STAFF, now=MARCH_1)
    acme.subscriptions.update(state="ended")
    with pytest.raises(NotLive):
        pause(contract(acme), **said)
