"""Drafts: invoices that wait for late use or for a person, and what changes them."""

from datetime import timedelta

import pytest

from billing_admin.flows.cancel import cancel, preview_cancel
from billing_admin.flows.drafts import (
    AwaitsApproval,
    BadLine,
    NotADraft,
    add_line,
    issue_draft,
    issue_due,
    refresh,
    remove_line,
)
from billing_admin.flows.forecast import forecast_change
from billing_admin.flows.plan_change import Activation
from billing_admin.flows.upcoming import upcoming
from customers.models import Subscription
from invoicing.issue import enter_credit
from invoicing.manual import pending_lines
from invoicing.models import BillingSettings, CreditEntry, Deduction, Invoice, InvoiceCredit, PendingLine, TaxRate
from invoicing.readings import account_credit
from tests.builders import (
    STAFF,
    allowance,
    customer,
    enable,
    fee,
    on,
    overuse,
    pass_time,
    pay_all,
    plan,
    preview,
    pro,
    switch,
    the_subscription,
    use,
)
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def metered(price=50):
    return plan("metered", fee(price), allowance(100, price="0.10"))


def waiting(*, used=150, hours=48):
    """A customer whose April renewal waits for late use, and that draft."""
    BillingSettings.objects.update_or_create(pk=1, defaults={"grace_hours": hours})
    acme = on(metered())
    use(acme, used, now=MARCH_16)
    pass_time(acme, to=APRIL_1)
    return acme, acme.invoices.drafts().get()


def lines_of(invoice):
    return [(line.kind, line.amount) for line in invoice.lines.all()]


def add(amount, *, description="Goodwill", now=APRIL_1, **to):
    return add_line(description=description, amount=amount, actor=STAFF, now=now, **to)


def issue_(draft, *, now=APRIL_1 + HOUR):
    return issue_draft(draft, actor=STAFF, now=now)


# Waiting


def test_a_renewal_with_use_waits_for_late_events():
    """Y-29"""
    _, draft = waiting()

    assert (draft.state, draft.number, draft.issues_at) == ("draft", None, APRIL_1 + 48 * HOUR)
    assert lines_of(draft) == [("usage", 500), ("fee", 5000)]


def test_a_renewal_without_use_in_its_plan_does_not_wait():
    """Y-29"""
    BillingSettings.objects.update_or_create(pk=1, defaults={"grace_hours": 48})
    acme = on(pro())

    pass_time(acme, to=APRIL_1, pays=False)

    assert acme.invoices.newest()[0].state == "open"


def test_a_draft_is_issued_when_its_grace_is_over():
    """Y-29"""
    acme, draft = waiting()

    assert issue_due(APRIL_1 + 47 * HOUR) == []
    [issued] = issue_due(APRIL_1 + 48 * HOUR)

    assert issued == draft
    assert (issued.state, issued.number, issued.total, issued.due_at) == (
        "open",
        "ACME-0002",
        5500,
        APRIL_1 + 48 * HOUR,
    )
    assert acme.operations.newest()[0].summary == "Issued ACME-0002: $55.00"


def test_drafts_are_issued_at_most_so_many_at_a_time():
    waiting()

    assert issue_due(MAY_1, limit=0) == []


def test_a_draft_is_issued_once():
    """Law 6"""
    _, draft = waiting()
    issue_(draft)

    with pytest.raises(NotADraft):
        issue_(draft)
    assert issue_due(MAY_1) == []


def test_an_issued_draft_takes_account_credit():
    acme, draft = waiting()
    enter_credit(acme, CreditEntry.Kind.CREDIT_NOTE, 5500, invoice=draft, now=APRIL_1)

    assert (issue_(draft).state, account_credit(acme)) == ("paid", 0)


def test_a_draft_is_due_by_the_terms_of_the_day_it_is_issued():
    """Y-54"""
    acme, draft = waiting()
    first = acme.invoices.get(number="ACME-0001")
    Subscription.objects.filter(customer=acme).update(net_terms_days=30)

    assert issue_(draft).due_at == APRIL_1 + HOUR + timedelta(days=30)
    first.refresh_from_db()
    assert first.due_at == MARCH_1


