"""Balances as the statements of the hot path read them, as the rows that the pure code is written for."""

from collections.abc import Sequence
from typing import Any

from entitlements.models import Balance, Grant

# All of the balance, and of the grant whose window it is.
BALANCE = tuple(field.attname for field in Balance._meta.concrete_fields)
GRANT = tuple(field.attname for field in Grant._meta.concrete_fields)
WIDTH = len(BALANCE) + len(GRANT)
CUSTOMER, FEATURE = BALANCE.index("customer_id"), BALANCE.index("feature_id")
COLUMNS = ", ".join([*(f"b.{name}" for name in BALANCE), *(f"g.{name}" for name in GRANT)])
_ID_OF_GRANT = len(BALANCE)

Values = Sequence[Any]


def balance_of(values: Values) -> Balance:
    """A row of `COLUMNS`."""
    row = Balance.from_db("default", BALANCE, values[:_ID_OF_GRANT])
    if values[_ID_OF_GRANT] is not None:
        row.grant = Grant.from_db("default", GRANT, values[_ID_OF_GRANT:WIDTH])
    return row
