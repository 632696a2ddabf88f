"""What stands above every list: its saved filters, and the button that takes it away as CSV."""

from typing import Any
from urllib.parse import urlencode

from django import template
from django.urls import reverse

from billing_admin.exports import conditions, of_page
from billing_admin.flows.saved_filters import shown_to

register = template.Library()


@register.inclusion_tag("lists/tools.html", takes_context=True)
def list_tools(context: template.Context) -> dict[str, Any]:
    """One query: the filters that are saved for this list. Nothing of it in a dialog or a fragment.

    A page may say in `export_query` what it shows though its address does not: whose list it is, and the usual filter.
    """
    request = context["request"]
    match = request.resolver_match
    if match is None or not request.user.is_authenticated:
        return {}
    asked = conditions(request.GET.urlencode())
    said = asked.urlencode()
    own = request.user.pk
    shown: dict[str, Any] = context.get("export_query") or {}
    return {
        "request": request,
        "csrf_token": context.get("csrf_token"),
        "saved": [
            {
                "name": kept.name,
                "url": f"{request.path}?{kept.query}",
                "is_on": kept.query == said,
                "by": "" if kept.user_id == own else kept.user.get_username(),
                "is_shared": kept.is_shared,
                "change_url": _about(request.path, "filter_change", kept.pk) if kept.user_id == own else "",
            }
            for kept in shown_to(request.user, match.url_name or "")
        ],
        "save_url": _about(request.path, "filter_save", query=said) if said else "",
        "exports": [one for one in of_page(match.url_name or "") if one.is_for(request.user)],
        "export_url": reverse("admin:export_ask"),
        "query": urlencode(shown) or said,
    }


def _about(path: str, name: str, *args: Any, **query: str) -> str:
    """The address of an act on a filter of the list at this path."""
    return f"{reverse(f'admin:{name}', args=args)}?{urlencode({'at': path, **query})}"
