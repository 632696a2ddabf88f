"""Whether a failed attempt is worth another, and after what pause."""

from dataclasses import dataclass

from back_office.errors import BackOfficeError, Conflict, RateLimited, Unavailable


@dataclass(frozen=True)
class Retries:
    """At most so many `attempts`; pauses grow from `base` twofold up to `most` seconds, each a random part of that."""

    attempts: int = 4
    base: float = 0.1
    most: float = 2.0

    def pause(self, attempt: int, error: BackOfficeError, *, left: float, dice: float) -> float | None:
        """Seconds before the next attempt, or None: give up.

        `attempt` counts from 1, `left` is what remains of the call's time, `dice` is in [0, 1). Every write carries a
        key, so a repeated one is safe even when the first had arrived.
        """
        if attempt >= self.attempts or not _passes_by_itself(error):
            return None
        # Clients that failed together must not come back together.
        pause = dice * min(self.most, self.base * 2 ** (attempt - 1))
        if isinstance(error, RateLimited | Unavailable) and error.retry_after is not None:
            pause += error.retry_after
        return pause if pause < left else None


def _passes_by_itself(error: BackOfficeError) -> bool:
    match error:
        case Unavailable():
            return error.may_be_repeated
        case RateLimited():
            return True
        case Conflict():
            return error.code == "conflict"  # two writes met in the database; nothing was done
    return False
