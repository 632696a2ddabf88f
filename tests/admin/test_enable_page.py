from datetime import timedelta

import pytest
from django.test import Client

from catalog.models import Plan
from customers.models import CustomPlan, Operation, PlanReservation
from tests.admin.enable_desk import Desk
from tests.builders import (
    allowance,
    assigned,
    customer,
    enable,
    fee,
    left,
    new_version,
    on,
    overuse,
    pay_all,
    plan,
    pro,
    seats,
    switch,
    team,
    the_subscription,
    totals,
    use,
)
from tests.instants import APRIL_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db
MID_MARCH = day("2026-03-16T12:00")  # half of March


@pytest.fixture
def acme():
    """On Pro, $50 a month and 100 credits, since the first of March."""
    who = on(pro())
    use(who, 78)
    return who


def test_more_credits_at_the_same_price_cost_nothing_and_keep_what_was_used(client: Client, acme):
    """A-01"""
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro").type("credits", included="250").preview()

    assert desk.rows.now.total == "$0.00"
    assert desk.rows.button == "Enable custom plan for Acme Robotics"
    [credits] = desk.rows.access
    assert (credits.before, credits.after) == ("22 of 100 left", "172 of 250 left")
    assert credits.notes == ("78 used so far stay counted", "resets 1 Apr 2026 (kept)")
    assert [row.label for row in desk.answer.context["items"] if row.is_changed] == ["Credits"]

    desk.enable(reason="Support case 412")

    assert desk.message == "Acme Robotics is on a custom Pro now. Nothing was charged."
    assert left(acme, now=MID_MARCH) == 172
    assert CustomPlan.objects.get().reason == "Support case 412"
    assert totals(acme) == [5000]


def test_fewer_credits_than_were_used_go_below_zero_and_charge_nothing(client: Client, acme):
    """A-02"""
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro").type("credits", included="50").preview()

    [credits] = desk.rows.access
    assert credits.after == "28 beyond 50"
    assert "further use is refused" in credits.notes
    assert desk.rows.now.total == "$0.00"


def test_a_feature_that_is_added_and_one_that_is_removed_say_so(client: Client):
    """A-03"""
    who = on(plan("pro", fee(50), allowance(100), switch("sso")))
    switch("audit-log")
    desk = Desk(client, who, now=MID_MARCH).open(plan="pro")

    desk.type(**{"items-act": f"remove:{desk.row('sso')}"}).preview()
    desk.type(**{"items-act": "add:audit-log"}).preview()
    desk.preview()

    said = {row.name: (row.before, row.after) for row in desk.rows.access if not row.is_same}
    assert said == {"Sso": ("on", "no access"), "Audit log": ("no access", "on")}


def test_a_higher_price_shows_its_lines_with_their_sums_and_charges_exactly_those(client: Client, acme):
    """A-04"""
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro").type("base", amount="70").preview()

    assert desk.rows.why == "Takes effect now — higher price"
    assert [line.amount for line in desk.rows.now.rows] == ["−$25.00", "$35.00"]
    assert "15.50 of 31 days" in desk.rows.now.rows[0].sum
    assert desk.rows.next_invoice.total == "$70.00"

    desk.enable(reason="more seats")

    assert "$10.00 was invoiced." in desk.message
    invoice = acme.invoices.newest().first()
    assert invoice.total == 1000
    assert f"/invoicing/invoice/{invoice.pk}/" in desk.message


def test_a_lower_price_is_scheduled_for_the_end_of_the_cycle(client: Client, acme):
    """A-05"""
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro").type("base", amount="30").preview()

    assert desk.rows.button == "Schedule custom plan for 1 Apr 2026"
    assert desk.rows.now.total == "$0.00"
    choices = {choice.words: choice.money for choice in desk.rows.choices}
    assert choices == {"Now": "−$10.00", "At the end of the cycle": "$0.00", "Now, without billing": "$0.00"}

    desk.enable(reason="goodwill")

    assert desk.message == "Acme Robotics changes to a custom Pro on 1 Apr 2026. Nothing was charged."
    assert the_subscription(acme).next_phase(MID_MARCH).starts_at == APRIL_1


def test_another_timing_can_be_chosen_and_is_what_happens(client: Client, acme):
    """A-05"""
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro").type("base", amount="30").preview()
    desk.type(timing="now").preview()
    assert desk.rows.settlement == (("Goes to account credit, by a credit note", "$10.00"),)

    desk.enable(reason="goodwill")

    assert desk.message.startswith("Acme Robotics is on a custom Pro now. $10.00 went to account credit.")
    assert totals(acme) == [5000, -1000]


