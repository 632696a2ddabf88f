"""Verbs of the catalog: write a draft, publish it, tailor a version for one customer, choose the current one.

Nothing here touches a published item; a change of what is sold is always a new version.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max

from catalog.models import Feature, Plan, PlanItem, PlanVersion, Product, unique_key
from catalog.money import exponent
from catalog.periods import NEVER, ONCE, PLAN_CADENCES, RESETS, Cadence, UnknownCadence
from catalog.terms import BOOLEAN, METERED, STATIC, ItemTerms, PlanTerms


@dataclass(frozen=True, slots=True)
class ItemError:
    """One refusal at one cell: the item's place in the table, the field, a sentence and its code."""

    index: int
    key: str
    field: str
    message: str
    code: str


class InvalidItems(ValidationError):
    """Items that cannot be sold; `errors` names each cell."""

    def __init__(self, errors: Sequence[ItemError]):
        self.errors = tuple(errors)
        super().__init__([ValidationError(f"{e.key}: {e.message}", code=e.code) for e in errors], code="invalid_items")


class CannotPublish(ValidationError):
    def __init__(self, why: str):
        super().__init__(why, code="cannot_publish")


class VersionFrozen(ValidationError):
    def __init__(self, version: PlanVersion):
        super().__init__(
            f"{version} is {version.get_state_display().lower()} and can no longer be changed. Make a new version.",
            code="version_frozen",
        )


class DefaultExists(ValidationError):
    def __init__(self, present: Plan):
        self.present = present
        super().__init__(
            f"{present.name} is the default product now. Confirm to make this one the default instead.",
            code="default_exists",
        )


class CannotBeDefault(ValidationError):
    def __init__(self, why: str):
        super().__init__(why, code="cannot_be_default")


class Wrong(Protocol):
    """Notes one refusal at a cell of the item being checked."""

    def __call__(self, field: str, message: str, code: str) -> None: ...


def check_items(plan: Plan, cadence: str, items: Sequence[ItemTerms]) -> None:
    """Refuse items that cannot stand on this plan, with every wrong cell named at once."""
    errors: list[ItemError] = []
    features = Feature.objects.in_bulk([i.feature.slug for i in items if i.feature], field_name="slug")
    keys: set[str] = set()
    slugs: set[str] = set()
    for index, item in enumerate(items):

        def wrong(field: str, message: str, code: str, index: int = index, item: ItemTerms = item) -> None:
            errors.append(ItemError(index, item.key or item.label, field, message, code))

        if not item.key or item.key in keys:
            wrong("key", "Every item needs a key of its own.", "duplicate_key")
        keys.add(item.key)
        if item.is_fee:
            _check_fee(plan, cadence, item, wrong)
            continue
        assert item.feature is not None
        feature = features.get(item.feature.slug)
        if feature is None:
            wrong("feature", f"There is no feature {item.feature.slug!r}.", "unknown_feature")
            continue
        if feature.slug in slugs:
            wrong("feature", f"{feature.name} is on the plan already; change that line instead.", "feature_twice")
        slugs.add(feature.slug)
        if feature.archived_at:
            wrong("feature", f"{feature.name} is archived. Restore it, or take it off the plan.", "archived_feature")
        if feature.product_id and feature.product_id != plan.product_id:
            wrong("feature", f"{feature.name} is reserved for another product.", "foreign_feature")
        _check_allowance(plan, cadence, item, wrong)
    if errors:
        raise InvalidItems(errors)


def _check_fee(plan: Plan, cadence: str, item: ItemTerms, wrong: Wrong) -> None:
    if item.amount is None:
        wrong("amount", "A fee needs an amount; 0 is allowed.", "item_without_content")
        return
    if item.amount < 0:
        wrong("amount", "A fee cannot be negative. Give a credit or a coupon instead.", "negative_amount")
    if _decimals(item.amount) > 12:
        wrong("amount", "At most 12 decimals.", "too_many_decimals")
    if plan.kind == Plan.Kind.ASSIGNED and item.amount:
        wrong("amount", "An assigned plan is never invoiced, so it cannot have a fee.", "price_on_assigned_plan")
    if item.quantity < 1:
        wrong("quantity", "The quantity is a whole number of 1 or more.", "bad_quantity")
    if item.cadence != ONCE:
        _check_interval(cadence, item.cadence, [*PLAN_CADENCES, ONCE], wrong)


