"""Subscriptions here that follow Stripe's: status, quantity, period, end."""

from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING

import pytest
from django.core.exceptions import ValidationError
from pytest_django.fixtures import Settings as Given

from billing_admin.flows.cancel import cancel, withdraw
from billing_admin.flows.customers import close_customer, deletion_blockers
from billing_admin.flows.renew import catch_up
from billing_admin.flows.stripe_follow import follow_due, look_again
from billing_admin.flows.stripe_mirror import mirror_customer, mirror_price, mirror_product, mirror_subscription
from customers.mirrored import FollowsStripe
from customers.models import Customer, Subscription
from invoicing.models import Invoice
from payments.gateway import gateway
from payments.models import StripeRun, StripeSubscription
from tests import builders as a
from tests.admin.catalog_desk import staff
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1, day
from tests.payments.mirror_world import (
    bring,
    conflicts,
    give,
    look,
    price,
    product,
    stripe_customer,
    subscribe,
    subscriber,
    use,
)
from tests.payments.pages_world import get, words

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def stripe(settings: Given, double: "Double") -> "Double":
    use(settings, double)
    return double


def one(who: Customer) -> Subscription:
    """What the customer holds at present."""
    return who.subscriptions.exclude(state="ended").get()


def test_a_subscription_is_followed_with_its_period_and_nothing_to_bill():
    who, _ = subscriber(a.allowance(100))

    held = one(who)

    assert (held.state, held.quantity, held.started_at) == ("active", 1, MARCH_1)
    assert (held.period_starts_at, held.period_ends_at, held.bills_at) == (MARCH_1, APRIL_1, None)
    assert a.access(who).limit == 100


def test_the_limit_is_multiplied_by_the_quantity():
    """P-21: 3 × 5 = 15."""
    who, _ = subscriber(a.allowance(5), quantity=3)

    assert a.access(who).limit == 15


def test_another_quantity_is_another_phase_and_keeps_what_was_used(stripe: "Double"):
    """P-21"""
    who, subscription = subscriber(a.allowance(5), quantity=3)
    a.use(who, 4)
    item = stripe.object(subscription)["items"]["data"][0]["id"]

    gateway().v1.subscriptions.update(subscription, {"items": [{"id": item, "quantity": 5}]})
    look(subscription, MARCH_16)

    assert [p.quantity for p in one(who).kept_phases()] == [3, 3, 5]
    assert (a.access(who, now=MARCH_16).limit, a.left(who, now=MARCH_16)) == (25, 21)


def test_mirrored_and_assigned_plans_both_contribute():
    """P-19"""
    who, _ = subscriber(a.allowance(500))
    a.enable(who, a.assigned("partner", a.allowance(1000)))

    assert a.access(who).limit == 1500


def test_a_mirrored_plan_and_a_billed_one_of_another_product_both_contribute():
    """P-19"""
    who, _ = subscriber(a.allowance(500))
    a.enable(who, a.pro(credits=100))

    assert a.access(who).limit == 600


def test_the_default_contributes_nothing_beside_a_mirrored_plan():
    """P-15"""
    a.default(a.allowance(7))
    who, _ = subscriber(a.allowance(500))

    assert a.access(who).limit == 500


def test_windows_follow_the_period_in_stripe_not_the_start_of_usage():
    """P-26"""
    who, _ = subscriber(a.allowance(500))
    who.usage_started_at = day("2026-01-10")
    who.save()

    assert a.access(who).next_reset_at == APRIL_1


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        ("active", "active", ""),
        ("past_due", "past_due", ""),
        ("incomplete", "pending_payment", ""),
        ("incomplete_expired", "ended", "payment_expired"),
        ("unpaid", "ended", "unpaid"),
        ("paused", "ended", "paused"),
        ("canceled", "ended", "canceled"),
    ],
)
def test_each_status_in_stripe_is_a_state_here(stripe: "Double", status: str, state: str, reason: str):
    who, subscription = subscriber(a.allowance(100))

    stripe.edit(subscription, status=status, ended_at=None)
    held = look(subscription, MARCH_16)

    assert held is not None
    assert (held.state, held.end_reason, held.bills_at) == (state, reason, None)
    assert a.access(who, now=MARCH_16).has_access is (state in ("active", "past_due"))


