"""Customers: create, change, close, reopen, erase. One transaction each, under the customer's row, with a journal line.

The list of custom products is declarative: after an update the assigned plans that a customer holds are exactly the
ones named, so two updates at once end with one of the two lists, never a mix.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import reduce
from operator import or_
from typing import Any, Final

from babel.localedata import locale_identifiers
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast, Concat

from billing_admin.flows.approvals import guard_as
from billing_admin.flows.cancel import cancel
from billing_admin.flows.enable_plan import enable_plan, propose
from billing_admin.flows.erase_deals import erase_deals
from billing_admin.flows.erase_lists import erase_lists
from billing_admin.flows.erase_use import erase_use
from billing_admin.flows.renew import catch_up
from billing_admin.flows.stripe_erase import erase_stripe, words_in_stripe
from billing_admin.models import ApprovalRequest, BatchRow, IdempotentAnswer
from catalog.models import Plan, PlanVersion, Product
from catalog.money import format_minor, format_rate
from customers.holdings import contracts_at
from customers.journal import CLOCKWORK, Actor, record, require_reason
from customers.models import Customer, PriceOverride, Subscription
from customers.states import APPLYING
from entitlements.provision import reanchor
from invoicing.models import WalletEntry
from invoicing.readings import account_credit
from invoicing.wallet import money_in_wallets

ERASED_AFTER = timedelta(days=30)
ERASED = "Erased customer"


class Unset(Enum):
    """Left out, which is not the same as empty."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


class Refused(ValidationError):
    """A refusal beside one field, named in `field` (and in `params`, where forms look)."""

    def __init__(self, field: str, message: str, code: str):
        self.field = field
        super().__init__(message.replace("%", "%%"), code=code, params={"field": field})


class BadEmail(Refused):
    def __init__(self) -> None:
        super().__init__("email", "This is not an e-mail address.", "bad_email")


class DuplicateCustomerId(Refused):
    def __init__(self, customer_id: str):
        super().__init__("customer_id", f"There is a customer {customer_id!r} already.", "duplicate_customer_id")


class BadUsageStart(Refused):
    def __init__(self) -> None:
        super().__init__("usage_started_at", "Usage cannot have started in the future.", "usage_start_in_the_future")


class ProductsRefused(Refused):
    """Keys that cannot be assigned by hand; `keys` lists them."""

    def __init__(self, keys: Sequence[str], why: str, code: str):
        self.keys = tuple(keys)
        super().__init__("custom_product_keys", f"{', '.join(keys)}: {why}", code)


class CustomerClosed(ValidationError):
    def __init__(self) -> None:
        super().__init__("This customer is closed.", code="customer_closed")


class NotClosed(ValidationError):
    def __init__(self) -> None:
        super().__init__("This customer is not closed.", code="not_closed")


class AlreadyErased(ValidationError):
    def __init__(self) -> None:
        super().__init__("This customer was erased and cannot come back.", code="already_erased")


class WrongName(Refused):
    def __init__(self, name: str):
        super().__init__("confirm_name", f"Type the customer's name, {name}, to confirm.", "name_not_confirmed")


@dataclass(frozen=True, slots=True)
class Blocker:
    """What has to be settled before a customer can be deleted. `id` is the public id of what stands in the way."""

    kind: str
    sentence: str
    id: str = ""


class DeletionBlocked(ValidationError):
    def __init__(self, blockers: Sequence[Blocker]):
        self.blockers = tuple(blockers)
        super().__init__([ValidationError(b.sentence, code=b.kind) for b in blockers], code="deletion_blocked")


# Create and change ----------------------------------------------------------------------------------------------------


