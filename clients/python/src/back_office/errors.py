"""What can go wrong, by what a caller would do about it.

BackOfficeError
├── Refused               the service understood, and said no
│   ├── BadRequest        400: the call itself is wrong (`errors` lists every problem)
│   ├── Unauthorized      401: no valid key
│   ├── Forbidden         403: the role of the key does not include this
│   ├── NotFound          404: no such customer, feature, grant …
│   └── Conflict          409: it does not go with how things stand
│       ├── LimitReached         not enough left; says what is, until when, and what would allow it
│       ├── InsufficientFunds    the wallet does not cover it
│       └── KeyUsedOtherwise     the idempotency key belongs to another call
├── RateLimited           429: the key has used up its minute
└── Unavailable           no answer, or a failure on the other side
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from back_office.access import Access, PlanRef


@dataclass(frozen=True)
class Problem:
    code: str
    message: str
    field: str | None = None


class BackOfficeError(Exception):
    """`code` is for programs, the text for people; `status` is 0 when no answer came."""

    def __init__(self, message: str, *, code: str, status: int = 0) -> None:
        super().__init__(message)
        self.message, self.code, self.status = message, code, status


class Refused(BackOfficeError):
    """The service said no; it did nothing. `field` names what was wrong, `details` is the whole answer."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int,
        field: str | None = None,
        errors: tuple[Problem, ...] = (),
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, code=code, status=status)
        self.field, self.errors, self.details = field, errors, details or {}


class BadRequest(Refused):
    pass


class Unauthorized(Refused):
    pass


class Forbidden(Refused):
    pass


class NotFound(Refused):
    pass


class Conflict(Refused):
    pass


class KeyUsedOtherwise(Conflict):
    pass


class InsufficientFunds(Conflict):
    pass


class LimitReached(Conflict):
    """The use does not fit, and nothing of it was counted. `access` is how things stand."""

    access: Access | None = None

    @property
    def remaining(self) -> Decimal | None:
        return self.access.remaining if self.access else None

    @property
    def resets_at(self) -> datetime | None:
        return self.access.next_reset_at if self.access else None

    @property
    def upgrade_to(self) -> tuple[PlanRef, ...]:
        return self.access.upgrade_to if self.access else ()


class RateLimited(BackOfficeError):
    """Too many calls of this key. `retry_after` is in seconds."""

    def __init__(self, message: str, *, code: str = "rate_limited", retry_after: float | None = None) -> None:
        super().__init__(message, code=code, status=429)
        self.retry_after = retry_after


class Unavailable(BackOfficeError):
    """The service could not be reached, broke, or took too long.

    A write may have been done all the same. Repeat the call with its key (`key=error.key`) and it counts once, however
    often it arrives. A batch has one for each of its events: `error.keys`, in their order.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "unavailable",
        status: int = 0,
        retry_after: float | None = None,
        may_be_repeated: bool = True,
    ) -> None:
        super().__init__(message, code=code, status=status)
        self.retry_after, self.may_be_repeated = retry_after, may_be_repeated
        self.keys: tuple[str, ...] = ()

    @property
    def key(self) -> str | None:
        return self.keys[0] if self.keys else None
