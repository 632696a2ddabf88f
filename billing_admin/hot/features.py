"""Features as the hot path has to know them."""

from dataclasses import dataclass

from catalog.models import Feature
from catalog.terms import FeatureTerms
from entitlements.readings import feature_terms

LASTS = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class KnownFeature:
    """`has_rule`: a meter says what its events count, instead of the value that is reported."""

    id: int
    terms: FeatureTerms
    has_rule: bool


def read_feature(slug: str) -> KnownFeature | None:
    row = Feature.objects.filter(slug=slug).first()
    if row is None:
        return None
    feature_terms([row.pk])  # deciding asks for it where nothing may be read any more
    return KnownFeature(row.pk, row.terms(), row.meter_id is not None)
