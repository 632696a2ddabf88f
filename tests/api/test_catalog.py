"""Features, products, plans and versions over the API."""

import pytest

from catalog.models import Feature, Plan, PlanVersion
from customers.models import Operation
from tests.builders import allowance, assigned, customer, feature, fee, on, plan, pro, product, team
from tests.instants import MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db


@pytest.fixture
def sold(api):
    """A product and features to sell."""
    product("api")
    feature("credits")
    feature("tokens", unit="token")
    feature("sso", type="boolean")
    feature("rate-limit", type="static")
    feature("seats", usage="allocated")
    return api


FEE = {"type": "fee", "amount": "50.00"}


def create(api, **more):
    return api.post("plans", {"productId": "api", "name": "Pro", "prices": [FEE]} | more)


# Features and products


def test_a_feature_is_created_and_read(api):
    made = api.post("features", {"slug": "credits", "name": "Credits", "type": "metered", "unit": "credit"})

    assert (made.status, made["usage"]) == (201, "consumable")
    assert api.get("features/credits").body == made.body
    assert api.get("features")["data"] == [made.body]


def test_a_feature_may_be_reserved_for_a_product(api):
    product("api")

    made = api.post("features", {"slug": "gpu", "name": "GPU", "type": "boolean", "productId": "api"})

    assert made["productId"] == "api"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"slug": "No Spaces"}, "slug"),
        ({"type": "other"}, "type"),
        ({"productId": "nope"}, "productId"),
        ({"name": ""}, "name"),
    ],
)
def test_a_bad_feature_is_refused_at_its_field(api, body, field):
    answer = api.post("features", {"slug": "x", "name": "X", "type": "boolean"} | body)

    assert (answer.status, answer["field"], Feature.objects.count()) == (400, field, 0)


def test_a_slug_is_given_once(api):
    feature("credits")

    answer = api.post("features", {"slug": "credits", "name": "X", "type": "boolean"})

    assert (answer.status, answer["field"]) == (409, "slug")


def test_a_product_gets_a_key_from_its_name(api):
    """P-01"""
    made = api.post("products", {"name": "Data Platform"})

    assert (made.status, made["id"], made["plans"]) == (201, "data-platform", [])
    assert api.get("products/data-platform").body == made.body


def test_an_assigned_product_comes_with_its_plan(api):
    """P-01"""
    made = api.post("products", {"name": "Partner", "assigned": True})

    assert made["plans"] == ["partner"]
    assert Plan.objects.get().kind == "assigned"


def test_a_key_is_given_once(api):
    product("api")

    answer = api.post("products", {"name": "X", "key": "api"})

    assert (answer.status, answer["field"]) == (409, "key")


@pytest.mark.parametrize("path", ["features/nope", "products/nope", "plans/nope", "plans/nope/versions/1"])
def test_what_is_not_there_is_not_found(api, path):
    answer = api.get(path)

    assert (answer.status, answer["code"].endswith("_not_found")) == (404, True)


# Plans


def test_a_plan_is_created_and_sold_at_once(sold):
    made = create(
        sold,
        invoiceDisplayName="API Pro",
        currency="USD",
        billingCadence="P1M",
        billingVersion=1,
        prices=[
            {"type": "fee", "name": "Base fee", "amount": "50.00"},
            {"type": "usage", "featureSlug": "tokens", "included": 100000, "unitPrice": "0.002", "per": 1000},
        ],
        items=[
            {"type": "allowance", "featureSlug": "credits", "included": 100},
            {"type": "boolean", "featureSlug": "sso"},
            {"type": "static", "featureSlug": "rate-limit", "value": 100},
            {"type": "allowance", "featureSlug": "seats", "included": 5},
        ],
    )

    assert (made.status, made["key"], made["productId"], made["invoiceDisplayName"]) == (201, "pro", "api", "API Pro")
    version = made["currentVersion"]
    assert (version["number"], version["state"]) == (1, "published")
    shown = {item["key"]: item for item in version["items"]}
    assert shown["base-fee"]["amount"] == "50"
    assert (shown["tokens"]["unitPrice"], shown["tokens"]["per"], shown["tokens"]["limit"]) == ("0.002", 1000, "soft")
    assert (shown["credits"]["included"], shown["credits"]["resets"], shown["credits"]["limit"]) == (100, "P1M", "hard")
    assert (shown["rate-limit"]["value"], shown["seats"]["resets"]) == ("100", "never")
    assert PlanVersion.objects.get().items.get(key="tokens").price["rate"] == "0.000002"


