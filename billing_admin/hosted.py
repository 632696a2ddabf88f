"""What customers see of a document: a page and a PDF behind a link; without a login, scripts or cookies."""

from secrets import compare_digest

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_safe

from billing_admin.flows.gate import waits
from billing_admin.middleware import DeskRequest
from invoicing.models import Invoice
from invoicing.paper import Paper, find_issued, read_paper
from invoicing.tongue import Tongue

# Nothing but our own stylesheet and font; nothing may frame the page, and the link goes nowhere with a click.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; font-src 'self'; img-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
    "Cache-Control": "private, no-cache",
}


@require_safe
def document_page(request: DeskRequest, token: str) -> HttpResponse:
    invoice = found(token)
    if invoice is None:
        return missing(request)
    paper = paper_of(invoice, request)
    pdf = reverse("hosted_pdf", args=[token])
    return answer(render_to_string("hosted/page.html", {"paper": paper, "say": paper.words, "pdf": pdf}))


@require_safe
def document_pdf(request: DeskRequest, token: str) -> HttpResponse:
    invoice = found(token)
    if invoice is None:
        return missing(request)
    from invoicing.pdf import print_paper  # its library takes memory that few web processes need

    printed = HttpResponse(print_paper(paper_of(invoice, request)), content_type="application/pdf", headers=HEADERS)
    printed["Content-Disposition"] = f'inline; filename="{invoice.number}.pdf"'
    return printed


def found(token: str) -> Invoice | None:
    """Unknown links and drafts are one and the same to whoever asks; how much of a token is right shows nowhere."""
    invoice = find_issued(token)
    return invoice if invoice is not None and compare_digest(invoice.token, token) else None


def paper_of(invoice: Invoice, request: DeskRequest) -> Paper:
    return read_paper(invoice, is_gate=waits(invoice), now=request.now)


def missing(request: HttpRequest) -> HttpResponse:
    """In the visitor's language, as their browser says it: we do not know them."""
    tongue = Tongue.of(request.headers.get("Accept-Language", "").split(",")[0].split(";")[0].strip())
    html = render_to_string("hosted/missing.html", {"say": tongue.words, "language": tongue.language})
    return answer(html, status=404)


def answer(html: str, status: int = 200) -> HttpResponse:
    return HttpResponse(html, status=status, headers=HEADERS)


urlpatterns: list[URLPattern] = [
    path("<slug:token>.pdf", document_pdf, name="hosted_pdf"),
    path("<slug:token>", document_page, name="hosted_document"),
]