@transaction.atomic
def create_customer(
    *,
    customer_id: str,
    name: str,
    email: str = "",
    custom_product_keys: Sequence[str] | None = None,
    usage_started_at: datetime | None = None,
    actor: Actor,
    now: datetime,
) -> Customer:
    """A new customer, holding the assigned plans that are named. Raises `Refused`, naming the field."""
    # Whole seconds, as contracts have them: a window that begins within a second could end in the same one.
    customer = Customer(
        customer_id=customer_id.strip(),
        name=name.strip(),
        email=email.strip(),
        usage_started_at=_past(usage_started_at, now),
        created_at=now.replace(microsecond=0),
    )
    _save(customer)
    keys = list(custom_product_keys or [])
    record(
        customer,
        "customer.created",
        f"Created {customer.name}",
        actor=actor,
        now=now,
        inputs={
            "customerId": customer.customer_id,
            "name": customer.name,
            "email": customer.email,
            "customProductKeys": keys,
            "usageStartedAt": customer.usage_started_at,
        },
    )
    if keys:
        assign_products(customer, keys, reason="Named when the customer was created.", actor=actor, now=now)
    return customer


@transaction.atomic
def update_customer(
    customer: Customer,
    *,
    name: str | Unset = UNSET,
    email: str | Unset = UNSET,
    customer_id: str | Unset = UNSET,
    custom_product_keys: Sequence[str] | Unset = UNSET,
    usage_started_at: datetime | Unset | None = UNSET,
    billing_address: str | Unset = UNSET,
    tax_number: str | Unset = UNSET,
    locale: str | Unset = UNSET,
    reason: str = "",
    actor: Actor,
    now: datetime,
) -> Customer:
    """Change what is given; what is left out stays. Raises `Refused`, naming the field, and `CustomerClosed`."""
    customer = Customer.objects.select_for_update().get(pk=customer.pk)
    if customer.closed_at:
        raise CustomerClosed
    catch_up(customer, now=now)
    customer.refresh_from_db()
    wanted: dict[str, Any] = {
        "name": name,
        "email": email,
        "customer_id": customer_id,
        "billing_address": billing_address,
        "tax_number": tax_number,
        "locale": locale,
    }
    wanted = {field: value.strip() for field, value in wanted.items() if value is not UNSET}
    if "locale" in wanted:
        _refuse_unknown(wanted["locale"])
    if usage_started_at is not UNSET:
        wanted["usage_started_at"] = _past(usage_started_at, now)
    before = {field: getattr(customer, field) for field in wanted}
    changed = {field: value for field, value in wanted.items() if value != before[field]}
    if changed:
        for field, value in changed.items():
            setattr(customer, field, value)
        _save(customer, changed)
        operation = record(
            customer,
            "customer.updated",
            f"Changed {', '.join(FIELD_WORDS[field] for field in changed)}",
            actor=actor,
            now=now,
            reason=reason.strip(),
            inputs={field: {"from": before[field], "to": value} for field, value in changed.items()},
        )
        if "usage_started_at" in changed:
            reanchor(customer, contracts_at(customer, now), now=now, operation=operation)
    if custom_product_keys is not UNSET:
        assign_products(customer, list(custom_product_keys), reason=reason, actor=actor, now=now)
    return customer


FIELD_WORDS = {
    "name": "the name",
    "email": "the e-mail",
    "customer_id": "the customer id",
    "usage_started_at": "the start of usage",
    "billing_address": "the billing address",
    "tax_number": "the tax number",
    "locale": "the language",
}


def _refuse_unknown(locale: str) -> None:
    """A locale is a language, with a region where it matters: `de`, `en_GB`."""
    if locale not in locale_identifiers():
        raise Refused("locale", f"{locale[:20]!r} is not a locale; one looks like en_US or de.", "unknown_locale")


def _past(at: datetime | None, now: datetime) -> datetime | None:
    if at is None:
        return None
    if at > now:
        raise BadUsageStart
    return at.replace(microsecond=0)


