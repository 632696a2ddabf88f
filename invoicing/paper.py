"""A document as its customer reads it: one value, from which the page and the PDF are made.

`read_paper` reads; what it returns holds only text that is ready to be shown, in the customer's language.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from catalog.charges import STAIRSTEP, Price, Tier
from catalog.money import exponent, plain, round_half_away
from customers.models import Customer
from invoicing.lines import UNUSED
from invoicing.models import BillingSettings, Deduction, Invoice, InvoiceLine
from invoicing.providers import Way, ways_to_pay
from invoicing.states import InvoiceState
from invoicing.tongue import Tongue

GOOD, INFO, WAIT, BAD, OFF = "good", "info", "wait", "bad", "off"
BEHIND_A_LINE = ("item__feature", "phase__version__plan", "source__invoice")
DIGITS = 12  # of an exact amount that has no end


@dataclass(frozen=True, slots=True)
class Entry:
    """A name and what stands beside it. `tone`: `total` for a sum, `minor` for what is only said."""

    name: str
    value: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Party:
    name: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One line, and how it came about: the sum as it was made, and its facts."""

    text: str
    period: str
    quantity: str
    amount: str
    is_credit: bool
    sum: str
    facts: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """What the customer should know first."""

    tone: str
    headline: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Payment:
    """How to pay: a button where there is a page, else the words of a transfer; why it was not paid by itself."""

    text: str
    url: str
    instructions: str
    reference: str
    problem: str = ""
    problem_more: str = ""
    save_text: str = ""
    save_url: str = ""


@dataclass(frozen=True, slots=True)
class Paper:
    tongue: Tongue
    kind: str
    number: str
    state: Entry
    notice: Notice
    seller: Party
    buyer: Party
    facts: tuple[Entry, ...]
    rows: tuple[Row, ...]
    totals: tuple[Entry, ...]
    payments: tuple[Payment, ...]
    memo: str
    footer: str

    @property
    def title(self) -> str:
        return f"{self.kind} {self.number}"

    @property
    def words(self) -> dict[str, str]:
        return self.tongue.words


def find_issued(token: str) -> Invoice | None:
    """The issued document of a link; what is still a draft is not shown to anybody."""
    rows = Invoice.objects.exclude(state=InvoiceState.DRAFT).exclude(number=None)
    rows = rows.select_related("customer", "corrects", "offsets", "replaces", "gates__subscription")
    return rows.filter(token=token).first()


def read_paper(invoice: Invoice, *, is_gate: bool, now: datetime) -> Paper:
    """`is_gate`: somebody's plan starts when it is paid. Six queries beyond the document itself."""
    tongue = Tongue.of(invoice.customer.locale)
    account = BillingSettings.present()
    deductions = list(invoice.deductions.all())
    lines = list(invoice.lines.select_related(*BEHIND_A_LINE))
    return Paper(
        tongue=tongue,
        kind=tongue.words[invoice.kind],
        number=invoice.number or "",
        state=_state(invoice, tongue, now),
        notice=_notice(invoice, tongue, is_gate=is_gate, now=now),
        seller=seller_of(account, tongue),
        buyer=buyer_of(invoice.customer, tongue),
        facts=tuple(_facts(invoice, tongue)),
        rows=tuple(row(line, invoice.currency, tongue, deductions) for line in lines),
        totals=tuple(totals(invoice, lines, deductions, tongue)),
        payments=tuple(_payment(way, invoice, tongue) for way in ways_to_pay(invoice, account)),
        memo="" if invoice.kind == Invoice.Kind.CREDIT_NOTE else invoice.memo,  # there: why, for staff
        footer=account.invoice_footer,
    )


# Who, and when ------------------------------------------------------------------------------------------------------


def seller_of(account: BillingSettings, tongue: Tongue) -> Party:
    """The letterhead."""
    number = account.company_tax_number
    lines = account.company_address.splitlines() + ([f"{tongue.say('tax_number')} {number}"] if number else [])
    return Party(account.company_name, tuple(line.strip() for line in lines if line.strip()))


def buyer_of(customer: Customer, tongue: Tongue) -> Party:
    lines = [*customer.billing_address.splitlines(), customer.email]
    if customer.tax_number:
        lines.append(f"{tongue.say('tax_number')} {customer.tax_number}")
    return Party(customer.name, tuple(line.strip() for line in lines if line.strip()))


