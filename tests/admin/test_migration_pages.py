"""Moving many customers on the desk: choosing, mapping, the dry run, the button, progress, holding and taking back."""

from datetime import datetime
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from billing_admin.flows.migrate import begin, pause, progress
from billing_admin.flows.migrate_order import Order, with_proposed
from billing_admin.flows.migrate_run import carry_out
from billing_admin.models import ApprovalRequest, ApprovalRule
from catalog.models import Plan
from customers.models import Customer, MigrationRow, PlanMigration
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk, Page
from tests.admin.taken_away import taken_away
from tests.instants import APRIL_1, MARCH_16, day

pytestmark = pytest.mark.django_db

RowIs = MigrationRow.State


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client)


@pytest.fixture
def dearer() -> Plan:
    """Pro at $50 with 100 credits, and a second version at $60."""
    plan = a.pro()
    a.on(plan, name="Acme")
    a.on(plan, name="Bolt")
    a.new_version(plan, a.fee(60), a.allowance(100))
    return plan


@pytest.fixture
def richer() -> Plan:
    """Pro with 100 credits, and a second version with 250 for the same money."""
    plan = a.pro()
    a.on(plan, name="Acme")
    a.new_version(plan, a.fee(50), a.allowance(250))
    return plan


def asked(desk: CustomerDesk, plan: Plan, **said: Any) -> Page:
    """The form as it is sent: everybody, at the next billing cycle, the fee mapped to itself."""
    usual = {"who": "all", "timing": "next_billing_cycle", "map-base": "to:base"}
    return desk.post("migration_new", plan.pk, **usual | said)


def tried(desk: CustomerDesk, plan: Plan, **said: Any) -> Page:
    """The dry run that the form leads to."""
    return opened(desk, asked(desk, plan, **said))


def opened(desk: CustomerDesk, answer: Page, **query: Any) -> Page:
    return desk.get("migration_try", key_of(answer), **query)


def key_of(answer: Page) -> str:
    assert answer.went_on, answer.text
    return str(answer.answer.headers["Location"]).rstrip("/").rpartition("/")[2]


def pressed(desk: CustomerDesk, plan: Plan, *, reason: str = "new prices", **said: Any) -> Page:
    """Choose, look, press."""
    key = key_of(asked(desk, plan, **said))
    shown = desk.get("migration_try", key)
    seen = shown.answer.context["outlook"].fingerprint
    return desk.post("migration_try", key, reason=reason, confirmed=seen)


def begun(plan: Plan, now: datetime = MARCH_16, **order: Any) -> PlanMigration:
    versions = {v.number: v for v in plan.versions.with_items()}
    made = with_proposed(Order(versions[1], versions[2], **order))
    return begin(made, reason="new prices", actor=a.STAFF, now=now)


# Choosing


def test_the_page_goes_from_where_most_are_to_what_is_sold(desk, dearer):
    """P-40"""
    shown = desk.get("migration_new", dearer.pk).answer.context["order"]

    assert (shown.from_version.number, shown.to_version.number) == (1, 2)


def test_a_plan_with_one_version_has_nowhere_to_go(desk):
    assert "There is no other version" in desk.get("migration_new", a.pro().pk).text


def test_a_price_with_the_same_key_is_mapped_by_itself(desk, dearer):
    """L-25"""
    [row] = desk.get("migration_new", dearer.pk).answer.context["form"].mapping_rows

    assert (row.item.key, row.field.value(), row.price) == ("base", "to:base", "$50.00 / month")


def test_a_price_that_nobody_mapped_is_refused_at_its_cell(desk):
    """L-25"""
    plan = a.pro()
    a.on(plan)
    a.new_version(plan, a.fee(60, key="platform"), a.allowance(100))

    page = asked(desk, plan, **{"map-base": ""})

    assert page.status == 422
    assert page.errors["map-base"] == ["Say what Base fee becomes, or drop it on purpose."]


def test_a_price_can_be_dropped_on_purpose_and_the_dry_run_says_so(desk):
    """L-25"""
    plan = a.plan("pro", a.fee(50), a.fee(10, key="support"))
    a.on(plan)
    a.new_version(plan, a.fee(60))

    page = tried(desk, plan, **{"map-support": "drop"})

    assert "Dropped on purpose: Base fee (support)." in page.text


