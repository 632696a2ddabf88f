"""How an endpoint is declared: its permission, what it gives, how it may refuse."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import wraps
from http import HTTPStatus
from inspect import cleandoc
from typing import Any, TypeVar

import structlog
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from ninja import Router
from ninja.responses import Status
from ninja.security.http import HttpAuthBase

from billing_admin.access import Refused
from billing_admin.api.shapes import Error
from billing_admin.holders import KeyHolder
from billing_admin.models import ApiKey
from customers.journal import Actor

log = structlog.get_logger("billing_admin.api")
Function = TypeVar("Function", bound=Callable[..., Any])

ALWAYS = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
ONE_ERROR = {
    HTTPStatus.BAD_REQUEST: ("invalid", "Input should be a valid string.", "name"),
    HTTPStatus.UNAUTHORIZED: ("unauthorized", "Send a valid API key: `Authorization: Bearer bk_…`.", None),
    HTTPStatus.FORBIDDEN: ("forbidden", "You may not do this: it takes the permission to view customer.", None),
    HTTPStatus.NOT_FOUND: ("customer_not_found", "There is no customer 'acme'.", None),
    HTTPStatus.CONFLICT: ("already_ended", "This subscription has ended already.", None),
    HTTPStatus.TOO_MANY_REQUESTS: ("rate_limited", "More than 6,000 requests in a minute. Wait 12 seconds.", None),
}


class Caller:
    """Who calls: a key, with the permissions of its role."""

    def __init__(self, key: ApiKey):
        self.key = key
        self.holder = KeyHolder(key)
        self.actor = Actor.of(self.holder)

    @property
    def permissions(self) -> set[str]:
        return self.holder.permissions

    def may(self, permission: str) -> bool:
        return permission in self.permissions

    def require(self, *permissions: str) -> None:
        """Refuse (403, logged) unless the key's role has every permission."""
        for permission in permissions:
            if not self.may(permission):
                log.warning("permission refused", key=self.key.public_id, name=self.actor.name, permission=permission)
                raise Refused(permission)


class ApiRequest(HttpRequest):
    """What every endpoint gets: the caller (who has been asked for the permission) and the instant."""

    caller: Caller | None
    auth: Caller
    now: datetime


class ApiKeyAuth(HttpAuthBase):
    """The key comes as `Authorization: Bearer bk_…`. Keys are made, and revoked, in the desk by an Admin."""

    openapi_scheme = "bearer"

    def __init__(self, *permissions: str):
        super().__init__()
        self.permissions = permissions

    def __call__(self, request: Any) -> Caller | None:
        caller: Caller | None = request.caller
        if caller is not None and not any(caller.may(permission) for permission in self.permissions):
            caller.require(self.permissions[0])
        return caller


def endpoint(
    router: Router,
    method: str,
    path: str,
    *,
    needs: str | tuple[str, ...],
    gives: Any,
    status: int = HTTPStatus.OK,
    also: Mapping[int, Any] | None = None,
    refuses: Iterable[int] = (),
    example: dict[str, Any] | None = None,
    media: str = "",
) -> Callable[[Function], Function]:
    """Register a function as an endpoint. The first line of its docstring is the summary, the rest the description.

    With several permissions any one of them opens it; what takes which is for the function to say. `also` are other
    statuses than `status` with what they give: the function answers with `Status` then. `media` is the type of a file
    that is given in the place of JSON: the function answers with a response then, and `gives` is None.
    """
    permissions = (needs,) if isinstance(needs, str) else needs

    def declare(function: Function) -> Function:
        @wraps(function)
        def called(request: ApiRequest, *args: Any, **kwargs: Any) -> Status[Any] | HttpResponseBase:
            given = function(request, *args, **kwargs)
            return given if isinstance(given, Status | HttpResponseBase) else Status(status, given)

        summary, _, more = cleandoc(function.__doc__ or "").partition("\n")
        named = " or ".join(f"`{permission}`" for permission in permissions)
        description = f"{more.strip()}\n\nPermission of the key's role: {named}.".strip()
        refusals = [*ALWAYS, *map(HTTPStatus, refuses)]
        router.api_operation(
            [method],
            path,
            auth=ApiKeyAuth(*permissions),
            response={status: gives, **(also or {}), **dict.fromkeys(refusals, Error)},
            summary=summary.rstrip("."),
            description=description,
            operation_id=function.__name__,
            by_alias=True,
            openapi_extra=_extra(refusals, example, {status: media} if media else {}),
        )(called)
        return function

    return declare


def _extra(refusals: list[HTTPStatus], example: dict[str, Any] | None, files: Mapping[int, str]) -> dict[str, Any]:
    responses = {int(status): {"content": {media: {"schema": {"type": "string"}}}} for status, media in files.items()}
    for status in refusals:
        code, message, field = ONE_ERROR[status]
        shown = {"code": code, "message": message} | ({"field": field} if field else {})
        responses[int(status)] = {"content": {"application/json": {"example": shown}}}
    extra: dict[str, Any] = {"responses": responses}
    if example:
        extra["requestBody"] = {"content": {"application/json": {"example": example}}}
    return extra
