from pathlib import Path

import environ

from launch.places import LONGEST_SOCKET, POSTGRES_SOCKET, Places, others_may_enter


def test_servers_live_under_var():
    places = Places(Path("/srv/billing/var"))

    assert places.postgres_data == Path("/srv/billing/var/pg")
    assert places.database_url == "postgres://postgres@/billing?host=/srv/billing/var/run"
    assert places.redis_url == "unix:///srv/billing/var/run/valkey.sock?db=0"


def test_a_path_too_long_for_a_socket_gets_a_short_address():
    places = Places(Path("/srv") / ("long" * 30) / "var")

    assert len(str(places.socket_address / POSTGRES_SOCKET)) <= LONGEST_SOCKET


def test_two_projects_with_long_paths_do_not_share_an_address():
    here, there = (Places(Path("/srv") / ("long" * 30) / name / "var") for name in ("here", "there"))

    assert here.socket_address != there.socket_address


def test_a_path_with_spaces_never_reaches_a_url():
    places = Places(Path("/srv/my project/var"))

    assert " " not in places.database_url + places.redis_url
    assert environ.Env.db_url_config(places.database_url)["OPTIONS"]["host"] == str(places.socket_address)


def test_a_private_folder_keeps_others_out(tmp_path):
    (tmp_path / "private" / "project").mkdir(parents=True)
    (tmp_path / "private").chmod(0o700)

    assert not others_may_enter(tmp_path / "private" / "project")
