"""API keys in the desk."""

import re

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse

from billing_admin.models import ApiKey, digest
from customers.models import Operation
from tests.admin.catalog_desk import staff

pytestmark = pytest.mark.django_db

LIST = "admin:billing_admin_apikey_changelist"
ADD = "admin:billing_admin_apikey_add"


def created(desk, **headers):
    role = Group.objects.get(name="Ops")
    return desk.post(reverse(ADD), {"name": "Backend", "role": role.pk}, headers=headers)


def test_a_new_key_shows_its_secret_once():
    desk = staff()

    page = created(desk)

    key = ApiKey.objects.get()
    [secret] = set(re.findall(r"bk_[\w-]{43}", page.content.decode()))
    assert key.digest == digest(secret)
    assert "no-store" in page["Cache-Control"]
    later = (
        desk.get(reverse(LIST)).content + desk.get(reverse("admin:billing_admin_apikey_change", args=[key.pk])).content
    )
    assert secret not in later.decode()


def test_a_dialog_shows_the_secret_in_place():
    page = created(staff(), HX_Request="true")

    assert "bk_" in page.content.decode()
    assert "<html" not in page.content.decode()


def test_the_journal_names_the_key_and_not_its_secret():
    secret = re.search(r"bk_[\w-]{43}", created(staff()).content.decode()).group()

    assert Operation.objects.get().verb == "api_key.issued"
    assert secret not in str(Operation.objects.values())


def test_a_key_without_a_name_is_refused_at_its_field():
    page = staff().post(reverse(ADD), {"name": " ", "role": Group.objects.get(name="Ops").pk})

    assert page.context["form"].errors["name"]
    assert not ApiKey.objects.exists()


def test_a_key_can_be_revoked():
    desk = staff()
    created(desk)
    key = ApiKey.objects.get()

    desk.post(reverse("admin:billing_admin_apikey_revoke", args=[key.pk]), {"reason": "leaked"})

    key.refresh_from_db()
    assert key.revoked_at is not None
    assert Operation.objects.newest().first().reason == "leaked"
    assert "Revoked" in desk.get(reverse(LIST)).content.decode()


def test_a_revoked_key_cannot_be_revoked_again():
    desk = staff()
    created(desk)
    address = reverse("admin:billing_admin_apikey_revoke", args=[ApiKey.objects.get().pk])
    desk.post(address)

    assert "revoked already" in desk.post(address).content.decode()


@pytest.mark.parametrize("role", ["Ops", "Sales engineer", "Finance", "Read-only"])
def test_keys_are_for_admins_alone(role):
    """A-53"""
    key, _ = ApiKey.issue("Backend", Group.objects.get(name="Ops"), by="tests")
    desk = staff(role)
    addresses = [
        reverse(LIST),
        reverse(ADD),
        reverse("admin:billing_admin_apikey_change", args=[key.pk]),
        reverse("admin:billing_admin_apikey_revoke", args=[key.pk]),
    ]

    assert [desk.get(address).status_code for address in addresses] == [403] * 4
    assert [desk.post(address).status_code for address in addresses] == [403] * 4
    assert "API keys" not in desk.get("/").content.decode()


def test_the_list_reads_no_query_per_row(django_assert_max_num_queries):
    desk = staff()
    for number in range(20):
        ApiKey.issue(f"Key {number}", Group.objects.get(name="Ops"), by="tests")
    desk.get(reverse(LIST))

    with django_assert_max_num_queries(8):
        desk.get(reverse(LIST))
