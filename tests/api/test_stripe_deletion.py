"""Deleting a customer in Stripe too, through the API (A-52)."""

from typing import TYPE_CHECKING, Any

import pytest

from payments.models import StripeCustomer
from tests import builders as a
from tests.api.conftest import caller_with
from tests.payments import pages_world as world

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _stripe(settings: Any, double: "Double") -> None:
    world.use(settings, double)


def delete(api: Any, who: Any, **more: Any) -> Any:
    return api.delete(f"customers/{who.customer_id}", {"confirmName": who.name, "reason": "asked to", **more})


def test_a_customer_is_deleted_in_stripe_first(api, double: "Double"):
    """A-52."""
    who = a.customer()
    known = world.save_card(who, double)

    answer = delete(api, who, inStripe=True)

    assert answer.status == 200
    assert double.object(known.stripe_id)["deleted"] is True
    who.refresh_from_db()
    assert who.closed_at is not None


def test_without_asking_stripe_keeps_its_customer(api, double: "Double"):
    """A-52."""
    who = a.customer()
    known = world.save_card(who, double)

    assert delete(api, who).status == 200
    assert "deleted" not in double.object(known.stripe_id)


def test_nothing_changes_while_stripe_is_away(api, double: "Double"):
    """A-52."""
    who = a.customer()
    world.save_card(who, double)
    double.fault("*", "**", "down")

    answer = delete(api, who, inStripe=True)

    assert (answer.status, answer["code"]) == (409, "stripe_unreachable")
    who.refresh_from_db()
    assert who.closed_at is None
    assert StripeCustomer.objects.get().deleted_at is None


def test_who_is_not_in_stripe_cannot_be_deleted_there(api):
    answer = delete(api, a.customer(), inStripe=True)

    assert (answer.status, answer["code"]) == (409, "not_in_stripe")


def test_it_takes_the_right_to_use_stripe(double: "Double"):
    who = a.customer()
    world.save_card(who, double)

    assert delete(caller_with("Ops"), who, inStripe=True).status == 403


def test_it_takes_no_idempotency_key(api, double: "Double"):
    """What it answers would be kept in one transaction with the act, and none may wait for Stripe."""
    who = a.customer()
    world.save_card(who, double)
    body = {"confirmName": who.name, "reason": "asked to", "inStripe": True}

    answer = api.delete(f"customers/{who.customer_id}", body, Idempotency_Key="k-1")

    assert (answer.status, answer["code"]) == (400, "idempotency_key_refused")
    assert "deleted" not in double.objects("customer")[0]
