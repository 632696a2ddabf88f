"""The rules that say who needs a second person for what: write them, switch them off."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import transaction

from billing_admin.approving import ACTS, Act, AddsUp
from billing_admin.flows.approvals import DECIDE, ruled_as, why
from billing_admin.models import ApprovalRule
from catalog.money import plain
from customers.journal import Actor, record

MOST_HOURS = 24 * 90
MOST_HOURS_TOGETHER = 24 * 30
MONEY = ("amount", "refund", "value")
PERCENT = "discount"


class BadRule(ValidationError):
    """A rule that cannot be; `field` is the name of the field."""

    def __init__(self, field: str, why: str):
        self.field = field
        super().__init__({field: [why]}, code="bad_rule")


@dataclass(frozen=True, slots=True)
class RuleTerms:
    """A rule as it was asked for. Without a measure it is about every such act; `above` is in major units, percent or
    numbers; without roles it is for everybody. `within_hours`: counted together with what the same person did for the
    customer in so long."""

    act: str
    approver: Group
    measure: str = ""
    above: Decimal | None = None
    currency: str = ""
    for_roles: Iterable[Group] = ()
    expires_hours: int = 72
    within_hours: int | None = None


def ruled_acts() -> dict[str, type[Act]]:
    """The acts that rules can name, by their titles."""
    own = [kind for kind in ACTS.values() if ruled_as(kind) == kind.key]
    return {kind.key: kind for kind in sorted(own, key=lambda kind: kind.title)}


@transaction.atomic
def write_rule(terms: RuleTerms, *, rule: ApprovalRule | None = None, actor: Actor, now: datetime) -> ApprovalRule:
    """A new rule, or other terms for one. What waits already keeps the rule as it was. Raises `BadRule`."""
    _check(terms)
    row = ApprovalRule.objects.select_for_update().get(pk=rule.pk) if rule else ApprovalRule(created_by=actor.name)
    before = said(row) if rule else ""
    row.act, row.measure, row.above, row.currency = terms.act, terms.measure, terms.above, terms.currency
    row.approver, row.expires_hours, row.within_hours = terms.approver, terms.expires_hours, terms.within_hours
    row.save()
    row.for_roles.set(terms.for_roles)
    verb = "changed" if rule else "added"
    record(
        None,
        f"approval_rule.{verb}",
        f"{verb.capitalize()} a rule: {said(row)}",
        actor=actor,
        now=now,
        inputs={
            "rule": row.pk,
            "act": row.act,
            "measure": row.measure,
            "above": None if row.above is None else plain(row.above),
            "currency": row.currency,
            "approver": row.approver.name,
            "forRoles": sorted(role.name for role in row.for_roles.all()),
            "expiresHours": row.expires_hours,
            "withinHours": row.within_hours,
        },
        effects={"before": before} if before else {},
    )
    return row


@transaction.atomic
def switch_rule(rule: ApprovalRule, *, on: bool, actor: Actor, now: datetime) -> ApprovalRule:
    """Switch a rule off, or on again. Again: no error, no line in the journal."""
    row = ApprovalRule.objects.select_for_update(of=("self",)).select_related("approver").get(pk=rule.pk)
    if row.is_active == on:
        return row
    row.is_active = on
    row.save(update_fields=["is_active"])
    word = "on" if on else "off"
    summary = f"Switched {word} a rule: {said(row)}"
    record(None, f"approval_rule.switched_{word}", summary, actor=actor, now=now, inputs={"rule": row.pk})
    return row


def said(rule: ApprovalRule) -> str:
    """The whole rule in a sentence, with whose acts it is about."""
    roles = sorted(role.name for role in rule.for_roles.all())
    whose = f" Asked of {_listed(roles)}." if roles else ""
    return f"{why(rule)}{whose}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _check(terms: RuleTerms) -> None:
    kind = ruled_acts().get(terms.act)
    if kind is None:
        raise BadRule("act", "There is no such act.")
    if terms.measure and terms.measure not in kind.measures:
        known = ", ".join(kind.measures.values()) or "nothing; it is about every one"
        raise BadRule("measure", f"{kind.title} can be measured by {known}.")
    if terms.measure and terms.above is None:
        raise BadRule("above", "Say from which size on.")
    if not terms.measure and terms.above is not None:
        raise BadRule("measure", "Say what the size is a size of.")
    if terms.above is not None and terms.above < 0:
        raise BadRule("above", "The size is 0 or more.")
    if terms.measure == PERCENT and terms.above is not None and terms.above >= 100:
        raise BadRule("above", "No discount is above 100 %.")
    if terms.currency and (terms.measure not in MONEY or terms.currency not in settings.CURRENCIES):
        raise BadRule("currency", "Only an amount has a currency, and it is one of those this account uses.")
    _check_window(terms, kind)
    if not 1 <= terms.expires_hours <= MOST_HOURS:
        raise BadRule("expires_hours", f"Give 1 to {MOST_HOURS:,} hours.")
    if not _may_decide(terms.approver):
        raise BadRule("approver", f"Nobody of {terms.approver.name} may decide: the role lacks the permission to.")


def adding_up(kind: type[Act]) -> tuple[str, ...]:
    """The measures by which acts of a kind can be counted together."""
    return kind.together if issubclass(kind, AddsUp) else ()


def _check_window(terms: RuleTerms, kind: type[Act]) -> None:
    if terms.within_hours is None:
        return
    if not terms.measure or terms.measure not in adding_up(kind):
        raise BadRule("within_hours", "Only amounts of money and units of one kind of act add up.")
    if not 1 <= terms.within_hours <= MOST_HOURS_TOGETHER:
        raise BadRule("within_hours", f"Give 1 to {MOST_HOURS_TOGETHER:,} hours, or nothing.")


def _may_decide(role: Group) -> bool:
    label, _, codename = DECIDE.partition(".")
    return role.permissions.filter(content_type__app_label=label, codename=codename).exists()
