"""The plan page: versions and who is on each, differences, custom plans; editing, publishing, the default switch."""

import pytest
import time_machine
from django.db import DatabaseError, transaction
from django.test import Client

from billing_admin.items import ItemsForm, items_shown
from catalog.models import Plan, PlanItem, PlanVersion
from customers.models import Operation
from tests import builders as a
from tests.admin.catalog_desk import row, staff, typed
from tests.instants import APRIL_1, MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def the_sixteenth_of_march():
    with time_machine.travel(MARCH_16, tick=False):
        yield


def url(plan: Plan, page: str = "change") -> str:
    return f"/catalog/plan/{plan.pk}/{page}/"


def read(client: Client, address: str) -> str:
    page = client.get(address)
    assert page.status_code == 200
    return " ".join(page.content.decode().split())


# Looking


def test_each_version_says_how_many_customers_are_on_it():
    plan = a.pro()
    a.on(plan, name="Acme")
    a.on(plan, name="Bolt")
    a.new_version(plan, a.fee(60), a.allowance(100))

    html = read(staff("Read-only"), url(plan))

    assert "2 customers" in html and "0 customers" in html


def test_the_page_asks_as_often_for_many_versions_and_deals_as_for_one(django_assert_max_num_queries):
    plan = a.pro()
    for n in range(6):
        a.new_version(plan, a.fee(50 + n), a.allowance(100))
        a.enable(a.customer(f"Customer {n}"), plan, a.fee(10 + n), a.allowance(200))
    client = staff()
    client.get(url(plan))

    with django_assert_max_num_queries(17):
        client.get(url(plan) + "?version=2&compare=3")


def test_two_versions_are_compared_in_sentences():
    plan = a.pro()
    a.new_version(plan, a.fee(60), a.allowance(100), a.switch())

    html = read(staff("Read-only"), url(plan) + "?version=2&compare=1")

    assert "Base fee: $50.00 / month → $60.00 / month" in html
    assert "desk-diff--added" in html and "Sso: added (on)" in html


def test_a_version_that_does_not_exist_shows_the_current_one():
    plan = a.pro()

    assert "$50.00 / month" in read(staff(), url(plan) + "?version=99&compare=x")


def test_custom_plans_are_listed_with_their_distance_since_when_and_why():
    """A-09"""
    plan = a.pro()
    a.enable(a.customer("Acme Robotics"), plan, a.fee(50), a.allowance(250), reason="Support case 412")
    a.new_version(plan, a.fee(60), a.allowance(100))

    html = read(staff("Read-only"), url(plan))

    assert "Acme Robotics" in html and "Support case 412" in html and "1 Mar 2026" in html
    assert "Credits: 100 → 250" in html and "Base fee: $60.00 / month → $50.00 / month" in html


def test_cadence_is_the_truth_and_the_old_word_stands_beside_it():
    """Y-15, Y-19"""
    plan = a.plan("pro", a.fee(50, cadence="P1Y"), cadence="P1Y")

    assert "P1Y" in read(staff(), url(plan)) and "(yearly)" in read(staff(), url(plan))


def test_a_legacy_plan_carries_its_warning():
    """Y-09"""
    plan = a.pro()
    Plan.objects.filter(pk=plan.pk).update(billing_version=0)

    assert "Billing version 0 is legacy" in read(staff(), url(plan))


# Editing


def test_editing_says_that_customers_stay_where_they_are():
    """L-22"""
    plan = a.pro()
    a.on(plan)

    html = read(staff(), url(plan, "edit"))

    assert "Editing makes version 2; the 1 customer on v1 stays on it." in html


def test_looking_at_the_editor_opens_no_draft():
    plan = a.pro()

    read(staff(), url(plan, "edit"))

    assert plan.versions.count() == 1


def test_a_saved_draft_changes_nothing_for_anybody():
    """L-22"""
    plan = a.pro()

    staff().post(url(plan, "edit"), typed(row(a.fee(50), amount="60"), a.allowance(), do="save"))

    plan.refresh_from_db()
    draft = plan.versions.get(state="draft")
    assert (draft.number, draft.items.get(key="base").amount) == (2, 60)
    assert plan.current_version.number == 1


def test_enter_in_a_cell_saves_the_draft_and_never_publishes():
    plan = a.pro()

    staff().post(url(plan, "edit"), typed(a.fee(60), a.allowance()))

    assert plan.versions.get(number=2).state == "draft"


def test_publishing_makes_the_next_version_and_leaves_customers_on_theirs():
    """L-22, Y-46"""
    plan = a.pro()
    who = a.on(plan)

    staff().post(url(plan, "edit"), typed(a.fee(60), a.allowance(), do="publish", message="dearer"))

    plan.refresh_from_db()
    assert (plan.current_version.number, plan.current_version.commit_message) == (2, "dearer")
    assert a.the_subscription(who).phase_at(MARCH_16).version.number == 1
    assert Operation.objects.filter(verb="plan.published", reason="dearer").count() == 1


