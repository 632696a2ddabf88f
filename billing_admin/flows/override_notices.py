"""Telling staff which overrides end soon, so that somebody decides before the customer notices."""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.fields.json import KeyTextTransform
from django.template.loader import render_to_string
from django.urls import reverse

from billing_admin.flows.override_outlook import words_of
from customers.journal import CLOCKWORK, record
from customers.models import Customer, Operation
from entitlements.models import FeatureOverride, FeatureOverrideQuerySet

NOTICE = timedelta(days=7)
SAID = "override.ends_soon"
WHO = ("entitlements.add_featureoverride", "entitlements.give_concession")
# Some backends answer for nobody; those of this one have permissions.
BACKEND = "django.contrib.auth.backends.ModelBackend"
MOST = 500


def ending(now: datetime, until: datetime) -> FeatureOverrideQuerySet:
    """In force, and over by the instant without a successor."""
    rows: FeatureOverrideQuerySet = FeatureOverride.objects.in_force(now)
    return rows.filter(stops_at__lte=until, superseded_by=None, customer__closed_at=None)


def unsaid(now: datetime) -> FeatureOverrideQuerySet:
    """What ends within the notice and was told to nobody: what is left to do is a query."""
    # All that comes due on a day is told in its first pass, so that there is one mail a day.
    tomorrow = datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
    about = KeyTextTransform("override", "inputs")
    said = Operation.objects.filter(customer=OuterRef("customer"), verb=SAID).annotate(about=about)
    return ending(now, tomorrow + NOTICE).exclude(Exists(said.filter(about=OuterRef("public_id"))))


@transaction.atomic
def tell_ending(now: datetime) -> int:
    """Tell everybody who may give overrides, by mail, what ends soon; each override once. Returns how many.

    Without anybody to mail it is only written down: the first page lists it all the same.
    """
    chosen = list(unsaid(now).order_by("stops_at", "id").values_list("pk", "customer_id")[:MOST])
    if not chosen:
        return 0
    # Whoever else tells the same waits here, and then finds it said.
    customers = Customer.objects.filter(pk__in={customer for _, customer in chosen}).order_by("pk")
    list(customers.select_for_update(no_key=True).values_list("pk", flat=True))
    rows = list(
        unsaid(now)
        .filter(pk__in=[pk for pk, _ in chosen])
        .select_related("customer", "feature", "subscription__product")
        .order_by("stops_at", "id")
    )
    for row in rows:
        record(
            row.customer,
            SAID,
            f"The override of {row.feature.name} ({words_of(row)}) ends on {row.stops_at:%-d %b %Y}",
            actor=CLOCKWORK,
            now=now,
            inputs={"override": row.public_id},
        )
    if rows:
        _mail(rows)
    return len(rows)


def recipients() -> "QuerySet[User]":
    """Staff with an address who may give overrides of some kind."""
    may = User.objects.with_perm(WHO[0], backend=BACKEND) | User.objects.with_perm(WHO[1], backend=BACKEND)
    return may.filter(is_staff=True).exclude(email="").distinct().order_by("pk")


def _mail(rows: Sequence[FeatureOverride]) -> None:
    link = settings.PUBLIC_URL + reverse("admin:entitlements_featureoverride_changelist") + "?shown=ending"
    lines = [(row, words_of(row)) for row in rows]
    text = render_to_string("mail/overrides_ending.txt", {"lines": lines, "link": link})
    number = f"{len(rows)} overrides end" if len(rows) > 1 else "An override ends"
    for user in recipients():
        mail = EmailMessage(f"{number} soon", text, None, [user.email])
        transaction.on_commit(mail.send, robust=True)
