"""Whoever may only give concessions does not end a permanent override by superseding it."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client

from entitlements.models import FeatureOverride
from entitlements.override import override
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk
from tests.admin.enable_desk import person
from tests.api.conftest import caller_with
from tests.instants import APRIL_1, MARCH_1

pytestmark = pytest.mark.django_db

UNTIL = "2026-04-01T00:00:00Z"


def permanent(who, value: int = 500) -> FeatureOverride:
    return override(who, a.feature(), value, effective_until=None, reason="deal", actor=a.STAFF, now=MARCH_1)


def key_with(*codenames: str):
    role = Group.objects.create(name="Concessions")
    role.permissions.set(Permission.objects.filter(codename__in=codenames))
    return caller_with("Concessions")


def stands(row: FeatureOverride) -> bool:
    row.refresh_from_db()
    return row.stops_at is None


def test_over_the_api():
    """A-53, L-47"""
    who = a.on(a.pro())
    row = permanent(who)
    asked = {"featureSlug": "credits", "value": 5, "effectiveUntil": UNTIL, "reason": "support", "supersede": True}

    answer = key_with("give_concession").post(f"customers/{who.customer_id}/overrides", asked)

    assert (answer.status, stands(row)) == (403, True)


def test_over_the_api_one_that_ends_is_superseded_by_a_concession():
    """L-12, L-47"""
    who = a.on(a.pro())
    row = override(who, a.feature(), 500, effective_until=APRIL_1, reason="deal", actor=a.STAFF, now=MARCH_1)
    asked = {"featureSlug": "credits", "value": 5, "effectiveUntil": UNTIL, "reason": "support", "supersede": True}

    answer = key_with("give_concession").post(f"customers/{who.customer_id}/overrides", asked)

    row.refresh_from_db()
    assert (answer.status, row.stops_at) == (201, MARCH_1)


def test_in_bulk_over_the_api():
    """A-53, L-30"""
    who = a.on(a.pro())
    row = permanent(who)
    asked = {"customers": [who.customer_id], "featureSlug": "credits", "value": 5, "effectiveUntil": UNTIL}

    answer = key_with("bulk_override").post("overrides/bulk", {**asked, "reason": "support", "supersede": True})

    assert (answer.status, stands(row)) == (403, True)


def desk_with(client: Client, codename: str) -> CustomerDesk:
    desk = CustomerDesk(client, role="Read-only")
    person("Read-only").user_permissions.add(Permission.objects.get(codename=codename))
    return desk


def test_in_the_desk(client: Client):
    """A-53, L-47"""
    who = a.on(a.pro())
    row = permanent(who)
    said = {"feature": "credits", "what": "value", "value": "5", "level": "customer", "until": "2026-05-01"}

    page = desk_with(client, "give_concession").post(
        "override_give", who.pk, **said, starts="", reason="support", supersede="on"
    )

    assert (page.status, stands(row)) == (403, True)


def test_in_bulk_in_the_desk(client: Client):
    """A-53, L-30"""
    who = a.on(a.pro())
    row = permanent(who)
    rows = f"customer_id,feature,value,until,supersede\n{who.customer_id},credits,5,2026-05-01,yes\n"

    page = desk_with(client, "bulk_override").post("override_batch_new", step="try", rows=rows, reason="support")

    assert "It would end a permanent override" in page.text
    assert stands(row)
