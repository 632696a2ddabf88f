"""Lists as CSV files: asked for, followed while workers write them, fetched for a week."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal, Self, cast

from django.conf import settings
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.db.models import QuerySet
from django.http import FileResponse, Http404, QueryDict
from ninja import Query, Router
from pydantic import Field

# Whoever asks for an export needs the lists to be known.
import billing_admin.export_lists  # noqa: F401  registers them
from billing_admin.api.endpoints import ApiRequest, Caller, endpoint
from billing_admin.api.finding import page_of
from billing_admin.api.refusals import BadValue, NotFound
from billing_admin.api.shapes import Answer, Body, Id, Page, Slug
from billing_admin.exports import EXPORTS, Asked, ListExport, conditions
from billing_admin.flows.exports import ask_for, path_of
from billing_admin.models import Export

router = Router(tags=["Exports"])

VIEW, SEE_ALL = "billing_admin.view_export", "billing_admin.see_all_exports"
EXAMPLE = {"list": "customers", "filters": {"state": "active"}}
Word = Annotated[str, Field(max_length=200)]


class NoFile(ValidationError):
    def __init__(self) -> None:
        super().__init__("This file is gone, or not there yet. Export the list again.", code="no_file")


class ExportIn(Body):
    list_: str = Field(
        alias="list", max_length=60, description="Which list.", json_schema_extra={"enum": [*sorted(EXPORTS)]}
    )
    filters: dict[Slug, Word | Annotated[list[Word], Field(max_length=50)]] = Field(
        default_factory=dict,
        description="What it is narrowed to: the conditions in the address of its page in the desk.",
    )

    def query(self) -> QueryDict:
        """As the address of the page has it."""
        asked = QueryDict(mutable=True)
        for name, value in self.filters.items():
            asked.setlist(name, [value] if isinstance(value, str) else value)
        return conditions(asked.urlencode())


class Heard(QueryDict):
    """Conditions that remember which of them a list asks for, of a copy, too."""

    def __init__(self, *args: Any, **kwargs: Any):
        self.heard: set[str] = set()
        super().__init__(*args, **kwargs)

    def copy(self) -> "Heard":
        made = cast(Heard, super().copy())
        made.heard = self.heard
        return made

    def __getitem__(self, name: str) -> Any:
        self.heard.add(name)
        return super().__getitem__(name)

    def getlist(self, key: str, default: Any = None) -> Any:
        self.heard.add(key)
        return super().getlist(key, default)


class ExportOut(Answer):
    id: str = Field(examples=["exp_9aQ2mZ8TqVbNc1R4"])
    list_: str = Field(alias="list", examples=["customers"])
    filters: dict[str, list[str]]
    state: Literal["waiting", "running", "done", "failed", "expired"]
    total: int | None = Field(description="Rows to write; null until they are counted.")
    done: int
    size: int = Field(description="Bytes of the file.")
    problem: str | None = Field(description="Why there is no file.")
    created_by: str
    created_at: datetime
    finished_at: datetime | None
    expires_at: datetime | None = Field(description="When the file goes.")
    file_url: str | None = Field(description="While there is a file; it takes the key, too.")

    @classmethod
    def of(cls, export: Export) -> Self:
        """Reads `user` and `key`, which should be joined."""
        is_there = export.state == Export.State.DONE
        said: dict[str, Any] = {"list": export.kind, "state": export.state}
        return cls(
            **said,
            id=export.public_id,
            filters={name: [str(value) for value in values] for name, values in QueryDict(export.query).lists()},
            total=export.total,
            done=export.done,
            size=export.size,
            problem=export.problem or None,
            created_by=export.asked_by,
            created_at=export.created_at,
            finished_at=export.finished_at,
            expires_at=export.expires_at,
            file_url=f"{settings.PUBLIC_URL}/api/v1/exports/{export.public_id}/file" if is_there else None,
        )


class ExportsOut(Page):
    data: list[ExportOut]


@endpoint(
    router,
    "POST",
    "/exports",
    needs=VIEW,
    gives=ExportOut,
    status=HTTPStatus.CREATED,
    refuses=[409],
    example=EXAMPLE,
)
def begin_export(request: ApiRequest, body: ExportIn) -> ExportOut:
    """Have a list written as a CSV file by a worker, as it is narrowed.

    It takes the permission to see the list, which is asked again when the file is written and with each download. Read
    the export until it is `done`. A condition that the list does not know is refused; five of one key may be under way.
    """
    one, query = _list(body.list_), body.query()
    request.auth.require(*one.permissions)
    refuse_unknown(one, query, request)
    export = ask_for(one.kind, query.urlencode(), user=request.auth.holder, now=request.now)
    return ExportOut.of(_find(request.auth, export.public_id))


@endpoint(router, "GET", "/exports", needs=VIEW, gives=ExportsOut)
def list_exports(
    request: ApiRequest,
    cursor: Annotated[Id | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> ExportsOut:
    """What this key asked for, the newest first; with `billing_admin.see_all_exports` what anybody did."""
    found, after = page_of(seen_by(request.auth), cursor, limit)
    return ExportsOut(data=[ExportOut.of(export) for export in found], next_cursor=after)


@endpoint(router, "GET", "/exports/{export_id}", needs=VIEW, gives=ExportOut, refuses=[404])
def read_export(request: ApiRequest, export_id: Id) -> ExportOut:
    """How far it is."""
    return ExportOut.of(_find(request.auth, export_id))


@endpoint(router, "GET", "/exports/{export_id}/file", needs=VIEW, gives=None, media="text/csv", refuses=[404, 409])
def fetch_export(request: ApiRequest, export_id: Id) -> FileResponse:
    """The file, for seven days."""
    export = _find(request.auth, export_id)
    request.auth.require(*_list(export.kind).permissions)
    file = path_of(export)
    is_over = export.expires_at is None or export.expires_at <= request.now
    if export.state != Export.State.DONE or is_over or not file.exists():
        raise NoFile
    name = f"{export.kind.replace('_', '-')}-{export.created_at:%Y-%m-%d}.csv"
    return FileResponse(file.open("rb"), as_attachment=True, filename=name, content_type="text/csv; charset=utf-8")


def refuse_unknown(one: ListExport, query: QueryDict, request: ApiRequest) -> None:
    """Raises `BadValue` for a condition that the list does not ask for, and `BadCondition` for a value that it does not
    know: a page shows that it is not narrowed, a file does not."""
    heard = Heard(query.urlencode())
    try:
        one.rows(Asked(heard, request.auth.holder, request.now, is_strict=True))
    except (IncorrectLookupParameters, SuspiciousOperation):
        raise BadValue("filters", "This list does not know these conditions.", "unknown_field") from None
    except Http404:
        raise BadValue("filters", "What the list belongs to is not there.", "not_found") from None
    for name in query:
        if name not in heard.heard:
            raise BadValue(f"filters.{name}", f"The list has no condition {name!r}.", "unknown_field")


def seen_by(caller: Caller) -> QuerySet[Export]:
    rows = Export.objects.select_related("user", "key")
    return rows if caller.may(SEE_ALL) else rows.filter(key=caller.key)


def _list(kind: str) -> ListExport:
    if kind not in EXPORTS:
        raise BadValue("list", f"There is no such list. Use {', '.join(sorted(EXPORTS))}.", "unknown_list")
    return EXPORTS[kind]


def _find(caller: Caller, public_id: str) -> Export:
    found = seen_by(caller).filter(public_id=public_id).first()
    if found is None:
        raise NotFound("export", public_id)
    return found
