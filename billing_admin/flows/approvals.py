"""A second person: who has to be asked before an act, what they see, and what happens when they have decided.

What is applied is what was approved: the preview is made again, and if a fact of it has moved the request is outdated
and has to be asked for anew.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.contrib.postgres.aggregates import JSONBAgg
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet, Subquery
from django.template.loader import render_to_string
from django.urls import reverse

from billing_admin.approving import ACTS, Act, AddsUp, Contains, Effect, GivenUp, Shown, Size, TakesMore
from billing_admin.holders import BY_KEY
from billing_admin.models import ApiKey, ApprovalRequest, ApprovalRequestQuerySet, ApprovalRule
from catalog.after import after_commit
from catalog.money import grouped
from customers.journal import CLOCKWORK, Actor, plain_json, record, require_reason
from customers.models import Customer, Operation

DECIDE = "billing_admin.decide_approval"
State = ApprovalRequest.State
# In what a request shows, where it takes several roles: the further ones by their keys, and all of them by name.
ALSO, ASKED_OF = "also", "asked_of"
# Sizes as rules say them; a measure that only one act has is said in its own words.
PHRASES = {
    "discount": "a discount above {} %",
    "amount": "an amount above {}",
    "refund": "a refund above {}",
    "units": "more than {} units",
    "customers": "more than {} customers",
    "days": "more than {} days",
}


class ApprovalNeeded(ValidationError):
    """Nothing was done: somebody else has to approve it first. `act` and `rule` say what and who; `also` are the rules
    that it exceeds besides, by other measures: whoever approves has the roles of those, too."""

    def __init__(self, act: Act, rule: ApprovalRule, why: str, reason: str = "", also: Sequence[ApprovalRule] = ()):
        self.act, self.rule, self.why, self.reason, self.also = act, rule, why, reason, also
        self.asked_of = " and ".join(sorted({one.approver.name for one in (rule, *also)}))
        super().__init__(f"{why} Ask for approval; nothing has been done yet.", code="approval_required")


class NotWaiting(ValidationError):
    def __init__(self, request: ApprovalRequest):
        by = f" by {request.decided_by}" if request.decided_by else ""
        super().__init__(
            f"This request does not wait any more: it is {request.get_state_display().lower()}{by}.",
            code="not_waiting_for_approval",
        )


class MayNotDecide(ValidationError):
    def __init__(self, why: str):
        super().__init__(why, code="may_not_decide")


class NotTheirs(ValidationError):
    def __init__(self) -> None:
        super().__init__("Only whoever asked can withdraw a request.", code="not_your_request")


class MayNoLonger(ValidationError):
    """Whoever asked has lost the right to the act since."""

    def __init__(self, who: str):
        super().__init__(f"{who} may no longer do this, so it cannot be carried out.", code="requester_may_not")


# Who has to be asked --------------------------------------------------------------------------------------------------


def guard(act: Act, *, actor: Actor, now: datetime, reason: str = "") -> None:
    """Refuse an act that a rule wants a second person for. Raises `ApprovalNeeded`.

    What the clockwork does was decided before, an actor with an approval carries out what was approved, and who takes
    an act back restores what was there. A row of an approved batch is free of the rules that whoever approved the
    batch could have decided, and of no others.
    """
    if _needs_nobody(actor):
        return
    if rules := rules_of(type(act)):
        _refuse_by(rules, act, actor, now, reason)


def guard_as(key: str, *, actor: Actor, now: datetime, reason: str = "", **parts: Any) -> None:
    """The same for a verb that its act calls: the act is made from its parts, by name, only where there is a rule."""
    _guard(key, parts, actor, now, reason)


def guard_done(key: str, *, actor: Actor, now: datetime, reason: str = "", **parts: Any) -> None:
    """The same for a verb that asks last, so that what cannot be is refused rather than asked for: its line stands in
    the journal already, and goes with all the rest when the transaction is rolled back."""
    _guard(key, parts, actor, now, reason, is_written=True)


def _guard(
    key: str, parts: Mapping[str, Any], actor: Actor, now: datetime, reason: str, *, is_written: bool = False
) -> None:
    if _needs_nobody(actor):
        return
    kind = ACTS[key]
    if rules := rules_of(kind):
        act = cast(Callable[..., Act], kind)(**parts)
        _refuse_by(rules, act, actor, now, reason, is_written=is_written)


def _needs_nobody(actor: Actor) -> bool:
    was_approved = bool(actor.approval) and not actor.batch
    return was_approved or actor == CLOCKWORK or actor.takes_back is not None


def rules_of(kind: type[Act]) -> list[ApprovalRule]:
    """Those in force for an act and for what it carries out on its way, one query where there are none."""
    acts = [*_names(kind), *getattr(kind, "contains", ())]
    rows = ApprovalRule.objects.filter(act__in=acts, is_active=True)
    return list(rows.select_related("approver").prefetch_related("for_roles"))


def _names(kind: type[Act]) -> tuple[str, ...]:
    """The acts whose rules hold for the sizes of this one."""
    return (ruled_as(kind), *getattr(kind, "also_ruled_as", ()))


def ruled_as(kind: type[Act]) -> str:
    return getattr(kind, "ruled_as", "") or kind.key


def _refuse_by(
    rules: Sequence[ApprovalRule], act: Act, actor: Actor, now: datetime, reason: str, *, is_written: bool = False
) -> None:
    found = met(rules, act, actor=actor, now=now, is_written=is_written)
    if actor.approval:
        found = _undecided(found, actor.approved_by)
    if found:
        rule, *also = found
        raise ApprovalNeeded(act, rule, _why_all(found), reason, also)


def _why_all(rules: Sequence[ApprovalRule]) -> str:
    """Every rule as a sentence; and who that leaves, where they name several roles."""
    names = sorted({rule.approver.name for rule in rules})
    both = f" It takes somebody who is {' and '.join(names)} at once." if len(names) > 1 else ""
    return f"{' '.join(map(why, rules))}{both}"


def _undecided(rules: Sequence[ApprovalRule], approver: str) -> list[ApprovalRule]:
    """The rules that somebody could not have decided."""
    user = User.objects.filter(username=approver).first()
    if user is not None and user.is_superuser:
        return []
    roles = set(user.groups.values_list("pk", flat=True)) if user else set()
    return [rule for rule in rules if rule.approver_id not in roles]


def met(
    rules: Sequence[ApprovalRule], act: Act, *, actor: Actor, now: datetime, is_written: bool = False
) -> list[ApprovalRule]:
    """The rules that an act exceeds, the one with the highest bar first.

    Of several by one measure the highest bar counts alone: who may approve most has to. Bars of different measures
    cannot be compared, so each of them counts.
    """
    rules, names = _for_actor(rules, actor), _names(type(act))
    past = _Past(act.customer(), actor, written=act.key if is_written else "")
    found = _highest([rule for rule in rules if rule.act in names], act.sizes(now), past, now)
    if isinstance(act, Contains) and any(rule.act in act.contains for rule in rules):
        for part in act.parts(now):
            found += _highest([rule for rule in rules if rule.act == part.key], part.sizes, past, now)
    return sorted(dict.fromkeys(found), key=_bar, reverse=True)


def _highest(rules: Sequence[ApprovalRule], sizes: Sequence[Size], past: "_Past", now: datetime) -> list[ApprovalRule]:
    """Of the rules that the sizes exceed, the one with the highest bar of each measure. A rule without a bar is only
    about what none with a bar is about."""
    highest: dict[str, ApprovalRule] = {}
    for rule in rules:
        if _exceeds(rule, sizes, past, now) and (
            rule.measure not in highest or _bar(rule) > _bar(highest[rule.measure])
        ):
            highest[rule.measure] = rule
    if len(highest) > 1:
        highest.pop("", None)
    return list(highest.values())


def _bar(rule: ApprovalRule) -> tuple[bool, Decimal, int]:
    return rule.above is not None, rule.above or Decimal(0), rule.pk


def _for_actor(rules: Sequence[ApprovalRule], actor: Actor) -> list[ApprovalRule]:
    roles = roles_of(actor)
    return [rule for rule in rules if _applies(rule, roles)]


def roles_of(actor: Actor) -> set[int]:
    """The roles of a person, or of the key that calls the API."""
    if actor.name.startswith(BY_KEY):
        return set(_keys_of(actor.name).filter(revoked_at=None).values_list("role_id", flat=True))
    whose = Q(user=actor.user_id) if actor.user_id is not None else Q(user__username=actor.name)
    return set(Group.objects.filter(whose).values_list("pk", flat=True))


def _keys_of(actor: str) -> QuerySet[ApiKey]:
    return ApiKey.objects.filter(name=actor.removeprefix(BY_KEY))


def _applies(rule: ApprovalRule, roles: set[int]) -> bool:
    wanted = {group.pk for group in rule.for_roles.all()}
    return not wanted or bool(wanted & roles)


def _exceeds(rule: ApprovalRule, sizes: Sequence[Size], past: "_Past", now: datetime) -> bool:
    if not rule.measure or rule.above is None:
        return True
    measured = [size for size in sizes if size.measure == rule.measure and rule.currency in ("", size.currency)]
    return any(size.value > rule.above or _exceeds_together(rule, size, past, now) for size in measured)


def _exceeds_together(rule: ApprovalRule, size: Size, past: "_Past", now: datetime) -> bool:
    """What gives nothing more does not add up with what was given."""
    if not rule.within_hours or size.value <= 0:
        return False
    assert rule.above is not None
    return size.value + past.sum_of(rule, size, since=now - timedelta(hours=rule.within_hours)) > rule.above


class _Past:
    """What somebody did for a customer before, without a second person, and what still holds of it: also in a batch
    whose approver could not have decided it. `written`: the verb of the act that is asked about, where its line is the
    newest in the journal."""

    def __init__(self, customer: Customer | None, actor: Actor, *, written: str = ""):
        self.customer, self.actor, self.written = customer, actor, written

    def sum_of(self, rule: ApprovalRule, size: Size, *, since: datetime) -> Decimal:
        """By the same measure, in the same currency."""
        if self.customer is None:
            return Decimal(0)
        kinds = {kind.key: kind for kind in ACTS.values() if ruled_as(kind) == rule.act and issubclass(kind, AddsUp)}
        rows = self.customer.operations.filter(verb__in=kinds, at__gt=since, actor__in=_names_of(self.actor))
        rows = rows.filter(Q(approval="") | ~Q(batch=""), reverses=None)
        found = list(rows.select_related("reversed_by").order_by("-id"))
        before = found[1:] if found and found[0].verb == self.written else found
        decided = {by for by in {row.approved_by for row in before} - {""} if not _undecided([rule], by)}
        counted = [(kinds[row.verb], row) for row in before if row.approved_by not in decided]
        sizes = [
            known for kind, row in counted for known in (kind.was if _holds(row) else kind.stays)(row, self.customer)
        ]
        same = [known.value for known in sizes if (known.measure, known.currency) == (size.measure, size.currency)]
        return sum(same, Decimal(0))


def _holds(operation: Operation) -> bool:
    """Whether an act stands: nobody took it back, or that was taken back, too."""
    by = getattr(operation, "reversed_by", None)
    return by is None or not _holds(by)


def _names_of(actor: Actor) -> set[str]:
    """A person with the keys that they made, as the journal names them: one hand, whichever door it uses. Keys of one
    name cannot be told apart there, so whoever made one of them counts."""
    by_key = actor.name.startswith(BY_KEY)
    people = set(_keys_of(actor.name).values_list("created_by", flat=True)) - {""} if by_key else {actor.name}
    keys = ApiKey.objects.filter(created_by__in=people)
    return {actor.name, *people, *(f"{BY_KEY}{name}" for name in keys.values_list("name", flat=True))}


def why(rule: ApprovalRule) -> str:
    """The rule in a sentence: `A coupon with a discount above 20 % needs approval by Finance.`"""
    kind = ACTS.get(rule.act)
    title = kind.title if kind else rule.act
    if rule.above is None:
        return f"{title} needs approval by {rule.approver.name}."
    words = kind.measures.get(rule.measure, rule.measure) if kind else rule.measure
    size = f"{grouped(rule.above)} {rule.currency}".strip()
    phrase = PHRASES.get(rule.measure, f"{words} above {{}}").format(size)
    hours = rule.within_hours
    together = f", alone or together with others within {hours} {'hour' if hours == 1 else 'hours'}," if hours else ""
    return f"{title} with {phrase}{together} needs approval by {rule.approver.name}."


# Asking ---------------------------------------------------------------------------------------------------------------


@transaction.atomic
def ask(
    needed: ApprovalNeeded, *, reason: str = "", actor: Actor, key: ApiKey | None = None, now: datetime
) -> ApprovalRequest:
    """Keep an act for a second person, as it was asked for and with what it would do; they are told by mail.

    The same thing asked again by the same person is the same request. Raises what the act's own preview refuses with.
    """
    act, rule = needed.act, needed.rule
    customer = act.customer()
    _hold_customer(customer.pk if customer else None)
    shown, inputs = act.shown(now), plain_json(act.to_json())
    also = sorted({other.approver_id for other in needed.also} - {rule.approver_id})
    request = ApprovalRequest(
        act=act.key,
        title=shown.sentence[:200],
        rule=rule,
        why=needed.why[:300],
        approver=rule.approver,
        customer=customer,
        inputs=inputs,
        shown=kept(shown) | {"sizes": measured(act, now)} | ({ALSO: also, ASKED_OF: needed.asked_of} if also else {}),
        fingerprint=fingerprint(shown, inputs),
        reason=(reason or needed.reason).strip(),
        requested_by=actor.name,
        user_id=actor.user_id,
        key=key or (_keys_of(actor.name).filter(revoked_at=None).first() if actor.name.startswith(BY_KEY) else None),
        requested_at=now,
        expires_at=now + timedelta(hours=rule.expires_hours),
    )
    if same := _waiting_same(request, now):
        return same
    try:
        with transaction.atomic():
            request.save()
    except IntegrityError:  # asked twice at once
        return ApprovalRequest.objects.get(
            act=request.act, fingerprint=request.fingerprint, requested_by=request.requested_by, state=State.WAITING
        )
    _note(request, "asked", f"Asked {rule.approver.name} to approve: {request.title}", actor=actor, now=now)
    _mail(_approvers(request), "approval_asked", f"Please approve: {request.title}", request)
    return request


def _waiting_same(request: ApprovalRequest, now: datetime) -> ApprovalRequest | None:
    """The request that waits for the same already; one that ran out meanwhile makes room."""
    rows = ApprovalRequest.objects.select_for_update().filter(state=State.WAITING, act=request.act)
    found = rows.filter(fingerprint=request.fingerprint, requested_by=request.requested_by).first()
    if found is not None and found.expires_at <= now:
        _expire(found, now)
        return None
    return found


def kept(shown: Shown) -> dict[str, Any]:
    return shown.to_json() | {"facts": plain_json(dict(shown.facts))}


def fingerprint(shown: Shown, inputs: Mapping[str, Any]) -> str:
    """Of what was asked for together with what it would do."""
    asked = json.dumps(inputs, sort_keys=True)
    return hashlib.sha256(f"{shown.fingerprint}\0{asked}".encode()).hexdigest()[:32]


# Deciding -------------------------------------------------------------------------------------------------------------


def act_of(request: ApprovalRequest) -> Act:
    """The act again. Raises `ValidationError` for one that is gone."""
    kind = ACTS.get(request.act)
    if kind is None:
        raise ValidationError("There is no such act any more.", code="unknown_act")
    return kind.from_json(request.inputs)


def approve(request: ApprovalRequest, *, user: User, now: datetime) -> ApprovalRequest:
    """Carry out what was asked for, if it still does what was shown; else the request is outdated, and says why.

    A refusal of the verb itself leaves the request waiting. Raises that, `MayNotDecide`, `NotWaiting`, `MayNoLonger`.
    """
    request = ApprovalRequest.objects.select_related("approver", "customer", "user", "key__role").get(pk=request.pk)
    refuse_decision(request, user, now)
    act = act_of(request)
    prepare = getattr(act, "prepare", None)
    # What goes over the network comes first, outside of any transaction, and cannot be taken back.
    if prepare is not None and not (moved(request, act.shown(now)) or outgrown(request, act, now)):
        _refuse_requester(request, act, now)
        prepare(reason=request.reason, actor=_on_behalf(request, user), now=now)
    return _apply(request, user, now)


@transaction.atomic
def _apply(request: ApprovalRequest, user: User, now: datetime) -> ApprovalRequest:
    held = _held(request)
    refuse_decision(held, user, now)
    act = act_of(held)
    _refuse_requester(held, act, now)
    what = moved(held, act.shown(now)) or outgrown(held, act, now)
    if what:
        _close(held, State.OUTDATED, by=user.get_username(), answer=what, now=now)
        _note(held, "outdated", f"Not approved, since it moved: {held.title}", actor=Actor.of(user), now=now)
        _mail(_requester(held), "approval_outdated", f"Ask again: {held.title}", held)
        return held
    held.operation = act.carry_out(reason=held.reason, actor=_on_behalf(held, user), now=now)
    _close(held, State.APPLIED, by=user.get_username(), answer="", now=now)
    _mail(_requester(held), "approval_applied", f"Approved: {held.title}", held)
    return held


def _on_behalf(request: ApprovalRequest, user: User) -> Actor:
    """Whoever asked, with who approved it."""
    return Actor(request.requested_by, request.user_id, approval=request.public_id, approved_by=user.get_username())


@transaction.atomic
def refuse(request: ApprovalRequest, *, reason: str, user: User, now: datetime) -> ApprovalRequest:
    """Say no, with a reason that the requester reads. Raises `ReasonRequired`, `MayNotDecide`, `NotWaiting`."""
    reason = require_reason(reason, "a refusal")
    held = _held(request)
    refuse_decision(held, user, now)
    _close(held, State.REFUSED, by=user.get_username(), answer=reason, now=now)
    _note(held, "refused", f"Refused: {held.title}", actor=Actor.of(user), now=now, reason=reason)
    _mail(_requester(held), "approval_refused", f"Refused: {held.title}", held)
    return held


@transaction.atomic
def withdraw(request: ApprovalRequest, *, reason: str = "", actor: Actor, now: datetime) -> ApprovalRequest:
    """Take back what one asked for oneself. Raises `NotTheirs`, `NotWaiting`."""
    held = _held(request)
    if not is_requester(held, actor):
        raise NotTheirs
    _refuse_decided(held, now)
    _close(held, State.WITHDRAWN, by=actor.name, answer=reason.strip(), now=now)
    _note(held, "withdrawn", f"Withdrew the request: {held.title}", actor=actor, now=now, reason=reason.strip())
    return held


def expire_due(*, now: datetime, limit: int = 200) -> int:
    """Close requests that nobody decided in time; whoever asked is told. Returns how many; safe to run twice."""
    expired = 0
    due = ApprovalRequest.objects.filter(state=State.WAITING, expires_at__lte=now).order_by("expires_at")
    for pk, customer_pk in list(due.values_list("pk", "customer_id")[:limit]):
        with transaction.atomic():
            is_free = customer_pk is None or _hold_customer(customer_pk, skip_locked=True)
            rows = due.select_for_update(of=("self",), skip_locked=True).filter(pk=pk).order_by()
            held = rows.first() if is_free else None
            if held is not None:
                _expire(held, now)
                expired += 1
    return expired


def _expire(held: ApprovalRequest, now: datetime) -> None:
    _close(held, State.EXPIRED, by="", answer="Nobody decided in time.", now=now)
    _note(held, "expired", f"Nobody approved in time: {held.title}", actor=CLOCKWORK, now=now)
    _mail(_requester(held), "approval_expired", f"Expired: {held.title}", held)


def _hold_customer(pk: int | None, *, skip_locked: bool = False) -> bool:
    """The customer's row comes before that of a request, as before everything else: whoever asks for an act may hold
    it already. False when somebody else has it and nobody waits."""
    if pk is None:
        return False
    rows = Customer.objects.select_for_update(skip_locked=skip_locked).filter(pk=pk)
    return rows.order_by().first() is not None


def _held(request: ApprovalRequest) -> ApprovalRequest:
    """Both rows, the customer's first."""
    _hold_customer(request.customer_id)
    rows = ApprovalRequest.objects.select_for_update(of=("self",))
    return rows.select_related("approver", "customer", "user", "key__role").get(pk=request.pk)


