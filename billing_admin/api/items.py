"""One entry of a plan's `prices` or `items`, in both directions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from django.utils.text import slugify
from pydantic import Field

from billing_admin.api.prices import Per, PriceIn, PriceOut, is_plain
from billing_admin.api.shapes import Answer, Body, Count, ExactRate, Quantity, Rate, Slug, Units
from catalog.charges import Price
from catalog.items import InvalidItems, ItemError
from catalog.models import Feature
from catalog.money import plain
from catalog.periods import NEVER, ONCE
from catalog.rollovers import Rollover
from catalog.terms import (
    BILLING_PERIOD,
    BOOLEAN,
    HARD,
    IN_ADVANCE,
    METERED,
    PRORATE,
    SOFT,
    STATIC,
    FeatureTerms,
    ItemTerms,
    PlanTerms,
)

FEE, USAGE, ALLOWANCE = "fee", "usage", "allowance"
Type = Literal["fee", "usage", "allowance", "boolean", "static"]
Term = Literal["in_advance", "in_arrears", "instant"]
Proration = Literal["prorate", "full", "next_cycle"]
OF_FEATURE = {USAGE: METERED, ALLOWANCE: METERED, BOOLEAN: BOOLEAN, STATIC: STATIC}


class RolloverIn(Body):
    """What is left at the end of a window lives on for a while, up to a cap on all that lives on together."""

    lasts: str = Field(NEVER, max_length=20, description="P1D … P3Y, or never: for good.", examples=["P1M"])
    most: Units | None = Field(None, description="At most so many units.", examples=[100])
    percent: Units | None = Field(None, description="At most so many percent of the allowance.", examples=[50])

    def value(self) -> Rollover:
        return Rollover(self.lasts, self.most, self.percent)


class RolloverOut(Answer):
    lasts: str
    most: Quantity | None
    percent: Quantity | None

    @classmethod
    def of(cls, rule: Rollover) -> Self:
        return cls(lasts=rule.lasts, most=rule.most, percent=rule.percent)


class ItemIn(Body):
    """A fee (`amount` per `cadence`), a priced metered feature, an allowance, an on/off feature or a static value."""

    key: Slug | None = Field(None, description="Stable from version to version; chosen when left out.")
    type: Type | None = Field(None, description="Told from the other fields when left out.")
    feature_slug: Slug | None = None
    name: Annotated[str, Field(max_length=120)] = ""
    amount: Rate | None = Field(None, description="Fees: per unit, in major units.", examples=["50.00"])
    cadence: str | None = Field(
        None, max_length=20, description="P1M, P3M, P1Y; P0D is once. Left out: with the plan.", examples=["P1M"]
    )
    quantity: Count | None = Field(None, description="Fees only.")
    included: Units | None = Field(None, description="Units of each window.", examples=[100])
    unlimited: bool = False
    resets: str | None = Field(
        None,
        max_length=20,
        description="PT1H, P1D, P1W, P1M, P3M, P6M, P1Y or never. Left out: with the plan; levels never reset.",
        examples=["P1M"],
    )
    reset_anchor: Literal["billing_period", "calendar"] | None = None
    limit: Literal["hard", "soft"] | None = Field(None, description="Left out: soft where use is priced, else hard.")
    max_overage: Units | None = None
    rollover: RolloverIn | None = Field(None, description="Left out: what is left at a reset is gone.")
    keeps_overage: bool = Field(
        default=False, description="What was used beyond is taken from the next window; unpriced only."
    )
    unit_price: Rate | None = Field(None, description="Beyond what is included, per `per` units.", examples=["0.002"])
    per: Per | None = Field(None, examples=[1000])
    price: PriceIn | None = Field(None, description="Any charge model, in place of `unitPrice`.")
    term: Term | None = Field(
        None,
        description="When it is asked for. Left out: fees and levels in advance, use in arrears. A consumable "
        "in advance is prepaid; `instant` takes use from the wallet (billing version 0).",
    )
    on_increase: Proration | None = Field(None, description="Prepaid and levels: what more of them costs at once.")
    on_decrease: Proration | None = Field(None, description="Prepaid and levels: what less of them gives back.")
    value: str | Decimal | None = Field(None, description="A static feature's number or text.")

    @property
    def is_priced(self) -> bool:
        return self.unit_price is not None or self.price is not None

    def usage_price(self) -> Price | None:
        if self.unit_price is None:
            return self.price.value() if self.price else None
        per = self.per or 1
        return Price(rate=self.unit_price / per, per=per)

    @property
    def told_type(self) -> str | None:
        if self.type:
            return self.type
        if self.feature_slug is None:
            return FEE if self.amount is not None else None
        return None


class ItemOut(Answer):
    """The same words as in `ItemIn`: what one version answers can be sent for the next."""

    key: str
    type: Type
    feature_slug: str | None = None
    name: str = ""
    amount: ExactRate | None = None
    cadence: str | None = None
    quantity: int | None = None
    included: Quantity | None = None
    unlimited: bool = False
    resets: str | None = None
    reset_anchor: str | None = None
    limit: str | None = None
    max_overage: Quantity | None = None
    rollover: RolloverOut | None = None
    keeps_overage: bool = False
    unit_price: ExactRate | None = None
    per: int | None = None
    price: PriceOut | None = Field(default=None, description="What `unitPrice` alone does not say.")
    term: str | None = None
    on_increase: str | None = None
    on_decrease: str | None = None
    value: str | None = None

    @classmethod
    def of(cls, item: ItemTerms) -> Self:
        feature = item.feature
        if feature is None:
            return cls(
                key=item.key,
                type="fee",
                name=item.name,
                amount=item.amount,
                cadence=item.cadence,
                quantity=item.quantity,
                term=item.term or item.usual_term,
            )
        if feature.type == BOOLEAN:
            return cls(key=item.key, type="boolean", feature_slug=feature.slug, name=item.name)
        if feature.type == STATIC:
            return cls(
                key=item.key,
                type="static",
                feature_slug=feature.slug,
                name=item.name,
                unlimited=item.unlimited,
                value=item.value or None,
            )
        return cls(
            key=item.key,
            type="allowance" if item.price is None else "usage",
            feature_slug=feature.slug,
            name=item.name,
            cadence=item.cadence or None,
            included=item.included,
            unlimited=item.unlimited,
            resets=item.reset,
            reset_anchor=item.reset_anchor,
            limit=item.limit,
            max_overage=item.max_overage,
            rollover=RolloverOut.of(item.rollover) if item.rollover else None,
            keeps_overage=item.keeps_overage,
            **_priced(item),
        )


def _priced(item: ItemTerms) -> dict[str, Any]:
    if item.price is None:
        return {}
    bought = item.is_prepaid or item.is_seats
    found: dict[str, Any] = {
        "term": item.term or item.usual_term,
        "on_increase": item.on_increase if bought else None,
        "on_decrease": item.on_decrease if bought else None,
    }
    if is_plain(item.price):
        return found | {"unit_price": item.price.rate * item.price.per, "per": item.price.per}
    return found | {"price": PriceOut.of(item.price)}


def items_of(entries: Sequence[ItemIn], cadence: str, standard: PlanTerms | None = None) -> list[ItemTerms]:
    """Entries as terms. `standard` lends its keys, so that a line that is only changed stays the same line.

    Raises `InvalidItems` for entries that are neither a fee nor a feature, or whose type is not the feature's; all
    else is for the catalog to refuse.
    """
    slugs = {entry.feature_slug for entry in entries if entry.feature_slug}
    features = {f.slug: f.terms() for f in Feature.objects.filter(slug__in=slugs)}
    if wrong := [e for i, entry in enumerate(entries) if (e := _misfit(i, entry, features))]:
        raise InvalidItems(wrong)
    keys = _keys(entries, standard)
    return [_terms(entry, key, cadence, features) for entry, key in zip(entries, keys, strict=True)]


def _misfit(index: int, entry: ItemIn, features: Mapping[str, FeatureTerms]) -> ItemError | None:
    def wrong(field: str, message: str, code: str) -> ItemError:
        return ItemError(index, entry.key or entry.feature_slug or entry.name or str(index), field, message, code)

    feature = features.get(entry.feature_slug or "")
    if entry.feature_slug is None and entry.told_type is None:
        return wrong("type", "An item is either a fee (amount) or a feature (featureSlug).", "item_without_content")
    if entry.told_type == FEE and entry.feature_slug is not None:
        return wrong("feature", "A fee names no feature; give the feature a line of its own.", "fee_on_feature")
    if entry.told_type == FEE:
        return None
    if entry.feature_slug is None:
        return wrong("feature", f"An item of type {entry.type} names its feature.", "feature_missing")
    wanted = OF_FEATURE.get(entry.told_type or "")
    if feature and wanted and feature.type != wanted:
        return wrong("type", f"{feature.name} is {feature.type}, so it cannot be {entry.type}.", "wrong_type")
    if entry.told_type == USAGE and not entry.is_priced:
        return wrong("price", "A usage item needs a unitPrice or a price; 0 is allowed.", "price_missing")
    if entry.unit_price is not None and entry.price is not None:
        return wrong("price", "Send either unitPrice or price.", "two_prices")
    return None


def _keys(entries: Sequence[ItemIn], standard: PlanTerms | None) -> list[str]:
    """Keys as given; else the standard's for the same feature or the only fee; else a new one from the name."""
    taken = {entry.key for entry in entries if entry.key}
    fees = [entry for entry in entries if entry.feature_slug is None]
    keys = []
    for entry in entries:
        key = entry.key
        if key is None:
            known = standard.for_feature(entry.feature_slug) if standard and entry.feature_slug else None
            if standard and entry.feature_slug is None and len(fees) == len(standard.fees) == 1:
                known = standard.fees[0]
            base = known.key if known else entry.feature_slug or slugify(entry.name)[:50] or "base"
            key = base if base not in taken else next(k for n in range(2, 10_000) if (k := f"{base}-{n}") not in taken)
            taken.add(key)
        keys.append(key)
    return keys


