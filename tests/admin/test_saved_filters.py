"""Lists as somebody narrowed them, under a name: saved, shown above the list, shared, renamed, deleted."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from billing_admin.models import SavedFilter
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk, Page
from tests.admin.enable_desk import person
from tests.instants import MARCH_1

pytestmark = pytest.mark.django_db
LIST = "/customers/customer/"


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client, role="Ops")


def save(desk: CustomerDesk, name: str = "Late", query: str = "state=past_due", at: str = LIST, **said: str) -> Page:
    url = f"/filters/save/?at={at}&query={query.replace('&', '%26').replace('=', '%3D')}"
    answer = desk.client.post(url, {"name": name, **said})
    return Page(answer)


@pytest.fixture(autouse=True)
def in_march(time_machine):
    time_machine.move_to(MARCH_1, tick=False)


def kept(user: User, name: str = "Late", *, shared: bool = False, query: str = "state=past_due") -> SavedFilter:
    return SavedFilter.objects.create(
        user=user,
        page="customers_customer_changelist",
        name=name,
        query=query,
        is_shared=shared,
        created_at=MARCH_1,
    )


def test_a_filter_is_saved_and_stands_above_its_list(desk):
    saved = save(desk, query="q=acme&state=past_due&before=77")

    html = desk.client.get(LIST).content.decode()

    assert saved.answer.headers["Location"] == f"{LIST}?q=acme&state=past_due"
    assert f'href="{LIST}?q=acme&amp;state=past_due"' in html and ">Late<" in html


def test_it_stands_above_no_other_list(desk):
    save(desk)

    assert ">Late<" not in desk.client.get("/invoicing/invoice/").content.decode()


def test_a_shared_filter_is_everybodys_to_use_and_its_owners_to_change(desk):
    other = kept(person("Finance"), "Theirs", shared=True)

    html = desk.client.get(LIST).content.decode()

    assert ">Theirs<" in html and f"/filters/{other.pk}/" not in html
    assert desk.client.post(f"/filters/{other.pk}/?at={LIST}", {"name": "Mine"}).status_code == 404
    assert desk.client.post(f"/filters/{other.pk}/delete/?at={LIST}").status_code == 404
    assert SavedFilter.objects.get().name == "Theirs"


def test_a_private_filter_is_shown_to_nobody_else(desk):
    kept(person("Finance"), "Theirs")

    assert ">Theirs<" not in desk.client.get(LIST).content.decode()


def test_a_name_is_given_once_for_each_list(desk):
    save(desk)

    again = save(desk, query="state=parked")

    assert again.errors == {"name": ["You have a filter “Late” for this list already."]}
    assert SavedFilter.objects.count() == 1


def test_a_list_that_is_narrowed_to_nothing_is_not_saved(desk):
    refused = save(desk, query="before=12&q=")

    assert refused.errors == {"__all__": ["The list is narrowed to nothing yet: filter it first."]}


def test_a_filter_is_renamed_shared_and_deleted(desk):
    own = kept(person("Ops"))

    desk.client.post(f"/filters/{own.pk}/?at={LIST}", {"name": "Very late", "is_shared": "on"})
    own.refresh_from_db()
    assert (own.name, own.is_shared) == ("Very late", True)

    desk.client.post(f"/filters/{own.pk}/delete/?at={LIST}")
    assert not SavedFilter.objects.exists()


def test_the_filter_that_is_on_is_marked(desk):
    kept(person("Ops"))

    html = desk.client.get(f"{LIST}?state=past_due").content.decode()

    assert 'aria-current="true"' in html


@pytest.mark.parametrize("at", ["https://evil.example/", "/nowhere/", ""])
def test_an_address_that_is_no_list_of_ours_is_refused(desk, at: str):
    assert save(desk, at=at).status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/customers/customer/",
        "/invoicing/invoice/",
        "/customers/operation/",
        "/entitlements/featureoverride/",
        "/customers/priceoverride/",
        "/catalog/plan/",
        "/catalog/coupon/",
    ],
)
def test_every_list_offers_to_save_what_it_is_narrowed_to(desk, path: str):
    page = desk.client.get(f"{path}?q=acme")

    assert page.status_code == 200
    assert f"/filters/save/?at={path.replace('/', '%2F')}&amp;query=q%3Dacme" in page.content.decode()


def test_filters_cost_a_list_one_query(desk, django_assert_max_num_queries):
    who = person("Ops")
    for number in range(5):
        kept(who, f"Filter {number}")
        kept(person("Finance"), f"Theirs {number}", shared=True)
    a.customer()
    desk.client.get(LIST)

    with django_assert_max_num_queries(9):
        html = desk.client.get(LIST).content.decode()

    assert html.count('class="lst-chip') >= 10
