"""The script for our own page and the hosted page, used by a real browser."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import stripe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.conftest import CHROMIUM, FLAGS
from tests.stripe_double.conftest import Shop

pytestmark = [
    pytest.mark.browser,
    # In CI a missing browser is a failure, not a reason to test less.
    pytest.mark.skipif(not CHROMIUM.exists() and not os.environ.get("CI"), reason="there is no Chromium here"),
]

FORM = """<!doctype html><title>Add a card</title><form><div id="card"></div><button>Save</button></form>
<p role="status"></p><script src="{url}/js/stripe.js"></script><script>
const stripe = Stripe("{key}"), elements = stripe.elements({{ clientSecret: "{secret}" }});
elements.create("payment").mount("#card");
document.querySelector("form").addEventListener("submit", async (event) => {{
  event.preventDefault();
  const {{ error }} = await stripe.confirmSetup({{ elements, confirmParams: {{ return_url: "{shop}done" }} }});
  document.querySelector("p").textContent = `${{error.code}}: ${{error.message}}`;
}});</script>"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    page = chromium.new_page()
    page.set_default_timeout(10_000)
    yield page
    page.close()


class OurPage(BaseHTTPRequestHandler):
    """The card form at every address of ours; a page made up by the browser may not reach loopback."""

    form = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.form.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def ours() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), OurPage)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def show(page: Page, shop: Shop, intent: stripe.SetupIntent, ours: str) -> None:
    """Our page with the card form; /done is where the payment comes back to."""
    given = {"url": shop.double.url, "key": shop.double.publishable_key, "secret": intent.client_secret, "shop": ours}
    OurPage.form = FORM.format(**given)
    page.goto(ours)


def fill(page: Page, number: str) -> None:
    page.get_by_label("Card number").fill(number)
    page.get_by_label("Expiry").fill("12 / 34")
    page.get_by_label("CVC").fill("123")


def test_our_page_keeps_a_card_after_a_decline(shop: Shop, page: Page, ours: str) -> None:
    intent = shop.api.setup_intents.create({"customer": shop.customer().id})
    show(page, shop, intent, ours)

    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("incomplete_number")
    fill(page, "4000 0000 0000 0002")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("card_declined: Your card was declined.")
    fill(page, "4242 4242 4242 4242")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/done?*redirect_status=succeeded*")

    assert f"setup_intent={intent.id}" in page.url
    assert shop.api.setup_intents.retrieve(intent.id).status == "succeeded"


@pytest.mark.parametrize(("button", "outcome"), [("Complete", "succeeded"), ("Fail", "failed")])
def test_our_page_sends_the_owner_to_3d_secure_and_back(
    shop: Shop, page: Page, ours: str, button: str, outcome: str
) -> None:
    intent = shop.api.setup_intents.create({"customer": shop.customer().id})
    show(page, shop, intent, ours)

    fill(page, "4000 0025 0000 3155")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name=button).click()
    page.wait_for_url(f"**/done?*redirect_status={outcome}*")

    found = shop.api.setup_intents.retrieve(intent.id)
    assert found.status == ("succeeded" if outcome == "succeeded" else "requires_payment_method")


def test_the_hosted_page_is_paid_after_a_decline(shop: Shop, page: Page) -> None:
    invoice = shop.open(shop.customer(), 5000)
    page.goto(f"{invoice.hosted_invoice_url}?return=http://shop.test/")

    fill(page, "4000 0000 0000 9995")
    page.get_by_role("button", name="Pay $50.00").click()
    expect(page.get_by_role("alert")).to_contain_text("insufficient funds")
    fill(page, "4242 4242 4242 4242")
    page.get_by_role("button", name="Pay $50.00").click()

    expect(page.get_by_role("status")).to_contain_text("Invoice paid")
    expect(page.get_by_role("link", name="Back")).to_have_attribute("href", "http://shop.test/")
    assert len(shop.double.ledger()) == 1
