"""An issued document is mailed to its customer, with its link and without its lines, where the account wants that."""

from datetime import datetime

from django.conf import settings
from django.core.mail import send_mail

from catalog.after import after_commit
from customers.models import Customer
from invoicing.models import BillingSettings, Invoice
from invoicing.states import InvoiceState
from invoicing.tongue import Tongue


def document_link(invoice: Invoice) -> str:
    """Where the customer reads it."""
    return f"{settings.PUBLIC_URL}/i/{invoice.token}"


def mail_when_written(invoice: Invoice) -> None:
    """After the transaction that issues it: what is rolled back is never mailed, and a broken mail server undoes
    nothing."""
    after_commit(mail_document, invoice)


def mail_document(invoice: Invoice) -> bool:
    """False where nobody is to be told: the account does not mail, there is no address, or nothing was charged."""
    account = BillingSettings.present()
    if not account.send_invoices:
        return False
    invoice = Invoice.objects.select_related("customer").get(pk=invoice.pk)
    if not invoice.customer.email or not invoice.total or invoice.state in (InvoiceState.DRAFT, InvoiceState.VOID):
        return False
    subject, text = mail_of(invoice, account)
    return send_mail(subject, text, None, [invoice.customer.email]) == 1


def mail_of(invoice: Invoice, account: BillingSettings) -> tuple[str, str]:
    """Subject and text, in the customer's language."""
    tongue = Tongue.of(invoice.customer.locale)
    facts = {"kind": tongue.words[invoice.kind], "number": invoice, "company": account.company_name}
    subject = tongue.say("mail_subject" if account.company_name else "mail_subject_plain", **facts)
    parts = [
        tongue.say("mail_hello", name=invoice.customer.name),
        _news(invoice, tongue),
        f"{tongue.say('mail_link')}\n{document_link(invoice)}",
        account.company_name,
    ]
    return subject, "\n\n".join(part for part in parts if part) + "\n"


def _news(invoice: Invoice, tongue: Tongue) -> str:
    due = tongue.money(invoice.due, invoice.currency)
    if invoice.kind == Invoice.Kind.CREDIT_NOTE:
        return tongue.say("mail_note", number=invoice, amount=tongue.money(-invoice.total, invoice.currency))
    if not invoice.due:
        return tongue.say("mail_settled", number=invoice)
    if invoice.expires_at:
        return tongue.say("mail_gate", number=invoice, amount=due, until=tongue.instant(invoice.expires_at))
    date = tongue.date(invoice.due_at) if invoice.due_at else ""
    return tongue.say("mail_due", number=invoice, amount=due, date=date)


def mail_link_to_save(customer: Customer, url: str, until: datetime) -> bool:
    """Ask a customer to save a way to pay, in their language; called outside of transactions. False: no address."""
    if not customer.email:
        return False
    account, tongue = BillingSettings.present(), Tongue.of(customer.locale)
    subject = "mail_method_subject" if account.company_name else "mail_method_subject_plain"
    parts = [
        tongue.say("mail_hello", name=customer.name),
        tongue.say("mail_method", until=tongue.date(until)),
        url,
        account.company_name,
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    return send_mail(tongue.say(subject, company=account.company_name), text, None, [customer.email]) == 1