def test_the_next_renewal_does_not_bill_what_stands_on_a_draft():
    """Law 6"""
    acme, draft = waiting(hours=24 * 40)

    pass_time(acme, to=MAY_1, pays=False)

    assert [lines_of(d) for d in acme.invoices.drafts().order_by("id")] == [
        [("usage", 500), ("fee", 5000)],
        [("fee", 5000)],
    ]
    refresh(draft, now=MAY_1)
    assert lines_of(draft) == [("usage", 500), ("fee", 5000)]


def test_what_stands_on_a_draft_is_not_announced_again():
    acme, _ = waiting()
    contract = Subscription.objects.with_phases().get(customer=acme)

    assert [line.kind for line in upcoming(contract, []).lines] == ["fee"]


# Drawing up anew


def test_a_draft_takes_the_coupons_and_credits_there_are_by_then():
    """Y-29"""
    acme, draft = waiting()
    InvoiceCredit.objects.create(
        customer=acme, label="Sorry", amount=1000, currency="USD", created_by="ops", created_at=APRIL_1
    )

    refresh(draft, now=APRIL_1 + HOUR)
    refresh(draft, now=APRIL_1 + HOUR)

    draft.refresh_from_db()
    assert (draft.subtotal, draft.credit_total, draft.total) == (5500, 1000, 4500)
    assert Deduction.objects.get(invoice=draft).amount == 1000


def test_a_draft_takes_the_taxes_there_are_by_then():
    _, draft = waiting()
    TaxRate.objects.create(name="VAT", percent=10, is_default=True)

    assert issue_(draft).total == 6050


def test_lines_that_stay_keep_their_rows():
    _, draft = waiting()
    fee_line = draft.lines.get(kind="fee")

    refresh(draft, now=APRIL_1 + HOUR)

    assert draft.lines.get(kind="fee").pk == fee_line.pk
    assert [line.position for line in draft.lines.all()] == [0, 1]
    assert {line.phase_id for line in draft.lines.all()} == {fee_line.phase_id}


def test_a_minimum_commitment_is_settled_anew_with_the_use():
    BillingSettings.objects.create(pk=1, grace_hours=48)
    acme = on(plan("least", fee(10), allowance(0, price="1"), commitment="100"))
    pass_time(acme, to=APRIL_1)
    draft = acme.invoices.drafts().get()
    assert ("true_up", 9000) in lines_of(draft)

    overuse_late(acme, draft, 20)

    refresh(draft, now=APRIL_1 + HOUR)
    assert {("usage", 2000), ("true_up", 7000), ("fee", 1000)} == set(lines_of(draft))


def overuse_late(acme, draft, units):
    """As an event that came late counts: on the window that has ended."""
    window = acme.balances.get(ends_at=draft.boundary_at)
    window.used += units
    window.save(update_fields=["used"])


# Acts that come before


def test_a_change_of_plan_first_issues_what_is_drafted():
    """Design 4"""
    acme, draft = waiting()
    dearer = plan("dear", fee(200), allowance(100, price="0.10"))

    shown = preview(acme, dearer, now=APRIL_16 - timedelta(days=14))
    draft.refresh_from_db()
    assert draft.state == "draft"
    changed = enable(acme, dearer, now=APRIL_16 - timedelta(days=14))

    draft.refresh_from_db()
    assert (draft.state, draft.number) == ("open", "ACME-0002")
    assert changed.change.fingerprint == shown.fingerprint
    assert [line.offsets_id for line in shown.lines if line.kind == "unused"] == [draft.pk]


def test_an_end_at_once_first_issues_what_is_drafted():
    """Design 4"""
    acme, draft = waiting()
    contract = the_subscription(acme)

    shown = preview_cancel(contract, at_once=True, now=APRIL_1 + HOUR)
    draft.refresh_from_db()
    assert draft.state == "draft"
    _, notes = cancel(contract, at_once=True, reason="moved away", actor=STAFF, now=APRIL_1 + HOUR)

    draft.refresh_from_db()
    assert draft.state != "draft"
    assert sum(note.total for note in notes) == shown.total < 0


