"""The admin frame's looks and its navigation. Unfold reads `UNFOLD` through the settings."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse


class Entry(NamedTuple):
    title: str
    icon: str
    url: str
    permission: str


STRIPE = "Stripe"
APPROVALS = "admin:approvals"
# A page that is not there (yet) has no entry, so a module may come and go without a change here.
NAVIGATION: dict[str, list[Entry]] = {
    "Customers": [
        Entry("Customers", "group", "admin:customers_customer_changelist", "customers.view_customer"),
        Entry("Subscriptions", "autorenew", "admin:customers_subscription_changelist", "customers.view_subscription"),
        Entry("Deals", "handshake", "admin:deals_deal_changelist", "deals.view_deal"),
        Entry("What is coming", "event_upcoming", "admin:coming", "customers.view_subscription"),
    ],
    "Catalog": [
        Entry("Products", "deployed_code", "admin:catalog_product_changelist", "catalog.view_product"),
        Entry("Plans", "sell", "admin:catalog_plan_changelist", "catalog.view_plan"),
        Entry("Migrations", "move_down", "admin:migrations", "customers.migrate_plan"),
        Entry("Features", "toggle_on", "admin:catalog_feature_changelist", "catalog.view_feature"),
        Entry("Meters", "speed", "admin:catalog_meter_changelist", "catalog.view_meter"),
        Entry("Coupons", "redeem", "admin:catalog_coupon_changelist", "catalog.view_coupon"),
    ],
    "Money": [
        Entry("Revenue", "trending_up", "admin:revenue", "invoicing.view_invoice"),
        Entry("Invoices", "receipt_long", "admin:invoicing_invoice_changelist", "invoicing.view_invoice"),
        Entry("Payments", "payments", "admin:invoicing_payment_changelist", "invoicing.view_payment"),
        Entry(
            "Account credit",
            "account_balance_wallet",
            "admin:invoicing_creditentry_changelist",
            "invoicing.view_creditentry",
        ),
        Entry("Tax rates", "percent", "admin:invoicing_taxrate_changelist", "invoicing.view_taxrate"),
        Entry(
            "Special prices",
            "price_change",
            "admin:customers_priceoverride_changelist",
            "customers.view_priceoverride",
        ),
    ],
    "Usage": [
        Entry(
            "Overrides",
            "swap_vert",
            "admin:entitlements_featureoverride_changelist",
            "entitlements.view_featureoverride",
        ),
        Entry("Events", "bolt", "admin:entitlements_usageevent_changelist", "entitlements.view_usageevent"),
        Entry("Balances", "data_usage", "admin:entitlements_balance_changelist", "entitlements.view_balance"),
    ],
    # Only with keys of Stripe.
    STRIPE: [
        Entry("Backlog", "pending_actions", "admin:stripe_backlog", "payments.view_stripeinvoice"),
        Entry("Stripe customers", "supervised_user_circle", "admin:stripe_customers", "payments.view_stripecustomer"),
        Entry("Mirror", "sync_alt", "admin:stripe_mirror", "payments.view_striperun"),
        Entry("Reconciliation", "balance", "admin:stripe_compare", "payments.view_difference"),
        Entry("Events", "move_to_inbox", "admin:payments_stripeevent_changelist", "payments.view_stripeevent"),
        Entry("Stripe settings", "credit_card", "admin:stripe_settings", "payments.view_stripeaccount"),
    ],
    "System": [
        Entry("Approvals", "how_to_reg", APPROVALS, "billing_admin.view_approvalrequest"),
        Entry("Runs", "schedule", "admin:billing_admin_workerrun_changelist", "billing_admin.view_workerrun"),
        Entry("Exports", "download", "admin:billing_admin_export_changelist", "billing_admin.view_export"),
        Entry("Imports", "upload", "admin:billing_admin_batch_changelist", "billing_admin.view_batch"),
        Entry("History", "history", "admin:customers_operation_changelist", "customers.view_operation"),
        Entry(
            "Billing settings",
            "tune",
            "admin:invoicing_billingsettings_changelist",
            "invoicing.view_billingsettings",
        ),
        Entry("API keys", "key", "admin:billing_admin_apikey_changelist", "billing_admin.change_apikey"),
        Entry("People", "badge", "admin:auth_user_changelist", "auth.view_user"),
        Entry("Roles", "shield_person", "admin:auth_group_changelist", "auth.view_group"),
    ],
}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar for this person: groups of pages that exist and that they may see."""
    from payments.gateway import enabled  # the settings import this module, and must not wait for Stripe's library

    home = reverse("admin:index")
    groups: list[dict[str, Any]] = [
        {"items": [{"title": "Home", "icon": "home", "link": home, "active": request.path == home}]}
    ]
    for title, entries in NAVIGATION.items():
        if title == STRIPE and not enabled():
            continue
        if items := list(visible(entries, request)):
            groups.append({"title": title, "items": items})
    return groups


