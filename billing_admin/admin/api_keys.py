"""API keys: a list, a new key whose secret shows once, and the end of one. For the Admin role alone."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.admin import ModelAdmin
from unfold.decorators import display

from billing_admin.access import require
from billing_admin.flows.keys import issue_key, revoke_key
from billing_admin.models import ApiKey
from billing_admin.pages import ActPage, render_page
from billing_admin.templatetags.desk import state, when
from customers.journal import Actor

KEYS = "billing_admin.change_apikey"


class KeyPage(ActPage):
    permission = KEYS

    def back(self) -> str:
        return reverse("admin:billing_admin_apikey_changelist")

    def trail(self) -> list[tuple[str, str]]:
        return [("API keys", self.back()), (self.get_title(), "")]


class NewKeyForm(forms.Form):
    name = forms.CharField(
        max_length=120, help_text="Which program will use it.", widget=forms.TextInput(attrs={"autofocus": True})
    )
    role = forms.ModelChoiceField(
        Group.objects.order_by("name"), empty_label=None, help_text="The key may do what this role may do."
    )


class NewKey(KeyPage):
    permission = "billing_admin.add_apikey"
    form_class = NewKeyForm
    title = "New API key"
    submit = "Create key"
    outcome = "The secret shows once, on the next page."

    def form_valid(self, form: Any) -> HttpResponse:
        """The secret goes into this one answer: no session and no address keeps it."""
        key, secret = issue_key(
            form.cleaned_data["name"],
            form.cleaned_data["role"],
            actor=Actor.of(self.request.user),
            now=self.request.now,
        )
        context = {"key": key, "secret": secret, "back": self.back()}
        if self.is_dialog:
            response: HttpResponse = TemplateResponse(self.request, "api_keys/secret.html", context)
        else:
            trail = [("API keys", self.back()), (key.name, "")]
            response = render_page(self.request, "api_keys/secret_page.html", trail=trail, **context)
        return response


class RevokeForm(forms.Form):
    reason = forms.CharField(required=False, max_length=500, help_text="Shown in the history.")


class RevokeKey(KeyPage):
    form_class = RevokeForm
    submit = "Revoke key"
    danger = True
    outcome = "Every call with this key is refused from this moment. It cannot be taken back; make a new key instead."

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.key = get_object_or_404(ApiKey, pk=kwargs["pk"])

    def get_title(self) -> str:
        return f"Revoke {self.key}"

    def act(self, form: Any) -> str:
        key = revoke_key(
            self.key, reason=form.cleaned_data["reason"], actor=Actor.of(self.request.user), now=self.request.now
        )
        messages.success(self.request, f"{key} is revoked.")
        return self.back()


def key_page(request: HttpRequest, key: ApiKey) -> HttpResponse:
    trail = [("API keys", reverse("admin:billing_admin_apikey_changelist")), (key.name, "")]
    return render_page(request, "api_keys/page.html", trail=trail, key=key)


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    list_display = ("name", "ends_with", "role", "made", "created_by", "state")
    list_select_related = ("role",)
    search_fields = ("name", "public_id")
    search_help_text = "Name or id"
    list_per_page = 50
    show_full_result_count = False
    actions = None

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm(KEYS))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="Ends with")
    def ends_with(self, key: ApiKey) -> str:
        return f"…{key.hint}"

    @display(description="Made", ordering="created_at")
    def made(self, key: ApiKey) -> str:
        return when(key.created_at)

    @display(description="State", ordering="revoked_at")
    def state(self, key: ApiKey) -> str:
        return state("ended", "Revoked") if key.revoked_at else state("active")

    def get_urls(self) -> list[URLPattern]:
        revoke = self.admin_site.admin_view(RevokeKey.as_view())
        own = [path("<int:pk>/revoke/", revoke, name="billing_admin_apikey_revoke")]
        return own + list(super().get_urls())

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        return NewKey.as_view()(request)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        require(request, KEYS)
        key = ApiKey.objects.select_related("role")
        return key_page(request, get_object_or_404(key, pk=object_id if object_id.isdecimal() else 0))
