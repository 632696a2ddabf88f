"""Overrides of many customers at once: the CSV, the dry run, the rows one by one, and taking them back."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import OperationalError

from billing_admin.csv_table import BadRows
from billing_admin.flows import override_batch
from billing_admin.flows.override_batch import (
    MOST,
    Row,
    begin,
    carry_out,
    dry_run,
    read_rows,
    results,
    revoke_batch,
    unfinished,
)
from billing_admin.runs import override_batches
from customers.journal import ReasonRequired
from customers.models import Operation
from entitlements.models import FeatureOverride
from entitlements.override import override
from tests import builders as a
from tests.builders import STAFF
from tests.instants import APRIL_1, JUNE_1, MARCH_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db

HEADING = "customer_id,feature,value,until"


def row(customer_id: str, value: bool | str | int = 500, *, line: int = 2, until=JUNE_1, **more) -> Row:
    typed = Decimal(value) if type(value) is int else value
    return Row(line, customer_id, more.pop("feature", "credits"), typed, until, **more)


def rows_of(*customers, value: str | int = 500, **more) -> list[Row]:
    return [row(who.customer_id, value, line=n, **more) for n, who in enumerate(customers, 2)]


def three() -> list:
    plan = a.pro()
    return [a.on(plan, name=name) for name in ("Acme", "Globex", "Initech")]


def problems_of(text: str) -> list[tuple[int, str]]:
    with pytest.raises(BadRows) as refused:
        read_rows(text)
    return [(p.line, p.column) for p in refused.value.problems]


# Reading


def test_rows_are_read_with_their_lines_and_dates():
    text = (
        "customer_id;feature;value;from;until;reason;subscription\r\n"
        "\r\n"
        "acme;credits;10,000;2026-04-01;2026-06-01T02:00+02:00;pilot;sub_1\r\n"
        "globex;sso;on;;permanent;;\r\n"
    )

    first, second = read_rows(text)

    assert first == Row(3, "acme", "credits", "10,000", JUNE_1, APRIL_1, "pilot", "sub_1")
    assert second == Row(4, "globex", "sso", "on", None)


def test_a_row_without_an_end_has_to_say_that_it_is_permanent():
    """L-07"""
    assert problems_of(f"{HEADING}\nacme,credits,500,\nglobex,credits,500,permanent") == [(2, "until")]


def test_every_cell_that_cannot_be_read_is_named_by_line_and_column():
    text = f"{HEADING},supersede\n,credits,500,permanent,\nacme,credits,500,soon,maybe\nacme,credits,,2026-06-01,"

    assert problems_of(text) == [(2, "customer_id"), (3, "until"), (3, "supersede"), (4, "value")]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", (1, "customer_id")),
        (HEADING, (2, "customer_id")),
        ("customer_id,feature,until\na,b,permanent", (1, "value")),
        (f"{HEADING},colour\na,b,1,permanent,red", (1, "colour")),
        (f"{HEADING},value\na,b,1,permanent,2", (1, "value")),
        (f"{HEADING}\na,b,1,permanent,2", (2, "until")),
        (f'{HEADING}\na,b,"1,permanent', (2, "customer_id")),
    ],
)
def test_a_text_that_is_no_such_table_is_refused(text: str, place: tuple[int, str]):
    assert problems_of(text)[0] == place


def test_more_rows_than_a_batch_takes_are_refused():
    lines = "\n".join(f"c{n},credits,500,permanent" for n in range(MOST + 1))

    assert problems_of(f"{HEADING}\n{lines}") == [(MOST + 2, "customer_id")]


# Trying


def test_the_dry_run_says_what_each_row_would_do_and_writes_nothing():
    """L-30"""
    acme, globex, _ = three()

    found = dry_run([row(acme.customer_id, "10,000"), row(globex.customer_id, "no access", line=3)], MARCH_16)

    assert [(o.customer, o.before, o.after, o.problem) for o in found] == [
        (acme, "100", "10,000", ""),
        (globex, "100", "no access", ""),
    ]
    assert not FeatureOverride.objects.exists()


def test_the_dry_run_says_the_same_as_what_is_true_afterwards():
    """L-30"""
    customers = three()
    rows = [
        row(who.customer_id, value, line=n)
        for n, (who, value) in enumerate(zip(customers, (500, 20, "unlimited"), strict=True), 2)
    ]
    said = [outcome.after for outcome in dry_run(rows, MARCH_16)]

    carry_out(begin(rows, "pilot", STAFF, MARCH_16), MARCH_16)

    true = [a.access(who, now=MARCH_16) for who in customers]
    assert (
        said == ["unlimited" if each.unlimited else f"{each.limit:.0f}" for each in true] == ["500", "20", "unlimited"]
    )


@pytest.mark.parametrize(
    ("changed", "column"),
    [
        ({"customer_id": "nobody"}, "customer_id"),
        ({"feature": "nothing"}, "feature"),
        ({"value": "many"}, "value"),
        ({"value": True}, "value"),
        ({"until": MARCH_1}, "until"),
        ({"starts": MARCH_1}, "from"),
        ({"subscription": "sub_nope"}, "subscription"),
    ],
)
def test_the_dry_run_names_the_column_of_what_would_be_refused(changed: dict, column: str):
    acme, *_ = three()
    asked = {"line": 2, "customer_id": acme.customer_id, "feature": "credits", "value": "500", "until": JUNE_1}

    [found] = dry_run([Row(**{**asked, **changed})], MARCH_16)

    assert (found.column, bool(found.problem), found.after) == (column, True, "")


def test_an_override_that_stands_is_met_unless_the_row_supersedes_it():
    """L-12"""
    acme, *_ = three()
    override(acme, a.feature(), 300, effective_until=MAY_1, reason="before", actor=STAFF, now=MARCH_1)

    [met] = dry_run([row(acme.customer_id)], MARCH_16)
    [superseding] = dry_run([row(acme.customer_id, supersede=True)], MARCH_16)

    assert (met.before, met.column, met.after) == ("300", "from", "")
    assert (superseding.before, superseding.after) == ("300", "500")


def test_rows_of_one_batch_meet_each_other():
    """L-12"""
    acme, *_ = three()

    first, second = dry_run([row(acme.customer_id), row(acme.customer_id, line=3)], MARCH_16)

    assert (first.problem, second.column) == ("", "from")


def test_a_row_that_begins_later_is_told_for_then():
    """L-02"""
    acme, *_ = three()

    [found] = dry_run([row(acme.customer_id, starts=APRIL_1)], MARCH_16)

    assert (found.before, found.after) == ("100", "500")


def test_a_dry_run_reads_for_all_rows_at_once(django_assert_max_num_queries):
    plan = a.pro()
    customers = [a.on(plan, name=f"Customer {n}") for n in range(8)]
    dry_run(rows_of(*customers[:1]), MARCH_16)

    with django_assert_max_num_queries(7):
        found = dry_run(rows_of(*customers), MARCH_16)

    assert len(found) == 8


# Giving


def test_each_row_becomes_an_override_of_the_batch():
    """L-30"""
    customers = three()

    batch = carry_out(begin(rows_of(*customers), "pilot", STAFF, MARCH_16), MARCH_16)

    assert (batch.done, batch.total, batch.failures, batch.finished_at) == (3, 3, [], MARCH_16)
    assert {o.customer for o in batch.overrides.all()} == set(customers)
    assert [a.access(who, now=MARCH_16).limit for who in customers] == [500, 500, 500]


def test_a_row_that_is_refused_is_listed_and_the_others_go_on():
    """L-30"""
    acme, globex, _ = three()
    rows = [
        row(acme.customer_id),
        row("nobody", line=3),
        row(globex.customer_id, "many", line=4),
        row(globex.customer_id, line=5),
    ]

    batch = carry_out(begin(rows, "pilot", STAFF, MARCH_16), MARCH_16)

    assert [(f["line"], f["column"], f["code"]) for f in batch.failures] == [
        (3, "customer_id", "customer_not_found"),
        (4, "value", "wrong_value_type"),
    ]
    assert [(r.row.line, r.state) for r in results(batch)] == [
        (2, "given"),
        (3, "refused"),
        (4, "refused"),
        (5, "given"),
    ]
    assert [r.override.customer for r in results(batch) if r.override] == [acme, globex]


def test_rows_take_the_reason_of_the_batch_unless_they_have_their_own():
    """L-06"""
    acme, globex, _ = three()
    rows = [row(acme.customer_id), row(globex.customer_id, line=3, reason="asked by phone")]

    batch = carry_out(begin(rows, "pilot", STAFF, MARCH_16), MARCH_16)

    assert list(batch.overrides.order_by("id").values_list("reason", flat=True)) == ["pilot", "asked by phone"]


def test_a_batch_takes_a_reason():
    """L-06"""
    with pytest.raises(ReasonRequired):
        begin(rows_of(*three()), " ", STAFF, MARCH_16)


def test_a_batch_that_was_cut_short_goes_on_where_it_was():
    """L-30"""
    customers = three()
    batch = begin(rows_of(*customers), "pilot", STAFF, MARCH_16)

    class Killed(BaseException):
        pass

    def die(_) -> None:
        raise Killed

    with pytest.raises(Killed):
        carry_out(batch, MARCH_16, die)
    batch.refresh_from_db()
    assert (batch.done, FeatureOverride.objects.count(), unfinished(MARCH_16)) == (1, 1, [batch])

    run = override_batches(now=MARCH_16).finish(MARCH_16)

    batch.refresh_from_db()
    assert (run.done, batch.done, FeatureOverride.objects.count(), unfinished(MARCH_16)) == (1, 3, 3, [])


def test_a_batch_that_is_carried_out_twice_gives_nothing_twice():
    """L-30"""
    batch = begin(rows_of(*three()), "pilot", STAFF, MARCH_16)

    carry_out(batch, MARCH_16)
    carry_out(batch, MARCH_16)

    assert FeatureOverride.objects.count() == 3


def test_a_start_that_comes_before_its_row_is_now():
    """L-02"""
    acme, *_ = three()
    later = MARCH_16 + timedelta(seconds=20)
    batch = begin([row(acme.customer_id, starts=MARCH_16 + timedelta(seconds=5))], "pilot", STAFF, MARCH_16)

    carry_out(batch, later)

    assert batch.overrides.get().effective_from == later


def test_a_database_that_is_away_is_no_fault_of_the_row(monkeypatch):
    batch = begin(rows_of(*three()), "pilot", STAFF, MARCH_16)

    def away(*args, **kwargs):
        raise OperationalError("the connection is closed")

    monkeypatch.setattr(override_batch, "_give", away)
    with pytest.raises(OperationalError):
        carry_out(batch, MARCH_16)

    batch.refresh_from_db()
    assert (batch.done, batch.failures) == (0, [])


# Taking back


def test_a_batch_is_taken_back_as_a_whole():
    """L-30"""
    customers = three()
    batch = carry_out(begin(rows_of(*customers), "pilot", STAFF, MARCH_16), MARCH_16)

    revoke_batch(batch, "the pilot is over", STAFF, APRIL_1)

    assert [o.state(APRIL_1) for o in batch.overrides.all()] == ["revoked"] * 3
    assert [a.access(who, now=APRIL_1).limit for who in customers] == [100, 100, 100]
    assert Operation.objects.filter(verb="override_batch.revoked").count() == 1


def test_overrides_that_would_begin_later_are_taken_back_too():
    """L-08"""
    customers = three()
    batch = carry_out(begin(rows_of(*customers, starts=APRIL_1), "pilot", STAFF, MARCH_1), MARCH_1)

    revoke_batch(batch, "not needed", STAFF, MARCH_16)

    assert [o.state(MARCH_16) for o in batch.overrides.all()] == ["revoked"] * 3
    assert unfinished(MARCH_16) == []


def test_a_batch_that_is_taken_back_twice_stays_as_it_is():
    """L-09"""
    batch = carry_out(begin(rows_of(*three()), "pilot", STAFF, MARCH_16), MARCH_16)
    revoke_batch(batch, "the pilot is over", STAFF, APRIL_1)

    again = revoke_batch(batch, "once more", STAFF, MAY_1)

    assert (again.revoked_at, again.revoke_reason) == (APRIL_1, "the pilot is over")
    assert set(batch.overrides.values_list("revoked_at", flat=True)) == {APRIL_1}


def test_what_was_not_given_yet_when_a_batch_is_taken_back_never_is():
    customers = three()
    batch = begin(rows_of(*customers), "pilot", STAFF, MARCH_16)

    revoke_batch(batch, "a mistake", STAFF, MARCH_16)
    batch = carry_out(batch, MARCH_16)

    assert (batch.done, FeatureOverride.objects.count()) == (0, 0)
    assert {result.state for result in results(batch)} == {"given up"}


def test_taking_back_goes_on_after_it_was_cut_short(monkeypatch):
    batch = carry_out(begin(rows_of(*three()), "pilot", STAFF, MARCH_16), MARCH_16)
    with monkeypatch.context() as killed:
        killed.setattr(override_batch, "_take_back", lambda batch, now: None)
        revoke_batch(batch, "the pilot is over", STAFF, APRIL_1)
    assert unfinished(APRIL_1) == [batch]

    override_batches(now=APRIL_1)

    assert unfinished(APRIL_1) == []
    assert set(batch.overrides.values_list("revoke_reason", flat=True)) == {"the pilot is over"}
