"""Rules of acts that are done on the way of another one: in a plan, a deal, a batch; and small acts that add up."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group, User

from billing_admin.flows import batches
from billing_admin.flows.approval_rules import BadRule, RuleTerms, write_rule
from billing_admin.flows.approvals import ApprovalNeeded, MayNotDecide, approve, ask, asked_of, waiting_for
from billing_admin.flows.balances import Wanted as Edit
from billing_admin.flows.balances import set_balance
from billing_admin.flows.corrections import credit_invoice, void_invoice
from billing_admin.flows.coupons import coupon_for_act
from billing_admin.flows.deal_approval import submit
from billing_admin.flows.deals import create_deal, newest, read_terms, save_version
from billing_admin.flows.drafts import add_line
from billing_admin.flows.enable_plan import enable_plan, propose
from billing_admin.flows.grants import Wanted, change_units, give_units
from billing_admin.flows.override_batch import Row, begin, carry_out
from billing_admin.flows.overrides import give_override
from billing_admin.flows.plan_change import Activation
from billing_admin.flows.rewards import apply_coupon, give_invoice_credit
from billing_admin.flows.trials import extend
from billing_admin.flows.undo import undo
from billing_admin.models import ApiKey, ApprovalRequest, Batch
from customers.journal import Actor
from customers.models import Customer
from deals.terms import DealCoupon, DealOverride
from entitlements.models import OverrideBatch
from tests import builders as a
from tests.approving import FINANCE, coupon, person, rule
from tests.instants import APRIL_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db
OPS = "Ops"
TRIALS = "A new or longer trial with more than {} days needs approval by {}."


@pytest.fixture
def acme() -> Customer:
    return a.on(a.pro(50))


def by(role: str) -> Actor:
    return Actor.of(person(role))


def both(name: str, *roles: str) -> User:
    """Somebody of several roles at once."""
    user = person(roles[0], called=name)
    user.groups.add(*Group.objects.filter(name__in=roles))
    return user


# In a plan


def test_a_plan_with_a_longer_trial_than_its_own_meets_the_rule_of_trials():
    """A-53"""
    acme, pro = a.customer(), a.plan("pro", a.fee(50), trial_days=14)
    rule("trial.extended", measure="days", above="20")

    with pytest.raises(ApprovalNeeded) as needed:
        enable_plan(acme, propose(acme, pro, trial_days=30), **now())

    assert needed.value.why == TRIALS.format(20, FINANCE)


def now() -> dict:
    return {"reason": "they asked", "actor": by("Sales engineer"), "now": MARCH_16}


def test_the_trial_that_the_plan_has_anyway_needs_nobody():
    pro = a.plan("pro", a.fee(50), trial_days=30)
    rule("trial.extended", measure="days", above="20")
    acme = a.customer()

    assert enable_plan(acme, propose(acme, pro), **now()).subscription.state == "trialing"


@pytest.mark.parametrize("given", [{"percent": "50"}, {"amount": 2500}])
def test_a_plan_with_a_coupon_meets_the_rule_of_coupons(given: dict):
    """A-53: a coupon that comes with a plan is no smaller than one on its own."""
    acme, pro = a.customer(), a.pro(50)
    coupon("half", **given)
    rule("coupon.applied", measure="discount", above="20")
    offered = [coupon_for_act(acme, "half", MARCH_16, plan=pro)]

    with pytest.raises(ApprovalNeeded) as needed:
        enable_plan(acme, propose(acme, pro, coupons=offered), **now())

    request = ask(needed.value, actor=by("Sales engineer"), now=MARCH_16)
    assert approve(request, user=person(FINANCE), now=MARCH_16).state == "applied"
    assert acme.applied_coupons.exists()


def test_a_plan_that_gives_access_before_its_payment_meets_the_rule_of_early_access():
    """A-53"""
    acme, pro = a.customer(), a.pro(50)
    rule("plan.activated", measure="amount", above="20")

    with pytest.raises(ApprovalNeeded) as needed:
        enable_plan(acme, propose(acme, pro, activation=Activation.NOW), **now())

    request = ask(needed.value, reason="by cheque", actor=by("Sales engineer"), now=MARCH_16)
    assert approve(request, user=person(FINANCE), now=MARCH_16).state == "applied"
    assert a.the_subscription(acme).state == "active"


def test_many_small_steps_of_a_trial_are_as_large_as_one():
    """A-53: a trial is measured from its first day on."""
    acme = a.customer()
    a.enable(acme, a.plan("pro", a.fee(50), trial_days=14))
    rule("trial.extended", measure="days", above="30")
    first = datetime.fromisoformat("2026-03-10T00:00:00+00:00")
    contract = a.the_subscription(acme)
    extend(contract, days=14, reason="needs time", actor=by("Sales engineer"), now=first)

    with pytest.raises(ApprovalNeeded):
        extend(contract, days=16, reason="needs more", actor=by("Sales engineer"), now=first + timedelta(days=10))


# In a deal


def test_a_deal_meets_the_rules_of_what_it_gives_besides_its_price():
    """A-53"""
    rule("override.given", measure="units", above="1000")
    rule("trial.extended", measure="days", above="20", approver="Admin")
    rule("coupon.applied", measure="discount", above="20")
    coupon("half", percent="50")
    a.feature()
    deal = create_deal(a.customer(), a.pro(100).current_version, name="Globex", actor=a.STAFF, now=MARCH_16)
    given = (DealOverride("credits", Decimal(5000)),)
    more = {"overrides": given, "trial_days": 30, "coupons": (DealCoupon("half"),)}
    save_version(deal, replace(read_terms(newest(deal)), **more), actor=a.STAFF, now=MARCH_16)

    deal = submit(deal, reason="a reference", actor=by("Sales engineer"), now=MARCH_16)

    [request] = ApprovalRequest.objects.all()
    assert deal.state == "awaiting_approval"
    assert "A feature override with more than 1,000 units needs approval by Finance." in request.why
    assert "A coupon with a discount above 20 % needs approval by Finance." in request.why
    assert TRIALS.format(20, "Admin") in request.why
    assert request.why.endswith("It takes somebody who is Admin and Finance at once.")


# Rules by several measures


def test_bars_of_two_measures_take_somebody_with_both_roles(acme: Customer):
    """A-53: neither bar stands for the other."""
    rule("coupon.applied", measure="discount", above="20")
    rule("coupon.applied", measure="amount", above="10", approver="Admin")
    with pytest.raises(ApprovalNeeded) as needed:
        apply_coupon(acme, coupon("forty", amount=4000), reason="they asked", actor=by(OPS), now=MARCH_16)
    request = ask(needed.value, actor=by(OPS), now=MARCH_16)

    for one in (person(FINANCE), person("Admin")):
        assert waiting_for(one, MARCH_16) == 0
        with pytest.raises(MayNotDecide, match="somebody who is Admin and Finance at once"):
            approve(request, user=one, now=MARCH_16)

    assert asked_of(request) == "Admin and Finance"
    chief = both("chief", FINANCE, "Admin")
    assert waiting_for(chief, MARCH_16) == 1
    assert approve(request, user=chief, now=MARCH_16).state == "applied"


def test_a_superuser_decides_in_the_place_of_both(acme: Customer):
    rule("coupon.applied", measure="discount", above="20")
    rule("coupon.applied", measure="amount", above="10", approver="Admin")
    with pytest.raises(ApprovalNeeded) as needed:
        apply_coupon(acme, coupon("forty", amount=4000), reason="they asked", actor=by(OPS), now=MARCH_16)
    request = ask(needed.value, actor=by(OPS), now=MARCH_16)

    assert approve(request, user=User.objects.create_superuser("boss"), now=MARCH_16).state == "applied"


# Rows of a batch


def grants_of(who: Customer, units: str) -> Batch:
    """A bulk act of one row, asked for as a whole and not approved yet."""
    a.feature("credits")
    cells = {"feature": "credits", "units": units, "until": "2026-05-01", "label": "", "recurs": "", "reason": ""}
    user = person(OPS)
    batch = batches.begin_chosen(
        "grants", [who.customer_id], cells, title="1 customer", reason="outage", user=user, now=MARCH_16
    )
    go_on(batch)
    with pytest.raises(ApprovalNeeded) as needed:
        batches.confirm(batch, batch.fingerprint, actor=Actor.of(user), now=MARCH_16)
    ask(needed.value, actor=Actor.of(user), now=MARCH_16)
    return batch


def go_on(batch: Batch) -> None:
    batch.refresh_from_db()
    batches.go_on(batch, clock=lambda: MARCH_16, until=MARCH_16 + timedelta(seconds=1))
    batch.refresh_from_db()


def test_the_approval_of_a_batch_frees_its_rows_of_rules_that_its_approver_decides(acme: Customer):
    """A-53"""
    rule("bulk.started", measure="customers", above="0")
    rule("grant.given", measure="units", above="100")
    batch = grants_of(acme, "500")

    approve(ApprovalRequest.objects.get(), user=person(FINANCE), now=MARCH_16)
    go_on(batch)

    assert (batch.rows.get().state, acme.grants.count()) == ("done", 1)


def test_a_row_whose_rule_names_another_role_is_refused_in_an_approved_batch(acme: Customer):
    """A-53: Finance approves the batch; so many units are for the Admins."""
    rule("bulk.started", measure="customers", above="0")
    rule("grant.given", measure="units", above="100", approver="Admin")
    batch = grants_of(acme, "500")

    approve(ApprovalRequest.objects.get(), user=person(FINANCE), now=MARCH_16)
    go_on(batch)

    row = batch.rows.get()
    assert (row.state, row.code, acme.grants.count()) == ("failed", "approval_required", 0)
    assert "needs approval by Admin" in row.problem


def test_whoever_has_the_roles_of_the_rows_too_approves_all_of_them(acme: Customer):
    """A-53"""
    rule("bulk.started", measure="customers", above="0")
    rule("grant.given", measure="units", above="100", approver="Admin")
    batch = grants_of(acme, "500")

    approve(ApprovalRequest.objects.get(), user=both("chief", FINANCE, "Admin"), now=MARCH_16)
    go_on(batch)

    assert batch.rows.get().state == "done"


def override_row(who: Customer, units: int) -> Row:
    return Row(2, who.customer_id, "credits", Decimal(units), MAY_1)


def test_overrides_of_many_meet_the_rule_of_a_single_one(acme: Customer):
    """A-53: what is too much for one customer is no less when it is given to many."""
    rule("override.given", measure="units", above="1000")

    with pytest.raises(ApprovalNeeded) as needed:
        begin([override_row(acme, 5000)], "outage", by("Sales engineer"), MARCH_16)

    request = ask(needed.value, actor=by("Sales engineer"), now=MARCH_16)
    assert request.why == "A feature override with more than 1,000 units needs approval by Finance."
    approve(request, user=person(FINANCE), now=MARCH_16)
    batch = carry_out(OverrideBatch.objects.get(), MARCH_16)
    assert (batch.failures, a.left(acme, now=MARCH_16)) == ([], 5000)


def test_an_override_in_a_batch_meets_a_rule_that_came_after_it_was_confirmed(acme: Customer):
    """A-53"""
    batch = begin([override_row(acme, 5000)], "outage", by("Sales engineer"), MARCH_16)
    rule("override.given", measure="units", above="1000")

    [failure] = carry_out(batch, MARCH_16).failures

    assert failure["code"] == "approval_required"
    assert not acme.feature_overrides.exists()


def test_an_override_that_takes_access_away_is_no_gift(acme: Customer):
    rule("override.given", measure="days", above="10")

    give_override(
        acme, a.feature(), "no_access", effective_until=None, reason="fraud", actor=by("Sales engineer"), now=MARCH_16
    )

    assert acme.feature_overrides.exists()


def test_an_unlimited_override_is_above_every_number_of_units(acme: Customer):
    """A-53"""
    rule("override.given", measure="units", above="1000000")

    with pytest.raises(ApprovalNeeded):
        give_override(
            acme, a.feature(), "unlimited", effective_until=MAY_1, reason="x", actor=by("Sales engineer"), now=MARCH_16
        )


# Together


def credit(who: Customer, amount: int, *, actor: Actor, at: datetime = MARCH_16) -> None:
    give_invoice_credit(who, amount=amount, currency="USD", label="Sorry", reason="outage", actor=actor, now=at)


def test_two_credits_of_one_day_that_are_too_much_together_need_somebody(acme: Customer):
    """A-53: 99 and 99 under a bar of 100."""
    rule("invoice_credit.given", measure="amount", above="100", within_hours=24)
    credit(acme, 9900, actor=by(FINANCE))

    with pytest.raises(ApprovalNeeded) as needed:
        credit(acme, 9900, actor=by(FINANCE), at=MARCH_16 + timedelta(hours=23))

    assert needed.value.why == (
        "An invoice credit with an amount above 100, alone or together with others within 24 hours, "
        "needs approval by Finance."
    )
    assert acme.invoice_credits.count() == 1


def test_what_is_further_back_does_not_count_along(acme: Customer):
    rule("invoice_credit.given", measure="amount", above="100", within_hours=24)
    credit(acme, 9900, actor=by(FINANCE))

    credit(acme, 9900, actor=by(FINANCE), at=MARCH_16 + timedelta(hours=24))

    assert acme.invoice_credits.count() == 2


def test_what_others_gave_or_others_got_does_not_count_along(acme: Customer):
    rule("invoice_credit.given", measure="amount", above="100", within_hours=24)
    globex = a.on(a.reread(a.the_subscription(acme).kept_phases()[-1].version.plan), name="Globex")
    credit(acme, 9900, actor=by(FINANCE))

    credit(acme, 9900, actor=by("Admin"))
    credit(globex, 9900, actor=by(FINANCE))

    assert acme.invoice_credits.count() == 2


def test_a_person_and_a_key_of_theirs_are_one_hand(acme: Customer):
    """A-53"""
    rule("invoice_credit.given", measure="amount", above="100", within_hours=24)
    ApiKey.issue("crm", Group.objects.get(name=FINANCE), by="finance")
    credit(acme, 9900, actor=by(FINANCE))

    with pytest.raises(ApprovalNeeded):
        credit(acme, 9900, actor=Actor("api:crm"))


def test_what_was_approved_or_taken_back_does_not_count_along(acme: Customer):
    rule("invoice_credit.given", measure="amount", above="100", within_hours=24)
    with pytest.raises(ApprovalNeeded) as needed:
        credit(acme, 15000, actor=by(FINANCE))
    approve(ask(needed.value, actor=by(FINANCE), now=MARCH_16), user=both("chief", "Admin", FINANCE), now=MARCH_16)
    credit(acme, 9000, actor=by(FINANCE))
    given = acme.operations.filter(verb="invoice_credit.given").order_by("-id")[0]
    undo(given, reason="a mistake", actor=by(FINANCE), now=MARCH_16)

    credit(acme, 9000, actor=by(FINANCE))

    assert acme.invoice_credits.filter(voided_at=None).count() == 2


def test_what_was_taken_back_and_then_restored_counts_again(acme: Customer):
    """A-53: an undo that was taken back is no way to start from nothing."""
    rule("invoice_credit.given", measure="amount", above="100", within_hours=24)
    credit(acme, 9900, actor=by(FINANCE))
    said = {"reason": "a mistake", "actor": by(FINANCE), "now": MARCH_16}
    undo(undo(acme.operations.get(verb="invoice_credit.given"), **said), **said)

    with pytest.raises(ApprovalNeeded):
        credit(acme, 9900, actor=by(FINANCE))


def test_keys_of_one_name_are_the_hands_of_all_who_made_them(acme: Customer):
    """A-53: the journal names a key, and names are given twice."""
    rule("invoice_credit.given", measure="amount", above="100", within_hours=24)
    for made_by in (FINANCE.lower(), "somebody"):
        ApiKey.issue("crm", Group.objects.get(name=FINANCE), by=made_by)
    credit(acme, 9900, actor=by(FINANCE))

    with pytest.raises(ApprovalNeeded):
        credit(acme, 9900, actor=Actor("api:crm"))


def test_a_credit_and_a_line_below_zero_add_up(acme: Customer):
    """A-53: a line on the next invoice goes by the rule of invoice credits."""
    rule("invoice_credit.given", measure="amount", above="100", within_hours=24)
    credit(acme, 9900, actor=by(FINANCE))
    contract = a.the_subscription(acme)

    with pytest.raises(ApprovalNeeded):
        add_line(subscription=contract, description="Sorry", amount=-500, actor=by(FINANCE), now=MARCH_16)


def test_units_that_were_given_today_add_up(acme: Customer):
    """A-53: the line of the second is written before the rule is asked, and is not counted twice."""
    rule("grant.given", measure="units", above="100", within_hours=24)
    wanted = Wanted(a.feature(), Decimal(60), APRIL_1, "sorry")
    give_units(acme, wanted, reason="outage", actor=by(OPS), now=MARCH_16)

    give_units(acme, replace(wanted, units=Decimal(40)), reason="outage", actor=by(OPS), now=MARCH_16)
    with pytest.raises(ApprovalNeeded):
        give_units(acme, replace(wanted, units=Decimal(1)), reason="outage", actor=by(OPS), now=MARCH_16)

    assert acme.grants.count() == 2


@pytest.mark.parametrize(("approver", "asks"), [("Admin", True), (FINANCE, False)])
def test_rows_of_a_batch_count_unless_its_approver_decides_their_rule(acme: Customer, approver: str, asks: bool):
    """A-53: Finance approved 90 in a batch of many; under the Admins' bar of 100 there are 10 left."""
    rule("bulk.started", measure="customers", above="0")
    rule("grant.given", measure="units", above="100", within_hours=24, approver=approver)
    batch = grants_of(acme, "90")
    approve(ApprovalRequest.objects.get(), user=person(FINANCE), now=MARCH_16)
    go_on(batch)
    wanted = Wanted(a.feature(), Decimal(90), APRIL_1, "sorry")

    with pytest.raises(ApprovalNeeded) if asks else nullcontext():
        give_units(acme, wanted, reason="outage", actor=by(OPS), now=MARCH_16)


