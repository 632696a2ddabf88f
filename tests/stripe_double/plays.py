"""Every module that answers endpoints: importing this one makes them known."""

from tests.stripe_double import (
    catalog,
    credits,
    customers,
    events,
    invoices,
    lines,
    methods,
    payments,
    refunds,
    setups,
    subscriptions,
)

MODULES = (
    catalog, credits, customers, events, invoices, lines, methods, payments, refunds, setups, subscriptions,
)  # fmt: skip
