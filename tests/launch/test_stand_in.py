"""The double of Stripe as one of the watched processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from launch import processes
from launch.environment import ROOT
from launch.stand_in import StandIn


@pytest.fixture
def double(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setattr(processes, "PAUSES", (0.05,))
    started = StandIn(ROOT, home=scratch / "double", logs=scratch / "log", webhook="http://127.0.0.1:9/stripe/webhook")
    yield started
    processes.stop([started.process])


def test_a_killed_double_comes_back_where_it_was_with_what_it_knew(double):
    double.start()
    double.ask("reset")  # a new account, kept at once
    account = double.ask("account")
    double.process.running.kill()

    processes.supervise([double.process], until=double.answers)

    assert double.ask("account") == account


def test_our_processes_are_told_of_the_double_and_nothing_of_stripe_itself(double):
    told = double.settings()

    assert told["STRIPE_API_URL"] == double.url
    assert all("_test_" in told[name] for name in ("STRIPE_SECRET_KEY", "STRIPE_PUBLISHABLE_KEY"))
    assert told["STRIPE_JS_URL"].startswith(double.url)


def test_the_next_run_finds_it_under_the_same_address(double, scratch):
    again = StandIn(ROOT, home=scratch / "double", logs=scratch / "log", webhook="http://127.0.0.1:9/stripe/webhook")

    assert again.url == double.url


def test_a_port_that_was_taken_meanwhile_is_given_up(double, scratch):
    double.start()

    other = StandIn(ROOT, home=scratch / "double", logs=scratch / "log", webhook="http://127.0.0.1:9/stripe/webhook")

    assert other.port != double.port
