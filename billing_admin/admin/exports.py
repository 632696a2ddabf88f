"""Lists that people took away: asked for above a list, followed here while they are written, downloaded for a week."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin

# Whoever shows or writes an export needs the lists to be known.
import billing_admin.export_lists  # noqa: F401  registers them
from billing_admin.access import allowed, require, requires
from billing_admin.admin.acts import moment
from billing_admin.admin.links import link
from billing_admin.exports import EXPORTS
from billing_admin.flows.exports import ask_for, path_of
from billing_admin.models import Export
from billing_admin.pages import render_page
from billing_admin.site import page

VIEW, SEE_ALL = "billing_admin.view_export", "billing_admin.see_all_exports"
A_PAGE = 50
STATES = {
    Export.State.WAITING: "open",
    Export.State.RUNNING: "open",
    Export.State.DONE: "on",
    Export.State.FAILED: "failed",
    Export.State.EXPIRED: "off",
}


@dataclass(frozen=True, slots=True)
class ExportRow:
    """One export in the list; `download_url` while there is a file that the reader may have."""

    title: str
    public_id: str
    query: str
    list_url: str
    by: str
    at: datetime
    state: str
    label: str
    done: int
    total: int | None
    size: int
    problem: str
    expires_at: datetime | None
    download_url: str

    @property
    def is_moving(self) -> bool:
        return self.state == "open"


def export_row(export: Export) -> ExportRow:
    one = EXPORTS.get(export.kind)
    is_ready = export.state == Export.State.DONE
    return ExportRow(
        title=one.title if one else export.kind,
        public_id=export.public_id,
        query=export.query,
        list_url=one.address(export.query) if one else "",
        by=export.asked_by,
        at=export.created_at,
        state=STATES[Export.State(export.state)],
        label=export.get_state_display(),
        done=export.done,
        total=export.total,
        size=export.size,
        problem=export.problem,
        expires_at=export.expires_at if is_ready else None,
        download_url=link("export_download", export.public_id) if is_ready else "",
    )


def seen_by(request: HttpRequest) -> QuerySet[Export]:
    rows = Export.objects.select_related("user", "key").order_by("-id")
    return rows if allowed(request, SEE_ALL) else rows.filter(user=request.user.pk)


@requires(VIEW)
def export_list(request: HttpRequest) -> HttpResponse:
    """Newest first, by keys. The table asks for itself again while something is being written."""
    before, rows = request.GET.get("before", ""), seen_by(request)
    if before.isdecimal() and len(before) < 18:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: A_PAGE + 1])
    shown = [export_row(export) for export in found[:A_PAGE]]
    context: dict[str, Any] = {
        "rows": shown,
        "moving": any(row.is_moving for row in shown),
        "sees_all": allowed(request, SEE_ALL),
        "older": f"?before={found[A_PAGE - 1].pk}" if len(found) > A_PAGE else "",
        "first": not before,
        "again_url": request.get_full_path(),
    }
    if request.headers.get("HX-Request"):
        return TemplateResponse(request, "lists/exports_table.html", context)
    return render_page(request, "lists/exports.html", trail=[("Exports", "")], **context)


@requires(VIEW)
def ask(request: HttpRequest) -> HttpResponse:
    """Begin an export of one list as it is narrowed."""
    kind = request.POST.get("kind", "")
    one = EXPORTS.get(kind)
    if one is None:
        raise Http404("There is no such list.")
    require(request, *one.permissions)
    try:
        ask_for(kind, request.POST.get("query", ""), user=request.user, now=moment(request))
    except ValidationError as refused:
        messages.error(request, refused.messages[0])
    return HttpResponseRedirect(link("billing_admin_export_changelist"))


def download(request: HttpRequest, public_id: str) -> HttpResponseBase:
    """The file, for whoever asked for it and may still see the list; and for whoever may see those of others."""
    require(request, VIEW)
    export = seen_by(request).filter(public_id=public_id).first()
    one = EXPORTS.get(export.kind) if export else None
    if export is None or one is None:
        raise Http404("There is no such export of yours.")
    require(request, *one.permissions)
    file = path_of(export)
    is_over = export.expires_at is None or export.expires_at <= moment(request)
    if export.state != Export.State.DONE or is_over or not file.exists():
        messages.error(request, "This file is gone, or not there yet. Export the list again.")
        return HttpResponseRedirect(link("billing_admin_export_changelist"))
    name = f"{export.kind.replace('_', '-')}-{export.created_at:%Y-%m-%d}.csv"
    return FileResponse(file.open("rb"), as_attachment=True, filename=name, content_type="text/csv; charset=utf-8")


page("exports/ask/", name="export_ask", methods=("POST",))(ask)
page("exports/<str:public_id>/download/", name="export_download", methods=("GET",))(download)


@admin.register(Export)
class ExportAdmin(ModelAdmin):
    """The frame around the list of exports."""

    def get_urls(self) -> list[URLPattern]:
        return [path("", self.admin_site.admin_view(export_list), name="billing_admin_export_changelist")]
