"""Why may they, or may they not: now, or at an earlier instant."""

from decimal import Decimal
from typing import Annotated

from ninja import Query, Router

from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_customer
from billing_admin.api.shapes import Id, Instant, Slug
from billing_admin.api.usage import CHECK, ExplainedAccessOut, explained

router = Router(tags=["Access and use"])


@endpoint(
    router,
    "GET",
    "/customers/{customer_id}/features/{slug}/explanation",
    needs=CHECK,
    gives=ExplainedAccessOut,
    refuses=[404],
)
def explain_feature(
    request: ApiRequest,
    customer_id: Id,
    slug: Slug,
    required: Annotated[Decimal, Query(ge=0, max_digits=24, decimal_places=6)] = Decimal(1),
    at: Annotated[Instant | None, Query(description="An earlier instant: what was answered then.")] = None,
) -> ExplainedAccessOut:
    """The path to an answer, step by step, now or as it was at an earlier instant.

    Of the past it tells what was known then: events that were reported later, and changes that were made later, are
    no part of it. Refused with 400 `in_the_future`, `before_the_customer`, or `archived`, for times whose events are
    no longer in the database.
    """
    return explained(find_customer(customer_id), slug, required, request.now, at=at)
