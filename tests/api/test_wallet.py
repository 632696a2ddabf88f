"""The wallet over the API."""

import pytest

from tests.api.conftest import caller_with
from tests.builders import customer, filled, instantly, paying_at_once, wallet_balance
from tests.instants import MARCH_16

pytestmark = pytest.mark.django_db


def put(api, who, amount="50.00", currency="USD", reference="wire 1", **more):
    headers = {name: more.pop(name) for name in list(more) if name == "Idempotency_Key"}
    body = {"amount": amount, "currency": currency, "reference": reference, **more}
    return api.post(f"customers/{who.customer_id}/wallet/top-ups", body, **headers)


def act(api, who, what, **body):
    return api.post(f"customers/{who.customer_id}/wallet/{what}", body)


def track(api, who, value=1, **more):
    return api.post("track", {"customerId": who.customer_id, "featureSlug": "credits", "value": value, **more})


def test_a_top_up_answers_with_its_entry_and_the_wallet(api):
    answer = put(api, customer(), "17.9699999999999988631316", "EUR")

    assert (answer.status, answer["applied"]) == (201, True)
    assert answer["wallet"]["balance"] == {"amount": "17.97", "currency": "EUR", "formatted": "€17.97"}
    assert (answer["entry"]["kind"], answer["entry"]["reference"]) == ("top_up", "wire 1")


def test_a_top_up_with_the_same_key_counts_once(api):
    who = customer()
    put(api, who, idempotencyKey="tx-1")

    again = put(api, who, idempotencyKey="tx-1")

    assert (again.status, again["applied"], wallet_balance(who)) == (201, False, 50)


def test_a_key_for_another_amount_is_a_conflict(api):
    who = customer()
    put(api, who, idempotencyKey="tx-1")

    answer = put(api, who, "51", idempotencyKey="tx-1")

    assert (answer.status, answer["code"], wallet_balance(who)) == (409, "idempotency_conflict", 50)


def test_the_key_may_come_in_the_header(api):
    who = customer()
    put(api, who, Idempotency_Key="tx-1")

    again = put(api, who, Idempotency_Key="tx-1")

    assert (again.headers["Idempotent-Replayed"], wallet_balance(who)) == ("true", 50)


def test_the_header_and_the_body_name_the_same_key_for_good(api):
    who = customer()
    put(api, who, Idempotency_Key="tx-1")

    assert put(api, who, idempotencyKey="tx-1")["applied"] is False


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"amount": "0"}, "amount"),
        ({"amount": "-5"}, "amount"),
        ({"amount": "0.001"}, "amount"),
        ({"amount": True}, "amount"),
        ({"reference": " "}, "reference"),
        ({"currency": "XQX"}, "currency"),
        ({"currency": "JPY"}, "currency"),
    ],
)
def test_a_top_up_that_cannot_be_right_is_refused_beside_its_field(api, wrong, field):
    answer = put(api, customer(), **wrong)

    assert (answer.status, answer["field"]) == (400, field)


def test_another_currency_than_the_customers_is_refused(api):
    answer = put(api, filled(5), currency="EUR")

    assert (answer.status, answer["code"], answer["field"]) == (409, "currency_locked", "currency")


def test_a_wallet_that_was_never_topped_up_holds_nothing(api):
    answer = api.get(f"customers/{customer().customer_id}/wallet")

    assert (answer.status, answer["balance"]) == (200, None)


def test_a_payout_takes_what_is_said_or_all(api):
    who = filled(50)

    act(api, who, "payouts", amount="20", reason="asked")
    answer = act(api, who, "payouts", reason="leaves")

    assert (answer.status, answer["entry"]["amount"]["formatted"]) == (201, "−$30.00")
    assert (answer["entry"]["reason"], answer["wallet"]["balance"]["amount"]) == ("leaves", "0")


