import pytest
from django.core.exceptions import ImproperlyConfigured

from billing_admin import settings
from billing_admin.celery import app, celery_url


@pytest.mark.parametrize(
    ("ours", "celerys"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("unix:///srv/var/run/valkey.sock?db=2", "redis+socket:///srv/var/run/valkey.sock?virtual_host=2"),
        ("unix:///srv/var/run/valkey.sock", "redis+socket:///srv/var/run/valkey.sock?virtual_host=0"),
    ],
)
def test_celery_gets_its_own_spelling_of_a_socket(ours, celerys):
    assert celery_url(ours) == celerys


def test_production_guesses_no_secret(monkeypatch):
    monkeypatch.setattr(settings, "PRODUCTION", True)
    monkeypatch.delenv("SECRET_KEY", raising=False)

    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY must be set in production"):
        settings.needed("SECRET_KEY", otherwise="guessed")


def test_the_secret_key_is_made_once(monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "VAR", tmp_path)

    assert settings.secret_key() == settings.secret_key()
    assert (tmp_path / "secret_key").stat().st_mode & 0o077 == 0


def test_logs_hide_secrets():
    event = {"event": "signed in", "username": "ops", "password": "demo", "stripe_api_key": "sk_live"}

    assert settings.hide_secrets(None, "info", event) == {
        "event": "signed in",
        "username": "ops",
        "password": "…",
        "stripe_api_key": "…",
    }


def test_every_tick_of_the_clockwork_expires_before_it_piles_up():
    assert app.conf.beat_schedule
    assert all(tick["options"]["expires"] <= tick["schedule"] for tick in app.conf.beat_schedule.values())