def _save(customer: Customer, fields: Iterable[str] = ()) -> None:
    """Check what is new, then write. The database decides about duplicates, so that two at once cannot both pass."""
    if not customer.name:
        raise Refused("name", "Give the customer a name.", "name_required")
    fields = list(fields)
    kept = [f.name for f in customer._meta.fields if f.name not in fields] if fields else None
    try:
        customer.clean_fields(exclude=kept)
    except ValidationError as error:
        field, problems = next(iter(error.error_dict.items()))
        if field == "email":
            raise BadEmail from None
        raise Refused(field, problems[0].messages[0], problems[0].code or "invalid") from None
    try:
        with transaction.atomic():
            customer.save(update_fields=fields or None)
    except IntegrityError:
        raise DuplicateCustomerId(customer.customer_id) from None


# Assigned plans -------------------------------------------------------------------------------------------------------


def assign_products(customer: Customer, keys: Sequence[str], *, reason: str, actor: Actor, now: datetime) -> None:
    """Let the customer hold exactly the assigned plans that are named. The caller holds the customer's row."""
    wanted = assignable_plans(keys)
    reason = reason.strip() or "The list of custom products was set."
    main_of = {plan.product_id: plan for plan in wanted if not plan.add_on}
    _refuse_beside_billed(customer, main_of, now)
    held = held_plans(customer, now)
    for subscription, plan in held:
        stays = plan in wanted
        switches = not plan.add_on and main_of.get(plan.product_id, plan) != plan
        subscription.refresh_from_db()  # an add-on may have ended with its main plan just now
        if not stays and not switches and subscription.is_live:
            _refuse_ending_billed_add_ons(subscription, plan, now)
            cancel(subscription, at_once=True, reason=reason, actor=actor, now=now)
    still_held = {plan.pk for _, plan in held_plans(customer, now)}
    for plan in wanted:
        if plan.pk not in still_held:
            enable_plan(customer, propose(customer, plan), reason=reason, actor=actor, now=now)


def assignable_plans(keys: Sequence[str]) -> list[Plan]:
    """The assigned plans that keys stand for: a plan's own key, or the key of a product with one assigned plan.

    Raises `ProductsRefused`, listing the keys, for unknown, mirrored, default, billed and ambiguous ones.
    """
    keys = list(dict.fromkeys(keys))
    plans = {plan.key: plan for plan in Plan.objects.filter(key__in=keys).select_related("product")}
    rest = [key for key in keys if key not in plans]
    products = {p.key: p for p in Product.objects.filter(key__in=rest).prefetch_related("plans__product")}
    ambiguous = []
    for key, product in products.items():
        candidates = list(product.plans.all())
        assigned = [p for p in candidates if p.kind == Plan.Kind.ASSIGNED and not p.archived_at]
        if len(assigned) > 1:
            ambiguous.append(key)
        elif found := (assigned or candidates):
            plans[key] = found[0]
    found_plans = list({plan.pk: plan for key in keys if (plan := plans.get(key))}.values())
    _refuse("unknown_product", "unknown custom product.", [k for k in keys if k not in plans and k not in ambiguous])
    _refuse("ambiguous_product", "the product has several assigned plans; name the plan.", ambiguous)
    _refuse("stripe_product", "Stripe's products cannot be assigned by hand.", _of(plans, _is_stripe))
    _refuse("default_product", "the default product applies by itself and cannot be assigned.", _of(plans, _is_default))
    _refuse("billed_product", "billed plans are enabled, not assigned.", _of(plans, _is_billed))
    mains = [plan for plan in found_plans if not plan.add_on]
    twice = [p.key for p in mains if sum(p.product_id == other.product_id for other in mains) > 1]
    _refuse("two_plans_of_one_product", "they are main plans of one product; a customer has one of them.", twice)
    return found_plans


def _refuse(code: str, why: str, keys: Sequence[str]) -> None:
    if keys:
        raise ProductsRefused(keys, why, code)


def _of(plans: dict[str, Plan], is_refused: Callable[[Plan], bool]) -> list[str]:
    return [key for key, plan in plans.items() if is_refused(plan)]


def _is_stripe(plan: Plan) -> bool:
    return plan.kind == Plan.Kind.STRIPE


