"""What a deal says, as a value: the plan it starts from, its phases, and whatever comes with them. Pure.

Months are counted from the start of the term, on the boundaries of the plan's periods. The value goes into a version
of the deal as JSON and comes back the same to the last decimal; its fingerprint is what gets approved.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError

from catalog.money import format_minor, format_rate, grouped, plain
from catalog.periods import Cadence
from catalog.terms import CHARGE, Conditions, FeatureTerms, ItemTerms, PlanTerms
from catalog.terms import differences as item_differences
from catalog.terms_json import items_from_json, items_to_json
from invoicing.special import ADD, MODES, REPLACE, Component, priced_items, stored_components

FORMAT = 1
MOST_MONTHS = 36
MOST_PHASES = 36
MOST_NET_TERMS = 365
AFTER_PAYMENT, NOW = "after_payment", "now"
ACTIVATIONS = {AFTER_PAYMENT: "after the first payment", NOW: "at once"}
SUBSCRIPTION, CUSTOMER = "subscription", "customer"
SCOPES = (SUBSCRIPTION, CUSTOMER)

Value = bool | Decimal | str
Units = tuple[tuple[str, Decimal], ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that cannot be. `field` is its place in the deal's JSON: `phases.1.months`."""

    field: str
    message: str
    code: str = "bad_deal"


class InvalidDeal(ValidationError):
    """A deal that cannot be carried out; `problems` names each field."""

    def __init__(self, problems: Sequence[Problem]):
        self.problems = tuple(problems)
        super().__init__([ValidationError(p.message, code=p.code) for p in problems], code="invalid_deal")


@dataclass(frozen=True, slots=True)
class DealPhase:
    """One stretch of the term: so many months, the last one until the end (None).

    `bought` are prepaid units by item key; `use` is what is assumed to be used in a month (of levels: held), by the
    slug of the feature, where it differs from the deal's. `commitment` is what a period of the plan costs at least.
    """

    label: str
    months: int | None
    items: tuple[ItemTerms, ...]
    quantity: int = 1
    commitment: Decimal | None = None
    bought: Units = ()
    use: Units = ()


@dataclass(frozen=True, slots=True)
class DealCoupon:
    """A coupon that comes with the deal, for its contract or for all that the customer is billed."""

    code: str
    scope: str = SUBSCRIPTION
    name: str = ""


@dataclass(frozen=True, slots=True)
class DealOverride:
    """Another value of a feature: on or off, units, a text, `unlimited`; from and until months of the term (None: until
    it is revoked)."""

    feature: str
    value: Value
    from_month: int = 0
    until_month: int | None = None


@dataclass(frozen=True, slots=True)
class DealPrice:
    """A special price of one item, from the first period on, for so many of the plan's periods; None: until revoked."""

    item_key: str
    components: tuple[Component, ...]
    mode: str = REPLACE
    cycles: int | None = None


@dataclass(frozen=True, slots=True)
class StandsOn:
    """What the customer had of this product when the deal was written: a contract, the version that it was on and how
    many of it, or nothing. Something else by the time it is carried out means that it has to be looked at again."""

    subscription: str = ""
    version_id: int | None = None
    quantity: int = 1