def visible(entries: list[Entry], request: HttpRequest) -> Iterator[dict[str, Any]]:
    for entry in entries:
        if not request.user.has_perm(entry.permission):
            continue
        try:
            link = reverse(entry.url)
        except NoReverseMatch:
            continue
        yield {
            "title": entry.title,
            "icon": entry.icon,
            "link": link,
            "active": request.path.startswith(link),
            **(badge(request) if entry.url == APPROVALS else {}),
        }


def badge(request: HttpRequest) -> dict[str, Any]:
    """How many approvals wait for this person; counted only for those who may decide, once in a request."""
    from billing_admin.flows.approvals import waiting_for  # the settings import this module before any model is there

    found: int | None = getattr(request, "approvals_waiting", None)
    if found is None:
        found = waiting_for(request.user, request.now)  # type: ignore[arg-type,attr-defined]  # people, at one instant
        request.approvals_waiting = found  # type: ignore[attr-defined]
    return {"badge": found, "badge_variant": "warning"} if found else {}


def styles(_request: HttpRequest) -> str:
    return static("desk/desk.css")


def favicon(_request: HttpRequest) -> str:
    return static("desk/favicon.svg")


def preferences(_request: HttpRequest) -> str:
    return reverse("admin:preferences")


def script(_request: HttpRequest) -> str:
    return static("desk/desk.js")


UNFOLD = {
    "SITE_TITLE": "Billing back office",
    "SITE_HEADER": "Billing back office",
    "SITE_SYMBOL": "receipt_long",
    "SITE_URL": None,
    "SHOW_HISTORY": True,
    "DASHBOARD_CALLBACK": "billing_admin.admin.dashboard.home",
    "SHOW_VIEW_ON_SITE": False,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": favicon}],
    "BORDER_RADIUS": "6px",
    "STYLES": [styles],
    "SCRIPTS": [script],
    "SIDEBAR": {
        "show_search": True,
        "command_search": True,
        "show_all_applications": False,
        "navigation": navigation,
    },
    "ACCOUNT": {"navigation": [{"title": "Preferences", "link": preferences}]},
    "COMMAND": {"show_history": False},
    "COLORS": {
        "base": {
            "50": "oklch(98.6% .002 260)",
            "100": "oklch(96.6% .004 260)",
            "200": "oklch(92.4% .007 260)",
            "300": "oklch(86.6% .011 260)",
            "400": "oklch(70.6% .018 260)",
            "500": "oklch(53.6% .021 260)",
            "600": "oklch(43.6% .022 260)",
            "700": "oklch(36% .022 260)",
            "800": "oklch(26.6% .02 262)",
            "900": "oklch(19.6% .018 264)",
            "950": "oklch(13.6% .015 264)",
        },
        "primary": {
            "50": "oklch(97% .014 268)",
            "100": "oklch(94% .03 268)",
            "200": "oklch(88.4% .06 268)",
            "300": "oklch(80% .1 268)",
            "400": "oklch(70.6% .14 268)",
            "500": "oklch(62% .18 268)",
            "600": "oklch(52.4% .205 268)",
            "700": "oklch(46% .19 268)",
            "800": "oklch(39.6% .16 268)",
            "900": "oklch(34.6% .13 268)",
            "950": "oklch(25% .09 268)",
        },
    },
}
