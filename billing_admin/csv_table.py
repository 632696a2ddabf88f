"""Tables as CSV: those that people write are read whole, or refused with every line and column that is wrong; those
that they take away hold nothing that a spreadsheet would run."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from django.core.exceptions import ValidationError

from catalog.money import exponent, plain

Cell = str | int | bool | Decimal | datetime | None
# A spreadsheet reads it as the number that it is.
BELOW_ZERO = re.compile(r"-\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at a line (the heading is line 1) and column."""

    line: int
    column: str
    message: str


class BadRows(ValidationError):
    """Rows that cannot be read; `problems` names each by line and column."""

    def __init__(self, problems: Sequence[Problem]):
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        first, rest = self.problems[0], len(self.problems) - 1
        more = f" And {rest} more." if rest else ""
        super().__init__(f"Line {first.line}, {first.column}: {first.message}{more}", code="bad_rows")


@dataclass(frozen=True, slots=True)
class Line:
    """One line below the heading: its cells by column, without the space around them; those left out are empty."""

    number: int
    cells: Mapping[str, str]


# Reading --------------------------------------------------------------------------------------------------------------


def read_table(
    text: str, columns: Sequence[str], needed: Sequence[str], *, most: int
) -> tuple[list[Line], list[Problem]]:
    """The lines of a CSV text with a heading, and what is wrong with single ones; `;` and tabs separate, too.

    Raises `BadRows` for what is no table of these columns: unknown, double or missing ones, no rows, more than `most`.
    """
    lines = _lines(text.lstrip("\ufeff"), columns[0])
    if not lines:
        raise BadRows([Problem(1, columns[0], "There is nothing here.")])
    (_, heading), *rest = lines
    names = [name.strip().lower().replace(" ", "_") for name in heading]
    _refuse_heading(names, columns, needed)
    if not rest:
        raise BadRows([Problem(2, columns[0], "There are no rows below the heading.")])
    if len(rest) > most:
        raise BadRows([Problem(rest[most][0], columns[0], f"At most {most:,} rows go into one batch.")])
    empty = dict.fromkeys(columns, "")
    found = [
        Line(number, empty | {name: cell.strip() for name, cell in zip(names, cells, strict=False)})
        for number, cells in rest
    ]
    wide = [number for number, cells in rest if len(cells) > len(names)]
    return found, [Problem(number, names[-1], "There are more cells than columns.") for number in wide]


def _lines(text: str, column: str) -> list[tuple[int, list[str]]]:
    """Lines that are not empty, with their numbers."""
    if (at := text.find("\0")) >= 0:
        number = text.count("\n", 0, at) + 1
        raise BadRows([Problem(number, column, "This is no text: there is a NUL character in it.")])
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise BadRows([Problem(reader.line_num, column, f"This is no CSV: {error}.")]) from None


def _refuse_heading(names: Sequence[str], columns: Sequence[str], needed: Sequence[str]) -> None:
    problems = [
        Problem(1, name or "heading", f"This column is not known. Use {', '.join(columns)}.")
        for name in names
        if name not in columns
    ]
    problems += [
        Problem(1, name, "This column stands twice.") for name in dict.fromkeys(names) if names.count(name) > 1
    ]
    problems += [Problem(1, name, "This column is missing.") for name in needed if name not in names]
    if problems:
        raise BadRows(problems)


def to_instant(text: str) -> datetime:
    """An ISO date or instant; UTC where it does not say. Raises `ValueError`."""
    found = datetime.fromisoformat(text)
    try:
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except OverflowError:  # the edges of the calendar have no UTC
        raise ValueError(text) from None
    if not 1970 <= found.year < 2200:
        raise ValueError(text)
    return found


# Writing --------------------------------------------------------------------------------------------------------------


def csv_line(cells: Iterable[Cell]) -> str:
    """One line: instants in UTC as ISO 8601, numbers plain, texts harmless."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_text(cell) for cell in cells])
    return line.getvalue()


def _text(cell: Cell) -> str:
    match cell:
        case None:
            return ""
        case bool():
            return "yes" if cell else "no"
        case datetime():
            return cell.astimezone(UTC).isoformat()
        case Decimal():
            return plain(cell)
        case int():
            return str(cell)
    return harmless(cell)


def harmless(text: str) -> str:
    """Text of others that a spreadsheet would run as a formula is marked as text; a number is none."""
    runs = text[:1] in ("=", "+", "-", "@", "\t", "\r") and not BELOW_ZERO.fullmatch(text)
    return f"'{text}" if runs else text


def in_major(minor: int | None, currency: str) -> str | None:
    """Minor units as a number in major ones, `26.67`, with the decimals of its currency; the sign is a plain minus."""
    if minor is None:
        return None
    decimals = exponent(currency)
    return f"{Decimal(minor).scaleb(-decimals):.{decimals}f}"
