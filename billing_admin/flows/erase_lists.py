"""What filters and exports say of who a customer was, when the customer is erased: words that people typed are
overwritten, and files that name the customer are removed before their week is over."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.http import QueryDict

from billing_admin.flows.exports import NARROWED, path_of
from billing_admin.models import Batch, Export, SavedFilter
from catalog.after import after_commit
from customers.models import Customer, Operation

ERASED = "(erased)"
REMOVED = "The file was removed: it held a customer who has been erased since."
# Conditions that people type, or that name a customer; all others are chosen from a list.
TYPED = ("q", "customer", "name", "property")
# So many letters of a name have to stand in a search before it says whose name it is.
TELLING = 3
A_BLOCK = 1 << 20


def erase_lists(customer: Customer, names: Collection[str], ids: Collection[str]) -> None:
    """`names` are all that the customer was ever called, `ids` those that lists knew them by. The caller holds the
    customer, whose own row is overwritten already."""
    forget = Forget(names)
    _erase_filters(names, forget)
    known = {str(customer.pk), customer.public_id, *ids}
    theirs = {export.pk for export in _ready() if _is_of(export, known)}
    theirs |= _erase_exports(names, forget)
    _remove_files(theirs, forget)
    for batch in Batch.objects.filter(_any(Q(title__icontains=name) for name in names)):
        batch.title = forget.text(batch.title)[:300]
        batch.save(update_fields=["title"])


class Forget:
    """Takes names out of what people typed, and finds them in files. A name that is a number, or shorter than what
    tells, is one only where it stands alone."""

    def __init__(self, names: Collection[str]):
        self.names = {name.casefold() for name in names}
        long = [name for name in names if len(name) >= TELLING and not name.isdecimal()]
        short = [name for name in names if name not in long]
        self._in_text = re.compile(_whole(long), re.IGNORECASE) if long else None
        cells = [_whole([name.replace('"', '""') for name in long])] if long else []
        cells += [rf'(?:^|,)"?(?:{"|".join(map(re.escape, short))})"?(?=,|\r?$)'] if short else []
        self._in_file = re.compile("|".join(cells), re.IGNORECASE | re.MULTILINE)

    def text(self, text: str) -> str:
        return self._in_text.sub(ERASED, text) if self._in_text else text

    def typed(self, value: str) -> str:
        """Also the beginning of a name goes, unless it finds others, too."""
        words = value.strip().casefold()
        if words in self.names:
            return ERASED
        begins = len(words) >= TELLING and any(name.startswith(words) for name in self.names)
        if begins and not Customer.objects.matching(words).exists():
            return ERASED
        return self.text(value)

    def query(self, query: str) -> str:
        asked = QueryDict(query, mutable=True)
        for key in TYPED:
            if key in asked:
                asked.setlist(key, [self._condition(key, value) for value in asked.getlist(key)])
        return asked.urlencode()

    def _condition(self, key: str, value: str) -> str:
        numbers_somebody = key == "customer" and value.isdecimal() and len(value) < 18
        if numbers_somebody and Customer.objects.filter(pk=int(value)).exists():
            return value
        return self.typed(value)

    def is_in(self, file: Path) -> bool:
        with file.open(encoding="utf-8", errors="replace", newline="") as text:
            while block := text.readlines(A_BLOCK):
                if self._in_file.search("".join(block)):
                    return True
        return False


def _whole(words: Collection[str]) -> str:
    return rf"(?<!\w)(?:{'|'.join(re.escape(word) for word in words)})(?!\w)"


# Filters --------------------------------------------------------------------------------------------------------------


def _erase_filters(names: Collection[str], forget: Forget) -> None:
    for kept in _saying(SavedFilter.objects.all(), names, "query", "name"):
        kept.query = forget.query(kept.query)[:2000]
        kept.save(update_fields=["query"])
        if (name := forget.text(kept.name)[:60]) != kept.name:
            _rename(kept, name)


def _rename(kept: SavedFilter, name: str) -> None:
    """Another filter of theirs may be called so by now."""
    try:
        with transaction.atomic():
            SavedFilter.objects.filter(pk=kept.pk).update(name=name)
    except IntegrityError:
        SavedFilter.objects.filter(pk=kept.pk).update(name=f"{name[:40]} {kept.pk}")


def _saying(rows: "QuerySet[Any]", names: Collection[str], *fields: str) -> "QuerySet[Any]":
    """Those in which the beginning of a name stands, as an address or a text spells it."""
    starts = {form[:TELLING] for name in names for form in (name, name.lower(), name.upper(), name.title())}
    spelt = starts | {quote_plus(start) for start in starts}
    return rows.filter(_any(Q(**{f"{field}__icontains": each}) for field in fields for each in spelt))


def _any(conditions: Iterable[Q]) -> Q:
    found = Q(pk__in=[])
    for condition in conditions:
        found |= condition
    return found


# Exports --------------------------------------------------------------------------------------------------------------


def _erase_exports(names: Collection[str], forget: Forget) -> set[int]:
    """The words of exports and of their lines in the history. Returns the keys of those that said them."""
    changed = {}
    for export in _saying(Export.objects.all(), names, "query"):
        if (query := forget.query(export.query)[:2000]) != export.query:
            changed[export.public_id] = query
            Export.objects.filter(pk=export.pk).update(query=query)
    for line in Operation.objects.filter(customer=None, verb="export.asked", inputs__export__in=list(changed)):
        after = changed[line.inputs["export"]]
        # Rebuilt, since a long one is cut off within the words.
        begins, between, _ = line.summary.partition(NARROWED)
        line.summary = f"{begins}{between}{after}"[:500]
        line.inputs = line.inputs | {"query": after}
        line.save(update_fields=["summary", "inputs"])
    return set(Export.objects.filter(public_id__in=list(changed)).values_list("pk", flat=True))


def _remove_files(theirs: Collection[int], forget: Forget) -> None:
    """Whoever is at one begins anew, without the customer; then nothing becomes ready that was read before. Those that
    wait are held, so that nobody begins one before the customer is gone."""
    under_way = Export.objects.filter(state__in=(Export.State.RUNNING, Export.State.WAITING))
    under_way.update(state=Export.State.WAITING, heard_at=None)
    for export in _ready():
        file = path_of(export)
        if export.pk in theirs or (file.exists() and forget.is_in(file)):
            Export.objects.filter(pk=export.pk).update(state=Export.State.EXPIRED, problem=REMOVED)
            after_commit(file.unlink, missing_ok=True)


def _ready() -> "QuerySet[Export]":
    return Export.objects.filter(state=Export.State.DONE)


def _is_of(export: Export, known: Collection[str]) -> bool:
    """Whether the list was that of this customer alone; its rows need not name them."""
    return QueryDict(export.query).get("customer", "") in known
