"""PostgreSQL and Valkey for real: each test takes over the servers as the one before left them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from launch import servers
from launch.places import VALKEY_SOCKET, Places


@pytest.fixture(scope="module")
def places(scratch: Path) -> Iterator[Places]:
    places = Places(scratch)
    yield places
    servers.stop(both(places), places)
    shutil.rmtree(places.home, ignore_errors=True)


def both(places: Places) -> list[servers.Server]:
    return [servers.Postgres(places), servers.Valkey(places)]


def up(places: Places) -> tuple[servers.Postgres, servers.Valkey]:
    """As a fresh launcher would: it knows nothing of the one before."""
    postgres, valkey = both(places)
    servers.start([postgres, valkey], places)
    postgres.make_database()
    return postgres, valkey


def database(places: Places) -> psycopg.Connection:
    return psycopg.connect(places.database_url, autocommit=True)


def client(places: Places) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(places.socket_address / VALKEY_SOCKET))


def test_the_first_start_makes_a_database(places):
    up(places)

    with database(places) as connection:
        [version] = connection.execute("SELECT version()").fetchone()
    assert version.startswith("PostgreSQL 18")


def test_only_its_owner_reaches_the_sockets(places):
    up(places)

    assert places.sockets.stat().st_mode & 0o077 == 0


def test_a_second_launcher_uses_the_servers_that_run(places):
    postgres, valkey = up(places)

    again_postgres, again_valkey = up(places)

    assert (again_postgres.pid(), again_valkey.pid()) == (postgres.pid(), valkey.pid())
    assert again_postgres.alive() and again_valkey.alive()


def test_what_was_written_survives_kill_9(places):
    postgres, valkey = up(places)
    with database(places) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS number")
    client(places).set("kept", 42)

    for server in (postgres, valkey):
        server.running().kill()
    up(places)

    with database(places) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (42,)
    assert client(places).get("kept") == b"42"


def test_a_dead_server_is_seen_as_dead(places):
    postgres, valkey = up(places)

    for server in (postgres, valkey):
        server.running().kill()
        server.running() and server.running().wait(5)

    assert not postgres.alive() and not valkey.alive()


def test_a_stale_pid_that_is_another_program_by_now_does_not_keep_it_down(places):
    postgres, _ = up(places)
    servers.stop(both(places), places)
    stranger = servers.as_owner(places, ["/bin/sleep", "60"], log=places.logs / "stranger.log")
    (postgres.data / "postmaster.pid").write_text(
        f"{stranger.pid}\n{postgres.data}\n0\n5432\n{places.sockets}\n\n0 0\n"
    )
    (places.sockets / ".s.PGSQL.5432.lock").write_text(f"{stranger.pid}\n")

    up(places)

    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_data_of_another_postgresql_is_refused_in_a_sentence(places):
    postgres, _ = up(places)
    servers.stop(both(places), places)
    version = (postgres.data / "PG_VERSION").read_text()
    (postgres.data / "PG_VERSION").write_text("15\n")

    try:
        with pytest.raises(servers.LaunchError, match="was made by PostgreSQL 15"):
            up(places)
    finally:
        (postgres.data / "PG_VERSION").write_text(version)


def test_stopping_leaves_no_process(places):
    up(places)

    servers.stop(both(places), places)

    assert not servers.working_in(places.postgres_data)
    assert not servers.working_in(places.valkey_data)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has other users to be")
def test_root_runs_them_as_someone_else(places):
    postgres, valkey = up(places)

    assert {postgres.running().username(), valkey.running().username()} == {"nobody"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs a copy")
def test_binaries_in_a_private_folder_are_copied_with_their_libraries(places, tmp_path):
    copy = servers.reachable_copy(places, "postgres", private_install(tmp_path))

    assert servers.others_may_enter(copy)
    assert (copy.parent.with_name("wheel.libs") / "libpq.so").exists()


def private_install(folder: Path) -> Path:
    install = folder / "wheel" / "pginstall18"
    (install / "bin").mkdir(parents=True)
    (install / "bin" / "postgres").touch(mode=0o700)
    (folder / "wheel.libs").mkdir()
    (folder / "wheel.libs" / "libpq.so").touch()
    folder.chmod(0o700)
    return install


def test_the_wheels_hold_the_binaries_we_start():
    for binary in (servers.postgres_install() / "bin" / "postgres", servers.valkey_install() / "valkey-server"):
        assert subprocess.run([binary, "--version"], capture_output=True, check=False).returncode == 0