@pytest.mark.parametrize("status", ["incomplete_expired", "unpaid", "paused", "canceled"])
def test_what_is_over_when_it_is_first_seen_is_followed_by_nothing(stripe: "Double", status: str):
    who = a.customer()
    stripe.edit(subscribe(stripe_customer(who), price(product())), status=status)

    bring()

    assert not who.subscriptions.exists()


def test_what_is_active_again_is_another_subscription(stripe: "Double"):
    who, subscription = subscriber(a.allowance(100))
    a.use(who, 30)
    stripe.edit(subscription, status="unpaid")
    look(subscription, MARCH_16)

    stripe.edit(subscription, status="active")
    look(subscription, APRIL_16)

    assert [(s.state, s.started_at) for s in who.subscriptions.order_by("id")] == [
        ("ended", MARCH_1),
        ("active", APRIL_16),
    ]
    assert a.left(who, now=APRIL_16) == 100


def test_an_incomplete_subscription_gives_access_once_it_is_paid(stripe: "Double"):
    who, subscription = subscriber(a.allowance(100))
    stripe.edit(subscription, status="incomplete")
    look(subscription, MARCH_1)
    waiting = a.access(who).has_access

    stripe.edit(subscription, status="active")
    look(subscription, MARCH_1)

    assert (waiting, a.access(who).limit) == (False, 100)


def test_it_ends_when_stripe_says_it_ended(stripe: "Double"):
    who, subscription = subscriber(a.allowance(100))

    stripe.set_clock(MARCH_16)
    gateway().v1.subscriptions.cancel(subscription)
    look(subscription, APRIL_1)

    held = who.subscriptions.get()
    assert (held.state, held.ended_at, held.end_reason) == ("ended", MARCH_16, "canceled")
    assert [b.ends_at for b in who.balances.all()] == [MARCH_16]


def test_a_planned_end_is_shown_and_no_boundary_of_ours_carries_it_out(stripe: "Double"):
    who, subscription = subscriber(a.allowance(100))

    gateway().v1.subscriptions.update(subscription, {"cancel_at_period_end": True})
    look(subscription, MARCH_16)
    catch_up(who, now=MAY_1)

    held = one(who)
    assert (held.state, held.ends_at, held.bills_at) == ("active", APRIL_1, None)
    assert a.access(who, now=APRIL_16).limit == 100
    gateway().v1.subscriptions.update(subscription, {"cancel_at_period_end": False})
    look(subscription, MARCH_16)
    assert one(who).ends_at is None


def test_a_renewal_in_stripe_moves_the_period_and_bills_nothing(stripe: "Double"):
    who, subscription = subscriber(a.allowance(100))
    a.use(who, 30)

    stripe.advance(to=APRIL_16)
    held = look(subscription, APRIL_16)
    catch_up(who, now=APRIL_16)

    assert held is not None
    assert (held.period_starts_at, held.period_ends_at) == (APRIL_1, MAY_1)
    assert a.left(who, now=APRIL_16) == 100
    assert not Invoice.objects.exists()
    assert who.operations.filter(verb="subscription.followed").count() == 1  # the features that were published


def test_a_trial_is_a_phase_and_its_end_needs_no_worker():
    who, _ = subscriber(a.allowance(100), trial_end=int(MARCH_16.timestamp()))
    a.use(who, 30)

    held = one(who)

    assert (held.state, held.trial_ends_at, held.bills_at) == ("trialing", MARCH_16, None)
    assert a.access(who).next_reset_at == MARCH_16
    assert (a.left(who, now=MARCH_16), a.access(who, now=MARCH_16).next_reset_at) == (100, APRIL_16)


