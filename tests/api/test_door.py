"""Keys, permissions, limits, repeated calls, and the one shape of every refusal."""

from datetime import timedelta

import pytest
import structlog
from django.contrib.auth.models import Group, Permission
from django.contrib.staticfiles import finders

from billing_admin.api import customers
from billing_admin.models import ApiKey, IdempotentAnswer
from customers.models import Customer, Operation
from tests.api.conftest import Caller, caller_with
from tests.builders import customer, pro
from tests.instants import MARCH_1

pytestmark = pytest.mark.django_db

ACME = {"customerId": "acme", "name": "Acme"}


@pytest.mark.parametrize("secret", ["", "bk_unknown", "nonsense with spaces"])
def test_without_a_known_key_nothing_is_answered(secret):
    """A-53"""
    answer = Caller(secret).get("customers")

    assert (answer.status, answer["code"]) == (401, "unauthorized")


def test_a_revoked_key_opens_nothing(api):
    """A-53"""
    ApiKey.objects.update(revoked_at=MARCH_1)

    assert api.get("customers").status == 401


def test_the_key_is_kept_as_a_digest_only(api):
    assert api.secret not in str(ApiKey.objects.values())


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "customers", ACME),
        ("PATCH", "customers/acme", {"name": "Other"}),
        ("DELETE", "customers/acme", {"confirmName": "Acme", "reason": "x"}),
        ("POST", "customers/acme/balances", {"featureSlug": "credits", "balance": 1, "reason": "x"}),
        ("POST", "track", {"customerId": "acme", "featureSlug": "credits"}),
        ("POST", "plans", {"productId": "api", "name": "Pro"}),
        ("POST", "plans/pro/versions", {}),
        ("PATCH", "plans/pro", {"name": "x"}),
        ("POST", "features", {"slug": "x", "name": "x", "type": "boolean"}),
        ("POST", "products", {"name": "x"}),
        ("POST", "customers/acme/plan-changes/preview", {"planKey": "pro"}),
        ("POST", "customers/acme/plan-changes", {"planKey": "pro"}),
        ("POST", "subscriptions/sub_1/cancel/preview", {}),
        ("POST", "subscriptions/sub_1/cancel", {"reason": "x"}),
        ("DELETE", "subscriptions/sub_1/scheduled-change", None),
        ("POST", "invoices/in_1/payments", {"amount": 1, "reference": "x"}),
    ],
)
def test_a_key_that_may_only_read_writes_nothing(method, path, body):
    """A-53"""
    pro()
    customer(customer_id="acme")

    answer = caller_with("Read-only").call(method, path, body)

    assert (answer.status, answer["code"]) == (403, "forbidden")
    assert not Operation.objects.exists()


def test_a_key_that_may_only_read_reads():
    """A-53"""
    assert caller_with("Read-only").get("customers").status == 200


def test_a_refused_attempt_is_logged():
    """A-53"""
    caller = caller_with("Read-only", called="reporting")

    with structlog.testing.capture_logs() as logs:
        caller.post("customers", ACME)

    [line] = [line for line in logs if line["event"] == "permission refused"]
    assert (line["name"], line["permission"]) == ("api:reporting", "customers.add_customer")


def test_assigning_products_takes_its_own_permission():
    """A-53"""
    answer = caller_with("Finance").patch("customers/acme", {"customProductKeys": []})

    assert answer.status == 403


def test_auto_create_takes_the_permission_to_create():
    """A-53"""
    group = Group.objects.create(name="Meter")
    group.permissions.set(Permission.objects.filter(codename__in=["add_usageevent", "view_balance"]))

    answer = caller_with("Meter").post("check", {"customerId": "acme", "featureSlug": "credits", "autoCreate": True})

    assert (answer.status, Customer.objects.exists()) == (403, False)


def test_the_journal_names_the_key(api):
    api.post("customers", ACME)

    assert Operation.objects.get().actor == "api:backend"


# Refusals


def test_an_unknown_address_is_refused_in_the_same_shape(api):
    answer = api.get("nope/really")

    assert (answer.status, answer.body) == (404, {"code": "not_found", "message": "There is nothing at this address."})


def test_a_trailing_slash_is_another_address(api):
    assert api.get("customers/").status == 404


