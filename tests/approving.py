"""What tests of approvals share: people with addresses, rules, and coupons to give."""

from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User

from billing_admin.flows.approval_rules import RuleTerms, write_rule
from billing_admin.models import ApprovalRule
from catalog.coupons import CouponDraft, create_coupon
from catalog.models import Coupon
from tests import builders as a
from tests.instants import MARCH_1

FINANCE = "Finance"


def person(role: str, *, called: str = "") -> User:
    """Somebody of a role, the same whenever they are asked for; named after it."""
    name = called or role.lower().replace(" ", "-")
    made = {"is_staff": True, "email": f"{name}@desk.example"}
    user, is_new = User.objects.get_or_create(username=name, defaults=made)
    if is_new:
        user.groups.add(Group.objects.get(name=role))
    return User.objects.get(pk=user.pk)


def rule(
    act: str, *, approver: str = FINANCE, above: str | None = None, for_roles: list[str] | None = None, **more: Any
) -> ApprovalRule:
    roles = Group.objects.filter(name__in=for_roles or [])
    size = None if above is None else Decimal(above)
    terms = RuleTerms(act, Group.objects.get(name=approver), above=size, for_roles=roles, **more)
    return write_rule(terms, actor=a.STAFF, now=MARCH_1)


def coupon(code: str, *, percent: str | None = None, amount: int | None = None, **more: Any) -> Coupon:
    more = {"duration": Coupon.Duration.ONCE} | more if percent or "kind" not in more else more
    draft = CouponDraft(
        code=code,
        name=code.capitalize(),
        kind=more.pop("kind", Coupon.Kind.PERCENT if percent else Coupon.Kind.FIXED),
        percent=None if percent is None else Decimal(percent),
        amount=amount,
        currency="USD" if amount else "",
        **more,
    )
    return create_coupon(draft, currencies=settings.CURRENCIES, now=MARCH_1)
