"""Who buys: each customer of the demo with what happened to them, in days before the demo's end."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from catalog.charges import Price

Tailored = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Ago:
    """So many days before the end."""

    days: float


@dataclass(frozen=True)
class Renewing:
    """At such an instant that the contract begun then renews so many days after the end, begun some months before."""

    in_days: float
    months: int


When = Ago | Renewing


@dataclass(frozen=True)
class Act:
    """One thing that somebody did: a verb of demo/play.py and what it takes."""

    when: When
    verb: str
    what: dict[str, Any]


@dataclass(frozen=True)
class Company:
    """`uses` is the level per month that use grows to; `pays` is how: prompt, late, stops, half."""

    name: str
    joined: float
    acts: tuple[Act, ...] = ()
    uses: dict[str, int] = field(default_factory=dict)
    pays: str = "prompt"
    grows_from: float = 0.5
    busy: bool = False


def on(plan: str, when: When, *, reason: str = "", by: str = "sales", **tailored: dict[str, Any]) -> Act:
    """Enable a plan; keywords are changed items by key (with _ for -), which makes it a custom plan."""
    changes = {key.replace("_", "-"): values for key, values in tailored.items()}
    return Act(when, "enable", {"plan": plan, "reason": reason, "by": by, "changes": changes})


def assign(plan: str, days: float, *, ends_in: float | None = None, reason: str = "") -> Act:
    return Act(Ago(days), "assign", {"plan": plan, "ends_in": ends_in, "reason": reason})


def edit(feature: str, days: float, *, to: int, reason: str) -> Act:
    return Act(Ago(days), "edit", {"feature": feature, "to": to, "reason": reason})


def cancel(plan: str, days: float, *, reason: str, at_once: bool = False) -> Act:
    return Act(Ago(days), "cancel", {"plan": plan, "reason": reason, "at_once": at_once})


def note(days: float, text: str, *, by: str = "ops") -> Act:
    return Act(Ago(days), "note", {"text": text, "by": by})


def void(days: float, *, reason: str) -> Act:
    return Act(Ago(days), "void", {"reason": reason})


def coupon(code: str, days: float, *, reason: str) -> Act:
    return Act(Ago(days), "coupon", {"code": code, "reason": reason})


def override(feature: str, days: float, value: Decimal | str | bool, *, reason: str, lasts: int | None) -> Act:
    """Another value for so many days from then on; None: for good."""
    return Act(Ago(days), "override", {"feature": feature, "value": value, "reason": reason, "lasts": lasts})


def give(feature: str, days: float, units: int, *, label: str, reason: str, lasts: int | None) -> Act:
    what = {"feature": feature, "units": units, "label": label, "reason": reason, "lasts": lasts}
    return Act(Ago(days), "give", what)


def top_up(days: float, amount: str) -> Act:
    return Act(Ago(days), "top_up", {"amount": amount})


def correct(days: float, amount: str, *, reason: str) -> Act:
    return Act(Ago(days), "correct", {"amount": amount, "reason": reason})


API = {"credits": 70, "api-calls": 9_000}


def api(credits: int, calls: int, seats: int = 0) -> dict[str, int]:
    return {"credits": credits, "api-calls": calls} | ({"seats": seats} if seats else {})


def tokens(millions: int, hours: int = 0) -> dict[str, int]:
    return {
        "input-tokens": millions * 1_000_000,
        "output-tokens": millions * 400_000,
    } | ({"fine-tuning-hours": hours} if hours else {})


def warehouse(gigabytes: int, seconds: int) -> dict[str, int]:
    return {"storage": gigabytes, "query-seconds": seconds}


# The customer of the tour: Pro as it is sold, 100 credits. What they use is set exactly, in demo/play.py.
ACME = Company(
    "Acme Robotics",
    joined=236,
    acts=(
        on("free", Ago(236), by="ops"),
        note(170, "Evaluating us for the picking line; the contact is Dana Whitfield, head of automation."),
        on("pro", Renewing(in_days=12, months=5)),
        note(9, "Asked whether more credits are possible at the same price before their spring launch.", by="sales"),
    ),
    uses=api(62, 9_400, seats=3),
    busy=True,
)

STORIES = (
    # API: upgrades, a downgrade that waits until tomorrow, custom plans
    Company(
        "Globex Logistics",
        joined=340,
        acts=(
            on("pro", Renewing(in_days=1, months=10)),
            on("team", Ago(236)),
            note(5, "Parcel season is over: they asked to go back to Pro at the end of the cycle."),
            on("pro", Ago(3), by="ops"),
        ),
        uses=api(320, 70_000, seats=9),
        busy=True,
    ),
    Company(
        "Initech Systems",
        joined=330,
        acts=(
            on("pro", Ago(330)),
            on(
                "pro",
                Ago(140),
                reason="Order form 2025-114: 250 credits for the reporting rollout, at the price they have",
                credits={"included": Decimal(250)},
            ),
            edit("credits", 21, to=200, reason="Outage of the speech endpoint, credits given back"),
            note(20, "Very unhappy about the outage; Peter takes care of them personally."),
            coupon("LAUNCH20", 18, reason="Promised by Peter after the outage"),
            give("credits", 17, 100, label="Goodwill after the outage", reason="Promised with the coupon", lasts=60),
        ),
        uses=api(180, 14_000, seats=5),
        busy=True,
    ),
    Company(
        "Everline Energy",
        joined=290,
        acts=(
            on("team", Ago(290)),
            on(
                "team",
                Ago(118),
                reason="Renewal negotiated by S. Kaya: 1,200 credits for $380.00, valid while they stay",
                base={"amount": Decimal("380.00")},
                credits={"included": Decimal(1200)},
            ),
            override("api-calls", 13, Decimal(250_000), reason="Tries the new import", lasts=45),
        ),
        uses=api(900, 160_000, seats=27),
        busy=True,
    ),
    Company(
        "Foxglove Pharma",
        joined=200,
        acts=(
            on("free", Ago(200), by="ops"),
            on("pro", Ago(160)),
            on(
                "pro",
                Ago(64),
                reason="Study partner until the end of the year: 400 credits for $120.00",
                base={"amount": Decimal("120.00")},
                credits={"included": Decimal(400)},
            ),
        ),
        uses=api(290, 8_000, seats=4),
    ),
    Company(
        "Xenon Video",
        joined=310,
        acts=(
            on("pro", Ago(310)),
            on("extra-credits", Ago(180), by="ops"),
            on("team", Ago(92)),
            edit("credits", 12, to=150, reason="Render farm ran wild overnight; goodwill, once"),
            override("credits", 9, Decimal(2000), reason="Film festival: a boost until it is over", lasts=30),
        ),
        uses=api(420, 120_000, seats=18),
        busy=True,
    ),
    Company(
        "Yarrow Finance",
        joined=270,
        acts=(
            on("free", Ago(270), by="ops"),
            on("pro", Ago(250)),
            on("team", Ago(45)),
            override("api-calls", 15, Decimal(250_000), reason="Tries the new import", lasts=45),
        ),
        uses=api(310, 60_000, seats=12),
        busy=True,
    ),
    Company(
        "Zephyr Drones",
        joined=240,
        acts=(
            on("pro", Ago(240)),
            on("team", Ago(128)),
            override("api-calls", 14, Decimal(250_000), reason="Tries the new import", lasts=45),
        ),
        uses=api(380, 90_000, seats=14),
        pays="half",
        busy=True,
    ),
    Company(
        "Alderney Bank",
        joined=350,
        acts=(
            on("pro", Ago(350)),
            on("team", Ago(200)),
            note(40, "Security review passed; SSO is mandatory for them."),
            override(
                "priority-gpu", 38, value=True, reason="Part of the security review: their own machines", lasts=None
            ),
        ),
        uses=api(460, 110_000, seats=26),
        busy=True,
    ),
    Company(
        "Granite Tools",
        joined=280,
        acts=(
            on("pro", Ago(280)),
            cancel("pro", 66, reason="Built it themselves; the contact left the company", at_once=True),
            note(65, "Exit call held: price was not the reason. Worth asking again next year."),
        ),
        uses=api(40, 5_000),
        grows_from=1.2,
    ),
    Company(
        "Hazel Homes",
        joined=190,
        acts=(
            on("pro", Renewing(in_days=9, months=6)),
            cancel("pro", 6, reason="Season is over; wants to come back in spring"),
        ),
        uses=api(55, 6_000),
        grows_from=1.1,
    ),
    # LLM API
    Company(
        "Umbra Security",
        joined=260,
        acts=(on("developer", Ago(260), by="ops"), on("enterprise", Ago(150))),
        uses=tokens(1_700, hours=52),
        busy=True,
    ),
    Company(
        "Verity Health",
        joined=225,
        acts=(
            on(
                "enterprise",
                Ago(220),
                reason="Two-year commitment signed on 3 pages: $15,600 a year and 100 fine-tuning hours",
                base={"amount": Decimal("15600.00")},
                fine_tuning_hours={"included": Decimal(100)},
            ),
            note(219, "Needs invoices to the hospital group, purchase order VH-20991.", by="finance"),
        ),
        uses=tokens(2_300, hours=90),
        busy=True,
    ),
    Company(
        "Wavelength Audio",
        joined=130,
        acts=(on("developer", Ago(130), by="ops"), on("scale", Ago(110)), on("enterprise", Ago(31))),
        uses=tokens(1_200, hours=30),
        busy=True,
    ),
    Company(
        "Opal Assistants",
        joined=320,
        acts=(
            on("developer", Ago(320), by="ops"),
            on("scale", Ago(170)),
            override("rate-limit", 24, "20000", reason="Load test before their launch", lasts=29),
        ),
        uses=tokens(420, hours=18),
        busy=True,
    ),
    Company(
        "Pylon Support",
        joined=210,
        acts=(on("developer", Ago(210), by="ops"), on("scale", Ago(75))),
        uses=tokens(260, hours=6),
    ),
    Company(
        "Quill Writers",
        joined=180,
        acts=(
            on("developer", Ago(180), by="ops"),
            on(
                "scale",
                Ago(60),
                reason="Launch partner: fine-tuning at $3.00 an hour for their first year",
                fine_tuning_hours={"price": Price(rate=Decimal(3))},
            ),
        ),
        uses=tokens(310, hours=40),
    ),
    Company(
        "Riverbend Games",
        joined=140,
        acts=(on("developer", Ago(140), by="ops"), on("scale", Ago(28)), on("free", Ago(100), by="ops")),
        uses={**tokens(190, hours=4), **api(8, 700)},
    ),
    # Data warehouse
    Company(
        "Brightwater Utilities",
        joined=300,
        acts=(on("on-demand", Ago(300), by="ops"), on("reserved", Ago(122))),
        uses=warehouse(21_000, 9_000),
        busy=True,
    ),
    Company(
        "Copperfield Books",
        joined=170,
        acts=(on("on-demand", Ago(170), by="ops"), on("reserved", Ago(50)), on("pro", Ago(90))),
        uses={**warehouse(6_500, 2_600), **api(74, 11_000)},
    ),
    # Billing version 0: the wallet pays each event
    Company(
        "Tamarind Radio",
        joined=178,
        acts=(
            on("speech-classic", Ago(177), by="ops"),
            *(top_up(days, "60.00") for days in (177, 120, 76, 38)),
            correct(31, "4.32", reason="180 minutes of the night of the outage were transcribed twice"),
            note(12, "Still on the old plan because their auditors want every minute prepaid."),
        ),
        uses={"speech-minutes": 1_650},
    ),
    # Never invoiced
    Company(
        "Fathom Academy",
        joined=150,
        acts=(assign("partner", 150, reason="Teaching partner, agreement of this year"),),
        uses=api(44, 21_000),
    ),
    Company(
        "Gable Consulting",
        joined=80,
        acts=(assign("partner", 80, ends_in=45, reason="Pilot for 125 days; then they decide"),),
        uses=api(31, 9_000),
    ),
    Company(
        "Heron Open Source",
        joined=260,
        acts=(
            assign("partner", 258, reason="Open-source programme"),
            edit("credits", 30, to=90, reason="Conference week"),
        ),
        uses=api(58, 30_000),
    ),
)


def _each(names: str, joined: tuple[float, ...], acts: Any, uses: Any, **more: Any) -> tuple[Company, ...]:
    return tuple(
        Company(name, days, acts(days), uses(place), **more)
        for place, (name, days) in enumerate(zip(names.split(", "), joined, strict=True))
    )


CROWD = (
    *_each(
        "Birchwood Studio, Cobalt Apps, Dovetail Media, Elmfield Press, Fernway Labs",
        (305, 214, 133, 71, 18),
        lambda days: (on("free", Ago(days), by="ops"),),
        lambda place: api(5 + place, 400 + 120 * place),
    ),
    *_each(
        "Juniper Analytics, Kestrel Mobile, Larkspur Learning, Meridian Travel, Nimbus Weather, Orchard Retail",
        (265, 230, 188, 147, 96, 52),
        lambda days: (on("free", Ago(days), by="ops"), on("pro", Ago(days - 24))),
        lambda place: api(48 + 7 * place, 6_500 + 1_400 * place, seats=2 + place),
    ),
    *_each(
        "Pinecrest Legal, Quarry Maps, Saffron Foods",
        (340, 325, 295),
        lambda days: (on("pro", Ago(days)),),
        lambda place: api(58 + 9 * place, 8_000 + 2_500 * place, seats=3 + place),
    ),
    *_each(
        "Tidewater Shipping, Umber Design, Vantage Sports, Willow Clinics",
        (158, 124, 104, 36),
        lambda days: (on("pro", Ago(days)), *((on("extra-credits", Ago(60), by="ops"),) if days == 104 else ())),
        lambda place: api(66 + 14 * place, 9_000 + 3_000 * place, seats=4),
        pays="late",
    ),
    *_each(
        "Redwood Insurance",
        (285,),
        lambda days: (
            on("pro", Ago(days)),
            note(4, "Two reminders sent; their accounts team changed banks.", by="finance"),
        ),
        lambda place: api(72, 12_000, seats=5),
        pays="stops",
    ),
    *_each(
        "Basalt Mining, Cirrus Telecom, Delphi Research",
        (335, 255, 117),
        lambda days: (
            on("team", Ago(days)),
            *((void(80, reason="Billed although the pilot was promised as free"),) if days == 117 else ()),
        ),
        lambda place: api(280 + 70 * place, 60_000 + 25_000 * place, seats=16 + 4 * place),
        pays="late",
    ),
    *_each(
        "Indigo Chat, Jasper Docs, Kelvin Tutors, Lumen Search, Mosaic Law, Northwind Traders",
        (315, 245, 175, 125, 82, 40),
        lambda days: (on("developer", Ago(days), by="ops"),),
        lambda place: tokens(12 + 9 * place),
    ),
    *_each(
        "Summit Simulation, Tessera Voice",
        (220, 135),
        lambda days: (on("scale", Ago(days)),),
        lambda place: tokens(340 + 160 * place, hours=12 + 10 * place),
        busy=True,
    ),
    *_each(
        "Xylem Forestry, Yonder Hotels, Zenith Ads, Amberline Rail",
        (275, 205, 145, 62),
        lambda days: (on("on-demand", Ago(days), by="ops"),),
        lambda place: warehouse(1_800 + 900 * place, 700 + 350 * place),
    ),
    *_each(
        "Driftwood Surf, Eastgate Pharmacies",
        (238, 88),
        lambda days: (on("reserved", Ago(days)),),
        lambda place: warehouse(8_000 + 4_000 * place, 3_000 + 900 * place),
    ),
    *_each(
        "Inkwell Zines, Jetstream Hobby, Kiln Pottery, Lantern Theatre, Moss Gardens",
        (199, 151, 87, 33, 6),
        lambda days: (),
        lambda place: api(2 + place % 3, 150 + 90 * place),
    ),
)

COMPANIES = (ACME, *STORIES, *CROWD)
