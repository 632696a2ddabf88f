"""The order form of a deal as whoever signs it reads it: one value of ready texts, for the page and for the PDF."""

from dataclasses import dataclass

from invoicing.paper import Entry, Party


@dataclass(frozen=True, slots=True)
class Bought:
    """One line of what is bought: `included` and `price` in words; `more` are the tiers of its price, a line each."""

    name: str
    included: str
    price: str
    more: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """What is bought in one phase of the term, and what else holds in it."""

    title: str
    span: str
    rows: tuple[Bought, ...]
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Coming:
    """One invoice of the term. `is_estimated`: use is assumed in it."""

    date: str
    due: str
    what: str
    amount: str
    is_estimated: bool = False


@dataclass(frozen=True, slots=True)
class OrderForm:
    """`notice` says what this is while it is no offer yet; `given` are discounts, special prices and what comes beside
    the plan; `totals` are sums of the term, `note` says what they rest on."""

    number: str
    version: str
    notice: str
    seller: Party
    buyer: Party
    introduction: str
    facts: tuple[Entry, ...]
    stages: tuple[Stage, ...]
    given: tuple[Entry, ...]
    totals: tuple[Entry, ...]
    invoices: tuple[Coming, ...]
    note: str
    terms: str

    @property
    def title(self) -> str:
        return "Order form"

    @property
    def reference(self) -> str:
        return f"{self.number} · {self.version}"

    @property
    def signers(self) -> tuple[str, str]:
        """Who signs on either side."""
        return self.seller.name or "Supplier", self.buyer.name

    @property
    def file_name(self) -> str:
        return f"order-form-{self.number}-{self.version.replace(' ', '-')}.pdf"

    @property
    def is_estimated(self) -> bool:
        return any(invoice.is_estimated for invoice in self.invoices)
