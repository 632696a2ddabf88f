"""The customer's page: what stands on it, for whom, and at which cost."""

from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse

from billing_admin.flows.cancel import cancel
from billing_admin.flows.plan_change import Timing
from billing_admin.flows.upcoming import upcoming
from customers.models import Customer, Subscription
from entitlements.edit import edit_balance
from entitlements.readings import forget_items
from invoicing.readings import unbilled_use
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk
from tests.instants import APRIL_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db


def busy() -> Customer:
    """On a plan with every kind of feature, 40 of 100 credits used, 15 calls beyond the included ten."""
    items = [a.fee(50), a.allowance(100), a.allowance(10, of="calls", price="0.01"), a.switch(), a.static()]
    who = a.on(a.plan("pro", *items))
    a.use(who, 40, now=day("2026-03-10"))
    a.overuse(who, 25, of="calls", now=day("2026-03-11"))
    return who


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client)


def test_products_say_state_price_limits_and_the_day_of_renewal(desk):
    """A-50"""
    [row] = desk.page(busy()).answer.context["page"].products

    assert (row.title, row.state, row.price) == ("API · Pro", ("active", ""), "$50.00 / month + use")
    assert row.limits[0] == "100 credits / month"
    assert row.renews_at == APRIL_1


def test_features_say_what_is_left_until_when_and_what_overage_costs(desk):
    """A-50"""
    credits, calls, sso, limit = desk.page(busy()).answer.context["page"].features

    assert (credits.access.remaining, credits.allowance, credits.access.next_reset_at) == (60, 100, APRIL_1)
    assert (calls.access.overage, calls.overage_cost) == (15, 15)
    assert sso.access.has_access
    assert limit.value == "100"


def test_seats_that_are_paid_for_are_no_overrun(desk):
    """L-40"""
    who = a.on(a.plan("team", a.fee(50), a.paid_seats(2)))
    a.use(who, 5, of="seats")

    page = desk.page(who).text

    assert "in use · 2 included" in page
    assert "3 over" not in page


def test_features_show_the_use_of_each_of_the_last_thirty_days(desk):
    """A-50"""
    credits = desk.page(busy()).answer.context["page"].features[0]

    assert len(credits.days) == 30
    assert credits.days[-7] == 40  # 10 March, seen on the 16th


def test_invoices_stand_with_state_and_amount(desk):
    """A-50"""
    page = desk.page(busy())

    [row] = page.answer.context["invoices"]
    assert (row.title, row.total, row.due, row.state) == ("ACME-0001", 5000, 0, ("paid", ""))


def test_the_upcoming_invoice_is_the_one_that_renewal_writes(desk):
    """A-50: what is announced is what is billed."""
    who = busy()
    subscription = Subscription.objects.with_phases().get(customer=who)
    [use] = unbilled_use([subscription]).values()
    announced = upcoming(subscription, use)
    assert announced is not None

    a.pass_time(who, to=APRIL_1)

    written = who.invoices.order_by("id").last()
    assert (announced.at, announced.total) == (APRIL_1, written.total)
    assert [line.description for line in announced.lines] == [line.description for line in written.lines.all()]


def test_the_last_invoice_of_a_canceled_contract_is_announced_with_all_its_use(client):
    """A-25: the end closes a calendar month's window that would have run on."""
    since, now, end = day("2026-03-10"), day("2026-04-05"), day("2026-04-10")
    who = a.on(a.plan("calls", a.fee(10), a.allowance(10, of="calls", price="0.50", calendar=True)), since=since)
    a.overuse(who, 14, of="calls", now=now)
    cancel(a.the_subscription(who), reason="moves", actor=a.STAFF, now=now)

    [announced] = CustomerDesk(client, now=now).page(who).answer.context["page"].upcoming
    a.pass_time(who, to=end)

    assert (announced.at, announced.total) == (end, 200)
    assert a.totals(who) == [1000, 200]


def test_a_scheduled_change_is_announced_at_its_own_price(desk):
    """A-15"""
    who = a.on(a.pro(price=50))
    a.enable(who, a.reread(a.plan("basic", a.fee(40), a.fee(7, key="setup", cadence="P0D"))), now=MARCH_16)

    [announced] = desk.page(who).answer.context["page"].upcoming
    a.pass_time(who, to=APRIL_1)

    assert a.totals(who) == [5000, announced.total] == [5000, 4700]


