"""What is told once everything is written."""

import pytest
from django.db import transaction

from catalog.after import after_commit
from catalog.models import Product


def fails(what: str) -> None:
    raise ConnectionError(what)


@pytest.mark.django_db(transaction=True)
def test_what_fails_after_the_commit_undoes_nothing_and_is_logged(caplog: pytest.LogCaptureFixture):
    told: list[str] = []

    with transaction.atomic():
        Product.objects.create(key="api", name="API")
        after_commit(fails, "the queue is away")
        after_commit(told.append, "api")

    assert Product.objects.filter(key="api").exists()
    assert told == ["api"]
    assert "the queue is away" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_told_to_nobody():
    told: list[str] = []

    with transaction.atomic():
        after_commit(told.append, "api")
        transaction.set_rollback(True)

    assert told == []