def _close(held: ApprovalRequest, state: str, *, by: str, answer: str, now: datetime) -> None:
    held.state, held.decided_by, held.decided_at, held.answer = state, by, now, answer
    held.save(update_fields=["state", "decided_by", "decided_at", "answer", "operation"])
    if state == State.APPLIED or not hasattr(ACTS.get(held.act), "given_up"):
        return
    try:
        act = act_of(held)
    except ValidationError:  # what is gone has nothing to hear, and holds up no other request
        return
    why = f"{held.get_state_display().lower()}. {answer}".strip()
    cast(GivenUp, act).given_up(why=why, actor=Actor(by) if by else CLOCKWORK, now=now)


def _note(held: ApprovalRequest, act: str, summary: str, *, actor: Actor, now: datetime, reason: str = "") -> Operation:
    inputs = {"approval": held.public_id, "act": held.act}
    return record(held.customer, f"approval.{act}", summary[:500], actor=actor, now=now, reason=reason, inputs=inputs)


# What moved -----------------------------------------------------------------------------------------------------------


def measured(act: Act, now: datetime) -> list[dict[str, str]]:
    """How big an act is at this moment, by each of its measures."""
    rows: list[dict[str, str]] = plain_json([asdict(size) for size in act.sizes(now)])
    return rows


