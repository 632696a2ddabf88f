"""Verbs of the catalog: write a draft, publish it, tailor a version for one customer, choose the current one.

Nothing here touches a published item; a change of what is sold is always a new version.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max

from catalog.items import check_conditions, check_items
from catalog.models import Feature, Plan, PlanItem, PlanVersion, Product, unique_key
from catalog.terms import Conditions, ItemTerms, PlanTerms


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
        created_by=by,
        **(conditions_of(current) if current else {}),
    )
    if current:
        _insert(draft, current.terms().items)
    return draft


def conditions_of(source: PlanVersion | PlanTerms) -> dict[str, Any]:
    """What a version says beside its items: cadence, trial, commitment."""
    return {name: getattr(source, name) for name in ("cadence", "trial_days", "trial_end", "commitment")}


@transaction.atomic
def write_conditions(draft: PlanVersion, conditions: Conditions) -> None:
    """Set the trial and the minimum commitment of a draft. Raises `ValidationError` naming the field."""
    draft = PlanVersion.objects.select_for_update(of=("self",)).select_related("plan").get(pk=draft.pk)
    if draft.is_frozen:
        raise VersionFrozen(draft)
    check_conditions(draft.plan, conditions)
    draft.trial_days, draft.trial_end = conditions.trial_days, conditions.trial_end
    draft.commitment = conditions.commitment
    draft.save(update_fields=["trial_days", "trial_end", "commitment"])


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
            rollover=None if item.rollover is None else item.rollover.to_json(),
            keeps_overage=item.keeps_overage,
            price=None if item.price is None else item.price.to_json(),
            term=item.term,
            on_increase=item.on_increase,
            on_decrease=item.on_decrease,
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


@transaction.atomic
def republish_fees(
    plan: Plan, fees: Sequence[ItemTerms], *, cadence: str, message: str, by: str, now: datetime
) -> PlanVersion:
    """Another current version that differs in its fees only. A draft that is open stays one, with the new fees."""
    draft = plan.versions.filter(state=PlanVersion.State.DRAFT, tailored=False).first()
    kept = _access_of(draft) if draft else None
    if draft:
        draft.delete()
    fresh = open_draft(plan, by=by)
    write_items(fresh, [*fees, *_access_of(fresh)], cadence=cadence)
    version = publish(fresh, message=message, by=by, now=now)
    if kept is not None:
        plan.refresh_from_db()
        write_items(open_draft(plan, by=by), [*fees, *kept], cadence=cadence)
    return version


def _access_of(version: PlanVersion) -> list[ItemTerms]:
    return [item for item in read_items(version) if item.feature]


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
        commit_message=reason[:500],
        created_by=by,
        **conditions_of(proposal),
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
    return replace(item, key=key, price=None, term="", cadence="", id=None)


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
