"""Buckets as values: windows, burning, giving back, and what counts at an instant. No database."""

from dataclasses import replace
from decimal import Decimal

import pytest

from catalog.charges import Price
from catalog.terms import CALENDAR, HARD, METERED, SOFT, FeatureTerms, ItemTerms, PlanTerms
from customers.contracts import Contract
from entitlements.balances import Bucket, Contribution, Fate, Mode, burn, fresh, project, reprovision
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1, day

CREDITS = FeatureTerms("credits", "Credits", METERED, id=1)


def item(included=100, *, id=1, reset="P1M", soft=False, price=None, cap=None, anchor="billing_period"):
    return ItemTerms(
        key="credits",
        feature=CREDITS,
        included=None if included is None else Decimal(included),
        unlimited=included is None,
        reset=reset,
        reset_anchor=anchor,
        limit=SOFT if soft or price else HARD,
        price=price and Price(rate=Decimal(price)),
        max_overage=cap and Decimal(cap),
        id=id,
    )


def bucket(granted=100, *, used=0, ends_at=APRIL_1, starts_at=MARCH_1, id=1, **options):
    made = item(granted, **{k: v for k, v in options.items() if k in ("soft", "price", "cap")})
    rest = {k: v for k, v in options.items() if k not in ("soft", "price", "cap")}
    granted = None if granted is None else Decimal(granted)
    return Bucket(made, (1, None), starts_at, ends_at, granted, used=Decimal(used), id=id, **rest)


def contribution(of=None, *, since=MARCH_1, anchor=None, phase=None, quantity=1, kind="billed", add_on=False):
    of = of or item()
    terms = PlanTerms(1, "USD", "P1M", (of,))
    contract = Contract(
        plan_id=1,
        plan_name="Pro",
        kind=kind,
        version_id=1,
        terms=terms,
        anchor=anchor or since,
        since=since,
        phase_starts_at=phase or since,
        subscription_id=1,
        quantity=quantity,
        add_on=add_on,
    )
    return Contribution(contract, of)


def shares(buckets, amount, mode=Mode.REJECT):
    """What was taken of each bucket, by its id; None when refused."""
    burnt = burn(buckets, Decimal(amount), mode)
    return None if burnt.refused else {buckets[i].id: int(part) for i, part in burnt.parts}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"priority": -1, "ends_at": None}, {"priority": 0}),
        ({"ends_at": APRIL_1}, {"ends_at": MAY_1}),
        ({"ends_at": APRIL_1}, {"ends_at": None}),
        ({"starts_at": MARCH_1}, {"starts_at": MARCH_16}),
    ],
)
def test_buckets_burn_by_priority_then_the_earliest_end_then_the_earliest_start(first, second):
    """Law 8, Y-42"""
    assert shares([bucket(10, id=1, **second), bucket(10, id=2, **first)], 12) == {2: 10, 1: 2}


def test_of_equal_buckets_the_older_row_burns_first():
    """Law 8"""
    assert shares([bucket(10, id=7), bucket(10, id=3)], 12) == {3: 10, 7: 2}


def test_what_one_bucket_lacks_is_never_taken_from_another_that_is_below_zero():
    """Law 8: overage is shown, never offset."""
    assert shares([bucket(10, used=15, id=1), bucket(10, id=2)], 10) == {2: 10}


def test_use_beyond_everything_goes_to_the_bucket_that_is_paid_by_use():
    """Design 5, 4"""
    free = bucket(10, id=1, soft=True, since=MARCH_1)
    paid = bucket(10, id=2, price="1", since=MARCH_16)

    assert shares([free, paid], 25) == {1: 10, 2: 15}


def test_use_beyond_everything_goes_to_the_oldest_that_is_paid_by_use():
    """Design 5, 4"""
    young = bucket(10, id=1, price="1", since=MARCH_16)
    old = bucket(10, id=2, price="1", since=MARCH_1)

    assert shares([young, old], 25) == {1: 10, 2: 15}


def test_a_hard_limit_refuses_what_lies_beyond():
    """Y-38"""
    assert shares([bucket(10)], 11) is None


@pytest.mark.parametrize(("amount", "taken"), [(15, {1: 15}), (16, None)])
def test_overage_is_capped(amount, taken):
    """Design 5, 4: `maxOverage` caps it."""
    assert shares([bucket(10, price="1", cap=5)], amount) == taken


def test_what_does_not_fit_under_the_cap_of_the_overage_is_left_when_capping():
    """A-36"""
    assert shares([bucket(10, price="1", cap=5)], 20, Mode.CAP) == {1: 15}


def test_a_bucket_without_a_limit_takes_everything():
    """P-22"""
    assert shares([bucket(None)], 10**9) == {1: 10**9}


def test_overflow_counts_everything_on_the_oldest_contributor():
    """A-36"""
    assert shares([bucket(5, id=1, since=MARCH_16), bucket(5, id=2, since=MARCH_1)], 30, Mode.OVERFLOW) == {1: 5, 2: 25}


def test_giving_back_reverses_the_burn_overage_first_then_the_bucket_burnt_last():
    """Law 8"""
    early = bucket(10, used=10, id=1)
    late = bucket(10, used=13, id=2, ends_at=MAY_1, price="1")

    assert shares([early, late], -15) == {2: -13, 1: -2}


@pytest.mark.parametrize(("mode", "given"), [(Mode.REJECT, None), (Mode.CAP, {1: -3}), (Mode.OVERFLOW, {1: -5})])
def test_more_than_was_used_is_given_back_only_on_demand(mode, given):
    assert shares([bucket(10, used=3)], -5, mode) == given


