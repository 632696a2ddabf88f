"""Amounts and lines as Stripe takes them, and the next step read off both sides."""

from datetime import UTC, datetime
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invoicing.models import Deduction, Invoice, InvoiceLine
from payments.facts import InvoiceFacts, LineFacts, PaymentFacts
from payments.lines import MOST, SentLine, sent_lines
from payments.minor import NotInStripe, from_stripe, least, to_stripe
from payments.steps import Act, Owed, meaning_of, next_step

# Currency, our minor units, Stripe's: what it documents for each kind of currency.
TABLE = [
    ("USD", 1099, 1099),
    ("EUR", -50, -50),
    ("JPY", 1200, 1200),
    ("KRW", 10000, 10000),
    ("CLP", 990, 990),
    ("VND", 25000, 25000),
    ("XAF", 655, 655),
    ("RWF", 1300, 1300),
    ("PYG", 7000, 7000),
    ("KWD", 12340, 12340),
    ("BHD", 5000, 5000),
    ("TND", 1230, 1230),
    ("ISK", 500, 50000),
    ("UGX", 3700, 370000),
    ("HUF", 12345, 12345),
    ("TWD", 80045, 80045),
]


@pytest.mark.parametrize(("currency", "ours", "theirs"), TABLE)
def test_an_amount_goes_to_stripe_and_back(currency: str, ours: int, theirs: int):
    assert to_stripe(ours, currency) == theirs
    assert from_stripe(theirs, currency) == ours


def test_three_decimals_end_in_a_zero_for_stripe():
    with pytest.raises(NotInStripe, match="round it to two decimals"):
        to_stripe(12345, "KWD")


def test_what_stripe_has_finer_than_we_do_is_no_amount_of_ours():
    with pytest.raises(NotInStripe):
        from_stripe(50050, "ISK")


@pytest.mark.parametrize(("currency", "minor"), [("USD", 50), ("JPY", 50), ("HUF", 17500), ("GBP", 30), ("KWD", 0)])
def test_the_least_charge_is_in_our_units(currency: str, minor: int):
    assert least(currency) == minor


# Lines ----------------------------------------------------------------------------------------------------------------

amounts = st.integers(-50_000, 200_000)
taxes = st.lists(st.tuples(st.booleans(), st.integers(0, 9_000)), max_size=3)


def line(position: int, amount: int, of: list[tuple[bool, int]]) -> InvoiceLine:
    names = ["VAT", "Sales tax", "City tax"]
    rates = [
        {"id": n, "name": names[n], "percent": "7", "inclusive": inclusive, "amount": tax, "net": amount}
        for n, (inclusive, tax) in enumerate(of)
    ]
    return InvoiceLine(position=position, description=f"Line {position}", amount=amount, quantity=1, taxes=rates)


@given(
    st.lists(st.tuples(amounts, taxes), min_size=1, max_size=8),
    st.lists(st.integers(1, 5_000), max_size=3),
    st.tuples(st.integers(0, 900), st.integers(0, 900), st.integers(0, 900)),
    st.sampled_from([0, MOST, MOST + 60]),
)
def test_what_is_sent_sums_to_what_is_due(parts, off, settled, more):
    """With discounts, invoice credits, taxes, account credit, offsets and part payments; also beyond 250 lines."""
    position = count()
    lines = [line(next(position), amount, of) for amount, of in [*parts, *[(7, [])] * more]]
    deductions = [Deduction(position=n, label=f"Coupon {n}", amount=amount) for n, amount in enumerate(off)]
    added = sum(tax["amount"] for each in lines for tax in each.taxes if not tax["inclusive"])
    total = sum(each.amount for each in lines) - sum(off) + added
    credit, offset, paid = settled
    invoice = Invoice(number="ACME-0001", total=total, credit_applied=credit, offset=offset, paid=paid, state="open")

    sent = sent_lines(invoice, lines, deductions)

    assert sum(each.amount for each in sent) == invoice.due
    assert len({each.key for each in sent}) == len(sent) <= 250
    assert all(each.description for each in sent)


