"""Who may do what: the table of roles, and that the server keeps it for pages, dialogs and previews."""

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from structlog.testing import capture_logs

from billing_admin.roles import OURS, ROLES, matches
from tests import builders as a
from tests.admin.catalog_desk import staff, typed

pytestmark = pytest.mark.django_db


def permissions_of(role: str) -> set[str]:
    held = Group.objects.get(name=role).permissions.select_related("content_type")
    return {f"{p.content_type.app_label}.{p.codename}" for p in held}


def test_the_migration_makes_each_role():
    assert set(ROLES) <= set(Group.objects.values_list("name", flat=True))


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_every_permission_of_its_row_and_no_other(role: str):
    """A model that came later needs a migration that calls `billing_admin.roles.grant` again."""
    rows = Permission.objects.select_related("content_type")
    known = {f"{p.content_type.app_label}.{p.codename}" for p in rows}

    assert permissions_of(role) == {code for code in known if any(matches(code, w) for w in ROLES[role])}


def test_every_permission_that_the_table_names_exists():
    named = {code for wanted in ROLES.values() for code in wanted if "*" not in code}

    missing = [
        code
        for code in named
        if not Permission.objects.filter(
            content_type__app_label=code.split(".")[0], codename=code.split(".")[1]
        ).exists()
    ]

    assert missing == []


def test_read_only_sees_every_model_of_ours_and_changes_none():
    held = permissions_of("Read-only")
    models = {
        f"{m._meta.app_label}.view_{m._meta.model_name}"
        for label in OURS
        for m in apps.get_app_config(label).get_models()
    }

    assert held >= {code for code in models if Permission.objects.filter(codename=code.split(".")[1]).exists()}
    assert not [code for code in held if ".view_" not in code]


def test_money_is_finances_and_deals_are_sales():
    assert {"invoicing.pay_invoice", "invoicing.void_invoice"} <= permissions_of("Finance")
    assert not {"invoicing.pay_invoice", "customers.enable_plan"} & permissions_of("Ops")
    assert "customers.enable_plan" in permissions_of("Sales engineer")
    assert "customers.enable_plan" not in permissions_of("Finance")


def test_wallets_are_finances():
    """A-53"""
    holders = {role for role in ROLES if "invoicing.top_up_wallet" in permissions_of(role)}

    assert holders == {"Finance", "Admin"}


def test_only_admins_reach_the_catalog_and_people():
    for role in set(ROLES) - {"Admin"}:
        assert not {"catalog.change_plan", "auth.change_user"} & permissions_of(role)
    assert {"catalog.change_plan", "auth.change_user", "billing_admin.add_apikey"} <= permissions_of("Admin")


ACTS = ["edit", "details", "publish", "discard", "duplicate", "default", "not-default", "archive", "restore"]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("role", ["Read-only", "Ops", "Sales engineer", "Finance"])
def test_neither_page_nor_post_of_an_act_works_without_the_permission(role: str, act: str):
    """A-53"""
    plan = a.assigned()
    client = staff(role)
    address = f"/catalog/plan/{plan.pk}/{act}/"

    codes = {client.get(address).status_code, client.post(address, typed(do="publish", reason="x")).status_code}
    codes.add(client.get(address, headers={"HX-Request": "true"}).status_code)

    assert codes == {403}


def test_buttons_of_acts_are_not_shown_to_those_who_may_not():
    """A-53"""
    plan = a.assigned()
    html = staff("Read-only").get(f"/catalog/plan/{plan.pk}/change/").content.decode()

    assert f"/catalog/plan/{plan.pk}/edit/" not in html
    assert f"/catalog/plan/{plan.pk}/default/" not in html


@pytest.mark.parametrize("address", ["/catalog/product/add/", "/catalog/plan/add/", "/catalog/feature/add/"])
def test_creating_in_the_catalog_is_for_admins(address: str):
    """A-53"""
    assert staff("Sales engineer").get(address).status_code == 403
    assert staff("Admin").get(address).status_code == 200


def test_a_feature_can_be_looked_at_but_not_changed_by_readers():
    """A-53"""
    feature = a.feature("credits")
    client = staff("Read-only")

    assert client.get(f"/catalog/feature/{feature.pk}/change/").status_code == 200
    assert client.post(f"/catalog/feature/{feature.pk}/change/", {"name": "Mine"}).status_code == 403


def test_a_refusal_is_logged_once_with_who_and_where_and_answered_kindly():
    """A-53"""
    plan = a.assigned()
    client = staff("Read-only")

    with capture_logs() as logs:
        page = client.post(f"/catalog/plan/{plan.pk}/publish/", {"message": "mine"})

    refusals = [line for line in logs if line["event"] == "permission refused"]
    assert [(line["path"], line["permission"]) for line in refusals] == [
        (f"/catalog/plan/{plan.pk}/publish/", "catalog.change_plan")
    ]
    assert refusals[0]["user"].startswith("staff-")
    assert "You may not do this" in page.content.decode()


def test_what_djangos_own_pages_refuse_is_logged_too():
    """A-53"""
    version = a.pro().current_version

    with capture_logs() as logs:
        staff("Read-only").post(f"/catalog/planversion/{version.pk}/change/", {})

    assert [line["path"] for line in logs if line["event"] == "permission refused"] == [
        f"/catalog/planversion/{version.pk}/change/"
    ]


def test_a_visitor_is_asked_to_sign_in(client):
    plan = a.pro()

    page = client.get(f"/catalog/plan/{plan.pk}/change/")

    assert (page.status_code, page.headers["Location"].split("?")[0]) == (302, "/login/")


def test_an_admin_cannot_make_superusers_or_take_one_over():
    boss = User.objects.create_superuser("boss")
    colleague = User.objects.create_user("colleague", is_staff=True)
    client = staff("Admin")

    form = client.get(f"/auth/user/{colleague.pk}/change/").content.decode()
    password = client.get(f"/auth/user/{boss.pk}/password/")
    taken_over = client.post(f"/auth/user/{boss.pk}/change/", {"username": "mine"})

    assert 'name="is_superuser"' not in form and 'name="groups"' in form
    assert (password.status_code, taken_over.status_code) == (403, 403)


def test_people_and_roles_are_listed_in_few_queries(django_assert_max_num_queries):
    client = staff("Admin")
    for _ in range(10):
        staff("Ops")

    with django_assert_max_num_queries(12):
        page = client.get("/auth/user/")

    assert b"Ops" in page.content


def test_nobody_but_admins_sees_people():
    """A-53"""
    assert {role: staff(role).get("/auth/user/").status_code for role in ROLES} == {
        role: 200 if role == "Admin" else 403 for role in ROLES
    }


def test_the_key_of_an_application_asks_counts_and_signs_up_but_changes_nothing():
    held = permissions_of("Application")

    acts = {code for code in held if ".view_" not in code}
    assert acts == {"entitlements.add_usageevent", "customers.add_customer"}


def test_concessions_end_by_themselves_and_only_sales_gives_what_stays():
    """L-47"""
    gives = {role for role in ROLES if "entitlements.give_concession" in permissions_of(role)}
    gives_for_good = {role for role in ROLES if "entitlements.add_featureoverride" in permissions_of(role)}
    gives_to_many = {role for role in ROLES if "entitlements.bulk_override" in permissions_of(role)}

    assert gives == {"Ops", "Sales engineer", "Admin"}
    assert gives_for_good == gives_to_many == {"Sales engineer", "Admin"}
