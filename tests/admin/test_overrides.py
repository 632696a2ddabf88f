"""Feature overrides on the desk: the dialog with its outlook, the sidebar, revoking, and who may."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from catalog.models import Feature, Plan
from customers.models import Customer
from entitlements.models import FeatureOverride
from entitlements.override import override
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk
from tests.admin.enable_desk import person
from tests.instants import APRIL_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client)


def acme(name: str = "Acme Robotics") -> Customer:
    """On Pro for $50, with 100 credits a month."""
    return a.on(Plan.objects.filter(key="pro").first() or a.pro(50), name=name)


def give(
    who: Customer,
    value: Any = Decimal(400),
    *,
    of: str = "credits",
    until: datetime | None = MAY_1,
    starts: datetime = MARCH_16,
    now: datetime = MARCH_16,
    **more: Any,
) -> FeatureOverride:
    feature = Feature.objects.get(slug=of)
    return override(
        who,
        feature,
        value,
        effective_from=starts,
        effective_until=until,
        reason="migration deal",
        actor=a.STAFF,
        now=now,
        **more,
    )


def typed(**said: Any) -> dict[str, Any]:
    return {
        "feature": "credits",
        "what": "value",
        "value": "400",
        "level": "customer",
        "starts": "",
        "until": "2026-05-01",
        "reason": "migration deal",
    } | said


def test_the_dialog_gives_what_was_typed(desk):
    """L-10, L-48"""
    who = acme()

    page = desk.post("override_give", who.pk, **typed())

    [row] = FeatureOverride.objects.all()
    assert page.went_on
    assert (row.units, row.subscription, row.effective_from, row.effective_until) == (400, None, MARCH_16, MAY_1)
    assert (row.reason, a.left(who, now=MARCH_16)) == ("migration deal", 400)


def test_an_override_of_one_subscription_names_it(desk):
    """L-11"""
    who = acme()
    subscription = a.the_subscription(who)

    desk.post("override_give", who.pk, **typed(level=subscription.public_id))

    assert FeatureOverride.objects.get().subscription == subscription


def test_permanent_is_said_in_so_many_words(desk):
    """L-07"""
    who = acme()

    refused = desk.post("override_give", who.pk, **typed(until=""))
    given = desk.post("override_give", who.pk, **typed(until="", permanent="on"))

    assert refused.errors == {"until": ["Say when it ends, or that it is permanent."]}
    assert given.went_on
    assert FeatureOverride.objects.get().effective_until is None


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"feature": ""}, "feature"),
        ({"feature": "nothing"}, "feature"),
        ({"value": ""}, "value"),
        ({"value": "many"}, "value"),
        ({"value": "-5"}, "value"),
        ({"value": "0.1234567"}, "value"),
        ({"what": "on"}, "what"),
        ({"until": "2026-03-01"}, "until"),
        ({"until": "soon"}, "until"),
        ({"starts": "2026-03-01"}, "starts"),
        ({"starts": "2026-06-01"}, "until"),
        ({"permanent": "on"}, "until"),
        ({"level": "sub_other"}, "level"),
    ],
)
def test_what_is_wrong_stands_at_its_field(desk, said: dict[str, str], field: str):
    """L-06, L-07"""
    who = acme()

    page = desk.post("override_give", who.pk, **typed(**said))

    assert list(page.errors) == [field]
    assert not FeatureOverride.objects.exists()


def test_the_value_is_typed_by_the_feature(desk):
    who = acme()
    a.feature("sso", type="boolean")
    a.feature("sla", type="static")

    desk.post("override_give", who.pk, **typed(feature="sso", what="on", value=""))
    desk.post("override_give", who.pk, **typed(feature="sla", value="99.9 %"))
    desk.post("override_give", who.pk, **typed(what="no_access", value=""))

    rows = {row.feature.slug: row for row in FeatureOverride.objects.all()}
    assert (rows["sso"].on, rows["sla"].text, rows["credits"].on) == (True, "99.9 %", False)


def test_the_dialog_asks_only_what_the_feature_takes(desk):
    who = acme()
    a.feature("sso", type="boolean")

    page = desk.get("override_give", who.pk, dialog=True, feature="sso", until="2026-05-01", reason="deal")

    form = page.answer.context["form"]
    assert [code for code, _ in form.fields["what"].choices] == ["on", "no_access"]
    assert form["value"].is_hidden
    assert (form["until"].value(), form["reason"].value()) == ("2026-05-01", "deal")


def test_while_typing_the_outcome_says_what_is_true_until_when(desk):
    who = acme()
    a.use(who, 30)

    page = desk.get("override_preview", who.pk, **typed(reason=""))

    assert "From now until 1 May 2026: Credits 400 instead of 100; 370 left (was 70)." in page.text
    assert "Then the plan's own value again." in page.text


def test_a_scheduled_override_says_what_it_will_meet_then(desk):
    """The window of April has 100 credits again."""
    who = acme()
    a.use(who, 30)

    page = desk.get("override_preview", who.pk, **typed(starts="2026-04-05"))

    assert "From 5 Apr 2026 until 1 May 2026: Credits 400 instead of 100; 400 left (was 100)." in page.text


def test_the_outcome_equals_what_the_override_makes_true(desk):
    """The outlook is made by the functions that decide."""
    who = acme()
    a.use(who, 30)
    found = desk.get("override_preview", who.pk, **typed(value="20")).answer.context["found"]

    desk.post("override_give", who.pk, **typed(value="20"))

    real = a.access(who, now=MARCH_16)
    assert (found.after.limit, found.after.remaining) == (real.limit, real.remaining)
    assert found.stays_used.startswith("More than 20 is used in this window already")


def test_an_overlap_is_shown_and_superseded_in_one_act(desk):
    """L-12"""
    who = acme()
    first = give(who, Decimal(200))

    shown = desk.get("override_preview", who.pk, **typed())
    refused = desk.post("override_give", who.pk, **typed())
    done = desk.post("override_give", who.pk, **typed(supersede="on"))

    first.refresh_from_db()
    assert "200 holds from 16 Mar 2026 until 1 May 2026" in shown.text and "this one takes over" in shown.text
    assert list(refused.errors) == ["__all__"] and 'name="supersede"' in refused.html
    assert done.went_on and first.superseded_by.units == 400
    assert a.left(who, now=MARCH_16) == 400


def test_the_outcome_warns_of_both_levels(desk):
    """L-11"""
    who = acme()
    give(who, subscription=a.the_subscription(who))

    assert "Both levels" in desk.get("override_preview", who.pk, **typed(value="500")).text


def test_the_same_on_three_others_suggests_a_version_of_the_plan(desk):
    """L-46"""
    for name in ("Globex", "Initech", "Umbrella"):
        give(acme(name))
    who = acme()

    same = desk.get("override_preview", who.pk, **typed())
    other = desk.get("override_preview", who.pk, **typed(value="401"))

    assert "stands on 3 other customers: consider a new version of the plan" in same.text
    assert reverse("admin:catalog_plan_edit", args=[Plan.objects.get(key="pro").pk]) in same.html
    assert "other customers" not in other.text


def test_a_fraction_of_a_level_does_not_fit(desk):
    who = acme()
    a.feature("seats", usage="allocated")

    page = desk.get("override_preview", who.pk, **typed(feature="seats", value="2.5"))

    assert "a level of whole units" in page.text


def test_what_cannot_be_read_is_said_while_typing(desk):
    who = acme()

    assert "is not a number" in desk.get("override_preview", who.pk, **typed(value="many")).text
    assert "ends after it begins" in desk.get("override_preview", who.pk, **typed(until="2026-03-01")).text
    assert "Choose a feature" in desk.get("override_preview", who.pk, **typed(feature="")).text


def test_the_sidebar_says_the_value_instead_of_what_until_when_and_why(desk):
    """A-50"""
    who = acme()
    give(who)
    give(who, starts=MAY_1, until=None, value="unlimited")

    text = desk.page(who).text

    assert "Credits 400 instead of 100 until 1 May 2026 “migration deal” — ops, 16 Mar 2026" in text
    assert "Credits unlimited instead of 100 scheduled from 1 May 2026 permanent" in text


def test_the_sidebar_warns_of_both_levels(desk):
    """L-11"""
    who = acme()
    give(who)
    give(who, Decimal(300), subscription=a.the_subscription(who))

    assert "Both levels: Credits is overridden on a subscription and for the customer" in desk.page(who).text


def test_what_is_over_is_folded_away(client):
    """L-48"""
    who = acme()
    give(who, until=APRIL_1)

    page = CustomerDesk(client, now=MAY_1).page(who)

    assert "Past overrides Credits 400 expired 16 Mar 2026 – 1 Apr 2026" in page.text
    assert "No special prices and no overrides" in page.text


def test_a_revoked_override_stops_at_once_and_stays_with_its_reason(desk):
    """L-08"""
    who = acme()
    row = give(who)

    page = desk.post("override_revoke", row.public_id, reason="deal is off")

    assert page.went_on
    assert a.left(who, now=MARCH_16) == 100
    assert "revoked: “deal is off”" in desk.page(who).text


def test_what_is_revoked_before_it_begins_never_did(desk):
    """L-08"""
    who = acme()
    row = give(who, starts=APRIL_1)

    desk.post("override_revoke", row.public_id, reason="deal is off")

    page = desk.page(who)
    assert "Credits 400 revoked never began, was to on 1 Apr 2026" in page.text
    assert "instead of" not in page.text


def test_a_revocation_needs_a_reason(desk):
    """L-06"""
    row = give(acme())

    assert list(desk.post("override_revoke", row.public_id, reason=" ").errors) == ["reason"]


def test_revoking_again_changes_nothing(desk):
    """L-09"""
    row = give(acme())
    desk.post("override_revoke", row.public_id, reason="deal is off")

    desk.post("override_revoke", row.public_id, reason="again")

    row.refresh_from_db()
    assert row.revoke_reason == "deal is off"


def conceding(client: Client) -> CustomerDesk:
    """Somebody who may give concessions, for a limited time only."""
    desk = CustomerDesk(client, role="Read-only")
    person("Read-only").user_permissions.add(Permission.objects.get(codename="give_concession"))
    return desk


def test_whoever_gives_concessions_is_offered_only_an_end(client):
    """L-47"""
    who = acme()
    desk = conceding(client)

    page = desk.get("override_give", who.pk)
    forced = desk.post("override_give", who.pk, **typed(until="", permanent="on"))
    given = desk.post("override_give", who.pk, **typed())

    assert 'name="permanent"' not in page.html
    assert forced.errors == {"until": ["You may give it for a limited time: say when it ends."]}
    assert given.went_on


def test_whoever_gives_concessions_leaves_permanent_ones_alone(client):
    """L-47"""
    row = give(acme(), until=None)

    assert conceding(client).post("override_revoke", row.public_id, reason="mine").status == 403


@pytest.mark.parametrize("role", ["Read-only", "Finance"])
def test_readers_see_overrides_and_neither_dialog_nor_preview_nor_post(client, role: str):
    """A-53"""
    who = acme()
    row = give(who)
    desk = CustomerDesk(client, role=role)

    codes = {
        desk.get("override_give", who.pk).status,
        desk.post("override_give", who.pk, **typed()).status,
        desk.get("override_preview", who.pk, **typed()).status,
        desk.get("override_revoke", row.public_id).status,
        desk.post("override_revoke", row.public_id, reason="mine").status,
    }

    page = desk.page(who)
    assert codes == {403}
    assert "Credits 400" in page.text and "/overrides/" not in page.html


def test_a_closed_customer_gets_none(desk):
    who = acme()
    a.feature("sso", type="boolean")
    give(who)
    Customer.objects.filter(pk=who.pk).update(closed_at=day("2026-03-15"))

    html = desk.page(who).html
    refused = desk.post("override_give", who.pk, **typed(feature="sso", what="on", value=""))

    assert reverse("admin:override_give", args=[who.pk]) not in html
    assert refused.errors == {"__all__": ["This customer is closed."]}
