"""Scenarios: one new customer per vector, a moving `now`, every act through the verbs that the product has.

Each previewed change is also carried out, and the lines that were issued must be the lines that were previewed.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import F, Sum
from django.utils.text import slugify

from billing_admin.flows.cancel import cancel, preview_cancel
from billing_admin.flows.enable_plan import confirmation, enable_plan, preview_plan, propose
from billing_admin.flows.gate import collect
from billing_admin.flows.plan_change import NewCoupon, PlanChange, Timing
from billing_admin.flows.renew import catch_up
from billing_admin.flows.trials import extend
from billing_admin.flows.use import track_use
from catalog.charges import packs
from catalog.models import Coupon, Feature, Plan
from catalog.money import to_minor
from customers.journal import Actor
from customers.models import AppliedCoupon, Customer, Subscription
from customers.states import LIVE
from entitlements.access import Access
from entitlements.balances import Bucket, Kind, Mode
from entitlements.check import check, check_all
from entitlements.edit import edit_balance
from entitlements.reset import reset_due
from entitlements.track import LimitReached
from invoicing.models import Invoice
from invoicing.rewards import discount_terms
from tests.vectors.catalog import RESETS, Later, edit_plan, make_plan, plan_cadence, plan_items
from tests.vectors.functions import check_function, instant
from tests.vectors.outcome import Outcome

START = datetime(2026, 6, 1, tzinfo=UTC)
STAFF = Actor("vectors")


class Differs(AssertionError):
    """What the product did is not what the file expects."""


def play_file(
    path: Path, *, area: str | None = None, scope: str | None = None, only: str | None = None
) -> Iterator[Outcome]:
    areas = tuple(area.split(",")) if area else ("",)
    for vector in json.loads(path.read_text())["vectors"]:
        wanted = vector["area"].startswith(areas) and (scope is None or vector.get("scope") == scope)
        if wanted and (only is None or vector["id"] == only):
            yield play(vector)


def play(vector: dict[str, Any]) -> Outcome:
    """One vector, in a transaction that leaves nothing behind; what acts at once from several connections is written
    for good, so its names are its own."""
    if vector.get("other_policy"):
        return Outcome("SKIP", vector["id"], "other policy")
    try:
        if is_parallel(vector):
            differs = Scenario(vector).play()
        else:
            with transaction.atomic():
                differs = check_function(vector) if vector["type"] == "function" else Scenario(vector).play()
                connection.check_constraints()
                transaction.set_rollback(True)
    except Later as missing:
        return Outcome("SKIP", vector["id"], f"later: {missing}")
    except Differs as found:
        differs = str(found)
    except ValidationError as refusal:
        differs = f"refused: {' '.join(refusal.messages)}"
    return Outcome("FAIL", vector["id"], differs) if differs else Outcome("PASS", vector["id"])


def is_parallel(vector: dict[str, Any]) -> bool:
    """Whether several act at once, each on a connection of its own; or one so often that every act has to be over
    before the next: a thousand versions of a row in one transaction would be read through again and again."""
    return any(step["op"] in ("parallel", "parallel_mixed", "rate") for step in vector.get("steps", []))


KNOWN_STEP = {
    "attach": {
        "op",
        "plan",
        "customize_items",
        "plan_schedule",
        "at",
        "via",
        "quantities",
        "discounts",
        "promo_code",
    },
    "update_subscription": {
        "op",
        "plan",
        "customize_items",
        "cancel_action",
        "version",
        "at",
        "quantities",
        "free_trial",
    },
    "add_discount": {"op", "discount"},
    "track": {"op", "feature", "value", "overage_behavior", "at"},
    "balance_update": {"op", "feature", "remaining", "usage", "interval", "expires_at", "at"},
    "force_balance": {"op", "feature", "balance"},
    "pass_reset": {"op", "feature"},
    "parallel": {"op", "count", "step"},
    "parallel_mixed": {"op", "steps"},
    "rate": {"op", "per_second", "seconds", "step"},
    "advance_clock": {"op", "to", "days", "weeks", "months"},
    "advance_to_next_invoice": {"op"},
    "edit_plan": {"op", "plan", "items", "creates_version"},
    "check": {"op", "feature", "required"},
    "get_customer": {"op"},
}


@dataclass
class Scenario:
    vector: dict[str, Any]
    now: datetime = START
    plans: dict[str, Plan] = field(default_factory=dict)
    previewed: int | None = None
    refused: ValidationError | None = None
    answer: Access | None = None
    change: PlanChange | None = None
    resets_before: dict[str, datetime | None] = field(default_factory=dict)
    done: int = 0
    counted: Decimal = Decimal(0)
    customer: Customer = field(init=False)

    def play(self) -> str | None:
        steps = self.vector.get("steps", [])
        first_at = next((instant(s["at"]) for s in steps if s.get("at")), START)
        self.now = min(first_at, START) if first_at < START else first_at
        self._set_up()
        self._check(-1)
        for place, step in enumerate(steps):
            self._note_resets()
            self._do(step)
            self._pay_everything()
            self._check(place)
        self._check(None)
        return None

    def _set_up(self) -> None:
        setup = self.vector["setup"]
        if setup.get("credit_systems"):
            raise Later("credit systems")
        account = dict(setup.get("org_config", {}))
        keeps_overage = bool(account.pop("persist_free_overage", False))
        if account:
            raise Later(", ".join(account).replace("_", " "))
        for raw in setup["plans"]:
            named = dict(raw, id=f"{self.vector['id']}-{raw['id']}") if is_parallel(self.vector) else raw
            self.plans[raw["id"]] = make_plan(named, keeps_overage=keeps_overage, now=self.now)
        name = self.vector["id"] if is_parallel(self.vector) else "vector"
        self.customer = Customer.objects.create(customer_id=name, name="Vector", created_at=self.now)

    def _do(self, step: dict[str, Any]) -> None:
        if step["op"] not in KNOWN_STEP:
            raise Later(step["op"].replace("_", " "))
        unknown = set(step) - KNOWN_STEP[step["op"]]
        if unknown:
            raise Later(", ".join(sorted(unknown)).replace("_", " "))
        if step.get("at"):
            self._move_to(instant(step["at"]))
        self.previewed, self.refused, self.answer = None, None, None
        try:
            with nullcontext() if is_parallel(self.vector) else transaction.atomic():
                self._act(step["op"])(step)
        except ValidationError as refusal:
            self.refused = refusal
            if not any(e["check"] == "error" for e in self.vector["expect"]):
                raise Differs(f"{step['op']} was refused: {' '.join(refusal.messages)}") from refusal

    def _act(self, op: str) -> Callable[[dict[str, Any]], None]:
        return self._ask if op == "check" else getattr(self, f"_{op}")

    # The acts

    def _attach(self, step: dict[str, Any]) -> None:
        plan = self._plan(step["plan"])
        schedule = step.get("plan_schedule")
        timing = {None: None, "immediate": Timing.NOW, "end_of_cycle": Timing.CYCLE_END}[schedule]
        if plan.is_default:
            return self._leave_for_default()
        return self._change(plan, step, timing)

    def _leave_for_default(self) -> None:
        """The default product needs no act: whoever has nothing else has it. Choosing it is to cancel."""
        for subscription in self.customer.subscriptions.live().filter(add_on=False):
            cancel(subscription, reason="to the default product", actor=STAFF, now=self.now)

    def _update_subscription(self, step: dict[str, Any]) -> None:
        plan = self._plan(step["plan"])
        if action := step.get("cancel_action"):
            return self._cancel(plan, action)
        if trial := step.get("free_trial"):
            extend(self._subscription(plan), days=trial["days"], reason="the file says so", actor=STAFF, now=self.now)
            return None
        return self._change(plan, step, Timing.NOW)

    def _change(self, plan: Plan, step: dict[str, Any], timing: Timing | None) -> None:
        items = plan_items(step["customize_items"]) if "customize_items" in step else None
        version = plan.versions.standard().get(number=step["version"]) if step.get("version") else None
        proposal = propose(
            self.customer,
            plan,
            items=items,
            cadence=plan_cadence(items) if items else None,
            version=version,
            timing=timing,
            bought={slugify(key).replace("_", "-"): units(value) for key, value in step.get("quantities", {}).items()},
            coupons=[self._coupon(raw) for raw in self._discounts(step)],
        )
        change = preview_plan(self.customer, proposal, now=self.now)
        self.previewed = change.total
        confirmed = confirmation(change)
        enabled = enable_plan(
            self.customer, proposal, reason="the file says so", actor=STAFF, now=self.now, confirmed=confirmed
        )
        self.change = change
        issued = sum(invoice.total for invoice in enabled.invoices)
        if issued != change.total:
            raise Differs(f"previewed {change.total}, issued {issued}")

    def _discounts(self, step: dict[str, Any]) -> list[dict[str, Any]]:
        return [*step.get("discounts", []), *([step["promo_code"]] if "promo_code" in step else [])]

    def _coupon(self, raw: dict[str, Any]) -> NewCoupon:
        """A discount on an act is for that act only."""
        coupon = make_coupon(raw, Coupon.Duration.ONCE)
        return NewCoupon(coupon.pk, discount_terms(coupon, -coupon.pk), for_this_act=True)

    def _add_discount(self, step: dict[str, Any]) -> None:
        AppliedCoupon.objects.create(
            customer=self.customer,
            coupon=make_coupon(step["discount"], Coupon.Duration.FOREVER),
            applied_at=self.now,
            applied_by="vectors",
        )

    def _cancel(self, plan: Plan, action: str) -> None:
        subscription = self._subscription(plan)
        if action not in ("cancel_end_of_cycle", "cancel_immediately"):
            raise Later(action.replace("_", " "))
        at_once = action == "cancel_immediately"
        # The files cancel at once without billing open use, and give unused fees back.
        bill_use = not at_once
        planned = preview_cancel(subscription, at_once=at_once, bill_use=bill_use, now=self.now)
        self.previewed = planned.total
        _, invoices = cancel(
            subscription, at_once=at_once, bill_use=bill_use, reason="the file says so", actor=STAFF, now=self.now
        )
        if at_once and sum(invoice.total for invoice in invoices) != planned.total:
            raise Differs(f"previewed {planned.total}, issued {[i.total for i in invoices]}")

    def _track(self, step: dict[str, Any]) -> None:
        mode = Mode(step.get("overage_behavior", "cap"))
        amount = Decimal(str(step["value"]))
        try:
            track_use(self.customer, feature=self._slug(step), amount=amount, now=self.now, mode=mode)
        except LimitReached:
            if mode is not Mode.CAP:  # nothing fitted, so nothing was taken
                raise

    def _balance_update(self, step: dict[str, Any]) -> None:
        slug, interval = self._slug(step), step.get("interval")
        if "expires_at" in step:
            to, ends_at = Decimal(100), self.now + timedelta(days=10)
            kind: dict[str, Any] = {"expires_at": ends_at}
            return self._edit(slug, to, interval=None, **kind)
        if "usage" in step:
            limit = check(self.customer, slug, now=self.now).limit
            if limit is None:
                raise Differs(f"{slug} has no limit to set the usage of")
            to = limit - Decimal(str(step["usage"]))
        else:
            to = Decimal(str(step["remaining"]))
        return self._edit(slug, to, interval=RESETS[interval] if interval else None, total=interval is None)

    def _edit(self, slug: str, to: Decimal, **how: Any) -> None:
        edit_balance(self.customer, feature=slug, to=to, reason="the file says so", actor=STAFF, now=self.now, **how)

    def _force_balance(self, step: dict[str, Any]) -> None:
        """Use beyond a limit that would refuse it: the file writes the number."""
        rows = self.customer.balances.promised().filter(feature__slug=self._slug(step), closed_at=None)
        rows.update(used=F("granted") - Decimal(str(step["balance"])))

    def _pass_reset(self, step: dict[str, Any]) -> None:
        """The window ends at this instant, which is a second later so that no two windows begin at once; the calendar
        does not move."""
        while reset_due(now=self.now).customers:
            continue
        self.now += timedelta(seconds=1)
        open_rows = self.customer.balances.promised().filter(closed_at=None, ends_at__isnull=False)
        open_rows.filter(feature__slug=self._slug(step)).update(ends_at=self.now)

    def _parallel(self, step: dict[str, Any]) -> None:
        self._at_once([step["step"]] * step["count"])

    def _parallel_mixed(self, step: dict[str, Any]) -> None:
        self._at_once(step["steps"])

    def _at_once(self, steps: list[dict[str, Any]]) -> None:
        """Each on a thread and a connection of its own."""

        def act(step: dict[str, Any]) -> bool:
            try:
                self._act(step["op"])(step)
            except ValidationError:
                return False
            finally:
                connection.close()
            return True

        with ThreadPoolExecutor(len(steps)) as pool:
            self.done = sum(pool.map(act, steps))

    def _rate(self, step: dict[str, Any]) -> None:
        """So many acts with random amounts; how fast is not of interest here, that none is lost is."""
        dice = Random(self.vector["id"])
        for _ in range(step["per_second"] * step["seconds"]):
            amount = Decimal(dice.randint(10, 210)) / 100
            self.counted += amount
            track_use(self.customer, feature=self._slug(step["step"]), amount=amount, now=self.now)

    def _ask(self, step: dict[str, Any]) -> None:
        required = Decimal(str(step.get("required", 1)))
        self.answer = check(self.customer, self._slug(step), now=self.now, required=required)

    def _get_customer(self, step: dict[str, Any]) -> None:
        self.customer.refresh_from_db()

    def _edit_plan(self, step: dict[str, Any]) -> None:
        edit_plan(self._plan(step["plan"]), step["items"], now=self.now)
        self.plans[step["plan"]].refresh_from_db()

    def _advance_clock(self, step: dict[str, Any]) -> None:
        if "months" in step:
            raise Later("a clock that moves by months")
        to = instant(step["to"]) if "to" in step else self.now
        self._move_to(to + timedelta(days=step.get("days", 0), weeks=step.get("weeks", 0)))

    def _advance_to_next_invoice(self, step: dict[str, Any]) -> None:
        due = self.customer.subscriptions.live().exclude(bills_at=None).order_by("bills_at").first()
        if due is not None and due.bills_at is not None:
            self._move_to(due.bills_at)

    def _move_to(self, to: datetime) -> None:
        """The clock moves and the workers do what is due."""
        self.now = to
        catch_up(self.customer, now=to)
        while reset_due(now=to).customers:
            continue
        self.customer.refresh_from_db()

    def _pay_everything(self) -> None:
        for invoice in self.customer.invoices.unpaid():
            if invoice.due:
                collect(invoice, amount=invoice.due, reference="card on file", actor=STAFF, now=self.now)

    # What the file expects

    def _check(self, place: int | None) -> None:
        for expected in self.vector["expect"]:
            if expected.get("after_step") == place:
                self._expectation(expected)

    def _expectation(self, expected: dict[str, Any]) -> None:
        judge: Callable[[dict[str, Any]], None] | None = getattr(self, f"_expect_{expected['check']}", None)
        if judge is None:
            raise Later(f"the check {expected['check'].replace('_', ' ')}")
        judge(expected)

    def _expect_preview_total(self, expected: dict[str, Any]) -> None:
        self._same_money("previewed total", self.previewed, expected["total"], expected.get("tolerance", 0))
        following = self.change.next_invoice if self.change else None
        if "next_cycle_total" in expected and following:
            self._same_money("next cycle", following.total, expected["next_cycle_total"], 0)
            self._same("next cycle starts", following.at, instant(expected["next_cycle_starts"]))

    def _expect_trial_ends(self, expected: dict[str, Any]) -> None:
        trial = self.customer.subscriptions.live().get().trial_ends_at
        self._same("the trial ends", trial, instant(expected["value"]))

    def _expect_upcoming_packs(self, expected: dict[str, Any]) -> None:
        subscription = self.customer.subscriptions.live().with_phases().get()
        phase = subscription.next_phase(self.now) or subscription.phase_at(self.now)
        assert phase is not None
        found = [
            packs(item.price, item.bought, item.included or Decimal(0))
            for item in phase.sold().items
            if item.is_prepaid and item.price is not None and item.bought is not None
        ]
        self._same("packs", found, [expected["value"]])

    def _expect_latest_invoice(self, expected: dict[str, Any]) -> None:
        invoices = list(Invoice.objects.filter(customer=self.customer).order_by("-id"))
        if "invoice_count" in expected:
            self._same("invoices", len(invoices), expected["invoice_count"])
        latest = invoices[0].total if invoices else None
        self._same_money("latest invoice", latest, expected["total"], expected.get("tolerance", 0))

    def _expect_paid_invoices(self, expected: dict[str, Any]) -> None:
        paid = self.customer.invoices.filter(state="paid", total__gt=0).count()
        self._same("paid invoices", paid, expected["count"])

    def _expect_balance(self, expected: dict[str, Any]) -> None:
        slug = self._slug(expected)
        access = check(self.customer, slug, now=self.now)
        # What was trimmed from a rollover is gone, but nobody used it.
        adjusted = sum((b.adjusted for b in access.buckets if b.kind is not Kind.ROLLOVER), Decimal(0))
        prepaid = [bucket for bucket in access.buckets if bucket.item.is_prepaid]
        bought = sum(((b.granted or Decimal(0)) - (b.item.included or Decimal(0)) for b in prepaid), Decimal(0))
        found: dict[str, Any] = {
            "remaining": access.net if expected.get("net") else access.remaining,
            "usage": access.used - adjusted,
            "granted": access.limit,
            "granted_included": None if access.limit is None else access.limit - bought,
            "purchased": access.overage,
            "prepaid": bought,
        }
        for name, value in found.items():
            if name in expected:
                self._same(f"{slug} {name}", value, Decimal(str(expected[name])))
        if reset := expected.get("reset_at"):
            self._expect_reset(slug, access, reset)

    def _expect_reset(self, slug: str, access: Access, reset: str) -> None:
        if reset == "unchanged":
            self._same(f"{slug} resets at", access.next_reset_at, self.resets_before.get(slug))
        elif reset == "future":
            self._same(f"{slug} resets later", bool(access.next_reset_at and access.next_reset_at > self.now), True)
        else:
            self._same(f"{slug} resets at", access.next_reset_at, instant(reset, at_noon=False))

    def _expect_breakdown(self, expected: dict[str, Any]) -> None:
        access = check(self.customer, self._slug(expected), now=self.now)
        words = {code: word for word, code in RESETS.items() if word not in ("one_off", None)} | {"never": "one_off"}
        found = [
            {
                "interval": words[bucket.item.reset],
                "granted": bucket.granted,
                "remaining": bucket.remaining,
                "usage": bucket.used - bucket.adjusted,
            }
            for bucket in access.buckets
        ]
        wanted = [{k: Decimal(str(v)) if k != "interval" else v for k, v in row.items()} for row in expected["rows"]]
        shown = [{k: row[k] for k in wanted[0]} for row in found]
        self._same("breakdown", sorted(shown, key=str), sorted(wanted, key=str))

    def _expect_rollovers(self, expected: dict[str, Any]) -> None:
        """What is left of each, oldest first; nothing is left of those that the file shows as spent."""
        access = check(self.customer, self._slug(expected), now=self.now)
        found = [bucket.remaining for bucket in sorted(access.buckets, key=Bucket.age) if bucket.kind is Kind.ROLLOVER]
        if expected["balances"] is not None:
            self._same("rollovers", found, [units(value) for value in expected["balances"]])

    def _expect_http_ok(self, expected: dict[str, Any]) -> None:
        self._same("acts that were done", self.done, expected["count"])

    def _expect_remaining_in(self, expected: dict[str, Any]) -> None:
        access = check(self.customer, self._slug(expected), now=self.now)
        if access.remaining not in expected["values"]:
            raise Differs(f"{access.remaining} left, expected one of {expected['values']}")

    def _expect_invariant(self, expected: dict[str, Any]) -> None:
        if expected["rule"] != "usage + remaining == 100":
            raise Later(f"the rule {expected['rule']}")
        [access] = check_all(self.customer, now=self.now)
        adjusted = sum((bucket.adjusted for bucket in access.buckets), Decimal(0))
        self._same("used and left together", access.used - adjusted + (access.remaining or Decimal(0)), Decimal(100))

    def _expect_sum_exact(self, expected: dict[str, Any]) -> None:
        access = check(self.customer, self._slug(expected), now=self.now)
        self._same("used", access.used, self.counted)
        events = self.customer.usage_events.aggregate(sum=Sum("taken"))["sum"]
        self._same("counted by events", events, self.counted)

    def _expect_unlimited(self, expected: dict[str, Any]) -> None:
        access = check(self.customer, self._slug(expected), now=self.now)
        self._same("unlimited", access.unlimited, expected["value"])

    def _expect_has_feature(self, expected: dict[str, Any]) -> None:
        access = check(self.customer, self._slug(expected), now=self.now)
        self._same("has feature", access.has_access, expected["value"])

    def _expect_allowed(self, expected: dict[str, Any]) -> None:
        if self.answer is None:
            raise Differs("nothing was checked")
        self._same("allowed", self.answer.allowed, expected["value"])

    def _expect_reset_interval(self, expected: dict[str, Any]) -> None:
        access = check(self.customer, self._slug(expected), now=self.now)
        found = {bucket.item.reset for bucket in access.buckets}
        self._same("reset interval", found, {RESETS[expected["value"]]})

    def _expect_error(self, expected: dict[str, Any]) -> None:
        if self.refused is None:
            raise Differs("nothing was refused")

    def _expect_stripe_subscriptions(self, expected: dict[str, Any]) -> None:
        live = self.customer.subscriptions.live().with_phases()
        paid = [s for s in live if (phase := s.phase_at(self.now)) and not phase.terms().is_free]
        self._same("live paid subscriptions", len(paid), expected["count"])

    def _expect_plan_status(self, expected: dict[str, Any]) -> None:
        found = {name: self._status(self.plans[name]) for name in expected["plans"]}
        self._same("plan status", found, expected["plans"])

    def _status(self, plan: Plan) -> str:
        if plan.is_default:
            held = check_holds_nothing(self.customer, self.now)
            return "active" if held else "absent"
        subscriptions = self.customer.subscriptions.filter(phases__version__plan=plan).distinct().order_by("id")
        states = [self._status_on(subscription, plan) for subscription in subscriptions]
        order = ["trialing", "trialing+canceling", "active", "active+canceling", "past_due", "scheduled", "deleted"]
        order.append("expired")
        return min(states, key=order.index, default="absent")

    def _status_on(self, subscription: Subscription, plan: Plan) -> str:
        phases = list(subscription.phases.select_related("version__plan").order_by("starts_at", "id"))
        mine = [phase for phase in phases if phase.version.plan_id == plan.pk]
        kept = [phase for phase in mine if phase.withdrawn_at is None]
        if subscription.state in LIVE and any(phase.covers(self.now) for phase in kept):
            leaving = any(
                p.withdrawn_at is None and p.starts_at > self.now and p.version.plan_id != plan.pk for p in phases
            )
            word = "trialing" if subscription.state == "trialing" else "active"
            return f"{word}+canceling" if leaving or subscription.ends_at else word
        if subscription.state in LIVE and any(phase.starts_at > self.now for phase in kept):
            return "scheduled"
        return "expired" if kept else "deleted"

    # Small things

    def _plan(self, name: str) -> Plan:
        return Plan.objects.select_related("product", "current_version").get(pk=self.plans[name].pk)

    def _subscription(self, plan: Plan) -> Subscription:
        live = self.customer.subscriptions.live().filter(phases__version__plan=plan).distinct()
        return live.get()

    def _slug(self, step: dict[str, Any]) -> str:
        return slugify(step["feature"]).replace("_", "-")

    def _note_resets(self) -> None:
        slugs = Feature.objects.values_list("slug", flat=True)
        self.resets_before = {slug: check(self.customer, slug, now=self.now).next_reset_at for slug in slugs}

    def _same_money(self, what: str, found: int | None, wanted: float, tolerance: float) -> None:
        cents = to_minor(Decimal(str(wanted)), "USD")
        if found is None or abs(found - cents) > tolerance * 100:
            raise Differs(f"{what} {found}, expected {cents}")

    def _same(self, what: str, found: Any, wanted: Any) -> None:
        if found != wanted:
            raise Differs(f"{what} {found}, expected {wanted}")


def units(value: float) -> Decimal:
    return Decimal(str(value))


def make_coupon(raw: dict[str, Any], duration: str) -> Coupon:
    """A coupon of the file: so much percent, or so many dollars."""
    percent = raw["type"] == "percentage"
    code = f"{raw['type']}-{raw['value']}-{Coupon.objects.count()}".replace(".", "-")
    return Coupon.objects.create(
        code=code,
        name=f"{raw['value']} {raw['type']}",
        kind=Coupon.Kind.PERCENT if percent else Coupon.Kind.FIXED,
        percent=units(raw["value"]) if percent else None,
        amount=None if percent else to_minor(units(raw["value"]), "USD"),
        currency="" if percent else "USD",
        duration=duration,
    )


def check_holds_nothing(customer: Customer, now: datetime) -> bool:
    return not any(s.phase_at(now) for s in customer.subscriptions.live().with_phases())