def test_two_prices_cannot_become_the_same_one(desk):
    """L-25"""
    plan = a.plan("pro", a.fee(50), a.fee(10, key="support"))
    a.on(plan)
    a.new_version(plan, a.fee(60))

    page = asked(desk, plan, **{"map-support": "to:base"})

    assert set(page.errors) == {"map-base", "map-support"}


def test_now_is_not_offered_where_prices_differ_and_the_page_says_why(desk, dearer):
    """L-24"""
    page = desk.get("migration_new", dearer.pk)

    assert "Prices differ, and a price changes only with a billing cycle" in page.text
    assert "$50.00 / month → $60.00 / month" in page.text


def test_now_is_refused_where_prices_differ_whoever_sends_it(desk, dearer):
    """L-24"""
    page = asked(desk, dearer, timing="now")

    assert page.status == 422 and "timing" in page.errors


def test_a_date_has_to_be_said(desk, dearer):
    assert "not_before" in asked(desk, dearer, timing="on_date").errors


def test_a_list_with_unknown_customers_names_each_line(desk, dearer):
    page = asked(desk, dearer, who="list", listed="nobody\nneither")

    assert page.status == 422
    assert [(p.line, p.column) for p in page.answer.context["problems"]] == [(1, "customer_id"), (2, "customer_id")]


def test_a_list_may_be_a_file(desk, dearer):
    acme = Customer.objects.get(name="Acme")
    file = SimpleUploadedFile("ids.csv", f"customer_id\n{acme.customer_id}\n".encode())

    page = tried(desk, dearer, who="list", file=file)

    assert [row.customer_name for row in page.answer.context["outlook"].moving] == ["Acme"]


def test_a_filter_finds_whoever_began_since_a_date(desk, dearer):
    late = a.on(dearer, name="Late", since=MARCH_16)
    first = dearer.versions.get(number=1)
    late.subscriptions.get().phases.update(version=first)

    page = tried(desk, dearer, who="filter", started_from="2026-03-10")

    assert [row.customer_name for row in page.answer.context["outlook"].moving] == ["Late"]


def test_a_filter_that_finds_nobody_is_refused(desk, dearer):
    assert "Nobody on that version was found" in asked(desk, dearer, who="filter", words="zzz").text


# The dry run


def test_the_dry_run_shows_sums_and_each_customer(desk, dearer):
    """L-29"""
    page = tried(desk, dearer)

    [sum_] = page.answer.context["sums"]
    assert (sum_.difference, sum_.old, sum_.new) == ("+$20.00", "$100.00", "$120.00")
    assert [(r.name, r.old, r.new, r.difference) for r in page.answer.context["rows"]] == [
        ("Acme", "$50.00", "$60.00", "+$10.00"),
        ("Bolt", "$50.00", "$60.00", "+$10.00"),
    ]
    assert "Move 2 customers at their next billing cycle" in page.text
    assert not PlanMigration.objects.exists()


def test_a_lower_price_has_a_real_minus(desk):
    plan = a.pro(50)
    a.on(plan)
    a.new_version(plan, a.fee(40), a.allowance(100))

    assert tried(desk, plan).answer.context["sums"][0].difference == "−$10.00"


def test_lost_access_is_named_for_each_and_has_a_list_of_its_own(desk):
    plan = a.plan("pro", a.fee(50), a.allowance(100), a.switch())
    a.on(plan, name="Acme")
    a.new_version(plan, a.fee(50), a.allowance(40))

    page = opened(desk, asked(desk, plan, timing="now"), show="losing")

    [row] = page.answer.context["rows"]
    assert row.lost == ("Credits: 100 → 40", "Sso: goes away")


def test_customers_on_custom_plans_are_left_alone_and_listed(desk, dearer):
    """L-28"""
    first = dearer.versions.with_items().get(number=1)
    a.enable(a.customer("Own Terms"), dearer, a.fee(45), a.allowance(100), version=first)

    page = opened(desk, asked(desk, dearer), show="skipped")

    assert [(r.name, r.problem) for r in page.answer.context["rows"]] == [
        ("Own Terms", "It is on a custom plan, which stays as it is.")
    ]
    assert page.answer.context["outlook"].moves == 2


