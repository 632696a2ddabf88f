"""Who works here, and in which role. People get roles; single permissions are not handed out here."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from billing_admin.templatetags.desk import state

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class PersonAdmin(DjangoUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "name", "email", "roles", "may_sign_in", "last_login")
    list_filter = ("groups", "is_active", "is_superuser")
    list_filter_sheet = False
    search_help_text = "Name or e-mail"
    empty_value_display = "—"
    filter_horizontal = ()
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Rights", {"fields": ("is_active", "is_staff", "groups", "is_superuser")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")

    def get_queryset(self, request: HttpRequest) -> "QuerySet[User]":
        people: QuerySet[User] = super().get_queryset(request)
        return people.prefetch_related("groups")

    @display(description="Name", ordering="last_name")
    def name(self, person: User) -> str:
        return person.get_full_name()

    @display(description="Roles")
    def roles(self, person: User) -> str:
        names = [group.name for group in person.groups.all()]
        return ", ".join(["Superuser", *names] if person.is_superuser else names)

    @display(description="State", ordering="is_active")
    def may_sign_in(self, person: User) -> str:
        return state("active") if person.is_active and person.is_staff else state("off", "May not sign in")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Only a superuser makes another one; the Admin role hands out roles."""
        return self.readonly_fields if request.user.is_superuser else (*self.readonly_fields, "is_superuser")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and obj.is_superuser and not request.user.is_superuser:
            return False
        return bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What people did stays with their name; who leaves is made inactive."""
        return False


@admin.register(Group)
class RoleAdmin(DjangoGroupAdmin, ModelAdmin):
    list_display = ("name", "people")
    search_help_text = "Name"

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Group]":
        roles: QuerySet[Group] = super().get_queryset(request)
        return roles.annotate(count=Count("user"))

    @display(description="People", ordering="count")
    def people(self, role: Any) -> str:
        return str(role.count)