def test_a_timing_that_was_only_preselected_follows_the_price(client: Client, acme):
    """A-05: whoever first types a higher and then a lower price never chose "now"."""
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro").type("base", amount="70").preview()
    assert desk.fields["timing"] == "now"

    desk.type("base", amount="30").preview()

    assert desk.rows.button == "Schedule custom plan for 1 Apr 2026"


def test_enabling_the_standard_plan_leaves_the_custom_one(client: Client):
    """A-10"""
    who = customer()
    enable(who, pro(), fee(50), allowance(250))
    pay_all(who)
    desk = Desk(client, who, now=MID_MARCH).open(plan="pro")
    assert desk.fields[f"items-{desk.row('credits')}-included"] == "250"

    desk.type(**{"items-act": "standard:"}).preview().preview()
    assert desk.rows.button == "Enable Pro"
    desk.enable()

    version = the_subscription(who).phase_at(MID_MARCH).version
    assert not version.tailored
    assert CustomPlan.objects.count() == 1


def test_nothing_that_differs_is_refused_with_a_sentence(client: Client, acme):
    """A-13"""
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro")
    assert "Nothing changes yet" in desk.text

    desk.enable(reason="again")

    assert "This customer is on Pro with exactly these items already." in desk.text
    assert not desk.left_the_page


def test_items_that_cannot_be_keep_what_was_typed_and_say_so_at_their_cell(client: Client, acme):
    """A-14"""
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro")
    desk.type("base", amount="-5").type("credits", included="many").enable(reason="a reason")

    row, fees = desk.row("credits"), desk.row("base")
    assert desk.fields[f"items-{row}-included"] == "many"
    assert desk.fields[f"items-{fees}-amount"] == "-5"
    assert desk.fields["reason"] == "a reason"
    errors = {row.label: row.errors for row in desk.answer.context["items"]}
    assert set(errors["Base fee"]) == {"price"}
    assert set(errors["Credits"]) == {"included"}
    assert not CustomPlan.objects.exists()


def test_while_typing_refusals_come_with_the_cell_they_belong_to(client: Client, acme):
    """A-14"""
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro").type("base", amount="-5")

    html = desk.live_preview()

    assert f'data-cell-error="items-{desk.row("base")}" data-cell="price"' in html
    assert 'id="items-editor"' not in html


def test_a_custom_plan_without_a_reason_is_refused_at_the_field(client: Client, acme):
    """A-01"""
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro").type("credits", included="250").preview().enable()

    assert "Give a reason for a custom plan" in desk.answer.context["form"].errors["reason"][0]
    assert desk.fields[f"items-{desk.row('credits')}-included"] == "250"
    assert not CustomPlan.objects.exists()


def test_enable_without_having_seen_the_numbers_shows_them_first(client: Client, acme):
    """A-11"""
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro")
    assert "confirmed" not in desk.fields

    desk.type("base", amount="70").enable(reason="more seats")

    assert desk.rows.now.total == "$10.00"
    assert totals(acme) == [5000]


def test_a_preview_that_the_world_overtook_is_shown_anew_with_the_differences_marked(client: Client, acme):
    """A-11"""
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro").type("base", amount="70").preview()
    enable(acme, Plan.objects.get(key="pro"), fee(60), allowance(100), now=MID_MARCH)

    desk.enable(reason="more seats")

    assert "Something changed since the preview was made." in desk.text
    assert desk.rows.button == "Enable with these numbers"
    assert desk.rows.now.was == "$10.00"
    assert desk.rows.moved
    desk.enable()
    assert "was invoiced" in desk.message


def test_an_expired_preview_is_shown_anew_and_asks_again(client: Client, acme):
    """A-11"""
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro").type("base", amount="70").preview()
    desk.now = MID_MARCH + timedelta(hours=6)

    desk.enable(reason="more seats")

    assert "The preview has expired." in desk.text
    assert [(line.was, line.amount) for line in desk.rows.now.rows] == [("−$25.00", "−$24.60"), ("$35.00", "$34.44")]
    assert totals(acme) == [5000]


def test_seconds_and_use_that_passed_since_the_preview_change_nothing_in_it(client: Client, acme):
    """A-11"""
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro").type("base", amount="70").preview()
    use(acme, 5, now=MID_MARCH + timedelta(minutes=5))
    desk.now = MID_MARCH + timedelta(minutes=20)

    desk.enable(reason="more seats")

    assert totals(acme) == [5000, 1000]


def test_a_double_click_enables_once_and_says_so(client: Client, acme):
    """A-12"""
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro").type("base", amount="70").preview()
    typed = dict(desk.fields)

    desk.enable(reason="more seats")
    desk.fields = typed
    desk.enable(reason="more seats")

    assert totals(acme) == [5000, 1000]
    assert "It was not done twice." in desk.message


