"""The page on which a customer saves a way to pay: behind a signed link, without a login or cookies.

The form on it is Stripe's own, in frames of Stripe's; what is typed never comes here. Only that script, ours, and the
addresses that Stripe's documentation names may be loaded.
"""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_safe

from billing_admin.flows.stripe_account import failing
from billing_admin.flows.stripe_methods import begin_saving, finish_saving, open_link, token_of
from billing_admin.hosted import HEADERS, found, missing
from billing_admin.middleware import DeskRequest
from customers.models import Customer
from invoicing.models import BillingSettings
from invoicing.paper import seller_of
from invoicing.tongue import Tongue
from payments.gateway import Missing, NotAllowed, StripeTrouble, Unreachable, enabled, in_a_hurry
from payments.models import StripeCustomer

STRIPE_JS = "https://js.stripe.com"
# What became of it: headline, text, tone, whether to try again.
OUTCOMES = {
    "succeeded": ("method_done", "method_done_plain", "good", False),
    "processing": ("method_processing", "method_processing_more", "info", False),
    "failed": ("method_failed", "method_failed_more", "bad", True),
}
AWAY = ("method_away", "method_away_more", "bad", True)
GONE = ("method_gone", "method_gone_more", "off", False)


@require_safe
def save_method(request: DeskRequest, token: str) -> HttpResponse:
    """The form. Makes the customer in Stripe where there is none yet."""
    opened = open_link(token, request.now) if _is_set_up() else None
    if opened is None or opened.customer is None:
        return missing(request)
    customer = opened.customer
    if opened.is_over:
        return _say(customer, GONE, status=410)
    try:
        with in_a_hurry():
            secret = begin_saving(customer, request.now)
    except StripeTrouble as trouble:
        return _trouble(customer, trouble, request, token)
    tongue = Tongue.of(customer.locale)
    present = _present(customer)
    context = {
        "secret": secret,
        "publishable_key": settings.STRIPE_PUBLISHABLE_KEY,
        "stripe_js": settings.STRIPE_JS_URL,
        "back": settings.PUBLIC_URL + reverse("hosted_method_saved", args=[token]),
        "present": tongue.say("method_present", method=present) if present else "",
        "whose": tongue.say("method_for", name=customer.name),
        "email": customer.email,
    }
    return _page("hosted/method.html", customer, context)


@require_safe
def method_saved(request: DeskRequest, token: str) -> HttpResponse:
    """Where Stripe's form leads to. Looks at what became of it; the address is not believed."""
    opened = open_link(token, request.now) if _is_set_up() else None
    setup = request.GET.get("setup_intent", "")
    if opened is None or opened.customer is None or not setup.startswith("seti_"):
        return missing(request)
    customer = opened.customer
    try:
        with in_a_hurry():
            saved = finish_saving(customer, setup, request.now)
    except Missing:
        return missing(request)
    except StripeTrouble as trouble:
        return _trouble(customer, trouble, request, token)
    if saved.status == "succeeded" and saved.label:
        more = Tongue.of(customer.locale).say("method_done_more", method=saved.label)
        return _say(customer, OUTCOMES["succeeded"], more=more)
    outcome = OUTCOMES.get(saved.status, OUTCOMES["failed"])
    return _say(customer, outcome, again=reverse("hosted_method", args=[token]))


@require_safe
def method_of_document(request: DeskRequest, token: str) -> HttpResponse:
    """From a document's own link to a fresh one for its customer."""
    invoice = found(token) if _is_set_up() else None
    if invoice is None or invoice.customer.closed_at is not None:
        return missing(request)
    answer = HttpResponseRedirect(reverse("hosted_method", args=[token_of(invoice.customer, request.now)]))
    for name, value in HEADERS.items():
        answer[name] = value
    return answer


def _is_set_up() -> bool:
    return enabled() and bool(settings.STRIPE_PUBLISHABLE_KEY)


def _present(customer: Customer) -> str:
    row = StripeCustomer.objects.linked().filter(customer=customer).first()
    default = row.default_method if row else None
    return str(default.get("label") or "") if default else ""


def _trouble(customer: Customer, trouble: StripeTrouble, request: DeskRequest, token: str) -> HttpResponse:
    """Stripe is away, or says no: the same to a customer, who can only try again."""
    if isinstance(trouble, Unreachable | NotAllowed):
        failing(trouble, request.now)
    return _say(customer, AWAY, status=503, again=request.get_full_path())


def _say(
    customer: Customer, outcome: tuple[str, str, str, bool], *, more: str = "", again: str = "", status: int = 200
) -> HttpResponse:
    headline, text, tone, may_retry = outcome
    words = Tongue.of(customer.locale).words
    context = {
        "headline": words[headline],
        "more": more or words[text],
        "tone": tone,
        "again": again if may_retry else "",
    }
    return _page("hosted/method_said.html", customer, context, status=status)


def _page(template: str, customer: Customer, context: dict[str, Any], status: int = 200) -> HttpResponse:
    tongue, account = Tongue.of(customer.locale), BillingSettings.present()
    html = render_to_string(
        template, {"say": tongue.words, "tongue": tongue, "seller": seller_of(account, tongue), **context}
    )
    return HttpResponse(html, status=status, headers=headers())


def headers() -> dict[str, str]:
    """Those of every hosted page; the policy lets in Stripe's script and frames."""
    policy = {
        "default-src": "'none'",
        "script-src": f"'self' {' '.join(_scripts())}",
        "connect-src": " ".join(_calls()),
        "frame-src": " ".join(_frames()),
        "style-src": "'self'",
        "font-src": "'self'",
        "img-src": "'self'",
        "form-action": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    return HEADERS | {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        # The form of a wallet or a bank may open a window of its own and has to answer from there.
        "Cross-Origin-Opener-Policy": "same-origin-allow-popups",
        # The address holds the link's token, so nobody but we get more than the origin.
        "Referrer-Policy": "strict-origin",
        "Cache-Control": "private, no-store",
    }


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _is_stripes_own() -> bool:
    return _origin(settings.STRIPE_JS_URL) == STRIPE_JS


def _scripts() -> list[str]:
    return [STRIPE_JS, "https://*.js.stripe.com"] if _is_stripes_own() else [_origin(settings.STRIPE_JS_URL)]


def _frames() -> list[str]:
    return [*_scripts(), "https://hooks.stripe.com"] if _is_stripes_own() else _scripts()


def _calls() -> list[str]:
    return ["https://api.stripe.com"] if _is_stripes_own() else _scripts()


urlpatterns: list[URLPattern] = [
    path("method/of/<slug:token>", method_of_document, name="hosted_method_of_document"),
    path("method/<str:token>/saved", method_saved, name="hosted_method_saved"),
    path("method/<str:token>", save_method, name="hosted_method"),
]
