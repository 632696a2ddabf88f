"""Where Stripe tells us what happened: the signature is checked, the event is kept, and a worker does the rest.

Nothing here asks Stripe anything, and what is answered does not depend on what the event leads to: so an answer takes
milliseconds, and an event that cannot be processed is our matter, not one for Stripe to send again.
"""

import structlog
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.views.decorators.csrf import csrf_exempt

from billing_admin.admin.acts import moment
from catalog.after import after_commit
from payments import inbox
from payments.gateway import BadSignature, enabled, verify
from payments.models import StripeRefusal

LARGEST = 1_000_000  # bytes
NOT_FOR_US = {
    StripeRefusal.Kind.MODE: "This event is of the other mode: test and live events go to endpoints of their own.",
    StripeRefusal.Kind.ACCOUNT: "This event is of another account.",
}

log = structlog.get_logger("billing_admin.stripe")


@csrf_exempt
def webhook(request: HttpRequest) -> HttpResponse:
    # Without a secret anybody could sign.
    if not enabled() or not settings.STRIPE_WEBHOOK_SECRET:
        raise Http404("There is no Stripe here.")
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    if int(request.headers.get("Content-Length") or 0) > LARGEST:
        return _say("An event is smaller than that.", 413)
    try:
        event = verify(request.body, request.headers.get("Stripe-Signature", ""))
    except BadSignature as error:
        log.warning("stripe webhook refused", why=str(error)[:200])
        return _say("The signature is not right, or too old.", 400)
    if why := inbox.stranger(event):
        log.warning("stripe webhook refused", why=why, event_id=event.id)
        inbox.count_refusal(why, moment(request))
        return _say(NOT_FOR_US[StripeRefusal.Kind(why)], 400)
    if inbox.keep([event], now=moment(request)):
        hand_over()
    return _say("Kept.", 200)


def hand_over() -> None:
    """Let a worker look at what waits, once it is written. Should the queue be away, the next pass finds it."""
    from billing_admin.tasks import process_stripe_events  # Celery takes memory that web processes need only here

    after_commit(process_stripe_events.apply_async, retry=False)


def _say(sentence: str, status: int) -> HttpResponse:
    return HttpResponse(sentence, status=status, content_type="text/plain; charset=utf-8")
