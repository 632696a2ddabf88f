from django.contrib import admin
from django.urls import path

handler403 = "billing_admin.access.refused"

urlpatterns = [path("", admin.site.urls)]
