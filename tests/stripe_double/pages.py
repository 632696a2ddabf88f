"""What a browser sees of Stripe: the page that pays an invoice, its PDF, 3-D Secure, the script for our own page."""

import re
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from tests.stripe_double import documents, methods, payments, settling, setups
from tests.stripe_double.errors import StripeError, declined
from tests.stripe_double.lines import lines_of
from tests.stripe_double.money import shown
from tests.stripe_double.state import Thing, World

HTML = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store"}


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def html(title: str, body: str, status: int = 200) -> Reply:
    return Reply(status, documents.page(title, body), HTML)


def go(url: str) -> Reply:
    return Reply(303, b"", {"Location": url})


def answer(world: World, method: str, path: str, form: dict[str, Any]) -> Reply:
    """Any path that is neither API nor control."""
    if path == "/js/stripe.js":
        script = (documents.FOLDER / "stripe.js").read_bytes()
        return Reply(
            200, script, {"Content-Type": "text/javascript; charset=utf-8", "Access-Control-Allow-Origin": "*"}
        )
    if match := re.fullmatch(r"/i/([^/]+/[^/]+)(/pdf.*)?", path):
        invoice = world.find(world.tokens.get(match[1]))
        if invoice:
            return pdf_of(world, invoice) if match[2] else hosted(world, invoice, method, form)
    if match := re.fullmatch(r"/3ds/(\w+)", path):
        intent = world.find(match[1])
        if intent:
            return prove(world, intent, form) if method == "POST" else ask(intent, form)
    if match := re.fullmatch(r"/receipts/(\w+)", path):
        charge = world.find(match[1])
        if charge:
            paid = shown(charge["amount"], charge["currency"])
            return html("Receipt", f"<h1>{escape(paid)}</h1><p>Paid. Receipt for {escape(charge['id'])}.</p>")
    return html("Not found", "<h1>Not found</h1><p>There is nothing at this address.</p>", 404)


# -- the hosted invoice page -------------------------------------------------------------------------------------------


def hosted(world: World, invoice: Thing, method: str, form: dict[str, Any]) -> Reply:
    problem = ""
    if method == "POST" and invoice["status"] in {"open", "uncollectible"}:
        try:
            if asked := pay(world, invoice, form):
                return go(asked)
            return go(own_url(invoice, form))
        except StripeError as error:
            problem = str(error)
    return html(f"Invoice {invoice['number']}", content(world, invoice, form, problem), 402 if problem else 200)


def own_url(invoice: Thing, form: dict[str, Any]) -> str:
    back = form.get("return", "")
    return invoice["hosted_invoice_url"] + (f"?return={quote(back, safe='')}" if back else "")


def pay(world: World, invoice: Thing, form: dict[str, Any]) -> str:
    """Charge the card of the form; the address of the 3-D Secure page when the owner must prove to be there."""
    settling.refuse_while_processing(world, invoice)
    number = str(form.get("number", "")).replace(" ", "")
    month, year = expiry(str(form.get("expiry", "")), number)
    methods.check_expiry(world, {"exp_month": month, "exp_year": year})
    method = methods.create_method(world, number, exp_month=month, exp_year=year)
    intent = settling.intent_of(world, invoice)
    assert intent
    error = payments.attempt(world, intent, method, off_session=False, return_url=own_url(invoice, form))
    if error:
        raise error
    return f"{world.url}/3ds/{intent['id']}" if intent["status"] == "requires_action" else ""


def expiry(text: str, number: str) -> tuple[int, int]:
    if number[:2].isalpha():
        return 12, 2099  # a bank account has none
    match = re.fullmatch(r"\s*(\d{1,2})\s*/\s*(\d{2}|\d{4})\s*", text)
    if not match:
        raise declined("Your card's expiration date is incomplete.", code="incomplete_expiry")
    year = int(match[2])
    return int(match[1]), year if year > 99 else 2000 + year


def content(world: World, invoice: Thing, form: dict[str, Any], problem: str) -> str:
    currency = invoice["currency"]
    due = shown(invoice["amount_remaining"] or invoice["amount_paid"], currency)
    rows = [(line["description"] or "Item", shown(line["amount"], currency)) for line in lines_of(world, invoice)]
    head = f"<h1>{escape(due)}</h1><p>Invoice {escape(invoice['number'] or '')}"
    head += f" for {escape(invoice['customer_name'])}</p>" if invoice["customer_name"] else "</p>"
    rows.append(("Total", shown(invoice["total"], currency)))
    if invoice["status"] == "open" and invoice["amount_remaining"] != invoice["total"]:
        rows.append(("Amount due", due))
    body = documents.table(rows)
    return head + body + ending(world, invoice, form, problem, due)


