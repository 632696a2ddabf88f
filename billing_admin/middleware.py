from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils import timezone


class InstantMiddleware:
    """One instant per request: everything that happens in it happens at `request.now`."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.now = timezone.now()
        return self.get_response(request)