def test_a_scheduled_change_stands_under_its_product_with_date_and_price(desk):
    """A-15"""
    who = a.on(a.pro(price=50))
    a.enable(who, a.reread(a.plan("basic", a.fee(40), a.allowance(10))), now=MARCH_16)

    page = desk.page(who)

    [row] = page.answer.context["page"].products
    assert (row.scheduled.at, row.scheduled.title, row.scheduled.price) == (APRIL_1, "Basic", "$40.00 / month")
    assert "Withdraw" in page.text


def test_a_cancellation_stands_under_its_product_and_names_the_state(desk):
    """A-25"""
    who = a.on(a.pro())
    cancel(a.the_subscription(who), reason="too dear", actor=a.STAFF, now=MARCH_16)

    page = desk.page(who)

    assert page.answer.context["page"].state == ("pending_payment", "Canceling")
    assert "Canceled: ends on 1 Apr 2026" in page.text


def test_a_custom_plan_says_what_is_standard_and_why_it_is_not(desk):
    """A-50"""
    who = a.on(a.pro())
    a.enable(who, a.reread(a.Plan.objects.get(key="pro")), a.fee(50), a.allowance(250), reason="Case 412", now=MARCH_16)

    text = desk.page(who).text

    assert "250 credits / month (standard 100)" in text
    assert "“Case 412”" in text


def test_the_default_product_shows_for_whoever_has_nothing_else(desk):
    """P-14"""
    a.default()

    page = desk.page(a.customer())

    [row] = page.answer.context["page"].products
    assert (row.title, row.state) == ("Community", ("default", "Default product"))
    assert page.answer.context["page"].state == ("off", "No plan")


def test_a_reached_limit_shows_while_the_feature_stays_in_the_package(desk):
    """P-31"""
    who = a.on(a.pro())
    a.use(who, 100, now=MARCH_16)

    page = desk.page(who)

    access = page.answer.context["page"].features[0].access
    assert (access.has_access, access.has_reached_limit) == (True, True)
    assert "limit reached" in page.text


def test_an_edited_balance_says_by_how_much_and_until_when(desk):
    """A-30, A-34"""
    who = a.on(a.pro())
    edit_balance(who, feature="credits", to=Decimal(250), reason="outage", actor=a.STAFF, now=MARCH_16)

    assert "+150 by hand, until 1 Apr 2026" in desk.page(who).text


def test_history_says_who_did_what_and_why(desk):
    """A-50"""
    who = a.on(a.pro())
    edit_balance(who, feature="credits", to=Decimal(250), reason="outage", actor=a.STAFF, now=MARCH_16)

    newest = desk.page(who).answer.context["operations"][0]

    assert (newest.summary, newest.actor, newest.reason) == ("Set Credits to 250 left (was 100)", "ops", "outage")
    assert ("Adjusted", "150") in newest.effects


def test_a_page_without_anything_says_what_to_do_next(desk):
    text = desk.page(a.customer()).text

    for words in ("No product yet", "No features", "No invoices yet", "No events yet", "Nothing noted yet"):
        assert words in text


def test_the_page_is_found_by_the_id_that_the_application_uses(desk):
    who = a.customer(customer_id="acme:eu|1")

    assert desk.get("customers_customer_change", "acme:eu|1").answer.context["customer"] == who
    assert desk.get("customers_customer_change", who.public_id).answer.context["customer"] == who


def test_an_unknown_customer_is_not_found(desk):
    assert desk.get("customers_customer_change", "nobody").status == 404


# Events ---------------------------------------------------------------------------------------------------------------


def test_events_are_found_by_feature_and_by_key(desk):
    """A-50"""
    who = busy()
    a.use(who, 1, key="order-77", now=MARCH_16)

    by_feature = desk.get("customer_events", who.pk, q="cal", dialog=True)
    by_key = desk.get("customer_events", who.pk, q="order-77", dialog=True)

    assert [event.taken for event in by_feature.answer.context["events"].rows] == [25]
    assert [event.taken for event in by_key.answer.context["events"].rows] == [1]


