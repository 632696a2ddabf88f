"""What can go wrong between us and Stripe, planned by a test."""

import re
import time
from dataclasses import dataclass
from typing import Any

KINDS = {"delay", "error", "fail_after", "drop_after", "drop_before", "rate_limit", "down"}
NEVER_LIFTED = {"down"}


@dataclass
class Fault:
    """`path` is a pattern in which * stands for one part and ** for any; `times` None means until lifted.

    - delay: answers after `seconds`
    - error: `status` (and `body`) before any effect; no idempotency key remembers it
    - fail_after: the effect is there, the answer is a 500, and the key remembers that
    - drop_after: the effect is there, the connection closes without an answer; the key remembers the true one
    - drop_before: the connection closes before any effect
    - rate_limit: 429 before any effect; with `seconds` it says when to come back
    - down: every request is dropped until lifted
    """

    method: str
    path: str
    kind: str
    times: int | None = 1
    seconds: float = 0.0
    status: int = 500
    body: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is no kind of fault; there are {', '.join(sorted(KINDS))}")
        if self.kind in NEVER_LIFTED:
            self.times = None

    def fits(self, method: str, path: str) -> bool:
        parts = re.split(r"(\*\*|\*)", self.path)
        pattern = "".join({"**": ".*", "*": "[^/]+"}.get(part, re.escape(part)) for part in parts)
        return self.method in ("*", method) and re.fullmatch(pattern, path) is not None

    def wait(self) -> None:
        time.sleep(self.seconds)


class Faults:
    def __init__(self) -> None:
        self.planned: list[Fault] = []

    def plan(self, fault: Fault) -> None:
        self.planned.append(fault)

    def lift(self) -> None:
        self.planned.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The first planned fault for this request; it counts as used."""
        for fault in self.planned:
            if fault.fits(method, path):
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self.planned.remove(fault)
                return fault
        return None
