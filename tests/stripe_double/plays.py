"""Every module that answers endpoints: importing this one makes them known."""

from tests.stripe_double import (
    catalog,
    collecting,
    credits,
    customers,
    events,
    invoices,
    lines,
    methods,
    payments,
    refunds,
    settling,
    setups,
    subscriptions,
)

MODULES = (
    catalog, collecting, credits, customers, events, invoices, lines, methods, payments, refunds, settling, setups,
    subscriptions,
)  # fmt: skip