def _is_default(plan: Plan) -> bool:
    return plan.is_default


def _is_billed(plan: Plan) -> bool:
    return plan.kind == Plan.Kind.BILLED


def held_plans(customer: Customer, now: datetime) -> list[tuple[Subscription, Plan]]:
    """The assigned plans that a customer holds, with their contracts, the oldest first."""
    return [
        (subscription, phase.version.plan)
        for subscription in customer.subscriptions.live().with_phases()
        if (phase := subscription.phase_at(now)) and phase.version.plan.kind == Plan.Kind.ASSIGNED
    ]


def _refuse_beside_billed(customer: Customer, main_of: dict[int, Plan], now: datetime) -> None:
    """Assigning may not end a contract that is paid for."""
    for subscription in customer.subscriptions.live().filter(add_on=False, product__in=main_of).with_phases():
        phase = subscription.phase_at(now)
        if phase and phase.version.plan.kind != Plan.Kind.ASSIGNED:
            plan, wanted = phase.version.plan, main_of[subscription.product_id]
            why = f"the customer is on {plan.name} of the same product, which is billed; change that plan instead."
            raise ProductsRefused([wanted.key], why, "product_is_billed")


def _refuse_ending_billed_add_ons(subscription: Subscription, plan: Plan, now: datetime) -> None:
    if subscription.add_on:
        return
    beside = subscription.customer.subscriptions.live().filter(product_id=subscription.product_id, add_on=True)
    for add_on in beside.with_phases():
        phase = add_on.phase_at(now)
        if phase and phase.version.plan.kind == Plan.Kind.BILLED:
            why = f"{phase.version.plan.name}, a billed add-on, would end with it; cancel that first."
            raise ProductsRefused([plan.key], why, "has_billed_add_on")


# Close, reopen, erase -------------------------------------------------------------------------------------------------


def deletion_blockers(customer: Customer, *, now: datetime) -> list[Blocker]:
    """What has to be settled before a customer can be deleted, each in a sentence."""
    found = []
    for subscription in customer.subscriptions.standing().with_phases():
        phase = subscription.phase_at(now) or subscription.kept_phases()[-1]
        if phase.version.plan.kind == Plan.Kind.BILLED and not phase.terms().is_free:
            begins = f"is agreed from {subscription.started_at:%-d %b %Y} on"
            what = "is running and paid for" if subscription.is_live else begins
            sentence = f"{phase.version.plan.name} {what}. Cancel it first."
            found.append(Blocker("live_subscription", sentence, subscription.public_id))
        if phase.version.plan.is_read_only:
            sentence = f"{phase.version.plan.name} follows a subscription in Stripe. Cancel it there first."
            found.append(Blocker("mirrored_subscription", sentence, subscription.public_id))
    for invoice in customer.invoices.unpaid():
        sentence = f"Invoice {invoice} is open: {format_minor(invoice.due, invoice.currency)}. Settle or void it first."
        found.append(Blocker("open_invoice", sentence, invoice.public_id))
    if credit := account_credit(customer):
        sentence = f"There is account credit of {format_minor(credit, customer.currency)}. Use it or pay it out first."
        found.append(Blocker("account_credit", sentence))
    for wallet in money_in_wallets(customer):
        sentence = f"There is {format_rate(wallet.balance, wallet.currency)} in the wallet. Pay it out first."
        found.append(Blocker("wallet", sentence))
    return found


