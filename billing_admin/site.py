from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.functional import SimpleLazyObject
from django.views.decorators.http import require_http_methods
from unfold.sites import UnfoldAdminSite

from billing_admin.search import find

View = Callable[..., HttpResponseBase]


class Page(NamedTuple):
    route: str
    name: str
    view: View


PAGES: list[Page] = []


def page(route: str, *, name: str, methods: tuple[str, ...] = ("GET", "POST")) -> Callable[[View], View]:
    """A page of ours that is about no model: `@page("customers/<int:pk>/enable/", name="enable_plan")`."""

    def register(view: View) -> View:
        PAGES.append(Page(route, name, require_http_methods(list(methods))(view)))
        return view

    return register


class BackOffice(UnfoldAdminSite):
    """The desk's own admin site: unfold's frame, with a search that finds customers, plans and invoices."""

    index_title = "Home"

    def extra_urls(self) -> list[URLPattern]:
        return [path(p.route, self.admin_view(p.view), name=p.name) for p in PAGES]

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> Any:
        """Django's list of all models, made when a page shows it: ours has a navigation of its own, and asking who may
        see each model takes a tenth of a page's time."""
        return SimpleLazyObject(partial(super().get_app_list, request, app_label))

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The command palette. Never from a cache: what was renamed or refused a second ago must not show."""
        words = request.GET.get("s", "").strip()
        if not words:
            return HttpResponse()
        return TemplateResponse(request, "parts/search_results.html", {"words": words, "results": find(request, words)})
