"""Coupons on customers: who may have one, what it takes off, how long it lasts, and how it is taken back."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection

from billing_admin.flows.coupons import Begins, coupon_for_act
from billing_admin.flows.rewards import (
    CouponNotHeld,
    give_invoice_credit,
    preview_coupon,
    remove,
    void_invoice_credit,
)
from catalog.coupons import add_promo_code, archive_coupon
from catalog.models import Coupon
from customers.journal import ReasonRequired
from customers.models import AppliedCoupon, Customer
from entitlements.models import Balance
from invoicing.issue import void
from invoicing.models import Invoice, InvoiceCredit
from invoicing.rewards import counted_periods, discounts_of, periods_left
from tests import builders as a
from tests.flows.coupon_world import apply, coupon, credit, fixed, percent
from tests.instants import APRIL_1, APRIL_16, JUNE_1, MARCH_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db
Duration = Coupon.Duration


def refused(who: Customer, what: Coupon | str, **options: object) -> str:
    """The code of the refusal."""
    with pytest.raises(ValidationError) as caught:
        apply(who, what, **options)
    return str(caught.value.code)


def latest(who: Customer) -> int:
    return Invoice.objects.filter(customer=who).latest("id").total


# What comes off -----------------------------------------------------------------------------------------------------


def test_percents_come_off_one_after_the_other_and_amounts_last():
    """A-40"""
    who = a.on(a.pro(20))
    for one in (fixed(300), percent(10), percent(20)):
        apply(who, one, now=MARCH_16)

    a.pass_time(who, to=APRIL_1)

    assert latest(who) == 1140


def test_a_coupon_that_comes_with_an_upgrade_discounts_the_charge_not_the_credit():
    """A-41"""
    who = a.on(a.pro(20))
    twenty = coupon_for_act(who, percent(20).code, MARCH_1)

    a.enable(who, a.plan("max", a.fee(50), a.allowance(500)), coupons=[twenty])

    assert latest(who) == 2000


def test_a_coupon_that_comes_with_a_plan_stays_for_what_follows():
    who = a.customer()
    a.enable(who, a.pro(50), coupons=[coupon_for_act(who, percent(20).code, MARCH_1)])
    a.pay_all(who)

    a.pass_time(who, to=APRIL_1)

    assert a.totals(who) == [4000, 4000]


def test_a_coupon_for_once_takes_one_document():
    """A-42"""
    who = a.on(a.pro(50))
    applied = apply(who, percent(20, duration=Duration.ONCE), now=MARCH_16)

    before = periods_left(applied)
    a.pass_time(who, to=MAY_1)

    assert (before, a.totals(who), periods_left(applied)) == (1, [5000, 4000, 5000], 0)


def test_a_coupon_for_some_periods_ends_by_itself():
    """A-42"""
    who = a.on(a.pro(50))
    applied = apply(who, percent(20, duration=Duration.REPEATING, periods=2), now=MARCH_16)

    a.pass_time(who, to=JUNE_1)

    assert (a.totals(who), periods_left(applied)) == ([5000, 4000, 4000, 5000], 0)


def test_several_documents_of_a_period_count_once():
    """A-42"""
    who = a.customer()
    deal = percent(20, duration=Duration.REPEATING, periods=2)
    a.enable(who, a.pro(20), coupons=[coupon_for_act(who, deal.code, MARCH_1)])
    a.pay_all(who)

    a.enable(who, a.team(50), now=MARCH_16)

    [applied] = who.applied_coupons.all()
    assert applied.deductions.count() == 2
    assert periods_left(applied) == 1


def test_the_second_document_of_the_last_period_is_discounted_too():
    """A-42"""
    who = a.customer()
    deal = percent(50, duration=Duration.REPEATING, periods=1)
    a.enable(who, a.pro(20), coupons=[coupon_for_act(who, deal.code, MARCH_1)])
    a.pay_all(who)

    changed = a.enable(who, a.team(50), now=MARCH_16).change
    a.pass_time(who, to=APRIL_1)

    assert [len(document.drawn.deductions) for document in changed.documents] == [1]
    assert changed.next_invoice.total == latest(who) == 5000


def test_a_void_invoice_gives_its_period_back():
    """A-42"""
    who = a.customer()
    deal = percent(20, duration=Duration.ONCE)
    enabled = a.enable(who, a.pro(50), coupons=[coupon_for_act(who, deal.code, MARCH_1)])

    void(enabled.invoices[0], reason="wrong", actor=a.STAFF, now=MARCH_16)

    assert periods_left(who.applied_coupons.get()) == 1


def test_what_a_single_document_could_not_take_of_an_amount_is_lost():
    """A-42"""
    who = a.on(a.pro(50))
    apply(who, fixed(8000, duration=Duration.ONCE), now=MARCH_16)

    a.pass_time(who, to=MAY_1)

    assert a.totals(who) == [5000, 0, 5000]


def test_an_invoice_credit_carries_over_and_never_goes_below_zero():
    """A-42, L-37"""
    who = a.on(a.pro(50))
    apply(who, credit(8000), now=MARCH_16)

    a.pass_time(who, to=JUNE_1)

    assert a.totals(who) == [5000, 0, 2000, 5000]


def test_the_next_invoice_that_an_act_announces_counts_down_the_coupon():
    """A-42"""
    who = a.customer()
    once = coupon_for_act(who, percent(20, duration=Duration.ONCE).code, MARCH_1)

    change = a.preview(who, a.pro(50), coupons=[once])

    assert (change.total, change.next_invoice.total) == (4000, 5000)


def test_periods_of_many_coupons_are_counted_in_two_queries(django_assert_max_num_queries):
    """A-42"""
    who = a.on(a.pro(50))
    for _ in range(5):
        apply(who, percent(5, duration=Duration.REPEATING, periods=3), now=MARCH_16)
    a.pass_time(who, to=APRIL_1)
    rows = list(AppliedCoupon.objects.select_related("coupon"))

    with django_assert_max_num_queries(2):
        found = counted_periods(rows)

    assert [len(found[row.pk]) for row in rows] == [1] * 5


def test_the_discounts_of_a_document_are_read_in_few_queries(django_assert_max_num_queries):
    who = a.on(a.pro(50))
    for _ in range(5):
        apply(who, percent(5, duration=Duration.REPEATING, periods=3), now=MARCH_16)
    a.pass_time(who, to=APRIL_1)
    subscription = a.the_subscription(who)

    with django_assert_max_num_queries(4):
        found = list(discounts_of(who, subscription, at=APRIL_16, currency="USD"))

    assert len(found) == 5


def test_a_coupon_of_one_contract_leaves_the_others_alone():
    who = a.on(a.pro(50))
    a.enable(who, a.plan("extra", a.fee(20), of="other"))
    apply(who, percent(50), subscription=who.subscriptions.get(product__key="other"), now=MARCH_16)

    a.pass_time(who, to=APRIL_1)

    assert sorted(a.totals(who)[2:]) == [1000, 5000]


# Who may have one ---------------------------------------------------------------------------------------------------


def test_a_coupon_that_expired_is_refused():
    """A-43"""
    gone = percent(redeem_by=MARCH_16)

    assert refused(a.on(a.pro()), gone, now=MARCH_16) == "coupon_expired"


def test_a_coupon_that_is_archived_is_refused():
    """A-43"""
    gone = archive_coupon(percent(), now=MARCH_1)

    assert refused(a.on(a.pro()), gone) == "coupon_not_active"


def test_a_coupon_for_other_plans_is_refused():
    """A-43"""
    team = a.team()

    assert refused(a.on(a.pro()), percent(plans=(team,))) == "coupon_not_for_plan"


def test_a_coupon_for_new_customers_is_refused_once_an_invoice_is_paid():
    """A-43"""
    first = percent(first_time_only=True)

    assert refused(a.on(a.pro()), first) == "coupon_for_first_time"
    assert apply(a.customer("Newcomer"), first)


def test_a_coupon_that_is_used_up_is_refused():
    """A-43"""
    one = percent(max_redemptions=1)
    apply(a.on(a.pro()), one)

    assert refused(a.customer("Second"), one) == "coupon_used_up"


def test_a_coupon_that_the_customer_has_is_refused():
    """A-43"""
    who, one = a.on(a.pro()), percent()
    apply(who, one)

    assert refused(who, one) == "coupon_applied_already"


def test_a_coupon_that_has_given_everything_can_be_given_again():
    who, one = a.on(a.pro()), percent(duration=Duration.ONCE)
    apply(who, one, now=MARCH_16)
    a.pass_time(who, to=APRIL_1)

    assert apply(who, one, now=APRIL_16)


def test_a_coupon_in_another_currency_is_refused():
    """A-43"""
    assert refused(a.on(a.pro()), fixed(currency="EUR")) == "coupon_in_other_currency"


def test_a_code_that_is_unknown_is_refused():
    """A-43"""
    assert refused(a.on(a.pro()), "nothing") == "coupon_not_found"


def test_a_promo_code_gives_its_coupon_whatever_its_case():
    one = percent()
    add_promo_code(one, "Launch20", now=MARCH_1)

    applied = apply(a.on(a.pro()), "launch20")

    assert (applied.coupon, applied.promo_code and applied.promo_code.code) == (one, "LAUNCH20")


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"max_redemptions": 1}, "coupon_used_up"),
        ({"expires_at": MARCH_16}, "coupon_expired"),
        ({"first_time_only": True}, "coupon_for_first_time"),
    ],
)
def test_a_promo_code_has_limits_of_its_own(limits: dict, code: str):
    """A-43"""
    add_promo_code(percent(), "LAUNCH", **limits, now=MARCH_1)
    apply(a.customer("First"), "LAUNCH")

    assert refused(a.on(a.pro()), "LAUNCH", now=MARCH_16) == code


@pytest.mark.django_db(transaction=True)
def test_two_who_redeem_the_last_one_at_once_get_exactly_one():
    """A-43"""
    one = percent(max_redemptions=1)
    people = [a.customer("First"), a.customer("Second")]

    def redeem(who: Customer) -> str:
        try:
            apply(who, one, now=MARCH_16)
            return "applied"
        except ValidationError as refusal:
            return str(refusal.code)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        done = sorted(pool.map(redeem, people))

    assert (done, one.applied.count()) == (["applied", "coupon_used_up"], 1)


def test_the_last_redemption_that_went_to_another_is_noticed_when_the_plan_is_enabled():
    """A-43"""
    who, one = a.customer(), percent(max_redemptions=1)
    new = coupon_for_act(who, one.code, MARCH_1)
    apply(a.customer("Faster"), one)

    with pytest.raises(ValidationError) as caught:
        a.enable(who, a.pro(), coupons=[new])

    assert (caught.value.code, who.subscriptions.count()) == ("coupon_used_up", 0)


# When it begins -----------------------------------------------------------------------------------------------------


def test_a_coupon_for_the_next_plan_leaves_the_invoices_before_it_alone():
    """A-44"""
    who = a.on(a.pro(50))
    applied = apply(who, percent(20), at=Begins.ENABLE, now=MARCH_16)

    a.pass_time(who, to=APRIL_1)

    assert (latest(who), applied.waits) == (5000, True)


def test_a_coupon_for_the_next_plan_begins_with_it():
    """A-44"""
    who = a.customer()
    apply(who, percent(20), at=Begins.ENABLE)

    a.enable(who, a.pro(50))

    [applied] = who.applied_coupons.all()
    assert (a.totals(who), applied.waits, applied.subscription) == ([4000], False, a.the_subscription(who))


def test_what_is_overdue_is_billed_before_a_coupon_is_applied():
    who = a.on(a.pro(50))

    apply(who, percent(20), now=APRIL_16)

    assert latest(who) == 5000


def test_the_next_invoice_is_shown_without_and_with_the_coupon():
    """A-44"""
    who = a.on(a.pro(50))

    [found] = preview_coupon(who, percent(20), now=MARCH_16)

    assert (found.at, found.without.total, found.with_coupon.total, found.saves) == (APRIL_1, 5000, 4000, 1000)
    assert not who.applied_coupons.exists()


def test_what_was_shown_is_what_is_billed():
    """A-44"""
    who, both = a.on(a.pro(50)), credit(1250)
    [shown] = preview_coupon(who, both, now=MARCH_16)
    apply(who, both, now=MARCH_16)

    a.pass_time(who, to=APRIL_1)

    assert latest(who) == shown.with_coupon.total == 3750


def test_a_removed_coupon_leaves_the_next_invoice_whole():
    """A-44"""
    who = a.on(a.pro(50))
    applied = apply(who, percent(20), now=MARCH_1)

    remove(applied, actor=a.STAFF, now=MARCH_16)
    a.pass_time(who, to=APRIL_1)

    assert latest(who) == 5000


def test_a_coupon_removed_twice_is_refused_the_second_time():
    """A-44"""
    applied = apply(a.on(a.pro()), percent())
    remove(applied, actor=a.STAFF, now=MARCH_16)

    with pytest.raises(CouponNotHeld):
        remove(applied, actor=a.STAFF, now=MARCH_16)


def test_who_applied_and_who_removed_a_coupon_is_in_the_history():
    who = a.on(a.pro())
    applied = apply(who, percent(20, name="Launch"), reason="trade fair")
    remove(applied, reason="by mistake", actor=a.STAFF, now=MARCH_16)

    told = [(op.summary, op.reason) for op in who.operations.order_by("-id")[:2]]
    assert told == [("Removed Launch", "by mistake"), ("Applied Launch: 20 % off", "trade fair")]


# What each kind gives -----------------------------------------------------------------------------------------------


def test_a_credit_from_a_coupon_ends_with_its_days():
    """A-45"""
    who = a.on(a.pro(50))
    apply(who, credit(8000, lasts_days=31), now=MARCH_16)

    a.pass_time(who, to=MAY_1)

    assert a.totals(who) == [5000, 0, 5000]


def test_a_removed_credit_gives_no_more():
    """A-45"""
    who = a.on(a.pro(50))
    applied = apply(who, credit(8000), now=MARCH_16)
    a.pass_time(who, to=APRIL_1)

    remove(applied, actor=a.STAFF, now=APRIL_16)
    a.pass_time(who, to=MAY_1)

    assert a.totals(who) == [5000, 0, 5000]


def test_a_free_product_is_there_until_its_end():
    """A-45"""
    who, partner = a.on(a.pro()), a.assigned("partner", a.allowance(1000, of="images"))
    gift = coupon(Coupon.Kind.FREE_PRODUCT, free_plan=partner, lasts_days=14)

    apply(who, gift, now=MARCH_16)

    assert a.access(who, of="images", now=MARCH_16).remaining == 1000
    assert not a.access(who, of="images", now=MARCH_16 + timedelta(days=14)).has_access


def test_a_free_product_that_would_replace_a_plan_is_refused():
    """A-45"""
    partner = a.assigned("partner", a.allowance(1000, of="images"), of="api")
    gift = coupon(Coupon.Kind.FREE_PRODUCT, free_plan=partner)

    assert refused(a.on(a.pro()), gift) == "product_held"


def test_a_removed_free_product_ends():
    """A-45"""
    who, partner = a.on(a.pro()), a.assigned("partner", a.allowance(1000, of="images"))
    applied = apply(who, coupon(Coupon.Kind.FREE_PRODUCT, free_plan=partner))

    remove(applied, actor=a.STAFF, now=MARCH_16)

    assert not a.access(who, of="images", now=MARCH_16).has_access


def test_units_from_a_coupon_are_a_bonus_with_their_end():
    """A-45, P-32"""
    who = a.on(a.pro(credits=100))
    gift = coupon(Coupon.Kind.FEATURE_GRANT, feature=a.feature("credits"), units=a.Decimal(40), lasts_days=15)

    apply(who, gift)

    bonus = Balance.objects.get(customer=who, source=Balance.Source.BONUS)
    assert (bonus.label, bonus.granted, bonus.ends_at) == (gift.name, 40, MARCH_16)
    assert a.access(who).remaining == 140


def test_of_removed_units_the_rest_is_gone_and_what_was_used_stays():
    """A-45, P-38"""
    who = a.customer()
    applied = apply(who, coupon(Coupon.Kind.FEATURE_GRANT, feature=a.feature("credits"), units=a.Decimal(40)))
    a.use(who, 15)

    remove(applied, actor=a.STAFF, now=MARCH_16)

    bonus = Balance.objects.get(customer=who)
    assert (bonus.used, bonus.left, bonus.closed_at) == (15, 0, MARCH_16)


def test_units_cannot_wait_for_a_plan():
    gift = coupon(Coupon.Kind.FEATURE_GRANT, feature=a.feature("credits"), units=a.Decimal(40))

    assert refused(a.customer(), gift, at=Begins.ENABLE) == "not_a_discount"


# Invoice credits by hand ----------------------------------------------------------------------------------------------


def given(who: Customer, cents: int = 5000, **options: object) -> InvoiceCredit:
    said = {"amount": cents, "currency": "USD", "label": "Goodwill", "reason": "outage", "now": MARCH_16} | options
    return give_invoice_credit(who, actor=a.STAFF, **said)


def test_an_invoice_credit_shows_as_a_deduction_before_tax():
    """L-37"""
    who = a.on(a.pro(80))
    given(who, 5000)

    a.pass_time(who, to=APRIL_1)

    invoice = Invoice.objects.filter(customer=who).latest("id")
    assert (invoice.credit_total, invoice.total) == (5000, 3000)
    assert [d.label for d in invoice.deductions.all()] == ["Goodwill"]


def test_an_invoice_credit_needs_a_reason():
    with pytest.raises(ReasonRequired):
        given(a.on(a.pro()), reason="")


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"cents": 0}, "amount"),
        ({"currency": "EUR"}, "currency"),
        ({"label": " "}, "label"),
        ({"expires_at": MARCH_1}, "expires_at"),
    ],
)
def test_a_credit_that_cannot_be_given_is_refused_at_its_field(bad: dict, field: str):
    with pytest.raises(ValidationError) as caught:
        given(a.on(a.pro()), **bad)

    assert caught.value.field == field


def test_a_void_invoice_credit_gives_no_more():
    who = a.on(a.pro(50))
    own = given(who, 8000)
    a.pass_time(who, to=APRIL_1)

    done = void_invoice_credit(own, reason="wrong customer", actor=a.STAFF, now=APRIL_16)
    a.pass_time(who, to=MAY_1)

    assert (done.effects["left"], a.totals(who)) == (3000, [5000, 0, 5000])