@transaction.atomic
def close_customer(customer: Customer, *, confirm_name: str, reason: str, actor: Actor, now: datetime) -> Customer:
    """Close and hide a customer at once; personal data is erased after 30 days, unless the customer is reopened.

    What is free or assigned ends. Raises `WrongName`, `ReasonRequired`, `CustomerClosed`, `ApprovalNeeded`, and
    `DeletionBlocked` with what has to be settled first.
    """
    reason = require_reason(reason, "a deletion")
    customer = ready_to_close(customer, confirm_name=confirm_name, reason=reason, now=now)
    guard_as("customer.closed", actor=actor, now=now, reason=reason, who=customer, confirm_name=confirm_name)
    ended = []
    for subscription in customer.subscriptions.standing():
        subscription.refresh_from_db()  # an add-on may have ended with its main plan just now
        if subscription.state in APPLYING:
            cancel(subscription, at_once=True, reason=reason, actor=actor, now=now)
            ended.append(subscription.public_id)
    customer.closed_at, customer.erase_at = now, now + ERASED_AFTER
    customer.save(update_fields=["closed_at", "erase_at"])
    record(
        customer,
        "customer.closed",
        f"Closed {customer.name}; personal data is erased on {customer.erase_at:%-d %b %Y}",
        actor=actor,
        now=now,
        reason=reason,
        effects={"eraseAt": customer.erase_at, "ended": ended},
    )
    return customer


@transaction.atomic
def ready_to_close(customer: Customer, *, confirm_name: str, reason: str, now: datetime) -> Customer:
    """Bring a customer up to date and refuse what stands in the way of closing them; see `close_customer`."""
    require_reason(reason, "a deletion")
    customer = Customer.objects.select_for_update().get(pk=customer.pk)
    if customer.closed_at:
        raise CustomerClosed
    if confirm_name.strip() != customer.name:
        raise WrongName(customer.name)
    catch_up(customer, now=now)
    customer.refresh_from_db()
    if blockers := deletion_blockers(customer, now=now):
        raise DeletionBlocked(blockers)
    return customer


@transaction.atomic
def reopen_customer(customer: Customer, *, reason: str = "", actor: Actor, now: datetime) -> Customer:
    """Undo a deletion that was not carried out to the end. What ended stays ended; the default product applies."""
    customer = Customer.objects.select_for_update().get(pk=customer.pk)
    if customer.erased_at:
        raise AlreadyErased
    if not customer.closed_at:
        raise NotClosed
    closed = customer.operations.filter(verb="customer.closed").newest().first()
    customer.closed_at = customer.erase_at = None
    customer.save(update_fields=["closed_at", "erase_at"])
    record(
        customer,
        "customer.reopened",
        f"Reopened {customer.name}",
        actor=actor,
        now=now,
        reason=reason.strip(),
        reverses=closed,
    )
    return customer


def erase_due(*, now: datetime, limit: int = 200) -> int:
    """Erase the personal data of customers whose 30 days are over. Returns how many; safe to run twice and at once."""
    IdempotentAnswer.objects.filter(at__lte=now - ERASED_AFTER).delete()
    erased = 0
    for customer_pk in Customer.objects.to_erase(now).order_by("erase_at").values_list("pk", flat=True)[:limit]:
        erased += erase(customer_pk, now=now)
    return erased


@transaction.atomic
def erase(customer_pk: int, *, now: datetime) -> bool:
    """Overwrite everything that says who a closed customer was. Invoices stay, as the law wants them."""
    due = Customer.objects.to_erase(now).select_for_update(skip_locked=True)
    customer = due.filter(pk=customer_pk).first()
    if customer is None:
        return False
    names, called = _personal_words(customer), _personal_words(customer, address=False)
    ids = {customer.customer_id, *customer.history.values_list("customer_id", flat=True)}
    customer.name, customer.email, customer.customer_id = ERASED, "", f"erased-{customer.public_id}"
    customer.billing_address = customer.tax_number = ""
    customer.erased_at = now
    customer.save(update_fields=["name", "email", "customer_id", "billing_address", "tax_number", "erased_at"])
    customer.history.update(name=ERASED, email="", customer_id=customer.customer_id, billing_address="", tax_number="")
    scrub = _scrubber(names)
    _scrub_texts(customer, names, scrub)
    # What was imported of them: the acts that came of it stand in the journal.
    imported = BatchRow.objects.filter(Q(customer=customer) | Q(cells__customer_id__in=ids))
    imported.update(cells={}, before="", after="", problem="")
    erase_use(customer, scrub, ids)
    erase_deals(customer, scrub)
    erase_stripe(customer, scrub)
    erase_lists(customer, called, ids)
    LogEntry.objects.filter(
        content_type=ContentType.objects.get_for_model(Customer), object_id=str(customer.pk)
    ).update(object_repr=ERASED, change_message="")
    record(customer, "customer.erased", "Erased the personal data", actor=CLOCKWORK, now=now)
    return True


