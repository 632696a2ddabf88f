"""Taking back overrides of features and of prices."""

from datetime import datetime
from decimal import Decimal

import pytest

from billing_admin.flows.override_batch import Row, begin, carry_out
from billing_admin.flows.reprice import revoke_override
from customers.models import Customer
from entitlements.models import FeatureOverride
from entitlements.override import override, revoke
from tests import builders as a
from tests.flows.undo_world import changes, last, seen, take_back, why
from tests.instants import APRIL_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db


def raised(who: Customer, to: int = 500, *, until: datetime | None = MAY_1, **more: object) -> FeatureOverride:
    return override(
        who, a.feature("credits"), to, effective_until=until, reason="trial", actor=a.STAFF, now=MARCH_16, **more
    )


def test_a_given_override_is_revoked():
    who = a.on(a.pro())
    row = raised(who)

    made = take_back(last(who, "override.given"), now=MARCH_16)

    row.refresh_from_db()
    assert (made.verb, row.state(MARCH_16), a.left(who, now=MARCH_16)) == ("override.revoked", "revoked", 100)


def test_what_an_override_superseded_holds_again():
    who = a.on(a.pro())
    raised(who, 300)
    raised(who, 500, supersede=True)

    taken = seen(last(who, "override.given"), now=MARCH_16)
    take_back(last(who, "override.given"), now=MARCH_16)

    assert "the one of 300 holds again" in taken.sentence
    assert a.left(who, now=MARCH_16) == 300


def test_a_revoked_override_is_given_again_until_it_would_have_ended():
    who = a.on(a.pro())
    row = raised(who, until=day("2026-03-28"))
    revoke(row, reason="a slip", actor=a.STAFF, now=MARCH_16)

    take_back(last(who, "override.revoked"), now=MARCH_16)

    assert a.left(who, now=MARCH_16) == 500
    assert a.left(who, now=day("2026-03-29")) == 100


def test_units_that_were_used_of_an_override_are_not_given_twice():
    who = a.on(a.pro())
    row = raised(who)
    a.use(who, 450, now=MARCH_16)
    before = a.left(who, now=MARCH_16)
    revoke(row, reason="a slip", actor=a.STAFF, now=day("2026-03-20"))

    take_back(last(who, "override.revoked"), now=day("2026-03-21"))

    assert a.left(who, now=day("2026-03-21")) == before == 50


def test_an_override_that_is_over_is_not_taken_back():
    who = a.on(a.pro())
    raised(who, until=APRIL_1)

    assert why(last(who, "override.given"), now=MAY_1) == "The override is over: it is expired."


def test_a_revocation_stays_where_another_override_holds():
    who = a.on(a.pro())
    revoke(raised(who), reason="a slip", actor=a.STAFF, now=MARCH_16)
    raised(who, 700)

    assert why(last(who, "override.revoked"), now=MARCH_16) == "Another override of Credits holds in that time."


def test_a_switch_that_was_closed_is_open_again():
    who = a.on(a.plan("pro", a.fee(50), a.switch("sso")))
    override(who, a.feature("sso"), False, effective_until=None, reason="abuse", actor=a.STAFF, now=MARCH_16)
    operation = last(who, "override.given")

    assert changes(seen(operation, now=MARCH_16))["Sso"] == ("no access", "on")
    take_back(operation, now=MARCH_16)

    assert a.access(who, of="sso", now=MARCH_16).allowed


def test_a_batch_is_taken_back_as_a_whole(django_capture_on_commit_callbacks):
    whos = [a.on(a.pro()), a.on(a.reread(a.plan("lite", a.fee(5), a.allowance(10), of="lite")), name="Globex")]
    rows = [
        Row(line=line, customer_id=who.customer_id, feature="credits", value=Decimal(400), until=MAY_1)
        for line, who in enumerate(whos, 2)
    ]
    batch = begin(rows, reason="outage", actor=a.STAFF, now=MARCH_16)
    carry_out(batch, MARCH_16)

    with django_capture_on_commit_callbacks(execute=True):
        take_back(last(None, "override_batch.begun"), now=MARCH_16)
    carry_out(batch, MARCH_16)

    assert not FeatureOverride.objects.standing(MARCH_16).exists()
    assert why(last(None, "override_batch.begun"), now=MARCH_16).startswith("ops took it back")


# Prices ---------------------------------------------------------------------------------------------------------------


def test_a_special_price_is_revoked_and_invoices_that_had_it_keep_it():
    who = a.on(a.pro())
    a.special_price(who, now=MARCH_16)
    a.pass_time(who, to=APRIL_1)

    taken = seen(last(who, "price.overridden"), now=APRIL_1)
    take_back(last(who, "price.overridden"), now=APRIL_1)
    a.pass_time(who, to=MAY_1)

    assert taken.stays == ("1 billing period is invoiced with it; those invoices stay.",)
    assert a.totals(who)[-2:] == [3000, 5000]


def test_a_revoked_special_price_holds_again_for_what_was_left_of_it():
    who = a.on(a.pro())
    row = a.special_price(who, now=MARCH_16, cycles=2)
    a.pass_time(who, to=APRIL_1)
    revoke_override(row, reason="a slip", actor=a.STAFF, now=APRIL_1)

    take_back(last(who, "price.override_revoked"), now=APRIL_1)
    a.pass_time(who, to=day("2026-06-01"))

    assert a.totals(who)[-3:] == [3000, 3000, 5000]


def test_a_revocation_of_a_price_stays_where_another_one_holds():
    who = a.on(a.pro())
    revoke_override(a.special_price(who, now=MARCH_16), reason="a slip", actor=a.STAFF, now=MARCH_16)
    a.special_price(who, 2000, now=MARCH_16)

    assert why(last(who, "price.override_revoked"), now=MARCH_16) == "Another special price holds for base."
