"""Use that is reported after its window has ended."""

from datetime import timedelta
from decimal import Decimal

import pytest

from billing_admin.flows.drafts import issue_due, refresh
from entitlements.late import BadInstant, WindowBilled
from entitlements.ledger import ledger
from entitlements.models import Balance, UsageEvent
from entitlements.track import KeyReused, LimitReached
from invoicing.models import BillingSettings
from tests.builders import (
    allowance,
    assigned,
    customer,
    default,
    enable,
    fee,
    left,
    on,
    pass_time,
    pay_all,
    plan,
    pro,
    seats,
    use,
)
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def metered(included=100):
    return plan("metered", fee(50), allowance(included, price="0.10"))


def waiting(*, used=150, hours=48):
    """A customer whose April renewal waits for late use, and that draft."""
    BillingSettings.objects.create(pk=1, grace_hours=hours)
    acme = on(metered())
    use(acme, used, now=MARCH_16)
    pass_time(acme, to=APRIL_1)
    return acme, acme.invoices.drafts().get()


def late(who, amount, *, at=MARCH_16, now=APRIL_1 + HOUR, **options):
    return use(who, amount, at=at, now=now, **options)


def test_late_use_counts_in_the_window_in_which_it_happened():
    """Y-29"""
    acme, draft = waiting()

    tracked = late(acme, 50)

    window = Balance.objects.get(ends_at=APRIL_1)
    assert (tracked.applied, tracked.event.at, tracked.event.balance_ids) == (True, MARCH_16, [window.pk])
    assert (window.used, left(acme, now=APRIL_1 + HOUR)) == (200, 100)
    assert [(line.kind, line.amount) for line in draft.lines.all()] == [("usage", 1000), ("fee", 5000)]


def test_late_use_brings_a_draft_its_first_overage():
    """Y-29"""
    acme, draft = waiting(used=90)
    assert [line.kind for line in draft.lines.all()] == ["fee"]

    late(acme, 20)

    draft.refresh_from_db()
    assert ([line.amount for line in draft.lines.all()], draft.total) == ([100, 5000], 5100)


def test_late_use_is_not_counted_once_its_window_is_billed():
    """Y-30"""
    acme, draft = waiting()
    issue_due(APRIL_1 + 48 * HOUR)
    pay_all(acme, now=APRIL_16)

    with pytest.raises(WindowBilled, match="Credits of 16 Mar 2026 has been billed") as caught:
        late(acme, 50, now=APRIL_16)

    assert caught.value.code == "window_billed"
    draft.refresh_from_db()
    assert (draft.total, UsageEvent.objects.count(), Balance.objects.get(ends_at=APRIL_1).used) == (5500, 1, 150)


def test_late_use_is_refused_after_the_grace_though_nobody_issued_the_draft_yet():
    """Y-30, Law 7"""
    acme, draft = waiting()

    with pytest.raises(WindowBilled):
        late(acme, 50, now=APRIL_1 + 48 * HOUR)

    [issued] = issue_due(APRIL_16)
    assert (issued.pk, issued.total) == (draft.pk, 5500)


def test_a_window_within_its_allowance_is_closed_with_its_period():
    """Y-30"""
    acme = on(metered())
    use(acme, 90, now=MARCH_16)
    pass_time(acme, to=APRIL_1)

    with pytest.raises(WindowBilled):
        late(acme, 50)


def test_a_late_worker_does_not_let_late_use_in():
    """Law 7"""
    acme = on(metered())
    use(acme, 90, now=MARCH_16)

    with pytest.raises(WindowBilled):
        late(acme, 50)


def test_windows_that_ended_within_a_period_wait_for_its_bill():
    """Y-29"""
    acme = on(plan("daily", fee(50), allowance(10, resets="P1D", price="1")))
    use(acme, 15, now=MARCH_1)
    use(acme, 1, now=MARCH_16)

    late(acme, 5, at=MARCH_1 + HOUR, now=MARCH_16)
    pass_time(acme, to=APRIL_1, pays=False)

    assert acme.invoices.newest()[0].lines.get(kind="usage").amount == 1000


def test_late_use_of_a_window_that_nobody_used_opens_it():
    """Y-29"""
    acme = on(plan("daily", fee(50), allowance(10, resets="P1D", price="1")))
    use(acme, 1, now=MARCH_1)
    use(acme, 1, now=MARCH_16)

    late(acme, 12, at=day("2026-03-05T06:00"), now=MARCH_16)

    window = Balance.objects.get(starts_at=day("2026-03-05"))
    assert (window.ends_at, window.used, window.granted, window.closed_at) == (day("2026-03-06"), 12, 10, MARCH_16)
    assert left(acme, now=MARCH_16) == 9


def test_use_of_the_running_window_keeps_its_instant():
    acme = on(metered())

    tracked = late(acme, 5, at=MARCH_1 + HOUR, now=MARCH_16)

    assert (tracked.event.at, left(acme, now=MARCH_16)) == (MARCH_1 + HOUR, 95)


