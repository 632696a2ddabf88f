import pytest

from entitlements.check import UnknownFeature, check, check_all
from tests.builders import (
    access,
    allowance,
    assigned,
    customer,
    default,
    enable,
    fee,
    lasting,
    left,
    on,
    plan,
    pro,
    seats,
    static,
    switch,
    use,
)
from tests.instants import APRIL_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db


def test_an_allowance_answers_with_what_is_left_and_when_it_resets():
    """L-34"""
    acme = on(pro(50, credits=10_000))
    use(acme, 2_500)

    found = access(acme, now=MARCH_16)

    assert (found.limit, found.used, found.remaining, found.next_reset_at) == (10_000, 2_500, 7_500, APRIL_1)


def test_an_unknown_feature_is_refused():
    with pytest.raises(UnknownFeature):
        check(customer(), "teleport", now=MARCH_1)


def test_limits_of_two_plans_are_added():
    """P-21, P-19"""
    acme = on(pro(50, credits=1000))
    enable(acme, assigned("partner", allowance(500)))

    assert access(acme).limit == 1500


def test_one_plan_without_a_limit_lifts_it():
    """P-22"""
    acme = on(pro(50))
    enable(acme, assigned("partner", allowance(None)))

    found = access(acme)

    assert (found.unlimited, found.limit, found.remaining) == (True, None, None)


def test_an_exhausted_limit_stays_in_the_package():
    """P-31, Y-38"""
    acme = on(pro(0, credits=5))
    use(acme, 5)

    found = access(acme)

    assert (found.has_access, found.has_reached_limit, found.allowed, found.reason) == (
        True,
        True,
        False,
        "limit_reached",
    )


def test_use_that_is_paid_for_is_allowed_beyond_the_allowance():
    """L-35, Y-39"""
    acme = on(plan("pro", fee(50), allowance(5, price="0.10")))
    use(acme, 7)

    found = access(acme)

    assert (found.allowed, found.remaining, found.overage) == (True, 0, 2)


def test_a_soft_limit_without_a_price_counts_on():
    """Design 5, 4"""
    acme = on(plan("pro", allowance(5, soft=True)))
    use(acme, 7)

    assert (access(acme).allowed, left(acme)) == (True, -2)


@pytest.mark.parametrize(("required", "allowed"), [(5, True), (6, False)])
def test_whether_so_many_may_be_used_is_asked_of_the_sum(required, allowed):
    """A-36"""
    acme = on(pro(0, credits=3))
    enable(acme, assigned("partner", allowance(2)))

    assert access(acme, required=required).allowed is allowed


def test_a_balance_that_never_resets_names_no_date():
    """P-30"""
    acme = on(plan("pro", lasting(200)))
    use(acme, 50, of="tokens")

    found = access(acme, of="tokens", now=day("2031-01-01"))

    assert (found.next_reset_at, found.remaining) == (None, 150)


def test_levels_never_reset():
    acme = on(plan("pro", seats(5)))
    use(acme, 3, of="seats")

    assert left(acme, of="seats", now=day("2031-01-01")) == 2


def test_windows_of_an_assigned_plan_are_counted_from_the_start_of_usage():
    """P-24, P-25"""
    default(allowance(5))
    acme, globex = customer(since=day("2026-01-10")), customer("Globex", since=day("2026-01-10"))
    globex.usage_started_at = day("2026-01-31")

    assert access(acme, now=MARCH_16).next_reset_at == day("2026-04-10")
    assert access(globex, now=MARCH_16).next_reset_at == day("2026-03-31")


def test_windows_of_a_billed_plan_are_its_periods():
    """P-26"""
    acme = customer(since=day("2026-01-10"))
    enable(acme, pro(50), now=MARCH_16)

    assert access(acme, now=MARCH_16).next_reset_at == day("2026-04-16")


def test_calendar_windows_are_the_same_for_all():
    """P-27"""
    acme = customer(since=day("2026-01-10"))
    enable(acme, assigned("partner", allowance(10, calendar=True)), now=MARCH_16)

    assert access(acme, now=MARCH_16).next_reset_at == APRIL_1


def test_the_default_product_contributes_nothing_beside_an_assigned_plan():
    """P-16"""
    default(allowance(5))
    acme = customer()
    assert access(acme).limit == 5

    enable(acme, assigned("partner", allowance(100)))

    assert access(acme).limit == 100


def test_everything_a_customer_may_use_is_answered_at_once():
    """L-31"""
    acme = on(plan("pro", allowance(100), switch(), static("60"), seats(5)))

    found = {a.feature: a.value if a.limit is None else a.limit for a in check_all(acme, now=MARCH_1)}

    assert found == {"credits": 100, "sso": True, "rate-limit": 60, "seats": 5}


def test_a_check_takes_five_queries_however_many_plans(django_assert_max_num_queries):
    acme = on(pro(50))
    for number in range(5):
        enable(acme, assigned(f"partner-{number}", allowance(10), of=f"p{number}"))
    use(acme, 120)

    with django_assert_max_num_queries(5):
        access(acme)


def test_everything_is_answered_in_five_queries(django_assert_max_num_queries):
    acme = on(plan("pro", allowance(100), switch(), static("60"), seats(5)))
    use(acme, 1)

    with django_assert_max_num_queries(5):
        check_all(acme, now=MARCH_1)
