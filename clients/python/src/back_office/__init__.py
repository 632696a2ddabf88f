"""The billing back office, asked from Python: `Client` and `AsyncClient`."""

from back_office.access import Access, Bucket, PlanRef, Source
from back_office.answers import (
    Balance,
    BatchItem,
    Event,
    Grant,
    LedgerLine,
    Mode,
    Override,
    Page,
    Tracked,
    UsagePoint,
    Use,
)
from back_office.async_client import AsyncClient
from back_office.client import Client
from back_office.errors import (
    BackOfficeError,
    BadRequest,
    Conflict,
    Forbidden,
    InsufficientFunds,
    KeyUsedOtherwise,
    LimitReached,
    NotFound,
    Problem,
    RateLimited,
    Refused,
    Unauthorized,
    Unavailable,
)
from back_office.retries import Retries
from back_office.settings import OnOutage, Settings

__all__ = [
    "Access",
    "AsyncClient",
    "BackOfficeError",
    "BadRequest",
    "Balance",
    "BatchItem",
    "Bucket",
    "Client",
    "Conflict",
    "Event",
    "Forbidden",
    "Grant",
    "InsufficientFunds",
    "KeyUsedOtherwise",
    "LedgerLine",
    "LimitReached",
    "Mode",
    "NotFound",
    "OnOutage",
    "Override",
    "Page",
    "PlanRef",
    "Problem",
    "RateLimited",
    "Refused",
    "Retries",
    "Settings",
    "Source",
    "Tracked",
    "Unauthorized",
    "Unavailable",
    "UsagePoint",
    "Use",
]
