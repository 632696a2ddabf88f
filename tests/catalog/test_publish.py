from dataclasses import replace

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction
from django.utils import timezone

from catalog.items import InvalidItems
from catalog.models import Feature, Plan, PlanItem, PlanVersion, Product
from catalog.periods import plan_cadence
from catalog.publish import (
    CannotBeDefault,
    CannotPublish,
    DefaultExists,
    VersionFrozen,
    create_plan,
    create_product,
    duplicate_access,
    make_current,
    make_default,
    open_draft,
    publish,
    write_items,
)
from tests.builders import allowance, assigned, feature, fee, new_version, plan, pro, product, reread, switch
from tests.instants import MARCH_1

pytestmark = pytest.mark.django_db


def test_a_new_product_needs_only_a_name_and_brings_its_assigned_plan():
    """P-01"""
    made = create_product("Internal Tools", by="ops", currency="USD")

    assert (made.product.key, made.key, made.kind) == ("internal-tools", "internal-tools", "assigned")
    assert made.versions.get().state == "draft"


def test_products_of_the_same_name_get_keys_of_their_own():
    keys = [create_product("Internal", by="ops", currency="USD").key for _ in range(3)]

    assert keys == ["internal", "internal-2", "internal-3"]


@pytest.mark.parametrize(
    "act",
    [
        lambda item: PlanItem.objects.filter(pk=item.pk).update(included=5),
        lambda item: PlanItem.objects.filter(pk=item.pk).delete(),
        lambda item: PlanItem.objects.create(version=item.version, key="more", feature=feature("more")),
        lambda item: PlanVersion.objects.filter(pk=item.version_id).update(cadence="P1Y"),
        lambda item: PlanVersion.objects.filter(pk=item.version_id).update(state="draft"),
        lambda item: PlanVersion.objects.filter(pk=item.version_id).delete(),
    ],
    ids=["update item", "delete item", "add item", "update version", "back to draft", "delete version"],
)
def test_the_database_keeps_published_versions_frozen(act):
    """Law 3"""
    item = pro().current_version.items.get(key="credits")

    with pytest.raises(DatabaseError), transaction.atomic():
        act(item)


def test_the_items_of_a_published_version_cannot_be_rewritten():
    made = pro()

    with pytest.raises(VersionFrozen, match="Make a new version"):
        write_items(made.current_version, [fee(1)])


def test_a_new_version_starts_as_a_copy_and_needs_a_message():
    """L-22"""
    made = pro(50, 100)
    draft = open_draft(made, by="ops")
    assert draft.terms().content() == made.current_version.terms().content()

    with pytest.raises(ValidationError, match="what this version changes"):
        publish(draft, message=" ", by="ops", now=MARCH_1)


def test_there_is_one_draft_however_often_it_is_opened():
    made = pro()

    assert open_draft(made, by="ops") == open_draft(made, by="finance")


def test_new_subscriptions_take_the_new_version_and_an_older_one_can_be_made_current_again():
    """Y-46"""
    made = pro(50, 100)
    first = made.current_version
    second = new_version(made, fee(60), allowance(100))
    assert reread(made).current_version == second

    make_current(first)

    assert reread(made).current_version == first


def test_a_billed_draft_without_items_is_not_published():
    """Y-47"""
    with pytest.raises(CannotPublish):
        plan("empty")


def test_a_draft_with_an_archived_feature_is_not_published():
    """Y-47"""
    made = plan("pro", fee(50), allowance(100), published=False)
    Feature.objects.filter(slug="credits").update(archived_at=timezone.now())

    with pytest.raises(InvalidItems, match="archived"):
        publish(made.versions.get(), message="", by="ops", now=MARCH_1)


def test_a_feature_reserved_for_another_product_is_refused():
    """Y-06"""
    item = allowance(100)
    Feature.objects.filter(slug="credits").update(product=product("other"))

    with pytest.raises(InvalidItems, match="reserved for another product"):
        plan("pro", fee(50), item)


def test_a_feature_stands_on_a_plan_once():
    """Y-07"""
    with pytest.raises(InvalidItems, match="already"):
        plan("pro", allowance(100), replace(allowance(50), key="again"))


def test_a_quantity_belongs_to_fees_only():
    """Y-33"""
    with pytest.raises(InvalidItems, match="Only fees"):
        plan("pro", replace(allowance(100), quantity=5))


def test_a_version_is_legacy_or_current():
    """Y-08, Y-09"""
    assert plan("pro", fee(50)).billing_version == 1
    with pytest.raises(ValidationError):
        create_plan(product(), name="Odd", by="ops", currency="USD", billing_version=2)


@pytest.mark.parametrize(
    ("cadence", "interval", "meant"),
    [
        ("P1M", None, "P1M"),
        (None, "annual", "P1Y"),
        (None, "quarterly", "P3M"),
        ("P1Y", "monthly", "P1Y"),
        (None, None, "P1M"),
    ],
)
def test_the_iso_cadence_wins_over_the_deprecated_word(cadence, interval, meant):
    """Y-15, Y-16, Y-17"""
    assert plan_cadence(cadence, interval) == meant


@pytest.mark.parametrize("cadence", ["P1W", "P1M1D", "P0D", "monthly"])
def test_other_cadences_are_refused_with_the_allowed_ones(cadence):
    """Y-18"""
    with pytest.raises(ValidationError, match="P1M, P3M, P1Y"):
        plan_cadence(cadence)


def test_the_invoice_name_defaults_to_the_name():
    """Y-03"""
    assert plan("pro", fee(50)).invoice_display_name == "Pro"


def test_two_defaults_never_coexist_and_the_flag_moves_when_confirmed():
    """P-09, P-10, P-11"""
    first, second = assigned("first"), assigned("second")
    make_default(first, confirmed=False)

    with pytest.raises(DefaultExists, match="First is the default"):
        make_default(second, confirmed=False)
    make_default(reread(second), confirmed=True)

    assert [p.key for p in Plan.objects.default()] == ["second"]
    with pytest.raises(DatabaseError), transaction.atomic():
        Plan.objects.filter(key="first").update(is_default=True)


def test_publishing_an_edit_of_the_default_replaces_it_at_once():
    """P-12"""
    made = assigned("community", allowance(5))
    make_default(made, confirmed=False)
    first = made.current_version

    new_version(made, allowance(7))

    first.refresh_from_db()
    assert first.state == "archived"
    assert made.versions.live().count() == 1


def test_a_plan_with_two_live_versions_cannot_become_the_default():
    """P-13"""
    made = assigned("community", allowance(5))
    new_version(made, allowance(7))

    with pytest.raises(CannotBeDefault, match="more than one live version"):
        make_default(made, confirmed=False)


def test_a_billed_plan_cannot_become_the_default():
    with pytest.raises(CannotBeDefault):
        make_default(pro(), confirmed=False)


def test_access_is_duplicated_without_prices():
    """P-41"""
    source = plan("source", fee(50), allowance(100, price="0.1"), switch("sso"))
    target = plan("target", fee(20), allowance(7))

    draft = duplicate_access(source, target, by="ops")

    terms = draft.terms()
    assert [(i.key, i.access(), i.price) for i in terms.items if i.feature] == [
        (i.key, i.access(), None) for i in source.current_version.terms().items if i.feature
    ]
    assert [i.amount for i in terms.fees] == [20]


def test_a_blank_product_name_is_refused():
    with pytest.raises(ValidationError, match="name"):
        create_product("  ", by="ops", currency="USD")
    assert Product.objects.count() == 0