def test_more_than_there_is_is_refused_with_what_is_there(api):
    answer = act(api, filled(5), "payouts", amount="6", reason="asked")

    assert (answer.status, answer["code"]) == (409, "insufficient_funds")
    assert answer["message"].startswith("The wallet has $5.00 and this takes $6.00")


def test_a_correction_is_exact(api):
    answer = act(api, filled(5), "corrections", amount="-0.000002", reason="counted twice")

    assert answer["wallet"]["balance"]["formatted"] == "$4.999998"


@pytest.mark.parametrize("what", ["payouts", "corrections"])
def test_money_that_goes_by_hand_needs_a_reason(api, what):
    answer = act(api, filled(5), what, amount="1", reason="")

    assert (answer.status, answer["code"], answer["field"]) == (400, "reason_required", "reason")


def test_who_has_no_wallet_cannot_be_corrected(api):
    answer = act(api, customer(), "corrections", amount="1", reason="gift")

    assert (answer.status, answer["code"]) == (409, "no_wallet")


def test_entries_come_newest_first_with_the_sum_that_each_comes_from(api):
    """Y-31"""
    who = paying_at_once(5)
    track(api, who, 3)

    debit, top_up = api.get(f"customers/{who.customer_id}/wallet/entries")["data"]

    assert (debit["kind"], debit["how"], debit["balanceAfter"]["amount"]) == ("debit", "3 × $0.50 = $1.50", "3.5")
    assert (top_up["kind"], top_up["actor"], top_up["eventId"]) == ("top_up", "ops", None)
    assert debit["eventId"].startswith("ev")


def test_entries_come_in_pages(api):
    who = filled(1)
    for _ in range(3):
        put(api, who, "1")
    address = f"customers/{who.customer_id}/wallet/entries"

    first = api.get(address, limit=3)
    rest = api.get(address, limit=3, cursor=first["nextCursor"])

    assert ([len(first["data"]), len(rest["data"])], rest["nextCursor"]) == ([3, 1], None)


def test_entries_can_be_narrowed_to_a_kind(api):
    who = paying_at_once(5)
    track(api, who)
    address = f"customers/{who.customer_id}/wallet/entries"

    assert [entry["kind"] for entry in api.get(address, kind="debit")["data"]] == ["debit"]
    assert api.get(address, kind="gift").status == 400
    assert api.get(address, cursor="²").status == 400


def test_use_beyond_the_wallet_is_a_conflict_and_its_key_stays_free(api):
    """Y-31"""
    who = paying_at_once(1)

    answer = track(api, who, 3, eventKey="job-1")
    put(api, who, "1")

    assert (answer.status, answer["code"]) == (409, "insufficient_funds")
    assert track(api, who, 3, eventKey="job-1")["applied"] is True


def test_a_check_tells_that_the_wallet_is_too_small_and_proposes_no_plan(api):
    """Y-31"""
    who = paying_at_once(1)
    body = {"customerId": who.customer_id, "featureSlug": "credits", "required": 3}

    answer = api.post("check", body)

    assert (answer["hasAccess"], answer["allowed"], answer["reason"]) == (True, False, "insufficient_funds")
    assert answer["upgradeTo"] == []


def test_the_list_of_features_tells_it_too(api):
    who = paying_at_once(0, instantly(of="credits"))

    [feature] = api.at(MARCH_16).get(f"customers/{who.customer_id}/features")["data"]

    assert feature["reason"] == "insufficient_funds"


def test_only_finance_and_admins_move_money():
    """A-53"""
    who = filled(5)

    codes = {name: put(caller_with(name), who).status for name in ("Ops", "Application", "Finance", "Admin")}

    assert codes == {"Ops": 403, "Application": 403, "Finance": 201, "Admin": 201}


def test_deleting_a_customer_with_money_in_the_wallet_names_it(api):
    """A-52"""
    who = filled(5)

    answer = api.delete(f"customers/{who.customer_id}", {"confirmName": who.name, "reason": "asked"})

    assert (answer.status, answer["errors"][0]["code"]) == (409, "wallet")
