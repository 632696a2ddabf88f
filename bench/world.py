"""Many customers, quickly: one of each kind is made by the engine, the rest are copies of its rows.

Copies are the only rows in this project that no verb has written; they exist so that a bench of 100,000 customers
takes seconds. Each copy's ids follow from its number n: customer, subscription, phase and invoice are n, the j-th
balance (and so on) is 10 n + j.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.contrib.auth.models import Group, User
from django.db import connection
from django.db.models import Model

from billing_admin.flows.customers import create_customer
from billing_admin.flows.enable_plan import enable_plan, propose
from billing_admin.flows.gate import collect
from billing_admin.models import ApiKey
from catalog.charges import Price
from catalog.models import Feature, Plan, Product
from catalog.publish import create_plan, create_product, make_default, open_draft, publish, write_items
from catalog.terms import HARD, METERED, SOFT, ItemTerms
from customers.journal import Actor
from customers.models import Customer, Operation, Phase, Subscription
from entitlements.models import Balance, BalanceEntry, UsageEvent
from entitlements.track import track
from invoicing.models import Invoice, InvoiceLine, InvoiceSeries, Payment

BENCH = Actor("bench")
FIRST_ON_PLAN, FIRST_ON_DEFAULT, FIRST_TO_BILL = 10_001, 500_001, 1_000_001
# What verbs write later is numbered from here, out of the way of copies made later still.
BEYOND_COPIES = 100_000_000


@dataclass(frozen=True)
class World:
    """The customers that are copied, and the key of the API."""

    on_plan: Customer
    on_default: Customer
    secret: str
    now: datetime


def build(now: datetime) -> World:
    """The catalog, a customer on a plan, a customer on the default product: all made by the engine."""
    since = now - timedelta(days=10)
    features = [_feature("credits", "Credits"), _feature("api-calls", "API calls")]
    _sell(features, now=since)
    on_plan = _customer("template-plan", since)
    pro = Plan.objects.select_related("product", "current_version").get(key="pro")
    enable_plan(on_plan, propose(on_plan, pro), reason="", actor=BENCH, now=since)
    [invoice] = on_plan.invoices.all()
    collect(invoice, amount=invoice.due, reference="bench", actor=BENCH, now=since)
    on_default = _customer("template-default", since)
    for day in range(5):
        for who in (on_plan, on_default):
            track(who, feature="credits", amount=Decimal(1), now=since + timedelta(days=day + 1))
    # Paid by use, so that a renewal has a line for it beside its fee.
    track(on_plan, feature="api-calls", amount=Decimal(137), now=since + timedelta(days=6))
    _, secret = ApiKey.issue("bench", Group.objects.get(name="Admin"), by="bench")
    User.objects.create_user("bench", is_staff=True, is_superuser=True)
    return World(on_plan, on_default, secret, now)


def _feature(slug: str, name: str) -> Feature:
    return Feature.objects.create(slug=slug, name=name, type=METERED)


def _sell(features: Sequence[Feature], *, now: datetime) -> None:
    credits, calls = (feature.terms() for feature in features)
    items = [
        ItemTerms(key="base", amount=Decimal(50), cadence="P1M"),
        ItemTerms(key="credits", feature=credits, included=Decimal(10**9), reset="P1M", limit=HARD),
        ItemTerms(
            key="api-calls",
            feature=calls,
            included=Decimal(0),
            reset="P1M",
            limit=SOFT,
            price=Price(rate=Decimal("0.01")),
        ),
    ]
    api = Product.objects.create(key="api", name="API")
    pro = create_plan(api, name="Pro", key="pro", by="bench", currency="USD", items=items)
    publish(pro.versions.get(), message="first", by="bench", now=now)
    community = create_product("Community", by="bench", currency="USD")
    draft = open_draft(community, by="bench")
    write_items(draft, [ItemTerms(key="credits", feature=credits, included=Decimal(1000), reset="P1M", limit=HARD)])
    publish(draft, message="first", by="bench", now=now)
    community.refresh_from_db()
    make_default(community, confirmed=True)


def _customer(customer_id: str, since: datetime) -> Customer:
    return create_customer(customer_id=customer_id, name=customer_id, email="", actor=BENCH, now=since)


# Copies --------------------------------------------------------------------------------------------------------------


def copy(world: World, first: int, last: int, *, on_default: bool = False) -> None:
    """Copies of one kind of customer, numbered from first to last, with everything that they have."""
    template = world.on_default if on_default else world.on_plan
    customer, contract = "g.n", "g.n"
    _copy(
        Customer,
        [template.pk],
        (first, last),
        step=1,
        public_id="'cus_' || lpad(g.n::text, 16, '0')",
        customer_id="'bench-' || g.n",
        name="'Bench Company ' || g.n",
        email="'ops@bench-' || g.n || '.example'",
    )
    contracts = Subscription.objects.filter(customer=template).values_list("pk", flat=True)
    numbers = (first, last)
    _copy(
        Subscription,
        contracts,
        numbers,
        step=1,
        public_id="'sub_' || lpad(g.n::text, 16, '0')",
        customer_id=customer,
    )
    phases = Phase.objects.filter(subscription__in=contracts)
    _copy(Phase, _keys(phases), numbers, step=1, subscription_id=contract)
    buckets = Balance.objects.filter(customer=template)
    owner = {} if on_default else {"subscription_id": contract}
    _copy(Balance, _keys(buckets), numbers, customer_id=customer, **owner)
    for place, bucket in enumerate(_keys(buckets)):
        entries = BalanceEntry.objects.filter(balance_id=bucket)
        _copy(BalanceEntry, _keys(entries), numbers, offset=3 * place, balance_id=f"g.n * 10 + {place}")
    _copy(
        Operation,
        _keys(Operation.objects.filter(customer=template)),
        numbers,
        public_id="'op_' || lpad((g.n * 10 + {j})::text, 16, '0')",
        customer_id=customer,
    )
    _copy(UsageEvent, _keys(UsageEvent.objects.filter(customer=template)), numbers, customer_id=customer)
    series = InvoiceSeries.objects.filter(customer=template)
    _copy(InvoiceSeries, _keys(series), numbers, step=1, customer_id=customer, prefix="'B' || g.n")
    invoices = Invoice.objects.filter(customer=template)
    _copy(
        Invoice,
        _keys(invoices),
        numbers,
        step=1,
        public_id="'in_' || lpad(g.n::text, 16, '0')",
        token="'bench-' || g.n",  # noqa: S106  a column of a made-up world
        number="'B' || g.n || '-0001'",
        customer_id=customer,
        subscription_id=contract,
    )
    lines = InvoiceLine.objects.filter(invoice__in=invoices)
    _copy(InvoiceLine, _keys(lines), numbers, invoice_id="g.n", subscription_id=contract, phase_id="g.n")
    payments = Payment.objects.filter(invoice__in=invoices)
    _copy(
        Payment, _keys(payments), numbers, public_id="'pay_' || lpad((g.n * 10 + {j})::text, 16, '0')", invoice_id="g.n"
    )


def _keys(rows) -> list[int]:
    return list(rows.order_by("pk").values_list("pk", flat=True))


def _copy(
    model: type[Model],
    keys: Sequence[int],
    numbers: tuple[int, int],
    *,
    step: int = 10,
    offset: int = 0,
    **changes: str,
) -> None:
    """Copy rows of one table once for each number n; whatever is not changed stays as in the original."""
    table = model._meta.db_table
    columns = [field.column for field in model._meta.concrete_fields]
    for place, key in enumerate(keys):
        j = place + offset
        values = {"id": "g.n" if step == 1 else f"g.n * {step} + {j}"}
        values |= {name: text.replace("{j}", str(j)) for name, text in changes.items()}
        chosen = ", ".join(values.get(column, f't."{column}"') for column in columns)
        named = ", ".join(f'"{column}"' for column in columns)
        with connection.cursor() as cursor:
            cursor.execute(
                f'INSERT INTO "{table}" ({named}) SELECT {chosen} FROM "{table}" t, generate_series(%s, %s) AS g(n) '  # noqa: S608  names from our own models
                "WHERE t.id = %s",
                [*numbers, key],
            )


def settle_down() -> None:
    """Let sequences go on after the copies, and the planner know what there is."""
    models = [Customer, Subscription, Phase, Balance, BalanceEntry, Operation, UsageEvent]
    models += [InvoiceSeries, Invoice, InvoiceLine, Payment]
    with connection.cursor() as cursor:
        for model in models:
            table = model._meta.db_table
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence(%s, 'id'), (SELECT greatest(max(id) + 1, %s) FROM \"{table}\"))",  # noqa: S608
                [table, BEYOND_COPIES],
            )
        cursor.execute("VACUUM (ANALYZE)")


# What is due ---------------------------------------------------------------------------------------------------------


def make_renewals_due(numbers: range) -> None:
    """Let these contracts have begun a month earlier: their first renewal is due."""
    _shift("customers_subscription", ["started_at", "period_starts_at", "period_ends_at", "bills_at"], "id", numbers)
    _shift("customers_phase", ["anchor", "starts_at"], "id", numbers)
    _shift("entitlements_balance", ["starts_at", "ends_at"], "customer_id", numbers)
    _shift("invoicing_invoiceline", ["starts_at", "ends_at"], "invoice_id", numbers)


def make_resets_due(numbers: range) -> None:
    """Let these customers have come a month earlier: their first window has ended."""
    _shift("customers_customer", ["created_at"], "id", numbers)
    _shift("entitlements_balance", ["starts_at", "ends_at"], "customer_id", numbers)


def _shift(table: str, columns: list[str], key: str, numbers: range) -> None:
    changes = ", ".join(f"{column} = {column} - interval '1 month'" for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET {changes} WHERE {key} BETWEEN %s AND %s",  # noqa: S608  names from this file
            [numbers.start, numbers.stop - 1],
        )
        cursor.execute(f"ANALYZE {table}")