def test_a_double_click_on_a_scheduled_change_schedules_once(client: Client, acme):
    """A-12"""
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro").type("base", amount="30").preview()
    typed = dict(desk.fields)

    desk.enable(reason="goodwill")
    desk.fields = typed
    desk.enable(reason="goodwill")

    assert "It was not done twice." in desk.message
    assert Operation.objects.filter(verb="plan.scheduled").count() == 1


def test_a_later_change_says_what_it_replaces(client: Client, acme):
    """A-15"""
    enable(acme, Plan.objects.get(key="pro"), fee(30), allowance(100), now=MID_MARCH)

    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro").type("base", amount="70").preview()

    assert desk.rows.replaces == "Replaces the change to Pro on 1 Apr 2026."


def test_other_items_for_now_say_that_what_is_scheduled_comes_all_the_same(client: Client, acme):
    """L-28"""
    enable(acme, Plan.objects.get(key="pro"), fee(30), allowance(100), now=MID_MARCH)

    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro").type("credits", included="250").preview()

    assert desk.rows.replaces == "The change to Pro on 1 Apr 2026 stays scheduled: these items hold until then."


def test_another_plan_that_costs_more_gives_fresh_credits_and_keeps_the_reset_date(client: Client):
    """A-22"""
    who = on(plan("pro", fee(50), allowance(100), seats(5)))
    plan("team", fee(200), allowance(500), seats(20))
    use(who, 30)
    use(who, 3, of="seats")

    desk = Desk(client, who, now=MID_MARCH).open(plan="team")

    said = {row.name: (row.before, row.after) for row in desk.rows.access}
    assert said == {
        "Credits": ("70 of 100 left", "500 of 500 left"),
        "Seats": ("3 of 5 in use", "3 of 20 in use"),
    }
    assert desk.rows.access[0].notes == ("starts afresh", "resets 1 Apr 2026 (kept)")


def test_overage_so_far_waits_for_the_closing_invoice_of_a_downgrade(client: Client):
    """A-23"""
    who = on(plan("team", fee(200), allowance(100, price="0.10")))
    plan("pro", fee(50), allowance(100))
    overuse(who, 150)

    desk = Desk(client, who, now=MID_MARCH).open(plan="pro")

    assert desk.rows.now.total == "$0.00"
    assert [line.amount for line in desk.rows.next_invoice.rows] == ["$5.00", "$50.00"]


def test_a_first_plan_and_a_change_go_through_the_same_page(client: Client):
    """L-41"""
    pro()
    team()
    who = customer()
    Desk(client, who, now=MARCH_1).open(plan="pro").enable()
    pay_all(who)
    Desk(client, who, now=MARCH_1).open(plan="team").enable()

    assert the_subscription(who).phase_at(MARCH_1).version.plan.key == "team"


def test_an_add_on_stands_beside_the_main_plan(client: Client, acme):
    """L-41"""
    plan("extra", fee(10), allowance(50), add_on=True)

    Desk(client, acme, now=MID_MARCH).open(plan="extra").enable()
    pay_all(acme, now=MID_MARCH)

    assert acme.subscriptions.live().count() == 2


def test_addable_plans_come_first_and_leave_out_what_would_be_a_change(client: Client, acme):
    """Y-36"""
    team()
    plan("extra", fee(10), allowance(50), add_on=True)
    plan("gold", fee(99), of="support")

    page = Desk(client, acme, now=MID_MARCH).open().answer.context["page"]

    assert [(group.title, [row.title for row in group.rows]) for group in page.groups] == [
        ("API", ["Extra"]),
        ("SUPPORT", ["Gold"]),
        ("API — instead of Pro", ["Pro", "Team"]),
    ]


def test_change_lists_the_plans_of_that_product_with_the_current_one_chosen(client: Client, acme):
    """Y-36"""
    team()
    plan("gold", fee(99), of="support")
    desk = Desk(client, acme, now=MID_MARCH).open(subscription=the_subscription(acme).public_id)

    page = desk.answer.context["page"]
    [group] = page.groups
    assert [(row.title, row.is_chosen) for row in group.rows] == [("Pro", True), ("Team", False)]
    assert ("current", "info") in group.rows[0].badges


def test_a_plan_reserved_for_another_customer_is_neither_shown_nor_enabled(client: Client, acme):
    """Y-37"""
    deal = plan("acme-annual-2024", fee(900))
    PlanReservation.objects.create(plan=deal, customer=customer("Globex"))

    desk = Desk(client, acme, now=MID_MARCH).open()

    assert "Acme annual 2024" not in desk.text
    assert desk.open(plan="acme-annual-2024").answer.status_code == 404


