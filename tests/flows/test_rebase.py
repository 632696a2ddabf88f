"""Custom plans and a newer base: nothing happens by itself; what is theirs stays on top."""

from dataclasses import replace
from decimal import Decimal

import pytest

from billing_admin.flows.rebase import merge
from catalog.terms import PlanTerms
from customers.models import CustomPlan
from tests import builders as a
from tests.flows.migrations_world import second_version
from tests.instants import APRIL_1

pytestmark = pytest.mark.django_db


def card(*items):
    return PlanTerms(1, "USD", "P1M", items)


def merged(base, new, own):
    return merge(card(*base), card(*new), card(*own))


def test_what_only_the_base_changed_follows_the_base():
    """A-09"""
    found = merged([a.fee(50), a.allowance(100)], [a.fee(60), a.allowance(150)], [a.fee(40), a.allowance(100)])

    assert found.terms.item("credits").included == 150
    assert not [c for c in found.conflicts if c.key == "credits"]


def test_what_only_they_changed_stays():
    found = merged([a.fee(50), a.allowance(100)], [a.fee(50), a.allowance(150)], [a.fee(40), a.allowance(100)])

    assert found.terms.item("base").amount == 40
    assert found.conflicts == ()


def test_what_both_changed_stays_theirs_and_it_is_said():
    found = merged([a.fee(50)], [a.fee(60)], [a.fee(40)])

    assert found.terms.item("base").amount == 40
    assert [c.sentence for c in found.conflicts] == [
        "Base fee, price: their own ($40.00 / month) stays; the base has $60.00 / month."
    ]


def test_a_price_of_their_own_stays_one_of_its_own_interval():
    """$40 a month does not become $40 a year because the base is paid by the year now."""
    yearly = PlanTerms(1, "USD", "P1Y", (a.fee(500, cadence="P1Y"),))

    found = merge(card(a.fee(50)), yearly, card(a.fee(40)))

    base = found.terms.item("base")
    assert (base.amount, base.cadence) == (40, "P1M")
    assert [c.cell for c in found.conflicts] == ["price"]


def test_a_minimum_of_their_own_stays_one_of_its_own_period():
    yearly = PlanTerms(1, "USD", "P1Y", (a.fee(50),))

    found = merge(card(a.fee(50)), yearly, replace(card(a.fee(50)), commitment=10_000))

    assert (found.terms.commitment, found.terms.cadence) == (10_000, "P1M")
    assert [c.key for c in found.conflicts] == ["cadence", "commitment"]


def test_cells_of_one_item_are_merged_one_by_one():
    base, new, own = a.allowance(100), a.allowance(150), a.allowance(100, soft=True)

    item = merged([base], [new], [own]).terms.item("credits")

    assert (item.included, item.limit) == (150, "soft")


def test_new_items_of_the_base_come_along():
    found = merged([a.fee(50)], [a.fee(50), a.switch("sso")], [a.fee(40)])

    assert found.terms.item("sso") is not None


def test_their_own_items_stay():
    found = merged([a.fee(50)], [a.fee(60)], [a.fee(50), a.switch("audit-log")])

    assert found.terms.item("audit-log") is not None
    assert found.terms.item("base").amount == 60


def test_what_they_took_off_stays_off():
    found = merged([a.fee(50), a.allowance(100)], [a.fee(50), a.allowance(150)], [a.fee(50)])

    assert found.terms.item("credits") is None
    assert [c.own for c in found.conflicts] == ["taken off"]


def test_what_the_base_gave_up_goes_unless_they_had_changed_it():
    base = [a.fee(50), a.switch("sso"), a.allowance(100)]

    found = merged(base, [a.fee(50)], [a.fee(50), a.switch("sso"), a.allowance(500)])

    assert [item.key for item in found.terms.items] == ["base", "credits"]
    assert [(c.key, c.base) for c in found.conflicts] == [("credits", "no such item any more")]


def test_a_feature_that_both_added_stands_once_and_is_theirs():
    theirs = replace(a.allowance(500), key="own-credits")

    found = merged([a.fee(50)], [a.fee(50), a.allowance(100)], [a.fee(50), theirs])

    assert [(item.key, item.included) for item in found.terms.items if item.feature] == [("own-credits", Decimal(500))]
    assert [c.key for c in found.conflicts] == ["own-credits"]


def test_who_has_nothing_of_their_own_left_is_standard_again():
    found = merged([a.fee(50)], [a.fee(40)], [a.fee(40)])

    assert found.is_standard


@pytest.fixture
def acme():
    pro = a.plan("pro", a.fee(50), a.allowance(100))
    who = a.on(pro)
    a.enable(who, pro, a.fee(55), a.allowance(100))
    a.pay_all(who)
    return who


def test_a_newer_base_changes_nothing_for_them(acme):
    """A-09"""
    second_version(CustomPlan.objects.get().version.plan, a.fee(60), a.allowance(250))

    a.pass_time(acme, to=APRIL_1)

    assert a.totals(acme)[-1] == 5500
    assert a.left(acme, now=APRIL_1) == 100
