"""A slow calculator of documents: Fractions, one step after the other, one minor unit at a time.

It shares no code with the engine; where both agree, both have read the rules alike. Lines are (key, amount, is_credit),
discounts (key or None, percent or None, amount or None), bounds (key, minimum or None, maximum or None), grants
(amount left), taxes (percent, inclusive).
"""

from fractions import Fraction
from math import floor


def rounded(value):
    """Half away from zero."""
    return floor(value + Fraction(1, 2)) if value >= 0 else -floor(-value + Fraction(1, 2))


def spread(amount, weights):
    """Gives every part its whole share, then one unit at a time to whoever is furthest below its share."""
    parts = (
        [floor(Fraction(amount) * weight / sum(weights)) for weight in weights] if any(weights) else [0] * len(weights)
    )
    while sum(parts) < amount:
        lacks = [Fraction(amount) * weight / sum(weights) - part for weight, part in zip(weights, parts, strict=True)]
        parts[lacks.index(max(lacks))] += 1
    return parts


def document(lines, *, discounts, bounds, commitment, grants, taxes, account_credit):
    rows = [{"key": key, "amount": amount, "credit": credit, "off": 0, "given": 0} for key, amount, credit in lines]
    _discount(rows, discounts)
    _bound(rows, bounds)
    if commitment is not None:
        charged = sum(row["amount"] - row["off"] for row in rows)
        if charged < commitment:
            rows.append({"key": "", "amount": commitment - charged, "credit": False, "off": 0, "given": 0})
    _spend(rows, grants)
    added = sum(_tax_on_top(row["amount"] - row["off"] - row["given"], taxes) for row in rows)
    total = sum(row["amount"] - row["off"] - row["given"] for row in rows) + added
    used = min(account_credit, total) if total > 0 else 0
    return {
        "rows": [(row["amount"], row["off"], row["given"]) for row in rows],
        "total": total,
        "account_credit": used,
        "due": total - used if total > 0 else 0,
    }


def _discount(rows, discounts):
    percents = [discount for discount in discounts if discount[1] is not None]
    fixed = [discount for discount in discounts if discount[1] is None]
    for key, percent, amount in percents + fixed:
        chosen = [row for row in rows if row["amount"] > 0 and not row["credit"] and key in (None, row["key"])]
        left = [row["amount"] - row["off"] for row in chosen]
        off = rounded(Fraction(percent) * sum(left) / 100) if percent is not None else min(amount, sum(left))
        for row, part in zip(chosen, spread(off, left), strict=True):
            row["off"] += part


def _bound(rows, bounds):
    found = []
    for key, minimum, maximum in bounds:
        charged = sum(row["amount"] - row["off"] for row in rows if row["key"] == key and not row["credit"])
        if minimum is not None and charged < minimum:
            found.append((key, minimum - charged))
        elif maximum is not None and charged > maximum:
            found.append((key, maximum - charged))
    rows.extend({"key": key, "amount": amount, "credit": False, "off": 0, "given": 0} for key, amount in found)


def _spend(rows, grants):
    for left in grants:
        nets = [row["amount"] - row["off"] - row["given"] for row in rows]
        give = min(left, sum(nets))
        if give > 0:
            for row, part in zip(rows, spread(give, [max(0, net) for net in nets]), strict=True):
                row["given"] += part


def _tax_on_top(amount, taxes):
    inside = sum(Fraction(percent) for percent, inclusive in taxes if inclusive)
    net = amount - sum(rounded(amount * Fraction(p) / (100 + inside)) for p, inclusive in taxes if inclusive)
    return sum(rounded(net * Fraction(percent) / 100) for percent, inclusive in taxes if not inclusive)
