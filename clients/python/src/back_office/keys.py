"""What makes a repeated write the same write."""

from dataclasses import dataclass
from typing import Self
from uuid import uuid4


@dataclass(frozen=True)
class Key:
    """A key as the caller gave it, or one made for this call alone."""

    text: str
    is_made: bool

    @classmethod
    def of(cls, given: str | None) -> Self:
        return cls(uuid4().hex, is_made=True) if given is None else cls(given, is_made=False)
