"""Lists, features and products in the admin."""

import pytest
from django.test import Client

from catalog.models import Feature, Plan, Product
from customers.models import Operation
from tests import builders as a
from tests.admin.catalog_desk import staff
from tests.instants import MARCH_1

pytestmark = pytest.mark.django_db


def read(client: Client, address: str) -> str:
    page = client.get(address)
    assert page.status_code == 200
    return " ".join(page.content.decode().split())


# Features


def test_archived_features_are_hidden_until_asked_for():
    a.feature("credits")
    Feature.objects.create(slug="old", name="Old thing", type="boolean", archived_at=MARCH_1)
    client = staff("Read-only")

    assert "Old thing" not in read(client, "/catalog/feature/")
    assert "Old thing" in read(client, "/catalog/feature/?archived=yes")


def test_features_are_found_by_name_and_filtered_by_type():
    a.feature("credits")
    a.feature("sso", type="boolean")
    client = staff("Read-only")

    assert "Sso" not in read(client, "/catalog/feature/?q=cred")
    assert "Credits" not in read(client, "/catalog/feature/?type__exact=boolean")


def test_lists_ask_as_often_for_many_rows_as_for_few(django_assert_max_num_queries):
    for n in range(20):
        a.plan(f"plan-{n}", a.fee(n), a.allowance(n, of=f"feature-{n}"), of=f"product-{n}")
    client = staff()

    for address in ("/catalog/feature/", "/catalog/product/", "/catalog/plan/"):
        client.get(address)
        with django_assert_max_num_queries(9):
            client.get(address)


def new_feature(**changed: str) -> dict[str, str]:
    return {"name": "API calls", "slug": "", "type": "metered", "usage": "consumable", "unit": "call"} | changed


def test_a_feature_gets_its_slug_from_its_name():
    staff().post("/catalog/feature/add/", new_feature())

    assert Feature.objects.get().slug == "api-calls"
    assert Operation.objects.get(verb="feature.created").inputs["slug"] == "api-calls"


def test_a_slug_that_is_taken_is_refused_at_its_field():
    a.feature("api-calls")

    page = staff().post("/catalog/feature/add/", new_feature(slug="api-calls"))

    assert "already exists" in page.content.decode()


def test_a_slug_that_code_could_not_ask_for_is_refused():
    page = staff().post("/catalog/feature/add/", new_feature(slug="API Calls!"))

    assert "Use lower-case letters" in page.content.decode()


def test_only_metered_features_are_allocated():
    staff().post("/catalog/feature/add/", new_feature(type="boolean", usage="allocated"))

    assert Feature.objects.get().usage == "consumable"


def test_slug_and_type_are_fixed_once_a_plan_uses_the_feature():
    a.pro()
    feature = a.feature("credits")

    staff().post(f"/catalog/feature/{feature.pk}/change/", new_feature(name="Tokens", slug="tokens", type="boolean"))

    feature.refresh_from_db()
    assert (feature.name, feature.slug, feature.type) == ("Tokens", "credits", "metered")


def test_a_used_feature_is_archived_and_restored_but_never_deleted():
    a.pro()
    feature = a.feature("credits")
    client = staff()

    refused = client.post(f"/catalog/feature/{feature.pk}/remove/")
    client.post(f"/catalog/feature/{feature.pk}/archive/")
    archived = Feature.objects.offered().count() == 0
    client.post(f"/catalog/feature/{feature.pk}/restore/")

    assert "Archive it instead" in refused.content.decode()
    assert archived and Feature.objects.offered().count() == 1


def test_a_feature_that_no_plan_uses_can_be_deleted():
    feature = a.feature("typo")

    staff().post(f"/catalog/feature/{feature.pk}/remove/")

    assert not Feature.objects.exists()


# Products


def test_a_product_needs_only_a_name_and_opens_its_draft():
    """P-01"""
    page = staff().post("/catalog/product/add/", {"name": "Vision API"}, follow=True)

    plan = Plan.objects.get()
    assert (plan.product.key, plan.kind, plan.versions.get().state) == ("vision-api", "assigned", "draft")
    assert page.redirect_chain == [(f"/catalog/plan/{plan.pk}/edit/", 302)]
    assert "Available Features" in page.content.decode()


