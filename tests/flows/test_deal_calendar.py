"""The calendar of a deal is what the clock then bills, to the cent and the day, if what was assumed is used."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing_admin.flows.deal_calendar import DealCalendar
from catalog.charges import GRADUATED, Price, Tier
from catalog.models import Coupon, Plan
from catalog.terms import SOFT, ItemTerms
from customers.models import Customer
from deals.models import Deal
from deals.terms import NOW, DealCoupon, DealOverride, DealPhase, DealPrice, DealTerms
from invoicing.models import BillingSettings
from invoicing.special import Component, Rule
from tests.builders import allowance, customer, fee, paid_seats, plan, tax_rate
from tests.flows.coupon_world import percent
from tests.flows.deal_world import deal_of, done, expected_of, planned, play, real, said, units
from tests.instants import APRIL_1, MARCH_1, day

pytestmark = pytest.mark.django_db
MONTHLY = Rule("MONTHLY")
JULY_1 = day("2026-07-01")
TIERS = (Tier(Decimal(1000), Decimal("0.05")), Tier(None, Decimal("0.02"), Decimal(10)))


def tiered(included: int = 100, *, of: str = "credits", resets: str = "P1M") -> ItemTerms:
    price = Price(model=GRADUATED, tiers=TIERS)
    return replace(allowance(included, of=of, resets=resets), price=price, limit=SOFT)


def sold(*items: ItemTerms, **options: Any) -> Plan:
    return plan("pro", *(items or (fee(1000), tiered())), **options)


def terms_of(what: Plan, *phases: DealPhase, **changes: Any) -> DealTerms:
    """A deal on the plan as it is, with other phases; access at once."""
    base = said(deal_of(None, what))
    months = sum(phase.months or 0 for phase in phases) or changes.pop("months", 12)
    return replace(base, phases=phases or base.phases, term_months=months, activation=NOW, **changes)


def lived(who: Customer, deal: Deal, *, now: datetime = MARCH_1) -> DealCalendar:
    """The calendar that was shown; then the deal is carried out and its whole term passes."""
    terms = said(deal)
    calendar = expected_of(deal, terms, now=now)
    done(deal, now=now)
    who.refresh_from_db()
    play(who, terms, calendar.term)
    return calendar


def ramp(*amounts: int, months: int = 12, **changes: Any) -> tuple[DealPhase, ...]:
    return tuple(
        DealPhase(f"Year {n}", months, (fee(amount), tiered()), **changes) for n, amount in enumerate(amounts, 1)
    )


def test_a_deal_of_three_years_is_billed_as_its_calendar_says():
    """Ramp, minimum, tiers, coupon for six months, special price for twelve periods, net 30, tax, grace."""
    BillingSettings.objects.create(pk=1, grace_hours=1)
    tax_rate("7.7", is_default=True)
    percent(15, name="Launch", duration="repeating", periods=6)
    who, what = customer(), sold()
    price = DealPrice("base", (Component("Launch price", 70_000, MONTHLY),), cycles=12)
    phases = (
        DealPhase("Year 1", 12, (fee(900), tiered()), commitment=Decimal(800)),
        DealPhase("Year 2", 12, (fee(950), tiered(200)), commitment=Decimal(1100), use=units(credits=4321)),
        DealPhase("Year 3", 12, (fee(1200), tiered(500)), quantity=2, use=units(credits=9000)),
    )
    terms = terms_of(
        what,
        *phases,
        coupons=(DealCoupon("launch"),),
        prices=(price,),
        use=units(credits=1234),
        net_terms_days=30,
        renews=False,
    )
    deal = deal_of(who, what, terms)

    calendar = lived(who, deal)

    assert len(calendar.invoices) == 37
    assert real(who) == planned(calendar)


def test_a_deal_that_renews_bills_the_next_term_with_the_last_use():
    who, what = customer(), sold()
    deal = deal_of(who, what, terms_of(what, use=units(credits=150)))

    calendar = lived(who, deal)

    assert real(who) == planned(calendar)
    assert calendar.renewal is not None
    assert calendar.renewal.net - calendar.invoices[-1].net == 100_000


def test_a_trial_comes_before_the_term():
    who, what = customer(), sold()
    deal = deal_of(who, what, terms_of(what, *ramp(500, 900), trial_days=14, use=units(credits=777), renews=False))

    calendar = lived(who, deal)

    assert (calendar.starts_at, calendar.ends_at) == (day("2026-03-15"), day("2028-03-15"))
    assert real(who) == planned(calendar)


def test_seats_are_held_from_the_first_day():
    who, what = customer(), sold(fee(100), paid_seats(2, price="10"))
    deal = deal_of(who, what, terms_of(what, use=units(seats=7), renews=False))

    calendar = lived(who, deal)

    assert calendar.invoices[0].net == 10_000 + 5_000
    assert real(who) == planned(calendar)


def test_an_override_covers_use_while_it_holds():
    """500 instead of 100 for six months: of 600 used, 100 are beyond; then 500 are."""
    who, what = customer(), sold(fee(100), allowance(100, price="0.10"))
    terms = terms_of(
        what, use=units(credits=600), overrides=(DealOverride("credits", Decimal(500), 0, 6),), renews=False
    )
    deal = deal_of(who, what, terms)

    calendar = lived(who, deal)

    assert [invoice.net for invoice in calendar.invoices][5:8] == [11_000, 11_000, 15_000]
    assert real(who) == planned(calendar)


def test_a_yearly_fee_and_weekly_windows_fall_where_they_are_billed():
    who = customer()
    weekly = allowance(10, price="1", resets="P1W")
    what = sold(fee(1200, cadence="P1Y"), weekly, cadence="P1Y")
    deal = deal_of(who, what, terms_of(what, use=units(credits=100), months=24, renews=False))

    calendar = lived(who, deal)

    assert real(who) == planned(calendar)


def test_quarters_hold_the_use_of_three_months():
    who, what = customer(), sold(fee(300, cadence="P3M"), tiered(resets="P3M"), cadence="P3M")
    deal = deal_of(who, what, terms_of(what, use=units(credits=400), renews=False))

    calendar = lived(who, deal)

    assert real(who) == planned(calendar)


def test_a_start_to_come_is_billed_from_its_day():
    who, what = customer(), sold()
    price = DealPrice("base", (Component("Launch price", 70_000, MONTHLY),), cycles=2)
    terms = terms_of(
        what, *ramp(500, 900, months=6), starts_at=APRIL_1, prices=(price,), use=units(credits=900), renews=False
    )
    deal = deal_of(who, what, terms)

    calendar = lived(who, deal)

    assert calendar.starts_at == APRIL_1
    assert real(who) == planned(calendar)


def amended(who: Customer, what: Plan, now: datetime, **changes: Any) -> DealCalendar:
    """A first deal lives until the instant; another one goes on with its contract."""
    first = deal_of(who, what, terms_of(what, use=units(credits=300)))
    terms = said(first)
    term = expected_of(first, terms, now=MARCH_1).term
    done(first)
    who.refresh_from_db()
    play(who, terms, term, until=now)
    rest = replace(terms, phases=ramp(700, 1500, months=3), term_months=6, renews=False, **changes)
    deal = deal_of(who, what, rest, now=now)
    calendar = expected_of(deal, said(deal), now=now)
    done(deal, now=now)
    play(who, said(deal), calendar.term, since=now)
    return calendar


def test_an_amendment_is_billed_from_now_on_as_its_calendar_says():
    """What was paid ahead comes back, as the calendar says, and is no part of what the deal is worth."""
    who, what, now = customer(), sold(), day("2026-05-16")

    calendar = amended(who, what, now)

    assert [b for b in real(who) if b.issued_at >= now] == planned(calendar)
    assert calendar.ends_at == day("2026-11-01")


def test_an_amendment_for_a_day_to_come_is_billed_from_its_period_on():
    who, what, now = customer(), sold(), day("2026-05-16")

    calendar = amended(who, what, now, starts_at=day("2026-06-10"))

    assert calendar.starts_at == JULY_1
    assert [b for b in real(who) if b.issued_at >= JULY_1] == planned(calendar)
    assert calendar.value == 3 * 70_000 + 3 * 150_000 + 6 * 1_000


@pytest.mark.parametrize("included", [100, 500])
def test_a_deal_within_a_trial_that_goes_on_is_billed_from_its_end(included: int):
    """The first phase is what the trial runs for, or gives only more of it."""
    who, what, now = customer(), sold(), day("2026-03-10")
    tried = terms_of(what, trial_days=14)
    done(deal_of(who, what, tried))
    who.refresh_from_db()
    phases = (
        DealPhase("Half 1", 6, (fee(1000), tiered(included))),
        DealPhase("Half 2", 6, (fee(1500), tiered(included))),
    )
    deal = deal_of(who, what, terms_of(what, *phases, trial_days=0, renews=False), now=now)

    calendar = expected_of(deal, said(deal), now=now)
    done(deal, now=now)
    play(who, said(deal), calendar.term, since=now)

    assert (calendar.starts_at, calendar.ends_at) == (day("2026-03-15"), day("2027-03-15"))
    assert real(who) == planned(calendar)


def test_the_value_is_net_and_the_discount_is_against_list():
    tax_rate("20", is_default=True)
    who, what = customer(), sold(fee(100), allowance(100, price="0.10"))
    deal = deal_of(who, what, terms_of(what, DealPhase("Term", 12, (fee(75), allowance(100, price="0.10")))))

    calendar = expected_of(deal, said(deal), now=MARCH_1)

    assert (calendar.value, calendar.list_value, calendar.monthly) == (90_000, 120_000, 7_500)
    assert calendar.discount == Decimal("25.00")
    assert calendar.total == 108_000


def test_years_add_up_to_the_whole():
    who, what = customer(), sold()
    deal = deal_of(who, what, terms_of(what, *ramp(500, 700, 900), use=units(credits=1500)))

    calendar = expected_of(deal, said(deal), now=MARCH_1)

    assert [year.number for year in calendar.years] == [1, 2, 3]
    assert sum(year.net for year in calendar.years) == calendar.net == calendar.value


def test_commitments_add_up_over_the_phases():
    what = sold()
    phases = (replace(ramp(1)[0], commitment=Decimal(100)), replace(ramp(1)[0], commitment=Decimal("250.50")))
    deal = deal_of(customer(), what, terms_of(what, *phases))

    calendar = expected_of(deal, said(deal), now=MARCH_1)

    assert calendar.committed == 12 * 10_000 + 12 * 25_050


def test_a_template_has_a_calendar_without_a_customer():
    what = sold()
    deal = deal_of(None, what, terms_of(what))

    assert expected_of(deal, said(deal), now=MARCH_1).value == 12 * 100_000


phases = st.builds(
    lambda amount, months, included, quantity, committed, use: DealPhase(
        "Phase",
        months,
        (fee(amount), tiered(included)),
        quantity=quantity,
        commitment=Decimal(committed) if committed else None,
        use=units(credits=use),
    ),
    st.integers(0, 2000),
    st.integers(1, 4),
    st.integers(0, 1000),
    st.integers(1, 3),
    st.sampled_from([0, 0, 500, 3000]),
    st.integers(0, 5000),
)


@settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each example lives for months: shrinking takes too long
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    ramp=st.lists(phases, min_size=1, max_size=3),
    start=st.sampled_from(["2026-01-31", "2026-03-01", "2028-02-29T13:37:11"]),
    renews=st.booleans(),
    net=st.sampled_from([None, 0, 45]),
    cycles=st.sampled_from([None, 1, 3]),
    discounted=st.booleans(),
)
def test_any_deal_is_billed_as_its_calendar_says(
    ramp: list[DealPhase], start: str, renews: bool, net: int | None, cycles: int | None, discounted: bool
):
    now = day(start)
    what = Plan.objects.filter(key="pro").first() or sold()
    if not Coupon.objects.filter(code="bond").exists():
        percent(12, name="Bond", code="bond", duration="repeating", periods=4)
    # What grows a hundredfold waits for a person, who would let it go on here.
    BillingSettings.objects.update_or_create(pk=1, defaults={"most_growth": 1_000_000})
    who = customer(since=now)
    coupons = (DealCoupon("bond"),) if discounted else ()
    prices = (DealPrice("base", (Component("Special", 12_345, MONTHLY),), cycles=cycles),) if cycles else ()
    terms = terms_of(what, *ramp, renews=renews, net_terms_days=net, prices=prices, coupons=coupons)
    deal = deal_of(who, what, terms, now=now)

    calendar = lived(who, deal, now=now)

    assert real(who) == planned(calendar)
