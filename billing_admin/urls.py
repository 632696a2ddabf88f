from django.contrib import admin
from django.urls import include, path

from billing_admin.stripe_webhook import webhook

handler403 = "billing_admin.access.refused"

urlpatterns = [
    path("api/v1/", include("billing_admin.api.urls")),
    path("i/", include("billing_admin.hosted")),
    path("pay/", include("billing_admin.hosted_method")),
    path("stripe/webhook", webhook, name="stripe_webhook"),
    path("", admin.site.urls),
]
