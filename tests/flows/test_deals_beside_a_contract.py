"""Deals with a customer who has the product already: reckoned for the day on which they take effect, and what is left
of them once they are carried out; and which of their parts were taken back."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest

from billing_admin.flows.deal_approval import submit
from billing_admin.flows.deal_reading import calendar_for, read_order_form
from billing_admin.flows.deal_taken_back import parts_of, taken_back_words
from billing_admin.flows.deals import CustomerMoved, amend, save_version, send
from billing_admin.flows.reprice import Wanted, ends_early
from billing_admin.flows.undo import undo
from customers.models import Customer
from deals.models import Deal
from deals.terms import NOW, DealCoupon, DealOverride, DealPhase, DealTerms
from tests.builders import STAFF, allowance, customer, enable, fee, on, pass_time, plan, pro, team, the_subscription
from tests.flows.coupon_world import percent
from tests.flows.deal_world import deal_of, done, planned, play, real, said, signed
from tests.instants import MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db
JUNE_16 = day("2026-06-16")


def running() -> tuple[Customer, Deal]:
    """A year at 80, then one at 90, carried out on 1 March; it is 16 June."""
    who = customer()
    deal = deal_of(who, plan("pro", fee(100), allowance(100, price="0.10")))
    deal = done(rewritten(deal, 80, 90, renews=False))
    pass_time(who, to=JUNE_16)
    return who, deal


def rewritten(deal: Deal, *amounts: int, now: datetime = MARCH_1, **changes) -> Deal:
    """The same with other fees, phase by phase."""
    terms = said(deal)
    rest = terms.phases[0].items[1:]
    phases = [
        DealPhase(f"Year {n}", None if n == len(amounts) else 12, (fee(amount), *rest))
        for n, amount in enumerate(amounts, 1)
    ]
    months = changes.pop("term_months", 12 * len(amounts))
    return written(deal, replace(terms, phases=tuple(phases), term_months=months, activation=NOW, **changes), now=now)


def written(deal: Deal, terms: DealTerms, *, now: datetime) -> Deal:
    save_version(deal, terms, actor=STAFF, now=now)
    deal.refresh_from_db()
    return deal


def dearer(deal: Deal, *, starts_at: datetime | None = None, now: datetime = JUNE_16) -> Deal:
    """Its amendment: 85 until the end of the first year, 120 in the second."""
    later = amend(deal, name="Acme 2026, amended", actor=STAFF, now=now)
    terms = said(later)
    first, second = terms.phases
    phases = (
        replace(first, items=(fee(85), *first.items[1:])),
        replace(second, items=(fee(120), *second.items[1:])),
    )
    return written(later, replace(terms, phases=phases, starts_at=starts_at), now=now)


# What is left of an executed one --------------------------------------------------------------------------------------


def test_an_executed_amendment_shows_the_invoices_that_its_contract_is_still_to_get():
    """Y-46"""
    _, deal = running()
    later = done(dearer(deal), now=JUNE_16)

    calendar = calendar_for(later, said(later), now=JUNE_16)

    assert [(invoice.at, invoice.net) for invoice in calendar.invoices][:2] == [
        (day("2026-07-01"), 8_500),
        (day("2026-08-01"), 8_500),
    ]
    assert (calendar.invoices[-1].at, calendar.invoices[8].net) == (day("2028-02-01"), 12_000)


def test_what_is_left_is_what_the_clock_then_bills():
    """Y-46"""
    who, deal = running()
    later = done(dearer(deal), now=JUNE_16)
    before = real(who)

    calendar = calendar_for(later, said(later), now=JUNE_16)
    play(who, said(later), calendar.term, since=JUNE_16)

    assert real(who)[len(before) :] == planned(calendar)


def test_what_is_left_becomes_less_as_time_passes():
    who, deal = running()
    later = done(dearer(deal), now=JUNE_16)

    pass_time(who, to=day("2027-03-02"))

    assert calendar_for(later, said(later), now=day("2027-03-02")).invoices[0].at == day("2027-04-01")


def test_an_amendment_for_a_day_to_come_shows_its_invoices_from_that_day_on():
    _, deal = running()
    later = done(dearer(deal, starts_at=day("2026-09-01")), now=JUNE_16)

    calendar = calendar_for(later, said(later), now=JUNE_16)

    assert (calendar.invoices[0].at, calendar.invoices[0].net) == (day("2026-09-01"), 8_500)


def test_an_amendment_that_was_amended_shows_invoices_until_the_next_one():
    _, deal = running()
    later = done(dearer(deal), now=JUNE_16)
    done(dearer(later, starts_at=day("2026-09-01"), now=JUNE_16), now=JUNE_16)

    calendar = calendar_for(later, said(later), now=JUNE_16)

    assert [invoice.at for invoice in calendar.invoices] == [day("2026-07-01"), day("2026-08-01")]


def test_what_an_amendment_is_worth_is_that_of_the_months_it_got():
    """Nine months at 85 and a year at 120, whatever is billed already."""
    _, deal = running()
    later = dearer(deal)
    open_worth = calendar_for(later, said(later), now=JUNE_16).value
    later = done(later, now=JUNE_16)

    assert calendar_for(later, said(later), now=day("2026-07-15")).value == open_worth


# The order form -------------------------------------------------------------------------------------------------------


def facts(deal: Deal, *, now: datetime) -> dict[str, str]:
    return {fact.name: fact.value for fact in read_order_form(deal, now=now).facts}


def test_a_form_for_a_start_to_come_says_the_same_on_whatever_day_it_is_printed():
    """Y-46"""
    who, deal = running()
    later = dearer(deal, starts_at=day("2026-09-01"))
    first = read_order_form(later, now=JUNE_16)

    pass_time(who, to=day("2026-08-10"))
    then = read_order_form(later, now=day("2026-08-10"))

    assert (first.invoices, first.totals, first.note) == (then.invoices, then.totals, then.note)
    assert facts(later, now=JUNE_16)["Reckoned for"] == "1 Sept 2026"


def test_what_is_printed_for_a_start_to_come_is_what_is_billed():
    """Y-46"""
    who, deal = running()
    later = dearer(deal, starts_at=day("2026-09-01"))
    calendar = calendar_for(later, said(later), now=JUNE_16)
    later = done(later, now=JUNE_16)
    pass_time(who, to=day("2026-08-31"))
    before = real(who)

    play(who, said(later), calendar.term, since=day("2026-09-01"))

    assert real(who)[len(before) :] == planned(calendar)


def test_a_form_for_no_day_says_for_which_one_it_was_reckoned():
    _, deal = running()
    later = dearer(deal)
    submit(later, actor=STAFF, now=JUNE_16)

    form = read_order_form(later, now=day("2026-06-20"))

    assert "Reckoned as if carried out on 20 Jun 2026" in form.note
    assert facts(later, now=day("2026-06-20"))["Reckoned for"] == "20 Jun 2026"


def test_a_form_is_out_of_date_once_the_contract_is_another():
    who, deal = running()
    later = dearer(deal)
    enable(who, deal.base_version.plan, quantity=3, now=JUNE_16)

    assert read_order_form(later, now=JUNE_16).notice.startswith("Out of date")


def test_a_deal_that_was_written_for_another_contract_is_not_sent():
    who, deal = running()
    later = dearer(deal)
    submit(later, actor=STAFF, now=JUNE_16)
    enable(who, deal.base_version.plan, quantity=3, now=JUNE_16)

    with pytest.raises(CustomerMoved):
        send(later, actor=STAFF, now=JUNE_16)


# Its parts ------------------------------------------------------------------------------------------------------------


def with_parts() -> Deal:
    """A plan, a coupon and another allowance."""
    percent(10, name="Launch")
    deal = deal_of(customer(), plan("pro", fee(100), allowance(100)))
    terms = replace(
        said(deal),
        activation=NOW,
        coupons=(DealCoupon("launch"),),
        overrides=(DealOverride("credits", Decimal(500), 0, 6),),
    )
    return done(written(deal, terms, now=MARCH_1))


def test_what_was_taken_back_of_a_deal_is_told_with_its_acts():
    """Y-47"""
    deal = with_parts()
    everything = len(parts_of(deal))
    act = next(part.act for part in parts_of(deal) if part.act.verb == "override.given")

    line = undo(act, reason="a typing error", actor=STAFF, now=MARCH_16)

    assert taken_back_words(parts_of(deal)) == f"1 of {everything} parts taken back"
    assert [part.taken_back_by for part in parts_of(deal) if part.taken_back_by] == [line]


def test_a_deal_of_which_everything_holds_says_nothing():
    assert taken_back_words(parts_of(with_parts())) == ""


def test_a_part_whose_undo_was_taken_back_holds_again():
    """Y-47"""
    deal = with_parts()
    act = next(part.act for part in parts_of(deal) if part.act.verb == "override.given")
    line = undo(act, reason="a typing error", actor=STAFF, now=MARCH_16)

    undo(line, reason="it was right", actor=STAFF, now=MARCH_16)

    assert taken_back_words(parts_of(deal)) == ""


def test_a_deal_that_is_not_carried_out_has_no_parts():
    assert parts_of(signed(deal_of(customer(), pro()))) == []


# Special prices that end with a change --------------------------------------------------------------------------------


def cheaper(**changes) -> Wanted:
    component = {"type": "fixed", "label": "Launch", "amount_cents": 100, "recurrence_rule": "RRULE:FREQ=MONTHLY"}
    return Wanted(**{"item_key": "base", "components": [component], **changes})


def test_a_special_price_says_that_a_change_to_come_ends_it():
    """L-27"""
    who = on(team())
    enable(who, pro(), now=MARCH_16)

    words = ends_early(the_subscription(who), cheaper(), now=MARCH_16)

    assert words == "It ends on 1 Apr 2026, with the change that is scheduled then: Base fee is not sold after it."


def test_a_special_price_that_is_used_up_before_the_change_is_not_warned_of():
    who = customer()
    deal = deal_of(who, plan("pro", fee(100), fee(10, key="support"), allowance(100)))
    terms = said(deal)
    items = terms.phases[0].items
    phases = (DealPhase("First", 6, items), DealPhase("Then", None, items[1:]))
    done(written(deal, replace(terms, phases=phases, activation=NOW), now=MARCH_1))

    short = ends_early(the_subscription(who), cheaper(cycles=2), now=MARCH_16)
    long = ends_early(the_subscription(who), cheaper(cycles=9), now=MARCH_16)

    assert short == ""
    assert long.startswith("It ends on 1 Sep 2026")


def test_a_special_price_of_an_item_that_goes_on_is_not_warned_of():
    assert ends_early(the_subscription(on(pro())), cheaper(), now=MARCH_16) == ""