def _facts(invoice: Invoice, tongue: Tongue) -> Iterable[Entry]:
    assert invoice.issued_at is not None
    yield Entry(tongue.say("number"), invoice.number or "")
    yield Entry(tongue.say("issued"), tongue.date(invoice.issued_at))
    if invoice.due_at and invoice.due and invoice.expires_at is None:
        yield Entry(tongue.say("due_by"), tongue.date(invoice.due_at))
    if invoice.covers_from:
        yield Entry(tongue.say("covers"), tongue.span(invoice.covers_from, invoice.covers_until))
    if invoice.corrects:
        yield Entry(tongue.say("corrects"), str(invoice.corrects))
    if invoice.replaces:
        yield Entry(tongue.say("replaces"), str(invoice.replaces))


def is_overdue(invoice: Invoice, now: datetime) -> bool:
    """Not paid a day after it was due: what is due at once is not late in the same hour."""
    late = invoice.due_at is not None and (now - invoice.due_at).days >= 1
    return invoice.kind == Invoice.Kind.INVOICE and invoice.state == InvoiceState.OPEN and late


def _state(invoice: Invoice, tongue: Tongue, now: datetime) -> Entry:
    """The word for its state, with the tone of its dot."""
    if invoice.state == InvoiceState.VOID:
        return Entry(tongue.say("state_void"), "", OFF)
    if invoice.kind == Invoice.Kind.CREDIT_NOTE:
        return Entry(tongue.say("state_issued"), "", GOOD)
    if invoice.state == InvoiceState.PAID:
        return Entry(tongue.say("state_paid"), "", GOOD)
    if invoice.state == InvoiceState.UNCOLLECTIBLE or is_overdue(invoice, now):
        return Entry(tongue.say("state_overdue"), "", BAD)
    return Entry(tongue.say("state_open"), "", INFO)


def _notice(invoice: Invoice, tongue: Tongue, *, is_gate: bool, now: datetime) -> Notice:
    if invoice.state == InvoiceState.VOID:
        return _void_notice(invoice, tongue)
    if invoice.kind == Invoice.Kind.CREDIT_NOTE:
        return _note_notice(invoice, tongue)
    if invoice.state == InvoiceState.PAID:
        paid = invoice.paid and invoice.paid_at
        if not paid:
            return Notice(GOOD, tongue.say("is_nothing"), tongue.say("is_nothing_more"))
        return Notice(GOOD, tongue.say("is_paid", date=tongue.date(paid)), tongue.say("is_paid_more"))
    amount = tongue.money(invoice.due, invoice.currency)
    if is_gate:
        until = invoice.expires_at
        more = tongue.say("is_pending_more", until=tongue.instant(until)) if until else tongue.say("is_pending_open")
        return Notice(WAIT, tongue.say("is_pending", amount=amount), more)
    if invoice.due_at is None:
        return Notice(INFO, tongue.say("is_due_now", amount=amount))
    date = tongue.date(invoice.due_at)
    if is_overdue(invoice, now):
        return Notice(BAD, tongue.say("is_overdue", amount=amount, date=date), tongue.say("is_overdue_more"))
    return Notice(INFO, tongue.say("is_due", amount=amount, date=date))


def _void_notice(invoice: Invoice, tongue: Tongue) -> Notice:
    if invoice.kind == Invoice.Kind.CREDIT_NOTE:
        return Notice(OFF, tongue.say("is_void_note"), tongue.say("is_void_note_more"))
    more = tongue.say("is_void_late" if invoice.gates_id else "is_void_more")
    if following := invoice.replaced_by.exclude(number=None).first():
        more = f"{more} {tongue.say('replaced_by', number=following)}"
    return Notice(OFF, tongue.say("is_void"), more)


def _note_notice(invoice: Invoice, tongue: Tongue) -> Notice:
    amount = tongue.money(-invoice.total, invoice.currency)
    if invoice.settlement == Invoice.Settlement.REFUND:
        references = list(invoice.refunds.values_list("reference", flat=True))
        if not references or not all(references):
            return Notice(INFO, tongue.say("to_refund_open", amount=amount))
        more = tongue.say("to_refund_more", reference=", ".join(sorted(set(references))))
        return Notice(GOOD, tongue.say("to_refund", amount=amount), more)
    if invoice.offsets:
        return Notice(GOOD, tongue.say("to_offset", amount=amount, number=invoice.offsets))
    return Notice(GOOD, tongue.say("to_account_credit", amount=amount), tongue.say("to_account_credit_more"))


