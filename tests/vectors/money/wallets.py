"""Wallets: what comes in, what an event takes, and what it refuses. Played in books that are thrown away."""

from decimal import Decimal
from itertools import count
from typing import Any

from catalog.charges import Price
from customers.models import Customer
from invoicing.wallet import InsufficientFunds, top_up, wallet_of
from tests import builders
from tests.vectors.money.books import START, the_books
from tests.vectors.money.values import Unplayed, Vector

_numbers = count(1)


def top_up_rounded(vector: Vector) -> dict[str, Any]:
    """What a wallet holds after an amount as it was sent."""
    with the_books():
        return {"stored": _topped_up(vector, vector.given["sent"]).amount}


def debit_twice(vector: Vector) -> dict[str, Any]:
    """The same event, reported twice."""
    with the_books():
        who = _paying(vector, vector.amount("balance"), each=vector.amount("amount"))
        for _ in range(2):
            builders.use(who, 1, now=START, key="the same")
        wallet = wallet_of(who)
        assert wallet is not None
        return {"balance": wallet.balance}


def settle(vector: Vector) -> dict[str, Any]:
    """Whether use that only the wallet may pay is held up."""
    if vector.given["mode"] != "credit_only":
        raise Unplayed(f"the mode {vector.given['mode']}")
    with the_books():
        who = _paying(vector, vector.amount("balance"), each=vector.amount("charge"))
        try:
            builders.use(who, 1, now=START)
        except InsufficientFunds:
            return {"blocked": True}
        return {"blocked": False}


def _topped_up(vector: Vector, sent: str, who: Customer | None = None) -> Any:
    who = who or builders.customer(since=START)
    done = top_up(who, Decimal(sent), vector.currency, reference="vectors", actor=builders.STAFF, now=START)
    return done.entry


def _paying(vector: Vector, balance: Decimal, *, each: Decimal) -> Customer:
    """A customer with so much in the wallet, whose events cost so much each."""
    who = builders.customer(since=START)
    _topped_up(vector, str(balance), who)
    who.refresh_from_db()
    item = builders.instantly(Price(rate=each))
    key = f"wallets-{next(_numbers)}"
    plan = builders.plan(key, item, currency=vector.currency, billing_version=0, now=START)
    builders.enable(who, plan, now=START)
    return who


PLAYERS = {"debit_twice_same_key": debit_twice, "settle": settle, "top_up": top_up_rounded}
