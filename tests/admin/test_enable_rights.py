"""Who may enable, change, withdraw and cancel; and what the pages cost."""

import pytest
from django.test import Client

from catalog.models import Plan, _frozen_terms
from tests.admin.enable_desk import Desk, subscription_page
from tests.builders import allowance, assigned, customer, enable, fee, on, plan, pro, seats, switch, the_subscription
from tests.instants import MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme():
    return on(pro())


@pytest.mark.parametrize("role", ["Read-only", "Finance"])
def test_whoever_may_not_enable_gets_neither_page_nor_preview_nor_act(client: Client, acme, role, caplog):
    """A-53"""
    desk = Desk(client, acme, now=MARCH_16, role=role).type(plan="pro")

    with caplog.at_level("WARNING"):
        assert desk.open(plan="pro").answer.status_code == 403
        desk.live_preview()
        assert desk.answer.status_code == 403
        assert desk.type(plan="pro").enable().answer.status_code == 403

    assert "permission refused" in caplog.text


def test_whoever_may_only_assign_sees_no_billed_plan(client: Client, acme):
    """A-53"""
    assigned()
    desk = Desk(client, acme, now=MARCH_16, role="Ops").open()

    assert [row.title for group in desk.answer.context["page"].groups for row in group.rows] == ["Partner"]
    assert desk.open(plan="pro").answer.status_code == 403
    assert desk.type(plan="pro").enable().answer.status_code == 403


def test_whoever_may_only_assign_cannot_smuggle_items_in(client: Client):
    """A-53"""
    assigned("partner", allowance(1000))
    who = customer()
    desk = Desk(client, who, now=MARCH_16, role="Ops").open(plan="partner")
    assert "items-shown" not in desk.fields

    smuggled = {"items-shown": "1", "items-row": "r0", "items-r0-key": "credits", "items-r0-feature": "credits"}
    desk.type(**smuggled, **{"items-r0-included": "9999", "items-r0-reset": "P1M"}).enable()

    assert not the_subscription(who).phase_at(MARCH_16).version.tailored


@pytest.mark.parametrize("name", ["withdraw_change", "uncancel_subscription", "cancel_subscription"])
def test_whoever_may_not_end_a_contract_is_refused(client: Client, acme, name):
    """A-53"""
    enable(acme, Plan.objects.get(key="pro"), fee(30), allowance(100), now=MARCH_16)
    desk = Desk(client, acme, now=MARCH_16, role="Ops")
    url = subscription_page(name, the_subscription(acme))

    with desk.at():
        assert client.get(url).status_code == 403
        assert client.post(url, {"when": "now", "reason": "fraud"}).status_code == 403

    assert the_subscription(acme).next_phase(MARCH_16)


def test_a_stranger_is_sent_to_the_login(client: Client, acme):
    """A-53"""
    answer = client.get(f"/customers/{acme.pk}/enable/")

    assert answer.status_code == 302
    assert answer.url.startswith("/login/")


def many_plans() -> None:
    for n in range(12):
        plan(f"plan-{n}", fee(10 + n), allowance(100), seats(5), switch("sso"), of=f"product-{n % 4}")


def busy() -> Plan:
    main = plan("pro", fee(50), allowance(100), allowance(10, of="calls", price="0.01"), seats(5), switch("sso"))
    many_plans()
    return main


@pytest.mark.parametrize("is_cold", [True, False])
def test_the_page_and_its_preview_take_few_queries_however_many_plans(
    client: Client, django_assert_max_num_queries, is_cold
):
    """A-54"""
    who = on(busy())
    desk = Desk(client, who, now=MARCH_16).open(plan="pro")
    if is_cold:
        _frozen_terms.cache_clear()

    with django_assert_max_num_queries(50):
        desk.open(plan="pro", subscription=the_subscription(who).public_id)
    desk.type("base", amount="70")
    with django_assert_max_num_queries(50):
        desk.live_preview()
    with django_assert_max_num_queries(50):
        desk.preview()


def test_choosing_a_plan_takes_few_queries(client: Client, django_assert_max_num_queries):
    """A-54"""
    who = on(busy(), since=MARCH_1)
    desk = Desk(client, who, now=MARCH_16)

    with django_assert_max_num_queries(50):
        desk.open()
    with django_assert_max_num_queries(50):
        desk.open(plan="plan-5")
