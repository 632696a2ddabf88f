"""Taxes of a line: on top of its price, or inside it. Pure.

A tax is rounded per line, half away from zero, so that a credit mirrors its charge. On top it is added; inside it is
taken out, and the net is what remains.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from catalog.money import format_minor, plain, round_half_away


@dataclass(frozen=True, slots=True)
class TaxTerms:
    """A rate as a document keeps it."""

    id: int
    name: str
    percent: Decimal
    inclusive: bool = False

    @property
    def label(self) -> str:
        return f"{self.name} {plain(self.percent)} %"


@dataclass(frozen=True, slots=True)
class LineTax:
    """One tax of one line: `taxable` is its net, without any tax, in minor units like `amount`."""

    rate: TaxTerms
    taxable: int
    amount: int

    @property
    def inclusive(self) -> bool:
        return self.rate.inclusive

    def to_json(self) -> dict[str, Any]:
        """As a line keeps it: the percent as a plain string, amounts in minor units."""
        rate = self.rate
        return {
            "id": rate.id,
            "name": rate.name,
            "percent": plain(rate.percent),
            "inclusive": rate.inclusive,
            "taxable": self.taxable,
            "amount": self.amount,
        }

    def sum(self, currency: str) -> str:
        """`VAT 20 % on $10.00 = $2.00`, or of an inclusive one `VAT 20 % within the price, on $10.00 net = $2.00`."""
        return _words(self.rate, self.taxable, self.amount, currency)


@dataclass(frozen=True, slots=True)
class TaxTotal:
    """All of one rate on a document: the sum of its lines, not a percent of their sum."""

    rate: TaxTerms
    taxable: int
    amount: int

    @property
    def inclusive(self) -> bool:
        return self.rate.inclusive

    def sum(self, currency: str) -> str:
        return f"{_words(self.rate, self.taxable, self.amount, currency)}, rounded per line"


def _words(rate: TaxTerms, taxable: int, amount: int, currency: str) -> str:
    net, tax = format_minor(taxable, currency), format_minor(amount, currency)
    return (
        f"{rate.label} within the price, on {net} net = {tax}" if rate.inclusive else f"{rate.label} on {net} = {tax}"
    )


def tax_line(amount: int, rates: Sequence[TaxTerms]) -> tuple[LineTax, ...]:
    """The taxes of a line's amount after deductions, in the order of the rates.

    Inclusive rates share the price: each is its percent over 100 plus all inclusive percents. Rates on top apply to
    the net that those leave, and not to each other.
    """
    inside = sum((Fraction(rate.percent) for rate in rates if rate.inclusive), Fraction(0))
    included = [
        round_half_away(amount * Fraction(rate.percent) / (100 + inside)) if rate.inclusive else 0 for rate in rates
    ]
    net = amount - sum(included)
    return tuple(
        LineTax(rate, net, within if rate.inclusive else round_half_away(net * Fraction(rate.percent) / 100))
        for rate, within in zip(rates, included, strict=True)
    )


def tax_totals(taxes: Iterable[LineTax]) -> tuple[TaxTotal, ...]:
    """Per rate, in the order in which the rates first appear."""
    sums: dict[TaxTerms, tuple[int, int]] = {}
    for tax in taxes:
        taxable, amount = sums.get(tax.rate, (0, 0))
        sums[tax.rate] = taxable + tax.taxable, amount + tax.amount
    return tuple(TaxTotal(rate, taxable, amount) for rate, (taxable, amount) in sums.items())