def test_what_a_version_answers_can_be_sent_for_the_next(sold):
    """L-22"""
    items = create(
        sold,
        items=[
            {"featureSlug": "tokens", "included": "1.5", "unitPrice": "0.002", "per": 1000},
            {"featureSlug": "sso"},
            {"featureSlug": "rate-limit", "value": "gold"},
            {"featureSlug": "credits", "unlimited": True, "resetAnchor": "calendar"},
        ],
    )["currentVersion"]["items"]

    answer = sold.post("plans/pro/versions", {"items": items, "commitMessage": "the same"})

    assert (answer.status, answer["number"], answer["items"]) == (201, 2, items)


def test_a_plan_may_stay_a_draft(sold):
    made = create(sold, publish=False)

    assert (made.status, made["currentVersion"], made["versions"][0]["state"]) == (201, None, "draft")


def test_a_plan_takes_a_product(sold):
    """Y-01"""
    answer = sold.post("plans", {"name": "Pro"})

    assert (answer.status, answer["field"]) == (400, "productId")


def test_the_product_has_to_exist(sold):
    """Y-01"""
    answer = create(sold, productId="nope")

    assert (answer.status, answer["code"], answer["field"]) == (400, "product_not_found", "productId")


def test_only_the_display_name_stands_on_invoices(sold):
    """Y-02"""
    create(sold, name="Enterprise Q4", invoiceDisplayName="Enterprise")
    who = customer(customer_id="acme")

    changed = sold.post(f"customers/{who.customer_id}/plan-changes", {"planKey": "enterprise-q4"})

    [line] = sold.get(f"invoices/{changed['invoices'][0]['id']}")["lines"]
    assert line["description"] == "Enterprise"
    assert "Q4" not in str(line)


def test_the_display_name_is_the_name_when_left_out(sold):
    """Y-03"""
    assert create(sold)["invoiceDisplayName"] == "Pro"


def test_the_currency_has_to_be_one_of_the_accounts(sold):
    """Y-04"""
    answer = create(sold, currency="CHF")

    assert (answer.status, answer["code"], answer["field"]) == (400, "foreign_currency", "currency")


def test_a_currency_that_is_none_is_refused(sold):
    """Y-04"""
    assert create(sold, currency="XXQ").status == 400


def test_the_accounts_may_be_several(sold):
    """Y-04"""
    assert create(sold, currency="EUR")["currency"] == "EUR"


def test_the_currency_of_a_priced_plan_stays(sold):
    """Y-05"""
    create(sold)

    answer = sold.patch("plans/pro", {"currency": "EUR"})

    assert (answer.status, answer["field"]) == (409, "currency")


def test_the_currency_of_a_plan_without_prices_may_change(sold):
    """Y-05"""
    create(sold, prices=[], items=[{"featureSlug": "sso"}])

    assert sold.patch("plans/pro", {"currency": "EUR"})["currency"] == "EUR"


def test_a_feature_of_another_product_is_refused(sold):
    """Y-06"""
    Feature.objects.filter(slug="sso").update(product=product("other"))

    answer = create(sold, items=[{"featureSlug": "sso"}])

    assert (answer.status, answer["errors"][0]["code"]) == (400, "foreign_feature")


def test_a_feature_is_priced_once(sold):
    """Y-07"""
    usage = {"featureSlug": "tokens", "unitPrice": "1"}

    answer = create(sold, prices=[usage, usage])

    assert (answer.status, answer["errors"][0]["code"], answer["field"]) == (
        400,
        "feature_twice",
        "items.1.featureSlug",
    )


