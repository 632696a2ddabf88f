"""What holds of every document, and a slow calculator that agrees."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from invoicing.allocation import allocate, allocate_within
from invoicing.bounds import Bound
from invoicing.commitment import Commitment
from invoicing.discounts import DISCOUNT, DiscountTerms
from invoicing.grants import MoneyGrant
from invoicing.lines import UNUSED, USAGE, Line
from invoicing.pipeline import draw_up
from invoicing.taxes import TaxTerms
from tests.instants import MARCH_1
from tests.properties import reference

KEYS = ["base", "calls", "seats"]
MINOR = st.integers(0, 200_000) | st.integers(0, 12)
PERCENTS = st.decimals(0, 100, places=4)

lines_ = st.lists(st.tuples(st.sampled_from(KEYS), MINOR, st.just(False)), max_size=6).flatmap(
    lambda charges: st.lists(st.tuples(st.sampled_from(KEYS), MINOR.map(lambda m: -m), st.just(True)), max_size=2).map(
        lambda credits: [*charges, *credits]
    )
)
of_what = st.none() | st.sampled_from(KEYS)
discounts_ = st.lists(
    st.tuples(of_what, PERCENTS, st.none()) | st.tuples(of_what, st.none(), MINOR.filter(bool)), max_size=4
)
pairs = st.tuples(st.none() | MINOR, st.none() | MINOR).map(
    lambda pair: tuple(sorted(pair)) if None not in pair else pair
)
bounds_ = st.dictionaries(st.sampled_from(KEYS), pairs, max_size=2).map(
    lambda found: [(key, *pair) for key, pair in found.items()]
)
taxes_ = st.lists(st.tuples(PERCENTS, st.booleans()), max_size=3)

inputs = st.fixed_dictionaries(
    {
        "lines": lines_,
        "discounts": discounts_,
        "bounds": bounds_,
        "commitment": st.none() | MINOR,
        "grants": st.lists(MINOR, max_size=3),
        "taxes": taxes_,
        "account_credit": MINOR,
    }
)


def drawn(world):
    """The engine's document of the reference's plain values."""
    rates = [TaxTerms(n, "Tax", percent, inside) for n, (percent, inside) in enumerate(world["taxes"])]
    return draw_up(
        [Line(UNUSED if credit else USAGE, key, key, amount, "USD") for key, amount, credit in world["lines"]],
        currency="USD",
        discounts=[
            DiscountTerms(n, "Coupon", percent=percent, amount=amount, keys=frozenset({key}) if key else None)
            for n, (key, percent, amount) in enumerate(world["discounts"])
        ],
        bounds=[Bound(*bound) for bound in world["bounds"]],
        commitment=None if world["commitment"] is None else Commitment(world["commitment"], "USD"),
        grants=[MoneyGrant(n, "Credit", left, None, n, MARCH_1) for n, left in enumerate(world["grants"])],
        taxes=lambda line: rates,
        account_credit=world["account_credit"],
    )


@settings(max_examples=300, deadline=None)
@given(inputs)
def test_a_slow_calculator_comes_to_the_same_document(world):
    found = drawn(world)

    assert reference.document(**world) == {
        "rows": [(line.line.amount, line.discounted, line.credited) for line in found.lines],
        "total": found.total,
        "account_credit": found.account_credit,
        "due": found.due,
    }


@settings(max_examples=300, deadline=None)
@given(inputs)
def test_every_total_is_the_sum_of_its_parts(world):
    """Law 12"""
    found = drawn(world)

    on_top = sum(tax.amount for line in found.lines for tax in line.taxes if not tax.inclusive)
    assert found.total == found.subtotal - found.discount_total - found.credit_total + on_top
    assert found.total == sum(line.net for line in found.lines) + on_top
    assert found.tax_total == sum(line.tax for line in found.lines)
    assert all(deduction.amount == sum(part for _, part in deduction.parts) for deduction in found.deductions)
    assert found.due == max(0, found.total) - found.account_credit


@settings(max_examples=300, deadline=None)
@given(inputs)
def test_deductions_never_exceed_their_lines(world):
    """A-42, L-37"""
    found = drawn(world)

    for line in found.lines:
        assert 0 <= line.discounted + line.credited <= max(0, line.line.amount)
        assert not (line.discounted and line.line.kind == UNUSED)
    assert not found.credit_total or found.subtotal - found.discount_total - found.credit_total >= 0
    given_out = {(d.kind, d.source_id): d.amount for d in found.deductions}
    assert all(given_out.get(("invoice_credit", n), 0) <= left for n, left in enumerate(world["grants"]))
    for n, (_, percent, amount) in enumerate(world["discounts"]):
        assert percent is not None or given_out.get((DISCOUNT, n), 0) <= amount


@settings(max_examples=300, deadline=None)
@given(inputs)
def test_account_credit_pays_at_most_what_is_due(world):
    found = drawn(world)

    assert 0 <= found.account_credit <= min(world["account_credit"], max(0, found.total))


@settings(max_examples=400, deadline=None)
@given(st.integers(-(10**9), 10**9), st.lists(st.integers(0, 10**7), min_size=1).filter(any))
def test_an_allocation_sums_exactly_and_strays_less_than_one_unit(amount, weights):
    parts = allocate(amount, weights)

    assert sum(parts) == amount
    assert all(abs(part * sum(weights) - amount * w) < sum(weights) for part, w in zip(parts, weights, strict=True))
    assert allocate(-amount, weights) == [-part for part in parts]


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 10**5)))
def test_an_allocation_within_limits_fills_them_and_no_more(amount, limits):
    parts = allocate_within(amount, limits)

    assert sum(parts) == min(amount, sum(limits))
    assert all(0 <= part <= limit for part, limit in zip(parts, limits, strict=True))


@settings(max_examples=300, deadline=None)
@given(MINOR, PERCENTS, st.booleans())
def test_the_credit_of_a_line_gives_its_total_back_to_the_last_unit(amount, percent, inside):
    """Law 2"""
    rate = TaxTerms(1, "Tax", Decimal(percent), inside)
    charge = draw_up([Line(USAGE, "calls", "Calls", amount, "USD")], taxes=lambda line: [rate])
    credit = draw_up([Line(UNUSED, "calls", "Calls", -amount, "USD")], taxes=lambda line: [rate])

    assert charge.total + credit.total == 0
