"""Where the embedded servers live, and under which URL. Paths only: nothing is opened, so settings may ask too."""

import hashlib
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

# A unix socket's address holds 107 bytes; PostgreSQL adds its own file name to the folder's.
LONGEST_SOCKET = 107
POSTGRES_SOCKET = ".s.PGSQL.5432"
VALKEY_SOCKET = "valkey.sock"

# Characters that need no quoting in a URL, in PostgreSQL's list of folders, or in a Valkey argument.
PLAIN = re.compile(r"[A-Za-z0-9_./-]+")


@dataclass(frozen=True)
class Places:
    var: Path
    database: str = "billing"

    @cached_property
    def home(self) -> Path:
        """The servers' own folder: `var`, unless they may not enter it.

        PostgreSQL refuses to run as root, so root hands it to another user, who cannot pass a private folder
        such as /root. Then the data lives in /var/lib, one folder for each project path.
        """
        if os.geteuid() != 0 or others_may_enter(self.var.parent):
            return self.var
        return Path("/var/lib/billing-back-office") / self.fingerprint

    @property
    def postgres_data(self) -> Path:
        return self.home / "pg"

    @property
    def valkey_data(self) -> Path:
        return self.home / "valkey"

    @property
    def binaries(self) -> Path:
        return self.home / "bin"

    @property
    def logs(self) -> Path:
        return self.var / "log"

    @property
    def sockets(self) -> Path:
        return self.home / "run"

    @cached_property
    def socket_address(self) -> Path:
        """How clients name the folder of the sockets: a short link where its own path is too long or too odd."""
        longest = len(os.fsencode(self.sockets / POSTGRES_SOCKET))
        if longest <= LONGEST_SOCKET and PLAIN.fullmatch(str(self.sockets)):
            return self.sockets
        return Path("/tmp") / f"billing-{self.fingerprint}"

    @property
    def database_url(self) -> str:
        return f"postgres://postgres@/{self.database}?host={quote(str(self.socket_address), safe='/')}"

    @property
    def redis_url(self) -> str:
        return f"unix://{self.socket_address / VALKEY_SOCKET}?db=0"

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(os.fsencode(self.var)).hexdigest()[:12]


def others_may_enter(folder: Path) -> bool:
    """Whether a user without rights of their own can pass every folder down to this one."""
    return all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents) if path.exists())
