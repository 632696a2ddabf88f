"""Corrections of issued invoices."""

from decimal import Decimal
from fractions import Fraction

import pytest
from django.core.exceptions import ValidationError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing_admin.flows.cancel import cancel
from customers.journal import ReasonRequired
from invoicing.credit_note import (
    BadCredit,
    CannotUndo,
    LineRoom,
    credit,
    credit_room,
    pay_out,
    preview_credit,
    void_credit_note,
)
from invoicing.issue import receive_payment, void
from invoicing.models import Refund, TaxRate
from invoicing.readings import account_credit, billed_fees
from invoicing.taxes import LineTax, TaxTerms
from tests.builders import (
    STAFF,
    customer,
    enable,
    fee,
    on,
    pass_time,
    pay_all,
    plan,
    preview,
    pro,
    team,
    the_subscription,
)
from tests.instants import APRIL_1, MARCH_16

pytestmark = pytest.mark.django_db


def paid(*items, price=50):
    """A customer who has paid one invoice, and that invoice."""
    acme = on(plan("own", *items) if items else pro(price))
    return acme, acme.invoices.get()


def owing(price=50):
    acme = customer()
    [invoice] = enable(acme, pro(price)).invoices
    return acme, invoice


def give(invoice, *, settlement="account_credit", reason="they were down", now=MARCH_16, **what):
    note = credit(invoice, settlement=settlement, reason=reason, actor=STAFF, now=now, **what)
    invoice.refresh_from_db()
    return note


def undo(note, reason="wrong customer"):
    return void_credit_note(note, reason=reason, actor=STAFF, now=MARCH_16)


def lines_of(note):
    return [(line.description, line.amount, line.tax) for line in note.lines.all()]


def test_a_part_of_a_paid_invoice_becomes_account_credit():
    """Y-51"""
    acme, invoice = paid()

    note = give(invoice, amount=2000)

    assert (note.number, note.kind, note.state, note.total) == ("ACME-CN-0001", "credit_note", "paid", -2000)
    assert (note.corrects, note.settlement, account_credit(acme)) == (invoice, "account_credit", 2000)


def test_each_line_of_a_note_points_at_the_line_that_it_gives_back():
    """Y-51"""
    _, invoice = paid(fee(30, key="a"), fee(20, key="b"))
    _, second = invoice.lines.all()

    note = give(invoice, lines=[(second.pk, 500)])

    [line] = note.lines.all()
    assert (line.source, line.amount, line.kind, line.key) == (second, -500, "correction", "b")
    assert line.derivation["sum"] == "$5.00 of the $20.00 that nobody gave back of Own"


def test_an_amount_is_spread_over_what_is_left_of_the_lines():
    """Y-51"""
    _, invoice = paid(fee(30, key="a"), fee(20, key="b"))
    give(invoice, lines=[(invoice.lines.all()[0].pk, 3000)])

    note = give(invoice, amount=1000)

    assert [(line.key, line.amount) for line in note.lines.all()] == [("b", -1000)]


def test_the_whole_is_what_is_left():
    """Y-51"""
    _, invoice = paid()
    give(invoice, amount=1)

    assert give(invoice, whole=True).total == -4999


def test_a_preview_writes_nothing_and_says_what_it_would_do():
    """Y-51"""
    acme, invoice = paid()

    found = preview_credit(invoice, amount=2000, settlement="refund")

    assert (found.amount, found.sentence) == (2000, "$20.00 is paid back.")
    assert found.limits == (
        "$50.00 of ACME-0001 was paid with money and not given back; that can be refunded.",
        "$50.00 of ACME-0001 has not been credited yet.",
    )
    assert acme.invoices.count() == 1


def test_an_offset_cuts_what_is_owed():
    """Y-51"""
    _, invoice = owing()

    note = give(invoice, amount=2000, settlement="offset")

    assert (note.state, note.offsets, invoice.due, invoice.offset) == ("paid", invoice, 3000, 2000)


def test_an_open_invoice_that_is_offset_in_full_is_settled():
    """Y-51"""
    _, invoice = owing()

    give(invoice, whole=True, settlement="offset")

    assert (invoice.state, invoice.due) == ("paid", 0)


def test_no_more_than_is_owed_comes_off():
    """Y-51"""
    _, invoice = owing()
    receive_payment(invoice, amount=2000, reference="bank", actor=STAFF, now=MARCH_16)

    with pytest.raises(BadCredit, match=r"\$30.00 of ACME-0001 is still owed"):
        give(invoice, amount=3001, settlement="offset")