def _check_interval(plan_cadence: str, interval: str, allowed: list[str], wrong: Wrong) -> None:
    if interval not in PLAN_CADENCES:
        wrong("cadence", UnknownCadence(interval, allowed).messages[0], "unknown_cadence")
    elif Cadence.parse(interval).months > Cadence.parse(plan_cadence).months:
        wrong("cadence", "An item cannot be billed less often than its plan.", "longer_than_plan")


def _check_allowance(plan: Plan, cadence: str, item: ItemTerms, wrong: Wrong) -> None:
    assert item.feature is not None
    if item.amount is not None:
        wrong("amount", "A fee is a line of its own.", "fee_on_feature")
    if item.quantity != 1:
        wrong("quantity", "Only fees have a quantity.", "quantity_on_feature")
    if item.feature.type != METERED:
        if item.price is not None:
            wrong("price", "Only metered features can be priced by use.", "price_on_unmetered")
        if item.included is not None:
            wrong("included", "Only metered features include units.", "included_on_unmetered")
        if item.feature.type == STATIC and not item.value and not item.unlimited:
            wrong("value", "Give a number or a text, or tick unlimited.", "missing_value")
        if item.feature.type == BOOLEAN and (item.value or item.unlimited):
            wrong("value", "An on/off feature is on when it is on the plan; it takes no value.", "value_on_boolean")
        return
    if item.included is not None and item.included < 0:
        wrong("included", "The included amount cannot be below zero.", "negative_included")
    if item.unlimited and item.included is not None:
        wrong("included", "Either unlimited or a number, not both.", "unlimited_and_number")
    if item.reset not in RESETS:
        wrong("reset", f"Allowed: {', '.join(RESETS)}.", "unknown_cadence")
    if item.feature.is_allocated and item.reset != NEVER:
        wrong("reset", "An allocated feature is a level, so it never resets.", "allocated_resets")
    if item.max_overage is not None and item.max_overage < 0:
        wrong("max_overage", "The cap on overage cannot be below zero.", "negative_max_overage")
    if item.price is None:
        return
    if item.cadence:
        _check_interval(cadence, item.cadence, list(PLAN_CADENCES), wrong)
    if item.price < 0:
        wrong("price", "A usage price cannot be negative.", "negative_price")
    if _decimals(item.price) > 12:
        wrong("price", "At most 12 decimals per unit.", "too_many_decimals")
    if item.unlimited:
        wrong("price", "Unlimited usage has no overage to price.", "price_on_unlimited")
    if plan.kind == Plan.Kind.ASSIGNED and item.price:
        wrong("price", "An assigned plan is never invoiced, so usage cannot be priced.", "price_on_assigned_plan")
    if item.reset == NEVER:
        wrong("reset", "Usage that is billed needs a reset, so that there is an end to bill at.", "priced_never_resets")


def _decimals(value: Decimal) -> int:
    return max(0, -int(value.normalize().as_tuple().exponent))


def check_currency(currency: str, allowed: Sequence[str]) -> None:
    exponent(currency)
    if currency not in allowed:
        raise ValidationError(
            f"{currency} is not a currency of this account. Allowed: {', '.join(allowed)}.", code="foreign_currency"
        )


@transaction.atomic
def create_product(name: str, *, by: str, currency: str) -> Plan:
    """A product and its assigned plan of the same name, with an empty draft to define its access in."""
    name = name.strip()
    if not name:
        raise ValidationError("Give the product a name.", code="name_required")
    product = Product.objects.create(key=unique_key(Product, name), name=name)
    return create_plan(product, name=name, kind=Plan.Kind.ASSIGNED, currency=currency, by=by)


