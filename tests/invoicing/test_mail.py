"""Documents that are mailed to their customers, where the account wants it."""

import pytest
from django.core import mail

from billing_admin.flows.plan_change import Activation
from invoicing.models import BillingSettings
from tests import builders as a

pytestmark = pytest.mark.django_db


def enabled(on_commit, *, locale: str = "en_US", sends: bool = True, **options) -> None:
    BillingSettings.objects.create(pk=1, send_invoices=sends, company_name="Initech", net_terms_days=14)
    who = a.customer()
    who.locale = locale
    who.save()
    with on_commit(execute=True):
        a.enable(who, options.pop("plan", None) or a.pro(), **options)


def test_an_issued_invoice_is_mailed_with_its_link(django_capture_on_commit_callbacks, settings):
    settings.PUBLIC_URL = "https://pay.example"

    enabled(django_capture_on_commit_callbacks)

    [sent] = mail.outbox
    assert sent.subject == "Invoice ACME-0001 from Initech"
    assert "Please pay $50.00 by Mar 15, 2026." in sent.body
    assert "https://pay.example/i/" in sent.body


def test_nothing_is_mailed_unless_the_account_wants_it(django_capture_on_commit_callbacks):
    enabled(django_capture_on_commit_callbacks, sends=False)

    assert mail.outbox == []


def test_an_invoice_of_nothing_is_not_mailed(django_capture_on_commit_callbacks):
    enabled(django_capture_on_commit_callbacks, plan=a.free())

    assert mail.outbox == []


def test_a_first_invoice_says_until_when_it_can_be_paid(django_capture_on_commit_callbacks):
    """Y-23"""
    BillingSettings.objects.create(pk=1, send_invoices=True)
    with django_capture_on_commit_callbacks(execute=True):
        a.enable(a.customer(), a.pro(), activation=Activation.AFTER_PAYMENT)

    [sent] = mail.outbox
    assert "Your plan starts when $50.00 is paid, until Mar 2, 2026, 00:00 UTC at the latest." in sent.body


def test_mail_speaks_the_customers_language(django_capture_on_commit_callbacks):
    enabled(django_capture_on_commit_callbacks, locale="de_DE")

    [sent] = mail.outbox
    assert sent.subject == "Rechnung ACME-0001 von Initech"
    assert "bis zum 15. März 2026" in sent.body