def test_units_that_were_used_before_they_were_taken_back_count(acme: Customer):
    """A-53: 60 given, used and taken back, and 60 again under a bar of 100."""
    rule("grant.given", measure="units", above="100", within_hours=24)
    wanted = Wanted(a.feature(), Decimal(60), APRIL_1, "sorry")
    said = {"reason": "outage", "actor": by(OPS), "now": MARCH_16}
    give_units(acme, wanted, **said)
    a.use(acme, a.left(acme, now=MARCH_16), now=MARCH_16)
    undo(acme.operations.get(verb="grant.given"), **said)

    with pytest.raises(ApprovalNeeded):
        give_units(acme, wanted, **said)


def test_units_that_came_on_top_of_a_grant_add_up(acme: Customer):
    """A-53: 1, raised to 99, and 2 more under a bar of 100."""
    rule("grant.given", measure="units", above="100", within_hours=24)
    wanted = Wanted(a.feature(), Decimal(1), APRIL_1, "sorry")
    given = give_units(acme, wanted, reason="outage", actor=by(OPS), now=MARCH_16)
    change_units(given, {"units": Decimal(99)}, actor=by(OPS), now=MARCH_16)

    with pytest.raises(ApprovalNeeded):
        give_units(acme, replace(wanted, units=Decimal(2)), reason="outage", actor=by(OPS), now=MARCH_16)


