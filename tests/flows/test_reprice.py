"""Price overrides through the life of a contract: given, billed, counted, given back, revoked."""

from datetime import datetime
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from billing_admin.flows.cancel import cancel
from billing_admin.flows.corrections import reissue
from billing_admin.flows.reprice import Wanted, override_price, preview_override, revoke_override
from catalog.models import Plan, PlanItem
from customers.journal import ReasonRequired
from customers.models import Customer, Operation, PriceOverride
from invoicing.issue import void
from invoicing.models import Invoice, InvoiceLine
from invoicing.overrides import specials_by_contract
from tests import builders as a
from tests.instants import APRIL_1, APRIL_16, JUNE_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db
MONTHLY = "RRULE:FREQ=MONTHLY;INTERVAL=1"


def fixed(amount: int = 3000, label: str = "Launch price", rule: str = MONTHLY) -> dict[str, Any]:
    return {"type": "fixed", "label": label, "amount_cents": amount, "recurrence_rule": rule}


def override(
    who: Customer, *components: dict[str, Any], key: str = "base", now: datetime = MARCH_16, **wanted: Any
) -> PriceOverride:
    asked = Wanted(key, components or (fixed(),), **wanted)
    return override_price(a.the_subscription(who), asked, reason="migration deal", actor=a.STAFF, now=now)


def lines(who: Customer) -> list[list[tuple[str, int]]]:
    documents = Invoice.objects.filter(customer=who).order_by("id").prefetch_related("lines")
    return [[(line.description, line.amount) for line in document.lines.all()] for document in documents]


def test_the_next_invoice_takes_it_and_the_one_after_the_price_again():
    """L-13, L-14"""
    acme = a.on(a.pro(50))
    override(acme, cycles=1)

    a.pass_time(acme, to=APRIL_1)
    a.pass_time(acme, to=MAY_1)

    assert lines(acme)[1:] == [[("Launch price", 3000)], [("Pro", 5000)]]


def test_what_is_invoiced_already_is_left_alone():
    """L-15"""
    acme = a.on(a.pro(50))

    override(acme)

    assert a.totals(acme) == [5000]


def test_a_late_worker_bills_what_a_punctual_one_would_have():
    """L-14"""
    acme = a.on(a.pro(50))
    override(acme, cycles=2)

    a.pass_time(acme, to=JUNE_1)

    assert a.totals(acme) == [5000, 3000, 3000, 5000]


def test_a_boundary_that_was_overdue_when_it_was_given_is_billed_at_the_old_price():
    """L-14: the worker had not come yet on 1 April."""
    acme = a.on(a.pro(50))

    override(acme, now=APRIL_16)
    a.pass_time(acme, to=MAY_1)

    assert a.totals(acme) == [5000, 5000, 3000]


def test_a_void_invoice_gives_its_period_back():
    """L-14"""
    acme = a.on(a.pro(50))
    override(acme, cycles=1)
    a.pass_time(acme, to=APRIL_1, pays=False)
    void(acme.invoices.latest("id"), reason="wrong address", actor=a.STAFF, now=APRIL_16)

    a.pass_time(acme, to=JUNE_1)

    assert a.totals(acme) == [5000, 3000, 3000, 5000]


def test_without_an_end_it_holds_until_it_is_revoked():
    """L-14"""
    acme = a.on(a.pro(50))
    row = override(acme)
    a.pass_time(acme, to=APRIL_1)

    revoke_override(row, reason="deal is over", actor=a.STAFF, now=APRIL_16)
    a.pass_time(acme, to=MAY_1)

    assert a.totals(acme) == [5000, 3000, 5000]


def test_a_worker_who_comes_after_it_was_revoked_bills_the_days_before_with_it():
    """L-14: revoking settles what was due until then."""
    acme = a.on(a.pro(50))
    row = override(acme)

    revoke_override(row, reason="deal is over", actor=a.STAFF, now=APRIL_16)

    assert a.totals(acme) == [5000, 3000]


def test_revoking_twice_changes_nothing():
    acme = a.on(a.pro(50))
    row = revoke_override(override(acme), reason="deal is over", actor=a.STAFF, now=MARCH_16)

    again = revoke_override(row, reason="once more", actor=a.STAFF, now=APRIL_1)

    assert (again.revoked_at, again.revoke_reason) == (MARCH_16, "deal is over")