def test_a_trial_that_ends_early_starts_a_new_period(stripe: "Double"):
    who, subscription = subscriber(a.allowance(100), trial_end=int(APRIL_1.timestamp()))
    a.use(who, 30)

    stripe.set_clock(MARCH_16)
    gateway().v1.subscriptions.update(subscription, {"trial_end": "now"})
    held = look(subscription, MARCH_16)

    assert held is not None
    assert (held.state, a.left(who, now=MARCH_16), a.access(who, now=MARCH_16).next_reset_at) == (
        "active",
        100,
        APRIL_16,
    )


def test_a_longer_trial_moves_the_end_of_its_windows(stripe: "Double"):
    who, subscription = subscriber(a.allowance(100), trial_end=int(day("2026-03-10").timestamp()))
    a.use(who, 30)

    gateway().v1.subscriptions.update(subscription, {"trial_end": int(MARCH_16.timestamp())})
    look(subscription, MARCH_1)

    assert (a.left(who, now=day("2026-03-12")), a.left(who, now=MARCH_16)) == (70, 100)


def test_a_dearer_price_of_the_same_product_is_another_phase_with_fresh_units(stripe: "Double"):
    pro = product()
    small, large = price(pro, 2000), price(pro, 5000)
    who = a.customer()
    subscription = subscribe(stripe_customer(who), small)
    bring()
    give(small, a.allowance(100), a.seats(5))
    give(large, a.allowance(500), a.seats(9))
    a.use(who, 30)
    a.use(who, 2, of="seats")

    item = stripe.object(subscription)["items"]["data"][0]["id"]
    gateway().v1.subscriptions.update(subscription, {"items": [{"id": item, "price": large}]})
    look(subscription, MARCH_16)

    assert who.subscriptions.count() == 1
    assert (a.left(who, now=MARCH_16), a.left(who, of="seats", now=MARCH_16)) == (500, 7)
    assert a.access(who, now=MARCH_16).next_reset_at == APRIL_1


def test_a_price_of_another_product_is_another_subscription(stripe: "Double"):
    who, subscription = subscriber(a.allowance(100))
    other = price(product("Other"))
    item = stripe.object(subscription)["items"]["data"][0]["id"]

    gateway().v1.subscriptions.update(subscription, {"items": [{"id": item, "price": other}]})
    look(subscription, MARCH_16)

    assert [(s.product.name, s.state, s.end_reason) for s in who.subscriptions.order_by("id")] == [
        ("Plan of Acme Robotics", "ended", "replaced"),
        ("Other", "active", ""),
    ]


def test_subscribers_follow_the_newest_version_of_their_plan_with_what_they_used():
    who, _ = subscriber(a.allowance(100))
    a.use(who, 30)
    held = StripeSubscription.objects.get()
    assert held.price is not None

    give(held.price.stripe_id, a.allowance(250), now=MARCH_16)

    assert (a.access(who, now=MARCH_16).limit, a.left(who, now=MARCH_16)) == (250, 220)
    assert follow_due(MARCH_16) == 0


def test_subscribers_follow_a_price_that_changes_at_once(stripe: "Double"):
    who, _ = subscriber(a.allowance(100))
    a.use(who, 30)
    held = StripeSubscription.objects.get()
    assert held.price is not None

    stripe.edit(held.price.stripe_id, unit_amount=9900, unit_amount_decimal="9900")
    mirror_price(held.price.stripe_id, MARCH_16)

    [fee] = one(who).kept_phases()[-1].terms().fees
    assert (fee.amount, a.left(who, now=MARCH_16)) == (Decimal(99), 70)


def test_subscribers_of_an_archived_price_stay():
    who, _ = subscriber(a.allowance(100))
    held = StripeSubscription.objects.get()
    assert held.price is not None

    gateway().v1.prices.update(held.price.stripe_id, {"active": False})
    mirror_price(held.price.stripe_id, MARCH_16)

    assert a.access(who, now=MARCH_16).limit == 100


