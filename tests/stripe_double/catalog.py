"""Products and prices."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from tests.stripe_double import lists, money, shapes
from tests.stripe_double.customers import merge_metadata
from tests.stripe_double.errors import refused
from tests.stripe_double.events import emit, watching
from tests.stripe_double.routes import Call, endpoint
from tests.stripe_double.state import Thing, World

PLAIN = (
    "active",
    "description",
    "images",
    "marketing_features",
    "statement_descriptor",
    "tax_code",
    "unit_label",
    "url",
)


@endpoint("POST", "/v1/products")
def create_product(call: Call) -> Thing:
    world, given = call.world, call.given
    if given.get("id") in world.things:
        raise refused("Product already exists.", code="resource_already_exists", param="id")
    product = new_product(world, given["name"], **call.pick("id", "metadata", *PLAIN))
    if inline := given.get("default_price_data"):
        price = new_price(world, product, {**inline, "metadata": inline.get("metadata") or {}})
        product["default_price"] = price["id"]
    return product


def new_product(world: World, name: str, **more: Any) -> Thing:
    values = {"active": True, "images": [], "type": "service", "updated": world.now(), **more, "name": name}
    product = world.make("product", "prod", **values)
    emit(world, "product.created", product)
    return product


@endpoint("POST", "/v1/products/{}")
def update_product(call: Call) -> Thing:
    product = call.world.get(call.id, "product")
    with watching(call.world, "product.updated", product):
        product.update(call.pick("name", "default_price", *PLAIN), updated=call.world.now())
        merge_metadata(product, call.given)
    return product


@endpoint("GET", "/v1/products/{}")
def retrieve_product(call: Call) -> Thing:
    return call.world.get(call.id, "product")


@endpoint("GET", "/v1/products")
def list_products(call: Call) -> Thing:
    products = call.world.newest("product")
    if ids := call.given.get("ids"):
        products = (product for product in products if product["id"] in ids)
    return lists.page(call, products, "/v1/products", "active", "shippable", "url")


@endpoint("DELETE", "/v1/products/{}")
def delete_product(call: Call) -> Thing:
    product = call.world.get(call.id, "product")
    if call.world.all("price", product=product["id"]):
        raise refused("This product cannot be deleted because it has one or more user-created prices.")
    emit(call.world, "product.deleted", product)
    return call.world.forget(product)


@endpoint("POST", "/v1/prices")
def create_price(call: Call) -> Thing:
    world, given = call.world, call.given
    if ("product" in given) == ("product_data" in given):
        raise refused("You must specify either `product` or `product_data` when creating a price.")
    check_amounts(given)
    if inline := given.get("product_data"):
        product = new_product(world, inline["name"], metadata=inline.get("metadata") or {})
    else:
        product = world.get(given["product"], "product", "product")
    return new_price(world, product, given)


def check_amounts(given: dict[str, Any]) -> None:
    tiered = given.get("billing_scheme") == "tiered"
    if tiered and not (given.get("tiers") and given.get("tiers_mode")):
        raise refused("You must pass `tiers` and `tiers_mode` when `billing_scheme` is tiered.", param="tiers")
    amounts = {"unit_amount", "unit_amount_decimal", "custom_unit_amount"} & given.keys()
    if not tiered and len(amounts) != 1:
        message = "You must specify exactly one of `unit_amount`, `unit_amount_decimal` or `custom_unit_amount`."
        raise refused(message, code="parameter_missing" if not amounts else "parameters_exclusive")


def new_price(world: World, product: Thing, given: dict[str, Any]) -> Thing:
    currency = money.check_currency(given["currency"])
    recurring = given.get("recurring")
    price = world.make(
        "price",
        "price",
        active=given.get("active", True),
        billing_scheme=given.get("billing_scheme", "per_unit"),
        currency=currency,
        lookup_key=given.get("lookup_key"),
        metadata=given.get("metadata") or {},
        nickname=given.get("nickname"),
        product=product["id"],
        recurring=recurring and RECURRING | recurring,
        tax_behavior=given.get("tax_behavior", "unspecified"),
        tiers_mode=given.get("tiers_mode"),
        transform_quantity=given.get("transform_quantity"),
        type="recurring" if recurring else "one_time",
        _tiers=[tier(each) for each in given.get("tiers") or []] or None,
        **unit_amounts(given),
    )
    emit(world, "price.created", price)
    return price


RECURRING = {"interval_count": 1, "meter": None, "trial_period_days": None, "usage_type": "licensed"}


def unit_amounts(given: dict[str, Any], name: str = "unit_amount") -> dict[str, Any]:
    exact = given.get(f"{name}_decimal", given.get(name))
    if exact is None:
        return {name: None, f"{name}_decimal": None}
    whole = Decimal(exact)
    return {name: int(whole) if whole == int(whole) else None, f"{name}_decimal": plain(whole)}


def plain(number: Decimal) -> str:
    return format(number.normalize(), "f")


def tier(given: dict[str, Any]) -> dict[str, Any]:
    top = given["up_to"]
    return {
        **unit_amounts(given, "flat_amount"),
        **unit_amounts(given, "unit_amount"),
        "up_to": None if top == "inf" else int(top),
    }


@shapes.computed("price", "tiers")
def tiers_of(world: World, price: Thing) -> Any:
    return price["_tiers"]


@endpoint("POST", "/v1/prices/{}")
def update_price(call: Call) -> Thing:
    price = call.world.get(call.id, "price")
    with watching(call.world, "price.updated", price):
        price.update(call.pick("active", "lookup_key", "nickname", "tax_behavior"))
        merge_metadata(price, call.given)
    return price


@endpoint("GET", "/v1/prices/{}")
def retrieve_price(call: Call) -> Thing:
    return call.world.get(call.id, "price")


@endpoint("GET", "/v1/prices")
def list_prices(call: Call) -> Thing:
    prices = call.world.newest("price")
    if keys := call.given.get("lookup_keys"):
        prices = (price for price in prices if price["lookup_key"] in keys)
    return lists.page(call, prices, "/v1/prices", "active", "currency", "product", "type")


# -- what a quantity costs ---------------------------------------------------------------------------------------------


def cost(price: Thing, quantity: int | Decimal) -> int:
    """In smallest units, rounded half up once."""
    if grouping := price["transform_quantity"]:
        quantity = grouped(Decimal(quantity) / grouping["divide_by"], grouping["round"])
    if price["billing_scheme"] == "tiered":
        return whole(tiered(price, Decimal(quantity)))
    return whole(Decimal(price["unit_amount_decimal"] or 0) * quantity)


def grouped(quantity: Decimal, way: str) -> int:
    down = int(quantity)
    return down + (1 if way == "up" and quantity > down else 0)


def tiered(price: Thing, quantity: Decimal) -> Decimal:
    total, below = Decimal(0), Decimal(0)
    for each in price["_tiers"]:
        top = Decimal(each["up_to"]) if each["up_to"] is not None else quantity
        if price["tiers_mode"] == "volume":
            if quantity <= top:
                return step(each, quantity)
        elif quantity > below or (quantity == 0 and below == 0):
            total += step(each, min(quantity, top) - below)
        below = top
    return total


def step(each: dict[str, Any], units: Decimal) -> Decimal:
    return Decimal(each["unit_amount_decimal"] or 0) * units + Decimal(each["flat_amount_decimal"] or 0)


def whole(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))
