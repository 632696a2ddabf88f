from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_http_methods
from unfold.sites import UnfoldAdminSite

from billing_admin.search import find


class BackOffice(UnfoldAdminSite):
    """The desk's own admin site: unfold's frame, with a search that finds customers, plans and invoices."""

    index_title = "Home"

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        self.pages: list[URLPattern] = []

    def page(
        self, route: str, *, name: str, methods: tuple[str, ...] = ("GET", "POST")
    ) -> Callable[[Callable[..., HttpResponse]], Callable[..., HttpResponse]]:
        """A page of ours that is about no model: `@admin.site.page("customers/<int:pk>/enable/", name=…)`."""

        def register(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
            self.pages.append(path(route, self.admin_view(require_http_methods(methods)(view)), name=name))
            return view

        return register

    def extra_urls(self) -> list[URLPattern]:
        return self.pages

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The command palette. Never from a cache: what was renamed or refused a second ago must not show."""
        words = request.GET.get("s", "").strip()
        if not words:
            return HttpResponse()
        return TemplateResponse(request, "parts/search_results.html", {"words": words, "results": find(request, words)})


def take_over() -> None:
    """Put our site where unfold's default app config left a plain one, with whatever was registered there by then.

    With "unfold.apps.BasicAppConfig" in INSTALLED_APPS Django's `default_site` holds, and this does nothing.
    """
    if isinstance(admin.site, BackOffice):
        return
    ours = BackOffice()
    for model, registered in admin.site._registry.items():
        ours.register(model, type(registered))
    admin.site = admin.sites.site = ours