def ending(world: World, invoice: Thing, form: dict[str, Any], problem: str, due: str) -> str:
    """The form while there is something to pay, else one sentence and the way back."""
    intent = settling.intent_of(world, invoice) or {}
    pdf = f'<p><a href="{invoice["invoice_pdf"]}">Download the PDF</a></p>'
    if invoice["status"] == "paid":
        return f'<p role="status">Invoice paid. Thank you!</p>{way_back(form)}{pdf}'
    if invoice["status"] == "void":
        return f'<p role="status">This invoice was voided. There is nothing to pay.</p>{way_back(form)}'
    if intent.get("status") == "processing":
        return f'<p role="status">Your payment is on its way. It can take some days to arrive.</p>{way_back(form)}{pdf}'
    last = form.get("redirect_status") == "failed" and (intent.get("last_payment_error") or {}).get("message")
    return card_form(form, problem or last or "", due) + pdf


def card_form(form: dict[str, Any], problem: str, due: str) -> str:
    alert = f'<p role="alert" class="wide">{escape(problem)}</p>' if problem else ""
    return (
        f'<form method="post" action="?">{documents.hidden("return", form.get("return", ""))}'
        + documents.field("number", "Card number", "4242 4242 4242 4242", form.get("number", ""))
        + documents.field("expiry", "Expiry", "MM / YY", form.get("expiry", ""))
        + documents.field("cvc", "CVC", "123")
        + f"{alert}<button>Pay {escape(due)}</button></form>"
    )


def way_back(form: dict[str, Any]) -> str:
    back = form.get("return", "")
    safe = urlsplit(back).scheme in {"http", "https"}
    return f'<p><a href="{escape(back)}">Back</a></p>' if safe else ""


def pdf_of(world: World, invoice: Thing) -> Reply:
    currency = invoice["currency"]
    lines = [f"Invoice {invoice['number']}", invoice["customer_name"] or "", ""]
    lines += [
        f"{line['description'] or 'Item'}: {shown(line['amount'], currency)}" for line in lines_of(world, invoice)
    ]
    lines += ["", f"Total: {shown(invoice['total'], currency)}"]
    name = f'inline; filename="Invoice-{invoice["number"]}.pdf"'
    return Reply(200, documents.pdf(lines), {"Content-Type": "application/pdf", "Content-Disposition": name})


# -- 3-D Secure --------------------------------------------------------------------------------------------------------


def ask(intent: Thing, form: dict[str, Any]) -> Reply:
    if intent["status"] != "requires_action":
        return html("3-D Secure", "<h1>3-D Secure</h1><p>This was answered already.</p>")
    what = shown(intent["amount"], intent["currency"]) if "amount" in intent else "keep this card"
    buttons = (
        '<button name="answer" value="complete">Complete</button>'
        '<button name="answer" value="fail" class="quiet">Fail</button>'
    )
    hidden = documents.hidden("return", form.get("return", ""))
    sentence = f"Your bank asks whether it is you: {escape(what)}."
    return html("3-D Secure", f'<h1>3-D Secure</h1><p>{sentence}</p><form method="post">{hidden}{buttons}</form>')


def prove(world: World, intent: Thing, form: dict[str, Any]) -> Reply:
    """The owner answered; back to where the payment began, with the outcome in the query."""
    if intent["status"] == "requires_action":
        kind = setups if intent["object"] == "setup_intent" else payments
        kind.finish(world, intent, ok=form.get("answer") == "complete")
    back = intent.get("_return") or form.get("return")
    if not back:
        return html("3-D Secure", "<h1>Thank you</h1><p>You can close this page.</p>")
    return go(landing(back, intent))


def landing(back: str, intent: Thing) -> str:
    word = intent["object"]
    parts = urlsplit(back)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    query[word] = intent["id"]
    query[f"{word}_client_secret"] = intent["client_secret"]
    query["redirect_status"] = "succeeded" if intent["status"] == "succeeded" else "failed"
    return urlunsplit(parts._replace(query=urlencode(query)))
