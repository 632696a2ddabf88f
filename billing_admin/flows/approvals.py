"""A second person: who has to be asked before an act, what they see, and what happens when they have decided.

What is applied is what was approved: the preview is made again, and if a fact of it has moved the request is outdated
and has to be asked for anew.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError

from billing_admin.approving import Act, Size
from billing_admin.models import ApiKey, ApprovalRule
from catalog.money import plain
from customers.journal import CLOCKWORK, Actor


class ApprovalNeeded(ValidationError):
    """Nothing was done: somebody else has to approve it first. `act` and `rule` say what and who."""

    def __init__(self, act: Act, rule: ApprovalRule, why: str):
        self.act, self.rule, self.why = act, rule, why
        super().__init__(f"{why} Ask for approval; nothing has been done yet.", code="approval_required")


def guard(act: Act, *, actor: Actor, now: datetime) -> None:
    """Refuse an act that a rule wants a second person for. Raises `ApprovalNeeded`.

    What the clockwork does was decided before; an actor with an approval carries out what was approved.
    """
    if actor.approval or actor == CLOCKWORK:
        return
    rules = list(ApprovalRule.objects.filter(act=act.key, is_active=True).select_related("approver"))
    if not rules:
        return
    found = strictest(rules, act.sizes(now), actor)
    if found is not None:
        raise ApprovalNeeded(act, found, why(act, found))


def strictest(rules: Sequence[ApprovalRule], sizes: Sequence[Size], actor: Actor) -> ApprovalRule | None:
    """The rule with the highest bar among those that the act exceeds: who may approve most has to."""
    roles = roles_of(actor)
    met = [rule for rule in rules if _applies(rule, roles) and _exceeds(rule, sizes)]
    return max(met, key=lambda rule: (rule.above is not None, rule.above or 0, rule.pk), default=None)


def roles_of(actor: Actor) -> set[int]:
    """The roles of a person, or of the key that calls the API."""
    if actor.user_id is not None:
        return set(Group.objects.filter(user=actor.user_id).values_list("pk", flat=True))
    name = actor.name.removeprefix("api:")
    return set(ApiKey.objects.filter(name=name, revoked_at=None).values_list("role_id", flat=True))


def _applies(rule: ApprovalRule, roles: set[int]) -> bool:
    wanted = {group.pk for group in rule.for_roles.all()}
    return not wanted or bool(wanted & roles)


def _exceeds(rule: ApprovalRule, sizes: Sequence[Size]) -> bool:
    if not rule.measure or rule.above is None:
        return True
    measured = [size for size in sizes if size.measure == rule.measure and rule.currency in ("", size.currency)]
    return any(size.value > rule.above for size in measured)


def why(act: Act, rule: ApprovalRule) -> str:
    """The rule in a sentence."""
    if rule.above is None:
        return f"{act.title} needs approval by {rule.approver.name}."
    words = act.measures.get(rule.measure, rule.measure)
    currency = f" {rule.currency}" if rule.currency else ""
    return f"{act.title} with {words} above {plain(rule.above)}{currency} needs approval by {rule.approver.name}."


def ends(rule: ApprovalRule, now: datetime) -> datetime:
    return now + timedelta(hours=rule.expires_hours)
