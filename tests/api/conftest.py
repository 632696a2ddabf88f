"""A caller of the API, at an instant."""

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Group, Permission
from django.test import Client

from billing_admin.models import ApiKey
from billing_admin.roles import ROLES, matches
from tests.instants import MARCH_1


@dataclass
class Answer:
    """What came back: `answer.status`, `answer["code"]`, `answer.headers`."""

    status: int
    body: Any
    headers: Any

    def __getitem__(self, name: str) -> Any:
        return self.body[name]


@dataclass
class Caller:
    """Calls the API with one key; `caller.at(instant)` is the same caller later."""

    secret: str = ""
    now: datetime = MARCH_1

    def at(self, now: datetime) -> "Caller":
        return replace(self, now=now)

    def get(self, path: str, **query: Any) -> Answer:
        return self.call("GET", path, query=query)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.call("POST", path, body, **headers)

    def patch(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.call("PATCH", path, body, **headers)

    def delete(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.call("DELETE", path, body, **headers)

    def call(
        self, method: str, path: str, body: Any = None, query: dict[str, Any] | None = None, **headers: str
    ) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.secret:
            sent["Authorization"] = f"Bearer {self.secret}"
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        with time_machine.travel(self.now, tick=False):
            response = Client(raise_request_exception=False).generic(
                method,
                f"/api/v1/{path}",
                data,
                content_type="application/json",
                headers=sent,
                query_params=query or None,
            )
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        return Answer(response.status_code, response.json() if is_json else response.getvalue(), response.headers)


def role(name: str) -> Group:
    """A role with its permissions, also after a test that emptied every table."""
    group, is_new = Group.objects.get_or_create(name=name)
    if is_new:
        for permission in Permission.objects.select_related("content_type"):
            code = f"{permission.content_type.app_label}.{permission.codename}"
            if any(matches(code, wanted) for wanted in ROLES[name]):
                group.permissions.add(permission)
    return group


def caller_with(name: str = "Admin", *, called: str = "backend") -> Caller:
    _, secret = ApiKey.issue(called, role(name), by="tests")
    return Caller(secret)


@pytest.fixture
def api(db) -> Caller:
    """A caller who may do everything."""
    return caller_with()
