"""Grants: units and money that were given, in the order in which they are used up."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from catalog.charges import Price
from catalog.terms import METERED, FeatureTerms, ItemTerms
from entitlements.balances import Bucket, Mode, burn
from invoicing.grants import MoneyGrant
from invoicing.lines import FEE, USAGE, Line
from invoicing.pipeline import draw_up
from invoicing.taxes import TaxTerms
from tests.vectors.money.documents import charges
from tests.vectors.money.seats import licences
from tests.vectors.money.values import Unplayed, Vector, instant

GIVEN = instant("2025-01-01")
UNITS = FeatureTerms("credits", "Credits", METERED)
ZERO = Decimal(0)


# Units


def _bucket(amount: int, priority: int, place: int) -> Bucket:
    item = ItemTerms(f"grant-{place}", feature=UNITS)
    return Bucket(item, (1, None), GIVEN, None, Decimal(amount), priority=priority, id=place)


def _plan_bucket() -> Bucket:
    """A plan without included units whose use is paid for: what no grant covers goes there."""
    return Bucket(ItemTerms("credits", feature=UNITS, price=Price(rate=Decimal(1))), (1, None), GIVEN, None, ZERO, id=0)


def _used(buckets: list[Bucket], amount: int) -> list[Bucket]:
    parts = dict(burn(buckets, Decimal(amount), Mode.REJECT).parts)
    return [replace(bucket, used=bucket.used + parts.get(n, ZERO)) for n, bucket in enumerate(buckets)]


def consume(vector: Vector) -> dict[str, Any]:
    given = vector.given
    if "grants" not in given:
        return _spend(vector)
    grants = [_bucket(grant["amount"], grant.get("priority", 0), n) for n, grant in enumerate(given["grants"], 1)]
    plan, *left = _used([_plan_bucket(), *grants], given["amount"])
    names = [grant.get("id", str(n)) for n, grant in enumerate(given["grants"], 1)]
    return {
        "left": {name: bucket.remaining for name, bucket in zip(names, left, strict=True)},
        "overage": plan.overage,
    }


def sequence(vector: Vector) -> dict[str, Any]:
    """Use and the end of a grant, one after the other."""
    if "grants" not in vector.given:
        return licences(vector)
    buckets = [_plan_bucket(), *(_bucket(g["amount"], 0, n) for n, g in enumerate(vector.given["grants"], 1))]
    ended: list[Bucket] = []
    for step in vector.given["steps"]:
        match step.split():
            case ["use", amount]:
                buckets = _used(buckets, int(amount))
            case ["void", "grant"]:
                ended += buckets[1:]
                buckets = buckets[:1]
            case _:
                raise Unplayed(f"the step {step}")
    return {"overage": sum((bucket.overage for bucket in [*buckets, *ended]), ZERO)}


# Money


def _money(raw: dict[str, Any], place: int, last: int) -> MoneyGrant:
    """Where a priority is empty, it comes after all others."""
    priority = raw.get("priority")
    ends = datetime(raw["expires"], 1, 1, tzinfo=UTC) if "expires" in raw else None
    return MoneyGrant(place, "credit", raw["amount"], ends, last if priority is None else priority, GIVEN)


def _spend(vector: Vector) -> dict[str, Any]:
    given = vector.given
    rows = given.get("inbound") or given["credits"]
    last = max(row.get("priority") or 0 for row in rows) + 1
    grants = [_money(row, n, last) for n, row in enumerate(rows)]
    drawn = draw_up(charges([given["amount"]], vector.currency), grants=grants)
    taken = {deduction.source_id: deduction.amount for deduction in drawn.deductions}
    left = [grant.left - taken.get(grant.id, 0) for grant in grants]
    return {
        "taken": [taken.get(grant.id, 0) for grant in grants],
        "left": left,
        "balance": sum(left),
        "first": f"priority {grants[drawn.deductions[0].source_id].priority} credits",
    }


def consume_order(vector: Vector) -> dict[str, Any]:
    """What invoice credits and account credit are taken off, and how ties between credits are broken."""
    lines = [
        Line(FEE, "advance", "Fee", 1000, vector.currency, starts_at=GIVEN),
        Line(USAGE, "arrears", "Use", 1000, vector.currency, starts_at=GIVEN),
    ]
    grant = MoneyGrant(1, "credit", 1000, None, 0, GIVEN)
    tax = TaxTerms(1, "VAT", Decimal(20))
    drawn = draw_up(lines, grants=[grant], taxes=lambda line: [tax], account_credit=10_000)
    reduced = [each.line.key for each in drawn.lines if each.credited]
    before_tax = drawn.tax_total == 200
    what = "in-arrears charges" if reduced == ["arrears"] else f"charges in {' and in '.join(reduced)}"
    return {
        "applies_to": f"{what}, {'before' if before_tax else 'after'} tax",
        "customer_balance": "after tax, no expiry" if drawn.account_credit == drawn.total else "before tax",
        "tie_breaks": len(grant.burn_order()),
        "applied": f"when the document is drawn up, {what}",
    }


PLAYERS = {"consume": consume, "consume_order": consume_order, "sequence": sequence}
