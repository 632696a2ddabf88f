"""A CSV file that somebody uploads, as text."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

LARGEST = 1_000_000  # bytes


class CsvField(forms.FileField):
    """Its value is the text of the file; empty without one. Too large a file and other encodings are refused."""

    def __init__(self) -> None:
        picker = forms.FileInput(attrs={"accept": ".csv,text/csv"})
        super().__init__(label="or a file", required=False, widget=picker)

    def clean(self, data: Any, initial: Any = None) -> str:
        file = super().clean(data, initial)
        if not file:
            return ""
        if (file.size or 0) > LARGEST:
            raise ValidationError("The file is too large: at most 1 MB.", code="file_too_large")
        try:
            text: str = file.read().decode("utf-8-sig")
        except UnicodeDecodeError:
            why = "The file is no text in UTF-8. Save it as “CSV UTF-8”."
            raise ValidationError(why, code="file_not_text") from None
        return text
