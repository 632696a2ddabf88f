"""A document on paper: `Paper` → PDF, the same bytes for the same document.

The fonts lie beside this file, so that nothing has to be installed; they hold Latin, Greek and Cyrillic letters and
the signs of currencies. `print_story` and the parts below it lay out other papers of ours alike.
"""

from collections.abc import Callable, Iterable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import Color, HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table

from invoicing.paper import Entry, Paper, Party, Row

FONTS = Path(__file__).parent / "fonts"
REGULAR, BOLD = "Inter", "Inter-SemiBold"
STRONG, TEXT, MUTED, LINE = (HexColor(code) for code in ("#14161c", "#2b2f3a", "#596070", "#c9ccd4"))
MARGIN, FOOT = 18 * mm, 22 * mm
PADDING = 6  # that the library's frame keeps on each side
WIDTH = A4[0] - 2 * MARGIN
PAIR = (22 * mm, 52 * mm)
COLUMNS = (WIDTH - 46 * mm, 16 * mm, 30 * mm)
WHOLE_WIDTH_YEN = str.maketrans({"￥": "¥"})


def style(size: float, leading: float, *, font: str = REGULAR, color: Color = TEXT, right: bool = False) -> Any:
    name = f"{font} {size} {color.hexval()} {right}"
    return ParagraphStyle(
        name, fontName=font, fontSize=size, leading=leading, textColor=color, alignment=TA_RIGHT if right else 0
    )


TITLE = style(18, 24, font=BOLD, color=STRONG)
HEADLINE = style(11.5, 16, font=BOLD, color=STRONG)
BODY, BODY_RIGHT = style(9, 13), style(9, 13, right=True)
NAME, NAME_RIGHT = style(9, 13, font=BOLD, color=STRONG), style(9, 13, font=BOLD, color=STRONG, right=True)
SMALL, SMALL_RIGHT = style(7.8, 11.2, color=MUTED), style(7.8, 11.2, color=MUTED, right=True)
LABEL = style(8, 12, color=MUTED)


def print_paper(paper: Paper) -> bytes:
    """The PDF of a document; without the moment of printing in it."""

    def foot(page: int, of: int) -> tuple[str, str]:
        left = " · ".join(part for part in (paper.seller.name, paper.title) if part)
        return left, paper.tongue.say("page_of", page=page, pages=of)

    return print_story(
        lambda: _story(paper), title=paper.title, author=paper.seller.name, language=paper.tongue.language, foot=foot
    )


def print_story(
    story: Callable[[], Iterable[Flowable]],
    *,
    title: str,
    author: str,
    language: str,
    foot: Callable[[int, int], tuple[str, str]],
) -> bytes:
    """Pages of ours. `foot` says what stands at the left and right end of page n of m."""
    load_fonts()

    def printed(of: int) -> tuple[bytes, int]:
        return _print(list(story()), title=title, author=author, language=language, foot=lambda page: foot(page, of))

    # How many pages there are is known only once they are laid out.
    _, pages = printed(0)
    return printed(pages)[0]


def _print(
    story: list[Flowable], *, title: str, author: str, language: str, foot: Callable[[int], tuple[str, str]]
) -> tuple[bytes, int]:
    """The PDF and the number of its pages."""
    stream = BytesIO()
    document = SimpleDocTemplate(
        stream,
        pagesize=A4,
        leftMargin=MARGIN - PADDING,
        rightMargin=MARGIN - PADDING,
        topMargin=MARGIN,
        bottomMargin=FOOT,
        title=title,
        author=author,
        lang=language,
        invariant=1,
    )

    def write_foot(canvas: Canvas, document: Any) -> None:
        _write_foot(canvas, *foot(document.page))

    document.build(story, onFirstPage=write_foot, onLaterPages=write_foot)
    return stream.getvalue(), document.page


@cache
def load_fonts() -> None:
    """Once per process."""
    pdfmetrics.registerFont(TTFont(REGULAR, FONTS / "Inter-Regular.ttf"))
    pdfmetrics.registerFont(TTFont(BOLD, FONTS / "Inter-SemiBold.ttf"))


def _write_foot(canvas: Canvas, left: str, right: str) -> None:
    canvas.setFont(REGULAR, 7.8)
    canvas.setFillColor(MUTED)
    canvas.drawString(MARGIN, 12 * mm, left)
    canvas.drawRightString(A4[0] - MARGIN, 12 * mm, right)


