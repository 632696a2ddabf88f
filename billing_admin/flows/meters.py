"""Acts on meters. What a meter reads is fixed once it has counted an event: numbers of one window would mean two
things. Another rule is another meter.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from catalog.models import Feature, Meter
from catalog.terms import METERED
from customers.journal import Actor, record
from entitlements.meters import Aggregation, text_of
from entitlements.models import UsageEvent

RULE = ("event_name", "aggregation", "property", "filters")
STATELESS = ("", Aggregation.SUM, Aggregation.COUNT)


class MeterInUse(ValidationError):
    def __init__(self, field: str):
        sentence = (
            "This meter has counted events, so its rule is fixed. Make another meter, and choose it on a feature."
        )
        super().__init__({field: ValidationError(sentence, code="fixed")})


class MeterOfFeatureFixed(ValidationError):
    def __init__(self, name: str):
        sentence = f"{name} has counted events by its meter; another rule takes another feature."
        super().__init__({"meter": ValidationError(sentence, code="fixed")})


def filters_of(found: Mapping[str, Any]) -> dict[str, list[str]]:
    """Filters in one form: by property, the texts that count, each once. Raises `ValidationError`."""
    filters = {}
    for name, values in found.items():
        wanted = values if isinstance(values, list | tuple) else [values]
        texts = list(dict.fromkeys(text_of(value).strip() for value in wanted))
        if not name.strip() or not texts or not all(texts):
            raise ValidationError(
                {"filters": ValidationError("Each filter names a property and values.", "bad_filter")}
            )
        filters[name.strip()] = texts
    return filters


def has_counted(meter: Meter) -> bool:
    """Whether an event was ever counted by this meter and is still in the database."""
    return UsageEvent.objects.filter(feature__meter=meter, name=meter.event_name).exists()


@transaction.atomic
def save_meter(meter: Meter, *, actor: Actor, now: datetime) -> Meter:
    """Make a meter, or change one. Raises `MeterInUse`, and `ValidationError` by field."""
    is_new = meter._state.adding
    meter.name, meter.event_name, meter.property = meter.name.strip(), meter.event_name.strip(), meter.property.strip()
    meter.filters = filters_of(meter.filters or {})
    if not is_new:
        before = Meter.objects.select_for_update().get(pk=meter.pk)
        changed = [field for field in RULE if getattr(before, field) != getattr(meter, field)]
        if changed and has_counted(before):
            raise MeterInUse(changed[0])
    meter.full_clean()
    if meter.aggregation == Aggregation.UNIQUE_COUNT and not meter.property:
        sentence = "Say which property it counts the different values of."
        raise ValidationError({"property": ValidationError(sentence, code="property_required")})
    meter.save()
    done = "created" if is_new else "edited"
    inputs = {"slug": meter.slug, **{field: getattr(meter, field) for field in RULE}}
    record(None, f"meter.{done}", f"Meter {meter.name} was {done}", actor=actor, now=now, inputs=inputs)
    return meter


@transaction.atomic
def archive_meter(meter: Meter, *, actor: Actor, now: datetime) -> None:
    """Its events are no longer read. Refused while a feature that is offered counts by it."""
    using = meter.features.offered().first()
    if using is not None:
        raise ValidationError(f"{using.name} counts by this meter. Choose another there first.", code="meter_in_use")
    meter.archived_at = now
    meter.save(update_fields=["archived_at"])
    told = f"Meter {meter.name} was archived"
    record(None, "meter.archived", told, actor=actor, now=now, inputs={"slug": meter.slug})


@transaction.atomic
def restore_meter(meter: Meter, *, actor: Actor, now: datetime) -> None:
    meter.archived_at = None
    meter.save(update_fields=["archived_at"])
    told = f"Meter {meter.name} was restored"
    record(None, "meter.restored", told, actor=actor, now=now, inputs={"slug": meter.slug})


def check_meter_of(feature: Feature) -> None:
    """Refuse a meter for what is not metered, and another one where windows keep what the former said."""
    if feature.meter is not None and feature.type != METERED:
        sentence = "Only metered features count events."
        raise ValidationError({"meter": ValidationError(sentence, code="not_metered")})
    if feature._state.adding:
        return
    before = Feature.objects.select_related("meter").get(pk=feature.pk)
    if before.meter_id == feature.meter_id:
        return
    rules = [meter.aggregation if meter else "" for meter in (before.meter, feature.meter)]
    if any(rule not in STATELESS for rule in rules) and UsageEvent.objects.filter(feature=feature).exists():
        raise MeterOfFeatureFixed(feature.name)
