"""The API against its own description: what it asks for is answered as it says, and never with a 500."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core import signals
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from billing_admin.api.shapes import Answer, Body
from customers.models import Customer
from tests import builders as world
from tests.builders import allowance, fee, on, plan, static, switch

pytestmark = pytest.mark.django_db

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
FEW = settings(
    max_examples=3,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def described(db) -> Iterator[Any]:
    """The description as it is served. Requests leave the test's connection open, as those of Django's client do."""
    ends = [signals.request_started, signals.request_finished]
    for signal in ends:
        signal.disconnect(close_old_connections)
    yield schemathesis.openapi.from_wsgi("/api/v1/openapi.json", get_wsgi_application())
    for signal in ends:
        signal.connect(close_old_connections)


@pytest.fixture
def acme(db) -> Customer:
    """A customer on a plan with a feature of each type, in a world with a default product."""
    world.default(allowance(5))
    return on(plan("pro", fee(50), allowance(100), switch("sso"), static("100")))


def test_every_answer_is_as_the_description_says(described, acme, api):
    broken = {}
    for found in described.get_all_operations():
        operation = found.ok()
        try:
            answers_as_described(operation, acme, {"Authorization": f"Bearer {api.secret}"})
        except Exception as error:
            broken[operation.label] = str(error)

    assert not broken, "\n\n".join(f"{name}: {why}" for name, why in broken.items())


def answers_as_described(operation: Any, acme: Customer, headers: dict[str, str]) -> None:
    """Try what follows from the description of one operation, with a customer who is there in half of the cases."""

    @FEW
    @given(case=operation.as_strategy(), is_known=st.booleans())
    def attempt(case: Any, is_known: bool) -> None:
        if is_known:
            for names, where in (("customer_id", case.path_parameters), ("customerId", case.body)):
                if isinstance(where, dict) and names in where:
                    where[names] = acme.customer_id
        response = case.call(headers=headers)
        case.validate_response(response, checks=CHECKS)

    attempt()


def test_every_shape_has_a_name_of_its_own():
    """The description tells shapes by their names: of two with the same name one would be told for both."""
    named = defaultdict(set)
    for shape in shapes(Answer) | shapes(Body):
        named[shape.__name__].add(str(shape.model_json_schema()["properties"] if shape.model_fields else {}))

    assert [name for name, told in named.items() if len(told) > 1] == []


def shapes(kind: type[Any]) -> set[type[Any]]:
    found = set(kind.__subclasses__())
    return found.union(*(shapes(each) for each in found))
