"""`python -m tests.screenshots`: pictures of the main pages, of demo data made for a fixed day, into docs/screenshots.

It starts the test servers, fills a database of its own, serves the real application and walks through it with the
system's Chromium, at two widths and in both themes.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "screenshots"
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTHS = {1440: 960, 390: 844}
# What the README shows is kept in the repository; the other variants are for the eyes of whoever changes a page.
KEPT = {"customer-light-1440", "customer-dark-1440", "customer-light-390", "enable-light-1440", "balance-light-1440"}
KEPT |= {"invoice-light-1440", "plan-light-1440", "dashboard-light-1440", "runs-light-1440", "override-light-1440"}
KEPT |= {"deal-light-1440", "coming-light-1440", "migration-light-1440"}
KEPT |= {"stripe-declined-light-1440", "stripe-compare-light-1440", "stripe-mirror-light-1440"}


def main() -> int:
    everything = "--all" in sys.argv
    PICTURES.mkdir(parents=True, exist_ok=True)
    with database() as url:
        with web(url) as address:
            take(address, addresses(), everything=everything)
        with stripe(), web(url) as address:
            take(address, stripe_addresses(), everything=everything)
    return 0


@contextmanager
def database() -> Iterator[str]:
    """The test servers with a database filled by `seed_demo`, dropped afterwards."""
    import psycopg

    from launch import servers
    from launch.places import Places

    # Not from tests/settings.py: importing it would fix the database before ours exists.
    places = Places(ROOT / "var" / "test", database="postgres")
    servers.make_folders(places)
    started = [servers.Postgres(places, settings=servers.THROWAWAY), servers.Valkey(places)]
    ours = [server for server in started if not server.answers()]
    servers.start(started, places)
    name = f"screenshots_{os.getpid()}"
    admin = psycopg.connect(places.database_url, autocommit=True)
    admin.execute(f"CREATE DATABASE {name}")
    url = places.database_url.replace("@/postgres?", f"@/{name}?")
    try:
        environment = os.environ | {"DATABASE_URL": url, "REDIS_URL": places.redis_url}
        for command in (["migrate", "--noinput", "-v0"], ["seed_demo"], ["collectstatic", "--noinput", "-v0"]):
            subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=environment, check=True)
        os.environ.update(environment)
        yield url
    finally:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        admin.close()
        servers.stop(ours, places)


@contextmanager
def stripe() -> Iterator[None]:
    """A double of Stripe for whatever starts from now on, with the demo's share in it."""
    from launch.stand_in import StandIn

    home = ROOT / "var" / "test" / f"screenshots-{os.getpid()}"
    double = StandIn(ROOT, home=home, logs=home, webhook="http://127.0.0.1:9/")
    double.start()
    try:
        os.environ.update(double.settings())
        subprocess.run([sys.executable, "manage.py", "seed_demo", "--stripe"], cwd=ROOT, check=True)
        yield
    finally:
        double.process.ask_to_stop()
        double.process.await_stop(time.monotonic() + 5)
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def web(url: str) -> Iterator[str]:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(port), "--workers", "1"]
    server = subprocess.Popen([*command, "billing_admin.wsgi:application"], cwd=ROOT, env=os.environ | {"DEBUG": "0"})
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def wait_for(port: int) -> None:
    for _ in range(200):
        with closing(socket.socket()) as door:
            if door.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("The web server did not start.")


def take(address: str, pages: dict[str, str], *, everything: bool) -> None:
    from playwright.sync_api import sync_playwright

    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for theme in ("light", "dark"):
            for width, height in WIDTHS.items():
                wanted = [name for name in pages if everything or f"{name}-{theme}-{width}" in KEPT]
                if not wanted:
                    continue
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce"
                )
                page = context.new_page()
                page.goto(f"{address}/login/")
                page.fill("input[name=username]", "admin")
                page.fill("input[name=password]", "demo")
                page.click("button[type=submit]")
                for name in wanted:
                    page.goto(address + pages[name])
                    page.wait_for_load_state("networkidle")
                    act = ACTS.get(name)
                    if act:
                        act(page)
                    page.screenshot(path=PICTURES / f"{name}-{theme}-{width}.png", full_page=name not in DIALOGS)
                    print(f"{name}-{theme}-{width}", flush=True)
                context.close()
        browser.close()