def test_publishing_without_saying_what_changes_is_refused_and_keeps_what_was_typed():
    plan = a.pro()

    page = staff().post(url(plan, "edit"), typed(row(a.fee(50), amount="61"), a.allowance(), do="publish"))

    assert page.status_code == 422
    assert "Say in a few words what this version changes." in page.content.decode()
    assert 'value="61"' in page.content.decode()
    assert plan.versions.count() == 1


def test_an_invalid_item_is_shown_at_its_cell_and_nothing_is_saved():
    """A-14"""
    plan = a.pro()

    page = staff().post(url(plan, "edit"), typed(row(a.fee(50), amount="-1"), do="publish", message="x"))

    assert page.status_code == 422
    assert "A fee cannot be negative" in page.content.decode()
    assert plan.versions.count() == 1


def test_a_billed_draft_without_items_cannot_be_published():
    """Y-47"""
    plan = a.plan("empty", published=False)

    page = staff().post(url(plan, "publish"), {"message": "first"})

    assert "needs at least one item" in page.content.decode()


def test_a_draft_with_an_archived_feature_cannot_be_published():
    """Y-47"""
    plan = a.plan("pro", a.fee(50), a.switch(), published=False)
    feature = a.feature("sso")
    feature.archived_at = MARCH_1
    feature.save()

    page = staff().post(url(plan, "publish"), {"message": "first"})

    assert "archived" in page.content.decode()
    assert Plan.objects.get(pk=plan.pk).current_version is None


def test_a_name_is_changed_in_place_without_a_version():
    """L-23"""
    plan = a.pro()

    staff().post(url(plan, "details"), details(plan, name="Pro 2026", description="For teams"))

    plan.refresh_from_db()
    assert (plan.name, plan.description, plan.versions.count()) == ("Pro 2026", "For teams", 1)


def details(plan: Plan, **changed: str) -> dict[str, str]:
    names = ("name", "invoice_display_name", "description", "currency", "billing_version")
    return {name: str(getattr(plan, name)) for name in names} | changed


def test_the_currency_is_fixed_once_there_are_prices():
    """Y-05"""
    plan = a.pro()

    page = staff().post(url(plan, "details"), details(plan, currency="EUR"))

    assert "The currency is fixed" in page.content.decode()
    assert Plan.objects.get(pk=plan.pk).currency == "USD"


def test_the_currency_may_change_while_nothing_costs_anything():
    """Y-05"""
    plan = a.free()

    staff().post(url(plan, "details"), details(plan, currency="EUR"))

    assert Plan.objects.get(pk=plan.pk).currency == "EUR"


def test_the_currency_is_one_of_the_accounts():
    """Y-04"""
    plan = a.free()

    page = staff().post(url(plan, "details"), details(plan, currency="GBP"))

    assert "is not one of the available choices" in page.content.decode()


def test_the_billing_version_is_fixed_once_somebody_subscribed():
    """Y-14"""
    plan = a.free()
    a.on(plan)

    page = staff().post(url(plan, "details"), details(plan, billing_version="0"))

    assert "The billing version is fixed" in page.content.decode()


def test_an_empty_display_name_is_refused():
    """Y-03"""
    plan = a.pro()

    page = staff().post(url(plan, "details"), details(plan, invoice_display_name=""))

    assert "This field is required" in page.content.decode()


def test_a_mirrored_plan_keeps_its_name():
    """P-42"""
    plan = a.plan("mirror", a.fee(50), kind="stripe")

    staff().post(url(plan, "details"), details(plan, name="Ours", description="ours to say"))

    plan.refresh_from_db()
    assert (plan.name, plan.description) == ("Mirror", "ours to say")


# Versions


def test_an_older_version_can_be_made_current_again():
    """Y-46"""
    plan = a.pro()
    a.new_version(plan, a.fee(60), a.allowance())

    staff().post(f"/catalog/plan/{plan.pk}/versions/1/current/")

    plan.refresh_from_db()
    assert plan.current_version.number == 1


def test_the_current_version_cannot_be_archived():
    plan = a.pro()

    page = staff().post(f"/catalog/plan/{plan.pk}/versions/1/archive/", {"reason": "old"})

    assert "Make another version current first" in page.content.decode()


def test_archiving_an_older_version_asks_why():
    plan = a.pro()
    a.new_version(plan, a.fee(60), a.allowance())
    client = staff()

    refused = client.post(f"/catalog/plan/{plan.pk}/versions/1/archive/", {"reason": ""})
    client.post(f"/catalog/plan/{plan.pk}/versions/1/archive/", {"reason": "nobody wants it"})

    assert "This field is required" in refused.content.decode()
    assert plan.versions.get(number=1).state == "archived"
    assert Operation.objects.get(verb="version.archived").reason == "nobody wants it"


def test_duplicating_feature_access_makes_both_grids_equal():
    """P-41"""
    source = a.plan("source", a.fee(50), a.allowance(100, price="0.5"), a.switch(), a.static("60"))
    target = a.assigned("target", a.allowance(5, of="tokens"))

    staff().post(url(target, "duplicate"), {"source": source.pk})

    grid = {i.feature.slug: i.describe_allowance() for i in source.current_version.terms().items if i.feature}
    copied = target.versions.get(state="draft").terms()
    assert {i.feature.slug: i.describe_allowance() for i in copied.items if i.feature} == grid


