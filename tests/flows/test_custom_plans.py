from datetime import timedelta
from decimal import Decimal

import pytest

from billing_admin.flows.enable_plan import (
    AlreadyOnPlan,
    PreviewOutdated,
    confirmation,
    enable_plan,
    preview_plan,
    propose,
)
from billing_admin.flows.plan_change import Timing
from catalog.items import InvalidItems
from catalog.models import Plan
from catalog.terms import ChangeKind
from customers.journal import ReasonRequired
from customers.models import CustomPlan, Operation
from entitlements.edit import edit_balance
from invoicing.readings import account_credit
from tests.builders import (
    STAFF,
    access,
    allowance,
    enable,
    fee,
    left,
    new_version,
    on,
    pass_time,
    plan,
    preview,
    pro,
    reread,
    seats,
    switch,
    team,
    the_subscription,
    totals,
    use,
)
from tests.instants import APRIL_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db


def pro_again():
    return Plan.objects.get(key="pro")


def team_again():
    return Plan.objects.get(key="team")


MID_MARCH = day("2026-03-16T12:00")  # half of March


def test_more_credits_at_the_same_price_apply_at_once_and_cost_nothing():
    """A-01"""
    acme = on(pro(20, 100))
    use(acme, 70)

    enabled = enable(acme, pro_again(), fee(20), allowance(200))

    assert enabled.change.kind is ChangeKind.FEATURES
    assert (enabled.change.total, enabled.invoices) == (0, ())
    assert left(acme) == 130
    assert (access(acme).used, access(acme).next_reset_at) == (70, APRIL_1)


def test_fewer_credits_may_leave_a_balance_below_zero_which_only_blocks():
    """A-02"""
    acme = on(pro(20, 200))
    use(acme, 80)

    enable(acme, pro_again(), fee(20), allowance(100))
    assert left(acme) == 20
    enabled = enable(acme, pro_again(), fee(20), allowance(50))

    assert left(acme) == -30
    assert not access(acme).allowed
    assert enabled.invoices == ()


def test_a_feature_that_is_switched_on_or_off_leaves_other_balances_alone():
    """A-03"""
    acme = on(pro(20, 100))
    use(acme, 40)

    enable(acme, pro_again(), fee(20), allowance(100), switch("sso"))
    assert access(acme, of="sso").has_access
    enable(acme, pro_again(), fee(20), allowance(100))

    assert not access(acme, of="sso").has_access
    assert left(acme) == 60


@pytest.mark.parametrize(("when", "due"), [(MARCH_1, 1000), (MID_MARCH, 500)])
def test_a_dearer_custom_plan_charges_the_difference_for_the_rest_of_the_period(when, due):
    """A-04"""
    acme = on(pro(20, 100))
    use(acme, 40, now=when)

    enabled = enable(acme, pro_again(), fee(30), allowance(100), now=when)

    assert enabled.change.total == due
    assert left(acme, now=when) == 60


def test_a_cheaper_custom_plan_waits_for_the_end_of_the_cycle():
    """A-05"""
    acme = on(pro(30, 100))

    enabled = enable(acme, pro_again(), fee(20), allowance(100), now=MARCH_16)

    assert (enabled.change.timing, enabled.change.starts_at) == (Timing.CYCLE_END, APRIL_1)
    assert enabled.invoices == ()
    pass_time(acme, to=APRIL_1)
    assert totals(acme) == [3000, 2000]


def test_a_cheaper_custom_plan_now_gives_account_credit_by_a_credit_note():
    """A-05"""
    acme = on(pro(30, 100))

    [note] = enable(acme, pro_again(), fee(20), allowance(100), timing=Timing.NOW).invoices

    assert (note.kind, note.total, note.state) == ("credit_note", -1000, "paid")
    assert account_credit(acme) == 1000
    pass_time(acme, to=APRIL_1)
    assert acme.invoices.newest()[0].credit_applied == 1000


def test_a_cheaper_custom_plan_now_without_billing_changes_only_the_next_invoice():
    """A-05"""
    acme = on(pro(30, 100))

    enabled = enable(acme, pro_again(), fee(20), allowance(100), timing=Timing.WITHOUT_BILLING)
    pass_time(acme, to=APRIL_1)

    assert enabled.invoices == ()
    assert totals(acme) == [3000, 2000]


def test_a_lower_price_makes_the_features_of_the_same_act_wait_too():
    """A-06"""
    acme = on(pro(30, 100))

    enable(acme, pro_again(), fee(20), allowance(500))

    assert left(acme) == 100
    pass_time(acme, to=APRIL_1)
    assert left(acme, now=APRIL_1) == 500


def test_going_yearly_credits_the_month_and_begins_a_new_cycle():
    """A-07"""
    acme = on(pro(20, 100))

    enabled = enable(acme, pro_again(), fee(200, cadence="P1Y"), allowance(100), cadence="P1Y")

    assert enabled.change.total == 18000
    assert the_subscription(acme).period_ends_at == day("2027-03-01")