def test_the_tables_are_narrowed_by_name_and_by_cause(desk, dearer):
    first = dearer.versions.with_items().get(number=1)
    a.enable(a.customer("Own Terms"), dearer, a.fee(45), a.allowance(100), version=first)
    answer = asked(desk, dearer)

    assert [r.name for r in opened(desk, answer, q="bo").answer.context["rows"]] == ["Bolt"]
    assert not opened(desk, answer, show="skipped", code="parked").answer.context["rows"]
    assert opened(desk, answer, show="skipped", code="custom_plan").answer.context["rows"]


def test_the_table_goes_on_on_the_next_page(desk, dearer, monkeypatch):
    monkeypatch.setattr("billing_admin.admin.migration_try.A_PAGE", 1)
    answer = asked(desk, dearer)

    second = opened(desk, answer, page=2)

    assert [r.name for r in second.answer.context["rows"]] == ["Bolt"]
    assert second.answer.context["pages"]["next"] == ""
    assert opened(desk, answer, page=99).status == 200


def test_the_dry_run_asks_as_often_for_many_customers_as_for_two(desk, dearer, django_assert_max_num_queries):
    first = dearer.versions.get(number=1)
    for n in range(8):
        who = a.on(dearer, name=f"Customer {n}")
        who.subscriptions.get().phases.update(version=first)
    answer = asked(desk, dearer)

    with django_assert_max_num_queries(22):
        opened(desk, answer)


def test_looking_at_another_page_of_it_does_not_make_it_anew(desk, dearer, django_assert_max_num_queries):
    answer = asked(desk, dearer)
    opened(desk, answer)

    with django_assert_max_num_queries(10):
        opened(desk, answer, q="acme")


def test_both_lists_are_there_as_csv(desk, dearer):
    first = dearer.versions.with_items().get(number=1)
    a.enable(a.customer("=Own"), dearer, a.fee(45), a.allowance(100), version=first)
    key = key_of(asked(desk, dearer))

    moving, skipped = (desk.get("migration_try_csv", key, which).html.splitlines() for which in ("moving", "skipped"))

    assert len(moving) == 3 and moving[1].split(",")[4:8] == ["USD", "50", "60", "10"]
    assert len(skipped) == 2 and "'=Own" in skipped[1] and "custom_plan" in skipped[1]


def test_a_dry_run_of_somebody_else_is_not_found(desk, dearer, client):
    key = key_of(asked(desk, dearer))

    assert CustomerDesk(Client()).get("migration_try", key).status == 404


# The button


def test_pressing_writes_the_order_with_its_rows_and_moves_nobody_by_itself(desk, dearer):
    """L-29"""
    page = pressed(desk, dearer)

    migration = PlanMigration.objects.get()
    assert page.answer.headers["Location"].endswith(f"/migrations/{migration.public_id}/")
    assert (migration.reason, migration.mappings) == ("new prices", [{"from": "base", "to": "base"}])
    assert set(migration.rows.values_list("state", flat=True)) == {RowIs.WAITING}


def test_without_a_reason_nothing_begins(desk, dearer):
    page = pressed(desk, dearer, reason="")

    assert "reason" in page.errors
    assert not PlanMigration.objects.exists()


def test_what_moved_meanwhile_is_shown_and_asked_about_again(desk, dearer):
    """L-29"""
    key = key_of(asked(desk, dearer))
    seen = desk.get("migration_try", key).answer.context["outlook"].fingerprint
    a.the_subscription(Customer.objects.get(name="Bolt")).phases.update(quantity=3)

    page = desk.post("migration_try", key, reason="new prices", confirmed=seen)

    assert not PlanMigration.objects.exists()
    [moved] = page.answer.context["moved"]
    assert (moved.name, moved.before, moved.after) == (
        "Bolt",
        "moves, $50.00 → $60.00, from 1 Apr 2026",
        "moves, $150.00 → $180.00, from 1 Apr 2026",
    )
    again = page.answer.context["outlook"].fingerprint
    assert f'value="{again}"' in page.html
    assert desk.post("migration_try", key, reason="new prices", confirmed=again).went_on


