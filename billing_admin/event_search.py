"""Events as people and programs look for them: one search for the pages, the export and the API.

Nothing here counts all rows of the table: lists go on from the last row they showed, charts sum what the search
found, and both give up after a while with `TooSlow`, since a search may be about a hundred million events.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Self

from django.core.exceptions import EmptyResultSet, ValidationError
from django.db import OperationalError, connection, transaction
from django.db.models import Count, F, Func, JSONField, Q, Sum, TextField, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce, Trunc
from psycopg.errors import QueryCanceled
from psycopg.sql import SQL

from catalog.models import Feature
from customers.models import Customer
from entitlements.events import digest_of_key
from entitlements.models import (
    CLOCKS_DIFFER,
    ArchivedMonth,
    ArchivedUse,
    UsageEvent,
    UsageEventQuerySet,
    UsageKey,
)
from entitlements.partitions import ends

DAY = timedelta(days=1)
# Searches reach so far at a time.
LONGEST = 366 * DAY
HOUR, PER_DAY, MONTH = "hour", "day", "month"
TOP = 5
PROPERTY = re.compile(r"[\w.\-/ ]{1,60}")


class TooSlow(ValidationError):
    """The search found no end in the time that it was given."""

    def __init__(self) -> None:
        super().__init__("This search takes too long. Ask for fewer days, or for one feature.", code="too_slow")


class BadCursor(ValidationError):
    def __init__(self) -> None:
        super().__init__("This is not a cursor of this list.", code="bad_cursor")


@dataclass(frozen=True, slots=True)
class Search:
    """What happened in `[since, until)`, narrowed by whatever else is set.

    `words` are an event's whole id or key, the start of a feature's name, or the value of a property. `voided` is
    None for all.
    """

    since: datetime
    until: datetime
    customer: Customer | None = None
    feature: Feature | None = None
    words: str = ""
    name: str = ""
    property: tuple[str, str] | None = None
    voided: bool | None = None

    def rows(self) -> UsageEventQuerySet:
        """The events, in no order."""
        rows: UsageEventQuerySet = UsageEvent.objects.since(self.since).filter(at__lt=self.until).order_by()
        if self.customer:
            rows = rows.filter(customer=self.customer)
        if self.feature:
            rows = rows.filter(feature=self.feature)
        if self.name:
            rows = rows.filter(name=self.name)
        if self.property:
            name, text = self.property
            rows = rows.filter(_any(Q(properties__contains={name: value}) for value in meanings(text)))
        if self.voided is not None:
            rows = rows.filter(voided_at__isnull=not self.voided)
        return self._among(rows) if self.words else rows

    def _among(self, rows: UsageEventQuerySet) -> UsageEventQuerySet:
        values = Func(
            F("properties"), template="jsonb_path_query_array(%(expressions)s, '$.*')", output_field=JSONField()
        )
        found = _any(Q(values__contains=value) for value in meanings(self.words)) | Q(key=self.words)
        if self.feature is None:
            named = Q(name__istartswith=self.words) | Q(slug__startswith=self.words.lower())
            found |= Q(feature__in=list(Feature.objects.filter(named).values_list("pk", flat=True)[:100]))
        return rows.alias(values=values).filter(found)

    def exact(self) -> list[UsageEvent]:
        """The event whose whole id or key the words are, whenever it happened; a row for each of its features."""
        rows = UsageEvent.objects.select_related("feature", "customer").order_by("id")
        if self.customer:
            rows = rows.filter(customer=self.customer)
        if self.feature:
            rows = rows.filter(feature=self.feature)
        if self.words.startswith("evt_"):
            return list(rows.filter(public_id=self.words))
        known = (
            self.customer and UsageKey.objects.filter(customer=self.customer, digest=digest_of_key(self.words)).first()
        )
        if not known:
            return []
        return list(rows.filter(recorded_at=known.recorded_at, key=self.words, pk__gte=known.event_id))


def meanings(text: str) -> list[Any]:
    """What a text from a form or an address may stand for in JSON: `5` is a number or the text of it."""
    found: list[Any] = [text]
    try:
        value = json.loads(text, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, InvalidOperation, RecursionError):
        return found
    return [*found, value] if isinstance(value, bool | int) else [*found, float(value)] if _is_number(value) else found


def _refuse(text: str) -> None:
    raise ValueError(text)


def _is_number(value: object) -> bool:
    return isinstance(value, Decimal) and abs(value.adjusted()) < 300


def _any(conditions: Iterator[Q]) -> Q:
    found = Q()
    for condition in conditions:
        found |= condition
    return found


# One page after the other ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row that was shown. When it was reported keeps the months after it from being opened."""

    pk: int
    recorded_at: datetime

    @classmethod
    def of(cls, event: UsageEvent) -> Self:
        return cls(event.pk, event.recorded_at)

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises `BadCursor`."""
        match = re.fullmatch(r"([0-9a-f]{1,15})-([0-9a-f]{1,9})", text)
        if match is None:
            raise BadCursor
        try:
            return cls(int(match[1], 16), datetime.fromtimestamp(int(match[2], 16), UTC))
        except (OverflowError, ValueError):
            raise BadCursor from None

    def __str__(self) -> str:
        return f"{self.pk:x}-{int(self.recorded_at.timestamp()) + 1:x}"


def newest(search: Search, *, after: Cursor | None, limit: int) -> tuple[list[UsageEvent], Cursor | None]:
    """The next events as they were reported, the newest first, and where to go on, if there are more."""
    rows = search.rows()
    if after:
        rows = rows.filter(pk__lt=after.pk, recorded_at__lt=after.recorded_at + CLOCKS_DIFFER)
    found = list(rows.select_related("feature", "customer").order_by("-id")[: limit + 1])
    return found[:limit], Cursor.of(found[limit - 1]) if len(found) > limit else None


def newest_first(search: Search, *, at_a_time: int = 500) -> Iterator[UsageEvent]:
    """Every event of a search, with so many in memory at a time and no transaction open between them."""
    rows, after = newest(search, after=None, limit=at_a_time)
    yield from rows
    while after is not None:
        rows, after = newest(search, after=after, limit=at_a_time)
        yield from rows


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Read in a transaction that PostgreSQL ends after so long. Raises `TooSlow`."""
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{int(seconds * 1000)}ms"])
            yield
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', '0', true)")
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            raise TooSlow() from error
        raise