# The default switch


def test_an_assigned_plan_shows_available_features_and_update():
    """P-11"""
    plan = a.assigned()

    html = read(staff(), url(plan, "edit"))

    assert "Available Features" in html and ">Update</button>" in html and "Fee<small>" not in html


def test_update_saves_and_publishes_the_default_at_once():
    """P-12"""
    plan = a.default()

    staff().post(url(plan, "edit"), typed(a.allowance(50), do="publish", message="more for everyone"))

    states = dict(PlanVersion.objects.filter(plan=plan).values_list("number", "state"))
    assert states == {1: "archived", 2: "published"}
    assert a.left(a.customer(since=MARCH_16), now=MARCH_16) == 50


def test_the_dialog_names_the_present_default_and_moves_the_flag_when_confirmed():
    """P-09, P-10"""
    present, plan = a.default(), a.assigned()
    client = staff()

    asked = read(client, url(plan, "default"))
    client.post(url(plan, "default"), {"instead_of": present.pk})

    assert "Community is the default now" in asked
    assert list(Plan.objects.default()) == [plan]


def test_an_unconfirmed_switch_names_the_present_default_and_moves_nothing():
    """P-10"""
    present, plan = a.default(), a.assigned()

    page = staff().post(url(plan, "default"))

    assert "Community is the default product now" in page.content.decode()
    assert list(Plan.objects.default()) == [present]


def test_a_default_that_changed_meanwhile_is_asked_about_again():
    """P-10"""
    shown = a.default()
    other, plan = a.assigned("other"), a.assigned("partner", of="partners-2")
    staff().post(url(other, "default"), {"instead_of": shown.pk})

    page = staff().post(url(plan, "default"), {"instead_of": shown.pk})

    assert "Other is the default product now" in page.content.decode()
    assert list(Plan.objects.default()) == [other]


def test_a_plan_with_assigned_customers_cannot_become_the_default():
    """P-13"""
    plan = a.assigned()
    a.enable(a.customer(), plan)

    page = staff().post(url(plan, "default"))

    assert "1 customer is assigned to Partner" in page.content.decode()
    assert not Plan.objects.default().exists()


def test_a_plan_with_two_live_versions_cannot_become_the_default():
    """P-13"""
    plan = a.assigned()
    a.new_version(plan, a.allowance(9))

    page = staff().post(url(plan, "default"))

    assert "more than one live version" in page.content.decode()


def test_a_billed_plan_has_no_default_switch():
    assert "desk-switch" not in read(staff(), url(a.pro()))


# Frozen, whoever writes


def test_the_admin_refuses_to_change_a_published_version():
    version = a.pro().current_version
    client = staff()
    address = f"/catalog/planversion/{version.pk}/change/"

    shown = read(client, address)
    refused = client.post(address, {"cadence": "P1Y", "items-TOTAL_FORMS": "0", "items-INITIAL_FORMS": "0"})

    assert 'name="_save"' not in shown
    assert refused.status_code == 403


def test_the_inline_offers_no_field_of_a_published_item():
    version = a.pro().current_version

    html = read(staff(), f"/catalog/planversion/{version.pk}/change/")

    assert 'name="items-0-amount"' not in html and 'name="items-0-included"' not in html


def test_not_even_an_update_query_reaches_a_published_item():
    version = a.pro().current_version

    with pytest.raises(DatabaseError, match="frozen"), transaction.atomic():
        PlanItem.objects.filter(version=version).update(amount=1)

    assert version.items.get(key="base").amount == 50


def test_a_plan_that_does_not_exist_is_not_found():
    assert staff().get("/catalog/plan/999/change/").status_code == 404
    assert staff().get("/catalog/plan/abc/change/").status_code == 404


def test_a_later_phase_counts_as_assigned():
    """P-13"""
    plan = a.assigned()
    a.enable(a.customer(), plan, now=APRIL_1)

    page = staff().post(url(plan, "default"))

    assert "assigned to Partner" in page.content.decode()


def test_nobody_writes_over_a_draft_they_have_not_seen():
    plan = a.pro()
    mine, theirs = staff(), staff()
    seen = form_of(plan).seen
    theirs.post(url(plan, "edit"), typed(a.fee(60), a.allowance(), **{"items-seen": seen}))

    refused = mine.post(url(plan, "edit"), typed(row(a.fee(50), amount="70"), a.allowance(), **{"items-seen": seen}))

    html = refused.content.decode()
    assert "Somebody else saved this draft meanwhile" in html and 'value="70"' in html
    assert plan.versions.get(state="draft").items.get(key="base").amount == 60
    assert form_of(plan).seen in html


def form_of(plan: Plan) -> ItemsForm:
    items, cadence = items_shown(plan)
    return ItemsForm(plan=plan, items=items, cadence=cadence)


def test_a_draft_that_is_gone_already_is_refused_in_a_sentence():
    plan = a.pro()

    page = staff().post(f"/catalog/plan/{plan.pk}/discard/")

    assert "Pro has no draft" in page.content.decode()