@pytest.mark.parametrize("settlement", ["refund", "account_credit"])
def test_no_more_than_was_paid_goes_back(settlement):
    """Y-51"""
    _, invoice = owing()
    receive_payment(invoice, amount=2000, reference="bank", actor=STAFF, now=MARCH_16)
    invoice.refresh_from_db()
    give(invoice, amount=1500, settlement=settlement)

    with pytest.raises(BadCredit, match=r"\$5.00 of ACME-0001 was paid"):
        give(invoice, amount=501, settlement=settlement)


def test_what_was_paid_from_account_credit_is_not_refunded():
    """Y-51"""
    acme, invoice = owing()
    receive_payment(invoice, amount=20000, reference="bank", actor=STAFF, now=MARCH_16)
    pass_time(acme, to=APRIL_1, pays=False)

    with pytest.raises(BadCredit, match=r"\$0.00 of ACME-0002 was paid with money"):
        give(acme.invoices.get(number="ACME-0002"), amount=100, settlement="refund")


def test_a_line_is_credited_up_to_what_is_left_of_it():
    """Y-51"""
    _, invoice = paid(fee(30, key="a"), fee(20, key="b"))
    line = invoice.lines.all()[1]
    give(invoice, lines=[(line.pk, 1500)])

    with pytest.raises(BadCredit, match=r"Only \$5.00 of Own is left to credit"):
        give(invoice, lines=[(line.pk, 501)])


def test_unused_time_that_was_given_back_is_not_credited_again():
    """Y-51"""
    acme, invoice = paid()
    enable(acme, team(), now=MARCH_16)
    given = -acme.invoices.exclude(pk=invoice.pk).get().lines.get(kind="unused").amount

    with pytest.raises(BadCredit, match="too much"):
        give(invoice, amount=5000 - given + 1)
    assert give(invoice, amount=5000 - given).total == given - 5000


@pytest.mark.parametrize(
    "what",
    [{}, {"amount": 0}, {"amount": -5}, {"lines": []}, {"amount": 5, "whole": True}, {"lines": [(0, 5)]}],
)
def test_a_credit_says_what_of_exactly_once(what):
    _, invoice = paid()

    with pytest.raises(BadCredit):
        give(invoice, **what)


def test_a_line_cannot_stand_twice_in_a_note():
    _, invoice = paid()
    line = invoice.lines.get()

    with pytest.raises(BadCredit, match="twice"):
        give(invoice, lines=[(line.pk, 1), (line.pk, 1)])


def test_where_the_money_goes_is_one_of_three():
    _, invoice = paid()

    with pytest.raises(BadCredit, match="account_credit, refund, offset"):
        give(invoice, amount=5, settlement="cash")


def test_a_credit_needs_a_reason():
    """Law 10"""
    _, invoice = paid()

    with pytest.raises(ReasonRequired):
        give(invoice, amount=5, reason=" ")


def test_void_invoices_and_credit_notes_take_no_correction():
    acme, settled = paid()
    note = give(settled, amount=5)
    pass_time(acme, to=APRIL_1, pays=False)
    renewal = void(acme.invoices.unpaid().get(), reason="wrong", actor=STAFF, now=APRIL_1)

    for refused in (renewal, note):
        with pytest.raises(BadCredit) as caught:
            preview_credit(refused, amount=5, settlement="account_credit")
        assert caught.value.code == "not_creditable"


def test_a_correction_stands_in_the_journal():
    """Law 10"""
    acme, invoice = paid()

    give(invoice, amount=2000)

    entry = acme.operations.newest()[0]
    assert (entry.verb, entry.summary, entry.reason) == (
        "invoice.credited",
        "Credited $20.00 of ACME-0001: account credit",
        "they were down",
    )


# Refunds


def test_a_refund_with_its_reference_is_paid_out():
    """Y-51"""
    acme, invoice = paid()

    note = give(invoice, amount=2000, settlement="refund", reference="sepa 7")

    refund = Refund.objects.get(credit_note=note)
    assert (refund.amount, refund.reference, account_credit(acme), note.state) == (2000, "sepa 7", 0, "paid")


