"""Taking an act back: once, by whom it was confirmed to, with a line of its own that points at the first."""

import ast
import re
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from billing_admin.flows.undo import confirmation, look, may_be, undo
from billing_admin.undoing import CANNOT, INVERSES, CannotTakeBack
from customers.journal import ReasonRequired, record
from customers.models import Customer, Operation
from entitlements.edit import edit_balance
from tests import builders as a
from tests.flows.undo_world import changes, last, seen, take_back, why
from tests.instants import MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db


def edited(who: Customer, to: int = 250) -> Operation:
    operation, _ = edit_balance(who, feature="credits", to=Decimal(to), reason="outage", actor=a.STAFF, now=MARCH_16)
    return operation


def test_taking_back_is_an_act_that_points_at_the_first():
    who = a.on(a.pro())
    operation = edited(who)

    made = take_back(operation, now=MARCH_16)

    assert (made.reverses, made.reason, made.actor) == (operation, "a mistake", "ops")
    assert Operation.objects.get(pk=operation.pk).reversed_by == made


def test_an_act_is_taken_back_once():
    who = a.on(a.pro())
    operation = edited(who)
    take_back(operation, now=MARCH_16)

    assert "ops took it back on 16 Mar 2026" in why(operation, now=MARCH_16)
    with pytest.raises(CannotTakeBack):
        take_back(operation, now=MARCH_16)


def test_the_database_keeps_an_act_from_being_taken_back_twice():
    who = a.on(a.pro())
    operation = edited(who)
    take_back(operation, now=MARCH_16)

    with pytest.raises(IntegrityError), transaction.atomic():
        record(who, "balance.edited", "Again", actor=a.STAFF, now=MARCH_16, reverses=operation)


def test_what_was_taken_back_can_be_had_again_and_taken_back_once_more():
    who = a.on(a.pro())
    operation = edited(who)
    undone = take_back(operation, now=MARCH_16)

    redone = take_back(undone, now=MARCH_16)
    assert a.left(who, now=MARCH_16) == 250

    take_back(redone, now=MARCH_16)
    assert a.left(who, now=MARCH_16) == 100


def test_looking_writes_nothing():
    who = a.on(a.pro())
    operation = edited(who)
    count = Operation.objects.count()

    seen(operation, now=MARCH_16)

    assert (a.left(who, now=MARCH_16), Operation.objects.count()) == (250, count)


def test_looking_shows_what_changes_for_the_customer():
    who = a.on(a.pro())

    taken = seen(edited(who), now=MARCH_16)

    assert changes(taken)["Credits"] == (
        "250 left, resets 1 Apr 2026",
        "100 left of 100, resets 1 Apr 2026",
    )


def test_a_reason_is_asked_for():
    operation = edited(a.on(a.pro()))

    with pytest.raises(ReasonRequired):
        undo(operation, reason=" ", actor=a.STAFF, now=MARCH_16)


def test_what_moved_since_it_was_looked_at_is_looked_at_again():
    who = a.on(a.pro())
    operation = edited(who)
    confirmed = confirmation(operation, look(operation, MARCH_16), MARCH_16)
    row = who.balances.get()
    row.ends_at += timedelta(days=3)
    row.save()

    with pytest.raises(ValidationError) as refused:
        undo(operation, reason="a mistake", actor=a.STAFF, now=MARCH_16, confirmed=confirmed)

    assert refused.value.code == "preview_outdated"


def test_use_since_it_was_looked_at_changes_nothing_in_what_was_confirmed():
    who = a.on(a.pro())
    operation = edited(who)
    confirmed = confirmation(operation, look(operation, MARCH_16), MARCH_16)
    a.use(who, 30, now=MARCH_16)

    undo(operation, reason="a mistake", actor=a.STAFF, now=MARCH_16, confirmed=confirmed)

    assert a.left(who, now=MARCH_16) == 70


def test_a_look_holds_for_half_an_hour():
    operation = edited(a.on(a.pro()))
    confirmed = confirmation(operation, look(operation, MARCH_16), MARCH_16)
    later = MARCH_16 + timedelta(minutes=30)

    with pytest.raises(ValidationError, match="expired"):
        undo(operation, reason="a mistake", actor=a.STAFF, now=later, confirmed=confirmed)


