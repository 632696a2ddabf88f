"""Which endpoints Stripe has and what each accepts, read from the SDK's services: facts, no behaviour."""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import stripe
import stripe.params

# A service of the SDK per resource that the double plays.
SERVICES = (
    "Account", "Customer", "CustomerPaymentMethod", "CustomerBalanceTransaction", "PaymentMethod", "SetupIntent",
    "PaymentIntent", "Invoice", "InvoiceLineItem", "InvoiceItem", "InvoicePayment", "Refund", "CreditNote",
    "CreditNoteLineItem", "Charge", "Dispute", "Product", "Price", "Subscription", "SubscriptionItem", "Event",
)  # fmt: skip


@dataclass(frozen=True)
class Endpoint:
    """`path` is a template as "/v1/invoices/{invoice}/pay"; `params` the TypedDict of what may be sent."""

    method: str
    path: str
    params: Any

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile("^" + re.sub(r"\{\w+\}", "([^/]+)", self.path) + "$")


@cache
def known() -> dict[tuple[str, str], Endpoint]:
    """Every endpoint of the services above, by method and path template with anonymous places."""
    found: dict[tuple[str, str], Endpoint] = {}
    for name in SERVICES:
        for endpoint in endpoints_of(name):
            found[endpoint.method, anonymous(endpoint.path)] = endpoint
    return found


@cache
def in_order() -> list[Endpoint]:
    """Addresses with fewer places first: /v1/customers/search is no customer."""
    return sorted(known().values(), key=lambda endpoint: endpoint.pattern.groups)


def anonymous(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


def endpoints_of(resource: str) -> Iterator[Endpoint]:
    module = "stripe._" + re.sub(r"(?<!^)(?=[A-Z])", "_", resource).lower() + "_service"
    service = getattr(importlib.import_module(module), f"{resource}Service")
    tree = ast.parse(textwrap.dedent(inspect.getsource(service)))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and (request := request_of(node)):
            method, path = request
            yield Endpoint(method, path, params_of(node))


def request_of(function: ast.FunctionDef) -> tuple[str, str] | None:
    """The method and path in the body's `self._request("post", "/v1/…".format(…))`."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "_request":
            texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and part.value]
            words = [text for text in texts if isinstance(text, str)]
            method = next(word for word in words if word in {"get", "post", "delete"})
            return method.upper(), next(word for word in words if word.startswith("/v1"))
    return None


def params_of(function: ast.FunctionDef) -> Any:
    for argument in [*function.args.args, *function.args.kwonlyargs]:
        if argument.arg == "params" and argument.annotation:
            name = re.search(r"(\w+Params)", ast.unparse(argument.annotation))
            return getattr(stripe.params, name[1]) if name else None
    return None
