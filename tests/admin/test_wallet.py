"""The wallet at a customer's page: its panel, its ledger, and the dialogs that move money."""

from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse

from invoicing.models import WalletEntry
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk
from tests.admin.taken_away import taken_away
from tests.instants import MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db

DIALOGS = ["wallet_top_up", "wallet_pay_out", "wallet_correct"]


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client, role="Finance")


def busy():
    who = a.paying_at_once(5)
    a.use(who, 3, now=MARCH_16)
    return who


# The panel


def test_the_panel_shows_the_balance_and_the_last_entries(desk):
    panel = desk.page(busy()).answer.context["wallet"]

    assert panel.balance == "$3.50"
    assert [(row.what, row.amount) for row in panel.entries] == [("Use · Credits", "−$1.50"), ("Top-up", "+$5.00")]
    assert [title for title, _ in panel.acts] == ["Top up", "Pay out", "Correct"]


def test_an_empty_wallet_says_that_use_is_refused(desk):
    page = desk.page(a.paying_at_once(0))

    assert "Use that is paid at once is refused until somebody tops it up." in page.text


def test_who_has_no_wallet_and_no_such_plan_sees_no_panel(desk):
    assert desk.page(a.on(a.pro())).answer.context["wallet"] is None


def test_use_that_the_wallet_pays_is_no_overage_on_the_page(desk):
    page = desk.page(busy())

    assert "3 used · paid from the wallet" in page.text
    assert "3 over" not in page.text
    assert "Pay per use" in page.text


# The ledger


def test_the_ledger_tells_the_balance_after_each_line(desk):
    rows = desk.get("customer_wallet", busy().pk).answer.context["rows"]

    assert [(row.what, row.amount, row.after) for row in rows] == [
        ("Use · Credits", "−$1.50", "$3.50"),
        ("Top-up", "+$5.00", "$5.00"),
    ]
    assert [row.why for row in rows] == ["3 × $0.50 = $1.50", "bank"]


@pytest.mark.parametrize(
    ("narrowed", "found"),
    [
        ({"kind": "debit"}, ["Use · Credits"]),
        ({"until": "2026-03-15"}, ["Top-up"]),
        ({"since": "2026-03-16"}, ["Use · Credits"]),
        ({"q": "ban"}, ["Top-up"]),
        ({"q": "credits"}, ["Use · Credits"]),
        ({"q": "nothing like this"}, []),
        ({"kind": "gift"}, ["Use · Credits", "Top-up"]),
    ],
)
def test_the_ledger_can_be_narrowed(desk, narrowed, found):
    rows = desk.get("customer_wallet", busy().pk, **narrowed).answer.context["rows"]

    assert [row.what for row in rows] == found


def test_a_long_ledger_comes_in_pages(desk, monkeypatch):
    monkeypatch.setattr("billing_admin.admin.wallet.A_PAGE", 1)
    who = busy()

    first = desk.get("customer_wallet", who.pk, kind="").answer.context
    before = first["older"].partition("before=")[2]
    second = desk.get("customer_wallet", who.pk, before=before).answer.context

    assert ([row.what for row in first["rows"]], [row.what for row in second["rows"]]) == (
        ["Use · Credits"],
        ["Top-up"],
    )
    assert second["older"] == ""


def test_the_ledger_takes_a_fixed_number_of_queries(desk, django_assert_max_num_queries):
    """A-54"""
    who = busy()
    for _ in range(5):
        a.use(who, 1, now=MARCH_16)

    with django_assert_max_num_queries(12):
        desk.get("customer_wallet", who.pk)


def test_what_is_shown_is_exported(desk):
    who = busy()

    [row] = taken_away(desk, "wallet", "customer_wallet", who.pk, kind="debit")

    assert (row["kind"], row["amount"], row["balance_after"]) == ("debit", "-1.5", "3.5")
    assert (row["currency"], row["feature"], row["sum"]) == ("USD", "credits", "3 × $0.50 = $1.50")


def test_a_reference_that_looks_like_a_formula_is_exported_as_text(desk):
    who = a.customer()
    desk.post("wallet_top_up", who.pk, amount="5", currency="USD", reference="=1+1")

    [row] = taken_away(desk, "wallet", "customer_wallet", who.pk)

    assert row["reference"] == "'=1+1"


# Dialogs


def test_a_top_up_is_put_in_with_its_reference(desk):
    who = a.paying_at_once(5)

    answer = desk.post("wallet_top_up", who.pk, amount="17.969", currency="USD", reference="wire 9", key="k")

    assert answer.went_on
    assert a.wallet_balance(who) == Decimal("22.97")
    assert WalletEntry.objects.latest("id").reference == "wire 9"


def test_pressing_twice_counts_once(desk):
    who = a.paying_at_once(5)
    form = desk.get("wallet_top_up", who.pk, dialog=True).answer.context["form"]
    said = {"amount": "10", "currency": "USD", "reference": "wire 9", "key": form["key"].value()}

    for _ in range(2):
        desk.post("wallet_top_up", who.pk, dialog=True, **said)

    assert a.wallet_balance(who) == 15