def test_a_custom_price_decides_whether_another_plan_is_an_upgrade():
    """A-08"""
    acme = on(pro(50, 100))
    starter = plan("starter", fee(20), allowance(50))

    assert preview(acme, starter, fee(60), allowance(50)).kind is ChangeKind.UP

    globex = on(starter, name="Globex")
    change = preview(globex, pro_again(), fee(15), allowance(100))
    assert (change.kind, change.timing) == (ChangeKind.DOWN, Timing.CYCLE_END)


def test_a_new_version_of_the_base_does_not_touch_a_custom_plan():
    """A-09, Y-45"""
    acme = on(pro(50, 100))
    enable(acme, pro_again(), fee(50), allowance(250))

    new_version(pro_again(), fee(80), allowance(100))
    pass_time(acme, to=APRIL_1)

    assert left(acme, now=APRIL_1) == 250
    assert totals(acme) == [5000, 5000]


def test_enabling_the_standard_plan_leaves_the_custom_one_which_stays_in_history():
    """A-10"""
    acme = on(pro(50, 100))
    enable(acme, pro_again(), fee(50), allowance(250))

    enable(acme, pro_again())

    assert left(acme) == 100
    assert CustomPlan.objects.filter(customer=acme).count() == 1
    assert the_subscription(acme).phases.count() == 3


def test_seconds_and_use_after_the_preview_outdate_nothing():
    """A-11"""
    acme = on(pro(20, 100))
    proposal = propose(acme, reread(team(50, 500)))
    change = preview_plan(acme, proposal, now=MARCH_16)

    use(acme, 30, now=MARCH_16 + timedelta(minutes=5))
    later = MARCH_16 + timedelta(minutes=10)
    enabled = enable_plan(acme, proposal, reason="", actor=STAFF, now=later, confirmed=confirmation(change))

    [invoice] = enabled.invoices
    assert [line.amount for line in invoice.lines.all()] == [line.amount for line in change.lines]
    assert left(acme, now=later) == 470  # use after the preview counts on the new allowance


def test_a_preview_expires_after_half_an_hour():
    """A-11"""
    acme = on(pro(20, 100))
    proposal = propose(acme, reread(team(50, 500)))
    confirmed = confirmation(preview_plan(acme, proposal, now=MARCH_16))

    with pytest.raises(PreviewOutdated) as refusal:
        enable_plan(acme, proposal, reason="", actor=STAFF, now=MARCH_16 + timedelta(minutes=31), confirmed=confirmed)

    assert refusal.value.change.total != 0
    assert totals(acme) == [2000]


def test_a_preview_does_not_outlive_the_period_it_was_made_in():
    """A-11"""
    acme = on(pro(20, 100))
    proposal = propose(acme, reread(team(50, 500)))
    just_before = APRIL_1 - timedelta(minutes=5)
    confirmed = confirmation(preview_plan(acme, proposal, now=just_before))

    with pytest.raises(PreviewOutdated):
        enable_plan(acme, proposal, reason="", actor=STAFF, now=APRIL_1, confirmed=confirmed)


def test_a_preview_is_refused_when_the_plan_of_the_customer_moved():
    """A-12"""
    acme = on(pro(20, 100))
    proposal = propose(acme, reread(team(50, 500)))
    confirmed = confirmation(preview_plan(acme, proposal, now=MARCH_16))
    enable(acme, pro_again(), fee(20), allowance(300), now=MARCH_16)

    with pytest.raises(PreviewOutdated):
        enable_plan(acme, proposal, reason="", actor=STAFF, now=MARCH_16, confirmed=confirmed)


def test_pressing_enable_twice_enables_once():
    """A-12"""
    acme = on(pro(20, 100))
    proposal = propose(acme, reread(team(50, 500)))
    confirmed = confirmation(preview_plan(acme, proposal, now=MARCH_16))
    enable_plan(acme, proposal, reason="", actor=STAFF, now=MARCH_16, confirmed=confirmed)

    with pytest.raises(AlreadyOnPlan):
        enable_plan(acme, proposal, reason="", actor=STAFF, now=MARCH_16, confirmed=confirmed)

    assert len(totals(acme)) == 2


def test_a_confirmation_of_one_customer_is_worth_nothing_for_another():
    """A-12"""
    acme, globex = on(pro(20, 100)), on(pro_again(), name="Globex")
    target = reread(team(50, 500))
    confirmed = confirmation(preview_plan(acme, propose(acme, target), now=MARCH_16))

    with pytest.raises(Exception, match="another customer"):
        enable_plan(globex, propose(globex, target), reason="", actor=STAFF, now=MARCH_16, confirmed=confirmed)


def test_nothing_to_change_is_refused_with_a_sentence():
    """A-13"""
    acme = on(pro(20, 100))

    with pytest.raises(AlreadyOnPlan, match="already"):
        preview(acme, pro_again(), fee(20), allowance(100))


