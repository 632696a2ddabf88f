"""Taking back overrides: of features, one or a batch, and of prices."""

from datetime import datetime
from decimal import Decimal

from billing_admin.flows.override_batch import say_revoked
from billing_admin.flows.renew import catch_up
from billing_admin.flows.reprice import revoke_override
from billing_admin.undoing import CannotTakeBack, TakenBack, inverse, line_of, taking_back
from catalog.after import after_commit
from catalog.money import grouped
from customers.journal import Actor, record
from customers.models import Customer, Operation, PriceOverride
from entitlements.models import BalanceEntry, FeatureOverride, OverrideBatch
from entitlements.override import describe, overlapping, override, revoke
from entitlements.provision import enter
from invoicing.overrides import read_specials

ZERO = Decimal(0)


def _row(operation: Operation) -> FeatureOverride:
    found: FeatureOverride = FeatureOverride.objects.select_related("customer", "feature", "subscription__product").get(
        public_id=operation.inputs["override"]
    )
    return found


# Features -------------------------------------------------------------------------------------------------------------


@inverse
class OverrideGiven:
    """Revoked; those that it superseded are given again for the rest of their time."""

    verb = "override.given"
    permissions = ("entitlements.give_concession",)
    possible = ("entitlements.give_concession", "entitlements.add_featureoverride")

    def permissions_of(self, operation: Operation) -> tuple[str, ...]:
        return _giving(_row(operation))

    def why_not(self, operation: Operation, now: datetime) -> str:
        row = _row(operation)
        return f"The override is over: it is {row.state(now)}." if row.is_over(now) else ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        row = _row(operation)
        used = sum((balance.used for balance in row.balances.all()), ZERO)
        stays = (f"{grouped(used)} {row.feature.name} were used of it; they stay covered.",) if used > 0 else ()
        again = [f"the one of {describe(other)} holds again" for other in _superseded(row, now)]
        sentence = "; ".join([f"Revokes the override of {row.feature.name} ({describe(row)})", *again])
        return TakenBack(f"{sentence}.", stays=stays, facts={"override": row.public_id, "stops": row.stops_at})

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        row = _row(operation)
        again = _superseded(row, now)
        revoke(row, reason=reason, actor=taking_back(actor, operation, "override.revoked"), now=now)
        for other in again:
            give_again(other, reason=other.reason, actor=actor, now=now)
        return line_of(operation)


def _giving(row: FeatureOverride) -> tuple[str, ...]:
    """What has no end takes more than a concession does."""
    return ("entitlements.give_concession" if row.effective_until else "entitlements.add_featureoverride",)


def _superseded(row: FeatureOverride, now: datetime) -> list[FeatureOverride]:
    """What this one ended, as far as it would still hold."""
    ended = row.supersedes.select_related("customer", "feature", "subscription__product").order_by("id")
    return [other for other in ended if _holds_on(other, now)]


def _holds_on(row: FeatureOverride, now: datetime) -> bool:
    return row.effective_until is None or row.effective_until > now


def give_again(row: FeatureOverride, *, reason: str, actor: Actor, now: datetime) -> FeatureOverride:
    """The same value from now on, for the rest of its time. Units that were used of it in this window stay used."""
    value: bool | str | Decimal | None = row.units if row.units is not None else row.text or row.on
    again = override(
        row.customer,
        row.feature,
        "unlimited" if row.unlimited else value,
        subscription=row.subscription,
        effective_from=max(now, row.effective_from),
        effective_until=row.effective_until,
        reason=reason,
        actor=actor,
        now=now,
    )
    before = row.balances.order_by("-starts_at", "-id").first()
    after = again.balances.select_for_update(of=("self",)).order_by("-id").first()
    if before is None or after is None or (before.granted is None) != (after.granted is None):
        return again
    # The window is that of the plan: a bucket that began in it goes on with what was left of it.
    if before.used - before.adjusted and _same_window(row, before.starts_at, now):
        gone = before.used - before.adjusted
        after.adjusted -= gone
        after.save(update_fields=["adjusted"])
        enter(after, BalanceEntry.Kind.MOVED, -gone, now=now)
    return again


def _same_window(row: FeatureOverride, began: datetime, now: datetime) -> bool:
    plans = row.customer.balances.promised().open(now).filter(feature=row.feature).order_by("starts_at")
    window = plans.first()
    return window is None or began >= window.starts_at


@inverse
class OverrideRevoked:
    """Given again from now on, until it would have ended."""

    verb = "override.revoked"
    permissions = ("entitlements.give_concession",)
    possible = ("entitlements.give_concession", "entitlements.add_featureoverride")

    def permissions_of(self, operation: Operation) -> tuple[str, ...]:
        return _giving(_row(operation))

    def why_not(self, operation: Operation, now: datetime) -> str:
        row = _row(operation)
        if not _holds_on(row, now):
            return f"The override would have ended on {row.effective_until:%-d %b %Y}."
        if row.subscription is not None and row.subscription.ended_at is not None:
            return "The subscription that it was for has ended."
        starts = max(now, row.effective_from)
        if overlapping(row.customer, row.feature, row.subscription, starts, row.effective_until).exists():
            return f"Another override of {row.feature.name} holds in that time."
        return ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        row = _row(operation)
        until = f"until {row.effective_until:%-d %b %Y}" if row.effective_until else "for good"
        stays = ("What was used or refused while it was revoked stays as it was counted.",)
        facts = {"override": row.public_id}
        return TakenBack(f"Gives {row.feature.name} {describe(row)} again, {until}.", stays=stays, facts=facts)

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        give_again(_row(operation), reason=reason, actor=taking_back(actor, operation, "override.given"), now=now)
        return line_of(operation)