def _terms(entry: ItemIn, key: str, cadence: str, features: Mapping[str, FeatureTerms]) -> ItemTerms:
    if entry.feature_slug is None:
        fee = ItemTerms(
            key=key,
            name=entry.name,
            amount=entry.amount,
            cadence=entry.cadence or cadence,
            quantity=1 if entry.quantity is None else entry.quantity,
        )
        return replace(fee, term=_term(entry, fee))
    # An unknown feature goes on to the catalog, which refuses it together with whatever else is wrong.
    unknown = FeatureTerms(entry.feature_slug, entry.feature_slug, METERED)
    feature = features.get(entry.feature_slug, unknown)
    metered = feature.type == METERED
    resets = NEVER if feature.is_allocated or not metered or entry.cadence == ONCE else cadence
    value = plain(entry.value) if isinstance(entry.value, Decimal) else entry.value or ""
    item = ItemTerms(
        key=key,
        name=entry.name,
        feature=feature,
        amount=entry.amount,
        cadence=entry.cadence or "",
        quantity=1 if entry.quantity is None else entry.quantity,
        included=entry.included,
        unlimited=entry.unlimited,
        reset=entry.resets or resets,
        reset_anchor=entry.reset_anchor or BILLING_PERIOD,
        limit=entry.limit or (SOFT if entry.is_priced and entry.term != IN_ADVANCE else HARD),
        max_overage=entry.max_overage,
        rollover=entry.rollover.value() if entry.rollover else None,
        keeps_overage=entry.keeps_overage,
        price=entry.usage_price(),
        on_increase=entry.on_increase or PRORATE,
        on_decrease=entry.on_decrease or PRORATE,
        value=value,
    )
    return replace(item, term=_term(entry, item))


def _term(entry: ItemIn, item: ItemTerms) -> str:
    """As it is kept: what is usual for its kind is not written down."""
    return "" if entry.term is None or entry.term == item.usual_term else entry.term
