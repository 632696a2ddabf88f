"""HTML pages and a PDF, made of plain strings."""

from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent / "browser"


def page(title: str, body: str) -> bytes:
    """A whole page; `body` is HTML, `title` plain text."""
    style = (FOLDER / "page.css").read_text()
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style>{style}</style></head><body><main><span class="test">Test mode</span>{body}</main></body></html>'
    ).encode()


def table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def hidden(name: str, value: str) -> str:
    return f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' if value else ""


def field(name: str, label: str, hint: str, value: str = "") -> str:
    return (
        f'<label>{escape(label)}<input name="{name}" placeholder="{escape(hint)}" autocomplete="off" '
        f'value="{escape(value)}" required></label>'
    )


def pdf(lines: list[str]) -> bytes:
    """One page of text, a line under the other."""
    shown = [line.translate(str.maketrans({"\\": r"\\", "(": r"\(", ")": r"\)"})) for line in lines]
    text = "BT /F1 12 Tf 72 770 Td 16 TL " + " ".join(f"({line}) Tj T*" for line in shown) + " ET"
    stream = text.encode("cp1252", "replace")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    return assembled(objects)


def assembled(objects: list[bytes]) -> bytes:
    """Objects numbered from 1 with the table that says where each begins."""
    document, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(document))
        document += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    start = len(document)
    entries = b"".join(b"%010d 00000 n \n" % place for place in places)
    return document + (
        b"xref\n0 %d\n0000000000 65535 f \n%btrailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
        % (len(objects) + 1, entries, len(objects) + 1, start)
    )
