"""Taking back what was done to a customer: details, notes, taxes, the deletion; corrections of money by hand."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from billing_admin.approving import Effect
from billing_admin.flows.customers import FIELD_WORDS, reopen_customer, update_customer
from billing_admin.undoing import CannotTakeBack, TakenBack, inverse, line_of, taking_back
from catalog.money import format_minor, plain
from customers.journal import Actor, record
from customers.models import Customer, Note, Operation
from invoicing.credit_note import void_credit_note
from invoicing.models import Invoice, TaxRate
from invoicing.states import InvoiceState
from invoicing.tax import tax_customer
from invoicing.wallet import correct


def _customer(operation: Operation) -> Customer:
    assert operation.customer is not None, "the act was on a customer"
    return operation.customer


# Details --------------------------------------------------------------------------------------------------------------


@inverse
class CustomerUpdated:
    """Each field goes back, if nobody has changed it since."""

    verb = "customer.updated"
    permissions = ("customers.change_customer",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        customer = _customer(operation)
        for name, said in _fields(operation).items():
            if _as(name, said["to"]) != getattr(customer, name):
                return f"{FIELD_WORDS[name].capitalize()} was changed again since."
        taken = _fields(operation).get("customer_id")
        if taken and Customer.objects.filter(customer_id=taken["from"]).exists():
            return f"Another customer has the id {taken['from']} by now."
        return ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        said = _fields(operation)
        effects = tuple(Effect(_label(name), _words(pair["to"]), _words(pair["from"])) for name, pair in said.items())
        stays = ("Issued documents keep what they say.",)
        return TakenBack("Changes the details back.", effects=effects, stays=stays, facts=said)

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        wanted = {name: _as(name, said["from"]) for name, said in _fields(operation).items()}
        by = taking_back(actor, operation, self.verb)
        update_customer(_customer(operation), **wanted, reason=reason, actor=by, now=now)
        return line_of(operation)


def _fields(operation: Operation) -> dict[str, dict[str, Any]]:
    return {name: said for name, said in operation.inputs.items() if name in FIELD_WORDS}


def _as(name: str, value: Any) -> Any:
    return datetime.fromisoformat(value) if name == "usage_started_at" and value else value


def _label(name: str) -> str:
    return FIELD_WORDS[name].removeprefix("the ").capitalize()


def _words(value: Any) -> str:
    return str(value) if value not in (None, "") else "—"


# Notes ----------------------------------------------------------------------------------------------------------------


@inverse
class NoteAdded:
    verb = "note.added"
    permissions = ("customers.add_note",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        return "" if _note(operation) else "The note is gone already."

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        note = _note(operation)
        text = note.text if note else ""
        return TakenBack("Removes the note.", effects=(Effect("Note", text[:200], "—"),), facts={"text": text})

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        note = _note(operation)
        if note is None:
            raise CannotTakeBack("The note is gone already.")
        kept = {"text": note.text, "author": note.author, "writtenAt": note.created_at}
        note.delete()
        return record(
            operation.customer,
            "note.removed",
            "Removed a note",
            actor=actor,
            now=now,
            reason=reason,
            inputs=kept,
            reverses=operation,
        )


def _note(operation: Operation) -> Note | None:
    return Note.objects.filter(pk=operation.inputs.get("note") or 0, customer=operation.customer).first()


@inverse
class NoteRemoved:
    verb = "note.removed"
    permissions = ("customers.add_note",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        return ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        text = operation.inputs["text"]
        return TakenBack("Adds the note again.", effects=(Effect("Note", "—", text[:200]),), facts={"text": text})

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        said = operation.inputs
        note = Note.objects.create(
            customer=_customer(operation),
            author=said["author"],
            text=said["text"],
            created_at=datetime.fromisoformat(said["writtenAt"]),
        )
        return record(
            operation.customer,
            "note.added",
            "Added a note again",
            actor=actor,
            now=now,
            reason=reason,
            inputs={"note": note.pk},
            reverses=operation,
        )


# Deletion -------------------------------------------------------------------------------------------------------------


@inverse
class CustomerClosed:
    verb = "customer.closed"
    permissions = ("customers.delete_customer",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        customer = _customer(operation)
        if customer.closed_at is None:
            return "The customer is open."
        if customer.erase_at is not None and customer.erase_at <= now:
            return "The 30 days are over; the data is being erased."
        return ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        customer = _customer(operation)
        count = len(operation.effects.get("ended") or [])
        ended = "1 plan that ended with it stays ended." if count == 1 else f"{count} plans that ended stay ended."
        return TakenBack(
            f"Opens {customer.name} again; nothing is erased.",
            stays=(ended,) if count else (),
            facts={"closed": customer.closed_at},
        )

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        reopen_customer(_customer(operation), reason=reason, actor=actor, now=now)
        return line_of(operation)


# Taxes ----------------------------------------------------------------------------------------------------------------


@inverse
class TaxesChanged:
    verb = "taxes.changed"
    permissions = ("invoicing.change_taxassignment",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        customer, effects = _customer(operation), operation.effects
        if "ratesBefore" not in effects:
            return "Nothing is kept of the rates from before."
        present = sorted(customer.tax_assignments.filter(rate__archived_at=None).values_list("rate_id", flat=True))
        exempt = customer.tax_exemptions.filter(ended_at=None).values_list("reason", flat=True).first()
        if (present, exempt) != (sorted(effects["ratesAfter"]), effects["exemptAfter"]):
            return "The taxes of this customer were changed again since."
        archived = TaxRate.objects.filter(pk__in=effects["ratesBefore"]).exclude(archived_at=None).first()
        return f"{archived} is archived by now." if archived else ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        before, after = operation.inputs["from"], operation.inputs["to"]
        effects = (Effect("Taxes", ", ".join(after) or "as the plan", ", ".join(before) or "as the plan"),)
        stays = ("Issued documents keep their taxes.",)
        return TakenBack("Changes the taxes back.", effects=effects, stays=stays, facts=operation.effects)

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        rates = list(TaxRate.objects.filter(pk__in=operation.effects["ratesBefore"]))
        by, because = taking_back(actor, operation, self.verb), operation.effects["exemptBefore"]
        tax_customer(_customer(operation), rates, exempt_because=because, actor=by, now=now)
        return line_of(operation)


# Corrections of money -------------------------------------------------------------------------------------------------


@inverse
class InvoiceCredited:
    """The credit note is voided: what it gave has to be there still."""

    verb = "invoice.credited"
    permissions = ("invoicing.credit_invoice",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        note = _credit_note(operation)
        return f"{note} is void already." if note.state == InvoiceState.VOID else ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        note = _credit_note(operation)
        money = format_minor(-note.total, note.currency)
        facts = {"note": note.public_id, "state": note.state, "total": note.total}
        return TakenBack(f"Voids {note}: {money} is no longer given.", facts=facts)

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        by = taking_back(actor, operation, "credit_note.voided")
        void_credit_note(_credit_note(operation), reason=reason, actor=by, now=now)
        return line_of(operation)


def _credit_note(operation: Operation) -> Invoice:
    notes = Invoice.objects.filter(operation=operation, kind=Invoice.Kind.CREDIT_NOTE)
    found = notes.select_related("corrects").first()
    if found is None:
        raise CannotTakeBack("Nothing is kept of the credit note of this act.")
    return found


@inverse
class WalletCorrected:
    verb = "wallet.corrected"
    permissions = ("invoicing.top_up_wallet",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        return ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        amount = -Decimal(operation.inputs["amount"])
        said = f"Corrects the wallet by {plain(amount)} {operation.inputs['currency']}."
        return TakenBack(said, stays=("What was paid out of it meanwhile stays paid.",), facts={"amount": amount})

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        by, amount = taking_back(actor, operation, self.verb), -Decimal(operation.inputs["amount"])
        correct(_customer(operation), amount, reason=reason, actor=by, now=now)
        return line_of(operation)