@dataclass(frozen=True, slots=True)
class DealTerms:
    """What is agreed. `starts_at` None: when it is carried out. `renews`: it goes on under its last phase after the
    term; else it ends. `net_terms_days` and `trial_days` None: as the account and the base version have them.

    `use` is assumed per month, by the slug of the feature; it is no promise and stands in no contract.
    """

    plan_id: int
    plan_name: str
    currency: str
    version_id: int
    cadence: str
    term_months: int
    phases: tuple[DealPhase, ...]
    starts_at: datetime | None = None
    renews: bool = True
    net_terms_days: int | None = None
    trial_days: int | None = None
    activation: str = AFTER_PAYMENT
    coupons: tuple[DealCoupon, ...] = ()
    overrides: tuple[DealOverride, ...] = ()
    prices: tuple[DealPrice, ...] = ()
    use: Units = ()
    introduction: str = ""
    special_terms: str = ""
    stands_on: StandsOn = field(default=StandsOn())

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def spans(self) -> list[tuple[int, int]]:
        """From and until months of every phase."""
        found, since = [], 0
        for phase in self.phases:
            until = self.term_months if phase.months is None else since + phase.months
            found.append((since, until))
            since = until
        return found

    def phase_terms(self, phase: DealPhase, base: PlanTerms) -> PlanTerms:
        """The rate card of one phase. A trial is the first phase's alone, and what is signed goes on after it."""
        conditions = Conditions(base.trial_days, CHARGE, phase.commitment)
        return replace(base.with_items(phase.items), cadence=self.cadence).under(conditions)

    def use_in(self, phase: DealPhase) -> dict[str, Decimal]:
        """What is assumed to be used in a month of the phase."""
        return dict(self.use) | dict(phase.use)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "plan": {"id": self.plan_id, "name": self.plan_name, "version": self.version_id},
            "currency": self.currency,
            "cadence": self.cadence,
            "starts_at": self.starts_at.isoformat() if self.starts_at else None,
            "term_months": self.term_months,
            "renews": self.renews,
            "net_terms_days": self.net_terms_days,
            "trial_days": self.trial_days,
            "activation": self.activation,
            "phases": [_phase_to_json(phase) for phase in self.phases],
            "coupons": [{"code": c.code, "scope": c.scope, "name": c.name} for c in self.coupons],
            "overrides": [
                {
                    "feature": o.feature,
                    "value": _value_to_json(o.value),
                    "from_month": o.from_month,
                    "until_month": o.until_month,
                }
                for o in self.overrides
            ],
            "prices": [
                {
                    "item_key": p.item_key,
                    "mode": p.mode,
                    "cycles": p.cycles,
                    "components": [component.to_json() for component in p.components],
                }
                for p in self.prices
            ],
            "use": _units_to_json(self.use),
            "introduction": self.introduction,
            "special_terms": self.special_terms,
            "stands_on": {
                "subscription": self.stands_on.subscription,
                "version": self.stands_on.version_id,
                "quantity": self.stands_on.quantity,
            },
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], features: Mapping[str, FeatureTerms] | None = None) -> "DealTerms":
        """The inverse of `to_json`, for what it wrote. `features`: those that exist now, by slug."""
        if raw["format"] != FORMAT:
            raise ValueError(f"Deals are written in format {FORMAT}, not {raw['format']!r}.")
        starts_at = raw["starts_at"]
        return cls(
            plan_id=raw["plan"]["id"],
            plan_name=raw["plan"]["name"],
            version_id=raw["plan"]["version"],
            currency=raw["currency"],
            cadence=raw["cadence"],
            starts_at=datetime.fromisoformat(starts_at) if starts_at else None,
            term_months=raw["term_months"],
            renews=raw["renews"],
            net_terms_days=raw["net_terms_days"],
            trial_days=raw["trial_days"],
            activation=raw["activation"],
            phases=tuple(_phase_from_json(phase, features) for phase in raw["phases"]),
            coupons=tuple(DealCoupon(**coupon) for coupon in raw["coupons"]),
            overrides=tuple(
                DealOverride(o["feature"], _value_from_json(o["value"]), o["from_month"], o["until_month"])
                for o in raw["overrides"]
            ),
            prices=tuple(
                DealPrice(p["item_key"], stored_components(p["components"]), p["mode"], p["cycles"])
                for p in raw["prices"]
            ),
            use=_units_from_json(raw["use"]),
            introduction=raw["introduction"],
            special_terms=raw["special_terms"],
            stands_on=StandsOn(
                raw["stands_on"]["subscription"], raw["stands_on"]["version"], raw["stands_on"].get("quantity", 1)
            ),
        )


def of_version(base: PlanTerms, *, term_months: int = 12, label: str = "") -> DealTerms:
    """A deal that says what the version says: where every deal starts."""
    phase = DealPhase(label or "Term", None, base.items, commitment=base.commitment)
    return DealTerms(
        plan_id=base.plan_id,
        plan_name=base.plan_name,
        currency=base.currency,
        version_id=base.version,
        cadence=base.cadence,
        term_months=term_months,
        phases=(replace(phase, items=tuple(replace(item, id=None) for item in base.items)),),
    )


# As JSON --------------------------------------------------------------------------------------------------------------


def _phase_to_json(phase: DealPhase) -> dict[str, Any]:
    return {
        "label": phase.label,
        "months": phase.months,
        "quantity": phase.quantity,
        "commitment": None if phase.commitment is None else plain(phase.commitment),
        "bought": _units_to_json(phase.bought),
        "use": _units_to_json(phase.use),
        "items": items_to_json(phase.items),
    }


