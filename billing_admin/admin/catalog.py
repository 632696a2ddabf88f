"""The catalog in the admin: lists here, pages in the modules beside it."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path
from django.utils.html import format_html
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display

from billing_admin.admin import catalog_compare, catalog_features, catalog_plans, catalog_products
from billing_admin.plan_page import item_row
from billing_admin.templatetags.desk import state
from catalog.models import Feature, Plan, PlanItem, PlanVersion, Product


class ArchivedFilter(admin.SimpleListFilter):
    """Archived rows are hidden until asked for."""

    title = "archived"
    parameter_name = "archived"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Archived"), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        for value, title in ((None, "Not archived"), *self.lookup_choices):
            yield {
                "selected": self.value() == value,
                "query_string": changelist.get_query_string(
                    {self.parameter_name: value} if value else {}, [self.parameter_name]
                ),
                "display": title,
            }

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        if self.value() == "all":
            return queryset
        return queryset.filter(archived_at__isnull=self.value() != "yes")


class DeskAdmin(ModelAdmin):
    """A list by unfold, with pages of our own behind it. Nothing is deleted from a list."""

    list_per_page = 50
    show_full_result_count = False
    empty_value_display = "—"
    add_in_dialog = False
    list_filter_sheet = False
    actions = None

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def page(self, address: str, view: Any, name: str) -> URLPattern:
        pattern: URLPattern = path(address, self.admin_site.admin_view(view), name=f"catalog_{name}")
        return pattern

    def found(self, object_id: str) -> Any:
        pk = unquote(object_id)
        return get_object_or_404(self.model, pk=pk if pk.isdecimal() else 0)


@admin.register(Feature)
class FeatureAdmin(DeskAdmin):
    list_display = ("named", "slug", "kind", "unit", "plans", "state")
    list_filter = ("type", ArchivedFilter)
    search_fields = ("name", "slug")
    search_help_text = "Name or slug"

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Feature]":
        features: QuerySet[Feature] = super().get_queryset(request)
        return features.annotate(on_plans=Count("items__version__plan", distinct=True))

    @display(description="Name", ordering="name")
    def named(self, feature: Feature) -> str:
        return feature.name

    @display(description="Type", ordering="type")
    def kind(self, feature: Feature) -> str:
        return feature.get_type_display() + (", allocated" if feature.terms().is_allocated else "")

    @display(description="On plans", ordering="on_plans")
    def plans(self, feature: Any) -> str:
        return f"{feature.on_plans}" if feature.on_plans else "—"

    @display(description="State")
    def state(self, feature: Feature) -> str:
        return state("archived" if feature.archived_at else "active", "" if feature.archived_at else "Offered")

    def get_urls(self) -> list[URLPattern]:
        own = [
            self.page("<int:pk>/archive/", catalog_features.ArchiveFeature.as_view(), "feature_archive"),
            self.page("<int:pk>/restore/", catalog_features.RestoreFeature.as_view(), "feature_restore"),
            self.page("<int:pk>/remove/", catalog_features.DeleteFeature.as_view(), "feature_remove"),
        ]
        return own + list(super().get_urls())

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        return catalog_features.NewFeature.as_view()(request)

    def change_view(self, request: Any, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        return catalog_features.EditFeature.as_view()(request, pk=self.found(object_id).pk)


@admin.register(Product)
class ProductAdmin(DeskAdmin):
    add_in_dialog = True
    list_display = ("name", "key", "main_plans", "add_ons", "state")
    list_filter = (ArchivedFilter,)
    search_fields = ("name", "key")
    search_help_text = "Name or key"

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Product]":
        offered = Q(plans__archived_at=None)
        counted = Count("plans", filter=offered & Q(plans__add_on=False), distinct=True)
        beside = Count("plans", filter=offered & Q(plans__add_on=True), distinct=True)
        products: QuerySet[Product] = super().get_queryset(request)
        return products.annotate(mains=counted, beside=beside)

    @display(description="Plans", ordering="mains")
    def main_plans(self, product: Any) -> str:
        return str(product.mains)

    @display(description="Add-ons", ordering="beside")
    def add_ons(self, product: Any) -> str:
        return str(product.beside) if product.beside else "—"

    @display(description="State")
    def state(self, product: Product) -> str:
        return state("archived") if product.archived_at else state("active", "Offered")

    def get_urls(self) -> list[URLPattern]:
        own = [self.page("<int:pk>/edit/", catalog_products.EditProduct.as_view(), "product_edit")]
        return own + list(super().get_urls())

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        return catalog_products.NewProduct.as_view()(request)

    def change_view(self, request: Any, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        return catalog_products.product_page(request, self.found(object_id))


@admin.register(Plan)
class PlanAdmin(DeskAdmin):
    list_display = ("named", "product", "kind_word", "currency", "version", "state")
    list_filter = ("kind", "add_on", "currency", ArchivedFilter)
    list_select_related = ("product", "current_version")
    search_fields = ("name", "invoice_display_name", "key", "product__name")
    search_help_text = "Name, key or product"

    @display(description="Plan", ordering="name")
    def named(self, plan: Plan) -> str:
        return format_html("{}{}", plan.name, " · add-on" if plan.add_on else "")

    @display(description="Kind", ordering="kind")
    def kind_word(self, plan: Plan) -> str:
        return {"billed": "Billed", "assigned": "Assigned", "stripe": "Stripe"}[plan.kind]

    @display(description="Version")
    def version(self, plan: Plan) -> str:
        return plan.current_version.label if plan.current_version else "—"

    @display(description="State")
    def state(self, plan: Plan) -> str:
        return catalog_plans.plan_state(plan)

    def get_urls(self) -> list[URLPattern]:
        pages = catalog_plans
        own = [
            self.page("<int:pk>/edit/", pages.edit_plan_page, "plan_edit"),
            self.page("<int:pk>/compare/", catalog_compare.compare_page, "plan_compare"),
            self.page("<int:pk>/items/", pages.redraw_items, "plan_items"),
            self.page("<int:pk>/items/example/", pages.try_price, "plan_example"),
            self.page("<int:pk>/details/", pages.EditDetails.as_view(), "plan_details"),
            self.page("<int:pk>/publish/", pages.Publish.as_view(), "plan_publish"),
            self.page("<int:pk>/discard/", pages.DiscardDraft.as_view(), "plan_discard"),
            self.page("<int:pk>/duplicate/", pages.DuplicateAccess.as_view(), "plan_duplicate"),
            self.page("<int:pk>/default/", pages.MakeDefault.as_view(), "plan_default"),
            self.page("<int:pk>/not-default/", pages.UnsetDefault.as_view(), "plan_not_default"),
            self.page("<int:pk>/archive/", pages.ArchivePlan.as_view(), "plan_archive"),
            self.page("<int:pk>/restore/", pages.RestorePlan.as_view(), "plan_restore"),
            self.page("<int:pk>/versions/<int:number>/current/", pages.MakeCurrent.as_view(), "version_current"),
            self.page("<int:pk>/versions/<int:number>/archive/", pages.ArchiveVersion.as_view(), "version_archive"),
        ]
        return own + list(super().get_urls())

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        return catalog_products.NewPlan.as_view()(request)

    def change_view(self, request: Any, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        return catalog_plans.plan_page(request, self.found(object_id))


class ItemInline(TabularInline):
    model = PlanItem
    extra = 0
    can_delete = False
    show_change_link = False
    hide_title = True
    fields = readonly_fields = ("item", "included_words", "resets_words", "limit_words", "price_words")

    def get_queryset(self, request: HttpRequest) -> "QuerySet[PlanItem]":
        items: QuerySet[PlanItem] = super().get_queryset(request)
        return items.select_related("feature", "version__plan")

    @display(description="Item")
    def item(self, item: PlanItem) -> str:
        return item_row(item.terms(), item.version.plan.currency).label

    @display(description="Included")
    def included_words(self, item: PlanItem) -> str:
        return item_row(item.terms(), item.version.plan.currency).included

    @display(description="Resets")
    def resets_words(self, item: PlanItem) -> str:
        return item_row(item.terms(), item.version.plan.currency).resets

    @display(description="Limit")
    def limit_words(self, item: PlanItem) -> str:
        return item_row(item.terms(), item.version.plan.currency).limit

    @display(description="Price")
    def price_words(self, item: PlanItem) -> str:
        return item_row(item.terms(), item.version.plan.currency).price

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(PlanVersion)
class PlanVersionAdmin(DeskAdmin):
    """To look up only. A draft is written in the items editor; a published version is frozen."""

    inlines = (ItemInline,)
    list_display = ("__str__", "state", "cadence", "published_at", "created_by")
    list_filter = ("state", "tailored", "cadence")
    list_select_related = ("plan",)
    search_fields = ("plan__name", "plan__key")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