def addresses() -> dict[str, str]:
    """Where the pages of the tour are, in this database."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "billing_admin.settings")
    import django

    django.setup()
    from django.urls import reverse

    from billing_admin.tasks import heartbeat
    from catalog.models import Plan
    from customers.models import Customer, PlanMigration
    from deals.models import Deal
    from invoicing.models import Invoice

    deal = Deal.objects.get(state=Deal.State.AWAITING_APPROVAL)
    acme = Customer.objects.get(name="Acme Robotics")
    pro = Plan.objects.get(name="Pro")
    contract = acme.subscriptions.live().get(product=pro.product, add_on=False)
    invoice = Invoice.objects.filter(customer=acme, kind="invoice").latest("id")
    customer = reverse("admin:customers_customer_change", args=[acme.pk])
    change = reverse("admin:enable_plan", args=[acme.pk])
    pages = {
        "runs": reverse("admin:billing_admin_workerrun_changelist"),
        "dashboard": reverse("admin:index"),
        "customers": reverse("admin:customers_customer_changelist"),
        "customer": customer,
        "balance": customer,
        "override": customer,
        "enable": f"{change}?subscription={contract.public_id}&plan={pro.key}",
        "plan": reverse("admin:catalog_plan_change", args=[pro.pk]),
        "products": reverse("admin:catalog_product_changelist"),
        "invoice": reverse("admin:invoicing_invoice_change", args=[invoice.pk]),
        "deal": reverse("admin:deals_deal_change", args=[deal.public_id]),
        "coming": reverse("admin:coming"),
        "migration": reverse("admin:migration", args=[PlanMigration.objects.get().public_id]),
        "revenue": reverse("admin:revenue"),
        "approvals": reverse("admin:approvals"),
    }
    heartbeat()  # as if a worker were there, which it is wherever somebody looks
    return pages


def stripe_addresses() -> dict[str, str]:
    """The pages that keys of Stripe bring."""
    from django.urls import reverse

    from customers.models import Customer
    from payments.models import StripeEvent, StripeInvoice

    declined = StripeInvoice.objects.filter(state="declined").latest("id")
    mirrored = Customer.objects.get(name="Orchard Retail")
    return {
        "stripe-declined": reverse("admin:invoicing_invoice_change", args=[declined.invoice_id]),
        "stripe-customer": reverse("admin:customers_customer_change", args=[declined.invoice.customer_id]),
        "stripe-dashboard": reverse("admin:index"),
        "stripe-invoices": reverse("admin:invoicing_invoice_changelist"),
        "stripe-backlog": reverse("admin:stripe_backlog"),
        "stripe-customers": reverse("admin:stripe_customers"),
        "stripe-mirror": reverse("admin:stripe_mirror"),
        "stripe-compare": reverse("admin:stripe_compare"),
        "stripe-events": reverse("admin:payments_stripeevent_changelist"),
        "stripe-event": reverse("admin:payments_stripeevent_change", args=[StripeEvent.objects.first().pk]),
        "stripe-settings": reverse("admin:stripe_settings"),
        "stripe-mirrored": reverse("admin:customers_customer_change", args=[mirrored.pk]),
    }


def open_balance(page) -> None:  # type: ignore[no-untyped-def]  # playwright is imported late
    page.get_by_role("link", name="Credits").first.click()
    page.wait_for_selector("dialog[open], [role=dialog]")
    page.fill("[name=balance], [name=to]", "300")
    page.wait_for_timeout(700)


def give_more(page) -> None:  # type: ignore[no-untyped-def]
    page.locator("input[name$=included]:not([type=hidden])").first.fill("250")
    page.wait_for_timeout(1200)


def override_credits(page) -> None:  # type: ignore[no-untyped-def]
    page.get_by_role("link", name="Override feature").click()
    page.wait_for_selector("dialog[open]")
    page.select_option("dialog [name=feature]", label="Credits")
    page.wait_for_selector("dialog [name=value]:focus")
    page.fill("dialog [name=value]", "400")
    page.fill("dialog [name=until]", (datetime.now(UTC) + timedelta(days=30)).date().isoformat())
    page.fill("dialog [name=reason]", "Pilot of the new region, agreed with Kim")
    page.wait_for_timeout(1200)


ACTS = {"balance": open_balance, "enable": give_more, "override": override_credits}
DIALOGS = ("balance", "override")

if __name__ == "__main__":
    sys.exit(main())
