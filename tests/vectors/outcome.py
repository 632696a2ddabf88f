"""What became of one vector."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """PASS, FAIL or SKIP, with what differs or why it was skipped."""

    verdict: str
    id: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.verdict} {self.id} {self.reason}".rstrip()