def test_when_nobody_can_be_moved_there_is_no_button(desk):
    """L-28"""
    plan = a.pro()
    a.enable(a.customer("Own Terms"), plan, a.fee(45), a.allowance(100))
    a.new_version(plan, a.fee(60), a.allowance(100))

    page = tried(desk, plan)

    assert not page.answer.context["outlook"].moves
    assert 'name="reason"' not in page.html


def test_a_rule_makes_the_button_ask_for_approval_and_nobody_is_moved(desk, dearer):
    """A-53"""
    ApprovalRule.objects.create(
        act="migration.started", measure="customers", above=1, approver=Group.objects.get(name="Finance")
    )

    key = key_of(asked(desk, dearer))
    shown = desk.get("migration_try", key)
    outlook = shown.answer.context["outlook"]
    said = {"reason": "new prices", "confirmed": outlook.fingerprint, shown.answer.context["ask"]: "1"}
    desk.post("migration_try", key, **said)

    assert "Ask for approval" in shown.text and "needs approval by Finance" in shown.text
    [request] = ApprovalRequest.objects.all()
    assert (request.act, request.reason, request.state) == ("migration.started", "new prices", "waiting")
    assert not PlanMigration.objects.exists()


# Progress


def shown(desk: CustomerDesk, migration: PlanMigration, **query: Any) -> Page:
    return desk.get("migration", migration.public_id, **query)


def test_the_page_counts_by_state_and_follows_while_it_runs(desk, dearer):
    page = shown(desk, begun(dearer))

    assert [(c.label, c.number) for c in page.answer.context["shown"].counts] == [("Waiting", 2)]
    assert 'hx-trigger="every 2s"' in page.html
    assert "Look again" in page.html


def test_the_page_does_not_ask_any_more_once_it_is_finished(desk, dearer):
    migration = begun(dearer)
    poll = desk.get("migration_progress", migration.public_id)
    carry_out(migration, MARCH_16)

    assert 'hx-trigger="every 2s"' in poll.html
    assert "hx-trigger" not in shown(desk, migration).html.partition('id="migration"')[2][:400]
    assert desk.get("migration_progress", migration.public_id).answer.headers["HX-Refresh"] == "true"


def test_the_pace_is_measured_between_two_looks(desk, dearer):
    migration = begun(dearer)
    migration.rows.filter(pk=migration.rows.first().pk).update(state=RowIs.SCHEDULED)

    poll = desk.get("migration_progress", migration.public_id, **{"since": "2026-03-15T23:59:59", "from": "0"})

    assert "1 a second, about 1 s to go" in poll.text


def test_counts_lead_to_the_rows_of_that_state(desk, dearer):
    migration = begun(dearer)
    MigrationRow.objects.filter(customer__name="Bolt").update(state=RowIs.FAILED, problem="It broke.")

    page = shown(desk, migration, state="failed")

    assert [(row.name, row.problem) for row in page.answer.context["rows"]] == [("Bolt", "It broke.")]
    assert "1 customer could not be moved; the others went on." in page.text


def test_what_was_scheduled_reads_moved_once_its_day_came(client, dearer):
    migration = begun(dearer)
    carry_out(migration, MARCH_16)

    before = shown(CustomerDesk(client), migration).answer.context["shown"].progress
    after = shown(CustomerDesk(client, now=APRIL_1), migration).answer.context["shown"].progress

    assert (before.scheduled, after.moved) == (2, 2)


def test_a_migration_can_be_paused_resumed_and_stopped_with_a_reason(desk, dearer):
    migration = begun(dearer)

    assert "reason" in desk.post("migration_pause", migration.public_id, reason="").errors
    desk.post("migration_pause", migration.public_id, reason="support is busy")
    paused = shown(desk, migration)
    desk.post("migration_resume", migration.public_id, reason="")
    desk.post("migration_stop", migration.public_id, reason="wrong version")

    migration.refresh_from_db()
    assert "Paused" in paused.text and ">Resume<" in paused.html
    assert migration.state == PlanMigration.State.STOPPED


def test_what_cannot_be_done_any_more_is_said_in_the_dialog(desk, dearer):
    migration = begun(dearer)
    pause(migration, reason="x", actor=a.STAFF, now=MARCH_16)

    page = desk.post("migration_pause", migration.public_id, dialog=True, reason="again")

    assert "This cannot be paused: it is paused." in page.text