def test_the_billing_version_is_1_when_left_out(sold):
    """Y-08"""
    assert create(sold)["billingVersion"] == 1


@pytest.mark.parametrize("number", [2, -1, "x", 10**12])
def test_other_billing_versions_are_refused(sold, number):
    """Y-09"""
    answer = create(sold, billingVersion=number)

    assert (answer.status, answer["field"], Plan.objects.count()) == (400, "billingVersion", 0)


def test_billing_version_0_shows_a_warning(sold):
    """Y-09"""
    made = create(sold, billingVersion=0)

    assert made["billingVersion"] == 0
    assert "legacy" in made["warnings"][0]


def test_the_billing_version_of_a_plan_with_subscriptions_stays(api):
    """Y-14"""
    on(pro())

    answer = api.patch("plans/pro", {"billingVersion": 0})

    assert (answer.status, answer["field"]) == (409, "billingVersion")


@pytest.mark.parametrize(("cadence", "interval"), [("P1M", "monthly"), ("P3M", "quarterly"), ("P1Y", "yearly")])
def test_a_cadence_reads_as_an_interval(sold, cadence, interval):
    """Y-15 Y-19"""
    made = create(sold, billingCadence=cadence)

    assert (made["billingCadence"], made["billingInterval"]) == (cadence, interval)
    assert made["currentVersion"]["items"][0]["cadence"] == cadence


def test_an_interval_alone_becomes_a_cadence(sold):
    """Y-16"""
    assert create(sold, billingInterval="annual")["billingCadence"] == "P1Y"


def test_of_both_the_cadence_counts(sold):
    """Y-17"""
    assert create(sold, billingInterval="monthly", billingCadence="P1Y")["billingCadence"] == "P1Y"


@pytest.mark.parametrize("cadence", ["P1W", "P1M1D", "P0D", "monthly", "P2M", "P" * 20])
def test_other_cadences_are_refused_with_the_list(sold, cadence):
    """Y-18"""
    answer = create(sold, billingCadence=cadence)

    assert (answer.status, answer["field"]) == (400, "billingCadence")
    assert "P1M, P3M, P1Y" in answer["message"]


def test_a_fee_may_be_charged_once(sold):
    """Y-18"""
    made = create(sold, prices=[FEE, {"amount": 100, "cadence": "P0D", "name": "Setup"}])

    assert [i["cadence"] for i in made["currentVersion"]["items"]] == ["P1M", "P0D"]


def test_use_cannot_be_charged_once(sold):
    """Y-18"""
    answer = create(sold, prices=[{"featureSlug": "tokens", "unitPrice": "1", "cadence": "P0D"}])

    assert (answer.status, answer["field"]) == (400, "items.0.cadence")


@pytest.mark.parametrize("path", ["plans", "plans/pro", "plans/pro/versions/1"])
def test_every_answer_shows_the_deprecated_interval_beside_the_cadence(sold, path):
    """Y-19"""
    create(sold)

    text = str(sold.get(path).body)

    assert "'billingInterval': 'monthly'" in text
    assert "'billingCadence': 'P1M'" in text


def test_the_interval_is_marked_as_deprecated(client):
    """Y-19"""
    schemas = client.get("/api/v1/openapi.json").json()["components"]["schemas"]

    assert schemas["PlanOut"]["properties"]["billingInterval"]["deprecated"] is True
    assert schemas["PlanIn"]["properties"]["billingInterval"]["deprecated"] is True


def test_five_at_ten_are_one_line_of_fifty(sold):
    """Y-33"""
    create(sold, prices=[{"amount": "10", "quantity": 5}])
    customer(customer_id="acme")

    preview = sold.post("customers/acme/plan-changes/preview", {"planKey": "pro"})

    [line] = preview["now"]["lines"]
    assert (line["quantity"], line["rate"], line["amount"]["amount"]) == (5, "10", 5000)


def test_a_metered_price_has_no_quantity(sold):
    """Y-33"""
    answer = create(sold, prices=[{"featureSlug": "tokens", "unitPrice": "1", "quantity": 5}])

    assert (answer.status, answer["errors"][0]["code"], answer["field"]) == (
        400,
        "quantity_on_feature",
        "items.0.quantity",
    )


