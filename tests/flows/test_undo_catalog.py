"""Taking back what was done to what we sell, and to the settings of the account."""

from decimal import Decimal

import pytest
from django.contrib.auth.models import Group

from billing_admin.flows import catalog, coupon_book, meters
from billing_admin.flows.keys import issue_key
from catalog.coupons import CouponDraft
from catalog.models import Meter, Plan
from invoicing.account import change_settings
from invoicing.models import BillingSettings
from invoicing.tax import set_default, tax_plan
from tests import builders as a
from tests.flows.undo_world import changes, last, seen, take_back, why
from tests.instants import MARCH_16

pytestmark = pytest.mark.django_db
BY = {"actor": a.STAFF, "now": MARCH_16}


def test_the_version_before_is_current_again():
    """Y-46"""
    pro = a.pro()
    first = pro.current_version
    second = a.new_version(pro, a.fee(60), a.allowance(100))
    catalog.make_current(first, **BY)

    take_back(last(None, "plan.made_current"), now=MARCH_16)

    assert Plan.objects.get(pk=pro.pk).current_version == second


def test_a_version_is_not_made_current_over_a_newer_choice():
    pro = a.pro()
    first = pro.current_version
    second = a.new_version(pro, a.fee(60), a.allowance(100))
    catalog.make_current(first, **BY)
    operation = last(None, "plan.made_current")
    catalog.make_current(second, **BY)

    assert why(operation, now=MARCH_16) == "Another version is current by now."


def test_an_archived_plan_is_offered_again_and_archived_once_more():
    pro = a.pro()
    catalog.archive_plan(pro, reason="old", **BY)

    restored = take_back(last(None, "plan.archived"), now=MARCH_16)
    assert Plan.objects.get(pk=pro.pk).archived_at is None

    take_back(restored, now=MARCH_16)
    assert Plan.objects.get(pk=pro.pk).archived_at == MARCH_16


def test_an_edited_plan_has_its_name_back():
    pro = a.pro()
    said = {"invoice_display_name": "Pro", "description": "", "currency": "USD", "billing_version": 1}
    catalog.edit_plan(pro, name="Professional", **said, **BY)
    operation = last(None, "plan.edited")

    assert changes(seen(operation, now=MARCH_16))["Name"] == ("Professional", "Pro")
    take_back(operation, now=MARCH_16)

    assert Plan.objects.get(pk=pro.pk).name == "Pro"


def test_a_product_has_its_name_back():
    api = a.product()
    catalog.edit_product(api, name="Platform", description="", **BY)

    take_back(last(None, "product.edited"), now=MARCH_16)

    api.refresh_from_db()
    assert api.name == "API"


def test_features_meters_and_coupons_that_were_archived_are_offered_again():
    feature = a.feature()
    catalog.archive_feature(feature, **BY)
    meter = meters.save_meter(Meter(slug="calls", name="Calls", event_name="call", aggregation="sum"), **BY)
    meters.archive_meter(meter, **BY)
    coupon = coupon_book.make_coupon(
        CouponDraft(name="Spring", kind="percent", percent=Decimal(5), duration="once"), **BY
    )
    coupon_book.archive_coupon(coupon, **BY)

    for verb in ("feature.archived", "meter.archived", "coupon.archived"):
        take_back(last(None, verb), now=MARCH_16)

    for row in (feature, meter, coupon):
        row.refresh_from_db()
        assert row.archived_at is None


def test_a_promo_code_that_was_switched_off_is_on_again():
    coupon = coupon_book.make_coupon(
        CouponDraft(name="Spring", kind="percent", percent=Decimal(5), duration="once"), **BY
    )
    promo = coupon_book.make_promo_code(coupon, "SPRING", **BY)
    coupon_book.turn_promo_code(promo, on=False, **BY)

    take_back(last(None, "promo_code.turned"), now=MARCH_16)

    promo.refresh_from_db()
    assert promo.is_active


def test_the_former_default_product_applies_again():
    former, other = a.default(), a.assigned("starter", of="starter")
    catalog.make_default(other, confirmed=True, **BY)

    take_back(last(None, "plan.made_default"), now=MARCH_16)

    assert Plan.objects.default().get() == former


def test_a_default_product_that_was_unset_applies_again():
    plan = a.default()
    catalog.unset_default(plan, **BY)

    take_back(last(None, "plan.unset_default"), now=MARCH_16)

    assert Plan.objects.default().get() == plan


def test_settings_change_back_unless_they_changed_since():
    change_settings(net_terms_days=30, **BY)
    first = last(None, "settings.changed")
    change_settings(net_terms_days=45, **BY)

    assert why(first, now=MARCH_16) == "Net terms days was changed again since."
    take_back(last(None, "settings.changed"), now=MARCH_16)

    assert BillingSettings.present().net_terms_days == 30


def test_taxes_of_a_plan_and_the_default_rate_change_back():
    pro, rate = a.pro(), a.tax_rate()
    tax_plan(pro, [rate], **BY)
    set_default(rate, is_default=True, **BY)

    take_back(last(None, "plan.taxes_changed"), now=MARCH_16)
    take_back(last(None, "tax_rate.default_changed"), now=MARCH_16)

    rate.refresh_from_db()
    assert (pro.tax_assignments.count(), rate.is_default) == (0, False)


def test_an_issued_key_is_revoked():
    key, _ = issue_key("backend", Group.objects.get(name="Application"), **BY)

    take_back(last(None, "api_key.issued"), now=MARCH_16)

    key.refresh_from_db()
    assert key.revoked_at == MARCH_16
