"""Overrides of features: what they change, from when until when, and what is left of it afterwards."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, InternalError, transaction
from django.db.utils import DatabaseError

from customers.journal import Actor, ReasonRequired
from customers.models import Customer
from entitlements.ledger import ledger
from entitlements.models import FeatureOverride
from entitlements.override import BadOverride, Overlaps, override, revoke
from entitlements.reset import reset_due
from entitlements.track import LimitReached
from tests import builders as a
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db
STAFF = Actor("ada")


def given(
    who: Customer,
    value: Any,
    *,
    of: str = "credits",
    until: datetime | None = None,
    since: datetime = MARCH_1,
    now: datetime = MARCH_1,
    **options: Any,
) -> FeatureOverride:
    return override(
        who,
        a.feature(of),
        value,
        effective_from=since,
        effective_until=until,
        reason="a deal",
        actor=STAFF,
        now=now,
        **options,
    )


def on_subscription(who: Customer, value: Any, **options: Any) -> FeatureOverride:
    return given(who, value, subscription=a.the_subscription(who), **options)


def test_a_number_above_the_allowance_is_a_bucket_of_its_own():
    """L-01, L-33"""
    who = a.on(a.pro(credits=100))

    on_subscription(who, 500)

    found = a.access(who)
    assert (found.limit, found.remaining, found.source) == (500, 500, "override")
    assert [(b.kind, b.granted) for b in found.buckets] == [("plan", 100), ("override", 400)]


def test_it_ends_by_itself_and_what_it_covered_stays_covered():
    """L-04, L-33, L-48"""
    who = a.on(a.plan("pro", a.fee(50), a.allowance(100, price="0.10")))
    on_subscription(who, 500, until=MARCH_16)
    a.use(who, 300)

    found = a.access(who, now=MARCH_16)

    assert (found.limit, found.remaining, found.overage) == (100, 100, 0)
    a.pass_time(who, to=APRIL_1)
    assert a.totals(who)[-1] == 5000


def test_each_window_of_the_plan_brings_the_difference_again():
    who = a.on(a.pro(credits=100))
    on_subscription(who, 500)
    a.use(who, 450)

    a.use(who, 10, now=APRIL_1)

    assert a.left(who, now=APRIL_1) == 490


def test_before_it_begins_the_plan_says_what_holds():
    """L-02"""
    who = a.on(a.pro(credits=100))
    on_subscription(who, 500, since=MARCH_16)

    assert a.left(who, now=day("2026-03-15")) == 100
    assert a.left(who, now=MARCH_16) == 500


def test_without_an_end_it_holds_for_good_and_the_end_is_exclusive():
    """L-03"""
    who = a.on(a.pro(credits=100))
    on_subscription(who, 500, until=APRIL_16)

    assert a.left(who, now=day("2026-04-15T23:59")) == 500
    assert a.left(who, now=APRIL_16) == 100


def test_a_number_below_takes_only_what_is_unused():
    who = a.on(a.plan("pro", a.fee(50), a.allowance(100, price="0.10")))
    a.use(who, 80)

    on_subscription(who, 50)

    found = a.access(who)
    assert (found.limit, found.remaining, found.overage) == (80, 0, 0)


def test_what_a_lower_number_took_comes_back_with_its_end():
    who = a.on(a.pro(credits=100))
    a.use(who, 30)
    on_subscription(who, 50, until=MARCH_16)

    assert (a.left(who), a.access(who).limit) == (20, 50)
    assert (a.left(who, now=MARCH_16), a.access(who, now=MARCH_16).limit) == (70, 100)


def test_use_beyond_a_lower_number_is_paid_where_use_is_priced():
    who = a.on(a.plan("pro", a.fee(50), a.allowance(100, price="0.10")))
    on_subscription(who, 50)
    a.use(who, 80)

    a.pass_time(who, to=APRIL_1)

    assert a.totals(who)[-1] == 5300


def test_a_lower_number_holds_in_the_next_window_too():
    who = a.on(a.pro(credits=100))
    on_subscription(who, 50)
    a.use(who, 50)

    while reset_due(now=APRIL_1).customers:
        continue

    assert (a.left(who, now=APRIL_1), a.access(who, now=APRIL_1).limit) == (50, 50)
    with pytest.raises(LimitReached):
        a.use(who, 51, now=APRIL_1)


def test_the_customers_value_is_applied_to_what_all_their_plans_give():
    """L-10, L-11, P-37"""
    who = a.on(a.pro(credits=100))
    a.enable(who, a.plan("other", a.allowance(50), of="other"))
    on_subscription_of_first = who.subscriptions.order_by("id").first()
    given(who, 200, subscription=on_subscription_of_first)
    assert a.access(who).limit == 250

    given(who, 1000)

    found = a.access(who)
    assert (found.limit, found.remaining) == (1000, 1000)
    assert len(found.overrides) == 2


def test_a_customer_without_any_plan_gets_what_the_override_gives():
    who = a.customer()

    given(who, 40, until=MARCH_16)

    assert (a.left(who), a.access(who).has_access) == (40, True)
    a.use(who, 15)
    assert a.left(who) == 25
    assert not a.access(who, now=MARCH_16).has_access


def test_no_access_closes_everything_until_it_ends():
    who = a.on(a.pro(credits=100))
    given(who, "no_access", until=MARCH_16)

    found = a.access(who)
    assert (found.has_access, found.allowed, found.reason) == (False, False, "no_access")
    with pytest.raises(LimitReached):
        a.use(who, 1)
    assert a.left(who, now=MARCH_16) == 100


def test_unlimited_is_without_a_limit_while_it_holds():
    who = a.on(a.pro(credits=100))
    given(who, "unlimited", until=MARCH_16)
    a.use(who, 5000)

    assert a.access(who).unlimited
    assert (a.left(who, now=MARCH_16), a.access(who, now=MARCH_16).overage) == (100, 0)


def test_a_number_limits_what_has_no_limit():
    who = a.on(a.plan("pro", a.fee(50), a.allowance(None)))
    given(who, 100, until=MARCH_16)

    assert (a.left(who), a.access(who).unlimited) == (100, False)
    a.use(who, 60)
    assert a.left(who) == 40
    assert a.access(who, now=MARCH_16).unlimited


@pytest.mark.parametrize(("value", "has_access"), [(True, True), (False, False)])
def test_a_switch_is_on_or_off_while_it_holds(value: bool, has_access: bool):
    """L-31"""
    who = a.on(a.plan("pro", a.switch("sso")) if not value else a.pro())
    a.feature("sso", type="boolean")

    given(who, value, of="sso", until=MARCH_16)

    assert a.access(who, of="sso").has_access is has_access
    assert a.access(who, of="sso", now=MARCH_16).has_access is not has_access


def test_a_static_value_is_replaced_while_it_holds():
    """Y-58"""
    who = a.on(a.plan("pro", a.fee(50), a.static("100")))
    on_subscription(who, "250", of="rate-limit", until=MARCH_16)

    assert a.access(who, of="rate-limit").value == 250
    assert a.access(who, of="rate-limit", now=MARCH_16).value == 100


def test_revoked_it_stops_at_once_and_stays_for_the_record():
    """L-08, L-09"""
    who = a.on(a.pro(credits=100))
    row = on_subscription(who, 500)
    a.use(who, 300)

    revoke(row, reason="a mistake", actor=STAFF, now=MARCH_16)
    again = revoke(row, reason="once more", actor=STAFF, now=APRIL_1)

    assert (a.left(who, now=MARCH_16), a.access(who, now=MARCH_16).overage) == (0, 0)
    assert (again.revoked_at, again.revoke_reason, again.state(APRIL_1)) == (MARCH_16, "a mistake", "revoked")


def test_a_second_one_in_the_same_time_is_refused_unless_it_supersedes():
    """L-12"""
    who = a.on(a.pro(credits=100))
    first = on_subscription(who, 500)

    with pytest.raises(Overlaps):
        on_subscription(who, 300)
    second = on_subscription(who, 300, since=MARCH_16, supersede=True)

    first.refresh_from_db()
    assert (first.stops_at, first.superseded_by) == (MARCH_16, second)
    assert (a.left(who), a.left(who, now=MARCH_16)) == (500, 300)


def test_the_database_keeps_two_of_one_level_apart():
    """L-12"""
    who = a.on(a.pro(credits=100))
    row = given(who, 500)
    fields = {f.name: getattr(row, f.name) for f in row._meta.fields if f.name not in ("id", "public_id")}

    with pytest.raises(IntegrityError), transaction.atomic():
        FeatureOverride.objects.create(**fields, public_id="fov_other")


@pytest.mark.parametrize("change", [{"units": 600}, {"effective_from": MARCH_16}, {"feature_id": 0}])
def test_the_database_refuses_an_edit(change: dict[str, Any]):
    """L-09"""
    row = given(a.on(a.pro()), 500)

    with pytest.raises((InternalError, DatabaseError)), transaction.atomic():
        FeatureOverride.objects.filter(pk=row.pk).update(**change)


def test_the_database_refuses_a_deletion():
    row = given(a.on(a.pro()), 500)

    with pytest.raises(DatabaseError), transaction.atomic():
        row.delete()


@pytest.mark.parametrize(
    ("type", "value"),
    [("metered", True), ("metered", "many"), ("metered", -1), ("boolean", 5), ("boolean", "x"), ("static", True)],
)
def test_a_value_of_the_wrong_type_is_refused(type: str, value: Any):
    """L-05"""
    a.feature("it", type=type)

    with pytest.raises(BadOverride) as refusal:
        given(a.customer(), value if not isinstance(value, int) or isinstance(value, bool) else Decimal(value), of="it")

    assert refusal.value.field == "value"


@pytest.mark.parametrize("until", [MARCH_1, day("2026-02-01")])
def test_an_end_before_the_start_is_refused(until: datetime):
    """L-05"""
    with pytest.raises(BadOverride):
        given(a.on(a.pro()), 500, until=until)


def test_without_a_reason_it_is_refused():
    """L-06"""
    with pytest.raises(ReasonRequired):
        override(a.on(a.pro()), a.feature(), 5, effective_until=None, reason=" ", actor=STAFF, now=MARCH_1)


def test_after_a_change_of_plan_it_replaces_what_the_new_plan_gives():
    who = a.on(a.pro(credits=100))
    on_subscription(who, 300)
    a.use(who, 150)

    team = a.team(credits=500)
    preview = a.preview(who, team, now=MARCH_16)
    [shown] = [change for change in preview.access if change.slug == "credits"]
    a.enable(who, team, now=MARCH_16)

    assert shown.before is not None and shown.after is not None
    found = a.access(who, now=MARCH_16)
    assert (shown.before.limit, shown.after.limit, found.limit) == (300, 300, 300)
    assert shown.after.remaining == found.remaining


def test_the_ledger_of_each_bucket_sums_to_what_is_left():
    """A-37"""
    who = a.on(a.pro(credits=100))
    on_subscription(who, 40, until=MARCH_16)
    a.use(who, 10)
    given(who, 500, since=MARCH_16, now=MARCH_1)
    a.use(who, 200, now=MARCH_16)
    a.use(who, 7, now=APRIL_1)

    for row in who.balances.all():
        assert ledger(row)[-1].after == row.left


def test_a_late_worker_changes_no_answer():
    """A-38"""
    late, punctual = a.on(a.pro(credits=100)), a.customer("Punctual")
    a.enable(punctual, a.reread(late.subscriptions.get().phases.get().version.plan))
    for who in (late, punctual):
        on_subscription(who, 300, until=APRIL_16)
        a.use(who, 150)
    for now in (APRIL_1, APRIL_16):
        while reset_due(now=now).customers:
            continue
        late.refresh_from_db()

    assert a.left(late, now=MAY_1) == a.left(punctual, now=MAY_1) == 100
    assert a.left(late, now=APRIL_1) == a.left(punctual, now=APRIL_1)


def test_seats_stay_in_use_when_the_override_that_held_them_ends():
    who = a.on(a.plan("pro", a.fee(50), a.seats(5)))
    on_subscription(who, 10, of="seats", until=MARCH_16)
    a.use(who, 8, of="seats")

    assert (a.access(who, of="seats").used, a.access(who, of="seats").limit) == (8, 10)
    after = a.access(who, of="seats", now=MARCH_16)
    assert (after.used, after.limit, after.overage) == (8, 5, 3)
    while reset_due(now=MARCH_16).customers:
        continue
    assert a.access(who, of="seats", now=APRIL_1).used == 8
    assert sum(row.used for row in who.balances.all()) == 8
    for row in who.balances.all():
        assert ledger(row)[-1].after == row.left


def test_an_override_given_before_there_was_a_plan_resets_with_the_plan():
    who = a.customer()
    given(who, 40)
    a.use(who, 15)

    a.enable(who, a.pro(credits=10), now=MARCH_16)

    assert (a.access(who, now=MARCH_16).limit, a.left(who, now=MARCH_16)) == (40, 25)
    assert a.left(who, now=APRIL_16) == 40