def _phase_from_json(raw: Mapping[str, Any], features: Mapping[str, FeatureTerms] | None) -> DealPhase:
    return DealPhase(
        label=raw["label"],
        months=raw["months"],
        items=items_from_json(raw["items"], features),
        quantity=raw["quantity"],
        commitment=None if raw["commitment"] is None else Decimal(raw["commitment"]),
        bought=_units_from_json(raw["bought"]),
        use=_units_from_json(raw["use"]),
    )


def _units_to_json(units: Units) -> dict[str, str]:
    return {key: plain(number) for key, number in sorted(units)}


def _units_from_json(raw: Mapping[str, str]) -> Units:
    return tuple((key, Decimal(number)) for key, number in sorted(raw.items()))


def _value_to_json(value: Value) -> bool | str | dict[str, str]:
    return {"units": plain(value)} if isinstance(value, Decimal) else value


def _value_from_json(raw: bool | str | Mapping[str, str]) -> Value:
    return Decimal(raw["units"]) if isinstance(raw, Mapping) else raw


# What cannot be -------------------------------------------------------------------------------------------------------


def validate(terms: DealTerms) -> None:
    """Raises `InvalidDeal` with every wrong field at once. What only the catalog or the customer can say is for the
    flow to ask."""
    if problems := list(problems_of(terms)):
        raise InvalidDeal(problems)


def problems_of(terms: DealTerms) -> Iterator[Problem]:
    step = Cadence.parse(terms.cadence).months
    if not 1 <= terms.term_months <= MOST_MONTHS:
        yield Problem("term_months", f"The term is 1 to {MOST_MONTHS} months.", "bad_term")
    elif terms.term_months % step:
        yield Problem("term_months", f"The term is a multiple of the plan's period, {step} months.", "bad_term")
    if terms.net_terms_days is not None and not 0 <= terms.net_terms_days <= MOST_NET_TERMS:
        yield Problem("net_terms_days", f"Net terms are 0 to {MOST_NET_TERMS} days.", "bad_net_terms")
    if terms.trial_days is not None and terms.trial_days < 0:
        yield Problem("trial_days", "A trial has 0 or more days.", "bad_trial")
    if terms.activation not in ACTIVATIONS:
        yield Problem("activation", f"Access begins {' or '.join(ACTIVATIONS.values())}.", "bad_activation")
    yield from _wrong_phases(terms, step)
    yield from _wrong_extras(terms)


def _wrong_phases(terms: DealTerms, step: int) -> Iterator[Problem]:
    if not 1 <= len(terms.phases) <= MOST_PHASES:
        yield Problem("phases", f"A deal has 1 to {MOST_PHASES} phases.", "bad_phases")
        return
    last = len(terms.phases) - 1
    for place, phase in enumerate(terms.phases):
        at = f"phases.{place}"
        if not phase.label.strip() or len(phase.label) > 80:
            yield Problem(f"{at}.label", "Give every phase a name of up to 80 letters.", "bad_label")
        if phase.months is None and place != last:
            yield Problem(f"{at}.months", "Only the last phase can run until the end of the term.", "bad_months")
        if phase.months is not None and (phase.months < 1 or phase.months % step):
            yield Problem(f"{at}.months", f"A phase lasts a multiple of {step} months.", "bad_months")
        if phase.quantity < 1:
            yield Problem(f"{at}.quantity", "The quantity is a whole number of 1 or more.", "bad_quantity")
        if phase.commitment is not None and phase.commitment < 0:
            yield Problem(f"{at}.commitment", "A minimum is 0 or more.", "bad_commitment")
        if not phase.items:
            yield Problem(f"{at}.items", "A phase sells at least one item.", "no_items")
        prepaid = {item.key for item in phase.items if item.is_prepaid}
        yield from _wrong_units(f"{at}.bought", phase.bought, prepaid, "is not sold in advance in this phase")
        metered = {item.feature.slug for item in phase.items if item.is_metered and item.feature}
        yield from _wrong_units(f"{at}.use", phase.use, metered, "is not metered in this phase")
    yield from _wrong_lengths(terms)


def _wrong_lengths(terms: DealTerms) -> Iterator[Problem]:
    start, end = terms.spans()[-1]
    if end != terms.term_months:
        yield Problem("phases", f"The phases are {end} months long, the term {terms.term_months}.", "bad_length")
    elif start >= end:
        yield Problem(f"phases.{len(terms.phases) - 1}.months", "The term ends before this phase begins.", "bad_length")