@pytest.mark.parametrize("changes", [{"units": Decimal(60)}, {"ends_at": None}])
def test_a_change_of_units_that_come_again_is_as_large_as_all_within_a_year(acme: Customer, changes: dict):
    """A-53"""
    rule("grant.given", measure="units", above="500")
    ends_at = APRIL_1 if "ends_at" in changes else None
    wanted = Wanted(a.feature(), Decimal(50 if ends_at else 1), ends_at, "sorry", recurs="P1M")
    given = give_units(acme, wanted, reason="outage", actor=by(OPS), now=MARCH_16)

    with pytest.raises(ApprovalNeeded):
        change_units(given, changes, actor=by(OPS), now=MARCH_16)


def test_an_edit_that_lets_a_bonus_last_longer_is_as_large_as_what_is_left_of_it(acme: Customer):
    """A-53: alone, and together with others"""
    given = give_units(
        acme, Wanted(a.feature(), Decimal(90), APRIL_1, "sorry"), reason="x", actor=by(OPS), now=MARCH_16
    )
    rule("balance.edited", measure="units", above="100", within_hours=24)
    wanted = Edit("credits", Decimal(90), balance_id=given.balances.get().pk, expires_at=MAY_1)
    said = {"reason": "outage", "actor": by(OPS), "now": MARCH_16}
    set_balance(acme, wanted, **said)

    with pytest.raises(ApprovalNeeded):
        set_balance(acme, replace(wanted, expires_at=MAY_1 + timedelta(days=1)), **said)


