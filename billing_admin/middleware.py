from collections.abc import Callable
from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.utils import timezone


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