def test_a_failed_row_is_tried_again_alone(desk, dearer):
    """L-29"""
    migration = begun(dearer)
    carry_out(migration, MARCH_16)
    row = migration.rows.get(customer__name="Bolt")
    take_back_of(row)
    MigrationRow.objects.filter(pk=row.pk).update(state=RowIs.FAILED, problem="It broke.", phase=None)

    page = shown(desk, migration, state="failed")
    desk.post("migration_retry", migration.public_id, row.pk)

    row.refresh_from_db()
    assert page.answer.context["rows"][0].retry_url
    assert (row.state, row.problem) == (RowIs.SCHEDULED, "")


def take_back_of(row: MigrationRow) -> None:
    from billing_admin.flows.migrate import take_back_row

    take_back_row(row, reason="test", actor=a.STAFF, now=MARCH_16)


def test_one_customer_is_taken_back_and_the_others_stay(desk, dearer):
    """L-29"""
    migration = begun(dearer)
    carry_out(migration, MARCH_16)
    row = migration.rows.get(customer__name="Bolt")

    asked_ = desk.get("migration_row_back", migration.public_id, row.pk, dialog=True)
    desk.post("migration_row_back", migration.public_id, row.pk, reason="promised the old price")

    assert "Bolt stays on v1: the move of 1 Apr 2026 is withdrawn." in asked_.text
    assert a.the_subscription(row.customer).next_phase(MARCH_16) is None
    assert progress(migration, MARCH_16).counts["scheduled"] == 1


def test_what_was_kept_is_tried_again_once_the_cause_is_over(desk, dearer):
    """A parked contract is kept until somebody has looked at it."""
    migration = begun(dearer)
    carry_out(migration, MARCH_16)
    row = migration.rows.get(customer__name="Bolt")
    row.customer.subscriptions.update(parked_at=MARCH_16, parked_because="Too much.")
    take_back_of(row)
    assert row.state == "kept"
    row.customer.subscriptions.update(parked_at=None, parked_because="")

    page_ = desk.get("migration", migration.public_id)
    dialog = desk.get("migration_row_back", migration.public_id, row.pk, dialog=True)
    desk.post("migration_row_back", migration.public_id, row.pk, reason="looked at")

    assert f"rows/{row.pk}/take-back/" in page_.html
    assert "It is tried once more." in dialog.text
    row.refresh_from_db()
    assert row.state == "taken_back"


def test_a_page_that_no_number_names_is_the_first(desk, dearer):
    migration = begun(dearer)

    assert desk.get("migrations", before="²").answer.status_code == 200
    assert desk.get("migration", migration.public_id, after="²").answer.status_code == 200


def test_the_dialog_of_taking_back_says_who_goes_back_and_who_stays(client, dearer):
    """L-26"""
    migration = begun(dearer)
    carry_out(migration, MARCH_16)
    a.pass_time(Customer.objects.get(name="Acme"), to=APRIL_1)
    take_back_of(migration.rows.get(customer__name="Bolt"))

    page = CustomerDesk(client, now=day("2026-04-02")).get("migration_back", migration.public_id, dialog=True)

    assert "1 customer kept: the new version is invoiced, and invoices never change." in page.text


def test_the_whole_is_taken_back_with_a_reason(desk, dearer):
    migration = begun(dearer)
    carry_out(migration, MARCH_16)

    dialog = desk.get("migration_back", migration.public_id, dialog=True)
    desk.post("migration_back", migration.public_id, reason="wrong price")
    running = shown(desk, migration)
    migration.refresh_from_db()
    carry_out(migration, MARCH_16)

    assert "2 customers scheduled: withdrawn, they stay on the old version." in dialog.text
    assert "Being taken back" in running.text and "wrong price" in running.text
    assert progress(migration, MARCH_16).counts["taken_back"] == 2


def test_features_that_were_moved_at_once_go_back_with_what_was_used(desk, richer):
    acme = Customer.objects.get()
    a.use(acme, 30, now=MARCH_16)
    migration = begun(richer, timing="now")
    carry_out(migration, MARCH_16)
    moved = a.left(acme, now=MARCH_16)
    row = migration.rows.get()

    desk.post("migration_row_back", migration.public_id, row.pk, reason="too generous")

    assert (moved, a.left(acme, now=MARCH_16)) == (220, 70)


