"""Meters: how events that an application reports become units of features."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from ninja import Router
from pydantic import Field

from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.refusals import NotFound
from billing_admin.api.shapes import Answer, Body, Slug
from billing_admin.flows import meters as verbs
from catalog.models import Meter, unique_key

router = Router(tags=["Meters"])

VIEW, ADD, CHANGE = "catalog.view_meter", "catalog.add_meter", "catalog.change_meter"
Word = Annotated[str, Field(min_length=1, max_length=120)]
Rule = Literal["sum", "count", "max", "unique_count", "latest", "time_average"]
Filters = Annotated[
    dict[str, list[str | int | float | bool] | str | int | float | bool],
    Field(max_length=20, description="By property, the values that count; all of them have to match."),
]
EXAMPLE = {
    "name": "Tokens of large models",
    "eventName": "completion",
    "aggregation": "sum",
    "property": "tokens",
    "filters": {"model": ["large", "huge"]},
}


class MeterIn(Body):
    slug: Slug | None = Field(None, description="Made from the name when left out.")
    name: Word
    event_name: Word = Field(description="The events that it reads.")
    aggregation: Rule = "sum"
    property: Annotated[str, Field(max_length=120)] = Field("", description="Where the value stands; empty: `value`.")
    filters: Filters = Field(default_factory=dict)


class MeterChange(Body):
    """Only the name changes once an event was counted."""

    name: Word | None = None
    event_name: Word | None = None
    aggregation: Rule | None = None
    property: Annotated[str, Field(max_length=120)] | None = None
    filters: Filters | None = None


class MeterOut(Answer):
    slug: str
    name: str
    event_name: str
    aggregation: str
    property: str
    filters: dict[str, list[str]]
    features: list[str] = Field(description="Slugs of the features that count by it.")
    archived_at: datetime | None

    @classmethod
    def of(cls, meter: Meter) -> Self:
        return cls(
            slug=meter.slug,
            name=meter.name,
            event_name=meter.event_name,
            aggregation=meter.aggregation,
            property=meter.property,
            filters=meter.filters,
            features=sorted(feature.slug for feature in meter.features.all()),
            archived_at=meter.archived_at,
        )


class MetersOut(Answer):
    data: list[MeterOut]


def find_meter(slug: str) -> Meter:
    found: Meter | None = Meter.objects.prefetch_related("features").filter(slug=slug).first()
    if found is None:
        raise NotFound("meter", slug)
    return found


@endpoint(router, "GET", "/meters", needs=VIEW, gives=MetersOut)
def list_meters(request: ApiRequest) -> MetersOut:
    """List all meters."""
    return MetersOut(data=[MeterOut.of(meter) for meter in Meter.objects.prefetch_related("features")])


@endpoint(router, "GET", "/meters/{slug}", needs=VIEW, gives=MeterOut, refuses=[404])
def read_meter(request: ApiRequest, slug: Slug) -> MeterOut:
    """Read a meter."""
    return MeterOut.of(find_meter(slug))


@endpoint(router, "POST", "/meters", needs=ADD, gives=MeterOut, status=201, refuses=[409], example=EXAMPLE)
def create_meter(request: ApiRequest, body: MeterIn) -> MeterOut:
    """Create a meter.

    Choose it on a metered feature, and that feature counts the events that are reported to `POST /events`.
    """
    meter = Meter(
        slug=body.slug or unique_key(Meter, body.name, "slug"),
        name=body.name,
        event_name=body.event_name,
        aggregation=body.aggregation,
        property=body.property,
        filters=body.filters,
    )
    return MeterOut.of(verbs.save_meter(meter, actor=request.auth.actor, now=request.now))


@endpoint(
    router,
    "PATCH",
    "/meters/{slug}",
    needs=CHANGE,
    gives=MeterOut,
    refuses=[404, 409],
    example={"name": "Tokens"},
)
def change_meter(request: ApiRequest, slug: Slug, body: MeterChange) -> MeterOut:
    """Change a meter; its rule only while no event was counted by it."""
    meter = find_meter(slug)
    wanted: dict[str, Any] = body.model_dump(exclude_unset=True, exclude_none=True)
    for name, value in wanted.items():
        setattr(meter, name, value)
    verbs.save_meter(meter, actor=request.auth.actor, now=request.now)
    return MeterOut.of(find_meter(slug))


@endpoint(router, "POST", "/meters/{slug}/archive", needs=CHANGE, gives=MeterOut, refuses=[404, 409])
def archive_meter(request: ApiRequest, slug: Slug) -> MeterOut:
    """Archive a meter that no feature counts by any more."""
    meter = find_meter(slug)
    verbs.archive_meter(meter, actor=request.auth.actor, now=request.now)
    return MeterOut.of(meter)


@endpoint(router, "POST", "/meters/{slug}/restore", needs=CHANGE, gives=MeterOut, refuses=[404])
def restore_meter(request: ApiRequest, slug: Slug) -> MeterOut:
    """Restore an archived meter."""
    meter = find_meter(slug)
    verbs.restore_meter(meter, actor=request.auth.actor, now=request.now)
    return MeterOut.of(meter)
