"""What is sold: features and products."""

from datetime import datetime
from typing import Annotated, Literal, Self

from ninja import Router
from pydantic import Field

from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_product
from billing_admin.api.meters import find_meter
from billing_admin.api.refusals import NotFound
from billing_admin.api.shapes import Answer, Body, Slug
from billing_admin.flows import catalog as verbs
from catalog.models import Feature, Product
from catalog.terms import METERED

router = Router(tags=["Catalog"])


class FeatureIn(Body):
    slug: Slug
    name: Annotated[str, Field(min_length=1, max_length=120)]
    type: Literal["boolean", "metered", "static"]
    usage: Literal["consumable", "allocated"] = Field("consumable", description="Metered features only.")
    unit: Annotated[str, Field(max_length=30)] = ""
    description: Annotated[str, Field(max_length=5_000)] = ""
    product_id: Slug | None = Field(None, description="Reserved for one product's plans.")
    meter_slug: Slug | None = Field(None, description="Metered features: the meter that counts its events.")


class FeatureOut(Answer):
    slug: str
    name: str
    type: str
    usage: str | None = Field(description="Metered features: `consumable` or `allocated`.")
    unit: str
    description: str
    product_id: str | None
    meter_slug: str | None = Field(description="Null: units are reported as they are.")
    archived_at: datetime | None

    @classmethod
    def of(cls, feature: Feature) -> Self:
        return cls(
            slug=feature.slug,
            name=feature.name,
            type=feature.type,
            usage=feature.usage if feature.type == METERED else None,
            unit=feature.unit,
            description=feature.description,
            product_id=feature.product.key if feature.product else None,
            meter_slug=feature.meter.slug if feature.meter else None,
            archived_at=feature.archived_at,
        )


class FeaturesOut(Answer):
    data: list[FeatureOut]


class ProductIn(Body):
    name: Annotated[str, Field(min_length=1, max_length=120)]
    key: Slug | None = Field(None, description="Slugged from the name when left out.")
    description: Annotated[str, Field(max_length=5_000)] = ""
    assigned: bool = Field(default=False, description="With an assigned plan of the same name, to be filled.")


class ProductOut(Answer):
    id: str = Field(description="The product's key: what `productId` takes.")
    name: str
    description: str
    plans: list[str] = Field(description="Keys of its plans.")
    archived_at: datetime | None

    @classmethod
    def of(cls, product: Product) -> Self:
        return cls(
            id=product.key,
            name=product.name,
            description=product.description,
            plans=[plan.key for plan in product.plans.all()],
            archived_at=product.archived_at,
        )


class ProductsOut(Answer):
    data: list[ProductOut]


@endpoint(router, "GET", "/features", needs="catalog.view_feature", gives=FeaturesOut)
def list_features(request: ApiRequest) -> FeaturesOut:
    """List all features."""
    return FeaturesOut(data=[FeatureOut.of(feature) for feature in Feature.objects.select_related("product", "meter")])


@endpoint(router, "GET", "/features/{slug}", needs="catalog.view_feature", gives=FeatureOut, refuses=[404])
def read_feature(request: ApiRequest, slug: Slug) -> FeatureOut:
    """Read a feature."""
    feature = Feature.objects.select_related("product", "meter").filter(slug=slug).first()
    if feature is None:
        raise NotFound("feature", slug)
    return FeatureOut.of(feature)


@endpoint(
    router,
    "POST",
    "/features",
    needs="catalog.add_feature",
    gives=FeatureOut,
    status=201,
    refuses=[404, 409],
    example={"slug": "credits", "name": "Credits", "type": "metered", "unit": "credit"},
)
def create_feature(request: ApiRequest, body: FeatureIn) -> FeatureOut:
    """Create a feature."""
    feature = Feature(
        slug=body.slug,
        name=body.name,
        type=body.type,
        usage=body.usage,
        unit=body.unit,
        description=body.description,
        product=find_product(body.product_id) if body.product_id else None,
        meter=find_meter(body.meter_slug) if body.meter_slug else None,
    )
    return FeatureOut.of(verbs.save_feature(feature, actor=request.auth.actor, now=request.now))


@endpoint(router, "GET", "/products", needs="catalog.view_product", gives=ProductsOut)
def list_products(request: ApiRequest) -> ProductsOut:
    """List all products with the keys of their plans."""
    return ProductsOut(data=[ProductOut.of(product) for product in Product.objects.prefetch_related("plans")])


@endpoint(router, "GET", "/products/{key}", needs="catalog.view_product", gives=ProductOut, refuses=[404])
def read_product(request: ApiRequest, key: Slug) -> ProductOut:
    """Read a product."""
    product = Product.objects.filter(key=key).first()
    if product is None:
        raise NotFound("product", key)
    return ProductOut.of(product)


@endpoint(
    router,
    "POST",
    "/products",
    needs="catalog.add_product",
    gives=ProductOut,
    status=201,
    refuses=[409],
    example={"name": "API"},
)
def create_product(request: ApiRequest, body: ProductIn) -> ProductOut:
    """Create a product; its plans come next, unless it is `assigned` by hand and has just one."""
    actor, now = request.auth.actor, request.now
    if body.assigned:
        return ProductOut.of(verbs.create_product(body.name, actor=actor, now=now).product)
    return ProductOut.of(
        verbs.add_product(body.name, key=body.key or "", description=body.description, actor=actor, now=now)
    )
