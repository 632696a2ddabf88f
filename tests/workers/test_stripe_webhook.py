"""A webhook at our door, a worker in a process of its own, and Stripe: from end to end."""

from datetime import datetime
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from billing_admin.celery import app
from payments.models import StripeCustomer, StripeEvent
from tests import builders as a
from tests.payments.inbox_world import post, use
from tests.stripe_double import Double
from tests.workers.conftest import Workers, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def now() -> datetime:
    return timezone.now().replace(microsecond=0)


def test_a_webhook_is_processed_by_a_worker(
    workers: Workers, double: Double, settings: Any, monkeypatch: pytest.MonkeyPatch, now: datetime
):
    use(settings, double)
    for name in ("STRIPE_SECRET_KEY", "STRIPE_API_URL"):
        monkeypatch.setenv(name, getattr(settings, name))
    known = double.plant("customer", "cus", name="Acme Robotics", email="new@acme.example")
    StripeCustomer.objects.create(stripe_id=known["id"], customer=a.customer(since=now))
    workers.start()
    monkeypatch.setitem(app.conf, "task_default_queue", workers.queue)
    app.amqp.queues.select_add(workers.queue)

    payload, _ = double.signed(double.emit("customer.updated", known["id"]))
    answer = post(Client(), payload)
    wait_until(lambda: StripeEvent.objects.get().state == "done", "the worker to look at the customer")

    assert answer.status_code == 200
    assert StripeCustomer.objects.get().email == "new@acme.example"