def _wrong_units(place: str, units: Units, known: set[str], why: str) -> Iterator[Problem]:
    for key, number in units:
        if key not in known:
            yield Problem(f"{place}.{key}", f"{key} {why}.", "unknown_units")
        elif not number.is_finite() or number < 0:
            yield Problem(f"{place}.{key}", "Units are a number of 0 or more.", "bad_units")


def _wrong_extras(terms: DealTerms) -> Iterator[Problem]:
    everything = [item for phase in terms.phases for item in phase.items]
    metered = {item.feature.slug for item in everything if item.is_metered and item.feature}
    yield from _wrong_units("use", terms.use, metered, "is metered in no phase")
    codes = [coupon.code.lower() for coupon in terms.coupons]
    for place, coupon in enumerate(terms.coupons):
        if codes.index(coupon.code.lower()) != place:
            yield Problem(f"coupons.{place}.code", f"{coupon.code} is in the deal already.", "coupon_twice")
        if coupon.scope not in SCOPES:
            yield Problem(f"coupons.{place}.scope", f"A coupon is for the {' or the '.join(SCOPES)}.", "bad_scope")
    for place, override in enumerate(terms.overrides):
        yield from _wrong_override(terms, place, override)
    for place, price in enumerate(terms.prices):
        yield from _wrong_price(terms, place, price)


def _wrong_override(terms: DealTerms, place: int, override: DealOverride) -> Iterator[Problem]:
    at = f"overrides.{place}"
    until = terms.term_months if override.until_month is None else override.until_month
    if not 0 <= override.from_month < terms.term_months:
        yield Problem(f"{at}.from_month", "An override begins within the term.", "bad_from")
    if override.until_month is not None and not override.from_month < override.until_month <= terms.term_months:
        yield Problem(f"{at}.until_month", "An override ends after it begins and within the term.", "bad_until")
    for other in terms.overrides[:place]:
        ends = terms.term_months if other.until_month is None else other.until_month
        if other.feature == override.feature and other.from_month < until and override.from_month < ends:
            yield Problem(f"{at}.feature", f"{override.feature} has another value in that time.", "override_overlaps")


def _wrong_price(terms: DealTerms, place: int, price: DealPrice) -> Iterator[Problem]:
    at = f"prices.{place}"
    if not any(price.item_key == item.key for phase in terms.phases for item in _priced(terms, phase)):
        yield Problem(f"{at}.item_key", f"{price.item_key} is not billed period by period here.", "not_priced")
    if price.mode not in MODES:
        yield Problem(f"{at}.mode", f"The mode is one of {', '.join(MODES)}.", "bad_mode")
    if price.cycles is not None and price.cycles < 1:
        yield Problem(f"{at}.cycles", "Give 1 or more billing periods, or none for until it is revoked.", "bad_cycles")
    if not price.components:
        yield Problem(f"{at}.components", "A special price has at least one component.", "no_components")
    twice = [p for p in terms.prices[:place] if p.item_key == price.item_key and REPLACE == p.mode == price.mode]
    if twice:
        yield Problem(f"{at}.item_key", f"{price.item_key} has a special price already; add beside it.", "price_twice")


def _priced(terms: DealTerms, phase: DealPhase) -> list[ItemTerms]:
    return priced_items(PlanTerms(terms.plan_id, terms.currency, terms.cadence, phase.items))


# What differs ---------------------------------------------------------------------------------------------------------


def differences(old: DealTerms, new: DealTerms) -> list[str]:
    """What a later version says that an earlier one did not, a sentence for each."""
    found = [sentence for name in _SAID if (sentence := _said(name, old, new))]
    for place in range(max(len(old.phases), len(new.phases))):
        before = old.phases[place] if place < len(old.phases) else None
        after = new.phases[place] if place < len(new.phases) else None
        found += _phase_differences(old, before, new, after)
    for words_of in (_coupons, _overrides, _prices):
        was, now = words_of(old), words_of(new)
        found += [f"{words}: added" for words in now if words not in was]
        found += [f"{words}: removed" for words in was if words not in now]
    found += _units_differences("Assumed use", old.use, new.use, "a month")
    return found


_SAID = {
    "plan_name": "Plan",
    "version_id": "Base version",
    "cadence": "Billed every",
    "starts_at": "Start",
    "term_months": "Term",
    "renews": "After the term",
    "net_terms_days": "Net terms",
    "trial_days": "Trial",
    "activation": "Access",
    "introduction": "Introduction",
    "special_terms": "Special terms",
    "stands_on": "The customer's present contract",
}


