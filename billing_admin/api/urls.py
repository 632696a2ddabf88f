"""Addresses of the API. Each endpoint stands behind the door; whatever else is asked for is refused in our shape."""

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, re_path
from django.views.decorators.csrf import csrf_exempt

from billing_admin.api.door import door
from billing_admin.api.refusals import standard
from billing_admin.api.v1 import api

OPEN_TO_ALL = {"openapi-json", "openapi-view", "api-root"}


@csrf_exempt
def nothing_here(request: HttpRequest, rest: str = "") -> HttpResponse:
    return standard(HTTPStatus.NOT_FOUND)


def behind_the_door(pattern: URLPattern) -> URLPattern:
    if pattern.name not in OPEN_TO_ALL:
        pattern.callback = door(pattern.callback)
    return pattern


patterns, app_label, namespace = api.urls

urlpatterns = [
    path("", nothing_here),
    path(
        "",
        ([behind_the_door(pattern) for pattern in patterns if isinstance(pattern, URLPattern)], app_label, namespace),
    ),
    re_path(r"^(?P<rest>[\s\S]*)\Z", nothing_here),  # line breaks, too
]
