"""What is measured, one after the other, each figure beside what it is compared with."""

import time
from collections.abc import Callable
from datetime import datetime

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core.cache import cache
from django.core.management import call_command
from django.utils import timezone

from bench import hot, web, world
from bench.billing import billing_run
from bench.report import Report
from billing_admin import runs
from launch import static
from launch.environment import ROOT


def measure(report: Report, *, only_hot: bool = False) -> None:
    small, large = (1_000, 10_000) if report.quick else (10_000, 100_000)
    seconds = 1.0 if report.quick else 4.0
    few, many, most = (100, 1_000, 100) if report.quick else (1_000, 10_000, 1_000)
    print("Preparing the database …")
    cache.clear()
    call_command("migrate", verbosity=0)
    if static.changed(ROOT, ROOT / "var"):
        call_command("collectstatic", verbosity=0, interactive=False)
        static.remember(ROOT, ROOT / "var")
    now = timezone.now().replace(microsecond=0)
    made = world.build(now)
    on_plan = range(world.FIRST_ON_PLAN, world.FIRST_ON_PLAN + small)
    world.copy(made, on_plan.start, on_plan.stop - 1)
    world.settle_down()
    with web.serving() as port:
        hot.measure(report, port, made, on_plan, seconds)
        if only_hot:
            return
        cookie = signed_in()
        before = pages(report, port, cookie, on_plan, small, {})
        grown = range(world.FIRST_ON_PLAN, world.FIRST_ON_PLAN + large)
        world.copy(made, on_plan.stop, grown.stop - 1)
        world.settle_down()
        pages(report, port, cookie, grown, large, before)
    clockwork(report, made, grown, few, many, most)
    billing_run(report, made, world.FIRST_TO_BILL, 1_000 if report.quick else 10_000)


def signed_in() -> str:
    """The cookie of a signed-in person."""
    user = User.objects.get(username="bench")
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return f"sessionid={session.session_key}"


def pages(
    report: Report, port: int, cookie: str, numbers: range, customers: int, before: dict[str, float]
) -> dict[str, float]:
    """The pages that staff open all day, one person at a time; beside them the same with fewer customers."""
    report.title(f"Pages, {customers:,} customers")
    addresses = {
        "customer page": "/customers/customer/{n}/",
        "customer list": "/customers/customer/",
        "customer search": "/customers/customer/?q=bench-{n}",
        "first page": "/",
        "run page": "/billing_admin/workerrun/",
    }
    found = {}
    for name, path in addresses.items():
        request = {"method": "GET", "path": path, "headers": {"Cookie": cookie}}
        web.load(port, request, numbers, connections=2, seconds=5, most=10)
        measured = web.load(port, request, numbers, connections=1, seconds=5, most=100)
        against = "with a tenth of the customers" if before else ""
        report.add(f"{name} p95, {customers:,}", measured["p95"], "ms", floor=before.get(name), against=against)
        found[name] = measured["p95"]
    return found


def clockwork(report: Report, made: world.World, numbers: range, few: int, many: int, most: int) -> None:
    """Renewals and resets by one worker. With ten times as many due, each should take no longer."""
    report.title(f"Clockwork, one worker, {len(numbers):,} customers")
    default = range(world.FIRST_ON_DEFAULT, world.FIRST_ON_DEFAULT + few + many)
    world.copy(made, default.start, default.stop - 1, on_default=True)
    world.settle_down()
    for name, make_due, run, first in (
        ("resets", world.make_resets_due, runs.resets, default.start),
        ("renewals", world.make_renewals_due, runs.renewals, numbers.start + len(numbers) // 2),
    ):
        make_due(range(first, first + few))
        floor = rate(run, made.now, few)
        report.add(f"{name}, {few:,} due", floor, "/s")
        make_due(range(first + few, first + few + many))
        value = rate(run, made.now, most)
        against = f"with {few:,} due"
        report.add(f"{name}, {most:,} of {many:,} due", value, "/s", floor=floor, against=against)


def rate(run: Callable[..., runs.Pass], now: datetime, most: int) -> float:
    began = time.perf_counter()
    this = run(now=now, most=most)
    spent = time.perf_counter() - began
    assert this.failed == 0, "a bench of failures would be fast"
    assert this.done >= most, f"{this.done} done instead of {most}"
    return this.done / spent
