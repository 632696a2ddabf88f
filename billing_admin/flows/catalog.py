"""Acts on what we sell: each calls one verb of the catalog and writes one line in the journal.

What the catalog cannot know is asked here first: whether somebody has subscribed to a plan.
"""

from collections.abc import Sequence
from datetime import datetime

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet

from billing_admin.flows.meters import check_meter_of
from catalog import publish as verbs
from catalog.after import after_commit
from catalog.items import InvalidItems, check_currency, check_items
from catalog.models import Feature, Plan, PlanItem, PlanVersion, Product, unique_key
from catalog.terms import Conditions, ItemTerms, differences
from customers.journal import Actor, record
from customers.models import Subscription
from customers.states import SubscriptionState

GONE = (SubscriptionState.ENDED, SubscriptionState.WITHDRAWN)
# What of a plan changes in place.
EDITED = ("name", "invoice_display_name", "description", "currency", "billing_version")


class MirroredFromStripe(ValidationError):
    def __init__(self, plan: Plan):
        super().__init__(
            f"{plan.name} is mirrored from Stripe: change its name and prices there. Its features can be changed here.",
            code="mirrored_from_stripe",
        )


class CurrencyFixed(ValidationError):
    def __init__(self) -> None:
        super().__init__(
            {"currency": ValidationError("The currency is fixed: the plan has prices or subscriptions.", "fixed")}
        )


class BillingVersionFixed(ValidationError):
    def __init__(self) -> None:
        super().__init__(
            {"billing_version": ValidationError("The billing version is fixed: the plan has subscriptions.", "fixed")}
        )


class CustomersAssigned(ValidationError):
    def __init__(self, plan: Plan, count: int):
        who = "1 customer is" if count == 1 else f"{count:,} customers are"
        super().__init__(
            f"{who} assigned to {plan.name}. A default plan applies without being assigned: move them first.",
            code="customers_assigned",
        )


@transaction.atomic
def create_product(name: str, *, actor: Actor, now: datetime) -> Plan:
    plan = verbs.create_product(name, by=actor.name, currency=settings.CURRENCIES[0])
    record(
        None,
        "product.created",
        f"Product {plan.product.name} was created",
        actor=actor,
        now=now,
        effects={"product": plan.product.key, "plan": plan.key},
    )
    return plan


@transaction.atomic
def add_product(name: str, *, key: str = "", description: str = "", actor: Actor, now: datetime) -> Product:
    """A product whose plans come later."""
    name = name.strip()
    product = Product(key=key or unique_key(Product, name), name=name, description=description.strip())
    product.full_clean()
    product.save()
    effects = {"product": product.key}
    record(None, "product.created", f"Product {name} was created", actor=actor, now=now, effects=effects)
    return product


@transaction.atomic
def edit_product(product: Product, *, name: str, description: str, actor: Actor, now: datetime) -> None:
    before, was = product.name, {"name": product.name, "description": product.description}
    product.name, product.description = name.strip(), description.strip()
    product.full_clean()
    product.save()
    record(
        None,
        "product.edited",
        f"Product {before} was edited",
        actor=actor,
        now=now,
        inputs={"product": product.key, "name": product.name, "description": product.description},
        effects={"before": was},
    )


@transaction.atomic
def create_plan(
    product: Product,
    *,
    name: str,
    invoice_display_name: str,
    kind: str,
    currency: str,
    cadence: str,
    add_on: bool,
    billing_version: int,
    key: str = "",
    actor: Actor,
    now: datetime,
) -> Plan:
    check_currency(currency, settings.CURRENCIES)
    plan = verbs.create_plan(
        product,
        name=name,
        invoice_display_name=invoice_display_name,
        kind=kind,
        currency=currency,
        cadence=cadence,
        add_on=add_on,
        billing_version=billing_version,
        key=key,
        by=actor.name,
    )
    record(
        None,
        "plan.created",
        f"Plan {plan.name} of {product.name} was created",
        actor=actor,
        now=now,
        inputs={"kind": kind, "currency": currency, "cadence": cadence, "billing_version": billing_version},
        effects={"plan": plan.key},
    )
    return plan


