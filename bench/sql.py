"""The same statements without us: pgbench, from the same wheel as the server."""

import os
import re
import subprocess
from pathlib import Path

from bench import places
from billing_admin.hot.wire import OPTIONS


def pgbench(file: Path, *, connections: int, seconds: float) -> float:
    """Transactions per second of a script, prepared and planned as our own statements are."""
    command = [places.pgbench(), "-h", str(places.PLACES.socket_address), "-U", "postgres", "-n", "-M", "prepared"]
    command += ["-f", str(file), "-c", str(connections), "-j", str(min(2, connections))]
    command += ["-T", str(max(1, round(seconds))), places.PLACES.database]
    environment = {**os.environ, "PGOPTIONS": OPTIONS}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    rate = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode or rate is None:
        raise RuntimeError(f"pgbench failed: {done.stderr[-500:]}")
    return float(rate.group(1))
