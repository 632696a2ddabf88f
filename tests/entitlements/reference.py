"""What a check must answer, worked out slowly and from the rules alone: loops over plain numbers, no code of ours.

A situation lists who contributes and what else has a say. Instants play no part: all of it is in force.
"""

from dataclasses import dataclass
from fractions import Fraction

ENDLESS = "unlimited"
NO_ACCESS = "no access"
ON = "on"

Units = Fraction | str  # a number, or ENDLESS


@dataclass(frozen=True)
class Says:
    """What one contract says of the feature; `gives` is None where its plan does not mention it.

    `gives` is units of a metered feature, a text or ENDLESS of a static one, ON of a boolean one. `used` are units
    of its window. `beyond`: `hard`, `soft`, `priced`, or the most units that may be owed.
    """

    subscription: int | None
    gives: Units | None
    kind: str = "billed"
    quantity: int = 1
    add_on: bool = False
    used: int = 0
    beyond: str | int = "hard"


@dataclass(frozen=True)
class Situation:
    """`contracts` stand in the order of the rules: main plans first, the oldest first."""

    type: str
    contracts: tuple[Says, ...]
    of_subscriptions: tuple[tuple[int, Units], ...] = ()
    of_customer: Units | None = None
    bonus: int | None = None
    purchase: int | None = None
    required: int = 1


@dataclass(frozen=True)
class Answer:
    has_access: bool
    allowed: bool
    reason: str
    source: str
    value: str | None = None
    unlimited: bool = False
    limit: Fraction | None = None
    remaining: Fraction | None = None
    conflicts: bool = False


def answer(s: Situation) -> Answer:
    in_force = {c.subscription for c in s.contracts if c.subscription is not None}
    own = {pk: value for pk, value in s.of_subscriptions if pk in in_force}
    source = _source(s, own)
    if s.of_customer == NO_ACCESS or not _is_given(s, own):
        reason = "no_access" if own or s.of_customer is not None else "not_in_plan" if s.contracts else "no_plan"
        return Answer(has_access=False, allowed=False, reason=reason, source=source)
    if s.type == "boolean":
        return Answer(has_access=True, allowed=True, reason="ok", source=source)
    if s.type == "static":
        return _static(s, own, source)
    return _metered(s, own, source)


def _source(s: Situation, own: dict[int, Units]) -> str:
    if own or s.of_customer is not None:
        return "override"
    mentioned = [c for c in s.contracts if c.gives is not None]
    if any(c.subscription is not None for c in mentioned):
        return "plan"
    if mentioned:
        return "default"
    return "bonus" if s.type == "metered" and (s.bonus is not None or s.purchase is not None) else "default"


def _is_given(s: Situation, own: dict[int, Units]) -> bool:
    """Whether anything but an override that closes gives access."""
    if s.of_customer is not None:
        return True
    if s.type == "metered" and (s.bonus is not None or s.purchase is not None):
        return True
    for contract in s.contracts:
        said = own.get(contract.subscription or 0, contract.gives)
        if said is not None and said != NO_ACCESS:
            return True
    return False


def _static(s: Situation, own: dict[int, Units], source: str) -> Answer:
    if s.of_customer is not None:
        said = [str(s.of_customer)]
    else:
        said = []
        for contract in s.contracts:
            value = own.get(contract.subscription or 0, contract.gives)
            if value is not None and value != NO_ACCESS:
                said.append(str(value))
    if ENDLESS in said:
        return Answer(True, True, "ok", source, value=ENDLESS, unlimited=True)
    numbers = [Fraction(text) for text in said if text.isdigit()]
    if len(numbers) == len(said):
        return Answer(True, True, "ok", source, value=str(max(numbers)))
    differ = any(text != said[0] for text in said)
    return Answer(True, True, "ok", source, value=said[0], conflicts=differ)


def _metered(s: Situation, own: dict[int, Units], source: str) -> Answer:
    """Only totals: which bucket gives what is the business of others."""
    promised: list[tuple[Units, Fraction]] = []  # (units, used of them)
    payers: list[tuple[Says, Units]] = []
    for contract in s.contracts:
        override = own.get(contract.subscription or 0)
        if override == NO_ACCESS:
            continue
        parts: list[tuple[Units, Fraction]] = []
        if contract.gives is not None:
            times = contract.quantity if contract.kind == "billed" else 1
            units = contract.gives if contract.gives == ENDLESS else contract.gives * times
            parts.append((units, Fraction(contract.used)))
        promised += parts if override is None else _brought_to(override, parts)
        if contract.gives is not None:
            payers.append((contract, parts[0][0]))
    if s.of_customer is not None:
        promised = _brought_to(s.of_customer, promised)
    given = [*promised, *((Fraction(n), Fraction(0)) for n in (s.purchase, s.bonus) if n is not None)]
    counted = [*promised, *([(Fraction(s.purchase), Fraction(0))] if s.purchase is not None else [])]
    if any(units == ENDLESS for units, _ in given):
        return Answer(True, True, "ok", source, unlimited=True)
    limit = sum((units for units, _ in counted), Fraction(0))
    remaining = sum((max(Fraction(0), units - used) for units, used in given), Fraction(0))
    missing = max(Fraction(0), s.required - remaining)
    allowed = bool(given) and (not missing or _may_owe(payers, missing))
    return Answer(True, allowed, "ok" if allowed else "limit_reached", source, limit=limit, remaining=remaining)


def _brought_to(value: Units, parts: list[tuple[Units, Fraction]]) -> list[tuple[Units, Fraction]]:
    """Parts that together give the override's value; what is used already is not taken from anybody."""
    if value == ENDLESS:
        return [*parts, (ENDLESS, Fraction(0))]
    total = sum((used for _, used in parts), Fraction(0))
    over = Fraction(0)
    kept = Fraction(0)
    for units, used in parts:
        kept += used if units == ENDLESS else min(units, used)
        over += Fraction(0) if units == ENDLESS else max(Fraction(0), used - units)
    # One part stands for all of them: what was used beyond stays beyond.
    together = max(value, kept)
    return [(together, total - over), (Fraction(0), over)] if over else [(together, total)]


def _may_owe(payers: list[tuple[Says, Units]], missing: Fraction) -> bool:
    """The oldest contributor whose use is paid takes what is beyond everything, else a soft one."""
    for wanted in ("priced", "soft"):
        for contract, units in payers:
            priced = contract.beyond == "priced" or isinstance(contract.beyond, int)
            if (wanted == "priced") != priced or contract.beyond == "hard":
                continue
            if not isinstance(contract.beyond, int):
                return True
            owed = Fraction(0) if units == ENDLESS else max(Fraction(0), contract.used - units)
            return missing <= max(Fraction(0), contract.beyond - owed)
    return False