@transaction.atomic
def edit_plan(
    plan: Plan,
    *,
    name: str,
    invoice_display_name: str,
    description: str,
    currency: str,
    billing_version: int,
    actor: Actor,
    now: datetime,
) -> None:
    """Name, description and the like change in place, without a version; money words only while nobody pays."""
    plan = Plan.objects.select_for_update(of=("self",)).get(pk=plan.pk)
    if plan.is_read_only and (name, invoice_display_name) != (plan.name, plan.invoice_display_name):
        raise MirroredFromStripe(plan)
    if currency != plan.currency:
        if is_priced(plan) or subscriptions_of(plan).exists():
            raise CurrencyFixed
        check_currency(currency, settings.CURRENCIES)
    if billing_version != plan.billing_version and subscriptions_of(plan).exists():
        raise BillingVersionFixed
    before = {field: getattr(plan, field) for field in EDITED}
    if billing_version != plan.billing_version:
        _refuse_misfits(plan, billing_version)
    plan.name, plan.invoice_display_name = name.strip(), invoice_display_name.strip()
    plan.description, plan.currency, plan.billing_version = description.strip(), currency, billing_version
    plan.full_clean()
    plan.save()
    record(
        None,
        "plan.edited",
        f"Plan {before['name']} was edited",
        actor=actor,
        now=now,
        inputs={"plan": plan.key, **{field: getattr(plan, field) for field in EDITED}},
        effects={"before": before},
    )


def _refuse_misfits(plan: Plan, billing_version: int) -> None:
    """Items that are sold, or about to be, must be allowed under the other billing version, too."""
    plan.billing_version = billing_version
    for version in PlanVersion.objects.with_items().standard().filter(plan=plan).exclude(state="archived"):
        try:
            check_items(plan, version.cadence, version.terms().items)
        except InvalidItems as refused:
            sentence = f"The items of {version.label} do not go with it. {refused.errors[0].message}"
            raise ValidationError({"billing_version": ValidationError(sentence, code="items_do_not_fit")}) from None


def is_priced(plan: Plan) -> bool:
    items = PlanItem.objects.filter(version__plan=plan)
    return items.filter(Q(amount__isnull=False) | Q(price__isnull=False)).exists()


def subscriptions_of(plan: Plan) -> "QuerySet[Subscription]":
    """Every contract that ever ran, or will run, on the plan."""
    return Subscription.objects.filter(phases__version__plan=plan, phases__withdrawn_at=None).distinct()


def assigned_to(plan: Plan, *, now: datetime) -> "QuerySet[Subscription]":
    """Contracts that run on the plan, or are to."""
    ahead = Q(phases__ends_at=None) | Q(phases__ends_at__gt=now)
    kept = Q(phases__version__plan=plan, phases__withdrawn_at=None)
    return Subscription.objects.exclude(state__in=GONE).filter(kept & ahead).distinct()


@transaction.atomic
def save_draft(
    plan: Plan,
    items: Sequence[ItemTerms],
    *,
    cadence: str,
    conditions: Conditions | None = None,
    actor: Actor,
    now: datetime,
) -> PlanVersion:
    draft = _filled(plan, items, cadence, conditions, actor)
    record(
        None,
        "plan.draft_saved",
        f"Draft v{draft.number} of {plan.name} was saved",
        actor=actor,
        now=now,
        inputs={"items": [item.key for item in items], "cadence": cadence},
    )
    return draft


@transaction.atomic
def discard_draft(plan: Plan, *, actor: Actor, now: datetime) -> None:
    draft = plan.versions.filter(state=PlanVersion.State.DRAFT, tailored=False).first()
    if draft is None:
        raise ValidationError(f"{plan.name} has no draft. Somebody may have discarded it just now.", code="no_draft")
    draft.delete()
    record(None, "plan.draft_discarded", f"Draft v{draft.number} of {plan.name} was discarded", actor=actor, now=now)


