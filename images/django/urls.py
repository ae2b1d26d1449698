"""Which page is where."""

from django.contrib import admin
from django.http import HttpResponse
from django.urls import path


def index(request):
    return HttpResponse("<h1>It works</h1><p>Make it yours: ~/mysite/mysite/urls.py")


urlpatterns = [
    path("", index),
    path("admin/", admin.site.urls),
]
