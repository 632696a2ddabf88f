"""Prices in both directions: `unitPrice` per `per` for the usual one, `price` for every charge model."""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field

from billing_admin.api.shapes import Answer, Body, ExactRate, Quantity, Rate, Units
from catalog.charges import PER_UNIT, ZERO, Price, Tier

Model = Literal["per_unit", "package", "graduated", "volume", "stairstep", "percentage"]
Per = Annotated[int, Field(ge=1, le=1_000_000_000)]


class TierIn(Body):
    up_to: Units | None = Field(None, description="The last unit of the tier; null in the last one.", examples=[10000])
    unit: Rate = Field(ZERO, description="For each unit in it (each pack, where units come in packs).")
    flat: Rate = Field(ZERO, description="Once, when the tier is entered; a stairstep has this alone.")


class PriceIn(Body):
    """What units cost. Each model takes its own fields; another model's are refused."""

    model: Model
    rate: Rate = Field(ZERO, description="per_unit: for `per` units; package: for a pack.", examples=["0.002"])
    per: Per = Field(1, description="per_unit, graduated, volume: how many units the prices are written for.")
    pack: Units = Field(Decimal(1), description="package, graduated, volume: units come in packs of so many.")
    tiers: Annotated[list[TierIn], Field(max_length=50)] = Field(
        default_factory=list, description="graduated, volume, stairstep: in rising order, the last one without end."
    )
    percent: Rate = Field(ZERO, description="percentage: of each transaction.", examples=["2.9"])
    fixed: Rate = Field(ZERO, description="percentage: plus this for each transaction.", examples=["0.30"])
    transaction_min: Rate | None = Field(None, description="percentage: a transaction costs at least this.")
    transaction_max: Rate | None = Field(None, description="percentage: a transaction costs at most this.")
    line_min: Rate | None = Field(None, description="What a period costs at least.")
    line_max: Rate | None = Field(None, description="What a period costs at most.")

    def value(self) -> Price:
        return Price(
            model=self.model,
            rate=self.rate / self.per,
            per=self.per,
            pack=self.pack,
            tiers=tuple(Tier(tier.up_to, tier.unit / self.per, tier.flat) for tier in self.tiers),
            percent=self.percent,
            fixed=self.fixed,
            transaction_min=self.transaction_min,
            transaction_max=self.transaction_max,
            line_min=self.line_min,
            line_max=self.line_max,
        )


class TierOut(Answer):
    up_to: Quantity | None
    unit: ExactRate
    flat: ExactRate


class PriceOut(Answer):
    """The same words as in `PriceIn`."""

    model: str
    rate: ExactRate
    per: int
    pack: Quantity
    tiers: list[TierOut]
    percent: ExactRate
    fixed: ExactRate
    transaction_min: ExactRate | None
    transaction_max: ExactRate | None
    line_min: ExactRate | None
    line_max: ExactRate | None

    @classmethod
    def of(cls, price: Price) -> Self:
        return cls(
            model=price.model,
            rate=price.rate * price.per,
            per=price.per,
            pack=price.pack,
            tiers=[TierOut(up_to=tier.up_to, unit=tier.unit * price.per, flat=tier.flat) for tier in price.tiers],
            percent=price.percent,
            fixed=price.fixed,
            transaction_min=price.transaction_min,
            transaction_max=price.transaction_max,
            line_min=price.line_min,
            line_max=price.line_max,
        )


def is_plain(price: Price) -> bool:
    """Whether `unitPrice` per `per` says all there is."""
    return price.model == PER_UNIT and price.line_min is None and price.line_max is None