# The next step --------------------------------------------------------------------------------------------------------

MARCH = datetime(2026, 3, 1, tzinfo=UTC)
LINES = (SentLine("line-0", "Fee", 6000), SentLine("account-credit", "Account credit", -1000))
SENT = (LineFacts("il_1", "line-0", 6000), LineFacts("il_2", "account-credit", -1000))


def owed(state: str = "open", due: int = 5000, *, may_charge: bool = False, stopped: bool = False) -> Owed:
    return Owed(state, due, "USD", LINES, may_charge=may_charge, stopped=stopped)


def seen(status: str, *, total: int = 5000, remaining: int | None = None, lines=SENT, paying: str = "") -> InvoiceFacts:
    payments = (PaymentFacts("pi_1", paying, total, at=MARCH),) if paying else ()
    left = total if remaining is None else remaining
    return InvoiceFacts("in_1", status, "USD", "cus_1", total, total, 0, left, lines=lines, payments=payments)


STEPS = [
    ("nothing there", owed(), None, Act.CREATE),
    ("nothing there, may charge", owed(may_charge=True), None, Act.CREATE),
    ("nothing there, settled here", owed("paid", 0), None, Act.NOTHING),
    ("nothing there, void here", owed("void", 0), None, Act.NOTHING),
    ("nothing there, stopped", owed(stopped=True), None, Act.NOTHING),
    ("below the least", owed(due=5000 - 4960), None, Act.PARK),
    ("an empty draft", owed(), seen("draft", total=0, lines=()), Act.ADD_LINES),
    ("half a draft", owed(), seen("draft", total=6000, lines=SENT[:1]), Act.ADD_LINES),
    ("a whole draft", owed(), seen("draft"), Act.FINALIZE),
    ("a draft with a balance there", owed(), InvoiceFacts("in_1", "draft", "USD", "c", 5000, 4700, 0, 4700, lines=SENT),
     Act.PARK),
    ("a draft with tax there", owed(), seen("draft", total=5350), Act.PARK),
    ("a draft with a foreign line", owed(), seen("draft", total=5100, lines=(*SENT, LineFacts("il_3", "", 100))),
     Act.PARK),
    ("a draft of what was owed before", owed(), seen("draft", lines=(LineFacts("il_1", "line-0", 5500),)), Act.DISCARD),
    ("a draft with a line twice", owed(), seen("draft", lines=(*SENT, SENT[0])), Act.DISCARD),
    ("a draft of what is void", owed("void", 0), seen("draft"), Act.DISCARD),
    ("a draft of what is paid", owed("paid", 0), seen("draft"), Act.DISCARD),
    ("a draft that is stopped", owed(stopped=True), seen("draft"), Act.DISCARD),
    ("open, no card", owed(), seen("open"), Act.NOTHING),
    ("open, a card", owed(may_charge=True), seen("open"), Act.CHARGE),
    ("open, money moves", owed(may_charge=True), seen("open", paying="processing"), Act.NOTHING),
    ("open, its owner is asked", owed(may_charge=True), seen("open", paying="requires_action"), Act.NOTHING),
    ("open, void here", owed("void", 0), seen("open"), Act.VOID),
    ("open, void here, its owner is asked", owed("void", 0), seen("open", paying="requires_action"), Act.VOID),
    ("open, void here, money moves", owed("void", 0), seen("open", paying="processing"), Act.NOTHING),
    ("open, paid here", owed("paid", 0), seen("open"), Act.SETTLE_OUTSIDE),
    ("open, paid here, money moves", owed("paid", 0), seen("open", paying="processing"), Act.NOTHING),
    ("open, given up here", owed("uncollectible"), seen("open"), Act.GIVE_UP),
    ("open, less is due here", owed(due=3000), seen("open"), Act.CREDIT),
    ("open, more is due here", owed(due=7000), seen("open"), Act.PARK),
    ("open, stopped", owed(stopped=True), seen("open"), Act.VOID),
    ("given up there, void here", owed("void", 0), seen("uncollectible"), Act.VOID),
    ("given up there, paid here", owed("paid", 0), seen("uncollectible"), Act.SETTLE_OUTSIDE),
    ("given up on both sides", owed("uncollectible"), seen("uncollectible"), Act.NOTHING),
    ("paid there", owed(), seen("paid", remaining=0), Act.NOTHING),
    ("void there", owed(), seen("void"), Act.NOTHING),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs", "act"), [row[1:] for row in STEPS], ids=[row[0] for row in STEPS])
def test_the_next_step_is_read_off_both_sides(ours: Owed, theirs: InvoiceFacts | None, act: Act):
    assert next_step(ours, theirs).act == act


def test_a_credit_takes_what_is_not_due_any_more():
    assert next_step(owed(due=3000), seen("open")).amount == 2000


def test_only_missing_lines_are_added():
    step = next_step(owed(), seen("draft", total=6000, lines=SENT[:1]))

    assert [each.key for each in step.lines] == ["account-credit"]


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (next_step(owed(due=40), None), "lines_do_not_sum"),
        (next_step(Owed("open", 40, "USD", (SentLine("line-0", "Fee", 40),)), None), "below_minimum"),
        (next_step(Owed("open", 12345, "KWD", (SentLine("line-0", "Fee", 12345),)), None), "too_fine_for_stripe"),
        (next_step(owed(), seen("draft", total=5350)), "total_mismatch"),
        (next_step(owed(), seen("draft", lines=(*SENT, LineFacts("il_3", "", 100)))), "foreign_line"),
        (next_step(owed(due=7000), seen("open")), "asks_for_less"),
    ],
)
def test_what_a_person_has_to_see_to_has_a_code_and_a_sentence(step, code: str):
    assert (step.act, step.code) == (Act.PARK, code)
    assert step.why.endswith(".")


