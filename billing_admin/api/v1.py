"""Version 1 of the API: its parts, its page, its addresses."""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema

from billing_admin.api import (
    approvals,
    balances,
    batches,
    catalog,
    changes,
    collection,
    contracts,
    corrections,
    coupons,
    customers,
    deals,
    drafts,
    errors,
    events,
    explain,
    exports,
    grants,
    ingest,
    invoices,
    meters,
    migrations,
    override_batches,
    overrides,
    plans,
    price_overrides,
    stripe,
    stripe_collection,
    subscriptions,
    taxes,
    track_batch,
    undo,
    usage,
    wallet,
)
from billing_admin.api.parser import ExactParser

WORDS = """
What a customer pays, what they may use, and why.

Send an API key with every call: `Authorization: Bearer bk_…`. Keys are made in the desk, by an Admin; a key may do
what its role may do. Names are camelCase; snake_case is understood, too. Money is in whole minor units with its
currency, prices are exact decimals as text, quantities are numbers. Write calls take an `Idempotency-Key`: whoever
repeats one gets the first answer again. Every refusal has the shape `{code, message, field?}`. Every answer says how
many calls the key has left in this minute: `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset` (seconds); a 429
has `Retry-After`, too.
"""


def own_scripts_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """The page runs nothing that does not come from here."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = view(request, *args, **kwargs)
        response["Content-Security-Policy"] = (
            "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
        )
        return response

    return guarded


class DescribedOnce(NinjaAPI):
    """Describing itself takes two seconds, and always comes to the same: no endpoint is added once it is served."""

    def get_openapi_schema(self, **where: Any) -> OpenAPISchema:
        return self.described(where.get("path_prefix") or self.get_root_path(where.get("path_params") or {}))

    @cache  # noqa: B019 - there is one API, and it stays
    def described(self, prefix: str) -> OpenAPISchema:
        return super().get_openapi_schema(path_prefix=prefix)


api = DescribedOnce(
    title="Billing back office",
    version="1",
    description=WORDS.strip(),
    parser=ExactParser(),
    docs_decorator=own_scripts_only,
    urls_namespace="api-v1",
)
errors.install(api)
for part in (
    customers,
    usage,
    track_batch,
    explain,
    events,
    ingest,
    meters,
    balances,
    plans,
    catalog,
    price_overrides,
    override_batches,
    migrations,
    overrides,
    grants,
    taxes,
    changes,
    subscriptions,
    contracts,
    collection,
    invoices,
    corrections,
    drafts,
    wallet,
    coupons,
    deals,
    stripe,
    stripe_collection,
    batches,
    exports,
    approvals,
    undo,
):
    api.add_router("", part.router)