def test_a_first_top_up_chooses_a_currency_of_the_account(desk):
    who = a.customer()
    form = desk.get("wallet_top_up", who.pk).answer.context["form"]

    refused = desk.post("wallet_top_up", who.pk, amount="10", currency="JPY", reference="wire")

    assert [code for code, _ in form.fields["currency"].choices] == ["USD", "EUR"]
    assert "currency" in refused.errors


@pytest.mark.parametrize(
    ("name", "said", "field"),
    [
        ("wallet_top_up", {"amount": "0", "currency": "USD", "reference": "x"}, "amount"),
        ("wallet_top_up", {"amount": "5", "currency": "USD", "reference": " "}, "reference"),
        ("wallet_pay_out", {"amount": "-1", "reason": "x"}, "amount"),
        ("wallet_pay_out", {"amount": "6", "reason": "x"}, "__all__"),
        ("wallet_pay_out", {"amount": "1", "reason": ""}, "reason"),
        ("wallet_correct", {"amount": "-5.01", "reason": "x"}, "__all__"),
        ("wallet_correct", {"amount": "1", "reason": ""}, "reason"),
    ],
)
def test_what_cannot_be_is_said_at_its_field(desk, name, said, field):
    who = a.filled(5)

    page = desk.post(name, who.pk, **said)

    assert (list(page.errors), a.wallet_balance(who)) == ([field], 5)


def test_paying_out_without_an_amount_empties_the_wallet(desk):
    who = a.filled("4.25")

    desk.post("wallet_pay_out", who.pk, reason="leaves")

    assert a.wallet_balance(who) == 0


def test_a_correction_bears_its_reason(desk):
    who = a.filled(5)

    desk.post("wallet_correct", who.pk, amount="-0.000002", reason="counted twice")

    assert desk.get("customer_wallet", who.pk).answer.context["rows"][0].why == "“counted twice”"


@pytest.mark.parametrize(
    ("act", "typed", "sentence", "submit"),
    [
        ("top-up", "10", "The wallet then holds $15.00; now it has $5.00.", "Top up $10.00"),
        ("pay-out", "", "All of $5.00 is paid out; the wallet is empty then.", "Pay out $5.00"),
        ("pay-out", "2", "The wallet then holds $3.00; now it has $5.00.", "Pay out $2.00"),
        ("pay-out", "7", "The wallet has $5.00, which is less than that.", "Pay out"),
        ("correct", "-0.5", "The wallet then holds $4.50; now it has $5.00.", "Correct by −$0.50"),
        ("correct", "abc", "Enter an amount to see what the wallet holds afterwards.", "Correct"),
    ],
)
def test_the_dialog_says_what_will_be_true(desk, act, typed, sentence, submit):
    planned = desk.get("wallet_preview", a.filled(5).pk, act, amount=typed).answer.context["planned"]

    assert (planned.sentence, planned.submit) == (sentence, submit)


@pytest.mark.parametrize("typed", ["NaN", "1e999", "Infinity", "9" * 60, ""])
def test_whatever_is_typed_is_answered(desk, typed):
    page = desk.get("wallet_preview", a.customer().pk, "top-up", amount=typed, currency="XQX")

    assert page.status == 200


def test_an_act_that_does_not_exist_is_not_found(desk):
    assert desk.get("wallet_preview", a.filled(5).pk, "give-away").status == 404


# Who may


@pytest.mark.parametrize("name", DIALOGS)
@pytest.mark.parametrize("role", ["Read-only", "Ops", "Sales engineer"])
def test_money_moves_by_the_hand_of_finance_alone(client, role, name):
    """A-53"""
    who = a.filled(5)
    desk = CustomerDesk(client, role=role)

    said = {"amount": "1", "currency": "USD", "reference": "x", "reason": "x"}
    codes = {desk.get(name, who.pk).status, desk.post(name, who.pk, **said).status}
    codes.add(desk.get("wallet_preview", who.pk, name.removeprefix("wallet_").replace("_", "-")).status)

    assert (codes, a.wallet_balance(who)) == ({403}, 5)


def test_readers_see_the_wallet_without_acts(client):
    """A-53"""
    desk = CustomerDesk(client, role="Read-only")
    who = busy()

    assert desk.page(who).answer.context["wallet"].acts == ()
    assert desk.get("customer_wallet", who.pk).answer.context["acts"] == ()
    assert len(taken_away(desk, "wallet", "customer_wallet", who.pk)) == 2


def test_a_closed_customer_is_only_paid_out(desk):
    """A-52"""
    who = a.filled(5)
    who.closed_at = MARCH_1
    who.save()

    titles = [title for title, _ in desk.get("customer_wallet", who.pk).answer.context["acts"]]

    assert titles == ["Pay out"]


def test_deletion_leads_to_paying_out(client):
    """A-52"""
    who = a.filled(5)

    [blocker] = CustomerDesk(client).get("customer_settings", who.pk).answer.context["blockers"]

    assert blocker.url == reverse("admin:wallet_pay_out", args=[who.pk])