def test_an_item_that_is_neither_fee_nor_feature_is_refused(sold):
    """Y-34"""
    answer = create(sold, prices=[{"name": "Something"}])

    assert (answer.status, answer["errors"][0]["code"]) == (400, "item_without_content")


@pytest.mark.parametrize(
    ("item", "code"),
    [
        ({"type": "fee", "amount": 1, "featureSlug": "credits"}, "fee_on_feature"),
        ({"type": "allowance", "included": 5}, "feature_missing"),
        ({"type": "boolean", "featureSlug": "credits"}, "wrong_type"),
        ({"type": "usage", "featureSlug": "credits"}, "price_missing"),
        ({"featureSlug": "nope"}, "unknown_feature"),
        ({"amount": -1}, "negative_amount"),
        ({"featureSlug": "credits", "included": -1}, "negative_included"),
        ({"featureSlug": "credits", "included": 1, "unlimited": True}, "unlimited_and_number"),
        ({"featureSlug": "credits", "resets": "P2W"}, "unknown_cadence"),
        ({"featureSlug": "tokens", "unitPrice": "1", "per": 7}, "too_many_decimals"),
        ({"featureSlug": "rate-limit"}, "missing_value"),
    ],
)
def test_each_bad_item_is_named_with_its_cell(sold, item, code):
    """A-14"""
    answer = create(sold, prices=[FEE, item])

    assert (answer.status, answer["code"], answer["errors"][0]["code"]) == (400, "invalid_items", code)
    assert answer["field"].startswith("items.1.")
    assert not Plan.objects.exists()


def test_two_plans_of_a_product_have_rates_of_their_own(sold):
    """Y-35"""
    create(sold, name="Developer", prices=[{"featureSlug": "tokens", "unitPrice": "2"}])
    create(sold, name="Scale", prices=[{"featureSlug": "tokens", "unitPrice": "1"}])

    plans = sold.get("plans", productId="api")["data"]

    rates = {p["key"]: p["currentVersion"]["items"][0]["unitPrice"] for p in plans}
    assert rates == {"developer": "2", "scale": "1"}


def test_main_plans_of_a_product_that_is_held_are_not_addable(api):
    """Y-36"""
    who = on(pro())
    team()
    plan("boost", fee(5), add_on=True)
    plan("mail", fee(5), of="mail")

    path = f"customers/{who.customer_id}/plans"
    keys = [{p["key"] for p in api.get(path, addable=addable)["data"]} for addable in ("true", "false")]

    assert keys == [{"boost", "mail"}, {"boost", "mail", "pro", "team"}]


def test_a_plan_may_be_kept_for_one_customer(sold):
    """Y-37"""
    customer(customer_id="acme")
    customer(customer_id="globex")

    made = create(sold, name="Acme Corp - Annual 2024", reservedFor="acme")

    listed = [{p["key"] for p in sold.get(f"customers/{who}/plans")["data"]} for who in ("acme", "globex")]
    assert listed == [{made["key"]}, set()]
    refused = sold.post("customers/globex/plan-changes", {"planKey": made["key"]})
    assert (refused.status, refused["code"]) == (409, "plan_not_offered")
    assert sold.post("customers/acme/plan-changes", {"planKey": made["key"]}).status == 201


def test_a_billed_plan_without_items_is_not_published(sold):
    """Y-47"""
    answer = create(sold, prices=[])

    assert (answer.status, answer["code"], Plan.objects.count()) == (400, "cannot_publish", 0)


def test_an_archived_feature_is_not_published(sold):
    """Y-47"""
    Feature.objects.filter(slug="credits").update(archived_at=MARCH_1)

    answer = create(sold, items=[{"featureSlug": "credits", "included": 5}])

    assert (answer.status, answer["errors"][0]["code"]) == (400, "archived_feature")


# Versions


