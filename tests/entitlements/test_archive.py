"""Old months of events leave the database; the numbers that they made stay."""

import csv
import gzip
import hashlib
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import transaction

from billing_admin.flows.customers import erase
from catalog.charges import PERCENTAGE, Price
from catalog.models import Feature, Meter
from customers.models import Customer
from entitlements import partitions
from entitlements.archive import StillRead, archive_month, due_months, scrub, to_scrub
from entitlements.edit import edit_balance
from entitlements.events import EventArchived
from entitlements.ledger import ledger
from entitlements.models import ArchivedMonth, ArchivedUse, Balance, UsageEvent
from tests import builders as a
from tests.instants import APRIL_1, APRIL_16, JUNE_1, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db

LATER = day("2028-04-01")
MARCH = partitions.month_of(MARCH_1)


@pytest.fixture
def acme() -> Customer:
    """On Pro with 100 credits since March; used on three days of March, edited once, used in April."""
    partitions.make_months(since=MARCH_1, until=JUNE_1)
    who = a.on(a.pro())
    a.use(who, 3, now=day("2026-03-02T09:00"), key="job-1", properties={"model": "large"})
    a.use(who, "4.5", now=day("2026-03-02T10:00"))
    edit_balance(who, feature="credits", to=Decimal(50), reason="outage", actor=a.STAFF, now=day("2026-03-05"))
    a.use(who, 20, now=MARCH_16, key="job-2")
    a.use(who, -2, now=day("2026-03-17"))
    a.pass_time(who, to=APRIL_1)
    a.use(who, 8, now=APRIL_16)
    return who


def archived(folder: Path, month=MARCH) -> ArchivedMonth:
    row = archive_month(month, folder=folder, now=LATER)
    assert row is not None
    return row


def lines_of(file: Path) -> list[dict[str, str]]:
    with gzip.open(file, "rt", newline="") as text:
        return list(csv.DictReader(text))


def told(balance: Balance) -> list[tuple]:
    return [(line.at, line.title, line.amount, line.after) for line in ledger(balance)]


def test_a_ledger_reads_the_same_after_its_events_are_archived(acme: Customer, tmp_path: Path):
    """A-37"""
    march = acme.balances.order_by("id").first()
    before = told(march)

    archived(tmp_path)

    assert told(Balance.objects.get(pk=march.pk)) == before
    assert before[-2][3] == march.left


def test_the_rows_lie_in_the_file_and_no_longer_in_the_database(acme: Customer, tmp_path: Path):
    row = archived(tmp_path)

    lines = lines_of(tmp_path / row.file)
    assert [(line["counted"], line["key"]) for line in lines] == [
        ("3.000000", "job-1"),
        ("4.500000", ""),
        ("20.000000", "job-2"),
        ("-2.000000", ""),
    ]
    assert (lines[0]["customer"], lines[0]["feature"]) == (acme.public_id, "credits")
    assert lines[0]["properties"] == '{"model": "large"}'
    assert (row.file, row.events) == ("usage-2026-03.csv.gz", 4)
    assert row.sha256 == hashlib.sha256((tmp_path / row.file).read_bytes()).hexdigest()
    assert MARCH not in partitions.months()
    assert [event.taken for event in UsageEvent.objects.all()] == [8]


def test_sums_per_balance_and_day_stay(acme: Customer, tmp_path: Path):
    archived(tmp_path)

    found = ArchivedUse.objects.order_by("day").values_list("day__day", "used", "events")
    assert list(found) == [(2, Decimal("7.5"), 2), (16, 20, 1), (17, -2, 1)]


def test_a_month_is_archived_once(acme: Customer, tmp_path: Path):
    archived(tmp_path)

    assert archive_month(MARCH, folder=tmp_path, now=LATER) is None
    assert ArchivedUse.objects.count() == 3


