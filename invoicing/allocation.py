"""Whole amounts spread over parts, to the last minor unit. Pure."""

from collections.abc import Sequence


def allocate(amount: int, weights: Sequence[int]) -> list[int]:
    """Parts in proportion to the weights that sum exactly to the amount, by largest remainder.

    Equal remainders favour the earlier part; a weight of zero gets nothing; a negative amount mirrors the positive
    one. Weights below zero, or an amount with no weight to carry it, raise `ValueError`.
    """
    if any(weight < 0 for weight in weights):
        raise ValueError("A weight is never below zero.")
    whole = sum(weights)
    if not whole:
        if amount:
            raise ValueError("There is nothing to spread the amount over.")
        return [0] * len(weights)
    parts, rests = zip(*(divmod(abs(amount) * weight, whole) for weight in weights), strict=True)
    missing = abs(amount) - sum(parts)
    first = set(sorted(range(len(rests)), key=lambda place: -rests[place])[:missing])
    sign = -1 if amount < 0 else 1
    return [sign * (part + (place in first)) for place, part in enumerate(parts)]


def allocate_within(amount: int, limits: Sequence[int]) -> list[int]:
    """As `allocate` by the limits, with no part beyond its own: what exceeds their sum is not given out.

    Once the amount is no more than their sum, an exact share is at most its limit, which is whole; rounding such a
    share up cannot pass it.
    """
    most = sum(limits)
    return allocate(max(-most, min(amount, most)), limits)
