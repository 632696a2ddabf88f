"""What the demo company sells: three products, a default for whoever has nothing else, and a partner plan."""

from datetime import datetime
from decimal import Decimal

from catalog.charges import GRADUATED, Price, Tier
from catalog.coupons import CouponDraft, add_promo_code, create_coupon
from catalog.models import Coupon, Feature, Plan, PlanVersion, Product
from catalog.publish import create_plan, create_product, make_default, open_draft, publish, write_items
from catalog.terms import ALLOCATED, BOOLEAN, CONSUMABLE, HARD, INSTANT, METERED, SOFT, STATIC, FeatureTerms, ItemTerms

BY = "ops"

FEATURES = {
    # slug: name, type, use, unit
    "credits": ("Credits", METERED, CONSUMABLE, "credit"),
    "api-calls": ("API calls", METERED, CONSUMABLE, "call"),
    "seats": ("Seats", METERED, ALLOCATED, "seat"),
    "sso": ("Single sign-on", BOOLEAN, CONSUMABLE, ""),
    "input-tokens": ("Input tokens", METERED, CONSUMABLE, "token"),
    "output-tokens": ("Output tokens", METERED, CONSUMABLE, "token"),
    "fine-tuning-hours": ("Fine-tuning", METERED, CONSUMABLE, "hour"),
    "rate-limit": ("Rate limit (requests per minute)", STATIC, CONSUMABLE, ""),
    "priority-gpu": ("Priority GPU", BOOLEAN, CONSUMABLE, ""),
    "sla": ("Service level", STATIC, CONSUMABLE, ""),
    "storage": ("Storage", METERED, CONSUMABLE, "GB-month"),
    "query-seconds": ("Query time", METERED, CONSUMABLE, "second"),
    "speech-minutes": ("Speech", METERED, CONSUMABLE, "minute"),
}


def fee(amount: str, *, cadence: str = "P1M", name: str = "") -> ItemTerms:
    return ItemTerms(key="base", name=name, amount=Decimal(amount), cadence=cadence)


def on(slug: str) -> ItemTerms:
    return ItemTerms(key=slug, feature=_terms(slug))


def static(slug: str, value: str) -> ItemTerms:
    unlimited = value == "unlimited"
    return ItemTerms(key=slug, feature=_terms(slug), value="" if unlimited else value, unlimited=unlimited)


def units(slug: str, included: int, *, soft: bool = False) -> ItemTerms:
    """So many each month; allocated ones are a level and never reset."""
    feature = _terms(slug)
    reset = "never" if feature.is_allocated else "P1M"
    return ItemTerms(key=slug, feature=feature, included=Decimal(included), reset=reset, limit=SOFT if soft else HARD)


def paid(slug: str, price: str, *, per: int = 1, included: int | None = None, monthly: bool = False) -> ItemTerms:
    """Use at a price, beyond what is included, billed with the plan or else each month."""
    return ItemTerms(
        key=slug,
        feature=_terms(slug),
        included=None if included is None else Decimal(included),
        reset="P1M",
        limit=SOFT,
        price=Price(rate=Decimal(price) / per, per=per),
        cadence="P1M" if monthly else "",
    )


def _terms(slug: str) -> FeatureTerms:
    return Feature.objects.get(slug=slug).terms()


def build(now: datetime) -> None:
    """Everything on sale at the start of the demo."""
    for slug, (name, type_, usage, unit) in FEATURES.items():
        feature = Feature(slug=slug, name=name, type=type_, usage=usage, unit=unit)
        feature.full_clean()
        feature.save()
    _api(now)
    _llm(now)
    _warehouse(now)
    _speech(now)
    community = create_product("Community", by=BY, currency="USD")
    sell(community, [units("credits", 5), units("api-calls", 1_000)], now=now)
    make_default(community, confirmed=False)
    partner = create_product("Partner", by=BY, currency="USD")
    sell(partner, [units("credits", 60), units("api-calls", 50_000), on("sso")], now=now)
    _coupons(now)


def _coupons(now: datetime) -> None:
    launch = CouponDraft("Launch 20", Coupon.Kind.PERCENT, percent=Decimal(20), duration="repeating", periods=3)
    add_promo_code(create_coupon(launch, currencies=["USD"], now=now), "LAUNCH20", max_redemptions=100, now=now)
    feature = Feature.objects.get(slug="credits")
    gift = CouponDraft("Support credits", Coupon.Kind.FEATURE_GRANT, feature=feature, units=Decimal(40), lasts_days=30)
    create_coupon(gift, currencies=["USD"], now=now)


