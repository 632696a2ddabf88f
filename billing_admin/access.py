"""Who may do what: one way to refuse, for pages, dialogs, previews and the API, and one line in the log for each."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import structlog
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

log = structlog.get_logger("billing_admin.access")


class Refused(PermissionDenied):
    """The person lacks a permission for this act. It has been logged already."""

    def __init__(self, permission: str):
        self.permission = permission
        super().__init__(f"You may not do this: it takes the permission to {words(permission)}.")


def allowed(request: HttpRequest, *permissions: str) -> bool:
    """Whether to show the button; the act itself calls `require`."""
    return bool(request.user.has_perms(permissions))


def require(request: HttpRequest, *permissions: str) -> None:
    """Refuse (403, logged) unless the person has every permission."""
    for permission in permissions:
        if not request.user.has_perm(permission):
            record_refusal(request, permission)
            raise Refused(permission)


def requires(*permissions: str) -> Callable[[Callable[..., HttpResponse]], Callable[..., HttpResponse]]:
    """The same for a view: `@requires("customers.enable_plan")`."""

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            require(request, *permissions)
            return view(request, *args, **kwargs)

        return guarded

    return decorate


class RequiresMixin:
    """For class-based views: `permission` is asked before any handler runs, GET and previews included."""

    permission: str | tuple[str, ...] = ()

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        wanted = (self.permission,) if isinstance(self.permission, str) else self.permission
        require(request, *wanted)
        answer: HttpResponse = super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
        return answer


def record_refusal(request: HttpRequest, permission: str) -> None:
    log.warning(
        "permission refused",
        user=request.user.get_username() or "anonymous",
        method=request.method,
        path=request.path,
        permission=permission,
    )


def words(permission: str) -> str:
    """`customers.enable_plan` as people say it: "enable and change billed plans …"."""
    label, _, codename = permission.partition(".")
    name = Permission.objects.filter(content_type__app_label=label, codename=codename).values_list("name", flat=True)
    said = (name.first() or codename.replace("_", " ")).removeprefix("Can ")
    return said[:1].lower() + said[1:]


def refused(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """The 403 page, for whatever was refused anywhere; what Django's own pages refuse is logged here."""
    if not isinstance(exception, Refused):
        record_refusal(request, permission="")
    context = {
        "title": "You may not do this",
        "why": f"It takes the permission to {words(exception.permission)}."
        if isinstance(exception, Refused)
        else "Your role does not include this page or act.",
    }
    if request.headers.get("HX-Request"):
        return render(request, "parts/refused.html", context, status=403)
    context = admin.site.each_context(request) | context
    return render(request, "parts/refused_page.html", context, status=403)