def test_a_plan_made_for_a_deal_is_enabled_for_its_customer_like_any_other(client: Client):
    """Y-37"""
    who = customer()
    deal = plan("acme-annual-2024", fee(900, cadence="P1Y"), cadence="P1Y")
    PlanReservation.objects.create(plan=deal, customer=who)

    Desk(client, who, now=MARCH_1).open(plan="acme-annual-2024").enable()

    assert totals(who) == [90000]


def test_a_lower_price_with_more_features_waits_as_a_whole(client: Client, acme):
    """A-06"""
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro")
    desk.type("base", amount="30").type("credits", included="250").preview().enable(reason="deal")

    assert left(acme, now=MID_MARCH) == 22
    assert "1 Apr 2026" in desk.message


def test_a_dear_plan_at_a_low_custom_price_is_a_downgrade(client: Client, acme):
    """A-08"""
    team()
    desk = Desk(client, acme, now=MID_MARCH).open(plan="team").type("base", amount="15").preview()

    assert desk.rows.button == "Schedule custom plan for 1 Apr 2026"


def test_whoever_is_on_a_plan_that_is_no_longer_offered_is_told_so(client: Client, acme):
    """Y-36"""
    Plan.objects.filter(key="pro").update(archived_at=MARCH_16)

    desk = Desk(client, acme, now=MID_MARCH).open(subscription=the_subscription(acme).public_id)

    assert "no longer offered" in desk.text


def test_whoever_is_on_an_older_version_starts_from_it_and_may_move(client: Client, acme):
    """A-09"""
    new_version(Plan.objects.get(key="pro"), fee(60), allowance(120))
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro")
    assert desk.fields[f"items-{desk.row('base')}-amount"] == "50.00"
    assert "Move to v2" in desk.text

    desk.open(plan="pro", version="2")

    assert desk.rows.now.total == "$5.00"
    desk.enable()
    assert the_subscription(acme).phase_at(MID_MARCH).version.number == 2


def test_a_yearly_price_for_the_same_plan_begins_a_new_yearly_cycle(client: Client, acme):
    """A-07"""
    desk = Desk(client, acme, now=MARCH_1).open(plan="pro")
    desk.type("base", amount="500", cadence="P1Y").type(**{"items-cadence": "P1Y"}).preview()

    assert desk.rows.now.total == "$450.00"
    assert desk.rows.next_at == day("2027-03-01")


def test_an_assigned_plan_takes_an_end_and_is_never_invoiced(client: Client):
    """P-44"""
    assigned()
    who = customer()
    desk = Desk(client, who, now=MARCH_16, role="Ops").open(plan="partner")
    assert "quantity" not in desk.fields

    desk.type(ends_on="2026-04-01").preview().enable()

    subscription = the_subscription(who)
    assert subscription.ends_at == APRIL_1
    assert not who.invoices.exists()


def test_an_end_in_the_past_is_refused_at_its_field(client: Client):
    """P-44"""
    assigned()
    desk = Desk(client, customer(), now=MARCH_16).open(plan="partner").type(ends_on="2026-03-01").preview()

    assert "after the start" in desk.answer.context["form"].errors["ends_on"][0]


def test_so_many_at_once_are_charged_so_many_times(client: Client):
    """A-04"""
    pro()
    desk = Desk(client, customer(), now=MARCH_1).open(plan="pro").type(quantity="3").preview()

    assert desk.rows.now.total == "$150.00"
    assert desk.rows.access[0].after == "300 of 300 left"


def test_a_quantity_below_one_is_refused_at_its_field(client: Client):
    """A-14"""
    pro()
    desk = Desk(client, customer(), now=MARCH_1).open(plan="pro").type(quantity="0").preview()

    assert desk.answer.context["form"].errors["quantity"] == ["The quantity is a whole number of 1 or more."]
    assert desk.rows is None


def test_account_credit_that_pays_a_part_is_shown(client: Client, acme):
    """A-05"""
    enable(acme, Plan.objects.get(key="pro"), fee(42), allowance(100), now=MID_MARCH, timing="now")
    desk = Desk(client, acme, now=MID_MARCH).open(plan="pro").type("base", amount="70").preview()

    assert desk.rows.settlement == (("Account credit used", "−$4.00"), ("Left to pay", "$10.00"))


def test_what_was_not_paid_yet_comes_off_its_open_invoice(client: Client):
    """A-04"""
    pro()
    who = customer()
    enable(who, Plan.objects.get(key="pro"))
    desk = Desk(client, who, now=MID_MARCH).open(plan="pro").type("base", amount="70").preview()

    number = who.invoices.get().number
    assert desk.rows.settlement == (
        (f"Comes off {number}, which is not paid yet", "−$25.00"),
        ("On the new invoice", "$35.00"),
    )