def test_use_can_have_a_special_price_and_is_settled_with_it():
    acme = a.on(a.plan("pro", a.fee(50), a.allowance(100, price="0.10")))
    override(acme, fixed(2500, "All you can use"), key="credits", cycles=1)
    a.overuse(acme, 180, now=MARCH_16)

    a.pass_time(acme, to=APRIL_1)
    a.overuse(acme, 180, now=APRIL_16)
    a.pass_time(acme, to=MAY_1)

    # 80 units beyond the included ones at $0.10, once a special price and once not.
    april, may = lines(acme)[1:]
    assert april == [("Pro · Credits beyond 100", 0), ("All you can use", 2500), ("Pro", 5000)]
    assert may == [("Pro · Credits beyond 100", 800), ("Pro", 5000)]


def test_a_credit_beside_the_price_takes_off_every_invoice():
    """L-17"""
    acme = a.on(a.pro(50))
    override(acme, fixed(-1000, "Loyalty"), mode="add", cycles=2)

    a.pass_time(acme, to=JUNE_1)

    assert a.totals(acme) == [5000, 4000, 4000, 5000]


def test_an_upgrade_gives_back_what_was_really_paid_and_charges_the_other_plan_in_full():
    """The special price is Pro's, Team has its own."""
    acme = a.on(a.pro(50))
    override(acme)
    a.pass_time(acme, to=APRIL_1)

    change = a.preview(acme, a.team(200), now=APRIL_16)

    # Half of April is left: −$30 / 2 + $200 / 2.
    assert [line.amount for line in change.lines] == [-1500, 10000]


def test_what_was_taken_off_is_not_given_back():
    acme = a.on(a.pro(50))
    override(acme, fixed(-1000, "Loyalty"), mode="add")
    a.pass_time(acme, to=APRIL_1)

    change = a.preview(acme, a.team(200), now=APRIL_16)

    # Half of the $40 that April cost.
    assert [line.amount for line in change.lines] == [-2000, 10000]


def test_a_custom_price_in_the_middle_of_a_period_leaves_the_special_one_as_it_is():
    acme, plan = a.on(a.pro(50)), Plan.objects.get(key="pro")
    override(acme, cycles=1)
    a.pass_time(acme, to=APRIL_1)

    change = a.preview(acme, plan, a.fee(80), a.allowance(100), now=APRIL_16)

    assert (change.total, change.next_invoice.total) == (0, 8000)


def test_a_preview_announces_it_on_the_next_invoice():
    acme, plan = a.on(a.pro(50)), Plan.objects.get(key="pro")
    override(acme, cycles=1)

    change = a.preview(acme, plan, a.fee(50), a.allowance(250), now=MARCH_16)

    assert change.next_invoice.total == 3000


def test_a_cancellation_bills_open_use_at_the_special_price():
    acme = a.on(a.plan("pro", a.fee(50), a.allowance(100, price="0.10")))
    override(acme, fixed(2500, "All you can use"), key="credits")
    a.overuse(acme, 180, now=MARCH_16)

    cancel(
        a.the_subscription(acme),
        at_once=True,
        unused="nothing",
        reason="moved",
        actor=a.STAFF,
        now=day("2026-03-20"),
    )

    assert lines(acme)[-1] == [("Pro · Credits beyond 100", 0), ("All you can use", 2500)]


def test_it_changes_neither_plan_nor_version_nor_base_price():
    """L-16"""
    acme = a.on(a.pro(50))
    before = list(PlanItem.objects.order_by("pk").values())

    override(acme)

    assert list(PlanItem.objects.order_by("pk").values()) == before
    assert Plan.objects.count() == 1


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"key": "storage"}, "unknown_item"),
        ({"key": "credits"}, "not_priced"),
        ({"cycles": 0}, "bad_cycles"),
        ({"mode": "discount"}, "bad_mode"),
    ],
)
def test_what_cannot_be_overridden_is_refused(wanted: dict[str, Any], code: str):
    """L-14, L-17"""
    acme = a.on(a.pro(50))

    with pytest.raises(ValidationError) as refused:
        override(acme, **wanted)

    assert (refused.value.code, PriceOverride.objects.count()) == (code, 0)