def test_an_item_that_is_removed_ends_what_followed_it(stripe: "Double"):
    who = a.customer()
    kept, gone = price(product("Kept")), price(product("Gone"))
    subscription = subscribe(stripe_customer(who), kept, gone)
    bring()
    item = stripe.object(subscription)["items"]["data"][1]["id"]

    gateway().v1.subscriptions.update(subscription, {"items": [{"id": item, "deleted": True}]})
    mirror_subscription(subscription, MARCH_16)

    assert [(s.product.name, s.state, s.end_reason) for s in who.subscriptions.order_by("product__name")] == [
        ("Gone", "ended", "removed"),
        ("Kept", "active", ""),
    ]


# Conflicts ------------------------------------------------------------------------------------------------------------


def in_the_way(first: StripeSubscription) -> str:
    assert first.price is not None
    said = f"{first.price.plan} ({first.stripe_id})"
    return f"The customer has another plan of this product in Stripe: {said}. Only one can be followed."


def test_two_plans_of_one_product_in_stripe_are_a_conflict_and_the_older_counts(stripe: "Double"):
    who, pro = a.customer(), product()
    owner = stripe_customer(who)
    subscribe(owner, price(pro))
    stripe.set_clock(MARCH_16)
    newer = subscribe(owner, price(pro, 5000))

    bring(MARCH_16)

    first = StripeSubscription.objects.get(subscription__isnull=False)
    assert one(who).started_at == MARCH_1
    assert conflicts() == [in_the_way(first)]
    assert StripeSubscription.objects.exclude(conflict="").get().stripe_id == newer


def test_the_other_plan_is_followed_once_the_first_is_over(stripe: "Double"):
    who, pro = a.customer(), product()
    owner = stripe_customer(who)
    first = subscribe(owner, price(pro))
    stripe.set_clock(MARCH_16)
    subscribe(owner, price(pro, 5000))
    bring(MARCH_16)

    gateway().v1.subscriptions.cancel(first)
    mirror_subscription(first, APRIL_1)

    assert conflicts() == []
    assert one(who).started_at == MARCH_16


def test_a_plan_of_ours_of_the_same_product_is_a_conflict_until_it_ends(stripe: "Double"):
    who, made = a.customer(), price(product("Pro"))
    bring()
    ours = a.plan("ours", a.allowance(5), of="pro")
    a.enable(who, ours)
    subscription = subscribe(stripe_customer(who), made)

    mirror_subscription(subscription, MARCH_16)
    before = conflicts()
    cancel(one(who), at_once=True, reason="moves to Stripe", actor=a.STAFF, now=MARCH_16)

    assert before == ["The customer has another plan of this product here: Ours."]
    assert (look_again(MARCH_16), conflicts()) == (1, [])


def test_a_subscription_to_a_price_that_is_no_plan_says_why():
    who = a.customer()
    subscribe(stripe_customer(who), price(product(), every="week"))

    bring()

    assert "Its price is no plan here. It repeats every week; plans here are monthly, quarterly, yearly." in conflicts()
    assert not who.subscriptions.exists()


def test_a_quantity_of_nothing_is_a_conflict(stripe: "Double"):
    _, subscription = subscriber(a.allowance(100))
    item = stripe.object(subscription)["items"]["data"][0]["id"]

    stripe.edit(item, quantity=0)
    held = look(subscription, MARCH_16)

    assert held is not None
    assert (held.state, conflicts()) == ("ended", ["Its quantity is 0."])


def test_what_a_closed_customer_subscribes_to_is_a_conflict():
    who, made = a.customer(), price(product())
    owner = stripe_customer(who)
    bring()
    close_customer(who, confirm_name=who.name, reason="left", actor=a.STAFF, now=MARCH_1)

    mirror_subscription(subscribe(owner, made), MARCH_16)

    assert conflicts() == ["The customer is closed here."]


# Nothing is decided here ----------------------------------------------------------------------------------------------