def test_the_button_that_makes_a_product_says_create():
    """P-01"""
    assert ">Create</button>" in read(staff(), "/catalog/product/add/")


def test_two_products_of_one_name_get_keys_of_their_own():
    """P-01"""
    client = staff()

    client.post("/catalog/product/add/", {"name": "Vision"})
    client.post("/catalog/product/add/", {"name": "Vision"})

    assert set(Product.objects.values_list("key", flat=True)) == {"vision", "vision-2"}


def test_a_product_without_a_name_is_refused():
    page = staff().post("/catalog/product/add/", {"name": "   "})

    assert "This field is required" in page.content.decode()
    assert not Product.objects.exists()


def test_in_a_dialog_success_sends_the_browser_on_and_refusals_stay():
    client = staff()

    refused = client.post("/catalog/product/add/", {"name": ""}, headers={"HX-Request": "true"})
    done = client.post("/catalog/product/add/", {"name": "Vision"}, headers={"HX-Request": "true"})

    assert "This field is required" in refused.content.decode() and "<html" not in refused.content.decode()
    assert done.headers["HX-Redirect"] == f"/catalog/plan/{Plan.objects.get().pk}/edit/"


def new_plan(**changed: str) -> dict[str, str]:
    return {
        "product": str(a.product().pk),
        "name": "Enterprise Q4",
        "invoice_display_name": "Enterprise",
        "kind": "billed",
        "currency": "USD",
        "cadence": "P1M",
        "billing_version": "1",
    } | changed


def test_a_plan_keeps_its_internal_and_its_display_name():
    """Y-02"""
    staff().post("/catalog/plan/add/", new_plan())

    plan = Plan.objects.get()
    assert (plan.name, plan.invoice_display_name) == ("Enterprise Q4", "Enterprise")


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("product", "", "Y-01"),
        ("invoice_display_name", "", "Y-03"),
        ("currency", "GBP", "Y-04"),
        ("billing_version", "2", "Y-09"),
        ("cadence", "P1W", "Y-18"),
        ("cadence", "P1M1D", "Y-18"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(field: str, value: str, rule: str):
    staff().post("/catalog/plan/add/", new_plan(**{field: value}))

    assert not Plan.objects.exists(), rule


def test_the_form_warns_of_the_legacy_billing_version():
    """Y-08, Y-09"""
    html = read(staff(), "/catalog/plan/add/")

    assert "0: legacy" in html and '<option value="1" selected>' in html


def test_a_products_page_offers_each_plan_and_cadence_beside_the_others():
    """Y-35, Y-59"""
    a.plan("developer", a.fee(10))
    a.plan("scale", a.fee(100))
    a.plan("scale-yearly", a.fee(1000, cadence="P1Y"), cadence="P1Y")
    a.plan("extra", a.fee(5), add_on=True)

    html = read(staff("Read-only"), f"/catalog/product/{a.product().pk}/change/")

    assert all(text in html for text in ("Developer", "$10.00 / month", "$1,000.00 / year", "P1Y", "Add-ons", "Extra"))


def test_the_product_page_asks_as_often_for_many_plans_as_for_one(django_assert_max_num_queries):
    for n in range(8):
        a.on(a.plan(f"plan-{n}", a.fee(n + 1), a.allowance(10)), name=f"Customer {n}")
    client, address = staff(), f"/catalog/product/{a.product().pk}/change/"
    client.get(address)

    with django_assert_max_num_queries(13):
        client.get(address)


# The palette


def test_the_palette_finds_plans_and_says_so_without_a_cache():
    a.pro()
    client = staff("Read-only")

    assert "Plan of API" in read(client, "/search/?extended=1&s=pro")
    Plan.objects.update(name="Renamed")
    assert "Renamed" not in read(client, "/search/?extended=1&s=xyz")


def test_an_empty_list_says_what_to_do_next():
    client = staff()

    assert "No products yet" in read(client, "/catalog/product/")
    assert "No products match “zzz”" in read(client, "/catalog/product/?q=zzz")