def test_components_of_another_currency_are_refused():
    """L-17"""
    acme = a.on(a.pro(50))

    with pytest.raises(ValidationError, match="in USD"):
        override(acme, fixed() | {"currency": "EUR"})


def test_two_prices_instead_of_the_same_one_are_refused_until_the_first_is_used_up():
    """L-12"""
    acme = a.on(a.pro(50))
    override(acme, cycles=1)

    with pytest.raises(ValidationError, match="already"):
        override(acme, fixed(1000, "Other"))
    a.pass_time(acme, to=APRIL_1)

    assert override(acme, fixed(1000, "Other"), now=APRIL_16).pk


def test_a_reason_is_required():
    """L-06"""
    acme = a.on(a.pro(50))

    with pytest.raises(ReasonRequired):
        override_price(a.the_subscription(acme), Wanted("base", [fixed()]), reason=" ", actor=a.STAFF, now=MARCH_16)


def test_both_acts_stand_in_the_journal_and_the_row_keeps_its_history():
    acme = a.on(a.pro(50))
    row = revoke_override(override(acme, cycles=3), reason="deal is over", actor=a.STAFF, now=APRIL_1)

    newest = Operation.objects.filter(customer=acme, verb__startswith="price.").order_by("-id")

    assert [(o.summary, o.reason) for o in newest] == [
        ("Revoked the special price for base", "deal is over"),
        ("Special price for Pro · Base fee, for 3 billing periods", "migration deal"),
    ]
    assert row.history.count() == 2


def test_the_preview_shows_the_next_invoices_with_it_and_without():
    acme = a.on(a.pro(50))

    found = preview_override(a.the_subscription(acme), Wanted("base", [fixed()], cycles=2), now=MARCH_16)

    assert [(b.at, b.after and b.after.total, b.before and b.before.total) for b in found] == [
        (APRIL_1, 3000, 5000),
        (MAY_1, 3000, 5000),
        (JUNE_1, 5000, 5000),
    ]
    assert not PriceOverride.objects.exists()


def test_a_yearly_contract_counts_years():
    """L-14: the subscription's billing periods."""
    acme = a.on(a.plan("pro", a.fee(500, cadence="P1Y"), a.allowance(100), cadence="P1Y"))
    override(acme, fixed(30000, "First years", "RRULE:FREQ=YEARLY"), cycles=2)

    a.pass_time(acme, to=day("2029-03-01"))

    assert a.totals(acme) == [50000, 30000, 30000, 50000]


def test_a_contract_from_the_31st_is_charged_every_month():
    """L-20"""
    acme = a.customer(since=day("2026-01-31"))
    a.enable(acme, a.plan("pro", a.fee(50), now=day("2026-01-01")), now=day("2026-01-31"))
    override(acme, now=day("2026-02-10"))

    a.pass_time(acme, to=day("2026-05-31"))

    assert a.totals(acme) == [5000, 3000, 3000, 3000, 3000]


def test_special_prices_of_many_contracts_are_read_in_three_queries(django_assert_max_num_queries):
    pro = a.pro(50)
    held = [a.on(pro, name=f"Customer {n}") for n in range(3)]
    for who in held:
        override(who)
        a.pass_time(who, to=APRIL_1)
    subscriptions = [a.the_subscription(who) for who in held]

    with django_assert_max_num_queries(3):
        found = specials_by_contract(subscriptions)

    assert [len(found[s.pk][0].used) for s in subscriptions] == [1, 1, 1]
    assert InvoiceLine.objects.filter(kind="override").count() == 3


def test_an_invoice_that_was_issued_anew_counts_its_period_once():
    """L-14"""
    acme = a.on(a.pro(50))
    override(acme, cycles=2)
    a.pass_time(acme, to=APRIL_1, pays=False)
    reissue(acme.invoices.latest("id"), reason="wrong address", actor=a.STAFF, now=APRIL_16)

    a.pass_time(acme, to=JUNE_1)

    assert a.totals(acme) == [5000, 3000, 3000, 3000, 5000]
