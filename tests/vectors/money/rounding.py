"""Rounding: where, how, and with how many digits."""

from fractions import Fraction
from typing import Any

from catalog.money import round_half_away, to_minor
from invoicing.pipeline import draw_up
from tests.vectors.money.documents import charges
from tests.vectors.money.values import Minor, Other, Vector


def rounded(vector: Vector) -> dict[str, Any]:
    """To the minor unit, or to a whole number where the policy says so; another mode's result is not ours."""
    exact = Fraction(vector.given["amount"])
    if vector.policy.get("scale") == 0:
        return {"amount": round_half_away(exact)}
    amount = Minor(to_minor(exact, vector.currency))
    return {"amount": amount, "half_up": amount, "half_even": Other(amount)}


def subtotal(vector: Vector) -> dict[str, Any]:
    """Each line is rounded, then they are summed."""
    amounts = [to_minor(line, vector.currency) for line in vector.given["lines"]]
    return {"amount": Minor(draw_up(charges(amounts, vector.currency)).subtotal)}


def constants(vector: Vector) -> dict[str, Any]:
    """How halves are rounded; a ratio is never cut to a number of digits."""
    halves = [round_half_away(Fraction(n, 2)) for n in (1, 3, -1, -3)]
    return {
        "rounding": "HALF_UP" if halves == [1, 2, -1, -2] else "another mode",
        "max_scale": "none, a ratio stays an exact fraction until its line is rounded",
    }


PLAYERS = {"constants": constants, "round": rounded, "subtotal": subtotal}
