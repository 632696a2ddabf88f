"""Every exception becomes `{code, message, field?}` with the right status, wherever it was raised."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import DataError, IntegrityError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import HttpError
from ninja.errors import ValidationError as BadRequest
from pydantic.alias_generators import to_camel

from billing_admin.api.asked import answer_asked
from billing_admin.api.changes import PreviewOut
from billing_admin.api.refusals import SENTENCES, BadTable, answer, standard
from billing_admin.api.usage import AccessOut
from billing_admin.flows.approvals import ApprovalNeeded
from billing_admin.flows.customers import DeletionBlocked
from billing_admin.flows.deals import InvalidPhase
from billing_admin.flows.enable_plan import PreviewOutdated
from catalog.coupons import InvalidCoupon
from catalog.items import InvalidItems
from catalog.mapping import BadMapping
from deals.terms import InvalidDeal
from entitlements.meters import BadEvent
from entitlements.override import BadOverride
from entitlements.track import LimitReached

log = structlog.get_logger("billing_admin.api")

NOT_FOUND = {"coupon_not_found", "feature_not_found"}
# What was asked for is well-formed, but does not go with how things stand.
CONFLICT = {
    "already_collected",
    "approval_required",
    "batch_not_in_this_state",
    "gone",
    "imported_before",
    "no_file",
    "no_rows",
    "too_many_exports",
    "not_waiting_for_approval",
    "not_your_request",
    "no_publishable_key",
    "not_collected",
    "not_connected",
    "nothing_to_collect",
    "nothing_to_retry",
    "payment_under_way",
    "already_ended",
    "not_live",
    "not_paused",
    "already_erased",
    "already_in_effect",
    "already_on_plan",
    "already_settled",
    "cannot_move",
    "cannot_take_back",
    "deal_closed",
    "deal_customer_moved",
    "deal_is_a_template",
    "deal_moved",
    "deal_state",
    "offer_over",
    "not_executed",
    "dry_run_outdated",
    "migration_state",
    "nothing_to_move",
    "coupon_applied_already",
    "coupon_expired",
    "coupon_for_first_time",
    "coupon_in_other_currency",
    "coupon_not_active",
    "coupon_not_for_plan",
    "coupon_not_held",
    "coupon_used_up",
    "credit_is_over",
    "currency_locked",
    "customer_closed",
    "deletion_blocked",
    "duplicate_customer_id",
    "event_archived",
    "follows_stripe",
    "import_running",
    "link_in_use",
    "link_refused",
    "not_linked",
    "fixed",
    "has_billed_add_on",
    "idempotency_conflict",
    "insufficient_funds",
    "limit_reached",
    "meter_in_use",
    "mirrored_from_stripe",
    "no_wallet",
    "not_closed",
    "not_in_stripe",
    "not_on_trial",
    "not_running",
    "nothing_scheduled",
    "nothing_to_pay",
    "override_overlaps",
    "grant_is_over",
    "grant_is_used",
    "plan_not_offered",
    "preview_outdated",
    "product_held",
    "product_is_billed",
    "stripe_refused",
    "stripe_unreachable",
    "tax_rate_archived",
    "tax_rate_exists",
    "unique",
    "version_frozen",
    "awaits_approval",
    "below_zero",
    "cannot_reissue",
    "cannot_undo",
    "cannot_void",
    "cannot_write_off",
    "credit_too_high",
    "no_next_invoice",
    "not_a_draft",
    "not_a_refund",
    "not_creditable",
    "not_manual",
    "not_waiting",
    "nothing_to_activate",
    "nothing_to_approve",
    "paid_out",
    "window_billed",
}
# The field that a refusal is about, where the sentence alone says it.
FIELD = {
    "bad_confirmation": "fingerprint",
    "coupon_not_found": "code",
    "bad_access_end": "accessUntil",
    "bad_anchor": "billingAnchor",
    "bad_end": "endsAt",
    "bad_trial_end": "until",
    "bad_quantity": "quantity",
    "bad_reset_date": "resetAt",
    "end_in_the_past": "endsAt",
    "feature_not_found": "featureSlug",
    "foreign_currency": "currency",
    "message_required": "commitMessage",
    "no_balance": "featureSlug",
    "no_components": "components",
    "not_metered": "featureSlug",
    "reason_required": "reason",
    "too_many_components": "components",
    "unknown_cadence": "billingCadence",
    "unknown_currency": "currency",
    "bad_amount": "amount",
    "bad_description": "description",
    "bad_instant": "at",
    "bad_settlement": "settlement",
    "currency_mismatch": "currency",
    "meter_decides": "featureSlug",
    "override_overlaps": "effectiveFrom",
}
# Cells of an item, in the words of the API.
CELLS = {"price": "unitPrice", "reset": "resets", "feature": "featureSlug"}


# Fields of a coupon, in the words of the API.
COUPON_FIELDS = {"plans": "plan_keys", "free_plan": "free_plan_key", "feature": "feature_slug"}
# Parts of a deal, in the words of the API.
DEAL_FIELDS = {"item_key": "priceId", "feature": "featureSlug"}
# Parts of an override, in the words of the API.
OVERRIDE_FIELDS = {"from": "effectiveFrom", "until": "effectiveUntil", "subscription": "subscriptionId"}


def install(api: NinjaAPI) -> None:
    """Let the API answer every exception in the one shape."""
    handlers: dict[type[Exception], Callable[[HttpRequest, Any], HttpResponse]] = {
        ApprovalNeeded: _asked,
        ValidationError: _refused,
        BadRequest: _bad_request,
        HttpError: _http_error,
        Http404: lambda request, error: standard(HTTPStatus.NOT_FOUND),
        PermissionDenied: _forbidden,
        DataError: _out_of_range,
        IntegrityError: _collided,
        OperationalError: _unavailable,
        Exception: _broken,
    }
    for kind, handler in handlers.items():
        api.add_exception_handler(kind, handler)


def _asked(request: HttpRequest, needed: ApprovalNeeded) -> HttpResponse:
    """What a rule wants a second person for is asked for at once; what its preview refuses is refused."""
    try:
        return answer_asked(request, needed)
    except ValidationError as refused:
        return _refused(request, refused)


def _refused(request: HttpRequest, error: ValidationError) -> HttpResponse:
    status, told = refusal_of(error)
    return answer(status, **told)


def refusal_of(error: ValidationError) -> tuple[int, dict[str, Any]]:
    """The status and the body of a refusal."""
    code, message, field = _first(error)
    status: int = getattr(error, "status", HTTPStatus.BAD_REQUEST)
    if code in NOT_FOUND:
        status = HTTPStatus.NOT_FOUND
    if code in CONFLICT:
        status = HTTPStatus.CONFLICT
    more: dict[str, Any] = {}
    match error:
        case InvalidItems():
            at = f"phases.{error.place}." if isinstance(error, InvalidPhase) else ""
            more["errors"] = [
                {
                    "code": e.code,
                    "message": e.message,
                    "field": f"{at}items.{e.index}.{CELLS.get(e.field, _camel(e.field))}",
                }
                for e in error.errors
            ]
            code, message, field = "invalid_items", more["errors"][0]["message"], more["errors"][0]["field"]
        case DeletionBlocked():
            more["errors"] = [{"code": b.kind, "message": b.sentence, "field": b.id or None} for b in error.blockers]
            code, status = "deletion_blocked", HTTPStatus.CONFLICT
        case InvalidDeal():
            more["errors"] = [
                {"code": p.code, "message": p.message, "field": _deal_field(p.field)} for p in error.problems
            ]
            code, message, field = "invalid_deal", more["errors"][0]["message"], more["errors"][0]["field"]
        case InvalidCoupon():
            more["errors"] = [
                {"code": e.code, "message": e.messages[0], "field": to_camel(COUPON_FIELDS.get(name, name))}
                for name, found in error.error_dict.items()
                for e in found
            ]
            field = more["errors"][0]["field"]
        case BadTable():
            more["errors"], field = error.problems, error.field
        case BadEvent():
            field = error.field
        case BadOverride():
            field = OVERRIDE_FIELDS.get(error.field, error.field)
        case BadMapping():
            field = "priceMappings"
            more["errors"] = [{"code": p.code, "message": p.message, "field": field} for p in error.problems]
        case PreviewOutdated():
            more["preview"] = PreviewOut.of(error.change).model_dump(mode="json", by_alias=True)
        case LimitReached():
            more["access"] = AccessOut.of(error.access).model_dump(mode="json", by_alias=True)
    return status, {"code": code, "message": message, "field": field} | more


def _deal_field(field: str) -> str:
    """`prices.0.item_key` as callers write it: `prices.0.priceId`; keys of units stay as they are."""
    first, *rest = field.split(".")
    if first == "use" or rest[1:2] in (["use"], ["bought"]):
        return field
    return ".".join(DEAL_FIELDS.get(part, to_camel(part)) for part in (first, *rest))


def _camel(field: str) -> str:
    """`price.tiers.2.up_to` as callers write it: `price.tiers.2.upTo`."""
    return ".".join(to_camel(part) for part in field.split("."))


def _first(error: ValidationError) -> tuple[str, str, str | None]:
    """The code, the sentence and the field of the first problem."""
    field = getattr(error, "field", None)
    problem = error
    if hasattr(error, "error_dict"):
        field, problems = next(iter(error.error_dict.items()))
        problem = problems[0]
        field = None if field == "__all__" else field
    else:
        problem = error.error_list[0]
    code = problem.code or "invalid"
    return code, problem.messages[0], _camel(field) if field else FIELD.get(code)


def _bad_request(request: HttpRequest, error: BadRequest) -> HttpResponse:
    problems = [problem_of(e) for e in error.errors]
    return answer(HTTPStatus.BAD_REQUEST, **problems[0], errors=problems if len(problems) > 1 else None)


def problem_of(found: dict[str, Any]) -> dict[str, Any]:
    """Pydantic's words, with the field as the caller wrote it: `prices.0.amount`."""
    source, *path = found["loc"]
    parts = [str(part) for part in (path[1:] if source == "body" else path) if not _is_branch(part)]
    field = ".".join(to_camel(part) if part.replace("_", "").isalnum() else part for part in parts)
    missing = found["type"] == "missing"
    unknown = found["type"] == "extra_forbidden"
    message = found["msg"].removeprefix("Value error, ")
    if missing:
        message = f"{field or 'A body'} is required."
    elif unknown:
        message = f"{field} is not a field of this request."
    else:
        message = f"{message[:1].upper()}{message[1:]}".rstrip(".") + "."
    code = "missing_field" if missing else "unknown_field" if unknown else "invalid"
    return {"code": code, "message": message} | ({"field": field} if field else {})


