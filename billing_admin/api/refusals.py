"""What the API refuses with, and how a refusal looks."""

from collections.abc import Iterable
from http import HTTPStatus
from itertools import islice
from typing import Any

from django.core.exceptions import ValidationError
from django.http import HttpResponse, JsonResponse

SENTENCES = {
    HTTPStatus.BAD_REQUEST: ("invalid_json", "The body is not valid JSON."),
    HTTPStatus.UNAUTHORIZED: ("unauthorized", "Send a valid API key: `Authorization: Bearer bk_…`."),
    HTTPStatus.NOT_FOUND: ("not_found", "There is nothing at this address."),
    HTTPStatus.METHOD_NOT_ALLOWED: ("method_not_allowed", "This address does not take this method."),
}


class NotFound(ValidationError):
    """`NotFound("customer", "acme")`: there is no such thing, or it is hidden."""

    def __init__(self, what: str, name: str):
        self.status = HTTPStatus.NOT_FOUND
        super().__init__(f"There is no {what} {name!r}.", code=f"{what}_not_found")


class BadValue(ValidationError):
    """A value that cannot be used, beside its field."""

    def __init__(self, field: str, message: str, code: str = "invalid"):
        self.field = field
        super().__init__(message, code=code)


class BadTable(ValidationError):
    """Rows of which cells cannot be read; `problems` names each as `{code, message, field}`, so many at most."""

    MOST = 1_000

    def __init__(self, problems: Iterable[dict[str, str]]):
        self.problems = list(islice(problems, self.MOST))
        self.field = self.problems[0]["field"]
        super().__init__(self.problems[0]["message"], code="bad_rows")


def answer(
    status: int, code: str, message: str, field: str | None = None, headers: dict[str, str] | None = None, **more: Any
) -> HttpResponse:
    body = {"code": code, "message": message} | ({"field": field} if field else {})
    return JsonResponse(
        body | {name: value for name, value in more.items() if value is not None}, status=status, headers=headers
    )


def standard(status: HTTPStatus) -> HttpResponse:
    code, message = SENTENCES[status]
    return answer(status, code, message)