def test_a_new_version_serves_new_subscriptions_and_leaves_the_others(api):
    """L-22"""
    who = on(pro(50, credits=100))

    answer = api.at(MARCH_16).post(
        "plans/pro/versions",
        {"commitMessage": "More credits", "items": [FEE, {"featureSlug": "credits", "included": 200}]},
    )

    assert (answer.status, answer["number"], answer["commitMessage"]) == (201, 2, "More credits")
    assert api.get("plans/pro")["currentVersion"]["number"] == 2
    assert api.get(f"customers/{who.customer_id}")["subscriptions"][0]["plan"]["version"] == 1


def test_a_new_version_says_what_it_changes(api):
    """L-22"""
    pro()

    answer = api.post("plans/pro/versions", {"items": [FEE]})

    assert (answer.status, answer["field"]) == (400, "commitMessage")


def test_lines_keep_their_keys_from_version_to_version(api):
    """L-22"""
    plan("pro", fee(50, key="platform"), allowance(100))

    answer = api.post(
        "plans/pro/versions", {"commitMessage": "x", "items": [FEE, {"featureSlug": "credits", "included": 200}]}
    )

    assert [i["key"] for i in answer["items"]] == ["platform", "credits"]


def test_names_change_in_place_without_a_version(api):
    """L-23"""
    pro()

    answer = api.patch("plans/pro", {"name": "Professional", "description": "For teams"})

    assert (answer["name"], answer["description"], answer["invoiceDisplayName"]) == ("Professional", "For teams", "Pro")
    assert [v["number"] for v in answer["versions"]] == [1]


def test_a_mirrored_plan_keeps_its_name(api):
    """P-42"""
    plan("mirrored", allowance(5), kind=Plan.Kind.STRIPE)

    assert api.patch("plans/mirrored", {"name": "Other"}).status == 409


def test_an_assigned_plan_takes_no_fee(sold):
    """P-44"""
    answer = create(sold, kind="assigned")

    assert (answer.status, answer["errors"][0]["code"]) == (400, "price_on_assigned_plan")


def test_archived_plans_show_when_asked_for(api):
    pro()
    Plan.objects.update(archived_at=MARCH_1)

    assert [len(api.get("plans", archived=a)["data"]) for a in ("false", "true")] == [0, 1]


def test_what_was_made_stands_in_the_journal(sold):
    create(sold)

    assert set(Operation.objects.values_list("verb", "actor")) == {
        ("plan.created", "api:backend"),
        ("plan.published", "api:backend"),
    }


def test_plans_are_listed_in_few_queries(api, django_assert_max_num_queries):
    for number in range(10):
        assigned(f"partner-{number}", of=f"p{number}")
    api.get("plans")

    with django_assert_max_num_queries(6):
        api.get("plans")


def test_what_rolls_over_is_said_and_answered(sold):
    rule = {"lasts": "P1M", "most": 50, "percent": 25}
    item = {"featureSlug": "credits", "included": 100, "resets": "P1M", "rollover": rule, "keepsOverage": True}

    [item] = create(sold, prices=[item])["currentVersion"]["items"]

    assert (item["rollover"], item["keepsOverage"]) == ({"lasts": "P1M", "most": 50, "percent": 25}, True)
    again = sold.post("plans/pro/versions", {"items": [item], "commitMessage": "the same"})
    assert (again.status, again["items"]) == (201, [item])


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"rollover": {"lasts": "P5D"}}, "items.0.rollover.lasts"),
        ({"rollover": {"most": 0}}, "items.0.rollover.most"),
        ({"rollover": {"percent": 5000}}, "items.0.rollover.percent"),
        ({"rollover": {}, "resets": "never"}, "items.0.resets"),
        ({"keepsOverage": True, "unitPrice": 1}, "items.0.keepsOverage"),
    ],
)
def test_a_rollover_that_cannot_be_is_refused_at_its_cell(sold, more, field):
    refused = create(sold, prices=[{"featureSlug": "credits", "included": 100, "resets": "P1M"} | more])

    assert (refused.status, [error["field"] for error in refused["errors"]]) == (400, [field])
