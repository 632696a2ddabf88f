from django.contrib import admin
from django.urls import include, path

handler403 = "billing_admin.access.refused"

urlpatterns = [
    path("api/v1/", include("billing_admin.api.urls")),
    path("i/", include("billing_admin.hosted")),
    path("", admin.site.urls),
]
