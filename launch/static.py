"""Whether the pages' files must be collected again: collecting takes seconds, looking takes none."""

import hashlib
from pathlib import Path

STAMP = "collected-from"


def changed(root: Path, var: Path) -> bool:
    stamp = var / "static" / STAMP
    return not stamp.exists() or stamp.read_text() != fingerprint(root)


def remember(root: Path, var: Path) -> None:
    (var / "static" / STAMP).write_text(fingerprint(root))


def fingerprint(root: Path) -> str:
    """Of our files by name, size and time; of the packages' by the pinned requirements."""
    apps = [init.parent for init in sorted(root.glob("*/__init__.py"))]
    ours = [path for folder in (root, *apps) for path in sorted((folder / "static").rglob("*"))]
    seen = [f"{path}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in ours if path.is_file()]
    pins = (root / "requirements.txt").read_text()
    return hashlib.sha256("\n".join([pins, *seen]).encode()).hexdigest()