def outgrown(request: ApprovalRequest, act: Act, now: datetime) -> str:
    """Which rule of somebody else an act has grown into since it was asked for, in a sentence; empty when none.

    Use is no fact that outdates a request, but it can make an edit add more than its approver may allow. What has not
    grown keeps the rule as it was.
    """
    before = {(row["measure"], row["currency"]): Decimal(row["value"]) for row in request.shown.get("sizes", [])}
    grown = [size for size in act.sizes(now) if size.value > before.get((size.measure, size.currency), size.value)]
    if not grown:
        return ""
    actor = Actor(request.requested_by, request.user_id)
    rules, names = _for_actor(rules_of(type(act)), actor), _names(type(act))
    past = _Past(None, actor)
    found = _highest([rule for rule in rules if rule.act in names], grown, past, now)
    known = roles_for(request)
    others = sorted((rule for rule in found if rule.approver_id not in known), key=_bar, reverse=True)
    return f"It is larger by now: {why(others[0])}" if others else ""


def roles_for(request: ApprovalRequest) -> set[int]:
    """The roles, by their keys, that whoever decides a request has: each of them."""
    return {request.approver_id, *request.shown.get(ALSO, ())}


def moved(request: ApprovalRequest, now: Shown) -> str:
    """What is no longer as it was shown, in a sentence; empty when what would be done is what was asked for."""
    if fingerprint(now, request.inputs) == request.fingerprint:
        return ""
    if now.sentence != request.shown["sentence"]:
        return f"It would do something else now: {now.sentence}"
    said = [f"{row.label}: {row.was or '—'} → {row.now or '—'}" for row in compared(request, now) if row.is_moved]
    if said:
        return f"Since it was asked for, this moved: {'; '.join(said)}."
    before, after = request.shown.get("facts", {}), plain_json(dict(now.facts))
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return f"Since it was asked for, this moved: {', '.join(names)}."


