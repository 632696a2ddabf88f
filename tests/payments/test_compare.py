"""A comparison finds every difference between our books and Stripe's, and nothing else; it repairs none."""

from typing import TYPE_CHECKING

import pytest
from pytest_django.fixtures import Settings as Given

from payments.models import Difference
from tests.payments.compare_world import PLANTS, Plant, compare, found, open_invoice, paid_invoice, use

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def keys(settings: Given, double: "Double") -> None:
    use(settings, double)


def test_books_that_agree_differ_in_nothing(double: "Double"):
    paid_invoice(double)
    open_invoice(double, "Globex")

    run = compare()

    assert (run.finished_at is not None, found()) == (True, [])


@pytest.mark.parametrize("plant", PLANTS, ids=str)
def test_a_planted_difference_is_found_and_no_other(plant: Plant, double: "Double"):
    plant.do(double)

    compare()

    assert found() == sorted(plant.expected)
    assert all(row.ours and row.theirs for row in Difference.objects.all())
