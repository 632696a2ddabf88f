"""Events through their meters: what each aggregation counts, on several features, all or nothing, once per key."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from billing_admin.flows.use import report_use
from catalog.models import Feature, Meter
from customers.models import Customer
from entitlements.balances import Mode
from entitlements.grant import grant
from entitlements.late import BadInstant
from entitlements.ledger import ledger
from entitlements.metered import Reported, UnknownEvent
from entitlements.meters import BadEvent
from entitlements.models import Balance, UsageEvent
from entitlements.override import override
from entitlements.reset import reset_due
from entitlements.track import KeyReused, LimitReached
from tests import builders as a
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def metered(
    aggregation: str, *, of: str = "credits", event: str = "job", by: str = "", filters: dict[str, Any] | None = None
) -> Feature:
    """A feature that counts events by a meter."""
    feature = a.feature(of)
    feature.meter = Meter.objects.create(
        slug=f"{of}-{aggregation.replace('_', '-')}",
        name=of,
        event_name=event,
        aggregation=aggregation,
        property=by,
        filters=filters or {},
    )
    feature.save()
    return feature


def report(who: Customer, value: int | str | None = None, *, at: datetime = MARCH_1, **more: Any) -> Reported:
    """An event that is reported when it happens, unless it says another `now`."""
    event: dict[str, Any] = {"name": "job", "properties": {}} | more
    return report_use(who, value=None if value is None else Decimal(value), at=at, now=event.pop("now", at), **event)


def used(who: Customer, *, at: datetime = MARCH_1, of: str = "credits") -> Decimal:
    return a.access(who, of=of, now=at).used


def test_a_sum_adds_the_values_of_a_property():
    metered("sum", by="tokens")
    who = a.on(a.pro())

    report(who, properties={"tokens": 30})
    report(who, properties={"tokens": "12.5"})

    assert used(who) == Decimal("42.5")


def test_a_count_adds_one_for_each_event_and_takes_one_for_a_negative_one():
    metered("count")
    who = a.on(a.pro())

    for value in (None, 7, -1):
        report(who, value)

    assert used(who) == 1


def test_the_largest_value_counts():
    metered("max")
    who = a.on(a.pro())

    for value in (5, 12, 8):
        report(who, value)

    assert used(who) == 12


def test_different_values_of_a_property_count_once_each():
    metered("unique_count", by="user")
    who = a.on(a.pro())

    for user in ("ada", "bob", "ada", 7, "7"):
        report(who, properties={"user": user})

    assert used(who) == 3


def test_the_latest_value_counts_by_when_it_happened():
    metered("latest")
    who = a.on(a.pro())

    report(who, 40, at=MARCH_16)
    report(who, 90, at=MARCH_16 - HOUR, now=MARCH_16)
    report(who, 25, at=MARCH_16 + HOUR)

    assert used(who, at=MARCH_16 + HOUR) == 25


def test_a_new_window_begins_with_nothing_but_a_level_over_time():
    metered("max")
    who = a.on(a.pro())
    report(who, 12)

    report(who, 3, at=APRIL_16)

    assert used(who, at=APRIL_16) == 3


# Levels over time -----------------------------------------------------------------------------------------------------


def test_ten_gigabytes_for_half_a_window_are_five_gigabyte_months():
    metered("time_average")
    who = a.on(a.pro())

    report(who, 10, at=APRIL_1)

    assert used(who, at=APRIL_16) == 5


def test_use_grows_without_events_and_the_level_goes_over_into_the_next_window():
    metered("time_average")
    who = a.on(a.pro())
    report(who, 10)

    assert used(who, at=APRIL_1) == 0
    assert used(who, at=APRIL_16) == 5


def test_a_late_worker_closes_windows_of_a_level_as_a_punctual_one_would():
    """A-38"""
    metered("time_average")
    who = a.on(a.pro())
    report(who, 30, at=MARCH_16)

    reset_due(now=MAY_1 + HOUR)

    closed = list(Balance.objects.exclude(closed_at=None).order_by("starts_at").values_list("used", flat=True))
    assert closed == [Decimal("15.483871"), Decimal(30)]


def test_a_level_beyond_the_allowance_is_billed_with_its_window():
    metered("time_average")
    who = a.on(a.plan("storage", a.allowance(10, price="2")))
    report(who, 25)

    a.pass_time(who, to=MAY_1)

    assert a.totals(who)[-2:] == [3000, 3000]


def test_a_level_takes_a_bonus_before_the_plan_goes_below_zero():
    metered("time_average")
    who = a.on(a.pro(credits=10))
    grant(who, a.feature(), Decimal(5), ends_at=MARCH_16, label="bonus", now=MARCH_1)
    report(who, 31)

    reset_due(now=APRIL_1)

    bonus = Balance.objects.get(source="bonus")
    main = Balance.objects.filter(source="plan_item").earliest("starts_at")
    assert (bonus.used, main.used) == (5, 26)


def test_a_check_reads_what_a_worker_would_have_written():
    """A-38"""
    metered("time_average")
    who = a.on(a.pro(credits=10))
    report(who, 31)
    read = a.access(who, now=APRIL_16)

    reset_due(now=APRIL_16)

    written = a.access(who, now=APRIL_16)
    assert (read.used, read.remaining, read.overage) == (written.used, written.remaining, written.overage)


def test_a_level_that_comes_late_counts_from_when_it_was_held():
    metered("time_average")
    who = a.on(a.pro())
    report(who, 10, at=APRIL_1)
    report(who, 0, at=APRIL_16)

    report(who, 40, at=day("2026-04-04"), now=APRIL_16)

    assert used(who, at=APRIL_16) == 1 + 16


def test_a_level_of_a_window_that_has_ended_is_refused():
    metered("time_average")
    who = a.on(a.pro())
    report(who, 10, at=MARCH_16)

    with pytest.raises(BadInstant):
        report(who, 20, at=MARCH_16 + HOUR, now=APRIL_16)


def test_the_ledger_of_a_level_sums_to_its_balance():
    metered("time_average")
    who = a.on(a.pro())
    report(who, 10)
    report(who, 20, at=MARCH_16)
    reset_due(now=APRIL_1)

    [main, _] = Balance.objects.order_by("starts_at")
    assert ledger(main)[-1].after == main.left


def test_a_level_is_not_counted_while_an_override_closes_the_feature():
    metered("time_average")
    who = a.on(a.pro(), since=APRIL_1)
    report(who, 30, at=APRIL_1)
    week = [APRIL_1 + n * 24 * HOUR for n in (7, 14)]
    override(
        who, a.feature(), False, effective_from=week[0], effective_until=week[1], reason="x", actor=a.STAFF, now=APRIL_1
    )

    read = used(who, at=MAY_1 - 24 * HOUR)
    reset_due(now=MAY_1)

    assert read == 22 and Balance.objects.earliest("starts_at").used == 23


def test_a_level_waits_while_no_plan_has_the_feature():
    metered("time_average")
    who = a.customer()
    plan = a.assigned("storage", a.allowance(100))
    a.enable(who, plan, now=MARCH_1)
    report(who, 31)
    a.enable(who, a.assigned("other", a.allowance(5, of="calls")), now=MARCH_1 + 10 * 24 * HOUR)

    a.enable(who, plan, now=MARCH_1 + 20 * 24 * HOUR)

    assert used(who, at=APRIL_1 - HOUR) == Decimal("20.958333")


# Several features, filters, keys --------------------------------------------------------------------------------------


def both() -> Customer:
    metered("sum", by="tokens")
    metered("count", of="calls")
    return a.on(a.plan("pro", a.allowance(100), a.allowance(2, of="calls")))


def test_one_event_feeds_every_feature_that_reads_it():
    who = both()

    found = report(who, properties={"tokens": 30})

    assert (used(who), used(who, of="calls")) == (30, 1)
    assert len({tracked.event.public_id for tracked in found.tracked}) == 1


def test_an_event_that_one_feature_has_no_room_for_counts_on_none():
    who = both()
    for _ in range(2):
        report(who, properties={"tokens": 1})

    with pytest.raises(LimitReached):
        report(who, properties={"tokens": 1})

    assert (used(who), used(who, of="calls")) == (2, 2)


def test_a_feature_that_the_customer_does_not_have_is_left_out():
    metered("sum", by="tokens")
    metered("count", of="calls")
    who = a.on(a.pro())

    found = report(who, properties={"tokens": 30})

    assert [tracked.access.feature for tracked in found.tracked] == ["credits"]


def test_an_event_that_filters_leave_out_counts_nothing_and_keeps_its_key_free():
    metered("count", filters={"model": ["large", "huge"]})
    who = a.on(a.pro())

    left_out = report(who, properties={"model": "small"}, key="1")
    counted = report(who, properties={"model": "huge"}, key="1")

    assert (left_out.applied, counted.applied, used(who)) == (False, True, 1)


def test_a_key_counts_once_however_many_features_it_feeds():
    """L-38"""
    who = both()

    report(who, properties={"tokens": 30}, key="one")
    again = report(who, properties={"tokens": 30}, key="one")

    assert (again.applied, used(who), used(who, of="calls")) == (False, 30, 1)
    assert UsageEvent.objects.count() == 2


def test_a_key_of_another_event_is_refused():
    who = both()
    report(who, properties={"tokens": 30}, key="one")

    with pytest.raises(KeyReused):
        report(who, properties={"tokens": 31}, key="one")


@pytest.mark.parametrize("tokens", [None, "many", True, [1], "1e30"])
def test_a_property_that_is_missing_or_no_number_is_named_and_nothing_is_stored(tokens: Any):
    """L-39"""
    metered("sum", by="tokens")
    who = a.on(a.pro())

    with pytest.raises(BadEvent) as refused:
        report(who, properties={} if tokens is None else {"tokens": tokens})

    assert refused.value.field == "properties.tokens"
    assert not UsageEvent.objects.exists()


def test_an_event_that_no_meter_reads_is_refused():
    who = a.on(a.pro())

    with pytest.raises(UnknownEvent):
        report(who, name="typo")


def test_a_largest_value_that_was_capped_is_asked_for_again():
    metered("max")
    who = a.on(a.pro(credits=10))
    report(who, 15, mode=Mode.CAP)

    with pytest.raises(LimitReached):
        report(who, 15)

    assert used(who) == 10


def test_use_that_is_reported_for_the_feature_itself_goes_through_its_meter():
    metered("max")
    who = a.on(a.pro())

    a.use(who, 12)
    a.use(who, 8)

    assert used(who) == 12


def test_a_late_value_counts_in_its_own_window():
    metered("max")
    who = a.on(a.pro())
    report(who, 12)
    report(who, 5, at=APRIL_16)

    report(who, 20, at=MARCH_16, now=APRIL_16)

    march = Balance.objects.earliest("starts_at")
    assert (march.used, used(who, at=APRIL_16)) == (20, 5)


def test_a_meter_counts_on_for_a_customer_who_changes_plan():
    metered("unique_count", by="user")
    who = a.on(a.plan("pro", a.fee(50), a.allowance(100)))
    report(who, properties={"user": "ada"})

    a.enable(who, a.plan("team", a.fee(50), a.allowance(200, soft=True)), now=MARCH_16)
    report(who, properties={"user": "ada"}, at=MARCH_16)

    assert used(who, at=MARCH_16) == 1


def test_months_of_a_level_are_counted_across_a_change_of_plan():
    metered("time_average")
    who = a.on(a.plan("small", a.fee(10), a.allowance(100)), since=APRIL_1)
    report(who, 10, at=APRIL_1)

    a.enable(who, a.plan("large", a.fee(90), a.allowance(200)), now=APRIL_16)

    total = sum(UsageEvent.objects.filter(at__lt=MAY_1).values_list("taken", flat=True)) + used(who, at=MAY_1 - HOUR)
    assert round(total, 1) == 10