class Compared:
    """One line of a preview as it was when it was asked for, and as it is now."""

    def __init__(self, then: Mapping[str, Any] | None, now: Effect | None, *, known: bool):
        shown = asdict(now) if now else dict(then or {})
        self.label, self.url, self.before = shown["label"], shown["url"], shown["before"]
        self.was, self.now = (then["after"] if then else ""), (now.after if now else "")
        self.is_moved = known and self.was != self.now and not shown.get("is_passing")


def compared(request: ApprovalRequest, now: Shown | None) -> list[Compared]:
    """The preview that was kept beside the present one; without one nothing counts as moved."""
    then = {effect["label"]: effect for effect in request.shown["effects"]}
    present = {effect.label: effect for effect in now.effects} if now else {}
    labels = dict.fromkeys([*then, *present])
    return [Compared(then.get(label), present.get(label), known=now is not None) for label in labels]


# Rights ---------------------------------------------------------------------------------------------------------------


def refuse_decision(request: ApprovalRequest, user: User, now: datetime) -> None:
    _refuse_decided(request, now)
    if not user.has_perm(DECIDE):
        raise MayNotDecide("Your role does not include deciding what others ask for.")
    if is_requester(request, Actor.of(user)):
        raise MayNotDecide("You asked for this yourself; somebody else has to decide it.")
    if not user.is_superuser and not roles_for(request) <= set(user.groups.values_list("pk", flat=True)):
        raise MayNotDecide(f"Only {_who_can(request)} can decide this.")


