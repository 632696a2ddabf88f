"""Meters in the desk, and the dialog that voids an event."""

import pytest

from catalog.models import Feature, Meter
from customers.models import Operation
from entitlements.models import UsageEvent
from tests import builders as a
from tests.admin.catalog_desk import staff
from tests.admin.test_catalog_features_and_products import new_feature, read
from tests.entitlements.test_metered import metered, report

pytestmark = pytest.mark.django_db


def new_meter(**changed: str) -> dict[str, str]:
    rule = {"event_name": "completion", "aggregation": "sum", "property": "tokens", "filters": "model = large, huge"}
    return {"name": "Large tokens", "slug": "", **rule} | changed


def test_a_meter_is_made_with_its_filters():
    staff().post("/catalog/meter/add/", new_meter())

    meter = Meter.objects.get()
    assert (meter.slug, meter.filters) == ("large-tokens", {"model": ["large", "huge"]})
    assert Operation.objects.latest("id").verb == "meter.created"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"filters": "model"}, "Line 1 is not of the form"),
        ({"aggregation": "unique_count", "property": ""}, "Say which property"),
        ({"event_name": ""}, "This field is required"),
    ],
)
def test_a_meter_that_cannot_be_is_refused_beside_its_field(wrong: dict[str, str], said: str):
    page = staff().post("/catalog/meter/add/", new_meter(**wrong))

    assert said in page.content.decode()
    assert not Meter.objects.exists()


def test_the_page_of_a_meter_shows_who_counts_by_it_and_an_event():
    metered("sum", by="tokens", filters={"model": ["large"]})
    meter = Meter.objects.get()

    html = read(staff("Read-only"), f"/catalog/meter/{meter.pk}/change/")

    assert "Credits" in html and "&quot;tokens&quot;: 3" in html and "model = large" in html


def test_a_rule_that_has_counted_is_fixed_but_its_name_changes():
    metered("sum", by="tokens")
    report(a.on(a.pro()), properties={"tokens": 3})
    meter = Meter.objects.get()

    staff().post(f"/catalog/meter/{meter.pk}/change/", new_meter(name="Tokens", aggregation="max"))

    meter.refresh_from_db()
    assert (meter.name, meter.aggregation) == ("Tokens", "sum")


def test_a_meter_is_archived_and_restored():
    meter = Meter.objects.create(slug="zebras", name="Zebras seen", event_name="zebra")
    client = staff()

    client.post(f"/catalog/meter/{meter.pk}/archive/")
    hidden = f"/catalog/meter/{meter.pk}/change/" not in read(client, "/catalog/meter/")
    client.post(f"/catalog/meter/{meter.pk}/restore/")

    meter.refresh_from_db()
    assert hidden and meter.archived_at is None


def test_a_meter_in_use_is_not_archived():
    metered("sum")
    meter = Meter.objects.get()

    page = staff().post(f"/catalog/meter/{meter.pk}/archive/")

    assert "counts by this meter" in page.content.decode()


def test_a_feature_chooses_its_meter():
    meter = Meter.objects.create(slug="calls", name="Calls", event_name="call", aggregation="count")

    staff().post("/catalog/feature/add/", new_feature(meter=str(meter.pk)))

    assert Feature.objects.get().meter == meter


def test_a_feature_that_counted_keeps_a_meter_that_windows_remember():
    metered("max")
    report(a.on(a.pro()), 5)
    feature = Feature.objects.get()

    page = staff().post(f"/catalog/feature/{feature.pk}/change/", {"name": "Credits", "unit": "", "meter": ""})

    feature.refresh_from_db()
    assert feature.meter is not None and "another rule takes another feature" in page.content.decode()


@pytest.mark.parametrize("role", ["Read-only", "Ops", "Sales engineer", "Finance"])
def test_meters_are_the_admins(role: str):
    """A-53"""
    meter = Meter.objects.create(slug="calls", name="Calls", event_name="call")
    client = staff(role)

    codes = {client.post(f"/catalog/meter/{address}/").status_code for address in ("add", f"{meter.pk}/change")}
    codes.add(client.get(f"/catalog/meter/{meter.pk}/archive/").status_code)

    assert codes == {403}


def test_an_event_is_voided_in_a_dialog():
    who = a.on(a.pro())
    a.use(who, 30)
    event = UsageEvent.objects.get()
    client, address = staff("Ops"), f"/customers/customer/{who.pk}/events/{event.public_id}/void/"

    shown = read(client, address)
    client.post(address, {"reason": "sent twice"})

    event.refresh_from_db()
    assert "30 Credits of 1 Mar 2026 go back" in shown
    assert event.voided_at is not None and event.void_operation is not None
    assert event.void_operation.reason == "sent twice"


def test_an_event_of_somebody_else_is_not_found():
    a.use(a.on(a.pro()), 30)
    other = a.customer("Globex")

    page = staff().get(f"/customers/customer/{other.pk}/events/{UsageEvent.objects.get().public_id}/void/")

    assert page.status_code == 404


def test_readers_void_nothing():
    """A-53"""
    who = a.on(a.pro())
    a.use(who, 30)
    address = f"/customers/customer/{who.pk}/events/{UsageEvent.objects.get().public_id}/void/"
    client = staff("Read-only")

    assert {client.get(address).status_code, client.post(address, {"reason": "x"}).status_code} == {403}