def test_a_wrong_method_is_refused_in_the_same_shape(api):
    answer = api.call("PUT", "customers", {})

    assert (answer.status, answer["code"]) == (405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize("body", [b"{", b"", b"nonsense", b'{"name": NaN}', b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_json_is_refused(api, body):
    answer = api.post("customers", body)

    assert (answer.status, set(answer.body) >= {"code", "message"}) == (400, True)


def test_a_missing_field_is_named(api):
    answer = api.post("customers", {"name": "Acme"})

    assert answer.status == 400
    assert answer.body == {"code": "missing_field", "message": "customerId is required.", "field": "customerId"}


def test_an_unknown_field_is_named(api):
    answer = api.post("customers", {**ACME, "emial": "x"})

    assert (answer.status, answer["code"], answer["field"]) == (400, "unknown_field", "emial")


def test_a_field_deep_in_a_list_is_named(api):
    answer = api.post("plans", {"productId": "api", "name": "Pro", "prices": [{"amount": "many"}]})

    assert (answer.status, answer["field"]) == (400, "prices.0.amount")


@pytest.mark.parametrize("text", ["a\u0000b", "\ud800"])
def test_texts_that_no_database_keeps_are_refused(api, text):
    assert api.post("customers", {"customerId": "acme", "name": text}).status == 400


@pytest.mark.parametrize(("path", "query"), [("customers/a%00b", {}), ("customers", {"search": "a\u0000b"})])
def test_nor_are_they_taken_from_an_address(api, path, query):
    assert api.get(path, **query).status in (400, 404)


def test_names_may_be_written_in_snake_case(api):
    answer = api.post("customers", {"customer_id": "acme", "name": "Acme", "usage_started_at": "2026-01-10T00:00:00Z"})

    assert (answer.status, answer["usageStartedAt"]) == (201, "2026-01-10T00:00:00Z")


def test_something_broken_shows_no_traceback(api, monkeypatch):
    monkeypatch.setattr(customers, "page_of", lambda *_: 1 / 0)

    answer = api.get("customers")

    assert (answer.status, answer["code"]) == (500, "internal_error")
    assert "division" not in str(answer.body)


# How often


def test_every_answer_says_how_many_calls_are_left(api, settings):
    settings.API_RATE_LIMIT = 10

    answer = api.at(MARCH_1 + timedelta(seconds=15)).get("customers")

    limits = {name: answer.headers[f"RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset")}
    assert limits == {"Limit": "10", "Remaining": "9", "Reset": "45"}


def test_beyond_the_limit_a_key_has_to_wait(api, settings):
    settings.API_RATE_LIMIT = 2
    api.get("customers")
    api.get("customers")

    answer = api.get("customers")

    assert (answer.status, answer["code"], answer.headers["Retry-After"]) == (429, "rate_limited", "60")


def test_the_next_minute_counts_anew(api, settings):
    settings.API_RATE_LIMIT = 1
    api.get("customers")

    assert api.at(MARCH_1 + timedelta(minutes=1)).get("customers").status == 200


def test_another_key_has_a_count_of_its_own(api, settings):
    settings.API_RATE_LIMIT = 1
    api.get("customers")

    assert caller_with().get("customers").status == 200


def test_a_cache_that_is_away_holds_nobody_up(api, settings):
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": "unix:///nowhere/valkey.sock"}}

    assert api.get("customers").status == 200


# Once only


def test_a_repeated_write_gets_its_first_answer_again(api):
    first = api.post("customers", ACME, Idempotency_Key="k1")

    again = api.post("customers", ACME, Idempotency_Key="k1")

    assert (again.status, again.body) == (first.status, first.body) == (201, first.body)
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_repeated_write_acts_once(api):
    api.post("products", {"name": "API"}, Idempotency_Key="k1")
    api.post("products", {"name": "API"}, Idempotency_Key="k1")

    assert len(api.get("products")["data"]) == 1


def test_the_same_body_spaced_otherwise_is_the_same_call(api):
    api.post("customers", b'{"customerId": "acme", "name": "Acme"}', Idempotency_Key="k1")

    assert api.post("customers", b'{"name":"Acme","customerId":"acme"}', Idempotency_Key="k1").status == 201


def test_the_same_key_with_another_body_is_a_conflict(api):
    api.post("customers", ACME, Idempotency_Key="k1")

    answer = api.post("customers", {**ACME, "name": "Other"}, Idempotency_Key="k1")

    assert (answer.status, answer["code"]) == (409, "idempotency_conflict")


def test_a_refused_write_leaves_its_key_free(api):
    api.post("customers", {**ACME, "email": "nobody"}, Idempotency_Key="k1")

    answer = api.post("customers", {**ACME, "email": "ops@acme.example"}, Idempotency_Key="k1")

    assert (answer.status, IdempotentAnswer.objects.count()) == (201, 1)


def test_the_keys_of_two_callers_do_not_meet(api):
    api.post("customers", ACME, Idempotency_Key="k1")

    answer = caller_with().post("customers", {"customerId": "other", "name": "Other"}, Idempotency_Key="k1")

    assert answer.status == 201


def test_a_key_that_is_too_long_is_refused(api):
    assert api.post("customers", ACME, Idempotency_Key="k" * 256).status == 400


# The page


def test_the_page_is_served_without_a_key_and_loads_nothing_from_elsewhere(client):
    page = client.get("/api/v1/docs")

    text = page.content.decode()
    assert page.status_code == 200
    assert "//cdn" not in text and "https://" not in text
    assert "script-src" not in page["Content-Security-Policy"]
    assert "default-src 'self'" in page["Content-Security-Policy"]


def test_the_scripts_of_the_page_are_ours(client):
    assert finders.find("ninja/swagger-ui-bundle.js")


def test_every_endpoint_is_described(client):
    paths = client.get("/api/v1/openapi.json").json()["paths"]

    operations = [operation for methods in paths.values() for operation in methods.values()]
    assert all(o["summary"] and {"400", "401", "403", "429"} <= set(o["responses"]) for o in operations)
    assert all("example" in o["requestBody"]["content"]["application/json"] for o in operations if "requestBody" in o)