def _api(now: datetime) -> None:
    api = Product.objects.create(key="api", name="API", description="Credits for our image and speech endpoints.")
    plan(api, "free", "Free", [units("credits", 10), units("api-calls", 1_000), units("seats", 1)], now=now)
    plan(api, "pro", "Pro", pro_items(price="45.00", credits=80), now=now)
    plan(
        api,
        "team",
        "Team",
        [
            fee("200.00"),
            units("credits", 500),
            paid("api-calls", "1.60", per=1_000, included=100_000),
            units("seats", 25, soft=True),
            on("sso"),
        ],
        now=now,
    )
    plan(api, "extra-credits", "Extra credits", [fee("20.00"), units("credits", 50)], now=now, add_on=True)


def pro_items(*, price: str = "50.00", credits: int = 100) -> list[ItemTerms]:
    return [
        fee(price),
        units("credits", credits),
        paid("api-calls", "2.00", per=1_000, included=10_000),
        units("seats", 5, soft=True),
        on("sso"),
    ]


def reprice_pro(now: datetime) -> PlanVersion:
    """The one price change of the year: whoever has the old version keeps it."""
    draft = open_draft(Plan.objects.get(key="pro"), by=BY)
    write_items(draft, pro_items())
    return publish(draft, message="100 credits for $50.00, was 80 for $45.00", by=BY, now=now)


def _llm(now: datetime) -> None:
    llm = Product.objects.create(key="llm-api", name="LLM API", description="Language models by the token.")
    tokens = [paid("input-tokens", "0.002", per=1_000), paid("output-tokens", "0.006", per=1_000)]
    plan(llm, "developer", "Developer", [*tokens, static("rate-limit", "100")], now=now)
    half = [paid("input-tokens", "0.001", per=1_000), paid("output-tokens", "0.003", per=1_000)]
    hours = paid("fine-tuning-hours", "5.00")
    plan(llm, "scale", "Scale", [*half, hours, static("rate-limit", "1000")], now=now)
    plan(
        llm,
        "enterprise",
        "Enterprise",
        [
            fee("18000.00", cadence="P1Y"),
            paid("input-tokens", "0.0008", per=1_000, included=2_000_000_000, monthly=True),
            paid("output-tokens", "0.0024", per=1_000, included=500_000_000, monthly=True),
            paid("fine-tuning-hours", "4.00", included=40, monthly=True),
            static("rate-limit", "unlimited"),
            on("priority-gpu"),
            static("sla", "99.95 % each month, first answer within one hour"),
        ],
        cadence="P1Y",
        now=now,
    )


def _warehouse(now: datetime) -> None:
    warehouse = Product.objects.create(
        key="data-warehouse", name="Data warehouse", description="Storage by the gigabyte, queries by the second."
    )
    seconds = paid("query-seconds", "0.05")
    plan(warehouse, "on-demand", "On-Demand", [paid("storage", "0.023"), seconds], now=now)
    reserved = [paid("storage", "0.015", monthly=True), paid("query-seconds", "0.05", monthly=True)]
    plan(warehouse, "reserved", "Reserved", reserved, cadence="P1Y", now=now)


def _speech(now: datetime) -> None:
    """From before version 1: a fee, and every minute at once from the wallet."""
    speech = Product.objects.create(key="speech", name="Speech", description="Transcripts by the minute, prepaid.")
    tiers = (Tier(Decimal(1_000), unit=Decimal("0.024")), Tier(None, unit=Decimal("0.018")))
    minutes = ItemTerms(
        key="speech-minutes",
        feature=_terms("speech-minutes"),
        reset="P1M",
        price=Price(model=GRADUATED, tiers=tiers),
        term=INSTANT,
    )
    plan(speech, "speech-classic", "Classic", [fee("9.00"), minutes], now=now, billing_version=0)


def plan(
    product: Product,
    key: str,
    name: str,
    items: list[ItemTerms],
    *,
    now: datetime,
    cadence: str = "P1M",
    add_on: bool = False,
    billing_version: int = 1,
) -> None:
    made = create_plan(
        product,
        name=name,
        key=key,
        invoice_display_name=f"{product.name} {name}",
        by=BY,
        currency="USD",
        cadence=cadence,
        add_on=add_on,
        billing_version=billing_version,
        items=items,
    )
    publish(made.versions.get(), message="First version", by=BY, now=now)


def sell(assigned: Plan, items: list[ItemTerms], *, now: datetime) -> None:
    """Publish what an assigned plan gives."""
    draft = open_draft(assigned, by=BY)
    write_items(draft, items)
    publish(draft, message="First version", by=BY, now=now)
    assigned.refresh_from_db()
