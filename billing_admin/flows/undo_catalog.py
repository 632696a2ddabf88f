"""Taking back what was done to what we sell, and to the settings of the account."""

from datetime import datetime
from typing import Any

from billing_admin.approving import Effect
from billing_admin.flows import catalog, coupon_book, meters
from billing_admin.flows.keys import revoke_key
from billing_admin.models import ApiKey
from billing_admin.undoing import CannotTakeBack, TakenBack, inverse, line_of, taking_back
from catalog.models import Coupon, Feature, Meter, Plan, PlanVersion, Product, PromoCode
from customers.journal import Actor
from customers.models import Operation
from invoicing.account import change_settings
from invoicing.models import BillingSettings, TaxAssignment, TaxRate
from invoicing.tax import set_default, tax_plan

CHANGE_PLAN = ("catalog.change_plan",)
OLD = "Nothing is kept of what this act was about."


def _one(rows: Any, **named: Any) -> Any:
    found = rows.filter(**named).first() if all(value is not None for value in named.values()) else None
    if found is None:
        raise CannotTakeBack(OLD)
    return found


class Switched:
    """What is on or off, current or not: one act and its opposite, each the other's inverse."""

    verb: str
    opposite: str

    def thing(self, operation: Operation) -> Any:
        raise NotImplementedError

    def is_so(self, thing: Any) -> bool:
        """Whether what the act made true is true still."""
        raise NotImplementedError

    def words(self, thing: Any) -> str:
        raise NotImplementedError

    def carry_out(self, thing: Any, reason: str, actor: Actor, now: datetime) -> object:
        raise NotImplementedError

    def why_not(self, operation: Operation, now: datetime) -> str:
        thing = self.thing(operation)
        return "" if self.is_so(thing) else f"{thing} is no longer as this act left it."

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        thing = self.thing(operation)
        return TakenBack(self.words(thing), facts={"thing": thing.pk})

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        self.carry_out(self.thing(operation), reason, taking_back(actor, operation, self.opposite), now)
        return line_of(operation)


class Archived(Switched):
    def is_so(self, thing: Any) -> bool:
        return thing.archived_at is not None

    def words(self, thing: Any) -> str:
        return f"{thing.name} is offered again."


class Restored(Switched):
    def is_so(self, thing: Any) -> bool:
        return thing.archived_at is None

    def words(self, thing: Any) -> str:
        return f"{thing.name} is archived; whoever has it keeps it."


class OfPlan:
    def thing(self, operation: Operation) -> Plan:
        key = operation.inputs.get("plan") or operation.effects.get("plan")
        plan: Plan = _one(Plan.objects.select_related("product"), key=key)
        return plan


@inverse
class PlanArchived(OfPlan, Archived):
    verb, opposite, permissions = "plan.archived", "plan.restored", CHANGE_PLAN

    def carry_out(self, thing: Any, reason: str, actor: Actor, now: datetime) -> object:
        return catalog.restore_plan(thing, actor=actor, now=now)


@inverse
class PlanRestored(OfPlan, Restored):
    verb, opposite, permissions = "plan.restored", "plan.archived", CHANGE_PLAN

    def carry_out(self, thing: Any, reason: str, actor: Actor, now: datetime) -> object:
        return catalog.archive_plan(thing, reason=reason, actor=actor, now=now)


class OfFeature:
    def thing(self, operation: Operation) -> Feature:
        feature: Feature = _one(Feature.objects, slug=operation.inputs.get("feature"))
        return feature


@inverse
class FeatureArchived(OfFeature, Archived):
    verb, opposite, permissions = "feature.archived", "feature.restored", ("catalog.change_feature",)

    def carry_out(self, thing: Any, reason: str, actor: Actor, now: datetime) -> object:
        return catalog.restore_feature(thing, actor=actor, now=now)


@inverse
class FeatureRestored(OfFeature, Restored):
    verb, opposite, permissions = "feature.restored", "feature.archived", ("catalog.change_feature",)

    def carry_out(self, thing: Any, reason: str, actor: Actor, now: datetime) -> object:
        return catalog.archive_feature(thing, actor=actor, now=now)


class OfMeter:
    def thing(self, operation: Operation) -> Meter:
        meter: Meter = _one(Meter.objects, slug=operation.inputs.get("slug"))
        return meter


@inverse
class MeterArchived(OfMeter, Archived):
    verb, opposite, permissions = "meter.archived", "meter.restored", ("catalog.change_meter",)

    def carry_out(self, thing: Any, reason: str, actor: Actor, now: datetime) -> object:
        return meters.restore_meter(thing, actor=actor, now=now)


@inverse
class MeterRestored(OfMeter, Restored):
    verb, opposite, permissions = "meter.restored", "meter.archived", ("catalog.change_meter",)

    def carry_out(self, thing: Any, reason: str, actor: Actor, now: datetime) -> object:
        return meters.archive_meter(thing, actor=actor, now=now)


