"""Minimum commitments and the bounds of an item's lines. No database."""

from fractions import Fraction

import pytest

from invoicing.bounds import Bound, bound_lines
from invoicing.commitment import Commitment, committed, true_up, true_up_line
from invoicing.lines import FEE, MANUAL, MAXIMUM, MINIMUM, ONE_TIME, TRUE_UP, UNUSED, USAGE, Line
from tests.instants import APRIL_1, MARCH_1, MARCH_16, MAY_1

WHOLE = Fraction(1)


def line(amount, kind=USAGE, key="calls", since=MARCH_1, until=APRIL_1):
    return Line(kind, key, "Pro · API calls", amount, "USD", starts_at=since, ends_at=until, item_id=7)


def march(amount, *, share=WHOLE, charged=0):
    return Commitment(amount, "USD", share, charged, starts_at=MARCH_1, ends_at=APRIL_1, plan_name="Pro")


def missing(commitment, *lines, off=None):
    found = true_up_line(commitment, lines, off or [0] * len(lines))
    return found.amount if found else 0


def bound(*lines, off=None, **terms):
    return bound_lines(lines, off or [0] * len(lines), [Bound("calls", **terms)], "USD")


@pytest.mark.parametrize(
    ("commitment", "charged", "share", "due"),
    [
        (50_000, 32_000, WHOLE, 18_000),
        (100_000, 80_000, WHOLE, 20_000),
        (100_000, 130_000, WHOLE, 0),
        (1_000_000, 11_000, WHOLE, 989_000),
        (1_000_000, 10_000, WHOLE, 990_000),
        (1_000_000, 690 + 3000, Fraction(2, 29), 65_276),  # a start two days before the end of a leap February
        (50_000, 50_000, WHOLE, 0),
        (101, 0, Fraction(1, 2), 51),
    ],
)
def test_a_true_up_is_what_is_missing_to_the_share_of_the_commitment(commitment, charged, share, due):
    """Y-56"""
    assert true_up(commitment, charged, share) == due


def test_a_period_below_its_commitment_gets_a_true_up_line():
    """Y-56"""
    found = true_up_line(march(50_000), [line(12_000), line(20_000, FEE)], [0, 0])

    assert (found.kind, found.amount, found.starts_at, found.ends_at) == (TRUE_UP, 18_000, MARCH_1, APRIL_1)
    assert found.description == "Pro · minimum commitment"
    assert found.derivation["sum"] == "Pro · minimum commitment: $500.00 − $320.00 charged = $180.00"


def test_charges_count_after_their_discounts():
    """Y-56"""
    assert missing(march(50_000), line(40_000), off=[10_000]) == 20_000


def test_what_earlier_documents_of_the_period_charged_counts():
    assert missing(march(50_000, charged=30_000), line(2000)) == 18_000


def test_the_fee_of_the_next_period_does_not_count():
    assert missing(march(50_000), line(20_000), line(30_000, FEE, since=APRIL_1, until=MAY_1)) == 30_000


def test_a_window_that_ends_in_the_period_counts_wherever_it_began():
    april = Commitment(50_000, "USD", starts_at=APRIL_1, ends_at=MAY_1)

    assert missing(april, line(20_000, since=MARCH_16, until=MAY_1)) == 30_000
    assert missing(april, line(20_000, since=MARCH_1, until=APRIL_1)) == 50_000


@pytest.mark.parametrize(("kind", "due"), [(ONE_TIME, 50_000), (MANUAL, 50_000), (UNUSED, 30_000), (MINIMUM, 30_000)])
def test_fees_and_use_count_and_what_stands_beside_them_does_not(kind, due):
    assert missing(march(50_000), line(20_000, kind)) == due


def test_a_commitment_of_part_of_a_period_says_its_share():
    found = true_up_line(march(50_000, share=Fraction(1, 2)), [line(1000)], [0])

    assert found.derivation["sum"] == "Pro · minimum commitment: $500.00 × 1/2 = $250.00 − $10.00 charged = $240.00"


@pytest.mark.parametrize(
    ("charged", "commitment", "terms", "parts"),
    [
        (20, 5, {"overage_factor": Fraction(2), "tops_up": False}, (5, 30, 0)),
        (2, 5, {"overage_factor": Fraction(2), "tops_up": False}, (2, 0, 0)),
        (3, 10, {}, (3, 0, 7)),
        (10, 4, {"overage_factor": Fraction(2)}, (4, 12, 0)),
    ],
)
def test_an_amount_splits_into_what_counts_what_is_beyond_and_what_is_missing(charged, commitment, terms, parts):
    found = committed(Fraction(charged), Fraction(commitment), **terms)

    assert (found.utilized, found.overage, found.true_up) == parts
    assert found.total == sum(parts)


def test_a_minimum_tops_the_items_lines_up():
    [found] = bound(line(300), line(500), line(9000, FEE, "base"), minimum=1000)

    assert (found.kind, found.key, found.amount, found.item_id) == (MINIMUM, "calls", 200, 7)
    assert (found.starts_at, found.ends_at) == (MARCH_1, APRIL_1)
    assert found.derivation["sum"] == "Pro · API calls, minimum $10.00 − $8.00 charged = $2.00"


def test_a_minimum_is_prorated_by_the_share_of_the_period():
    [found] = bound(line(0), minimum=5000, share=Fraction(24, 31))

    assert found.amount == 3871
    assert found.derivation["sum"] == "Pro · API calls, minimum $50.00 × 24/31 = $38.71 − $0.00 charged = $38.71"


def test_a_minimum_looks_at_what_coupons_left():
    [found] = bound(line(1000), off=[400], minimum=1000)

    assert found.amount == 400


def test_what_was_billed_before_counts_towards_the_minimum():
    [found] = bound(line(0), minimum=100_000, charged=10_000)

    assert found.amount == 90_000


def test_a_minimum_without_any_line_stands_alone():
    [found] = bound(minimum=1000, label="API calls", item_id=3, starts_at=MARCH_1, ends_at=APRIL_1)

    assert (found.amount, found.description, found.item_id) == (1000, "API calls (minimum)", 3)
    assert (found.starts_at, found.ends_at) == (MARCH_1, APRIL_1)


def test_a_maximum_takes_the_excess_off():
    [found] = bound(line(900), line(500), maximum=1000)

    assert (found.kind, found.key, found.amount) == (MAXIMUM, "calls", -400)
    assert found.derivation["sum"] == "Pro · API calls, maximum $10.00 − $14.00 charged = −$4.00"


def test_a_maximum_takes_off_no_more_than_stands_on_the_document():
    [found] = bound(line(300), maximum=1000, charged=1200)

    assert found.amount == -300
    assert found.derivation["sum"].endswith("charged, at most what stands here = −$3.00")


def test_the_credit_of_a_former_charge_is_no_cost_of_the_period():
    assert bound(line(1000), line(-800, UNUSED), minimum=1000) == []


@pytest.mark.parametrize("terms", [{"minimum": 500}, {"maximum": 2000}, {"minimum": 1000, "maximum": 1000}, {}])
def test_lines_within_their_bounds_stay_as_they_are(terms):
    assert bound(line(1000), **terms) == []


def test_a_minimum_above_its_maximum_is_refused():
    with pytest.raises(ValueError, match="maximum"):
        Bound("calls", minimum=2, maximum=1)