def _payment(way: Way, invoice: Invoice, tongue: Tongue) -> Payment:
    text = tongue.say("pay_with", amount=tongue.money(invoice.due, invoice.currency))
    more = "failed_action_more" if way.failed == "failed_action" else "failed_more"
    return Payment(
        text,
        way.url,
        way.instructions,
        way.reference,
        problem=tongue.say(way.failed) if way.failed else "",
        problem_more=tongue.say(more) if way.failed else "",
        save_text=tongue.say("save_method" if way.has_saved else "save_first_method"),
        save_url=way.save_url,
    )


# Lines --------------------------------------------------------------------------------------------------------------


def row(line: InvoiceLine, currency: str, tongue: Tongue, deductions: Sequence[Deduction] = ()) -> Row:
    """A line as people read it; `deductions` are those of its document."""
    return Row(
        text=tongue.retell(line.description, currency),
        period=tongue.span(line.starts_at, line.ends_at),
        quantity=tongue.number(line.quantity.normalize()) if line.quantity else "",
        amount=tongue.money(line.amount, currency),
        is_credit=line.amount < 0,
        sum=tongue.retell(str(line.derivation.get("sum", "")), currency),
        facts=tuple(line_facts(line, currency, tongue, deductions)),
    )


def line_facts(
    line: InvoiceLine, currency: str, tongue: Tongue, deductions: Sequence[Deduction] = ()
) -> Iterable[Entry]:
    """What a line's amount rests on: version, tiers, rounding, its part of deductions, tax, and what it gives back."""
    if line.phase:
        yield Entry(tongue.say("plan"), _version_words(line, tongue))
    price = line.item.terms().price if line.item_id and line.item and line.item.price else None
    if price and price.tiers:
        yield Entry(tongue.say("price"), "; ".join(_tier_words(price, currency, tongue)))
    if exact := exact_amount(line, currency):
        amount = tongue.money(line.amount, currency)
        yield Entry(tongue.say("rounding"), tongue.say("rounded", exact=_exact_words(exact, tongue), amount=amount))
    if line.discounted:
        yield _deducted(line.discounted, Deduction.Kind.DISCOUNT, "discount", currency, tongue, deductions)
    if line.credited:
        yield _deducted(line.credited, Deduction.Kind.INVOICE_CREDIT, "credit", currency, tongue, deductions)
    for tax in line.taxes:
        key = "tax_line_inside" if tax["inclusive"] else "tax_line"
        yield Entry(tongue.say("tax"), _tax_words(key, tax, currency, tongue))
    if line.source:
        told = tongue.retell(line.source.description, currency)
        yield Entry(tongue.say("source"), tongue.say("source_line", line=told, number=line.source.invoice))


def _version_words(line: InvoiceLine, tongue: Tongue) -> str:
    assert line.phase is not None
    version = line.phase.version
    key = "plan_tailored" if version.tailored else "plan_version"
    return tongue.say(key, plan=version.plan.invoice_display_name, number=version.number)


def _tier_words(price: Price, currency: str, tongue: Tongue) -> Iterable[str]:
    for tier in price.tiers:
        words = " + ".join(_tier_price(price, tier, currency, tongue))
        if tier.up_to is not None:
            yield tongue.say("tier_to", upto=tongue.number(tier.up_to), price=words)
        else:
            yield tongue.say("tier_rest" if len(price.tiers) > 1 else "tier_only", price=words)


def _tier_price(price: Price, tier: Tier, currency: str, tongue: Tongue) -> Iterable[str]:
    if price.model != STAIRSTEP and (tier.unit or not tier.flat):
        amount = tongue.rate(tier.unit, currency)
        pack = "" if price.pack == 1 else tongue.number(price.pack)
        yield tongue.say("per_pack", amount=amount, pack=pack) if pack else tongue.say("each", amount=amount)
    if tier.flat or price.model == STAIRSTEP:
        yield tongue.say("flat", amount=tongue.rate(tier.flat, currency))


def exact_amount(line: InvoiceLine, currency: str) -> Fraction | None:
    """What a line came to before it was rounded, in major units; None where it was exact, or nobody can tell."""
    facts = line.derivation
    if "exact" in facts:
        exact = Fraction(facts["exact"])
    elif "price" in facts and "share" in facts:
        exact = Fraction(facts["price"]) * Fraction(facts["share"])
    elif line.kind == UNUSED and "price" in facts and facts.get("periodSeconds"):
        exact = -Fraction(facts["price"]) * Fraction(facts["seconds"], facts["periodSeconds"])
    else:
        return None
    minor = exact * 10 ** exponent(currency)
    return exact if minor.denominator != 1 and round_half_away(minor) == line.amount else None