# What Stripe's state means --------------------------------------------------------------------------------------------


def attempt(status: str, **more) -> PaymentFacts:
    return PaymentFacts("pi_1", status, 5000, at=MARCH, **more)


MEANINGS = [
    ("open", (), "needs_method"),
    ("open", (attempt("processing"),), "processing"),
    ("open", (attempt("requires_action"),), "requires_action"),
    ("open", (attempt("requires_payment_method", code="card_declined"),), "declined"),
    ("open", (attempt("requires_payment_method", decline_code="authentication_required"),), "requires_action"),
    ("open", (attempt("canceled", code="card_declined"),), "needs_method"),
    ("paid", (attempt("succeeded", received=5000),), "paid"),
    ("paid", (), "paid_outside"),
    ("paid", (attempt("succeeded", received=5000, refunded=100),), "partially_refunded"),
    ("paid", (attempt("succeeded", received=5000, refunded=5000),), "refunded"),
    ("paid", (attempt("succeeded", received=5000, disputed=True, dispute_status="needs_response"),), "disputed"),
    ("paid", (attempt("succeeded", received=5000, disputed=True, dispute_status="lost"),), "dispute_lost"),
    ("paid", (attempt("succeeded", received=5000, disputed=True, dispute_status="won"),), "paid"),
    ("void", (), "void"),
    ("uncollectible", (), "uncollectible"),
    ("draft", (), "waiting"),
]


@pytest.mark.parametrize(("status", "payments", "state"), MEANINGS)
def test_stripes_state_has_a_word_here(status: str, payments: tuple[PaymentFacts, ...], state: str):
    facts = InvoiceFacts("in_1", status, "USD", "cus_1", 5000, 5000, 0, 5000, payments=payments)

    assert meaning_of(facts, method="charge_automatically", has_card=False).state == state