def test_an_end_to_come_leaves_drafts_alone():
    acme, draft = waiting()

    cancel(the_subscription(acme), reason="moved away", actor=STAFF, now=APRIL_1 + HOUR)

    draft.refresh_from_db()
    assert draft.state == "draft"


# Lines by hand


def test_a_line_can_be_added_to_a_draft():
    """Y-52"""
    _, draft = waiting()

    line = add(-500, draft=draft)

    draft.refresh_from_db()
    assert (line.kind, line.amount, draft.total) == ("manual", -500, 5000)
    assert (line.derivation["sum"], draft.lines.count()) == ("Added by ops", 3)


def test_a_line_by_hand_is_taxed_like_the_others():
    """Y-52"""
    TaxRate.objects.create(name="VAT", percent=10, is_default=True)
    _, draft = waiting()

    assert add(1000, draft=draft).tax == 100


def test_a_line_by_hand_stays_when_the_draft_is_drawn_up_anew():
    """Y-52"""
    _, draft = waiting()
    line = add(-500, draft=draft)

    issued = issue_(draft)

    assert issued.lines.get(kind="manual") == line
    assert issued.total == 5000


def test_credits_by_hand_do_not_take_a_draft_below_zero():
    """Y-52"""
    _, draft = waiting()

    with pytest.raises(BadLine, match=r"The credit is \$1.00 more than the draft charges") as caught:
        add(-5600, draft=draft)

    assert caught.value.code == "below_zero"
    draft.refresh_from_db()
    assert (draft.total, draft.lines.count()) == (5500, 2)


def test_a_line_belongs_to_exactly_one_of_a_draft_and_a_subscription():
    """Y-52"""
    acme, draft = waiting()

    for to in ({}, {"draft": draft, "subscription": the_subscription(acme)}):
        with pytest.raises(BadLine) as caught:
            add(500, **to)
        assert caught.value.code == "exactly_one"


def test_a_line_is_in_the_currency_of_where_it_goes():
    """Y-52"""
    acme, draft = waiting()

    for to in ({"draft": draft}, {"subscription": the_subscription(acme)}):
        with pytest.raises(BadLine) as caught:
            add(500, currency="EUR", **to)
        assert caught.value.code == "currency_mismatch"


def test_an_issued_invoice_takes_no_line():
    """Y-52"""
    _, draft = waiting()
    issue_(draft)

    with pytest.raises(NotADraft, match="only a draft can still be changed"):
        add(500, draft=draft)


@pytest.mark.parametrize(("description", "amount"), [("", 5), ("x" * 301, 5), ("Work", 0)])
def test_a_line_says_what_for_and_how_much(description, amount):
    _, draft = waiting()

    with pytest.raises(BadLine):
        add(amount, description=description, draft=draft)


def test_a_line_of_a_subscription_goes_onto_its_next_invoice():
    """Y-52"""
    acme = on(pro())
    line = add(-2000, subscription=the_subscription(acme), now=MARCH_16)

    pass_time(acme, to=APRIL_1, pays=False)

    renewal = acme.invoices.newest()[0]
    line.refresh_from_db()
    assert (lines_of(renewal), renewal.total) == ([("fee", 5000), ("manual", -2000)], 3000)
    assert line.line in renewal.lines.all()


def test_a_line_of_a_subscription_is_billed_once():
    """Y-52"""
    acme = on(pro())
    add(2000, subscription=the_subscription(acme), now=MARCH_16)

    pass_time(acme, to=MAY_1)

    assert [i.total for i in acme.invoices.order_by("id")] == [5000, 7000, 5000]


def test_a_line_of_a_subscription_is_billed_by_its_end():
    """Y-52"""
    acme = on(pro())
    add(2000, subscription=the_subscription(acme), now=MARCH_16)

    _, [closing] = cancel(
        the_subscription(acme), at_once=True, unused="nothing", reason="moved", actor=STAFF, now=MARCH_16
    )

    assert lines_of(closing) == [("manual", 2000)]


