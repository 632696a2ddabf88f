"""The events of one feature, whoever reported them."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404

from billing_admin.access import requires
from billing_admin.admin.events import DAYS_OF_FEATURE, VIEW, events_page
from billing_admin.admin.links import link
from billing_admin.site import page
from catalog.models import Feature


@page("catalog/feature/<int:pk>/events/", name="feature_events", methods=("GET",))
@requires("catalog.view_feature", VIEW)
def feature_events(request: HttpRequest, pk: int) -> HttpResponse:
    feature = get_object_or_404(Feature, pk=pk)
    return events_page(
        request,
        "events/page.html",
        trail=[
            ("Features", link("catalog_feature_changelist")),
            (feature.name, link("catalog_feature_change", pk)),
            ("Events", ""),
        ],
        features=None,
        days=DAYS_OF_FEATURE,
        of={"feature": feature},
    )