class OfCoupon:
    def thing(self, operation: Operation) -> Coupon:
        coupon: Coupon = _one(Coupon.objects, code=operation.effects.get("coupon"))
        return coupon


@inverse
class CouponArchived(OfCoupon, Archived):
    verb, opposite, permissions = "coupon.archived", "coupon.restored", ("catalog.change_coupon",)

    def carry_out(self, thing: Any, reason: str, actor: Actor, now: datetime) -> object:
        return coupon_book.restore_coupon(thing, actor=actor, now=now)


@inverse
class CouponRestored(OfCoupon, Restored):
    verb, opposite, permissions = "coupon.restored", "coupon.archived", ("catalog.change_coupon",)

    def carry_out(self, thing: Any, reason: str, actor: Actor, now: datetime) -> object:
        return coupon_book.archive_coupon(thing, actor=actor, now=now)


@inverse
class PromoCodeTurned:
    verb, permissions = "promo_code.turned", ("catalog.change_coupon",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        promo, on = _promo(operation), operation.effects["active"]
        return "" if promo.is_active == on else f"{promo.code} was switched again since."

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        promo, on = _promo(operation), operation.effects["active"]
        return TakenBack(f"Switches {promo.code} {'off' if on else 'on'} again.", facts={"active": promo.is_active})

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        by = taking_back(actor, operation, self.verb)
        coupon_book.turn_promo_code(_promo(operation), on=not operation.effects["active"], actor=by, now=now)
        return line_of(operation)


def _promo(operation: Operation) -> PromoCode:
    promo: PromoCode = _one(PromoCode.objects, code=operation.effects.get("code"))
    return promo


# Edits ----------------------------------------------------------------------------------------------------------------


class Edited(Switched):
    """Fields that go back, if they are still what the act made them."""

    fields: tuple[str, ...]

    def why_not(self, operation: Operation, now: datetime) -> str:
        thing = self.thing(operation)
        if set(self.fields) - set(operation.effects.get("before") or {}):
            return OLD
        moved = [name for name in self.fields if getattr(thing, name) != operation.inputs[name]]
        return f"{thing} was edited again since." if moved else ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        thing, before = self.thing(operation), operation.effects["before"]
        changed = [name for name in self.fields if before[name] != getattr(thing, name)]
        effects = tuple(
            Effect(name.replace("_", " ").capitalize(), _words(getattr(thing, name)), _words(before[name]))
            for name in changed
        )
        return TakenBack(f"Changes {thing} back.", effects=effects, facts={"thing": thing.pk, "before": before})


def _words(value: Any) -> str:
    return str(value) if value not in (None, "") else "—"


@inverse
class PlanEdited(OfPlan, Edited):
    verb, permissions, fields = "plan.edited", CHANGE_PLAN, catalog.EDITED

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        before = {name: operation.effects["before"][name] for name in self.fields}
        catalog.edit_plan(self.thing(operation), **before, actor=taking_back(actor, operation, self.verb), now=now)
        return line_of(operation)


@inverse
class ProductEdited(Edited):
    verb, permissions, fields = "product.edited", ("catalog.change_product",), ("name", "description")

    def thing(self, operation: Operation) -> Product:
        product: Product = _one(Product.objects, key=operation.inputs.get("product"))
        return product

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        before = {name: operation.effects["before"][name] for name in self.fields}
        by = taking_back(actor, operation, self.verb)
        catalog.edit_product(self.thing(operation), **before, actor=by, now=now)
        return line_of(operation)


# What is sold to newcomers --------------------------------------------------------------------------------------------


@inverse
class MadeCurrent:
    verb, permissions = "plan.made_current", CHANGE_PLAN

    def why_not(self, operation: Operation, now: datetime) -> str:
        version, former = _versions(operation)
        if version.plan.current_version_id != version.pk:
            return "Another version is current by now."
        return "" if former.state == PlanVersion.State.PUBLISHED else f"{former} is archived by now."

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        version, former = _versions(operation)
        stays = (f"Whoever subscribed to {version.label} meanwhile stays on it.",)
        facts = {"version": version.pk, "former": former.pk}
        return TakenBack(f"{former} is sold to new subscriptions again.", stays=stays, facts=facts)

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        catalog.make_current(_versions(operation)[1], actor=taking_back(actor, operation, self.verb), now=now)
        return line_of(operation)


def _versions(operation: Operation) -> tuple[PlanVersion, PlanVersion]:
    """The one that was made current, and the one before it."""
    rows = PlanVersion.objects.select_related("plan")
    version, former = operation.effects.get("version"), operation.effects.get("former")
    return _one(rows, pk=version), _one(rows, pk=former)


@inverse
class MadeDefault(OfPlan):
    """The former default applies again; without one, none does."""

    verb, permissions = "plan.made_default", CHANGE_PLAN

    def why_not(self, operation: Operation, now: datetime) -> str:
        return "" if self.thing(operation).is_default else "Another plan is the default by now."

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        former = operation.effects.get("former")
        name = _one(Plan.objects, key=former).name if former else ""
        said = f"{name} is the default product again." if former else "There is no default product any more."
        return TakenBack(said, facts={"plan": self.thing(operation).pk, "former": former})

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        former = operation.effects.get("former")
        if former:
            by, plan = taking_back(actor, operation, self.verb), _one(Plan.objects, key=former)
            catalog.make_default(plan, confirmed=True, actor=by, now=now)
        else:
            by = taking_back(actor, operation, "plan.unset_default")
            catalog.unset_default(self.thing(operation), actor=by, now=now)
        return line_of(operation)


@inverse
class UnsetDefault(OfPlan):
    verb, permissions = "plan.unset_default", CHANGE_PLAN

    def why_not(self, operation: Operation, now: datetime) -> str:
        present = Plan.objects.default().first()
        return f"{present.name} is the default product by now." if present else ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        plan = self.thing(operation)
        return TakenBack(f"{plan.name} is the default product again.", facts={"plan": plan.pk})

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        by = taking_back(actor, operation, "plan.made_default")
        catalog.make_default(self.thing(operation), confirmed=True, actor=by, now=now)
        return line_of(operation)


# The account ----------------------------------------------------------------------------------------------------------


@inverse
class SettingsChanged:
    verb, permissions = "settings.changed", ("invoicing.change_billingsettings",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        account = BillingSettings.present()
        moved = [name for name, said in operation.inputs.items() if getattr(account, name) != said["to"]]
        return f"{moved[0].replace('_', ' ').capitalize()} was changed again since." if moved else ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        effects = tuple(
            Effect(name.replace("_", " ").capitalize(), _words(said["to"]), _words(said["from"]))
            for name, said in operation.inputs.items()
        )
        stays = ("What was issued under them stays as it is.",)
        return TakenBack("Changes the billing settings back.", effects=effects, stays=stays, facts=operation.inputs)

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        wanted = {name: said["from"] for name, said in operation.inputs.items()}
        change_settings(actor=taking_back(actor, operation, self.verb), now=now, reason=reason, **wanted)
        return line_of(operation)


@inverse
class DefaultRateChanged:
    verb, permissions = "tax_rate.default_changed", ("invoicing.change_taxrate",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        rate, default = _rate(operation), operation.inputs.get("default")
        if default is None:
            return OLD
        if rate.archived_at is not None:
            return f"{rate} is archived by now."
        return "" if rate.is_default == default else f"{rate} was changed again since."

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        rate = _rate(operation)
        verb = "no longer applies" if rate.is_default else "applies again"
        stays = ("Issued documents keep their taxes.",)
        facts = {"default": rate.is_default}
        return TakenBack(f"{rate} {verb} to whoever has no rate of their own.", stays=stays, facts=facts)

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        by, wanted = taking_back(actor, operation, self.verb), not operation.inputs["default"]
        set_default(_rate(operation), is_default=wanted, actor=by, now=now)
        return line_of(operation)


def _rate(operation: Operation) -> TaxRate:
    rate: TaxRate = _one(TaxRate.objects, pk=operation.inputs.get("id"))
    return rate


@inverse
class PlanTaxesChanged(OfPlan):
    verb, permissions = "plan.taxes_changed", ("invoicing.change_taxassignment",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        if "ratesBefore" not in operation.effects:
            return OLD
        assigned = TaxAssignment.objects.filter(plan=self.thing(operation), rate__archived_at=None)
        if sorted(assigned.values_list("rate_id", flat=True)) != sorted(operation.effects["ratesAfter"]):
            return "The taxes of this plan were changed again since."
        archived = TaxRate.objects.filter(pk__in=operation.effects["ratesBefore"]).exclude(archived_at=None).first()
        return f"{archived} is archived by now." if archived else ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        before, after = operation.inputs["from"], operation.inputs["to"]
        effects = (Effect("Taxes", ", ".join(after) or "as the account", ", ".join(before) or "as the account"),)
        stays = ("Issued documents keep their taxes.",)
        return TakenBack("Changes the taxes back.", effects=effects, stays=stays, facts=operation.effects)

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        rates = list(TaxRate.objects.filter(pk__in=operation.effects["ratesBefore"]))
        tax_plan(self.thing(operation), rates, actor=taking_back(actor, operation, self.verb), now=now)
        return line_of(operation)


@inverse
class ApiKeyIssued:
    verb, permissions = "api_key.issued", ("billing_admin.add_apikey",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        key = _key(operation)
        return f"{key} is revoked." if key.revoked_at is not None else ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        key = _key(operation)
        return TakenBack(f"Revokes {key}.", stays=("What was done with it stays done.",), facts={"key": key.public_id})

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        revoke_key(_key(operation), reason=reason, actor=taking_back(actor, operation, "api_key.revoked"), now=now)
        return line_of(operation)


def _key(operation: Operation) -> ApiKey:
    key: ApiKey = _one(ApiKey.objects, public_id=operation.inputs.get("key"))
    return key