def _exact_words(exact: Fraction, tongue: Tongue) -> str:
    """All its digits, or the first dozen of those without an end."""
    value = round(Decimal(exact.numerator) / exact.denominator, DIGITS)
    whole = Fraction(value) == exact
    text = tongue.number(Decimal(plain(value)) if whole else round(value, 6))
    return text if whole else f"{text}…"


def _deducted(
    amount: int, kind: str, key: str, currency: str, tongue: Tongue, deductions: Sequence[Deduction]
) -> Entry:
    names = [deduction.label for deduction in deductions if deduction.kind == kind]
    taken = tongue.money(-amount, currency)
    words = tongue.say("of_deduction", label=", ".join(names), amount=taken) if names else ""
    return Entry(tongue.say(key), words or tongue.say("share", amount=taken))


def _tax_words(key: str, tax: dict, currency: str, tongue: Tongue) -> str:
    rate = f"{tax['name']} {tongue.number(Decimal(tax['percent']))} %"
    net, amount = tongue.money(tax["taxable"], currency), tongue.money(tax["amount"], currency)
    return tongue.say(key, rate=rate, net=net, amount=amount)


# Totals -------------------------------------------------------------------------------------------------------------


def totals(
    invoice: Invoice, lines: Iterable[InvoiceLine], deductions: Sequence[Deduction], tongue: Tongue
) -> Iterable[Entry]:
    """From the lines to what is due, one row for each step that there was."""
    currency = invoice.currency
    taxes = tax_sums(lines)
    is_note = invoice.kind == Invoice.Kind.CREDIT_NOTE

    def money(minor: int) -> str:
        return tongue.money(minor, currency)

    if deductions or taxes:
        yield Entry(tongue.say("subtotal"), money(invoice.subtotal))
    for taken in deductions:
        is_credit = taken.kind == Deduction.Kind.INVOICE_CREDIT
        name = tongue.say("invoice_credit", label=taken.label) if is_credit else taken.label
        yield Entry(name, money(-taken.amount))
    for tax in taxes:
        facts = {"rate": f"{tax.name} {tongue.number(tax.percent)} %", "net": money(tax.taxable)}
        key, tone = ("tax_inside", "minor") if tax.inclusive else ("tax_on", "")
        yield Entry(tongue.say(key, **facts), money(tax.amount), tone)
    yield Entry(tongue.say("total_credited" if is_note else "total"), money(invoice.total), "total")
    if is_note or invoice.state == InvoiceState.DRAFT:
        return
    if invoice.state != InvoiceState.VOID:
        yield from _settled(invoice, tongue)
    yield Entry(tongue.say("due"), money(invoice.due), "total")


def _settled(invoice: Invoice, tongue: Tongue) -> Iterable[Entry]:
    currency = invoice.currency
    if invoice.credit_applied:
        yield Entry(tongue.say("account_credit"), tongue.money(-invoice.credit_applied, currency))
    if invoice.offset:
        notes = list(invoice.offset_by.exclude(state=InvoiceState.VOID).order_by("id"))
        for note in notes:
            yield Entry(tongue.say("offset_by", number=note), tongue.money(note.total, currency))
        if rest := invoice.offset + sum(note.total for note in notes):
            yield Entry(tongue.say("offset"), tongue.money(-rest, currency))
    payments = list(invoice.payments.all())
    for payment in payments:
        yield Entry(tongue.say("payment", date=tongue.date(payment.at)), tongue.money(-payment.amount, currency))
    if more := sum(payment.amount for payment in payments) - invoice.paid:
        yield Entry(tongue.say("overpaid"), tongue.money(more, currency))


@dataclass(frozen=True, slots=True)
class TaxSum:
    """All of one rate on a document, in minor units."""

    name: str
    percent: Decimal
    inclusive: bool
    taxable: int
    amount: int


def tax_sums(lines: Iterable[InvoiceLine]) -> list[TaxSum]:
    """Per rate, as its lines keep them, in the order in which they first appear."""
    sums: dict[tuple[str, str, bool], tuple[int, int]] = {}
    for line in lines:
        for tax in line.taxes:
            key = tax["name"], tax["percent"], tax["inclusive"]
            taxable, amount = sums.get(key, (0, 0))
            sums[key] = taxable + tax["taxable"], amount + tax["amount"]
    return [
        TaxSum(name, Decimal(percent), inclusive, taxable, amount)
        for (name, percent, inclusive), (taxable, amount) in sums.items()
    ]