@transaction.atomic
def publish(plan: Plan, *, message: str, actor: Actor, now: datetime) -> PlanVersion:
    draft = plan.versions.filter(state=PlanVersion.State.DRAFT, tailored=False).first()
    if draft is None:
        raise verbs.CannotPublish(f"{plan.name} has no draft. Somebody may have published it just now.")
    before = plan.current_version.terms() if plan.current_version else None
    version = verbs.publish(draft, message=message, by=actor.name, now=now)
    changes = differences(before, version.terms()) if before else []
    record(
        None,
        "plan.published",
        f"{plan.name} {version.label} was published",
        actor=actor,
        now=now,
        reason=message,
        effects={"version": version.number, "changes": [c.sentence(plan.currency) for c in changes]},
    )
    if plan.kind == Plan.Kind.STRIPE:
        hand_over()
    return version


def hand_over() -> None:
    """Subscribers of a mirrored plan follow its newest version: a worker sees to it, once it is written."""
    from billing_admin.tasks import mirror_due  # Celery takes memory that web processes need only here

    after_commit(mirror_due.apply_async, retry=False)


@transaction.atomic
def update(
    plan: Plan,
    items: Sequence[ItemTerms],
    *,
    cadence: str,
    conditions: Conditions | None = None,
    message: str,
    actor: Actor,
    now: datetime,
) -> PlanVersion:
    """Save the draft and publish it in one go."""
    _filled(plan, items, cadence, conditions, actor)
    return publish(plan, message=message, actor=actor, now=now)


def _filled(
    plan: Plan, items: Sequence[ItemTerms], cadence: str, conditions: Conditions | None, actor: Actor
) -> PlanVersion:
    """The draft with these items; conditions that are not given stay what they are."""
    draft = verbs.open_draft(plan, by=actor.name)
    if plan.is_read_only:
        _refuse_other_prices(plan, draft, items, cadence)
    if conditions is not None:
        verbs.write_conditions(draft, conditions)
    verbs.write_items(draft, items, cadence=cadence)
    return draft


def _refuse_other_prices(plan: Plan, draft: PlanVersion, items: Sequence[ItemTerms], cadence: str) -> None:
    """What a mirrored plan costs, and how often, stays as it is."""
    present = verbs.read_items(draft)

    def priced(found: Sequence[ItemTerms]) -> list[tuple]:
        fees = sorted((i.key, i.amount, i.cadence, i.quantity) for i in found if i.is_fee)
        return [*fees, *sorted((i.key, str(i.price)) for i in found if i.price is not None)]

    if cadence != draft.cadence or priced(items) != priced(present):
        raise MirroredFromStripe(plan)


@transaction.atomic
def make_current(version: PlanVersion, *, actor: Actor, now: datetime) -> None:
    former = Plan.objects.get(pk=version.plan_id).current_version_id
    verbs.make_current(version)
    told = f"{version} is sold to new subscriptions again"
    effects = {"plan": version.plan.key, "version": version.pk, "former": former}
    record(None, "plan.made_current", told, actor=actor, now=now, effects=effects)


@transaction.atomic
def archive_version(version: PlanVersion, *, reason: str, actor: Actor, now: datetime) -> None:
    version = PlanVersion.objects.select_for_update(of=("self",)).select_related("plan").get(pk=version.pk)
    if version.plan.current_version_id == version.pk:
        raise ValidationError(
            f"{version} is what new subscriptions take. Make another version current first.", code="is_current"
        )
    if version.state != PlanVersion.State.PUBLISHED:
        raise ValidationError("Only a published version can be archived.", code="not_published")
    verbs.archive_version(version, now=now)
    record(None, "version.archived", f"{version} was archived", actor=actor, now=now, reason=reason)


