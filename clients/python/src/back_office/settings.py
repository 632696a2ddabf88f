"""What a client can be told once, for all its calls."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from back_office.retries import Retries

OnOutage: TypeAlias = Literal["raise", "open", "closed"]


@dataclass(frozen=True)
class Settings:
    """Seconds, and choices.

    `timeout` bounds one attempt, `deadline` a whole call with its retries and pauses, `check_deadline` a check, which
    somebody waits for. `on_outage` says what a check answers when the service does not: raise `Unavailable`, or let the
    customer in (`open`) or not (`closed`). `max_age` is how old a remembered check may be; 0 remembers nothing.
    """

    timeout: float = 5.0
    deadline: float = 15.0
    check_deadline: float = 2.0
    retries: Retries = field(default_factory=Retries)
    on_outage: OnOutage = "raise"
    max_age: float = 0.0
    cache_size: int = 10_000

    def __post_init__(self) -> None:
        if min(self.timeout, self.deadline, self.check_deadline) <= 0:
            raise ValueError("timeout, deadline and check_deadline are seconds above 0.")
        if self.max_age < 0 or self.cache_size < 1:
            raise ValueError("max_age is 0 or more seconds, cache_size 1 or more answers.")