def test_a_line_that_waits_is_shown_with_the_next_invoice():
    """Y-52"""
    acme = on(pro())
    contract = the_subscription(acme)
    add(2000, subscription=contract, now=MARCH_16)

    shown = preview(acme, pro_with_sso(), now=MARCH_16)
    announced = upcoming(Subscription.objects.with_phases().get(pk=contract.pk), [], pending=pending_lines(contract))

    assert (shown.next_invoice.total, announced.total) == (7000, 7000)
    assert [expected.total for expected in forecast_change(shown, {}, most=2)] == [7000, 5000]


def pro_with_sso():
    return plan("plus", fee(50), allowance(100), switch())


def test_what_has_no_next_invoice_takes_no_line():
    """Y-52"""
    acme = on(pro())
    contract = the_subscription(acme)
    cancel(contract, at_once=True, reason="moved", actor=STAFF, now=MARCH_16)

    with pytest.raises(BadLine, match="no next invoice"):
        add(5, subscription=contract, now=MARCH_16)


def test_a_line_that_waits_can_be_removed():
    """Y-52"""
    acme = on(pro())
    line = add(2000, subscription=the_subscription(acme), now=MARCH_16)

    remove_line(line, actor=STAFF, now=MARCH_16)

    assert not PendingLine.objects.exists()
    assert acme.operations.newest()[0].summary == "Removed Goodwill ($20.00) from the next invoice"


def test_a_line_of_a_draft_can_be_removed():
    """Y-52"""
    _, draft = waiting()
    line = add(-500, draft=draft)

    remove_line(line, actor=STAFF, now=APRIL_1)

    draft.refresh_from_db()
    assert (draft.total, draft.lines.count()) == (5500, 2)


def test_a_line_that_waited_can_be_removed_from_its_draft():
    """Y-52"""
    BillingSettings.objects.create(pk=1, grace_hours=48)
    acme = on(metered())
    add(2000, subscription=the_subscription(acme), now=MARCH_16)
    pass_time(acme, to=APRIL_1)
    draft = acme.invoices.drafts().get()

    remove_line(draft.lines.get(kind="manual"), actor=STAFF, now=APRIL_1)

    draft.refresh_from_db()
    assert (draft.total, PendingLine.objects.count()) == (5000, 0)


def test_other_lines_cannot_be_removed():
    """Y-52"""
    _, draft = waiting()

    with pytest.raises(BadLine, match="added by hand"):
        remove_line(draft.lines.get(kind="fee"), actor=STAFF, now=APRIL_1)


# First invoices that wait for an approval


def test_a_first_invoice_is_approved_instead_of_issued():
    BillingSettings.objects.create(pk=1, approve_first_invoices=True)
    [draft] = enable(customer(), pro(), activation=Activation.AFTER_PAYMENT).invoices

    with pytest.raises(AwaitsApproval):
        issue_(draft)
    assert issue_due(MAY_1) == []


def test_a_first_invoice_takes_a_line_before_it_is_approved():
    """Y-52"""
    BillingSettings.objects.create(pk=1, approve_first_invoices=True)
    [draft] = enable(customer(), pro(), activation=Activation.AFTER_PAYMENT).invoices

    add(-1000, draft=draft, now=MARCH_1)

    draft.refresh_from_db()
    assert (draft.total, lines_of(draft)) == (4000, [("fee", 5000), ("manual", -1000)])


def test_a_line_is_added_in_few_queries(django_assert_max_num_queries):
    _, draft = waiting()

    with django_assert_max_num_queries(45):
        add(-500, draft=draft)


def test_payments_of_former_invoices_do_not_touch_a_draft():
    acme, draft = waiting()

    pay_all(acme, now=APRIL_1)

    assert Invoice.objects.get(pk=draft.pk).state == "draft"


def test_use_after_the_boundary_does_not_touch_the_draft():
    """Y-30"""
    acme, draft = waiting()

    overuse(acme, 300, now=APRIL_1 + HOUR)
    refresh(draft, now=APRIL_1 + HOUR)

    assert lines_of(draft) == [("usage", 500), ("fee", 5000)]
