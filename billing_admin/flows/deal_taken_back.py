"""What a deal was carried out by, act by act, and which of that was taken back since."""

from collections.abc import Iterable
from dataclasses import dataclass

from billing_admin.undoing import INVERSES
from customers.models import Operation
from deals.models import Deal


@dataclass(frozen=True, slots=True)
class Part:
    """One act that a deal is made of, and the one that took it back, if it does not hold any more."""

    act: Operation
    taken_back_by: Operation | None = None


def parts_of(deal: Deal) -> list[Part]:
    """Those that can be taken back by themselves, in their order; no query of a deal that is not executed."""
    if deal.operation is None:
        return []
    acts = Operation.objects.filter(public_id__in=deal.operation.effects["acts"], verb__in=INVERSES)
    rows = list(acts.select_related("customer").order_by("id"))
    undone = last_links(rows)
    return [Part(row, undone.get(row.pk)) for row in rows]


def last_links(acts: Iterable[Operation]) -> dict[int, Operation]:
    """By act, the one that took it back, where it is not in force: what was taken back itself counts for nothing."""
    wanted = [act.pk for act in acts]
    links: dict[int, Operation] = {}
    ends = wanted
    while ends:
        rows = Operation.objects.filter(reverses__in=ends)
        found = {row.reverses_id: row for row in rows if row.reverses_id is not None}
        links |= found
        ends = [row.pk for row in found.values()]
    return {key: links[key] for key in wanted if not _holds(key, links)}


def _holds(key: int, links: dict[int, Operation]) -> bool:
    """Whether an act is in force: it holds unless the act that reverses it does."""
    by = links.get(key)
    return by is None or not _holds(by.pk, links)


def taken_back_words(parts: Iterable[Part]) -> str:
    """`1 of 3 parts taken back`; nothing where all of them hold."""
    everything = list(parts)
    gone = sum(part.taken_back_by is not None for part in everything)
    return f"{gone} of {len(everything)} parts taken back" if gone else ""