def _is_branch(part: Any) -> bool:
    """Pydantic names the arm of a union, too, which the caller never wrote."""
    return isinstance(part, str) and ("[" in part or part in {"str", "decimal", "int", "bool"})


def _http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    status = HTTPStatus(error.status_code)
    if status in SENTENCES:
        return standard(status)
    return answer(status, status.name.lower(), error.message)


def _forbidden(request: HttpRequest, error: PermissionDenied) -> HttpResponse:
    return answer(HTTPStatus.FORBIDDEN, "forbidden", str(error))


def _out_of_range(request: HttpRequest, error: DataError) -> HttpResponse:
    log.info("value out of range", path=request.path, cause=str(error))
    return answer(HTTPStatus.BAD_REQUEST, "out_of_range", "A value is too large or too long to be kept.")


def _collided(request: HttpRequest, error: IntegrityError) -> HttpResponse:
    log.warning("two writes met", path=request.path, cause=str(error))
    return answer(HTTPStatus.CONFLICT, "conflict", "Something else was written at the same moment. Try again.")


def _unavailable(request: HttpRequest, error: OperationalError) -> HttpResponse:
    log.error("database unavailable", path=request.path, cause=str(error))
    return answer(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "The database did not answer. Try again.")


def _broken(request: HttpRequest, error: Exception) -> HttpResponse:
    log.exception("request failed", path=request.path, method=request.method, exc_info=error)
    return answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "Something went wrong on our side.")
