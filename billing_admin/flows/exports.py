"""Lists as files: asked for by a person, written by a worker, gone after a week.

The rows are read in chunks by their keys, so that neither memory nor a transaction grows with the list; the file
appears whole or not at all. Whoever dies over it is noticed by their silence, and the file is written anew.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import OperationalError, transaction
from django.db.models import QuerySet
from django.http import Http404

from billing_admin.csv_table import csv_line
from billing_admin.exports import EXPORTS, Asked, Walk, conditions
from billing_admin.holders import holder_of, whose
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
# In the history, before the words that a list was narrowed to.
NARROWED = ", narrowed to "


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

    `user` is a person or a `KeyHolder`. The caller has asked for the permission; it is asked again when the file is
    written, and with every download.
    """
    one = EXPORTS.get(kind)
    if one is None:
        raise UnknownList
    under_way = Export.objects.filter(**whose(user), state__in=(Export.State.WAITING, Export.State.RUNNING))
    if under_way.count() >= MOST_AT_ONCE:
        raise TooManyExports
    said = conditions(query).urlencode()
    field = Export._meta.get_field("query")
    if len(said) > (field.max_length or 0):
        raise ValidationError("The list is narrowed by too much at once.", code="query_too_long")
    export = Export.objects.create(kind=kind, query=said, **whose(user), created_at=now)
    record(
        None,
        "export.asked",
        f"Asked for {one.title} as CSV{f'{NARROWED}{said}' if said else ''}",
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
    except TakenAway:
        export.refresh_from_db()
    except Exception as error:
        log.warning("an export failed", export=export.public_id, exc_info=error)
        _say(export, state=Export.State.FAILED, problem=_why(error), finished_at=clock())
    return export


class TakenAway(Exception):
    """Somebody else writes this export by now, or it has to be written anew: whoever was at it stops."""


def _why(error: Exception) -> str:
    match error:
        case ValidationError():
            return str(error.messages[0])[:300]
        case Http404():
            return "What this list belonged to is not there any more."
    return "Something went wrong on our side."


def _write(export: Export, clock: Callable[[], datetime]) -> None:
    one = EXPORTS.get(export.kind)
    if one is None:
        raise UnknownList
    holder = holder_of(export)
    if holder is None or not holder.is_active or not one.is_for(holder):
        raise NotAllowed
    asked = Asked(conditions(export.query), holder, export.created_at)
    found = one.rows(asked)
    walk = found if isinstance(found, Walk) else by_key(found)
    _say(export, total=walk.total)
    final = path_of(export)
    final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = final.with_name(f"{export.public_id}.{uuid4().hex}.part")
    try:
        with draft.open("w", encoding="utf-8", newline="") as file:
            draft.chmod(0o600)
            file.write(csv_line(one.head))
            rows = iter(walk.rows)
            while chunk := list(islice(rows, CHUNK)):
                file.write("".join(csv_line(cells) for cells in one.cells(chunk, asked)))
                _say(export, done=export.done + len(chunk), heard_at=clock())
            file.flush()
            os.fsync(file.fileno())
        _hand_out(export, draft, clock())
    finally:
        draft.unlink(missing_ok=True)


@transaction.atomic
def _hand_out(export: Export, draft: Path, now: datetime) -> None:
    """Ready, and the file in its place: whoever looks for files of ready exports finds this one, or it is not ready."""
    size, expires_at = draft.stat().st_size, now + KEPT
    _say(
        export,
        state=Export.State.DONE,
        total=export.done,
        size=size,
        finished_at=now,
        expires_at=expires_at,
        problem="",
    )
    draft.replace(path_of(export))


def by_key(rows: QuerySet) -> Walk:
    """Newest first, in chunks by their keys: what comes in meanwhile does not belong to it."""

    def read() -> Iterator[Any]:
        newest = left = rows.order_by("-pk")
        while chunk := list(left[:CHUNK]):
            yield from chunk
            left = newest.filter(pk__lt=chunk[-1].pk)

    return Walk(read(), rows.count())


def _say(export: Export, **values: Any) -> None:
    """Only whoever was heard last says how far it is. Raises `TakenAway`."""
    ours = Export.objects.filter(pk=export.pk, state=Export.State.RUNNING, heard_at=export.heard_at)
    if not ours.update(**values):
        raise TakenAway
    for name, value in values.items():
        setattr(export, name, value)


def path_of(export: Export) -> Path:
    return Path(settings.EXPORT_FOLDER) / f"{export.public_id}.csv"


# Going ----------------------------------------------------------------------------------------------------------------


def clear(*, now: datetime) -> int:
    """Remove the files of exports that are over, what was left half written, and whatever is older than any export:
    of people who were deleted, or of somebody killed between file and row. Returns how many are over."""
    over = list(Export.objects.over(now))
    for export in over:
        path_of(export).unlink(missing_ok=True)
        Export.objects.filter(pk=export.pk).update(state=Export.State.EXPIRED)
    _remove_what_should_be_gone()
    _remove_older("*.part", LEFT_OVER, now)
    _remove_older("*.csv", KEPT.total_seconds() + LEFT_OVER, now)
    return len(over)


def _remove_what_should_be_gone() -> None:
    """Files of exports that are over: whoever said so may have died before the file was gone."""
    files = {file.stem: file for file in Path(settings.EXPORT_FOLDER).glob("*.csv")}
    over = Export.objects.filter(public_id__in=list(files), state=Export.State.EXPIRED)
    for public_id in over.values_list("public_id", flat=True):
        files[public_id].unlink(missing_ok=True)


def _remove_older(pattern: str, seconds: float, now: datetime) -> None:
    for file in Path(settings.EXPORT_FOLDER).glob(pattern):
        with suppress(FileNotFoundError):  # whoever wrote it has just finished
            if now.timestamp() - file.stat().st_mtime > seconds:
                file.unlink()
