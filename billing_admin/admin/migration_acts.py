"""What can be done with a migration, and with one customer of it: the dialogs, which say first what will be true."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import Exists, OuterRef
from django.http import Http404

from billing_admin.admin.acts import moment
from billing_admin.admin.links import link
from billing_admin.admin.migration_order import MIGRATE
from billing_admin.admin.migration_try import customers_words
from billing_admin.admin.migrations import find_migration, title_of
from billing_admin.flows import migrate
from billing_admin.flows.migrate import Progress, progress, rows_of
from billing_admin.pages import ActPage
from billing_admin.site import page
from catalog.mapping import price_differences
from customers.journal import Actor
from customers.models import MigrationRow, PlanMigration
from invoicing.models import InvoiceLine
from invoicing.states import InvoiceState

RowIs = MigrationRow.State


class ReasonForm(forms.Form):
    reason = forms.CharField(max_length=500, widget=forms.Textarea(attrs={"rows": 2, "autofocus": True}))


class MigrationAct(ActPage):
    permission = MIGRATE
    form_class: type[forms.BaseForm] = ReasonForm

    @cached_property
    def migration(self) -> PlanMigration:
        return find_migration(self.kwargs["public_id"])

    @property
    def actor(self) -> Actor:
        return Actor.of(self.request.user)

    @cached_property
    def progress(self) -> Progress:
        return progress(self.migration, moment(self.request))

    def back(self) -> str:
        return link("migration", self.migration.public_id)

    def trail(self) -> list[tuple[str, str]]:
        return [
            ("Migrations", link("migrations")),
            (title_of(self.migration), self.back()),
            (self.get_title(), ""),
        ]


class PauseMigration(MigrationAct):
    title = "Pause the migration"

    def get_outcome(self) -> str:
        waiting = customers_words(self.progress.waiting)
        return f"{waiting} wait until somebody resumes it. Whoever is moved or scheduled stays so."

    def act(self, form: Any) -> str:
        migrate.pause(self.migration, reason=form.cleaned_data["reason"], actor=self.actor, now=moment(self.request))
        return self.back()


class ResumeMigration(MigrationAct):
    title = "Resume the migration"

    def get_form(self, form_class: Any = None) -> Any:
        form = super().get_form(form_class)
        form.fields["reason"].required = False
        return form

    def get_outcome(self) -> str:
        return f"It goes on with the {customers_words(self.progress.waiting)} that wait."

    def act(self, form: Any) -> str:
        reason = form.cleaned_data["reason"]
        migrate.resume(self.migration, reason=reason, actor=self.actor, now=moment(self.request))
        return self.back()


class StopMigration(MigrationAct):
    title = "Stop the migration"
    danger = True

    def get_outcome(self) -> str:
        waiting = customers_words(self.progress.waiting)
        kept = customers_words(self.progress.scheduled + self.progress.moved)
        return f"{waiting} are never moved by it. The {kept} moved or scheduled stay so until they are taken back."

    def act(self, form: Any) -> str:
        migrate.stop(self.migration, reason=form.cleaned_data["reason"], actor=self.actor, now=moment(self.request))
        return self.back()


@dataclass(frozen=True, slots=True)
class WhatGoesBack:
    """What taking the whole back would come to, as it is now."""

    waiting: int
    scheduled: int
    at_once: int
    invoiced: int
    other_price: int

    @property
    def sentences(self) -> list[tuple[str, str]]:
        """Each with its sign: what goes back (`added`), what stays (`removed`)."""
        found = [
            (self.waiting, "added", "not moved yet: they stay on the old version"),
            (self.scheduled, "added", "scheduled: withdrawn, they stay on the old version"),
            (self.at_once, "added", "moved: back on the old version at once, with what they used"),
            (self.invoiced, "removed", "kept: the new version is invoiced, and invoices never change"),
            (self.other_price, "removed", "kept: the new price has begun, so it takes a change of plan"),
        ]
        return [(sign, f"{customers_words(n)} {words}") for n, sign, words in found if n]


def changes_prices(migration: PlanMigration) -> bool:
    """Whether a contract that has begun pays otherwise, so that it is not simply taken back."""
    return bool(price_differences(migration.from_version.terms(), migration.to_version.terms()))


def what_goes_back(migration: PlanMigration, now: datetime) -> WhatGoesBack:
    lines = InvoiceLine.objects.filter(phase=OuterRef("phase")).exclude(invoice__state=InvoiceState.VOID)
    rows = rows_of(migration, now).order_by().annotate(invoiced=Exists(lines))
    moved = rows.filter(state_now=RowIs.MOVED)
    found = progress(migration, now)
    invoiced = moved.filter(invoiced=True).count()
    other = found.moved - invoiced if changes_prices(migration) else 0
    return WhatGoesBack(found.waiting, found.scheduled, found.moved - invoiced - other, invoiced, other)


class TakeMigrationBack(MigrationAct):
    title = "Take the migration back"
    danger = True
    act_template = "migrations/take_back.html"

    def extra(self) -> dict[str, Any]:
        return {"comes_to": what_goes_back(self.migration, moment(self.request)).sentences}

    def get_outcome(self) -> str:
        return "Documents that were issued stay as they are. Whoever cannot go back is listed with the reason."

    def act(self, form: Any) -> str:
        reason = form.cleaned_data["reason"]
        migrate.take_back(self.migration, reason=reason, actor=self.actor, now=moment(self.request))
        return self.back()


# One row --------------------------------------------------------------------------------------------------------------


def find_row(migration: PlanMigration, pk: int, now: datetime) -> MigrationRow:
    rows = rows_of(migration, now).select_related("phase", "migration")
    found: MigrationRow | None = rows.filter(pk=pk).first()
    if found is None:
        raise Http404("There is no such customer in this migration.")
    return found


class RowAct(MigrationAct):
    @cached_property
    def row(self) -> MigrationRow:
        row = find_row(self.migration, self.kwargs["pk"], moment(self.request))
        row.migration = self.migration
        return row


class RetryRow(RowAct):
    form_class = forms.Form

    def get_title(self) -> str:
        return f"Try {self.row.customer.name} again"

    def get_outcome(self) -> str:
        return f"{self.row.problem} It is tried once more, alone." if self.row.problem else "It is tried once more."

    def act(self, form: Any) -> str:
        row = migrate.retry(self.row, now=moment(self.request))
        name = row.customer.name
        if row.state in (RowIs.FAILED, RowIs.SKIPPED):
            messages.error(self.request, f"{name} was not moved: {row.problem}")
        else:
            begins = f" on {row.at:%-d %b %Y}" if row.state == RowIs.SCHEDULED and row.at else ""
            messages.success(self.request, f"{name} moves to {self.migration.to_version}{begins}.")
        return self.back()


class TakeRowBack(RowAct):
    danger = True

    def get_title(self) -> str:
        return f"Take back {self.row.customer.name}"

    def get_submit(self) -> str:
        return "Take back"

    def get_outcome(self) -> str:
        name, old = self.row.customer.name, self.migration.from_version.label
        state = self.row.state_now  # type: ignore[attr-defined]  # as `rows_of` reads it
        if state == RowIs.KEPT:
            return f"{self.row.problem} It is tried once more."
        if state == RowIs.WAITING:
            return f"{name} stays on {old} and is not moved by this migration."
        if state == RowIs.SCHEDULED:
            return f"{name} stays on {old}: the move of {self.row.at:%-d %b %Y} is withdrawn."
        if changes_prices(self.migration):
            return f"{name} has the new price since {self.row.at:%-d %b %Y}, so it is kept, and the row will say why."
        return f"{name} is on {old} again at once, with what was used, unless the new version is invoiced already."

    def act(self, form: Any) -> str:
        row, reason = self.row, form.cleaned_data["reason"]
        migrate.take_back_row(row, reason=reason, actor=self.actor, now=moment(self.request))
        if row.state == RowIs.KEPT:
            messages.error(self.request, f"{row.customer.name} was not taken back: {row.problem}")
        else:
            messages.success(self.request, f"{row.customer.name} is taken back.")
        return self.back()


page("migrations/<str:public_id>/pause/", name="migration_pause")(PauseMigration.as_view())
page("migrations/<str:public_id>/resume/", name="migration_resume")(ResumeMigration.as_view())
page("migrations/<str:public_id>/stop/", name="migration_stop")(StopMigration.as_view())
page("migrations/<str:public_id>/take-back/", name="migration_back")(TakeMigrationBack.as_view())
page("migrations/<str:public_id>/rows/<int:pk>/retry/", name="migration_retry")(RetryRow.as_view())
page("migrations/<str:public_id>/rows/<int:pk>/take-back/", name="migration_row_back")(TakeRowBack.as_view())