def test_older_events_follow_the_newest_without_gap_or_repetition(desk):
    who = a.on(a.pro())
    for _ in range(13):
        a.use(who, 1, now=MARCH_16)

    first = desk.get("customer_events", who.pk, dialog=True).answer.context["events"]
    second = desk.get("customer_events", who.pk, before=first.older, dialog=True).answer.context["events"]

    assert len({event.pk for event in [*first.rows, *second.rows]}) == 13
    assert second.older is None


def test_the_chart_counts_the_events_of_each_day(desk):
    """A-50"""
    days = desk.page(busy()).answer.context["days"]

    assert {day.at.day: day.count for day in days if day.count} == {10: 1, 11: 1}


# Cost and permission --------------------------------------------------------------------------------------------------


def loaded() -> Customer:
    """Two products, an add-on, a scheduled change, a custom plan, and long lists of everything."""
    who = busy()
    a.enable(who, a.plan("warehouse", a.fee(10), a.allowance(5, of="queries", price="0.5"), of="data"))
    a.enable(who, a.plan("extra", a.fee(5), a.allowance(50), add_on=True))
    a.enable(who, a.plan("tiny", a.fee(10), of="data"), now=MARCH_16, timing=Timing.CYCLE_END)
    for number in range(40):
        a.use(who, 1, now=MARCH_16, key=f"k{number}")
    return who


@pytest.mark.parametrize("role", ["Admin", "Read-only"])
def test_the_page_stays_within_twenty_queries(desk, client, role, django_assert_max_num_queries):
    """A-54"""
    who = loaded()
    desk = CustomerDesk(client, role=role)
    desk.page(who)  # what is frozen for ever is in the process's memory from now on

    with django_assert_max_num_queries(20):
        desk.page(who)


def test_a_process_that_has_just_started_asks_no_question_for_each_item(desk, django_assert_max_num_queries):
    """A-54: the items of all balances are read together."""
    who = loaded()
    desk.page(who)
    forget_items()

    with django_assert_max_num_queries(21):
        desk.page(who)


def test_reading_roles_see_the_page_without_acts(client):
    """A-53"""
    who = busy()

    html = CustomerDesk(client, role="Read-only").page(who).html

    for words in ("Enable Product", "Add note", ">Change<", "Settings", "/balances/", "/details/"):
        assert words not in html


PAGES = ["customers_customer_delete", "customer_settings", "customer_note", "customer_reopen", "customers_customer_add"]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("method", ["get", "post"])
def test_reading_roles_are_refused_by_address(client, name, method):
    """A-53"""
    args = [] if name.endswith("_add") else [a.customer().pk]

    answer = getattr(CustomerDesk(client, role="Read-only"), method)(name, *args)

    assert answer.status == 403


def test_reading_roles_may_not_edit_a_balance_by_address(client):
    """A-53"""
    who = busy()
    desk = CustomerDesk(client, role="Read-only")

    answers = [
        desk.get("customer_balance", who.pk, "credits"),
        desk.get("customer_balance_preview", who.pk, "credits"),
        desk.post("customer_balance", who.pk, "credits", to="1", reason="x", bucket="s1"),
        desk.post("customer_detail", who.pk, "name", name="x"),
    ]

    assert [answer.status for answer in answers] == [403] * 4
    assert a.left(who, now=MARCH_16) == 60


def test_a_refusal_is_logged_with_person_and_permission(client, caplog):
    """A-53"""
    CustomerDesk(client, role="Read-only").get("customers_customer_delete", a.customer().pk)

    assert "customers.delete_customer" in caplog.text
    assert "read-only" in caplog.text


def test_without_the_right_to_see_invoices_the_page_has_none(client, django_user_model):
    """A-53"""
    who = busy()
    desk = CustomerDesk(client)
    person = django_user_model.objects.create_user("helper", is_staff=True)
    permission = a.Plan._meta.apps.get_model("auth", "Permission")
    person.user_permissions.add(permission.objects.get(codename="view_customer"))
    client.force_login(person)

    page = desk.page(who)

    assert page.status == 200
    assert "ACME-0001" not in page.text


def test_who_is_not_signed_in_is_sent_to_sign_in(client):
    answer = client.get(reverse("admin:customers_customer_change", args=[a.customer(since=MARCH_1).pk]))

    assert answer.status_code == 302
    assert "/login/" in answer.url