def _who_can(request: ApprovalRequest) -> str:
    several = request.shown.get(ASKED_OF)
    return f"somebody who is {several} at once" if several else request.approver.name


def asked_of(request: ApprovalRequest) -> str:
    """The role that decides a request, or all of them: `Admin and Finance`."""
    return request.shown.get(ASKED_OF) or request.approver.name


def _refuse_decided(request: ApprovalRequest, now: datetime) -> None:
    if request.state == State.WAITING and request.expires_at <= now:
        request.state = State.EXPIRED
    if request.state != State.WAITING:
        raise NotWaiting(request)


def is_requester(request: ApprovalRequest, actor: Actor) -> bool:
    """Whether somebody asked for this, also through an API key that they made."""
    if actor.name == request.requested_by or (actor.user_id is not None and actor.user_id == request.user_id):
        return True
    made = _keys_of(request.requested_by) if request.requested_by.startswith(BY_KEY) else ApiKey.objects.none()
    return made.filter(created_by=actor.name).exists()


def _refuse_requester(request: ApprovalRequest, act: Act, now: datetime) -> None:
    """What is carried out in somebody's name takes their right to it, still."""
    needs: tuple[str, ...] = act.permissions
    if isinstance(act, TakesMore):
        needs = (*needs, *act.more_permissions(now))
    if request.user is not None:
        may = request.user.is_active and request.user.has_perms(needs)
    elif request.key is not None:
        granted = request.key.role.permissions.values_list("content_type__app_label", "codename")
        may = request.key.revoked_at is None and set(needs) <= {f"{a}.{c}" for a, c in granted}
    else:
        may = False
    if not may:
        raise MayNoLonger(request.requested_by)


