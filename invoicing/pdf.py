"""A document on paper: `Paper` → PDF, the same bytes for the same document.

The fonts lie beside this file, so that nothing has to be installed; they hold Latin, Greek and Cyrillic letters and
the signs of currencies.
"""

from collections.abc import Iterable
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
    load_fonts()
    _, pages = _print(paper, of=0)
    printed, _ = _print(paper, of=pages)
    return printed


def _print(paper: Paper, *, of: int) -> tuple[bytes, int]:
    """The PDF and the number of its pages; how many there are is known only once they are laid out."""
    stream = BytesIO()
    document = SimpleDocTemplate(
        stream,
        pagesize=A4,
        leftMargin=MARGIN - PADDING,
        rightMargin=MARGIN - PADDING,
        topMargin=MARGIN,
        bottomMargin=FOOT,
        title=paper.title,
        author=paper.seller.name,
        lang=paper.tongue.language,
        invariant=1,
    )

    def foot(canvas: Canvas, document: Any) -> None:
        _write_foot(canvas, paper, document.page, of)

    document.build(list(_story(paper)), onFirstPage=foot, onLaterPages=foot)
    return stream.getvalue(), document.page


@cache
def load_fonts() -> None:
    """Once per process."""
    pdfmetrics.registerFont(TTFont(REGULAR, FONTS / "Inter-Regular.ttf"))
    pdfmetrics.registerFont(TTFont(BOLD, FONTS / "Inter-SemiBold.ttf"))


def _write_foot(canvas: Canvas, paper: Paper, number: int, of: int) -> None:
    canvas.setFont(REGULAR, 7.8)
    canvas.setFillColor(MUTED)
    canvas.drawString(MARGIN, 12 * mm, " · ".join(part for part in (paper.seller.name, paper.title) if part))
    canvas.drawRightString(A4[0] - MARGIN, 12 * mm, paper.tongue.say("page_of", page=number, pages=of))


def _story(paper: Paper) -> Iterable[Flowable]:
    title = [text(paper.title, TITLE), text(paper.state.name, NAME)]
    yield _side_by_side(title, _party(paper.seller, NAME_RIGHT, BODY_RIGHT), WIDTH / 2)
    yield Spacer(0, 7 * mm)
    yield text(paper.notice.headline, HEADLINE)
    if paper.notice.text:
        yield text(paper.notice.text, BODY)
    yield Spacer(0, 7 * mm)
    buyer = [text(paper.words["billed_to"], LABEL), *_party(paper.buyer, NAME, BODY)]
    yield _side_by_side(buyer, [_pairs(paper.facts)], sum(PAIR))
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


def _party(party: Party, name: ParagraphStyle, body: ParagraphStyle) -> list[Flowable]:
    return [text(party.name, name), *(text(line, body) for line in party.lines)]


def _side_by_side(left: list[Any], right: list[Any], width: float) -> Table:
    return _grid([[left, right]], (WIDTH - width, width))


def _grid(rows: list[list[Any]], widths: tuple[float, ...], *more: Any, pad: float = 0, repeat: int = 0) -> Table:
    plain = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), pad),
        ("BOTTOMPADDING", (0, 0), (-1, -1), pad),
    ]
    return Table(rows, colWidths=widths, repeatRows=repeat, hAlign="RIGHT", style=[*plain, *more])


def _pairs(facts: Iterable[Entry]) -> Table:
    rows = [[text(fact.name, style(9, 13, color=MUTED)), text(fact.value, NAME_RIGHT)] for fact in facts]
    return _grid(rows, PAIR, pad=0.6)


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
    return _grid([head, *rows], COLUMNS, *ruled, pad=5, repeat=1)


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
    return _grid(rows, (62 * mm, 34 * mm), *rules, pad=2.6)


def _ways_to_pay(paper: Paper) -> Iterable[Flowable]:
    for way in paper.payments:
        said: list[Flowable] = [Spacer(0, 8 * mm), text(paper.words["how_to_pay"], NAME)]
        if way.instructions:
            said.append(text(way.instructions, BODY))
        said.append(text(way.url or f"{paper.words['reference']}: {way.reference}", BODY))
        yield KeepTogether(said)