# Sums over time -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Point:
    """What was counted in the hour, day or month that begins at `at` (UTC); `value` is None for the less frequent."""

    at: datetime
    value: str | None
    units: Decimal
    events: int


_SPLIT = """
WITH found AS ({}),
  ranked AS (SELECT value, row_number() OVER (ORDER BY sum(number) DESC, value) AS place FROM found GROUP BY value)
SELECT span, CASE WHEN place <= %s THEN value END AS value, sum(units), sum(number)
  FROM found JOIN ranked USING (value) GROUP BY 1, 2 ORDER BY 1, 2 NULLS LAST
"""


def series(search: Search, *, per: str, by: str = "", top: int = TOP) -> list[Point]:
    """Units and events over time in one query, split by the most frequent values of a property if one is named.

    What was voided counts only where the search asks for nothing else. An event without the property has the value
    "". Spans in which nothing happened are left out.
    """
    if search.voided is None:
        search = replace(search, voided=False)
    value = KeyTextTransform(by, "properties") if by else Value("")
    counted = (
        search.rows()
        .annotate(span=Trunc("at", per, tzinfo=UTC), value=Coalesce(value, Value(""), output_field=TextField()))
        .values("span", "value")
        .annotate(units=Sum("taken"), number=Count("id"))
    )
    try:
        sql, values = counted.query.sql_with_params()
    except EmptyResultSet:
        return []
    with connection.cursor() as cursor:
        cursor.execute(SQL(_SPLIT).format(SQL(sql)), [*values, top])
        found = cursor.fetchall()
    # PostgreSQL hands the spans back as times in UTC that do not say so.
    points = [Point(at.replace(tzinfo=UTC), said, units, int(number)) for at, said, units, number in found]
    return _with_archived(points, search, per) if per != HOUR and not by else points


def _with_archived(points: list[Point], search: Search, per: str) -> list[Point]:
    """Add what only the daily sums remember. They know no names, keys and properties."""
    if search.words or search.name or search.property or search.voided:
        return points
    newest_month = ArchivedMonth.objects.values_list("month", flat=True).first()
    if newest_month is None or search.since >= ends(newest_month) + CLOCKS_DIFFER:
        return points
    rows = ArchivedUse.objects.filter(at__gte=search.since, at__lt=search.until)
    if search.customer:
        rows = rows.filter(balance__customer=search.customer)
    if search.feature:
        rows = rows.filter(balance__feature=search.feature)
    spans = rows.annotate(span=Trunc("at", per, tzinfo=UTC)).values("span").order_by()
    together = {point.at: point for point in points}
    for at, units, events in spans.annotate(u=Sum("used"), n=Sum("events")).values_list("span", "u", "n"):
        point = together.get(at, Point(at, "", Decimal(0), 0))
        together[at] = replace(point, units=point.units + units, events=point.events + events)
    return [together[at] for at in sorted(together)]


def in_time(read: Callable[[], list[Point]], *, seconds: float) -> list[Point] | None:
    """The points, or None when that takes too long."""
    try:
        with within(seconds):
            return read()
    except TooSlow:
        return None


def parse_property(text: str) -> tuple[str, str]:
    """`model=large` → ("model", "large"). Raises a `ValidationError`."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not PROPERTY.fullmatch(name):
        raise ValidationError("Write it as name=value, for example model=large.", code="bad_property")
    return name, value
