"""A contract and a proposal as values, so that the decision about a change of plan can be asked without a database."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from typing import Any

from billing_admin.flows.boundary import Stretch
from billing_admin.flows.change import preview
from billing_admin.flows.plan_change import PlanChange, Proposal, Timing
from billing_admin.flows.position import Gate, Held, Position
from catalog.periods import Period
from catalog.terms import PlanTerms
from customers.contracts import Contract
from invoicing.discounts import DiscountTerms
from invoicing.documents import BillingRules
from invoicing.lines import UNUSED, BilledFee, Line, opening_lines
from invoicing.pipeline import DrawnLine, draw_up
from tests.vectors.money.values import Minor


def billed(drawn: DrawnLine, *, given_back: int = 0) -> BilledFee:
    """What this line charged ahead, paid in full, as a later change reads it from the books."""
    line = drawn.line
    assert line.ends_at is not None
    return BilledFee(
        line_id=1,
        key=line.key,
        label=line.description,
        currency=line.currency,
        price=Fraction(line.derivation["price"]) * Fraction(drawn.net, line.amount),
        period=Period(
            datetime.fromisoformat(line.derivation["periodStartsAt"]),
            datetime.fromisoformat(line.derivation["periodEndsAt"]),
        ),
        net=drawn.net - given_back,
        ends_at=line.ends_at,
        invoice_id=1,
        kind=line.kind,
        units=line.quantity,
    )


def paid_lines(lines: Sequence[Line], discounts: Iterable[DiscountTerms] = ()) -> list[BilledFee]:
    """What an invoice of these lines charged."""
    return [billed(drawn) for drawn in draw_up(lines, discounts=discounts).lines] if lines else []


def paid_for(terms: PlanTerms, period: Period, discounts: Iterable[DiscountTerms] = ()) -> list[BilledFee]:
    """All that a plan asked for at the beginning of a period."""
    return paid_lines(opening_lines(terms, period.starts_at, period.starts_at), discounts)


def decide(
    old: PlanTerms,
    new: PlanTerms,
    period: Period,
    at: datetime,
    *,
    fees: Sequence[BilledFee],
    discounts: Sequence[DiscountTerms] = (),
    account_credit: int = 0,
    timing: Timing | None = Timing.NOW,
) -> PlanChange:
    """The decision about a change of plan within a period, for a customer who paid these fees."""
    held = Contract(
        plan_id=old.plan_id,
        plan_name=old.plan_name,
        kind=old.kind,
        version_id=1,
        terms=old,
        anchor=period.starts_at,
        since=period.starts_at,
        phase_starts_at=period.starts_at,
        subscription_id=1,
        phase_id=1,
    )
    position = Position(
        customer_id=1,
        customer_name="",
        currency=old.currency,
        usage_anchor=period.starts_at,
        at=at,
        ledger=0,
        held=Held(
            subscription_id=1,
            public_id="sub_1",
            phase_id=1,
            contract=held,
            period=period,
            bills_at=period.ends_at,
            ends_at=None,
            following=None,
            history=(Stretch(old, period.starts_at, period.starts_at),),
        ),
        others=(),
        default=None,
        anchor_of_product=None,
        buckets=(),
        waiting=(),
        use={},
        closed_use=(),
        fees=tuple(fees),
        rules=BillingRules(new.plan_id, discounts=tuple(discounts), account_credit=account_credit),
        gate=Gate(),
    )
    proposal = Proposal(new.plan_id, new.plan_name, new.kind, add_on=False, terms=new, standard=new, timing=timing)
    return preview(position, proposal)


def drawn_lines(change: PlanChange) -> list[DrawnLine]:
    return [drawn for document in change.documents for drawn in document.drawn.lines]


def told(drawn: Sequence[DrawnLine]) -> dict[str, Any]:
    """Credits and charges under the names that the files use for them, discounts taken off."""
    credits = [each for each in drawn if each.line.kind == UNUSED]
    charges = [each for each in drawn if each.line.kind != UNUSED]
    credit, charge = (Minor(sum(each.net for each in side)) for side in (credits, charges))
    net = Minor(credit.amount + charge.amount)
    return {
        "credit": credit,
        "credit_minor": credit,
        "credit_note_minor": Minor(-credit.amount),
        "credits_minor": [Minor(each.net) for each in credits],
        "repair": credit,
        "charge": charge,
        "debit_minor": charge,
        "debits_minor": [Minor(each.net) for each in charges],
        "net": net,
        "net_minor": net,
        "amount_minor": net,
        "direction": "debit" if net.amount >= 0 else "credit",
        "account_credit": Minor(max(0, -net.amount)),
        "entries": len(drawn),
    }


def less(fee: BilledFee, given_back: int) -> BilledFee:
    """The same charge after a credit that was not for time."""
    return replace(fee, net=fee.net - given_back)
