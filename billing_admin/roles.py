"""The roles, as a table: who may do what. Groups with these permissions are made by a migration.

An app that gains a model or a permission gains a migration that calls `grant` again; `tests/test_roles.py` says when.
"""

from typing import Any

from django.contrib.auth.management import create_permissions

OURS = ("catalog", "customers", "entitlements", "invoicing", "payments", "deals", "billing_admin")
VIEW = "*.view_*"
EVERYTHING = "*.*"

OPS = (
    VIEW,
    "customers.add_customer",
    "customers.change_customer",
    "customers.delete_customer",
    "customers.assign_plan",
    "customers.add_note",
    "customers.change_note",
    "customers.delete_note",
    "entitlements.change_balance",
    "entitlements.void_usageevent",
    # What ends by itself; what stays takes the permission to add overrides.
    "entitlements.give_concession",
    "entitlements.add_grant",
    "entitlements.change_grant",
    "customers.apply_coupon",
)

ROLES: dict[str, tuple[str, ...]] = {
    "Read-only": (VIEW,),
    "Ops": OPS,
    "Sales engineer": (
        *OPS,
        "customers.enable_plan",
        "customers.cancel_subscription",
        "customers.activate_unpaid",
        "customers.extend_trial",
        "customers.override_price",
        "customers.change_subscription",
        "entitlements.add_featureoverride",
        "entitlements.bulk_override",
        "deals.add_deal",
        "deals.change_deal",
        "deals.send_deal",
        "deals.execute_deal",
        "deals.add_dealnote",
    ),
    "Finance": (
        VIEW,
        "invoicing.pay_invoice",
        "invoicing.void_invoice",
        "invoicing.approve_invoice",
        "invoicing.credit_invoice",
        "invoicing.edit_draft",
        "invoicing.write_off_invoice",
        "invoicing.top_up_wallet",
        "customers.activate_unpaid",
        "customers.pause_collection",
        "billing_admin.change_workerrun",
        "catalog.add_coupon",
        "catalog.change_coupon",
        "customers.apply_coupon",
        "invoicing.add_invoicecredit",
        "invoicing.change_invoicecredit",
        "invoicing.add_taxrate",
        "invoicing.change_taxrate",
        "invoicing.change_taxassignment",
        "invoicing.change_billingsettings",
        "payments.use_stripe",
        "payments.change_stripeaccount",
        "customers.change_subscription",
        "customers.migrate_plan",
        "billing_admin.decide_approval",
        "deals.add_dealnote",
    ),
    "Admin": (EVERYTHING,),
    # For the key of the company's own application: it asks, reports use, and signs customers up; it changes nothing.
    "Application": (VIEW, "entitlements.add_usageevent", "customers.add_customer"),
}


def grant(apps: Any, schema_editor: Any) -> None:
    """For migrations: make the groups, and give each every permission of its role that it lacks."""
    using = schema_editor.connection.alias
    for label in (*OURS, "auth"):
        ensure_permissions(apps, label, using)
    permissions = apps.get_model("auth", "Permission").objects.using(using)
    known = {f"{p.content_type.app_label}.{p.codename}": p for p in permissions.select_related("content_type")}
    for name, wanted in ROLES.items():
        group, _ = apps.get_model("auth", "Group").objects.using(using).get_or_create(name=name)
        group.permissions.add(*(row for code, row in known.items() if any(matches(code, w) for w in wanted)))


def ensure_permissions(apps: Any, label: str, using: str) -> None:
    """Django makes permissions only after all migrations; a migration that hands them out needs them now."""
    config = apps.get_app_config(label)
    config.models_module = True  # what create_permissions asks for; a migration's app config has none
    create_permissions(config, apps=apps, using=using, verbosity=0)
    config.models_module = None


def matches(code: str, wanted: str) -> bool:
    """`*.view_*` and `*.*` reach over our own apps; people, roles and keys are the Admin's alone."""
    label, _, codename = code.partition(".")
    if wanted == EVERYTHING:
        return label in (*OURS, "auth")
    if wanted == VIEW:
        return label in OURS and codename.startswith("view_")
    return code == wanted