def test_a_refund_can_be_paid_out_later_once():
    _, invoice = paid()
    note = give(invoice, amount=2000, settlement="refund")

    [refund] = pay_out(note, reference="sepa 8", actor=STAFF, now=APRIL_1)

    assert (refund.reference, refund.at) == ("sepa 8", APRIL_1)
    with pytest.raises(BadCredit, match="paid out already: sepa 8"):
        pay_out(note, reference="sepa 9", actor=STAFF, now=APRIL_1)


# Undoing


def test_a_voided_credit_note_takes_its_account_credit_back():
    """Y-51"""
    acme, invoice = paid()
    note = give(invoice, amount=2000)

    undo(note)

    assert account_credit(acme) == 0
    assert credit_room(invoice).most("account_credit") == 5000


def test_account_credit_that_was_used_is_not_taken_back():
    """Y-51"""
    acme, invoice = paid()
    note = give(invoice, amount=2000)
    pass_time(acme, to=APRIL_1, pays=False)

    with pytest.raises(CannotUndo, match=r"\$20.00 of ACME-CN-0001 was used already; \$0.00"):
        undo(note)


def test_a_voided_offset_is_owed_again():
    """Y-51"""
    _, invoice = owing()
    note = give(invoice, amount=2000, settlement="offset")

    undo(note)

    invoice.refresh_from_db()
    assert (invoice.due, invoice.offset) == (5000, 0)


def test_the_debt_of_a_settled_invoice_does_not_come_back():
    """Y-51"""
    _, invoice = owing()
    note = give(invoice, whole=True, settlement="offset")

    with pytest.raises(CannotUndo, match="ACME-0001 is paid"):
        undo(note)


def test_a_refund_that_was_paid_out_is_not_undone():
    """Y-51"""
    _, invoice = paid()
    note = give(invoice, amount=2000, settlement="refund", reference="sepa 7")

    with pytest.raises(CannotUndo, match="sepa 7"):
        undo(note)


def test_a_refund_that_nobody_paid_out_yet_is_undone():
    """Y-51"""
    _, invoice = paid()
    note = give(invoice, amount=2000, settlement="refund")

    undo(note)

    assert credit_room(invoice).most("refund") == 5000


def test_a_credit_note_is_voided_once():
    _, invoice = paid()
    note = give(invoice, amount=2000)
    undo(note)

    with pytest.raises(CannotUndo, match="void already"):
        undo(note)


def test_what_an_end_gave_back_is_not_voided():
    acme, _ = paid()
    _, [note] = cancel(the_subscription(acme), at_once=True, reason="moved away", actor=STAFF, now=MARCH_16)

    with pytest.raises(CannotUndo, match="change of plan"):
        undo(note)


# What later acts make of it


def test_a_fee_that_was_credited_shrinks_what_a_change_gives_back():
    """A-21"""
    acme, invoice = paid()
    give(invoice, amount=2500)

    [found] = billed_fees(the_subscription(acme), MARCH_16)

    assert (found.net, found.price) == (2500, Fraction(25))


def test_a_change_gives_back_the_unused_part_of_what_was_really_paid():
    """A-21"""
    acme, invoice = paid()
    dearer = team()
    whole = -preview(acme, dearer, now=MARCH_16).lines[0].amount
    give(invoice, amount=2500)

    assert -preview(acme, dearer, now=MARCH_16).lines[0].amount == pytest.approx(whole / 2, abs=1)


def test_a_voided_invoice_returns_only_what_nobody_gave_back():
    """Design 6"""
    acme, invoice = owing()
    receive_payment(invoice, amount=2000, reference="bank", actor=STAFF, now=MARCH_16)
    invoice.refresh_from_db()
    give(invoice, amount=1500)

    void(invoice, reason="wrong", actor=STAFF, now=MARCH_16)

    assert account_credit(acme) == 2000


def test_money_that_was_given_back_does_not_count_as_paid_for_a_change():
    """Design 4"""
    acme, invoice = owing()
    receive_payment(invoice, amount=2000, reference="bank", actor=STAFF, now=MARCH_16)
    invoice.refresh_from_db()
    give(invoice, amount=2000)

    [found] = billed_fees(the_subscription(acme), MARCH_16)

    assert found.paid_share == 0


# Taxes


def taxed(percent="19", *, inclusive=False):
    TaxRate.objects.create(name="VAT", percent=Decimal(percent), inclusive=inclusive, is_default=True)
    return paid()


