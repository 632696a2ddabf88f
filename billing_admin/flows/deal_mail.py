"""Verb: send a deal; with its order form by mail, where an address is given."""

from dataclasses import dataclass
from datetime import datetime

from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.core.validators import validate_email
from django.db import transaction

from billing_admin.flows.deal_reading import read_order_form
from billing_admin.flows.deals import send
from catalog.after import after_commit
from customers.journal import Actor
from deals.models import Deal
from deals.order_form import OrderForm
from invoicing.models import BillingSettings
from invoicing.tongue import DESK


@dataclass(frozen=True, slots=True)
class Letter:
    """What goes out with the order form; without an address nothing goes out."""

    to: str
    subject: str
    text: str


def letter_of(deal: Deal, now: datetime) -> Letter:
    """What is proposed to be written; whoever sends it may change every word."""
    company = BillingSettings.present().company_name
    customer = deal.customer
    until = f" The offer stands until {DESK.instant(deal.expires_at)}." if deal.expires_at else ""
    parts = [
        f"Hello {customer.name}," if customer else "Hello,",
        f"please find our order form attached.{until}",
        "To accept it, sign it and send it back to us.",
        company,
    ]
    subject = f"Order form from {company}" if company else "Order form"
    return Letter(customer.email if customer else "", subject, "\n\n".join(part for part in parts if part))


@transaction.atomic
def send_deal(deal: Deal, letter: Letter | None, *, actor: Actor, now: datetime) -> Deal:
    """Note that the order form went out, and mail it once that is written. Raises `CannotMoveDeal`, `OfferOver`,
    `ValidationError` for what is no address."""
    if letter is not None and letter.to:
        validate_address(letter.to)
    deal = send(deal, actor=actor, now=now)
    if letter is not None and letter.to:
        form = read_order_form(deal, now=now)
        after_commit(mail, letter, form)
    return deal


def validate_address(address: str) -> None:
    try:
        validate_email(address)
    except ValidationError:
        raise ValidationError({"to": f"“{address}” is not an e-mail address."}) from None


def mail(letter: Letter, form: OrderForm) -> None:
    """Outside of transactions: a mail server that is away undoes nothing."""
    from deals.order_form_pdf import print_order_form  # its library takes memory that few processes need

    message = EmailMessage(letter.subject, letter.text, None, [letter.to])
    message.attach(form.file_name, print_order_form(form), "application/pdf")
    message.send()
