"""What overrides, grants and accepted use say of a customer goes with them."""

from dataclasses import replace
from decimal import Decimal

import pytest

from billing_admin.flows.accepted import Use, accept
from billing_admin.flows.customers import erase_due
from billing_admin.flows.deal_notes import add_deal_note
from billing_admin.flows.deals import create_deal, newest, read_terms, save_version
from billing_admin.flows.grants import Wanted, give_units
from billing_admin.flows.override_batch import Row, begin, carry_out, results
from billing_admin.flows.use import report_use
from catalog.models import Feature, Meter
from customers.models import Customer, Operation
from deals.models import Deal
from entitlements.models import (
    AcceptedEvent,
    Balance,
    FeatureOverride,
    Grant,
    MeterMember,
    OverrideBatch,
    UsageKey,
)
from entitlements.override import override
from tests import builders as a
from tests.builders import STAFF
from tests.instants import APRIL_1, MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db


def erase(who: Customer) -> None:
    Customer.objects.filter(pk=who.pk).update(closed_at=MARCH_16, erase_at=MARCH_16)
    erase_due(now=APRIL_1)


def test_reasons_of_overrides_and_grants_lose_the_name():
    who = a.customer("Ada Lovelace")
    credits = a.feature()
    override(who, credits, 5, effective_until=None, reason="Ada Lovelace asked", actor=STAFF, now=MARCH_1)
    wanted = Wanted(credits, Decimal(5), None, "For Ada Lovelace", metadata={"mail": "ada@example.com"})
    give_units(who, wanted, reason="Ada Lovelace asked", key="ada-1", actor=STAFF, now=MARCH_1)

    erase(who)

    assert FeatureOverride.objects.get().reason == "(erased) asked"
    grant = Grant.objects.get()
    assert (grant.label, grant.reason) == ("For (erased)", "(erased) asked")
    assert (grant.metadata, grant.idempotency_key) == ({}, None)


def test_a_batch_loses_the_id_that_stood_in_it_also_where_its_row_was_refused():
    who = a.customer(customer_id="ada@example.com")
    a.feature()
    rows = [Row(2, "ada@example.com", "credits", "many", None), Row(3, "globex", "credits", "5", None)]
    carry_out(begin(rows, "pilot", STAFF, MARCH_1), MARCH_1)

    erase(who)

    batch = OverrideBatch.objects.get()
    assert [kept["customer_id"] for kept in batch.rows] == ["(erased)", "globex"]
    assert batch.failures[0]["customer"] == "(erased)"


def test_use_that_was_accepted_is_dropped():
    who = a.customer()
    a.feature()
    accept([(who, Use("credits", key="ada-1", properties={"mail": "ada@example.com"}))], now=MARCH_1)

    erase(who)

    assert not AcceptedEvent.objects.exists()


def test_a_batch_keeps_what_it_says_of_others_and_its_act_loses_the_name():
    """A-52"""
    who = a.customer("Line", customer_id="acme")
    a.feature()
    rows = [Row(2, "acme", "credits", "5", None), Row(3, "acme-berlin", "credits", "many", None)]
    carry_out(begin(rows, "Line asked", STAFF, MARCH_1), MARCH_1)

    erase(who)

    batch = OverrideBatch.objects.get()
    assert [(kept["line"], kept["customer_id"]) for kept in batch.rows] == [(2, "(erased)"), (3, "acme-berlin")]
    assert batch.failures[0]["customer"] == "acme-berlin"
    assert [result.row.line for result in results(batch)] == [2, 3]
    assert set(Operation.objects.filter(customer=None).values_list("reason", flat=True)) == {"(erased) asked"}


def test_what_stands_for_keys_and_for_members_of_meters_goes_too():
    """A-52"""
    who = a.on(a.pro())
    a.use(who, 1, key="ada@example.com")
    members = Meter.objects.create(
        slug="users", name="Users", event_name="seen", aggregation="unique_count", property="mail"
    )
    users = a.allowance(10, of="users")
    Feature.objects.filter(slug="users").update(meter=members)
    a.enable(who, a.plan("people", users, of="people"))
    report_use(who, name="seen", properties={"mail": "ada@example.com"}, now=MARCH_1)
    assert (UsageKey.objects.count(), MeterMember.objects.count()) == (1, 1)

    erase(who)

    assert (UsageKey.objects.count(), MeterMember.objects.count()) == (0, 0)


def test_labels_of_balances_lose_the_name():
    """A-52"""
    who = a.customer("Ada Lovelace")
    give_units(who, Wanted(a.feature(), Decimal(5), None, "For Ada Lovelace"), reason="asked", actor=STAFF, now=MARCH_1)

    erase(who)

    assert Balance.objects.get().label == "For (erased)"


def test_deals_lose_the_name_the_signature_and_the_notes_and_keep_their_numbers():
    """A-52"""
    who = a.customer("Ada Lovelace")
    deal = create_deal(who, a.pro().current_version, name="Ada Lovelace, a year", actor=STAFF, now=MARCH_1)
    words = replace(read_terms(newest(deal)), introduction="For Ada Lovelace and her engine.", term_months=24)
    save_version(deal, words, message="As Ada Lovelace wished", actor=STAFF, now=MARCH_1)
    add_deal_note(deal, text="Ask Ada", actor=STAFF, now=MARCH_1)
    Deal.objects.update(accepted_by="Charles, by letter")

    erase(who)

    deal.refresh_from_db()
    version = newest(deal)
    assert (deal.name, deal.accepted_by) == ("(erased), a year", "(erased)")
    assert (read_terms(version).introduction, version.message) == ("For (erased) and her engine.", "As (erased) wished")
    assert read_terms(version).term_months == 24
    assert deal.notes.get().text == "(erased)"
