"""The events of one feature, whoever reported them."""

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404

from billing_admin.access import require, requires
from billing_admin.admin.events import VIEW, events_page, export
from billing_admin.admin.links import link
from billing_admin.site import page
from catalog.models import Feature

# All customers report more than one does: the page begins with fewer days.
DAYS = 7


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
        days=DAYS,
        export_url=link("feature_events_export", pk),
        of={"feature": feature},
    )


@page("catalog/feature/<int:pk>/events.csv", name="feature_events_export", methods=("GET",))
def export_of_feature(request: HttpRequest, pk: int) -> HttpResponseBase:
    require(request, "catalog.view_feature", "customers.view_customer", VIEW)
    feature = get_object_or_404(Feature, pk=pk)
    return export(request, features=None, days=DAYS, name=feature.slug, of={"feature": feature})