def test_invalid_items_are_refused_at_their_cell_and_nothing_is_saved():
    """A-14"""
    acme = on(pro(20, 100))
    wrong = [
        (fee(-5), "amount", "negative_amount"),
        (allowance(-1), "included", "negative_included"),
        (allowance(100, price="-0.1"), "price", "negative_price"),
        (allowance(100, price="0.1", resets="never"), "reset", "priced_never_resets"),
    ]

    for item, field, code in wrong:
        with pytest.raises(InvalidItems) as refusal:
            enable(acme, pro_again(), item)
        assert [(e.index, e.field, e.code) for e in refusal.value.errors] == [(0, field, code)]

    assert CustomPlan.objects.count() == 0


def test_a_custom_plan_needs_a_reason():
    """Law 10"""
    acme = on(pro(20, 100))

    with pytest.raises(ReasonRequired):
        enable(acme, pro_again(), fee(20), allowance(300), reason="  ")


def test_a_scheduled_downgrade_survives_a_balance_edit_and_a_features_only_change():
    """A-15"""
    acme = on(team(200, 500))
    enable(acme, pro(), now=MARCH_16)

    edit_balance(acme, feature="credits", to=Decimal(999), reason="outage", actor=STAFF, now=MARCH_16)
    enable(acme, reread(team_again()), fee(200), allowance(600), now=MARCH_16)
    pass_time(acme, to=APRIL_1)

    assert left(acme, now=APRIL_1) == 100
    assert totals(acme) == [20000, 5000]


def test_a_later_plan_change_replaces_the_scheduled_one_and_says_so():
    """A-15"""
    acme = on(team(200, 500))
    enable(acme, pro(), now=MARCH_16)

    change = preview(acme, plan("solo", fee(10), allowance(20)), now=MARCH_16)

    assert change.replaces == "Replaces the change to Pro on 1 Apr 2026."


def test_a_scheduled_change_holds_at_its_date_although_the_worker_is_late():
    """A-15, A-38"""
    acme = on(team(200, 500))
    use(acme, 450, now=MARCH_16)
    enable(acme, pro(), now=MARCH_16)

    late = day("2026-04-03")

    assert left(acme, now=late) == 100
    use(acme, 30, now=late)
    pass_time(acme, to=day("2026-04-09"))
    assert left(acme, now=day("2026-04-09")) == 70
    assert totals(acme) == [20000, 5000]


def test_seats_are_carried_by_a_scheduled_change_and_consumables_begin_afresh():
    """A-15, A-23"""
    acme = on(plan("team", fee(200), allowance(500), seats(20)))
    use(acme, 300, now=MARCH_16)
    use(acme, 4, of="seats", now=MARCH_16)
    enable(acme, plan("pro", fee(50), allowance(100), seats(5)), now=MARCH_16)

    pass_time(acme, to=APRIL_1)

    assert (left(acme, now=APRIL_1), left(acme, of="seats", now=APRIL_1)) == (100, 1)


def test_an_upgrade_grants_afresh_and_keeps_the_reset_date():
    """A-22"""
    acme = on(plan("pro", fee(50), allowance(100), seats(5)))
    use(acme, 30, now=MARCH_16)
    use(acme, 3, of="seats", now=MARCH_16)

    enable(acme, plan("team", fee(200), allowance(500), seats(10)), now=MARCH_16)

    assert (left(acme, now=MARCH_16), access(acme, now=MARCH_16).next_reset_at) == (500, APRIL_1)
    assert left(acme, of="seats", now=MARCH_16) == 7


def test_an_upgrade_bills_the_overage_so_far_in_full():
    """A-21"""
    acme = on(plan("pro", fee(20), allowance(100, price="0.10")))
    use(acme, 150, now=MARCH_16)

    enabled = enable(acme, team(50, 500), now=MID_MARCH)

    assert sorted(line.amount for line in enabled.change.lines) == [-1000, 500, 2500]


def test_each_act_stands_in_the_journal_with_who_and_why():
    acme = on(pro(20, 100))

    enable(acme, pro_again(), fee(20), allowance(300), reason="support case 412")

    newest = Operation.objects.filter(customer=acme).newest()[0]
    assert (newest.verb, newest.actor, newest.reason) == ("plan.enabled", "ops", "support case 412")
    assert newest.inputs["differences"] == ["Credits: 100 → 300"]


def test_going_back_to_an_earlier_custom_version_needs_a_reason_too():
    """Law 10"""
    acme = on(pro(20, 100))
    enable(acme, pro_again(), fee(20), allowance(300))
    enable(acme, pro_again())

    with pytest.raises(ReasonRequired):
        enable(acme, pro_again(), fee(20), allowance(300), reason="")
    enable(acme, pro_again(), fee(20), allowance(300), reason="as before")

    assert CustomPlan.objects.filter(customer=acme).count() == 1
