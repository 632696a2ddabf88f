"""Reading: which plans on sale would allow what was denied."""

from django.db.models import F, Q

from catalog.models import Plan, PlanItem
from catalog.terms import METERED, ItemTerms
from customers.models import Customer
from entitlements.access import Access


def upgrade_to(customer: Customer, access: Access) -> list[Plan]:
    """Plans this customer could be put on whose present version gives more of the feature; one query."""
    items = (
        PlanItem.objects.filter(
            Q(version__plan__reservation=None) | Q(version__plan__reservation__customer=customer),
            version=F("version__plan__current_version"),
            version__plan__archived_at=None,
            version__plan__product__archived_at=None,
            version__plan__is_default=False,
            feature__slug=access.feature,
        )
        .exclude(version__plan__kind=Plan.Kind.STRIPE)
        .select_related("feature", "version__plan")
        .order_by("version__plan__product__name", "version__plan__name")
    )
    return [item.version.plan for item in items if _allows(item.terms(), access)]


def _allows(item: ItemTerms, access: Access) -> bool:
    if access.type != METERED or item.unlimited or item.price is not None or item.limit == "soft":
        return True
    assert item.granted is not None
    more_than_now = access.limit is None or item.granted > access.limit
    return more_than_now and item.granted - access.used >= access.required
