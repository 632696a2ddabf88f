from django.apps import AppConfig

# As a module: a config imported by name would be a second candidate in this file for Django's discovery.
from django.contrib.admin import apps as admin_apps


class BackOfficeAdminConfig(admin_apps.AdminConfig):
    """Django's admin, with our site as the default one."""

    default = False
    default_site = "billing_admin.site.BackOffice"


class BillingAdminConfig(AppConfig):
    default = True
    name = "billing_admin"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from billing_admin import checks  # noqa: F401  registers them
        from billing_admin.flows import (  # noqa: F401  they register acts that can need approval, and how acts are taken back
            acts_contracts,
            acts_customers,
            acts_features,
            acts_invoices,
            acts_money,
            acts_overrides,
            acts_plans,
            acts_rewards,
            acts_units,
            batch_act,
            deal_approval,
            migrate,
            undo_balances,
            undo_catalog,
            undo_contracts,
            undo_coupons,
            undo_customers,
            undo_deals,
            undo_migrations,
            undo_overrides,
            undo_plans,
        )
        from billing_admin.stripe_provider import register  # its models are there only now

        register()