def test_late_use_of_a_trial_counts_and_costs_nothing():
    """A-27"""
    acme = customer()
    enable(acme, plan("tried", fee(50), allowance(100, price="0.10"), trial_days=14))
    pass_time(acme, to=MARCH_16)

    late(acme, 150, at=MARCH_1 + HOUR, now=MARCH_16)
    pass_time(acme, to=APRIL_16)

    assert [line.kind for invoice in acme.invoices.all() for line in invoice.lines.all()] == ["fee", "fee"]


def test_late_use_of_an_assigned_plan_counts_in_its_own_window():
    """Y-29"""
    acme = customer()
    enable(acme, assigned())
    use(acme, 10, now=MARCH_16)
    pass_time(acme, to=APRIL_16)

    late(acme, 5, now=APRIL_16)

    assert Balance.objects.get(ends_at=APRIL_1).used == 15
    assert left(acme, now=APRIL_16) == 1000


def test_late_use_of_the_default_product_counts_in_its_own_window():
    default()
    acme = customer()
    use(acme, 1, now=APRIL_16)

    late(acme, 3, at=MARCH_16, now=APRIL_16)

    assert [(row.starts_at, row.used) for row in Balance.objects.order_by("starts_at")] == [(MARCH_1, 3), (APRIL_1, 1)]


def test_late_use_is_limited_by_its_own_window():
    acme = on(pro(credits=10))
    use(acme, 8, now=MARCH_1)

    with pytest.raises(LimitReached):
        late(acme, 5, at=MARCH_1 + HOUR, now=MARCH_16)


def test_late_use_before_any_plan_is_refused():
    acme = on(metered())

    with pytest.raises(LimitReached, match="not in the customer's plan"):
        late(acme, 5, at=MARCH_1 - HOUR, now=MARCH_16)


def test_a_key_counts_once_also_for_late_use():
    acme, _ = waiting()
    late(acme, 5, key="job-1")

    again = late(acme, 5, key="job-1")

    assert (again.applied, Balance.objects.get(ends_at=APRIL_1).used) == (False, 155)
    with pytest.raises(KeyReused):
        late(acme, 6, key="job-1")


def test_late_use_can_be_given_back():
    acme, draft = waiting()

    late(acme, -30)

    draft.refresh_from_db()
    assert draft.lines.get(kind="usage").amount == 200


def test_use_cannot_be_reported_before_it_happens():
    acme = on(metered())

    with pytest.raises(BadInstant, match="before it happens"):
        late(acme, 5, at=MAY_1, now=MARCH_16)


def test_a_clock_that_is_a_little_ahead_reports_use_of_now():
    acme = on(metered())

    assert late(acme, 5, at=MARCH_16 + timedelta(minutes=2), now=MARCH_16).event.at == MARCH_16


def test_use_of_the_running_window_waits_for_no_renewal(django_assert_max_num_queries):
    acme = on(metered())
    use(acme, 1, now=MARCH_1)

    with django_assert_max_num_queries(14):
        late(acme, 5, at=MARCH_16 - HOUR, now=MARCH_16)


def test_a_level_has_no_past():
    acme = on(plan("seated", fee(50), seats()))

    with pytest.raises(BadInstant, match="report what it is now"):
        late(acme, 1, of="seats", at=MARCH_1 + HOUR, now=MARCH_16)


def test_late_use_stands_in_the_ledger_on_its_day():
    """Law 12"""
    acme, _ = waiting()

    late(acme, 50, at=day("2026-03-20T08:00"))

    used = [(line.at, line.amount) for line in ledger(Balance.objects.get(ends_at=APRIL_1)) if line.kind == "used"]
    assert used == [(MARCH_16, Decimal(-150)), (day("2026-03-20T08:00"), Decimal(-50))]


def test_late_use_is_rated_by_the_price_in_force_when_it_happened():
    """Design 4"""
    acme = on(plan("own", fee(50), allowance(0, price="0.10")))
    what = acme.subscriptions.get().phases.get().version.plan
    use(acme, 10, now=MARCH_1)
    enable(acme, what, fee(50), allowance(0, price="0.50"), now=MARCH_16)

    late(acme, 10, at=MARCH_1 + HOUR, now=MARCH_16 + HOUR)
    pass_time(acme, to=APRIL_1, pays=False)

    lines = [line for invoice in acme.invoices.all() for line in invoice.lines.filter(kind="usage")]
    assert sum(line.amount for line in lines) == 200


def test_a_draft_that_is_drawn_up_twice_is_the_same():
    """Law 6"""
    acme, draft = waiting()
    late(acme, 50)
    before = list(draft.lines.values_list("kind", "amount", "position", "phase"))

    refresh(draft, now=APRIL_1 + HOUR)

    assert list(draft.lines.values_list("kind", "amount", "position", "phase")) == before
