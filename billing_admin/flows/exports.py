"""Lists as files: asked for by a person, written by a worker, gone after a week.

The rows are read in chunks by their keys, so that neither memory nor a transaction grows with the list; the file
appears whole or not at all. Whoever dies over it is noticed by their silence, and the file is written anew.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import OperationalError, transaction
from django.db.models import QuerySet

from billing_admin.csv_table import csv_line
from billing_admin.exports import EXPORTS, Asked, ListExport, conditions
from billing_admin.models import Export
from catalog.after import after_commit
from customers.journal import Actor, record

log = structlog.get_logger("billing_admin.exports")

CHUNK = 500
KEPT = timedelta(days=7)
# What somebody died over may lie there for so long, in seconds.
LEFT_OVER = 24 * 3600
# Of one person at a time: a list is not asked for again and again while it is being written.
MOST_AT_ONCE = 5


class UnknownList(ValidationError):
    def __init__(self) -> None:
        super().__init__("There is no such list to export.", code="unknown_list")


class TooManyExports(ValidationError):
    def __init__(self) -> None:
        super().__init__(f"{MOST_AT_ONCE} exports of yours are under way; wait for one.", code="too_many_exports")


class NotAllowed(ValidationError):
    def __init__(self) -> None:
        super().__init__("Whoever asked for it may no longer see this list.", code="not_allowed")


@transaction.atomic
def ask_for(kind: str, query: str, *, user: Any, now: datetime) -> Export:
    """An export that a worker writes as soon as it can. Raises `UnknownList`, `TooManyExports`.

    The caller has asked for the permission; it is asked again when the file is written, and with every download.
    """
    one = EXPORTS.get(kind)
    if one is None:
        raise UnknownList
    if Export.objects.filter(user=user, state__in=(Export.State.WAITING, Export.State.RUNNING)).count() >= MOST_AT_ONCE:
        raise TooManyExports
    said = conditions(query).urlencode()
    field = Export._meta.get_field("query")
    if len(said) > (field.max_length or 0):
        raise ValidationError("The list is narrowed by too much at once.", code="query_too_long")
    export = Export.objects.create(kind=kind, query=said, user=user, created_at=now)
    record(
        None,
        "export.asked",
        f"Asked for {one.title} as CSV{f', narrowed to {said}' if said else ''}",
        actor=Actor.of(user),
        now=now,
        inputs={"export": export.public_id, "list": kind, "query": said},
    )
    hand_over(export)
    return export


def hand_over(export: Export) -> None:
    """Let a worker write it. Should the queue be away, the next pass finds it."""
    from billing_admin.tasks import write_export  # Celery takes memory that web processes need only here

    after_commit(write_export.apply_async, [export.public_id], retry=False)


# Writing --------------------------------------------------------------------------------------------------------------


def write(export: Export, *, clock: Callable[[], datetime]) -> Export:
    """Write the file, unless somebody else is at it. Safe to run twice, at once, and to kill.

    What cannot be written is `failed`, with a sentence; a database that is away lets it be tried again.
    """
    now = clock()
    claimed = Export.objects.left(now).filter(pk=export.pk).update(state=Export.State.RUNNING, heard_at=now, done=0)
    export.refresh_from_db()
    if not claimed:
        return export
    try:
        _write(export, clock)
    except OperationalError:
        raise
    except Exception as error:
        why = error.messages[0] if isinstance(error, ValidationError) else "Something went wrong on our side."
        log.warning("an export failed", export=export.public_id, exc_info=error)
        _close(export, state=Export.State.FAILED, problem=why[:300], finished_at=clock())
    return export


def _write(export: Export, clock: Callable[[], datetime]) -> None:
    one = EXPORTS.get(export.kind)
    if one is None:
        raise UnknownList
    if not export.user.is_active or not export.user.has_perm(one.permission):
        raise NotAllowed
    asked = Asked(conditions(export.query), export.user, export.created_at)
    rows = one.rows(asked).order_by("-pk")
    export.total = rows.count()
    Export.objects.filter(pk=export.pk).update(total=export.total)
    final = path_of(export)
    final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = final.with_name(f"{export.public_id}.{uuid4().hex}.part")
    try:
        with draft.open("w", encoding="utf-8", newline="") as file:
            draft.chmod(0o600)
            file.write(csv_line(one.head))
            for chunk in _chunks(rows, one, asked):
                file.write("".join(chunk))
                export.done += len(chunk)
                Export.objects.filter(pk=export.pk).update(done=export.done, heard_at=clock())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(final)
    finally:
        draft.unlink(missing_ok=True)
    now = clock()
    _close(
        export,
        state=Export.State.DONE,
        total=export.done,
        done=export.done,
        size=final.stat().st_size,
        finished_at=now,
        expires_at=now + KEPT,
    )


def _chunks(rows: QuerySet, one: ListExport, asked: Asked) -> Iterator[list[str]]:
    """Newest first, by keys: what comes in meanwhile does not belong to it."""
    left = rows
    while chunk := list(left[:CHUNK]):
        yield [csv_line(cells) for cells in one.cells(chunk, asked)]
        left = rows.filter(pk__lt=chunk[-1].pk)


def _close(export: Export, **values: Any) -> None:
    for name, value in values.items():
        setattr(export, name, value)
    Export.objects.filter(pk=export.pk).update(**values)


def path_of(export: Export) -> Path:
    return Path(settings.EXPORT_FOLDER) / f"{export.public_id}.csv"


# Going ----------------------------------------------------------------------------------------------------------------


def clear(*, now: datetime) -> int:
    """Remove the files of exports that are over, what was left half written, and whatever is older than any export:
    of people who were deleted, or of somebody killed between file and row. Returns how many are over."""
    over = list(Export.objects.over(now))
    for export in over:
        path_of(export).unlink(missing_ok=True)
        _close(export, state=Export.State.EXPIRED)
    _remove_older("*.part", LEFT_OVER, now)
    _remove_older("*.csv", KEPT.total_seconds() + LEFT_OVER, now)
    return len(over)


def _remove_older(pattern: str, seconds: float, now: datetime) -> None:
    for file in Path(settings.EXPORT_FOLDER).glob(pattern):
        with suppress(FileNotFoundError):  # whoever wrote it has just finished
            if now.timestamp() - file.stat().st_mtime > seconds:
                file.unlink()