def waiting_for_user(user: User, now: datetime) -> ApprovalRequestQuerySet:
    """What this person can decide now: of their roles (all of them for a superuser), and not asked by themselves."""
    rows: ApprovalRequestQuerySet = ApprovalRequest.objects.waiting(now)
    if not user.has_perm(DECIDE):
        return rows.none()
    if not user.is_superuser:
        held: QuerySet[Any] = User.groups.through.objects.filter(user=user).order_by()
        all_held = Subquery(held.values("user").annotate(roles=JSONBAgg("group_id")).values("roles"))
        enough = Q(shown__also__contained_by=all_held) | ~Q(shown__has_key=ALSO)
        rows = rows.filter(enough, approver__in=held.values("group"))
    own = Q(user=user) | Q(requested_by=user.get_username())
    made = ApiKey.objects.filter(created_by=user.get_username()).values("pk")
    return rows.exclude(own).filter(Q(key=None) | ~Q(key__in=made))


def waiting_for(user: User, now: datetime) -> int:
    """How many requests wait for this person; one query."""
    return waiting_for_user(user, now).count() if user.has_perm(DECIDE) else 0


# Mail -----------------------------------------------------------------------------------------------------------------


def _approvers(request: ApprovalRequest) -> list[str]:
    """The addresses of everybody who can decide it."""
    people = User.objects.filter(is_active=True, is_staff=True).exclude(email="")
    for role in sorted(roles_for(request)):
        people = people.filter(groups=role)
    others = people.exclude(pk=request.user_id) if request.user_id else people
    return [person.email for person in others.order_by("pk") if not is_requester(request, Actor.of(person))]


def _requester(request: ApprovalRequest) -> list[str]:
    """Programs read no mail: they ask the API."""
    return [request.user.email] if request.user and request.user.email and request.user.is_active else []


def _mail(addresses: Sequence[str], template: str, subject: str, request: ApprovalRequest) -> None:
    url = settings.PUBLIC_URL + reverse("admin:approval", args=[request.public_id])
    text = render_to_string(f"mail/{template}.txt", {"request": request, "link": url, "shown": request.shown})
    for address in addresses:
        after_commit(send_mail, " ".join(subject.split())[:200], text, None, [address])