def test_the_rows_are_there_as_csv_narrowed_as_the_page(desk, dearer):
    migration = begun(dearer)
    carry_out(migration, MARCH_16)
    take_back_of(migration.rows.get(customer__name="Bolt"))

    [row] = taken_away(desk, "migration_rows", "migration", migration.public_id, state="scheduled")

    assert (row["state"], row["currency"]) == ("scheduled", "USD")
    assert (row["old_price"], row["new_price"], row["difference"]) == ("50.00", "60.00", "10.00")


def test_the_page_asks_as_often_for_many_rows_as_for_two(desk, dearer, django_assert_max_num_queries):
    first = dearer.versions.get(number=1)
    for n in range(8):
        who = a.on(dearer, name=f"Customer {n}")
        who.subscriptions.get().phases.update(version=first)
    migration = begun(dearer)
    carry_out(migration, MARCH_16)
    shown(desk, migration)

    with django_assert_max_num_queries(12):
        shown(desk, migration)
    with django_assert_max_num_queries(7):
        desk.get("migration_progress", migration.public_id)


# The list


def test_the_list_shows_each_migration_with_its_counts(desk, dearer):
    migration = begun(dearer)
    MigrationRow.objects.filter(customer__name="Bolt").update(state=RowIs.FAILED)

    page = desk.get("migrations")

    [row] = page.answer.context["rows"]
    assert (row.migration, row.total, row.failed, row.state) == (migration, 2, 1, ("open", "Running"))
    assert "Pro v1 → v2" in page.text


def test_the_empty_list_says_what_to_do(desk):
    assert "Nobody was moved yet" in desk.get("migrations").text


def test_the_list_asks_as_often_for_many_as_for_one(desk, django_assert_max_num_queries):
    for n in range(4):
        plan = a.plan(f"plan-{n}", a.fee(50), of=f"product-{n}")
        a.on(plan, name=f"Customer {n}")
        a.new_version(plan, a.fee(60))
        begun(plan)
    desk.get("migrations")

    with django_assert_max_num_queries(10):
        desk.get("migrations")


def test_the_list_is_narrowed_by_plan_and_state(desk, dearer):
    begun(dearer)

    assert desk.get("migrations", plan="pro", state="running").answer.context["rows"]
    assert not desk.get("migrations", state="taken_back").answer.context["rows"]


def test_the_plans_with_a_second_version_are_offered(desk, dearer):
    a.plan("single", a.fee(5), of="other")

    assert [plan.key for plan, _ in desk.get("migration_plans").answer.context["rows"]] == ["pro"]


# Who may


@pytest.mark.parametrize("role", ["Read-only", "Ops", "Sales engineer"])
def test_no_page_dialog_or_poll_works_without_the_permission(client, dearer, role):
    """A-53"""
    migration = begun(dearer)
    row = migration.rows.first()
    desk = CustomerDesk(client, role=role)
    own = (migration.public_id,)
    pages: list[tuple[str, tuple[Any, ...]]] = [
        ("migrations", ()),
        ("migration_plans", ()),
        ("migration_new", (dearer.pk,)),
        ("migration_try", ("key",)),
        ("migration_try_csv", ("key", "moving")),
        *((name, own) for name in ("migration", "migration_progress")),
        *((f"migration_{act}", own) for act in ("pause", "resume", "stop", "back")),
        *((name, (*own, row.pk)) for name in ("migration_retry", "migration_row_back")),
    ]

    codes = {name: desk.get(name, *args).status for name, args in pages}
    acts = [name for name, _ in pages if name.startswith(("migration_row", "migration_re", "migration_pause"))]
    acts += ["migration_stop", "migration_back", "migration_new", "migration_try"]
    posts = {name: desk.post(name, *dict(pages)[name], reason="x").status for name in acts}

    assert set(codes.values()) == {403}, codes
    assert set(posts.values()) == {403}, posts


def test_finance_may_move_customers(client, dearer):
    assert CustomerDesk(client, role="Finance").get("migration_new", dearer.pk).status == 200


def test_a_migration_that_does_not_exist_is_not_found(desk):
    assert desk.get("migration", "mig_none").status == 404
    assert desk.get("migration_try", "nothing").status == 404