@transaction.atomic
def create_plan(
    product: Product,
    *,
    name: str,
    by: str,
    currency: str,
    kind: str = Plan.Kind.BILLED,
    invoice_display_name: str = "",
    key: str = "",
    cadence: str = "P1M",
    add_on: bool = False,
    billing_version: int = 1,
    items: Sequence[ItemTerms] = (),
) -> Plan:
    """A plan with a first draft. Raises `ValidationError` for names, keys, currency, billing version and items."""
    plan = Plan(
        product=product,
        key=key or unique_key(Plan, name),
        name=name.strip(),
        invoice_display_name=(invoice_display_name or name).strip(),
        kind=kind,
        currency=currency,
        add_on=add_on,
        billing_version=billing_version,
    )
    plan.full_clean()
    plan.save()
    draft = PlanVersion.objects.create(plan=plan, number=1, cadence=cadence, created_by=by)
    if items:
        write_items(draft, items)
    return plan


@transaction.atomic
def open_draft(plan: Plan, *, by: str) -> PlanVersion:
    """The plan's draft: the one that is open, or a new one that starts as a copy of the current version."""
    Plan.objects.select_for_update().get(pk=plan.pk)
    draft = plan.versions.filter(state=PlanVersion.State.DRAFT, tailored=False).first()
    if draft:
        return draft
    current = plan.current_version
    draft = PlanVersion.objects.create(
        plan=plan,
        number=_next_number(plan, tailored=False),
        cadence=current.cadence if current else "P1M",
        created_by=by,
    )
    if current:
        _insert(draft, current.terms().items)
    return draft


@transaction.atomic
def write_items(draft: PlanVersion, items: Sequence[ItemTerms], *, cadence: str | None = None) -> None:
    """Replace the items of a draft; their order is the order of the sequence."""
    draft = PlanVersion.objects.select_for_update(of=("self",)).select_related("plan").get(pk=draft.pk)
    if draft.is_frozen:
        raise VersionFrozen(draft)
    cadence = cadence or draft.cadence
    check_items(draft.plan, cadence, items)
    if cadence != draft.cadence:
        draft.cadence = cadence
        draft.save(update_fields=["cadence"])
    draft.items.all().delete()
    _insert(draft, items)


def _insert(version: PlanVersion, items: Sequence[ItemTerms]) -> None:
    slugs = [item.feature.slug for item in items if item.feature]
    features = Feature.objects.in_bulk(slugs, field_name="slug") if slugs else {}
    PlanItem.objects.bulk_create(
        PlanItem(
            version=version,
            position=position,
            key=item.key,
            name=item.name,
            feature=features[item.feature.slug] if item.feature else None,
            amount=item.amount,
            cadence=item.cadence if item.is_fee or item.price is not None else "",
            quantity=item.quantity,
            included=item.included,
            unlimited=item.unlimited,
            reset=item.reset,
            reset_anchor=item.reset_anchor,
            limit=item.limit,
            max_overage=item.max_overage,
            price=item.price,
            price_per=item.price_per,
            value=item.value,
        )
        for position, item in enumerate(items)
    )


@transaction.atomic
def publish(draft: PlanVersion, *, message: str, by: str, now: datetime) -> PlanVersion:
    """Freeze a draft and make it what new subscriptions take. A default plan keeps one live version only."""
    plan = Plan.objects.select_for_update(of=("self",)).get(pk=draft.plan_id)
    draft = PlanVersion.objects.with_items().get(pk=draft.pk)
    if draft.is_frozen:
        raise VersionFrozen(draft)
    items = read_items(draft)
    if not items and plan.kind == Plan.Kind.BILLED:
        raise CannotPublish("A billed plan needs at least one item before it can be published.")
    if plan.current_version_id and not message.strip():
        raise ValidationError("Say in a few words what this version changes.", code="message_required")
    check_items(plan, draft.cadence, items)
    former = plan.current_version if plan.is_default else None
    draft.state, draft.published_at = PlanVersion.State.PUBLISHED, now
    draft.commit_message, draft.created_by = message.strip(), draft.created_by or by
    draft.save(update_fields=["state", "published_at", "commit_message", "created_by"])
    plan.current_version = draft
    plan.save(update_fields=["current_version"])
    if former:
        archive_version(former, now=now)
    return draft


