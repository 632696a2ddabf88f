"""Balances as the statements of the hot path read them, as the rows that the pure code is written for."""

from collections.abc import Sequence
from typing import Any

from entitlements.models import Balance, Grant

# Of the balance, then of the grant whose window it is.
BALANCE = (
    "id",
    "customer_id",
    "feature_id",
    "source",
    "subscription_id",
    "plan_id",
    "item_id",
    "grant_id",
    "override_id",
    "label",
    "starts_at",
    "ends_at",
    "granted",
    "adjusted",
    "used",
    "withheld",
    "withheld_by_id",
    "priority",
)
GRANT = ("id", "units", "starts_at", "ends_at", "recurs")
WIDTH = len(BALANCE) + len(GRANT)
ID, CUSTOMER, FEATURE = 0, 1, 2
COLUMNS = ", ".join([*(f"b.{name}" for name in BALANCE), *(f"g.{name}" for name in GRANT)])
_ID_OF_GRANT = len(BALANCE)

Values = Sequence[Any]


def balance_of(values: Values) -> Balance:
    """A row of `COLUMNS`; what use does not ask for is left out."""
    row = Balance.from_db("default", BALANCE, values[:_ID_OF_GRANT])
    if values[_ID_OF_GRANT] is not None:
        row.grant = Grant.from_db("default", GRANT, values[_ID_OF_GRANT:WIDTH])
    return row
