"""Customers: created, changed, put on assigned plans, closed, reopened and erased."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError

from billing_admin.flows.cancel import cancel
from billing_admin.flows.customers import (
    ERASED_AFTER,
    AlreadyErased,
    BadEmail,
    BadUsageStart,
    CustomerClosed,
    DeletionBlocked,
    DuplicateCustomerId,
    ProductsRefused,
    WrongName,
    close_customer,
    create_customer,
    erase_due,
    held_plans,
    reopen_customer,
    update_customer,
)
from catalog.models import Plan
from customers.journal import ReasonRequired
from customers.models import Customer, Note, Operation, PriceOverride
from entitlements.edit import edit_balance
from entitlements.models import Balance, UsageEvent
from tests import builders as world
from tests.builders import STAFF, access, allowance, assigned, customer, enable, left, on, plan, pro, use
from tests.instants import APRIL_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db


def create(customer_id="acme", name="Acme", *, now=MARCH_1, **values):
    return create_customer(customer_id=customer_id, name=name, actor=STAFF, now=now, **values)


def update(who, *, now=MARCH_16, **values):
    return update_customer(who, actor=STAFF, now=now, **values)


def close(who, *, name=None, reason="asked us to", now=MARCH_16):
    return close_customer(who, confirm_name=name or who.name, reason=reason, actor=STAFF, now=now)


def held(who, now=MARCH_16):
    return {plan.key for _, plan in held_plans(who, now)}


# Create


def test_a_customer_created_with_product_keys_holds_those_products():
    """P-02"""
    assigned("partner")
    assigned("lab", allowance(5), of="labs")

    who = create(custom_product_keys=["partner", "lab"])

    assert held(who) == {"partner", "lab"}


def test_the_key_of_a_product_stands_for_its_only_assigned_plan():
    """P-02"""
    assigned("partner", of="partners")

    assert held(create(custom_product_keys=["partners"])) == {"partner"}


def test_the_key_of_a_product_with_several_assigned_plans_is_refused():
    """P-06"""
    assigned("gold", of="partners")
    assigned("silver", of="partners")

    with pytest.raises(ProductsRefused) as refused:
        create(custom_product_keys=["partners"])

    assert refused.value.code == "ambiguous_product"


def test_unknown_keys_are_listed_and_nothing_is_created():
    """P-06"""
    assigned("partner")

    with pytest.raises(ProductsRefused) as refused:
        create(custom_product_keys=["partner", "nope", "neither"])

    assert refused.value.keys == ("nope", "neither")
    assert not Customer.objects.exists()


def test_a_mirrored_product_cannot_be_assigned_by_hand():
    """P-07"""
    plan("mirrored", allowance(5), kind=Plan.Kind.STRIPE)

    with pytest.raises(ProductsRefused) as refused:
        create(custom_product_keys=["mirrored"])

    assert refused.value.code == "stripe_product"


def test_the_default_product_cannot_be_assigned_by_hand():
    """P-08"""
    world.default()

    with pytest.raises(ProductsRefused) as refused:
        create(custom_product_keys=["community"])

    assert refused.value.code == "default_product"


def test_a_billed_plan_cannot_be_assigned():
    pro()

    with pytest.raises(ProductsRefused) as refused:
        create(custom_product_keys=["pro"])

    assert refused.value.code == "billed_product"


def test_a_bad_email_is_refused_beside_its_field():
    """A-51"""
    with pytest.raises(BadEmail) as refused:
        create(email="nobody")

    assert refused.value.field == "email"


def test_a_duplicate_id_is_refused_beside_its_field():
    """A-51"""
    create("acme")

    with pytest.raises(DuplicateCustomerId) as refused:
        create("acme")

    assert refused.value.field == "customer_id"


@pytest.mark.parametrize("bad", ["", "with space", "-minus", "x" * 121])
def test_an_id_of_other_signs_is_refused(bad):
    """A-51"""
    with pytest.raises(ValidationError) as refused:
        create(bad)

    assert refused.value.field == "customer_id"


def test_usage_cannot_start_in_the_future():
    """P-29"""
    with pytest.raises(BadUsageStart):
        create(usage_started_at=MARCH_1 + timedelta(seconds=1))


def test_the_window_of_a_customer_created_within_a_second_lasts_a_month():
    """P-25"""
    assigned("partner")
    now = MARCH_1 + timedelta(milliseconds=700)

    who = create(custom_product_keys=["partner"], now=now)

    assert access(who, now=now).next_reset_at == APRIL_1


# Change


def test_what_is_left_out_does_not_change():
    """P-05"""
    assigned("partner")
    who = create(email="ops@acme.example", custom_product_keys=["partner"])

    who = update(who, name="Acme Robotics")

    assert (who.name, who.email, held(who)) == ("Acme Robotics", "ops@acme.example", {"partner"})


def test_the_held_set_equals_the_list():
    """P-03"""
    assigned("partner")
    assigned("lab", allowance(5), of="labs")
    assigned("press", allowance(5), of="presses")
    who = create(custom_product_keys=["partner", "lab"])

    update(who, custom_product_keys=["lab", "press"])

    assert held(who) == {"lab", "press"}


def test_what_stays_in_the_list_is_not_touched():
    """P-03"""
    assigned("partner")
    assigned("lab", allowance(5), of="labs")
    who = create(custom_product_keys=["partner"])
    before = who.subscriptions.get()

    update(who, custom_product_keys=["partner", "lab"])

    assert who.subscriptions.get(pk=before.pk).started_at == before.started_at


def test_an_empty_list_ends_all_and_keeps_the_rows():
    """P-04"""
    assigned("partner")
    who = create(custom_product_keys=["partner"])

    update(who, custom_product_keys=[])

    [row] = who.subscriptions.all()
    assert held(who) == set()
    assert (row.state, row.ended_at) == ("ended", MARCH_16)


def test_another_plan_of_the_same_product_replaces_the_former():
    """P-03"""
    assigned("silver", allowance(10), of="partners")
    assigned("gold", allowance(20), of="partners")
    who = create(custom_product_keys=["silver"])

    update(who, custom_product_keys=["gold"])

    assert held(who) == {"gold"}
    assert who.subscriptions.count() == 1


def test_two_main_plans_of_one_product_are_refused():
    """P-03"""
    assigned("silver", allowance(10), of="partners")
    assigned("gold", allowance(20), of="partners")

    with pytest.raises(ProductsRefused) as refused:
        create(custom_product_keys=["silver", "gold"])

    assert refused.value.code == "two_plans_of_one_product"


def test_assigning_a_plan_of_a_product_that_is_billed_is_refused():
    """P-03"""
    who = on(pro())
    assigned("pro-partner", of="api")

    with pytest.raises(ProductsRefused) as refused:
        update(who, custom_product_keys=["pro-partner"])

    assert "change that plan instead" in refused.value.messages[0]


def test_billed_contracts_are_no_part_of_the_list():
    """P-04"""
    who = on(pro())

    update(who, custom_product_keys=[])

    assert world.the_subscription(who).is_live


def test_an_unknown_key_undoes_the_whole_update():
    """P-06"""
    assigned("partner")
    who = create(custom_product_keys=["partner"])

    with pytest.raises(ProductsRefused):
        update(who, name="Other", custom_product_keys=["nope"])

    who.refresh_from_db()
    assert (who.name, held(who)) == ("Acme", {"partner"})


def test_an_add_on_in_the_list_survives_the_end_of_its_main_plan():
    """P-03"""
    assigned("partner")
    plan("extra", allowance(5, of="calls"), of="partners", kind=Plan.Kind.ASSIGNED, add_on=True)
    who = create(custom_product_keys=["partner", "extra"])

    update(who, custom_product_keys=["extra"])

    assert held(who) == {"extra"}


def test_ending_a_main_plan_under_a_billed_add_on_is_refused():
    """P-04"""
    assigned("partner")
    extra = plan("extra", world.fee(5), of="partners", add_on=True)
    who = create(custom_product_keys=["partner"])
    enable(who, extra)

    with pytest.raises(ProductsRefused) as refused:
        update(who, custom_product_keys=[])

    assert refused.value.code == "has_billed_add_on"


def test_a_change_stands_in_the_history():
    """A-51"""
    who = create()

    update(who, email="new@acme.example", reason="asked by mail")

    operation = who.operations.newest().first()
    assert operation.inputs == {"email": {"from": "", "to": "new@acme.example"}}
    assert (operation.actor, operation.reason) == ("ops", "asked by mail")
    assert list(who.history.values_list("email", flat=True)) == ["new@acme.example", ""]


def test_an_update_that_changes_nothing_leaves_no_trace():
    who = create()

    update(who, name="Acme")

    assert who.operations.count() == 1


def test_a_duplicate_id_is_refused_on_change_too():
    """A-51"""
    create("acme")
    other = create("other")

    with pytest.raises(DuplicateCustomerId):
        update(other, customer_id="acme")


def test_moving_the_start_of_usage_moves_the_open_window():
    """P-29"""
    assigned("partner")
    who = create(custom_product_keys=["partner"])
    use(who, 10, of="credits", now=day("2026-03-05"))
    use(who, 3, of="credits", now=day("2026-03-12"))

    update(who, usage_started_at=day("2026-01-10"))

    found = access(who, now=MARCH_16)
    assert (found.next_reset_at, found.used) == (day("2026-04-10"), Decimal(3))


def test_an_edit_moves_along_with_the_window():
    """P-29"""
    assigned("partner")
    who = create(custom_product_keys=["partner"])
    edit_balance(who, feature="credits", to=Decimal(1500), reason="goodwill", actor=STAFF, now=MARCH_1)

    update(who, usage_started_at=day("2026-01-10"))

    assert left(who, now=MARCH_16) == 1500


def test_closed_windows_stay_where_they_were():
    """P-29"""
    assigned("partner")
    who = create(custom_product_keys=["partner"])
    use(who, 10, of="credits", now=MARCH_1)
    use(who, 1, of="credits", now=APRIL_1)

    update(who, usage_started_at=day("2026-01-10"), now=day("2026-04-12"))

    first = Balance.objects.order_by("id").first()
    assert (first.starts_at, first.ends_at, first.used) == (MARCH_1, APRIL_1, Decimal(10))


# Close, reopen, erase


def test_a_live_paid_subscription_blocks_deletion():
    """A-52"""
    who = on(pro())

    with pytest.raises(DeletionBlocked) as refused:
        close(who)

    assert [b.kind for b in refused.value.blockers] == ["live_subscription"]


def test_every_blocker_is_named():
    """A-52"""
    who = customer()
    enable(who, pro())

    with pytest.raises(DeletionBlocked) as refused:
        close(who)

    assert [b.kind for b in refused.value.blockers] == ["live_subscription", "open_invoice"]


def test_account_credit_blocks_deletion():
    """A-52"""
    who = on(pro())
    cancel(world.the_subscription(who), at_once=True, reason="left", actor=STAFF, now=MARCH_16)

    with pytest.raises(DeletionBlocked) as refused:
        close(who)

    assert [b.kind for b in refused.value.blockers] == ["account_credit"]


def test_a_free_subscription_ends_with_the_customer():
    """A-52"""
    who = on(world.free())

    close(who)

    [row] = who.subscriptions.all()
    assert row.state == "ended"


def test_closing_takes_the_name_typed():
    """A-52"""
    with pytest.raises(WrongName):
        close(create(), name="acme")


def test_closing_takes_a_reason():
    """A-52"""
    with pytest.raises(ReasonRequired):
        close(create(), reason=" ")


def test_a_closed_customer_is_hidden_at_once():
    """A-52"""
    who = create()

    close(who)

    assert not Customer.objects.open().exists()


def test_a_closed_customer_cannot_be_changed():
    """A-52"""
    who = close(create())

    with pytest.raises(CustomerClosed):
        update(who, name="Other")


def test_closing_can_be_undone_within_thirty_days():
    """A-52"""
    who = close(create())

    who = reopen_customer(who, actor=STAFF, now=MARCH_16 + timedelta(days=29))

    assert Customer.objects.open().get() == who
    assert erase_due(now=MARCH_16 + ERASED_AFTER) == 0


def test_nothing_is_erased_before_thirty_days():
    """A-52"""
    close(create())

    assert erase_due(now=MARCH_16 + ERASED_AFTER - timedelta(seconds=1)) == 0


def test_erasure_leaves_no_trace_of_the_person():
    """A-52"""
    assigned("partner")
    who = create("acme", "Jane Acme", email="jane@acme.example", custom_product_keys=["partner"])
    who = update(who, name="Jane Doe", email="doe@acme.example", customer_id="jane")
    use(who, 1, of="credits", now=MARCH_16, key="jane-1", properties={"by": "jane@acme.example"})
    Note.objects.create(customer=who, author="ops", text="Jane likes tea", created_at=MARCH_16)
    edit_balance(who, feature="credits", to=Decimal(5), reason="Jane Doe asked", actor=STAFF, now=MARCH_16)
    close(who)

    assert erase_due(now=MARCH_16 + ERASED_AFTER) == 1

    who.refresh_from_db()
    traces = [
        str(row)
        for rows in (
            Customer.objects.values(),
            Customer.history.values(),
            Operation.objects.values(),
            Note.objects.values(),
            UsageEvent.objects.values(),
        )
        for row in rows
    ]
    assert [t for t in traces if "jane" in t.lower() or "doe" in t.lower() or "acme" in t.lower()] == []
    assert who.erased_at == MARCH_16 + ERASED_AFTER


def test_erasing_twice_does_it_once():
    """A-52"""
    close(create())
    erase_due(now=MARCH_16 + ERASED_AFTER)

    assert erase_due(now=MARCH_16 + ERASED_AFTER) == 0


def test_invoices_outlive_erasure():
    """A-52"""
    who = on(pro())
    cancel(world.the_subscription(who), at_once=True, unused="nothing", reason="left", actor=STAFF, now=MARCH_16)
    close(who)

    erase_due(now=MARCH_16 + ERASED_AFTER)

    [invoice] = who.invoices.all()
    assert (invoice.total, invoice.number is not None) == (5000, True)


def test_an_erased_customer_cannot_come_back():
    """A-52"""
    who = close(create())
    erase_due(now=MARCH_16 + ERASED_AFTER)

    with pytest.raises(AlreadyErased):
        reopen_customer(who, actor=STAFF, now=MARCH_16 + ERASED_AFTER)


def test_address_tax_number_and_why_of_deals_are_erased_too():
    """A-52"""
    who = on(pro(50))
    update(who, billing_address="1 Main Street\nBerlin", tax_number="DE123456789")
    row = world.special_price(who, now=MARCH_16)
    PriceOverride.objects.update(reason="asked for by Acme Robotics, 1 Main Street")
    Customer.objects.filter(pk=who.pk).update(closed_at=MARCH_16, erase_at=MARCH_16)

    erase_due(now=APRIL_1)

    who.refresh_from_db()
    row.refresh_from_db()
    assert (who.billing_address, who.tax_number) == ("", "")
    assert row.reason == "asked for by (erased), (erased)"
    assert not [operation for operation in who.operations.all() if "Main Street" in str(operation.inputs)]


def test_a_language_that_nobody_speaks_is_refused():
    with pytest.raises(ValidationError, match="not a locale"):
        update(on(pro(50)), locale="xx_YY")
