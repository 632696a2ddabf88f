from decimal import Decimal

import pytest

from catalog.models import Plan
from customers.journal import ReasonRequired
from entitlements.edit import BadResetDate, NothingToEdit, edit_balance, preview_edit
from entitlements.ledger import ledger
from entitlements.readings import pool_at
from entitlements.reset import reset_due
from tests.builders import (
    STAFF,
    access,
    allowance,
    assigned,
    customer,
    enable,
    fee,
    lasting,
    left,
    on,
    pass_time,
    plan,
    pro,
    seats,
    static,
    switch,
    totals,
    use,
)
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db


def edit(who, to, *, of="credits", now=MARCH_16, reason="support case", **options):
    _, row = edit_balance(who, feature=of, to=Decimal(to), reason=reason, actor=STAFF, now=now, **options)
    return row


def planned(who, to, *, of="credits", now=MARCH_16, **options):
    return preview_edit(pool_at(who, now, of), of, to=Decimal(to), now=now, **options)


def test_what_is_left_is_set_and_granted_and_used_stay_true():
    """A-30"""
    acme = on(pro(50))
    edit(acme, 80)

    row = edit(acme, 120)

    assert (left(acme, now=MARCH_16), row.granted, row.adjusted, row.used) == (120, 100, 20, 0)


def test_the_popup_says_until_when_and_what_comes_after():
    """A-30"""
    acme = on(pro(50))

    assert planned(acme, 120).sentence == "Until 1 Apr 2026: 120 left; then 100 again. Nothing is charged."


def test_a_paid_balance_below_zero_is_charged_on_the_next_invoice():
    """A-31"""
    acme = on(plan("pro", fee(50), allowance(100, price="0.10")))
    assert (planned(acme, -25).charge, planned(acme, -25).charged_units) == (250, 25)

    edit(acme, -25)
    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [5000, 5250]


def test_an_unpaid_balance_below_zero_only_blocks():
    """A-31"""
    acme = on(pro(50))
    assert (planned(acme, -25).charge, "blocked" in planned(acme, -25).sentence) == (0, True)

    edit(acme, -25)

    assert not access(acme, now=MARCH_16).allowed


@pytest.mark.parametrize("item", [switch, static])
def test_what_is_not_metered_has_no_balance_to_edit(item):
    """A-31"""
    acme = on(plan("pro", made := item()))

    with pytest.raises(NothingToEdit):
        edit(acme, 5, of=made.key)


def test_what_has_no_limit_has_no_balance_to_edit():
    """A-31"""
    acme = on(plan("pro", allowance(None)))

    with pytest.raises(NothingToEdit):
        edit(acme, 5)


def test_an_edit_with_a_reset_date_ends_the_window_there():
    """A-32"""
    acme = on(pro(50))

    edit(acme, 500, reset_at=day("2026-03-20"))

    assert left(acme, now=day("2026-03-19")) == 500
    assert (left(acme, now=day("2026-03-20")), access(acme, now=day("2026-03-20")).next_reset_at) == (100, APRIL_1)


def test_a_later_reset_date_postpones_the_next_window():
    """A-32"""
    acme = on(pro(50))

    edit(acme, 500, reset_at=APRIL_16)
    pass_time(acme, to=APRIL_1)

    assert left(acme, now=APRIL_1) == 500
    assert (left(acme, now=APRIL_16), access(acme, now=APRIL_16).next_reset_at) == (100, MAY_1)


def test_a_reset_date_in_the_past_is_refused():
    """A-32"""
    acme = on(pro(50))

    with pytest.raises(BadResetDate):
        edit(acme, 500, reset_at=MARCH_16)


def test_a_balance_that_never_resets_takes_no_reset_date():
    """A-32"""
    acme = on(plan("pro", lasting()))

    with pytest.raises(BadResetDate):
        edit(acme, 500, of="tokens", reset_at=APRIL_1)


def test_a_reset_brings_the_plans_grant_back():
    """A-33"""
    acme = on(pro(50))
    edit(acme, 500)

    reset_due(now=APRIL_1)

    assert left(acme, now=APRIL_1) == 100


def test_an_edit_of_a_lasting_balance_lasts():
    """A-33"""
    acme = on(plan("pro", lasting(200)))
    edit(acme, 500, of="tokens")

    pass_time(acme, to=MAY_1)

    assert left(acme, of="tokens", now=MAY_1) == 500


def test_an_edit_that_names_no_bucket_moves_the_main_plans():
    """A-34"""
    acme = on(pro(50))
    enable(acme, assigned("partner", allowance(500)))

    row = edit(acme, 80)

    assert (row.subscription.product.key, left(acme, now=MARCH_16)) == ("api", 580)


def test_an_edit_may_name_the_bucket():
    """A-34"""
    acme = on(pro(50))
    enable(acme, assigned("partner", allowance(500)))
    use(acme, 1)
    partner = acme.balances.get(plan__key="partner")

    edit(acme, 80, balance_id=partner.pk)

    assert left(acme, now=MARCH_16) == 99 + 80


def test_an_edit_of_the_sum_moves_the_plans_bucket_by_the_difference():
    """A-34"""
    acme = on(pro(50))
    enable(acme, assigned("partner", allowance(500)))

    edit(acme, 580, total=True)

    assert left(acme, now=MARCH_16) == 580


def test_a_bucket_of_another_customer_cannot_be_named():
    globex = on(pro(50), name="Globex")
    use(globex, 1)
    acme = customer()
    enable(acme, Plan.objects.get(key="pro"))

    with pytest.raises(NothingToEdit):
        edit(acme, 80, balance_id=globex.balances.get().pk)


def test_an_edit_needs_a_reason():
    """Law 10"""
    acme = on(pro(50))

    with pytest.raises(ReasonRequired):
        edit(acme, 80, reason="  ")


def test_an_edit_stands_in_the_journal_and_in_the_ledger_with_who_and_why():
    """A-37, law 10"""
    acme = on(pro(50))

    row = edit(acme, 80)

    line = ledger(row)[-1]
    assert (line.amount, line.after, line.who, line.why) == (-20, 80, "ops", "support case")
    assert acme.operations.filter(verb="balance.edited", reason="support case").count() == 1


def test_an_edit_of_a_window_that_nobody_opened_opens_it():
    """Law 7"""
    acme = on(pro(50))
    use(acme, 30)

    row = edit(acme, 80, now=APRIL_16)

    assert (row.starts_at, left(acme, now=APRIL_16), left(acme, now=MAY_1)) == (APRIL_1, 80, 100)


def test_levels_can_be_edited():
    acme = on(plan("pro", seats(5)))
    use(acme, 3, of="seats")

    edit(acme, 10, of="seats")

    assert left(acme, of="seats", now=MARCH_1) == 10
