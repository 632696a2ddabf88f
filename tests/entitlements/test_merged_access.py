import pytest

from tests.builders import access, allowance, assigned, enable, feature, fee, on, plan, switch
from tests.instants import MARCH_1

pytestmark = pytest.mark.django_db


def test_a_feature_that_one_of_two_products_switches_on_is_on():
    """P-20"""
    acme = on(plan("pro", fee(50), switch("sso")))
    enable(acme, assigned("partner", allowance(10)), now=MARCH_1)

    assert access(acme, of="sso").has_access


def test_a_feature_that_no_product_mentions_gives_no_access():
    """P-23"""
    acme = on(plan("pro", fee(50)))
    feature("audit-log", type="boolean")

    answer = access(acme, of="audit-log")

    assert (answer.has_access, answer.allowed, answer.reason) == (False, False, "not_in_plan")