def test_credit_notes_and_voids_add_up_each_with_their_own(acme: Customer):
    """A-53"""
    rule("invoice.credited", measure="amount", above="30", within_hours=48)
    rule("invoice.voided", measure="amount", above="60", within_hours=48)
    [invoice] = acme.invoices.all()
    said = {"settlement": "account_credit", "reason": "downtime", "actor": by(FINANCE)}
    credit_invoice(invoice, amount=2000, **said, now=MARCH_16)
    a.pass_time(acme, to=APRIL_1, pays=False)
    a.pass_time(acme, to=MAY_1, pays=False)
    first, second = acme.invoices.filter(state="open").order_by("id")
    void_invoice(first, reason="goodwill", actor=by(FINANCE), now=MAY_1)

    with pytest.raises(ApprovalNeeded, match="A credit note"):
        credit_invoice(invoice, amount=2000, **said, now=MARCH_16 + timedelta(hours=1))
    with pytest.raises(ApprovalNeeded, match="Voiding an invoice"):
        void_invoice(second, reason="goodwill", actor=by(FINANCE), now=MAY_1)


def test_only_what_adds_up_is_counted_together():
    finance = Group.objects.get(name=FINANCE)
    wrong = [
        RuleTerms("coupon.applied", finance, measure="discount", above=Decimal(20), within_hours=24),
        RuleTerms("invoice_credit.given", finance, within_hours=24),
        RuleTerms("invoice_credit.given", finance, measure="amount", above=Decimal(20), within_hours=0),
        RuleTerms("trial.extended", finance, measure="days", above=Decimal(20), within_hours=24),
    ]

    for terms in wrong:
        with pytest.raises(BadRule) as refused:
            write_rule(terms, actor=a.STAFF, now=MARCH_16)
        assert refused.value.field == "within_hours"