def _personal_words(customer: Customer, *, address: bool = True) -> list[str]:
    """Every name, e-mail, id, address and tax number that the customer ever had, the longest first."""
    fields = ("name", "email", "customer_id", "tax_number", "billing_address")
    known = words_in_stripe(customer)
    for row in [[getattr(customer, field) for field in fields], *customer.history.values_list(*fields)]:
        *others, lives_at = row
        known.update(others, [lives_at, *lives_at.splitlines()] if address else [])
    return sorted((word for word in known if word), key=len, reverse=True)


def _scrubber(words: Sequence[str]) -> Callable[[Any], Any]:
    """A function that takes these words out of texts, also within JSON."""
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words), re.IGNORECASE)

    def scrub(value: Any) -> Any:
        if isinstance(value, str):
            return pattern.sub("(erased)", value)
        if isinstance(value, dict):
            return {scrub(key): scrub(inner) for key, inner in value.items()}
        return [scrub(inner) for inner in value] if isinstance(value, list) else value

    return scrub


def _requests_about_many(words: Sequence[str]) -> "QuerySet[ApprovalRequest]":
    """Requests for many customers at once, an import for instance, that name one of them."""
    rows = ApprovalRequest.objects.filter(customer=None)
    rows = rows.annotate(said=Concat(Cast("inputs", TextField()), Cast("shown", TextField())))
    named = [Q(said__icontains=json.dumps(word, ensure_ascii=False)[1:-1]) for word in words]
    return rows.filter(reduce(or_, named)) if named else rows.none()


def _scrub_texts(customer: Customer, words: Sequence[str], scrub: Callable[[Any], Any]) -> None:
    for request in [*customer.approval_requests.all(), *_requests_about_many(words)]:
        request.title, request.reason, request.answer = map(scrub, (request.title, request.reason, request.answer))
        request.inputs, request.shown = scrub(request.inputs), scrub(request.shown)
        request.save(update_fields=["title", "reason", "answer", "inputs", "shown"])
    customer.notes.update(text="(erased)")
    for operation in customer.operations.all():
        operation.summary, operation.reason = scrub(operation.summary)[:500], scrub(operation.reason)
        operation.inputs, operation.effects = scrub(operation.inputs), scrub(operation.effects)
        operation.save(update_fields=["summary", "reason", "inputs", "effects"])
    for custom in customer.custom_plans.all():
        custom.reason = scrub(custom.reason)
        custom.save(update_fields=["reason"])
    for version in PlanVersion.objects.filter(custom__customer=customer):
        version.commit_message = scrub(version.commit_message)[:500]
        version.save(update_fields=["commit_message"])
    for override in PriceOverride.objects.filter(subscription__customer=customer):
        for row in (PriceOverride.objects.filter(pk=override.pk), override.history.all()):
            row.update(reason=scrub(override.reason), revoke_reason=scrub(override.revoke_reason))
    for exemption in customer.tax_exemptions.all():
        exemption.reason = scrub(exemption.reason)
        exemption.save(update_fields=["reason"])
    for entry in WalletEntry.objects.filter(wallet__customer=customer).exclude(reference=""):
        entry.reference = scrub(entry.reference)[:200]
        entry.save(update_fields=["reference"])
    for invoice in customer.invoices.exclude(void_reason=""):
        invoice.void_reason = scrub(invoice.void_reason)
        invoice.save(update_fields=["void_reason"])