def test_a_subscription_that_follows_stripe_is_not_changed_here():
    """P-42"""
    who, _ = subscriber(a.allowance(100))
    held, team = one(who), a.plan("team", a.fee(10), of="plan-of-acme-robotics")

    with pytest.raises(FollowsStripe):
        cancel(held, at_once=True, reason="wants to leave", actor=a.STAFF, now=MARCH_16)
    with pytest.raises(FollowsStripe):
        withdraw(held, actor=a.STAFF, now=MARCH_16)
    with pytest.raises(FollowsStripe):
        a.preview(who, team, now=MARCH_16)
    with pytest.raises(FollowsStripe):
        a.special_price(who, key="stripe-price", now=MARCH_16)


def test_the_customer_page_shows_it_with_its_price_and_no_act_of_ours():
    """P-21, P-42"""
    who, _ = subscriber(a.allowance(5), quantity=3)

    page = get(staff("Admin"), f"/customers/customer/{who.pk}/", now=MARCH_16)
    html = page.content.decode()

    assert "Plan of Acme Robotics × 3" in words(page)
    assert "15 credits / month" in words(page)
    assert "$60.00 / month" in words(page)
    assert one(who).public_id not in html.split('class="cus-product__acts"')[1].split("</div>")[0]


def test_a_customer_with_a_running_subscription_in_stripe_is_not_deleted():
    """A-52"""
    who, _ = subscriber(a.allowance(100))

    [blocker] = deletion_blockers(who, now=MARCH_16)

    assert (blocker.kind, blocker.id) == ("mirrored_subscription", one(who).public_id)
    with pytest.raises(ValidationError, match="Cancel it there first"):
        close_customer(who, confirm_name=who.name, reason="left", actor=a.STAFF, now=MARCH_16)


# Any order ------------------------------------------------------------------------------------------------------------


def test_an_unknown_customer_and_price_are_fetched_with_their_subscription():
    who = a.customer()
    bring()

    mirror_subscription(subscribe(stripe_customer(who), price(product())), MARCH_16)

    assert one(who).state == "active"


def held_and_in_the_way() -> tuple[list[tuple], list[str]]:
    held = Subscription.objects.exclude(state="ended").order_by("customer__name", "product__name")
    rows = [(s.customer.name, s.product.name, s.state, s.quantity, s.period_starts_at) for s in held]
    return rows, conflicts()


@pytest.mark.parametrize("seed", range(5))
def test_events_in_any_order_come_to_the_same(stripe: "Double", seed: int):
    random = Random(seed)
    StripeRun.objects.create(kind="import", started_at=MARCH_1, started_by="ops", finished_at=MARCH_1)
    pro, team = product("Pro"), product("Team")
    small, large, other = price(pro), price(pro, 5000), price(team)
    people = [stripe_customer(a.customer(name)) for name in ("Acme Robotics", "Borealis")]
    subscriptions = [subscribe(people[0], small, quantity=2), subscribe(people[1], other)]
    stripe.set_clock(day("2026-03-02"))
    subscriptions += [subscribe(people[0], large), subscribe(people[0], other)]
    looks = [(mirror_product, each) for each in (pro, team)]
    looks += [(mirror_price, each) for each in (small, large, other)]
    looks += [(mirror_customer, each) for each in people] + [(mirror_subscription, each) for each in subscriptions]

    random.shuffle(looks)
    later: list[tuple] = []
    for at, (mirror, each) in enumerate(looks):
        mirror(each, day(f"2026-03-03T{at:02}:00"))
        if at == 3:
            gateway().v1.subscriptions.cancel(subscriptions[1])
            later = [(mirror_subscription, subscriptions[1])]
    for mirror, each in [*random.choices(looks, k=3), *later]:
        mirror(each, MARCH_16)

    first = StripeSubscription.objects.get(stripe_id=subscriptions[0])
    assert held_and_in_the_way() == (
        [
            ("Acme Robotics", "Pro", "active", 2, MARCH_1),
            ("Acme Robotics", "Team", "active", 1, day("2026-03-02")),
        ],
        [in_the_way(first)],
    )