def _story(paper: Paper) -> Iterable[Flowable]:
    title = [text(paper.title, TITLE), text(paper.state.name, NAME)]
    yield side_by_side(title, party(paper.seller, NAME_RIGHT, BODY_RIGHT), WIDTH / 2)
    yield Spacer(0, 7 * mm)
    yield text(paper.notice.headline, HEADLINE)
    if paper.notice.text:
        yield text(paper.notice.text, BODY)
    yield Spacer(0, 7 * mm)
    buyer = [text(paper.words["billed_to"], LABEL), *party(paper.buyer, NAME, BODY)]
    yield side_by_side(buyer, [pairs(paper.facts)], sum(PAIR))
    if paper.memo:
        yield Spacer(0, 5 * mm)
        yield text(paper.memo, BODY)
    yield Spacer(0, 8 * mm)
    yield _lines(paper)
    yield Spacer(0, 4 * mm)
    yield KeepTogether([_totals(paper)])
    yield from _ways_to_pay(paper)
    if paper.footer:
        yield Spacer(0, 8 * mm)
        yield text(paper.footer, SMALL)


def text(words: str, shape: ParagraphStyle) -> Paragraph:
    """A paragraph of plain words; line breaks stay."""
    return Paragraph(escape(words.translate(WHOLE_WIDTH_YEN)).replace("\n", "<br/>"), shape)


def party(who: Party, name: ParagraphStyle, body: ParagraphStyle) -> list[Flowable]:
    return [text(who.name, name), *(text(line, body) for line in who.lines)]


def side_by_side(left: list[Any], right: list[Any], width: float) -> Table:
    return grid([[left, right]], (WIDTH - width, width))


def grid(rows: list[list[Any]], widths: tuple[float, ...], *more: Any, pad: float = 0, repeat: int = 0) -> Table:
    plain = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), pad),
        ("BOTTOMPADDING", (0, 0), (-1, -1), pad),
    ]
    return Table(rows, colWidths=widths, repeatRows=repeat, hAlign="RIGHT", style=[*plain, *more])


def pairs(facts: Iterable[Entry]) -> Table:
    rows = [[text(fact.name, style(9, 13, color=MUTED)), text(fact.value, NAME_RIGHT)] for fact in facts]
    return grid(rows, PAIR, pad=0.6)


def _lines(paper: Paper) -> Flowable:
    if not paper.rows:
        return text(paper.words["no_lines"], BODY)
    head = [
        text(paper.words["description"], SMALL),
        text(paper.words["quantity"], SMALL_RIGHT),
        text(paper.words["amount"], SMALL_RIGHT),
    ]
    rows = [[_what(row), text(row.quantity, BODY_RIGHT), text(row.amount, NAME_RIGHT)] for row in paper.rows]
    ruled = [("LINEABOVE", (0, 0), (-1, 0), 0.6, LINE), ("LINEBELOW", (0, 0), (-1, -1), 0.6, LINE)]
    return grid([head, *rows], COLUMNS, *ruled, pad=5, repeat=1)


def _what(row: Row) -> list[Flowable]:
    """What is charged, when, and how it came about."""
    facts = " · ".join(f"{fact.name}: {fact.value}" for fact in row.facts)
    said = [text(row.text, NAME), *(text(words, SMALL) for words in (row.period, row.sum, facts))]
    return [paragraph for paragraph in said if paragraph.text]


def _totals(paper: Paper) -> Table:
    rows = []
    rules = []
    for place, entry in enumerate(paper.totals):
        is_sum = entry.tone == "total"
        small = entry.tone == "minor"
        shapes = (NAME, NAME_RIGHT) if is_sum else (SMALL, SMALL_RIGHT) if small else (BODY, BODY_RIGHT)
        rows.append([text(entry.name, shapes[0]), text(entry.value, shapes[1])])
        if is_sum and place:
            rules.append(("LINEABOVE", (0, place), (-1, place), 0.6, LINE))
    return grid(rows, (62 * mm, 34 * mm), *rules, pad=2.6)


def _ways_to_pay(paper: Paper) -> Iterable[Flowable]:
    for way in paper.payments:
        said: list[Flowable] = [Spacer(0, 8 * mm), text(paper.words["how_to_pay"], NAME)]
        if way.instructions:
            said.append(text(way.instructions, BODY))
        said.append(text(way.url or f"{paper.words['reference']}: {way.reference}", BODY))
        yield KeepTogether(said)
