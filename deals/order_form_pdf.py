"""An order form on paper: `OrderForm` → PDF, laid out like our other documents; the same bytes for the same form."""

from collections.abc import Iterable

from reportlab.lib.units import mm
from reportlab.platypus import Flowable, KeepTogether, Paragraph, Spacer, Table

from deals.order_form import Bought, Coming, OrderForm, Stage
from invoicing.paper import Entry
from invoicing.pdf import (
    BODY,
    BODY_RIGHT,
    HEADLINE,
    LABEL,
    LINE,
    MUTED,
    NAME,
    NAME_RIGHT,
    SMALL,
    SMALL_RIGHT,
    TITLE,
    WIDTH,
    grid,
    party,
    print_story,
    side_by_side,
    style,
    text,
)

ITEMS = (WIDTH - 88 * mm, 30 * mm, 58 * mm)
INVOICES = (30 * mm, 30 * mm, WIDTH - 96 * mm, 36 * mm)
HALF, GAP = WIDTH / 2 - 5 * mm, 10 * mm
FACTS = (34 * mm, 46 * mm)
SUMS = (WIDTH - 92 * mm, 92 * mm)
SIGNED = ("Signature", "Name", "Title", "Date")
RULES = (("LINEABOVE", (0, 0), (-1, 0), 0.6, LINE), ("LINEBELOW", (0, 0), (-1, -1), 0.6, LINE))


def print_order_form(form: OrderForm) -> bytes:
    """The PDF; without the moment of printing in it."""

    def foot(page: int, of: int) -> tuple[str, str]:
        left = " · ".join(part for part in (form.seller.name, form.title, form.reference) if part)
        return left, f"Page {page} of {of}"

    title = f"{form.title} {form.reference}"
    return print_story(lambda: _story(form), title=title, author=form.seller.name, language="en", foot=foot)


def _story(form: OrderForm) -> Iterable[Flowable]:
    title = [text(form.title, TITLE), text(form.reference, SMALL)]
    yield side_by_side(title, party(form.seller, NAME_RIGHT, BODY_RIGHT), WIDTH / 2)
    if form.notice:
        yield Spacer(0, 5 * mm)
        yield text(form.notice, NAME)
    yield Spacer(0, 8 * mm)
    buyer = [text("Customer", LABEL), *party(form.buyer, NAME, BODY)]
    yield side_by_side(buyer, [_facts(form.facts)], sum(FACTS))
    if form.introduction:
        yield Spacer(0, 6 * mm)
        yield text(form.introduction, BODY)
    for stage in form.stages:
        yield from _section(stage.title, _bought(stage), beside=stage.span, after=_also(stage))
    if form.given:
        yield from _section("Discounts and special terms", _entries(form.given))
    yield from _section("Value of this order", _entries(form.totals), together=True)
    if form.invoices:
        yield from _section("Invoices to expect", _invoices(form.invoices), after=[text(form.note, SMALL)])
    if form.terms:
        first, *more = (text(part, BODY) for part in form.terms.split("\n\n"))
        yield from _section("Terms", first, after=more)
    yield from _section("Signatures", _signatures(form), together=True)


def _section(
    title: str, *body: Flowable, beside: str = "", after: Iterable[Flowable] = (), together: bool = False
) -> Iterable[Flowable]:
    """A heading never stands alone at the end of a page; a long table goes on over the next one."""
    heading = [text(title, HEADLINE)]
    head = side_by_side(heading, [text(beside, SMALL_RIGHT)], 60 * mm) if beside else heading[0]
    yield Spacer(0, 8 * mm)
    whole = [head, Spacer(0, 2 * mm), *body]
    if together:
        yield KeepTogether(whole)
    elif isinstance(body[0], Table):
        head.keepWithNext = whole[1].keepWithNext = 1
        yield from whole
    else:
        yield KeepTogether(whole)
    for flowable in after:
        yield Spacer(0, 1.6 * mm)
        yield flowable


def _facts(facts: Iterable[Entry]) -> Table:
    muted = style(9, 13, color=MUTED)
    return grid([[text(fact.name, muted), text(fact.value, NAME_RIGHT)] for fact in facts], FACTS, pad=0.6)


def _bought(stage: Stage) -> Table:
    head = [text("Item", SMALL), text("Included", SMALL_RIGHT), text("Price", SMALL_RIGHT)]
    rows = [[text(row.name, NAME), text(row.included, BODY_RIGHT), _price(row)] for row in stage.rows]
    return grid([head, *rows], ITEMS, *RULES, pad=4.2, repeat=1)


def _price(row: Bought) -> list[Paragraph]:
    return [text(row.price, BODY_RIGHT), *(text(line, SMALL_RIGHT) for line in row.more)]


def _also(stage: Stage) -> list[Flowable]:
    return [text(sentence, BODY) for sentence in stage.also]


def _entries(entries: Iterable[Entry]) -> Table:
    rows, rules = [], []
    for place, entry in enumerate(entries):
        is_sum, is_minor = entry.tone == "total", entry.tone == "minor"
        shapes = (NAME, NAME_RIGHT) if is_sum else (SMALL, SMALL_RIGHT) if is_minor else (BODY, BODY_RIGHT)
        rows.append([text(entry.name, shapes[0]), text(entry.value, shapes[1])])
        if is_sum and place:
            rules.append(("LINEABOVE", (0, place), (-1, place), 0.6, LINE))
    return grid(rows, SUMS, *RULES, *rules, pad=3.2)


def _invoices(invoices: Iterable[Coming]) -> Table:
    head = [text("Date", SMALL), text("Due by", SMALL), text("For", SMALL), text("Expected", SMALL_RIGHT)]
    rows = [
        [
            text(row.date, BODY),
            text(row.due, BODY),
            text(row.what, SMALL),
            text(f"{row.amount}{' *' if row.is_estimated else ''}", NAME_RIGHT),
        ]
        for row in invoices
    ]
    return grid([head, *rows], INVOICES, *RULES, pad=2.6, repeat=1)


def _signatures(form: OrderForm) -> Table:
    ours, theirs = form.signers
    sides = [[text(ours, NAME), "", text(theirs, NAME)]]
    blanks = [[text(word, LABEL), "", text(word, LABEL)] for word in SIGNED]
    places = [(column, row) for column in (0, 2) for row in range(1, len(SIGNED) + 1)]
    lines = [("LINEBELOW", place, place, 0.6, MUTED) for place in places]
    heights = [7 * mm, 16 * mm, *([10 * mm] * (len(SIGNED) - 1))]
    table = Table(
        [*sides, *blanks],
        colWidths=(HALF, GAP, HALF),
        rowHeights=heights,
        style=[("VALIGN", (0, 0), (-1, -1), "BOTTOM"), ("LEFTPADDING", (0, 0), (-1, -1), 0), *lines],
    )
    table.hAlign = "RIGHT"
    return table
