"""A CSV file that somebody uploads."""

import pytest
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile

from billing_admin.csv_file import LARGEST, CsvField


def refused(content: bytes) -> str | None:
    with pytest.raises(ValidationError) as error:
        CsvField().clean(SimpleUploadedFile("rows.csv", content))
    return error.value.code


def test_its_text_is_read_with_the_mark_of_its_encoding_or_without():
    assert CsvField().clean(SimpleUploadedFile("rows.csv", "\ufeffid\nÄrger".encode())) == "id\nÄrger"
    assert CsvField().clean(None) == ""


def test_what_is_no_text_or_too_large_is_refused():
    assert refused("Ärger".encode("latin-1")) == "file_not_text"
    assert refused(b"a" * (LARGEST + 1)) == "file_too_large"
