from collections.abc import Callable
from datetime import datetime

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from billing_admin.display import KEY, shown_in


class DeskRequest(HttpRequest):
    """A request as our views receive it: with the one instant at which it happens."""

    now: datetime


class InstantMiddleware:
    """One instant per request: everything that happens in it happens at `request.now`."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.now = timezone.now()  # type: ignore[attr-defined]  # declared by DeskRequest
        return self.get_response(request)


class DisplayMiddleware:
    """Pages say instants in the time zone of whoever reads them; the session knows it. Programs have no session."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        signed_in = settings.SESSION_COOKIE_NAME in request.COOKIES
        with shown_in(request.session.get(KEY, "") if signed_in else ""):
            return self.get_response(request)