def test_a_confirmation_is_of_one_act_only():
    who = a.on(a.pro())
    first, second = edited(who, 250), edited(who, 300)
    confirmed = confirmation(first, look(first, MARCH_16), MARCH_16)

    with pytest.raises(ValidationError) as refused:
        undo(second, reason="a mistake", actor=a.STAFF, now=MARCH_16, confirmed=confirmed)

    assert refused.value.code == "bad_confirmation"


def test_what_cannot_be_taken_back_says_why_and_what_else_can_be_done():
    who = a.on(a.pro())
    paid = last(who, "payment.received")

    assert not may_be(paid)
    assert "Refund it from the page of its invoice" in why(paid, now=MARCH_1)


# Every verb says whether it can be taken back -------------------------------------------------------------------------

VERB = re.compile(r"[a-z][a-z_]*\.[a-z][a-z_]*")
APPS = ("catalog", "customers", "entitlements", "invoicing", "payments", "deals", "billing_admin")
RECORDS = ("record", "_record", "draft", "_journal", "Told")
# Verbs that are put together where they are written, by how they begin.
PUT_TOGETHER = {
    "approval.": tuple(f"approval.{act}" for act in ("asked", "expired", "outdated", "refused", "withdrawn")),
    "deal.": tuple(
        f"deal.{act}"
        for act in (
            *("created", "changed", "renamed", "submitted", "approved", "sent", "accepted", "executed"),
            *("reopened", "voided"),
        )
    ),
    "migration.": tuple(f"migration.{word}" for word in ("paused", "resumed", "stopped", "taken_back")),
    "feature.": ("feature.created", "feature.edited"),
    "meter.": ("meter.created", "meter.edited"),
    "approval_rule.": ("approval_rule.added", "approval_rule.changed"),
    "approval_rule.switched_": ("approval_rule.switched_on", "approval_rule.switched_off"),
}


def verbs_written(root: Path = Path(__file__).parents[2]) -> Iterator[tuple[str, str]]:
    """Every verb that some code may write, with its file."""
    for app in APPS:
        for path in (root / app).rglob("*.py"):
            if "migrations" in path.parts or path.name == "undoing.py":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                for expression in said_by(node):
                    yield from ((verb, path.name) for verb in verbs_of(expression))


def said_by(node: ast.AST) -> list[ast.expr]:
    """What is handed to a function that records, or kept under the name of a verb."""
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).split(".")[-1]
        named = [k.value for k in node.keywords if k.arg == "verb"]
        return [*node.args[:4], *named] if name in RECORDS else named if name == "dict" else []
    if isinstance(node, ast.Dict):
        keys = [ast.unparse(key) if key else "" for key in node.keys]
        return [value for key, value in zip(keys, node.values, strict=True) if key == "'verb'"]
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("SAID", "verb"):
        return [node.value]
    return []


def verbs_of(expression: ast.expr) -> Iterator[str]:
    if isinstance(expression, ast.IfExp):
        yield from verbs_of(expression.body)
        yield from verbs_of(expression.orelse)
    elif isinstance(expression, ast.JoinedStr):
        begins = expression.values[0]
        text = begins.value if isinstance(begins, ast.Constant) else ""
        if isinstance(text, str) and re.fullmatch(r"[a-z_]+\.[a-z_]*", text):
            yield from PUT_TOGETHER.get(text, (f"{text}…",))
    elif isinstance(expression, ast.Constant) and VERB.fullmatch(str(expression.value)):
        yield str(expression.value)


def test_every_verb_says_how_it_is_taken_back_or_why_not():
    """A new verb needs an `@inverse`, or a sentence in `CANNOT`."""
    written = dict(verbs_written())

    assert {verb: file for verb, file in written.items() if verb not in INVERSES and verb not in CANNOT} == {}


def test_no_verb_says_both():
    assert set(INVERSES) & set(CANNOT) == set()


def test_the_walk_over_the_code_finds_the_verbs_there_are():
    written = {verb for verb, _ in verbs_written()}

    assert {"balance.edited", "plan.enabled", "plan.scheduled", "subscription.renewed", "line.added"} <= written
    assert len(written) > 90
