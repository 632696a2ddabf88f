"""Special prices as values: their rules, their components, and the lines they make."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from catalog.periods import Cadence, Period, boundary
from catalog.terms import ItemTerms, PlanTerms
from invoicing.discounts import DiscountTerms
from invoicing.lines import renewal_lines
from invoicing.pipeline import draw_up
from invoicing.special import (
    ADD,
    REPLACE,
    BadComponent,
    BadRule,
    Component,
    Rule,
    Special,
    ahead_lines,
    counted,
    not_below_zero,
    read_components,
)
from tests.instants import APRIL_1, MARCH_1, day

MONTHLY = "RRULE:FREQ=MONTHLY;INTERVAL=1"
PRO = PlanTerms(1, "USD", "P1M", (ItemTerms(key="base", amount=Decimal(50), cadence="P1M", id=7),), plan_name="Pro")


def component(amount: int = 2500, label: str = "Launch price", rule: str = MONTHLY) -> Component:
    return Component(label, amount, Rule.parse(rule))


def special(*components: Component, mode: str = REPLACE, cycles: int | None = None, **more: Any) -> Special:
    given = {"since": day("2026-03-10"), **more}
    return Special(1, 1, "base", mode, components or (component(),), cycles, **given)


def raw(**changed: Any) -> dict[str, Any]:
    return {"type": "fixed", "label": "Base", "amount_cents": 2500, "recurrence_rule": MONTHLY} | changed


def billed(at: datetime, *specials: Special, terms: PlanTerms = PRO) -> list:
    return not_below_zero(ahead_lines(renewal_lines(terms, MARCH_1, at), specials, terms, MARCH_1, at))


def amounts(at: datetime, *specials: Special) -> list[tuple[str, int]]:
    return [(line.description, line.amount) for line in billed(at, *specials)]


# Rules


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("RRULE:FREQ=MONTHLY;INTERVAL=1;TZID=Europe/Berlin", "time zone"),
        ("DTSTART;TZID=Europe/Berlin:20260301T000000", "time zone"),
        ("RRULE:FREQ=DAILY;INTERVAL=1", "COUNT or UNTIL"),
        ("RRULE:FREQ=HOURLY", "FREQ is"),
        ("RRULE:INTERVAL=2", "lacks FREQ"),
        ("RRULE:FREQ=MONTHLY;BYDAY=MO", "BYDAY"),
        ("RRULE:FREQ=MONTHLY;INTERVAL=0", "INTERVAL"),
        ("RRULE:FREQ=MONTHLY;COUNT=ten", "COUNT"),
        ("RRULE:FREQ=MONTHLY;UNTIL=soon", "UNTIL"),
        ("RRULE:FREQ=MONTHLY;COUNT=2;UNTIL=20270101", "not both"),
        ("RRULE:FREQ=MONTHLY;FREQ=YEARLY", "not a part"),
        ("every month", "not a part"),
        ("", "Give a rule"),
    ],
)
def test_a_rule_that_cannot_be_kept_is_refused_in_a_sentence(rule: str, words: str):
    """L-19"""
    with pytest.raises(BadRule, match=words):
        Rule.parse(rule)


@pytest.mark.parametrize("rule", ["RRULE:FREQ=DAILY;INTERVAL=1;COUNT=3", "RRULE:FREQ=WEEKLY;INTERVAL=2", MONTHLY])
def test_a_rule_reads_as_it_was_written(rule: str):
    assert str(Rule.parse(rule)) == rule


def test_a_monthly_rule_from_the_31st_falls_on_the_last_day_of_short_months():
    """L-20"""
    anchor = day("2026-01-31")

    times = [Rule.parse(MONTHLY).time(n, anchor, anchor) for n in range(4)]

    assert times == [anchor, day("2026-02-28"), day("2026-03-31"), day("2026-04-30")]


def test_a_rule_that_begins_on_a_clamped_day_finds_the_31st_again():
    """L-20: first due on 28 February of a contract that is anchored on the 31st."""
    first = day("2026-02-28")

    assert Rule.parse(MONTHLY).time(1, first, day("2026-01-31")) == day("2026-03-31")


def test_a_daily_rule_falls_due_as_often_as_it_says():
    rule = Rule.parse("RRULE:FREQ=DAILY;COUNT=40")

    # March has 31 of the 40 days, April the rest.
    assert rule.times_in(Period(MARCH_1, APRIL_1), MARCH_1, MARCH_1) == 31
    assert rule.times_in(Period(APRIL_1, day("2026-05-01")), MARCH_1, MARCH_1) == 9


# Components


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"type": "percent"}, "type"),
        ({"label": " "}, "label"),
        ({"amount_cents": 12.5}, "amount_cents"),
        ({"amount_cents": -100}, "amount_cents"),
        ({"currency": "EUR"}, "currency"),
        ({"recurrence_rule": "RRULE:FREQ=DAILY"}, "recurrence_rule"),
    ],
)
def test_a_component_is_refused_beside_its_field(changed: dict[str, Any], field: str):
    """L-17, L-19"""
    with pytest.raises(BadComponent) as refused:
        read_components([raw(), raw(label="Seats", **changed) if "label" not in changed else raw(**changed)], **USD)

    assert refused.value.field == f"components.1.{field}"


USD = {"mode": REPLACE, "currency": "USD"}


def test_an_amount_below_zero_may_stand_beside_the_price():
    """L-17"""
    [found] = read_components([raw(amount_cents=-1000)], mode=ADD, currency="USD")

    assert found.amount == -1000


def test_components_have_labels_of_their_own():
    with pytest.raises(BadComponent, match="label of its own"):
        read_components([raw(), raw()], **USD)


def test_a_special_price_has_a_component():
    with pytest.raises(ValidationError, match="at least one"):
        read_components([], **USD)


# Lines


def test_components_replace_the_items_own_line_under_their_label():
    """L-13, L-18"""
    [line] = billed(APRIL_1, special())

    assert (line.description, line.amount, line.key, line.override_id) == ("Launch price", 2500, "base", 1)
    assert line.derivation["sum"] == "Launch price, every month: $25.00, instead of $50.00"


def test_an_added_component_stands_beside_the_items_own_line():
    assert amounts(APRIL_1, special(component(-1000, "Loyalty"), mode=ADD)) == [("Pro", 5000), ("Loyalty", -1000)]


def test_what_takes_off_never_takes_the_invoice_below_zero():
    """L-17"""
    assert amounts(APRIL_1, special(component(-8000, "Loyalty"), mode=ADD)) == [("Pro", 5000), ("Loyalty", -5000)]


def test_coupons_come_off_what_a_special_price_leaves():
    """L-17"""
    lines = billed(APRIL_1, special(component(-1000, "Loyalty"), mode=ADD))

    drawn = draw_up(lines, discounts=[DiscountTerms(1, "Half", percent=Decimal(50))])

    # $50 − $10 = $40, half of it off.
    assert (drawn.subtotal, drawn.discount_total, drawn.total) == (4000, 2000, 2000)


def test_coupons_find_nothing_where_a_special_price_took_all():
    """L-17"""
    lines = billed(APRIL_1, special(component(-8000, "Loyalty"), mode=ADD))

    drawn = draw_up(lines, discounts=[DiscountTerms(1, "Half", percent=Decimal(50))])

    assert (drawn.discount_total, drawn.total) == (0, 0)


def test_a_year_of_a_monthly_base_and_yearly_seats_has_twelve_lines_and_one():
    """L-21"""
    both = special(component(2500, "Base"), component(30000, "Seats", "RRULE:FREQ=YEARLY;INTERVAL=1"))
    months = [boundary(APRIL_1, Cadence.parse("P1M"), n) for n in range(12)]

    found = [label for at in months for label, _ in amounts(at, both)]

    assert (found.count("Base"), found.count("Seats"), len(found)) == (12, 1, 13)


def test_a_period_without_anything_due_says_so_and_counts():
    yearly = special(component(30000, "Seats", "RRULE:FREQ=YEARLY;INTERVAL=1"))

    assert amounts(day("2026-05-01"), yearly) == [("Seats (nothing in this period)", 0)]


def test_a_special_price_holds_for_so_many_periods():
    """L-14"""
    once = (special(cycles=1),)
    april = billed(APRIL_1, *once)

    once = counted(once, april)

    assert [line.amount for line in april] == [2500]
    assert amounts(day("2026-05-01"), *once) == [("Pro", 5000)]


def test_every_document_of_a_period_that_counts_takes_it():
    """L-14"""
    used = special(cycles=1, used=frozenset({APRIL_1}))

    assert amounts(APRIL_1, used) == [("Launch price", 2500)]


def test_it_begins_after_it_was_given_and_ends_when_it_was_revoked():
    """L-14, L-15: dates decide, also for a worker who comes late."""
    found = special(until=day("2026-04-20"))

    assert amounts(MARCH_1, found) == [("Pro", 5000)]
    assert amounts(APRIL_1, found) == [("Launch price", 2500)]
    assert amounts(day("2026-05-01"), found) == [("Pro", 5000)]


def test_it_is_the_price_of_one_plan():
    assert amounts(APRIL_1, special(), Special(2, 9, "base", REPLACE, (component(1),), None, since=MARCH_1)) == [
        ("Launch price", 2500)
    ]