@pytest.mark.parametrize(
    ("reset", "anchor", "starts", "ends"),
    [
        ("P1M", "billing_period", "2026-03-10", "2026-04-10"),
        ("P1W", "billing_period", "2026-03-24", "2026-03-31"),
        ("PT1H", "billing_period", "2026-03-25T12:00", "2026-03-25T13:00"),
        ("P1Y", "billing_period", "2026-03-10", "2027-03-10"),
        ("P1M", CALENDAR, "2026-03-10", "2026-04-01"),
        ("P1W", CALENDAR, "2026-03-23", "2026-03-30"),
        ("P3M", CALENDAR, "2026-03-10", "2026-04-01"),
        ("P6M", CALENDAR, "2026-03-10", "2026-07-01"),
    ],
)
def test_windows_follow_the_contract_or_the_calendar_and_never_begin_before_it(reset, anchor, starts, ends):
    """P-27, P-28, design 5"""
    found = contribution(item(reset=reset, anchor=anchor), since=day("2026-03-10")).window(day("2026-03-25T12:30"))

    assert (found.starts_at, found.ends_at) == (day(starts), day(ends))


def test_monthly_windows_from_the_31st_return_to_it():
    """P-28, Y-20"""
    since = contribution(since=day("2028-01-31"))

    ends = [since.window(day(at)).ends_at for at in ("2028-01-31", "2028-02-28", "2028-02-29", "2028-03-31")]

    assert ends == [day("2028-02-29"), day("2028-02-29"), day("2028-03-31"), day("2028-04-30")]


@pytest.mark.parametrize(("kind", "granted"), [("billed", 300), ("stripe", 300), ("assigned", 100)])
def test_only_plans_that_are_sold_are_multiplied_by_their_quantity(kind, granted):
    """P-21, P-22"""
    assert contribution(quantity=3, kind=kind).granted == granted


def test_a_bucket_in_its_window_is_the_one_that_counts():
    [standing] = project([contribution()], [bucket(used=40)], APRIL_1.replace(day=1, month=3))

    assert (standing.bucket.left, standing.needs_writing) == (60, False)


def test_a_window_that_ended_is_followed_by_the_present_one_although_nobody_opened_it():
    """A-38"""
    [standing] = project([contribution()], [bucket(used=40)], day("2026-06-10"))

    assert (standing.bucket.starts_at, standing.bucket.left) == (day("2026-06-01"), 100)
    assert standing.ended.ends_at == APRIL_1


def test_the_window_after_a_reset_date_of_staff_runs_to_the_regular_boundary():
    """Design 5: an operator's reset date ends this bucket only."""
    [standing] = project([contribution()], [bucket(ends_at=MARCH_16)], day("2026-03-20"))

    assert (standing.bucket.starts_at, standing.bucket.ends_at) == (MARCH_16, APRIL_1)


def test_a_bucket_from_before_a_switch_ends_with_it():
    """A-15, A-23"""
    after = contribution(item(50, id=2), phase=MARCH_16)

    [standing] = project([after], [bucket(used=40)], day("2026-03-20"))

    assert (standing.ended.ends_at, standing.bucket.starts_at, standing.bucket.left) == (MARCH_16, MARCH_16, 50)


def test_a_lasting_bucket_goes_on_through_a_switch():
    """A-23"""
    after = contribution(item(50, id=2, reset="never"), phase=MARCH_16)
    row = replace(bucket(used=40, ends_at=None), item=item(reset="never"))

    [standing] = project([after], [row], day("2026-03-20"))

    assert (standing.bucket.id, standing.bucket.left, standing.is_carried) == (1, 10, True)


@pytest.mark.parametrize(("renews", "fate", "left"), [(False, Fate.CARRIED, 160), (True, Fate.RENEWED, 200)])
def test_a_change_carries_use_or_grants_afresh_and_keeps_the_reset_date(renews, fate, left):
    """A-01, A-22"""
    after = contribution(item(200, id=2), phase=MARCH_16)
    row = bucket(used=40, ends_at=day("2026-03-28"))

    [move] = reprovision([row], [after], MARCH_16, renew_consumables=renews, new_cycle=False)

    assert (move.fate, move.after.left, move.after.ends_at) == (fate, left, day("2026-03-28"))


def test_a_new_cycle_brings_a_new_reset_date():
    """A-07"""
    after = contribution(item(200, id=2), anchor=MARCH_16, phase=MARCH_16)

    [move] = reprovision([bucket(used=40)], [after], MARCH_16, renew_consumables=False, new_cycle=True)

    assert (move.after.left, move.after.ends_at) == (160, APRIL_16)


def test_a_feature_that_goes_closes_its_bucket_and_one_that_comes_opens_one():
    """A-03"""
    other = replace(item(), feature=FeatureTerms("calls", "Calls", METERED, id=2), key="calls")

    moves = reprovision([bucket()], [contribution(other)], MARCH_16, renew_consumables=False, new_cycle=False)

    assert [move.fate for move in moves] == [Fate.OPENED, Fate.CLOSED]


def test_an_allowance_below_what_was_used_leaves_a_bucket_below_zero():
    """A-02"""
    [move] = reprovision(
        [bucket(200, used=80)], [contribution(item(50, id=2))], MARCH_16, renew_consumables=False, new_cycle=False
    )

    assert (move.after.left, move.after.remaining, move.after.overage) == (-30, 0, 30)


def test_the_first_bucket_of_a_contract_begins_with_it():
    opened = fresh(contribution(item(anchor=CALENDAR), since=MARCH_16), MARCH_16)

    assert (opened.starts_at, opened.ends_at) == (MARCH_16, APRIL_1)