def test_a_note_mirrors_the_tax_of_its_source():
    """Y-51"""
    _, invoice = taxed()

    note = give(invoice, lines=[(invoice.lines.get().pk, 1000)])

    assert (note.subtotal, note.tax_added, note.total) == (-1000, -190, -1190)


def test_an_amount_contains_its_tax():
    """Y-51"""
    _, invoice = taxed()

    note = give(invoice, amount=1190)

    assert (note.subtotal, note.tax_added) == (-1000, -190)


def test_inclusive_tax_is_mirrored_inside():
    """Y-51"""
    _, invoice = taxed(inclusive=True)

    note = give(invoice, whole=True)

    assert (note.total, note.tax_included) == (-5000, -invoice.tax_included)


def test_a_rate_that_changed_since_does_not_change_the_mirror():
    """Y-51"""
    _, invoice = taxed()
    TaxRate.objects.update(percent=Decimal(7))

    assert give(invoice, whole=True).total == -5950


TAXES = st.lists(st.tuples(st.decimals("0.1", "30", places=1), st.booleans(), st.integers(0, 3_000)), max_size=3)


@given(net=st.integers(1, 10_000), rates=TAXES, cuts=st.lists(st.integers(1, 10_000), max_size=8), gross=st.booleans())
def test_any_sequence_of_partial_notes_ends_at_the_line_and_its_tax(net, rates, cuts, gross):
    """Y-51: never beyond, and to the cent when all is credited."""
    taxes = tuple(LineTax(TaxTerms(i, "VAT", p, inside), 0, amount) for i, (p, inside, amount) in enumerate(rates))
    room = whole = LineRoom(1, "a", "Fee", net, taxes, "USD", net)
    drawn = []
    for cut in [*cuts, None]:
        if room.net <= 0 or room.gross <= 0:
            break
        if gross and room.added <= room.gross:
            drawn.append(room.part_of_gross(room.gross if cut is None else min(cut, room.gross)))
        else:
            drawn.append(room.part(room.net if cut is None else min(cut, room.net)))
        left = [tax.amount + mirrored.amount for tax, mirrored in zip(room.taxes, drawn[-1].taxes, strict=True)]
        assert all(amount >= 0 for amount in left)
        room = LineRoom(
            1,
            "a",
            "Fee",
            room.net + drawn[-1].line.amount,
            tuple(LineTax(tax.rate, 0, amount) for tax, amount in zip(taxes, left, strict=True)),
            "USD",
            net,
        )
        assert room.net >= 0
    assert -sum(part.line.amount for part in drawn) <= whole.net
    if room.net == 0:
        assert [tax.amount for tax in room.taxes] == [0] * len(taxes) or gross


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.integers(1, 4_000), st.sampled_from(["refund", "account_credit", "offset"]), st.booleans()),
        max_size=6,
    ),
    came=st.integers(1, 5_950),
)
def test_no_sequence_of_notes_returns_more_than_was_paid_or_owed(db, steps, came):
    """Y-51"""
    TaxRate.objects.update_or_create(name="VAT", defaults={"percent": Decimal(19), "is_default": True})
    acme = customer()
    [invoice] = enable(acme, plan(f"p{acme.pk}", fee(30, key="a"), fee(20, key="b"))).invoices
    receive_payment(invoice, amount=came, reference="bank", actor=STAFF, now=MARCH_16)
    invoice.refresh_from_db()
    notes = []
    for amount, settlement, undone in steps:
        if amount > credit_room(invoice).most(settlement):
            with pytest.raises(BadCredit):
                give(invoice, amount=amount, settlement=settlement)
            continue
        notes.append(give(invoice, amount=amount, settlement=settlement))
        if undone and invoice.due:
            undo(notes.pop())
            invoice.refresh_from_db()

    back = -sum(note.total for note in notes if note.offsets_id is None)
    assert back <= came
    assert -sum(note.total for note in notes) <= invoice.total
    assert -sum(note.tax_added for note in notes) <= invoice.tax_added
    assert invoice.due >= 0
    assert all(line.net <= 3000 for line in credit_room(invoice).lines)
    pay_all(acme, now=MARCH_16)


def test_settlements_are_refused_with_a_sentence():
    _, invoice = paid()

    with pytest.raises(ValidationError) as caught:
        give(invoice, amount=6000)

    assert caught.value.messages == ["$60.00 is too much: $50.00 of ACME-0001 is left to credit."]
