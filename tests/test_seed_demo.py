"""The demo is a year lived through the engine: the same each time, and its books balance."""

import hashlib
import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models import Sum
from pytest_django import DjangoDbBlocker

from billing_admin.demo import people
from billing_admin.demo.play import play
from billing_admin.demo.roster import COMPANIES
from billing_admin.models import ApprovalRequest
from catalog.models import Plan
from customers.models import Customer, MigrationRow, Operation, PlanMigration, Subscription
from deals.models import Deal
from entitlements.check import check
from entitlements.models import Balance
from invoicing.models import Invoice
from tests.instants import day

UNTIL = day("2026-11-16T09:00")


def seed(until: str = "2026-11-16T09:00", **options: Any) -> str:
    said = StringIO()
    call_command("seed_demo", until=until, stdout=said, **options)
    return said.getvalue()


@pytest.fixture(scope="module")
def whole_year(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The year is played once for all tests of this file that want it, and forgotten after them."""
    with django_db_blocker.unblock(), transaction.atomic():
        seed()
        yield
        transaction.set_rollback(True)


@pytest.fixture
def year(whole_year: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock(), transaction.atomic():
        yield
        transaction.set_rollback(True)


in_the_year = pytest.mark.usefixtures("year")


def digest() -> str:
    """Every document with its lines, and every balance, without the ids that chance gives them."""
    documents = Invoice.objects.order_by("number").values_list(
        "number", "total", "state", "paid", "issued_at", "lines__position", "lines__description", "lines__amount"
    )
    balances = Balance.objects.order_by("customer__customer_id", "feature__slug", "starts_at", "granted").values_list(
        "customer__customer_id", "feature__slug", "starts_at", "ends_at", "granted", "adjusted", "used"
    )
    words = json.dumps([sorted(map(str, documents)), sorted(map(str, balances))])
    return hashlib.sha256(words.encode()).hexdigest()


@pytest.mark.django_db
def test_the_same_end_gives_the_same_year() -> None:
    """Deterministic: documents, numbers, lines and balances."""
    digests = []
    for _ in range(2):
        with transaction.atomic():
            play(UNTIL, companies=COMPANIES[::9])
            digests.append(digest())
            transaction.set_rollback(True)

    assert Invoice.objects.count() == 0
    assert digests[0] == digests[1]


def acme() -> Customer:
    return Customer.objects.get(customer_id="acme_robotics")


@in_the_year
def test_every_invoice_is_the_sum_of_its_lines() -> None:
    """Law 12"""
    invoices = Invoice.objects.annotate(sum=Sum("lines__amount"))

    assert invoices.count() > 300
    assert [invoice.number for invoice in invoices if invoice.subtotal != (invoice.sum or 0)] == []


@in_the_year
def test_every_customer_has_a_believable_name_and_a_series_of_its_own() -> None:
    """Numbers that depend on primary keys would differ from run to run."""
    prefixes = {name.split()[0].upper()[:8] for name in Customer.objects.values_list("name", flat=True)}

    assert len(COMPANIES) < len(prefixes) == Customer.objects.count()
    assert {number.split("-")[0] for number in Invoice.objects.values_list("number", flat=True)} <= prefixes


@in_the_year
def test_acme_waits_for_the_tour() -> None:
    """Standard Pro, 100 credits, 78 used, the reset more than a week away."""
    [contract] = acme().subscriptions.live()
    phase = contract.phase_at(UNTIL)
    credits = check(acme(), "credits", now=UNTIL)

    assert phase is not None
    assert (phase.version.plan.key, phase.version.tailored) == ("pro", False)
    assert phase.version == Plan.objects.get(key="pro").current_version
    assert (credits.limit, credits.remaining) == (100, 22)
    assert 7 < (contract.period_ends_at - UNTIL).days < 20
    assert not acme().invoices.unpaid().exists()


@in_the_year
def test_a_downgrade_is_due_tomorrow() -> None:
    """A-15: something for the worker to do on the tour's second day."""
    [globex] = Customer.objects.get(customer_id="globex_logistics").subscriptions.live()
    coming = globex.next_phase(UNTIL)

    assert coming is not None
    assert coming.version.plan.key == "pro"
    assert (coming.starts_at - UNTIL).days == 1


@in_the_year
def test_the_year_has_every_kind_of_story() -> None:
    """What a visitor wants to find."""
    verbs = set(Operation.objects.values_list("verb", flat=True))

    assert {
        "plan.enabled",
        "plan.scheduled",
        "balance.edited",
        "subscription.canceled",
        "subscription.ended",
        "subscription.renewed",
        "payment.received",
        "invoice.voided",
    } <= verbs
    assert Invoice.objects.unpaid().filter(paid=0).exists()
    assert Invoice.objects.unpaid().filter(paid__gt=0).exists()
    assert Invoice.objects.filter(kind=Invoice.Kind.CREDIT_NOTE).exists()
    assert Customer.objects.filter(subscriptions=None).count() >= 5
    assert Subscription.objects.live().exclude(ends_at=None).exists()
    customs = Plan.objects.get(key="pro").versions.filter(tailored=True)
    assert all(version.custom.reason for version in customs)


@in_the_year
def test_the_desk_has_something_to_approve_to_send_and_to_take_back() -> None:
    """Deals in several states, customers on the move to another version, and requests for a second person."""
    assert set(Deal.objects.filter(is_template=False).values_list("state", flat=True)) == {
        Deal.State.AWAITING_APPROVAL,
        Deal.State.SENT,
        Deal.State.EXECUTED,
    }
    assert ApprovalRequest.objects.waiting(UNTIL).values("act").distinct().count() == 2
    migration = PlanMigration.objects.get()
    assert set(migration.rows.values_list("state", flat=True)) >= {MigrationRow.State.SCHEDULED}


@in_the_year
def test_nothing_is_due_at_the_end_and_no_pass_has_failed() -> None:
    """The clockwork ran all year."""
    assert not Subscription.objects.due(UNTIL).exists()
    assert not Subscription.objects.parked().exists()
    assert not Balance.objects.due(UNTIL).exists()


@in_the_year
def test_a_second_demo_is_refused_and_with_if_empty_left_out() -> None:
    """`make run` seeds at its first start only."""
    with pytest.raises(CommandError, match="customers already"):
        seed()

    assert seed(if_empty=True) == ""


@in_the_year
def test_the_logins_are_said_and_they_work() -> None:
    """One for each role."""
    said = seed(print_logins=True)

    assert all(username in said for username in people.PEOPLE)
    signed_in = authenticate(None, username="sales", password="demo")
    assert signed_in is not None
    assert signed_in.is_staff
    assert [group.name for group in signed_in.groups.all()] == ["Sales engineer"]
