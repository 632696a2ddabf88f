"""Filters of lists under a name: saved from the list, shown above it, renamed, shared and deleted by whoever saved
them."""

from functools import cached_property
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404
from django.urls import Resolver404, resolve

from billing_admin.admin.acts import moment
from billing_admin.admin.links import link
from billing_admin.flows.saved_filters import change_filter, delete_filter, save_filter
from billing_admin.models import SavedFilter
from billing_admin.pages import ActPage
from billing_admin.site import page

VIEW = "billing_admin.view_savedfilter"


class FilterForm(forms.Form):
    name = forms.CharField(max_length=60, widget=forms.TextInput(attrs={"autocomplete": "off"}))
    is_shared = forms.BooleanField(label="Show it to everybody who sees this list", required=False)


class FilterPage(ActPage):
    """An act on a filter of one list; `at` in the address is the list, to which it goes back."""

    permission = VIEW
    form_class: type[forms.Form] = FilterForm

    @cached_property
    def at(self) -> str:
        """The address of a list of ours, without conditions."""
        path = self.request.GET.get("at", "")
        try:
            match = resolve(path)
        except Resolver404:
            raise Http404("There is no such list.") from None
        if match.namespace != "admin" or not match.url_name:
            raise Http404("There is no such list.")
        self.page_name = match.url_name
        return path

    def back(self) -> str:
        return self.at

    def act(self, form: Any) -> str:
        raise NotImplementedError


class SaveFilter(FilterPage):
    title = "Save this filter"
    submit = "Save filter"

    def back(self) -> str:
        query = self.request.GET.get("query", "")
        return f"{self.at}?{query}" if query else self.at

    def act(self, form: Any) -> str:
        at, said = self.at, form.cleaned_data
        kept = _at_its_field(
            lambda: save_filter(
                user=self.request.user,
                page=self.page_name,
                query=self.request.GET.get("query", ""),
                name=said["name"],
                is_shared=said["is_shared"],
                now=moment(self.request),
            )
        )
        messages.success(self.request, f"“{kept.name}” is saved; it stands above the list.")
        return f"{at}?{kept.query}"


class KeptFilterPage(FilterPage):
    @cached_property
    def kept(self) -> SavedFilter:
        found = SavedFilter.objects.filter(pk=self.kwargs["pk"], user=self.request.user.pk).first()
        if found is None:
            raise Http404("There is no such filter of yours.")
        return found


class ChangeFilter(KeptFilterPage):
    title = "Change this filter"
    submit = "Save filter"
    fields_template = "lists/filter_fields.html"

    def get_initial(self) -> dict[str, Any]:
        return {"name": self.kept.name, "is_shared": self.kept.is_shared}

    def extra(self) -> dict[str, Any]:
        return {"delete_url": link("filter_delete", self.kept.pk, at=self.at)}

    def act(self, form: Any) -> str:
        kept = _at_its_field(lambda: change_filter(self.kept, **form.cleaned_data, user=self.request.user))
        messages.success(self.request, f"“{kept.name}” is saved.")
        return f"{self.at}?{kept.query}"


class DeleteFilter(KeptFilterPage):
    form_class = forms.Form
    submit = "Delete filter"
    danger = True

    def get_title(self) -> str:
        return f"Delete the filter “{self.kept.name}”"

    def get_outcome(self) -> str:
        return "Nobody has it any more." if self.kept.is_shared else "It is gone from above the list."

    def act(self, form: Any) -> str:
        name = self.kept.name
        delete_filter(self.kept, user=self.request.user)
        messages.success(self.request, f"“{name}” is deleted.")
        return self.at


def _at_its_field(verb: Any) -> Any:
    try:
        return verb()
    except ValidationError as refused:
        if field := getattr(refused, "field", ""):
            raise ValidationError({field: refused}) from refused
        raise


page("filters/save/", name="filter_save")(SaveFilter.as_view())
page("filters/<int:pk>/", name="filter_change")(ChangeFilter.as_view())
page("filters/<int:pk>/delete/", name="filter_delete")(DeleteFilter.as_view())