def test_who_is_killed_before_the_end_has_changed_nothing_and_the_next_pass_does_it_all(acme: Customer, tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        with transaction.atomic():
            archive_month(MARCH, folder=tmp_path, now=LATER)
            raise KeyboardInterrupt
    assert (UsageEvent.objects.count(), ArchivedUse.objects.count(), ArchivedMonth.objects.count()) == (5, 0, 0)

    row = archived(tmp_path)

    assert len(lines_of(tmp_path / row.file)) == 4


def test_a_file_that_was_cut_off_is_written_again(acme: Customer, tmp_path: Path):
    (tmp_path / "usage-2026-03.csv.gz.part").write_bytes(b"half")

    row = archived(tmp_path)

    assert [file.name for file in tmp_path.iterdir()] == [row.file]


def test_a_day_whose_events_came_in_two_months_is_one_line(tmp_path: Path):
    """A-37"""
    partitions.make_months(since=MARCH_1, until=JUNE_1)
    who = a.on(a.pro())
    a.use(who, 3, now=day("2026-03-31T12:00"))
    a.use(who, 4, now=day("2026-04-01T00:01"), at=day("2026-03-31T13:00"))
    march = who.balances.order_by("id").first()
    before = told(march)

    archived(tmp_path)
    between = told(Balance.objects.get(pk=march.pk))
    archived(tmp_path, partitions.month_of(APRIL_1))

    assert told(Balance.objects.get(pk=march.pk)) == between == before
    assert ArchivedUse.objects.get().used == 7


def test_a_key_counts_nothing_again_after_its_event_was_archived(acme: Customer, tmp_path: Path):
    """L-38"""
    archived(tmp_path)

    with pytest.raises(EventArchived, match="counted on 2 Mar 2026"):
        a.use(acme, 3, now=APRIL_16, key="job-1")
    assert acme.balances.order_by("-id")[0].used == 8


def test_months_are_due_when_they_ended_so_many_months_ago(acme: Customer):
    assert due_months(now=day("2028-03-31T23:59"), keep=24) == []
    assert due_months(now=LATER, keep=24) == [MARCH]
    assert due_months(now=day("2028-05-01"), keep=24) == [MARCH, partitions.month_of(APRIL_1)]


def test_a_month_stays_while_its_events_are_priced_one_by_one(tmp_path: Path):
    partitions.make_months(since=MARCH_1, until=JUNE_1)
    item = replace(a.allowance(0, price="1"), price=Price(model=PERCENTAGE, percent=Decimal(2)))
    who = a.on(a.plan("shop", a.fee(10), item))
    a.use(who, 30, now=MARCH_16)

    with pytest.raises(StillRead):
        archive_month(MARCH, folder=tmp_path, now=MAY_1)
    assert UsageEvent.objects.count() == 1


@pytest.mark.parametrize(("aggregation", "stays"), [("unique_count", True), ("sum", False)])
def test_a_month_stays_while_a_meter_has_to_see_its_events_again(tmp_path: Path, aggregation: str, stays: bool):
    partitions.make_months(since=MARCH_1, until=JUNE_1)
    who = a.on(a.plan("pro", a.lasting()))
    a.use(who, 1, of="tokens", now=MARCH_16)
    meter = Meter.objects.create(
        slug="people", name="People", event_name="login", aggregation=aggregation, property="who"
    )
    Feature.objects.filter(slug="tokens").update(meter=meter)

    if stays:
        with pytest.raises(StillRead):
            archive_month(MARCH, folder=tmp_path, now=LATER)
    else:
        archived(tmp_path)
    assert UsageEvent.objects.exists() == stays


def test_an_import_into_an_archived_month_gets_a_file_of_its_own(acme: Customer, tmp_path: Path):
    archived(tmp_path)
    [first] = UsageEvent.objects.all()
    UsageEvent.objects.filter(pk=first.pk).update(recorded_at=MARCH_16)
    partitions.make_ahead(now=JUNE_1)

    assert archived(tmp_path).file == "usage-2026-03-2.csv.gz"


def test_who_is_erased_is_erased_in_the_archive(acme: Customer, tmp_path: Path):
    """A-52"""
    row = archived(tmp_path)
    erased_at = LATER + timedelta(days=1)
    Customer.objects.filter(pk=acme.pk).update(closed_at=MAY_1, erase_at=erased_at)
    erase(acme.pk, now=erased_at)

    [(found, customers)] = to_scrub()
    scrub(found, customers, folder=tmp_path, now=LATER + timedelta(days=62))

    assert found == row
    assert {(line["key"], line["properties"]) for line in lines_of(tmp_path / row.file)} == {("", "{}")}
    assert [line["counted"] for line in lines_of(tmp_path / row.file)][:1] == ["3.000000"]
    assert to_scrub() == []
