"""Features as the hot path has to know them."""

from dataclasses import dataclass

from catalog.models import Feature, Meter
from catalog.terms import FeatureTerms
from entitlements.readings import feature_terms

LASTS = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class KnownFeature:
    """`has_rule`: a meter says what its events count, instead of the value that is reported; `moves_in_time`: its use
    grows without any."""

    id: int
    terms: FeatureTerms
    has_rule: bool
    moves_in_time: bool


def read_feature(slug: str) -> KnownFeature | None:
    row = Feature.objects.select_related("meter").filter(slug=slug).first()
    if row is None:
        return None
    feature_terms([row.pk])  # deciding asks for it where nothing may be read any more
    averaged = row.meter is not None and row.meter.aggregation == Meter.Aggregation.TIME_AVERAGE
    return KnownFeature(row.pk, row.terms(), row.meter_id is not None, averaged)