def _said(name: str, old: DealTerms, new: DealTerms) -> str:
    was, now = getattr(old, name), getattr(new, name)
    if was == now:
        return ""
    if name in ("introduction", "special_terms", "stands_on"):
        return f"{_SAID[name]}: changed"
    return f"{_SAID[name]}: {said(name, was)} → {said(name, now)}"


def said(name: str, value: Any) -> str:
    """One plain fact of a deal for people: `12 months`, `net 30 days`, `renews`."""
    if name == "starts_at":
        return f"{value:%-d %b %Y}" if value else "when it is carried out"
    if name == "term_months":
        return f"{value} month{'' if value == 1 else 's'}"
    if name == "renews":
        return "renews" if value else "ends"
    if name == "net_terms_days":
        return "the account's" if value is None else f"{value} days"
    if name == "trial_days":
        return "the plan's" if value is None else f"{value} days"
    if name == "activation":
        return ACTIVATIONS.get(str(value), str(value))
    return str(value)


def _phase_differences(old: DealTerms, before: DealPhase | None, new: DealTerms, after: DealPhase | None) -> list[str]:
    if before is None or after is None:
        phase = after or before
        assert phase is not None
        return [f"{phase.label}: {'added' if before is None else 'removed'}"]
    name, currency = after.label, new.currency
    found = [f"{before.label} → {after.label}"] if before.label != after.label else []
    if before.months != after.months:
        found.append(f"{name}: {_length(before)} → {_length(after)}")
    if before.quantity != after.quantity:
        found.append(f"{name}: quantity {before.quantity} → {after.quantity}")
    if before.commitment != after.commitment:
        was, now = _least(before, old.currency), _least(after, currency)
        found.append(f"{name}: at least {was} → {now} a period")
    was_terms, now_terms = (
        PlanTerms(deal.plan_id, deal.currency, deal.cadence, phase.items)
        for deal, phase in ((old, before), (new, after))
    )
    found += [f"{name}: {d.sentence(currency)}" for d in item_differences(was_terms, now_terms)]
    found += [f"{name}: {words}" for words in _units_differences("units of", before.bought, after.bought, "")]
    found += [f"{name}: {words}" for words in _units_differences("assumed use of", before.use, after.use, "a month")]
    return found


def _length(phase: DealPhase) -> str:
    return "until the end" if phase.months is None else said("term_months", phase.months)


def _least(phase: DealPhase, currency: str) -> str:
    return "nothing" if phase.commitment is None else format_rate(phase.commitment, currency)


def _units_differences(what: str, old: Units, new: Units, per: str) -> list[str]:
    was, now = dict(old), dict(new)
    keys = [key for key in sorted(was | now) if was.get(key) != now.get(key)]
    number = {key: (_number(was.get(key)), _number(now.get(key))) for key in keys}
    return [f"{what} {key}: {number[key][0]} → {number[key][1]} {per}".rstrip() for key in keys]


def _number(units: Decimal | None) -> str:
    return "nothing" if units is None else grouped(units)


def _coupons(terms: DealTerms) -> list[str]:
    whose = {SUBSCRIPTION: "this contract", CUSTOMER: "all of the customer's invoices"}
    return [f"Coupon {c.name or c.code} for {whose.get(c.scope, c.scope)}" for c in terms.coupons]


def _overrides(terms: DealTerms) -> list[str]:
    return [describe_override(override) for override in terms.overrides]


def describe_override(override: DealOverride) -> str:
    """For people: `credits: 5,000 from month 1 to month 6`."""
    value = override.value
    if isinstance(value, bool):
        words = "on" if value else "no access"
    else:
        words = grouped(value) if isinstance(value, Decimal) else value
    until = f"to month {override.until_month}" if override.until_month is not None else "on"
    return f"{override.feature}: {words} from month {override.from_month + 1} {until}"


def _prices(terms: DealTerms) -> list[str]:
    return [describe_price(price, terms.currency) for price in terms.prices]


def describe_price(price: DealPrice, currency: str) -> str:
    """For people: `Special price of base: Launch price $30.00 every month, for 12 periods`."""
    parts = [f"{c.label} {format_minor(c.amount, currency)} {c.rule.words}" for c in price.components]
    beside = "beside" if price.mode == ADD else "of"
    long = "until revoked" if price.cycles is None else f"for {price.cycles} period{'' if price.cycles == 1 else 's'}"
    return f"Special price {beside} {price.item_key}: {', '.join(parts)}, {long}"
