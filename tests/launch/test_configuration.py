import socket

import pytest

from launch import configuration
from launch.environment import ROOT
from launch.errors import LaunchError
from tests.settings import PLACES


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    for name in ("HOST", "PORT", "DATABASE_URL", "REDIS_URL", "ENVIRONMENT", "STRIPE", "STRIPE_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    # What .env brings in goes again with the test.
    monkeypatch.setattr("os.environ", dict(configuration.os.environ))


def test_without_settings_everything_is_ours(tmp_path):
    config = configuration.read(tmp_path)

    assert (config.port, config.database_url, config.redis_url) == (8000, None, None)


def test_port_overrides(tmp_path, monkeypatch):
    monkeypatch.setenv("PORT", "8001")

    assert configuration.read(tmp_path).address == "http://127.0.0.1:8001/"


def test_a_port_that_is_no_number_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PORT", "eighty")

    with pytest.raises(LaunchError, match="PORT must be a whole number from 1 to 65535, not 'eighty'"):
        configuration.read(tmp_path)


def test_each_server_can_be_given_by_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://queue:6379/0")

    config = configuration.read(tmp_path)

    assert (config.database_url, config.redis_url) == (None, "redis://queue:6379/0")


def test_a_taken_port_is_said_in_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(LaunchError, match=rf"^Port {port} on 127.0.0.1 is taken by another program; .*\.$"):
            configuration.refuse_taken_port("127.0.0.1", port)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("postgres://someone:secret@127.0.0.1:1/billing", "cannot be reached: .*Connection refused"),
        ("mysql://localhost/billing", "must be a postgres:// URL"),
        ("sqlite:///billing.db", "must be a postgres:// URL"),
    ],
)
def test_an_unreachable_database_is_said_in_a_sentence_without_its_password(url, sentence):
    with pytest.raises(LaunchError, match=sentence) as refusal:
        configuration.refuse_unreachable_database(url)

    assert "\n" not in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_without_stripe_no_double_runs(tmp_path):
    assert not configuration.read(tmp_path).stripe_double


def test_the_double_of_stripe_is_asked_for_by_name(monkeypatch):
    monkeypatch.setenv("STRIPE", "double")

    assert configuration.read(ROOT).stripe_double


def test_another_word_for_stripe_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("STRIPE", "live")

    with pytest.raises(LaunchError, match=r"^STRIPE can be double, not 'live'; .*\.$"):
        configuration.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("STRIPE_SECRET_KEY", "sk_test_real", "There are keys of Stripe in the environment or in .env"),
        ("ENVIRONMENT", "production", "takes no real money"),
    ],
)
def test_the_double_never_stands_in_for_a_stripe_that_is_there(monkeypatch, name, value, sentence):
    monkeypatch.setenv("STRIPE", "double")
    monkeypatch.setenv(name, value)

    with pytest.raises(LaunchError, match=sentence):
        configuration.read(ROOT)


def test_without_the_tests_there_is_no_double(tmp_path, monkeypatch):
    monkeypatch.setenv("STRIPE", "double")

    with pytest.raises(LaunchError, match="tests/stripe_double/, which is not here"):
        configuration.read(tmp_path)


def test_a_reachable_database_is_accepted():
    configuration.refuse_unreachable_database(PLACES.database_url)


def test_an_unreachable_queue_is_said_in_a_sentence():
    with pytest.raises(LaunchError, match="REDIS_URL cannot be reached"):
        configuration.refuse_unreachable_redis("redis://127.0.0.1:1/0")