@inverse
class BatchBegun:
    """All overrides of a batch that still stand are revoked; rows that were not given yet never are."""

    verb = "override_batch.begun"
    permissions = ("entitlements.bulk_override",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        batch = _batch(operation)
        if batch.revoked_at is not None:
            return f"The batch was revoked on {batch.revoked_at:%-d %b %Y} already."
        if batch.finished_at is not None and not batch.overrides.standing(now).exists():
            return "All overrides of the batch are over."
        return ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        batch = _batch(operation)
        count = batch.overrides.standing(now).count()
        return TakenBack(
            f"Revokes the {count:,} overrides of batch {batch.public_id} that stand.",
            stays=("What was used of them stays covered.",),
            facts={"batch": batch.public_id},
        )

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        from billing_admin.tasks import carry_out_batch  # Celery takes memory that web processes need only here

        batch = say_revoked(_batch(operation), reason, taking_back(actor, operation, "override_batch.revoked"), now)
        after_commit(carry_out_batch.apply_async, args=[batch.public_id], retry=False)
        return line_of(operation)


def _batch(operation: Operation) -> OverrideBatch:
    found: OverrideBatch = OverrideBatch.objects.get(public_id=operation.inputs["batch"])
    return found


# Prices ---------------------------------------------------------------------------------------------------------------


@inverse
class PriceOverridden:
    verb = "price.overridden"
    permissions = ("customers.override_price",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        row = _price(operation.effects["override"])
        if row.revoked_at is not None:
            return f"The special price was revoked on {row.revoked_at:%-d %b %Y} already."
        return "The subscription has ended." if row.subscription.ended_at is not None else ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        row = _price(operation.effects["override"])
        used, _ = _cycles(row)
        stays = (f"{_periods(used)} invoiced with it; those invoices stay.",) if used else ()
        facts = {"override": row.public_id, "used": used}
        return TakenBack(f"Revokes the special price for {row.item_key}.", stays=stays, facts=facts)

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        row = _price(operation.effects["override"])
        by = taking_back(actor, operation, "price.override_revoked")
        revoke_override(row, reason=reason, actor=by, now=now)
        return line_of(operation)


def _price(public_id: str) -> PriceOverride:
    found: PriceOverride = PriceOverride.objects.select_related("subscription__customer").get(public_id=public_id)
    return found


def _cycles(row: PriceOverride) -> tuple[int, int | None]:
    """How many periods documents count for it, and how many are left (None: without an end)."""
    for special, _row in read_specials([row]):
        return len(special.used), special.left
    return 0, row.cycles


def _periods(count: int) -> str:
    return "1 billing period is" if count == 1 else f"{count} billing periods are"


@inverse
class PriceOverrideRevoked:
    """It holds again for the periods that are left of it: they are counted from documents, so none is given twice."""

    verb = "price.override_revoked"
    permissions = ("customers.override_price",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        row = _price(operation.inputs["override"])
        if row.revoked_at is None:
            return "The special price holds."
        if row.subscription.ended_at is not None:
            return "The subscription has ended."
        if _cycles(row)[1] == 0:
            return "All its billing periods are used up."
        beside = PriceOverride.objects.in_force().filter(subscription=row.subscription, item_key=row.item_key)
        return f"Another special price holds for {row.item_key}." if beside.exists() else ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        row = _price(operation.inputs["override"])
        used, left = _cycles(row)
        how_long = "until it is revoked" if left is None else f"for the {left} billing periods that are left"
        return TakenBack(
            f"Gives the special price for {row.item_key} again, {how_long}.",
            stays=("Invoices since the revocation stay as they are.",),
            facts={"override": row.public_id, "used": used, "left": left},
        )

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        row = _price(operation.inputs["override"])
        customer = Customer.objects.select_for_update().get(pk=row.subscription.customer_id)
        catch_up(customer, now=now)
        row = PriceOverride.objects.select_related("subscription").select_for_update(of=("self",)).get(pk=row.pk)
        if row.revoked_at is None:
            raise CannotTakeBack("The special price holds.")
        row.revoked_at, row.revoked_by, row.revoke_reason = None, "", ""
        row.save()
        return record(
            customer,
            "price.overridden",
            f"Special price for {row.item_key} holds again",
            actor=actor,
            now=now,
            reason=reason,
            inputs={"subscription": row.subscription.public_id, "priceId": row.item_key},
            effects={"override": row.public_id},
            reverses=operation,
        )
