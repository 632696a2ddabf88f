"""What was answered once is told again later, whatever has happened since."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from billing_admin.flows.cancel import cancel
from billing_admin.flows.customers import update_customer
from billing_admin.flows.explain import explain_use
from billing_admin.flows.gate import collect
from billing_admin.flows.plan_change import Activation
from billing_admin.flows.use import report_use
from billing_admin.flows.void_use import void_use
from catalog.models import Meter
from catalog.rollovers import Rollover
from customers.models import Customer
from entitlements.access import Access
from entitlements.check import check
from entitlements.edit import edit_balance
from entitlements.grant import grant, void_grant
from entitlements.history import NoSuchPast
from entitlements.models import ArchivedMonth
from entitlements.override import override, revoke
from entitlements.reset import reset_due
from tests import builders as a
from tests.instants import APRIL_1, APRIL_16, JUNE_1, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db
A_MOMENT = timedelta(seconds=1)


class Diary:
    """What was answered, when; read again in the end."""

    def __init__(self, who: Customer, *features: str):
        self.who, self.features = who, features or ("credits",)
        self.entries: list[tuple[datetime, str, Access]] = []

    def at(self, now: datetime) -> None:
        """Ask at the instant, after what was done there."""
        for slug in self.features:
            self.entries.append((now, slug, check(self.who, slug, now=now, required=Decimal(3))))

    def reads_the_same(self, now: datetime) -> None:
        who = Customer.objects.get(pk=self.who.pk)
        for at, slug, answered in self.entries:
            told = explain_use(who, slug, now=now, at=at, required=Decimal(3)).access
            assert told == answered, (at, slug)


def given(who: Customer, value: Any, *, now: datetime, until: datetime | None = None, of: str = "credits", **more: Any):
    return override(who, a.feature(of), value, effective_until=until, reason="a deal", actor=a.STAFF, now=now, **more)


def edit(who: Customer, to: int, *, now: datetime, **more: Any) -> None:
    edit_balance(who, feature="credits", to=Decimal(to), reason="support", actor=a.STAFF, now=now, **more)


def test_use_edits_and_resets_are_told_as_they_were():
    """A-37, L-34"""
    who = a.on(a.pro(credits=100))
    diary = Diary(who)
    steps: list[tuple[datetime, Callable[[datetime], Any]]] = [
        (day("2026-03-05"), lambda now: a.use(who, 30, now=now)),
        (day("2026-03-10"), lambda now: edit(who, 150, now=now)),
        (day("2026-03-20"), lambda now: a.use(who, 149, now=now)),
        (day("2026-03-25"), lambda now: a.use(who, -20, now=now)),
        (APRIL_1, lambda now: reset_due(now=now)),
        (day("2026-04-03"), lambda now: a.use(who, 99, now=now)),
        (day("2026-04-05"), lambda now: edit(who, 5, now=now, reset_at=APRIL_16)),
        (APRIL_16, lambda now: a.use(who, 1, now=now)),
        (MAY_1, lambda now: a.pass_time(who, to=now)),
    ]
    for now, act in steps:
        diary.at(now - A_MOMENT)
        act(now)
        diary.at(now)

    diary.reads_the_same(now=JUNE_1)


def test_changes_of_plan_are_told_as_they_were():
    """A-37"""
    who = a.on(a.pro(credits=100))
    team = a.team(credits=500)
    diary = Diary(who)
    diary.at(day("2026-03-02"))
    a.use(who, 60, now=day("2026-03-05"))
    edit(who, 50, now=day("2026-03-06"))
    diary.at(day("2026-03-07"))
    a.enable(who, team, now=MARCH_16)
    a.pay_all(who, now=MARCH_16)
    diary.at(MARCH_16)
    a.use(who, 300, now=day("2026-03-20"))
    diary.at(day("2026-03-21"))
    a.enable(who, team, a.fee(200), a.allowance(400), now=day("2026-03-22"))
    diary.at(day("2026-03-23"))
    a.pass_time(who, to=APRIL_1)
    diary.at(APRIL_1)

    diary.reads_the_same(now=JUNE_1)


def test_a_contract_that_has_ended_since_is_in_the_story():
    """Y-61, L-42"""
    a.default(a.allowance(5))
    who = a.on(a.pro(credits=100))
    a.use(who, 10, now=day("2026-03-10"))
    diary = Diary(who)
    diary.at(day("2026-03-12"))
    cancel(a.the_subscription(who), at_once=True, reason="leaves", actor=a.STAFF, now=MARCH_16)
    diary.at(MARCH_16)
    a.use(who, 2, now=day("2026-03-20"))
    diary.at(day("2026-03-21"))

    diary.reads_the_same(now=JUNE_1)


def test_a_plan_that_waited_for_its_payment_gave_no_access_until_then():
    """Y-24"""
    who = a.customer()
    [invoice] = a.enable(who, a.pro(price=100), activation=Activation.AFTER_PAYMENT).invoices
    paid_at = MARCH_1 + timedelta(hours=5)
    diary = Diary(who)
    diary.at(paid_at - A_MOMENT)
    collect(invoice, amount=invoice.due, reference="bank", actor=a.STAFF, now=paid_at)
    diary.at(paid_at)

    assert [answered.has_access for _, _, answered in diary.entries] == [False, True]
    diary.reads_the_same(now=MARCH_16)


def test_overrides_are_told_with_the_ends_that_were_known():
    """L-02, L-04, L-08"""
    who = a.on(a.pro(credits=100))
    diary = Diary(who)
    a.use(who, 40, now=day("2026-03-02"))
    more = given(who, Decimal(500), now=day("2026-03-05"), until=day("2026-05-05"))
    diary.at(day("2026-03-06"))
    a.use(who, 300, now=day("2026-03-07"))
    diary.at(day("2026-03-08"))
    revoke(more, reason="over", actor=a.STAFF, now=day("2026-03-10"))
    diary.at(day("2026-03-10"))
    less = given(who, Decimal(50), now=APRIL_1 + timedelta(days=2), until=None, subscription=a.the_subscription(who))
    a.use(who, 20, now=day("2026-04-04"))
    diary.at(day("2026-04-05"))
    given(who, Decimal(70), now=day("2026-04-10"), until=day("2026-04-12"))
    diary.at(day("2026-04-11"))
    diary.at(day("2026-04-13"))
    revoke(less, reason="over", actor=a.STAFF, now=day("2026-04-20"))
    diary.at(day("2026-04-21"))
    given(who, False, now=day("2026-05-02"), until=day("2026-05-10"))
    diary.at(day("2026-05-03"))
    diary.at(day("2026-05-11"))

    diary.reads_the_same(now=JUNE_1)


def test_bonuses_are_told_as_they_were():
    """P-38"""
    who = a.on(a.pro(credits=100))
    diary = Diary(who)
    once = grant(who, a.feature("credits"), Decimal(40), ends_at=JUNE_1, label="Case 412", now=day("2026-03-03"))
    grant(who, a.feature("credits"), Decimal(7), ends_at=None, recurs="P1W", label="Weekly", now=day("2026-03-04"))
    diary.at(day("2026-03-05"))
    a.use(who, 120, now=day("2026-03-06"))
    diary.at(day("2026-03-07"))
    diary.at(day("2026-03-12"))
    void_grant(once, now=day("2026-03-14"))
    diary.at(day("2026-03-15"))
    a.use(who, 3, now=day("2026-03-16"))
    diary.at(day("2026-03-26"))

    diary.reads_the_same(now=JUNE_1)


def test_switches_numbers_and_the_default_product_of_the_time_are_told():
    """L-31"""
    community = a.default(a.switch("sso"), a.static("10"))
    who = a.customer()
    diary = Diary(who, "sso", "rate-limit")
    diary.at(day("2026-03-05"))
    a.new_version(community, a.static("20"), now=MARCH_16)
    diary.at(MARCH_16)
    given(who, "500", of="rate-limit", now=APRIL_1, until=APRIL_16)
    given(who, True, of="sso", now=APRIL_1, until=None)
    diary.at(APRIL_1)
    diary.at(APRIL_16)

    diary.reads_the_same(now=JUNE_1)


def test_windows_are_told_from_where_they_were_counted_then():
    who = a.customer()
    a.enable(who, a.assigned("partner", a.allowance(100)))
    a.use(who, 30, now=day("2026-03-05"))
    diary = Diary(who)
    diary.at(day("2026-03-10"))
    update_customer(who, usage_started_at=day("2026-02-10"), reason="moved", actor=a.STAFF, now=MARCH_16)
    diary.at(MARCH_16)

    assert [answered.next_reset_at for _, _, answered in diary.entries] == [APRIL_1, day("2026-04-10")]
    diary.reads_the_same(now=JUNE_1)


def test_use_that_was_reported_late_had_not_been_known_before():
    who = a.on(a.pro(credits=100))
    diary = Diary(who)
    diary.at(day("2026-03-10"))
    a.use(who, 30, at=day("2026-03-09"), now=day("2026-03-12"))
    diary.at(day("2026-03-12"))

    assert [answered.used for _, _, answered in diary.entries] == [0, 30]
    diary.reads_the_same(now=MARCH_16)


def test_the_past_is_read_in_a_fixed_number_of_queries(django_assert_max_num_queries):
    """A-37"""
    who = a.on(a.pro(credits=100))
    for number in range(20):
        a.use(who, 1, now=MARCH_1 + timedelta(days=number))
        edit(who, 100 - number, now=MARCH_1 + timedelta(days=number, hours=1))
    a.pass_time(who, to=MAY_1)
    explain_use(who, "credits", now=JUNE_1, at=MARCH_16)

    with django_assert_max_num_queries(13):
        explain_use(who, "credits", now=JUNE_1, at=MARCH_16)


@pytest.mark.parametrize(
    ("at", "code"), [(JUNE_1 + A_MOMENT, "in_the_future"), (MARCH_1 - A_MOMENT, "before_the_customer")]
)
def test_there_is_no_past_before_the_customer_and_none_in_the_future(at, code):
    who = a.on(a.pro())

    with pytest.raises(NoSuchPast) as refused:
        explain_use(who, "credits", now=JUNE_1, at=at)
    assert refused.value.code == code


def test_a_month_whose_events_are_archived_says_so():
    who = a.on(a.pro())
    ArchivedMonth.objects.create(
        month=MARCH_1.date(), file="m.csv.gz", events=1, sha256="0", archived_at=JUNE_1, written_at=JUNE_1
    )

    with pytest.raises(NoSuchPast) as refused:
        explain_use(who, "credits", now=JUNE_1, at=MARCH_16)
    assert refused.value.code == "archived"
    assert explain_use(who, "credits", now=JUNE_1, at=APRIL_1).allowed


def test_rollovers_and_debts_are_told_as_they_were():
    """A-35, A-38"""
    rolls = replace(a.allowance(100), rollover=Rollover(lasts="P1M", most=Decimal(60)))
    keeps = replace(a.allowance(50, of="calls", soft=True), keeps_overage=True)
    who = a.on(a.plan("pro", a.fee(50), rolls, keeps))
    diary = Diary(who, "credits", "calls")
    a.use(who, 10, now=day("2026-03-05"))
    a.use(who, 70, of="calls", now=day("2026-03-06"))
    diary.at(day("2026-03-07"))
    diary.at(day("2026-04-02"))  # nobody has reset anything yet
    reset_due(now=day("2026-04-03"))
    diary.at(day("2026-04-04"))
    a.use(who, 80, now=day("2026-04-05"))
    diary.at(day("2026-04-06"))
    a.enable(who, a.team(), now=day("2026-04-10"))
    a.pay_all(who, now=day("2026-04-10"))
    diary.at(day("2026-04-11"))

    diary.reads_the_same(now=JUNE_1)


def test_levels_and_add_ons_are_told_as_they_were():
    seats = a.seats(5)
    pro = a.plan("pro", a.fee(50), seats)
    who = a.on(pro)
    extra = a.plan("extra", a.fee(5), a.seats(3), a.allowance(20), add_on=True)
    diary = Diary(who, "seats", "credits")
    a.use(who, 4, of="seats", now=day("2026-03-03"))
    a.enable(who, extra, now=day("2026-03-04"))
    a.pay_all(who, now=day("2026-03-04"))
    diary.at(day("2026-03-05"))
    a.use(who, 3, of="seats", now=day("2026-03-06"))
    a.use(who, 11, now=day("2026-03-06"))
    diary.at(day("2026-03-07"))
    main = who.subscriptions.get(add_on=False)
    cancel(main, reason="leaves", actor=a.STAFF, now=day("2026-03-20"))
    diary.at(day("2026-03-21"))
    diary.at(day("2026-04-02"))  # nobody has ended it yet
    a.pass_time(who, to=day("2026-04-05"))
    diary.at(day("2026-04-06"))

    diary.reads_the_same(now=JUNE_1)


def test_leaving_an_assigned_plan_and_coming_back_is_told():
    """P-17"""
    a.default(a.allowance(5))
    partner = a.assigned("partner", a.allowance(100), a.lasting(200))
    who = a.customer()
    a.enable(who, partner)
    diary = Diary(who, "credits", "tokens")
    a.use(who, 30, now=day("2026-03-02"))
    a.use(who, 50, of="tokens", now=day("2026-03-02"))
    diary.at(day("2026-03-03"))
    cancel(a.the_subscription(who), at_once=True, reason="leaves", actor=a.STAFF, now=day("2026-03-05"))
    diary.at(day("2026-03-06"))
    a.use(who, 2, now=day("2026-03-07"))
    a.enable(who, partner, now=day("2026-03-10"))
    diary.at(day("2026-03-11"))
    diary.at(day("2026-04-11"))

    diary.reads_the_same(now=JUNE_1)


def test_an_unlimited_plan_under_a_limit_is_told_as_it_was():
    """L-01"""
    who = a.on(a.plan("pro", a.fee(50), a.allowance(None)))
    diary = Diary(who)
    a.use(who, 40, now=day("2026-03-02"))
    diary.at(day("2026-03-03"))
    given(who, Decimal(60), now=day("2026-03-04"), until=day("2026-03-20"))
    diary.at(day("2026-03-05"))
    a.use(who, 20, now=day("2026-03-06"))
    diary.at(day("2026-03-07"))
    diary.at(day("2026-03-21"))
    a.use(who, 500, now=day("2026-03-22"))
    diary.at(day("2026-03-23"))

    diary.reads_the_same(now=JUNE_1)


def test_a_level_over_time_is_told_up_to_the_instant():
    feature = a.feature("storage")
    feature.meter = Meter.objects.create(
        slug="storage", name="Storage", event_name="stored", aggregation="time_average", property="", filters={}
    )
    feature.save()
    who = a.on(a.plan("pro", a.fee(50), a.allowance(100, of="storage")))
    asked = [day("2026-03-06"), day("2026-03-16"), day("2026-04-06")]
    report_use(who, name="stored", value=Decimal(31), properties={}, at=MARCH_1, now=MARCH_1)
    answered = [check(who, "storage", now=asked[0]).used]
    report_use(who, name="stored", value=Decimal(62), properties={}, at=day("2026-03-11"), now=day("2026-03-11"))
    answered += [check(who, "storage", now=at).used for at in asked[1:]]
    a.pass_time(who, to=MAY_1)

    told = [explain_use(who, "storage", now=JUNE_1, at=at).access.used for at in asked]

    assert answered[:2] == [5, 20]  # 31 for 5 of 31 days; for 10 of them, then 62 for 5
    assert told == answered


def test_an_event_that_was_voided_later_still_counted():
    who = a.on(a.pro(credits=100))
    diary = Diary(who)
    event = a.use(who, 98, now=day("2026-03-05")).event
    diary.at(day("2026-03-06"))
    void_use(event, reason="sent twice", actor=a.STAFF, now=day("2026-03-08"))
    diary.at(day("2026-03-08"))

    assert [answered.allowed for _, _, answered in diary.entries] == [False, True]
    diary.reads_the_same(now=JUNE_1)