@transaction.atomic
def archive_plan(plan: Plan, *, reason: str, actor: Actor, now: datetime) -> None:
    """Off the shelf: nobody new can take it; whoever is on it stays."""
    plan = Plan.objects.select_for_update(of=("self",)).get(pk=plan.pk)
    if plan.is_default:
        raise ValidationError(
            f"{plan.name} is the default product. Make another plan the default first.", code="is_default"
        )
    if plan.is_read_only:
        raise MirroredFromStripe(plan)
    plan.archived_at = now
    plan.save(update_fields=["archived_at"])
    record(None, "plan.archived", f"Plan {plan.name} was archived", actor=actor, now=now, reason=reason,
           inputs={"plan": plan.key})  # fmt: skip


@transaction.atomic
def restore_plan(plan: Plan, *, actor: Actor, now: datetime) -> None:
    if plan.is_read_only:
        raise MirroredFromStripe(plan)
    plan.archived_at = None
    plan.save(update_fields=["archived_at"])
    record(None, "plan.restored", f"Plan {plan.name} was restored", actor=actor, now=now, inputs={"plan": plan.key})


@transaction.atomic
def duplicate_access(source: Plan, target: Plan, *, actor: Actor, now: datetime) -> PlanVersion:
    draft = verbs.duplicate_access(source, target, by=actor.name)
    record(
        None,
        "plan.access_duplicated",
        f"Features of {source.name} were copied into {target.name} v{draft.number}",
        actor=actor,
        now=now,
        inputs={"from": source.key, "to": target.key},
    )
    return draft


@transaction.atomic
def make_default(plan: Plan, *, confirmed: bool, actor: Actor, now: datetime) -> None:
    """The flag moves in one transaction. Refused while somebody is assigned to the plan."""
    if count := assigned_to(plan, now=now).values("customer").distinct().count():
        raise CustomersAssigned(plan, count)
    former = Plan.objects.default().first()
    verbs.make_default(plan, confirmed=confirmed)
    record(
        None,
        "plan.made_default",
        f"{plan.name} is the default product" + (f" instead of {former.name}" if former else ""),
        actor=actor,
        now=now,
        effects={"plan": plan.key, "former": former.key if former else None},
    )


@transaction.atomic
def unset_default(plan: Plan, *, actor: Actor, now: datetime) -> None:
    verbs.unset_default(plan)
    told = f"{plan.name} is no longer the default product"
    record(None, "plan.unset_default", told, actor=actor, now=now, effects={"plan": plan.key})


@transaction.atomic
def save_feature(feature: Feature, *, actor: Actor, now: datetime) -> Feature:
    is_new = feature.pk is None
    feature.full_clean()
    check_meter_of(feature)
    feature.save()
    done = "created" if is_new else "edited"
    record(
        None,
        f"feature.{done}",
        f"Feature {feature.name} was {done}",
        actor=actor,
        now=now,
        inputs={
            "slug": feature.slug,
            "type": feature.type,
            "usage": feature.usage,
            "unit": feature.unit,
            "meter": feature.meter.slug if feature.meter else None,
        },
    )
    return feature


@transaction.atomic
def archive_feature(feature: Feature, *, actor: Actor, now: datetime) -> None:
    """No new plan may use it; plans that have it keep it."""
    feature.archived_at = now
    feature.save(update_fields=["archived_at"])
    told = f"Feature {feature.name} was archived"
    record(None, "feature.archived", told, actor=actor, now=now, inputs={"feature": feature.slug})


@transaction.atomic
def restore_feature(feature: Feature, *, actor: Actor, now: datetime) -> None:
    feature.archived_at = None
    feature.save(update_fields=["archived_at"])
    told = f"Feature {feature.name} was restored"
    record(None, "feature.restored", told, actor=actor, now=now, inputs={"feature": feature.slug})


@transaction.atomic
def delete_feature(feature: Feature, *, actor: Actor, now: datetime) -> None:
    if feature.items.exists():
        raise ValidationError(f"{feature.name} is used on plans. Archive it instead.", code="feature_in_use")
    feature.delete()
    record(None, "feature.deleted", f"Feature {feature.name} was deleted; no plan used it", actor=actor, now=now)