def read_items(version: PlanVersion) -> list[ItemTerms]:
    return [item.terms() for item in version.items.select_related("feature")]


@transaction.atomic
def tailor(plan: Plan, proposal: PlanTerms, *, by: str, reason: str, now: datetime) -> PlanVersion:
    """A published version for one customer only. The base, and everybody on it, stays as it is."""
    plan = Plan.objects.select_for_update(of=("self",)).get(pk=plan.pk)
    check_items(plan, proposal.cadence, proposal.items)
    version = PlanVersion.objects.create(
        plan=plan,
        number=_next_number(plan, tailored=True),
        tailored=True,
        cadence=proposal.cadence,
        commit_message=reason[:500],
        created_by=by,
    )
    _insert(version, proposal.items)
    version.state, version.published_at = PlanVersion.State.PUBLISHED, now
    version.save(update_fields=["state", "published_at"])
    return version


def _next_number(plan: Plan, *, tailored: bool) -> int:
    return (plan.versions.filter(tailored=tailored).aggregate(top=Max("number"))["top"] or 0) + 1


@transaction.atomic
def make_current(version: PlanVersion) -> None:
    """Offer an older published version to new subscriptions again."""
    if version.tailored or version.state != PlanVersion.State.PUBLISHED:
        raise ValidationError("Only a published standard version can be made current.", code="not_published")
    plan = Plan.objects.select_for_update(of=("self",)).get(pk=version.plan_id)
    plan.current_version = version
    plan.save(update_fields=["current_version"])


def archive_version(version: PlanVersion, *, now: datetime) -> None:
    """Take a version off the shelf; whoever is pinned to it stays on it."""
    version.state, version.archived_at = PlanVersion.State.ARCHIVED, now
    version.save(update_fields=["state", "archived_at"])


@transaction.atomic
def duplicate_access(source: Plan, target: Plan, *, by: str) -> PlanVersion:
    """Write the source's features (without prices) into the target's draft; the target keeps its own fees."""
    if source.current_version is None:
        raise ValidationError(f"{source.name} has no published version to copy from.", code="not_published")
    draft = open_draft(target, by=by)
    kept = [item for item in read_items(draft) if item.is_fee]
    taken = {item.key for item in kept}
    copied = [_without_price(i, taken) for i in source.current_version.terms().items if i.feature]
    write_items(draft, kept + copied)
    return draft


def _without_price(item: ItemTerms, taken: set[str]) -> ItemTerms:
    key = item.key if item.key not in taken else f"{item.key}-access"
    return replace(item, key=key, price=None, price_per=1, id=None)


@transaction.atomic
def make_default(plan: Plan, *, confirmed: bool) -> None:
    """Let an assigned plan apply to whoever has nothing else. The flag moves in one transaction, when confirmed."""
    present = Plan.objects.select_for_update(of=("self",)).default().first()
    if present and present.pk == plan.pk:
        return
    if plan.kind != Plan.Kind.ASSIGNED or plan.add_on:
        raise CannotBeDefault("Only an assigned plan that is no add-on can be the default.")
    if plan.archived_at or plan.current_version is None:
        raise CannotBeDefault(f"Publish {plan.name} first: the default needs a live version.")
    if plan.versions.standard().live().count() > 1:
        raise CannotBeDefault(f"{plan.name} has more than one live version. Archive the older ones first.")
    if present and not confirmed:
        raise DefaultExists(present)
    if present:
        present.is_default = False
        present.save(update_fields=["is_default"])
    plan.is_default = True
    plan.save(update_fields=["is_default"])


def unset_default(plan: Plan) -> None:
    plan.is_default = False
    plan.save(update_fields=["is_default"])
