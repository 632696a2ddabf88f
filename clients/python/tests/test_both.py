"""Every operation is in both clients."""

from inspect import isfunction

from back_office import AsyncClient, Client
from back_office.operations import Operations


def test_both_clients_have_every_operation() -> None:
    operations = {name for name, found in vars(Operations).items() if isfunction(found) and not name.startswith("_")}

    for client in (Client, AsyncClient):
        public = {name for name in vars(client) if not name.startswith("_")}
        assert public == operations | {"close", "forget"}
