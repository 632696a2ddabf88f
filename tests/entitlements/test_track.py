from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from django.db import connection

from entitlements.balances import Mode
from entitlements.edit import edit_balance
from entitlements.models import UsageEvent
from entitlements.track import KeyReused, LimitReached, NotMetered
from tests.builders import (
    STAFF,
    allowance,
    customer,
    default,
    lasting,
    left,
    new_version,
    on,
    plan,
    pro,
    static,
    switch,
    use,
)
from tests.instants import APRIL_1, APRIL_16, MARCH_16


def at_once(times, act):
    """The act so many times in parallel, each on a connection of its own; refusals are None."""

    def one(number):
        try:
            return act(number)
        except LimitReached:
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(times) as pool:
        return [answer for answer in pool.map(one, range(times)) if answer is not None]


@pytest.mark.django_db(transaction=True)
def test_parallel_use_never_passes_a_hard_limit():
    """A-36"""
    acme = on(pro(0, credits=10))
    use(acme, 0)

    counted = at_once(16, lambda _: use(acme, 1, now=MARCH_16))

    assert (len(counted), left(acme, now=MARCH_16)) == (10, 0)


@pytest.mark.django_db(transaction=True)
def test_parallel_use_never_passes_a_hard_limit_although_its_window_was_not_opened_yet():
    """A-36, law 7"""
    default(allowance(4))
    acme = on(pro(0, credits=10))
    use(acme, 7)

    counted = at_once(16, lambda _: use(acme, 1, now=APRIL_16))

    assert (len(counted), left(acme, now=APRIL_16)) == (10, 0)


@pytest.mark.django_db(transaction=True)
def test_the_same_key_at_once_counts_once():
    """P-33, L-38"""
    acme = on(pro(0, credits=10))

    answers = at_once(6, lambda _: use(acme, 1, key="k"))

    assert sorted(answer.applied for answer in answers) == [False] * 5 + [True]
    assert left(acme) == 9


@pytest.mark.django_db
def test_what_does_not_fit_is_refused_whole():
    """A-36"""
    acme = on(pro(0, credits=5))

    with pytest.raises(LimitReached) as refused:
        use(acme, 8)

    assert (left(acme), refused.value.access.remaining) == (5, 5)


@pytest.mark.django_db
@pytest.mark.parametrize(("mode", "taken", "rest"), [(Mode.CAP, 5, 0), (Mode.OVERFLOW, 8, -3)])
def test_what_does_not_fit_may_be_capped_or_overflow(mode, taken, rest):
    """A-36"""
    acme = on(pro(0, credits=5))

    assert (use(acme, 8, mode=mode).event.taken, left(acme)) == (taken, rest)


@pytest.mark.django_db
def test_a_repeated_key_answers_with_the_first_event_and_the_present_balance():
    """P-33"""
    acme = on(pro(0))
    first = use(acme, 3, key="k")
    use(acme, 4)

    again = use(acme, 3, key="k")

    assert (again.applied, again.event, again.access.remaining) == (False, first.event, 93)


@pytest.mark.django_db
def test_a_repeated_key_of_a_fine_amount_is_the_same_event():
    """P-33: amounts count to six decimals, the first time and the second."""
    acme = on(pro(0))
    use(acme, "0.12345678", key="k")

    assert not use(acme, "0.12345678", key="k").applied


@pytest.mark.django_db
@pytest.mark.parametrize("other", [{"amount": 4}, {"amount": 3, "properties": {"model": "large"}}])
def test_a_key_with_another_body_is_refused(other):
    """P-33"""
    acme = on(pro(0))
    use(acme, 3, key="k", properties={"model": "small"})

    with pytest.raises(KeyReused):
        use(acme, key="k", **other)


@pytest.mark.django_db
def test_a_refused_event_leaves_its_key_free():
    """P-33"""
    acme = on(pro(0, credits=5))
    with pytest.raises(LimitReached):
        use(acme, 8, key="k")

    assert use(acme, 5, key="k").applied


@pytest.mark.django_db
@pytest.mark.parametrize("item", [switch, static])
def test_only_metered_features_are_counted(item):
    acme = on(plan("pro", made := item()))

    with pytest.raises(NotMetered):
        use(acme, 1, of=made.key)


@pytest.mark.django_db
def test_use_without_a_plan_is_refused():
    """L-32"""
    allowance()

    with pytest.raises(LimitReached) as refused:
        use(customer(), 1)

    assert refused.value.access.reason == "no_plan"


@pytest.mark.django_db
def test_use_that_is_given_back_frees_what_was_burnt_last():
    """Law 8"""
    acme = on(pro(0))
    use(acme, 30)

    use(acme, -10)

    assert left(acme) == 80


@pytest.mark.django_db
def test_more_than_was_used_cannot_be_given_back():
    acme = on(pro(0))
    use(acme, 3)

    with pytest.raises(LimitReached):
        use(acme, -4)


@pytest.mark.django_db
def test_the_first_use_after_a_boundary_opens_the_window_that_nobody_opened():
    """Law 7"""
    acme = on(pro(0))
    use(acme, 60)

    use(acme, 1, now=APRIL_16)

    old, new = acme.balances.order_by("id")
    assert (old.ends_at, old.used, old.closed_at) == (APRIL_1, 60, APRIL_16)
    assert (new.starts_at, new.used, new.left) == (APRIL_1, 1, 99)


@pytest.mark.django_db
def test_tracking_takes_few_queries(django_assert_max_num_queries):
    acme = on(pro(0))
    use(acme, 1)

    with django_assert_max_num_queries(12):
        use(acme, 1, key="k")


@pytest.mark.django_db
def test_a_default_plan_that_no_longer_lasts_for_ever_locks_nobody_out():
    """P-12: what was used up for life begins again with the first window of the new version."""
    community = default(lasting(5, of="credits"))
    acme = customer()
    use(acme, 5)
    new_version(community, allowance(5))

    assert left(acme, now=APRIL_16) == 5
    assert use(acme, 5, now=APRIL_16).applied


@pytest.mark.django_db(transaction=True)
def test_an_edit_beside_use_forgets_none_of_it():
    """A-30, law 12"""
    acme = on(pro(0))
    use(acme, 7)

    def act(number):
        if number == 0:
            return edit_balance(acme, feature="credits", to=Decimal(50), reason="gift", actor=STAFF, now=APRIL_16)
        return use(acme, 1, now=APRIL_16)

    at_once(8, act)

    [balance] = acme.balances.filter(closed_at=None)
    after_the_edit = UsageEvent.objects.filter(customer=acme, at=APRIL_16).count()
    assert (balance.used, balance.granted) == (after_the_edit, 100)
    assert balance.granted + balance.adjusted - balance.used <= 50
