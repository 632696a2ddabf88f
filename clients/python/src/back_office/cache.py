"""Answers of checks, remembered for a stated time."""

from collections import OrderedDict
from dataclasses import dataclass
from decimal import Decimal
from threading import Lock
from typing import TypeAlias

from back_office.access import Access

Place: TypeAlias = tuple[str, str]  # customer and feature, as the caller names them


@dataclass(eq=False)
class Question:
    """A check on its way; `outdated` once a track of this client has ended meanwhile."""

    place: Place
    required: Decimal
    outdated: bool = False


class AccessCache:
    """At most `size` answers, least recently used out first. Safe to share between threads.

    A check that was on its way while a track of ours ended may have been answered before it counted: what it says is
    given to its caller and not remembered.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._answers: OrderedDict[tuple[Place, Decimal], tuple[Access, float]] = OrderedDict()
        self._required: dict[Place, set[Decimal]] = {}
        self._asking: dict[Place, set[Question]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, place: Place, required: Decimal, *, max_age: float, now: float) -> Access | None:
        """An answer at most `max_age` seconds old, which says its age."""
        with self._lock:
            found = self._answers.get((place, required))
            if found is None:
                return None
            access, at = found
            if now - at >= max_age:
                return None
            self._answers.move_to_end((place, required))
        return access.aged(now - at)

    def ask(self, place: Place, required: Decimal) -> Question:
        """Announce a check before it is sent; `keep` or `forget` ends it."""
        question = Question(place, required)
        with self._lock:
            self._asking.setdefault(place, set()).add(question)
        return question

    def keep(self, question: Question, access: Access, *, now: float) -> None:
        """Remember an answer from `now`, the instant at which it was asked for."""
        with self._lock:
            if question.outdated:
                return
            self._answers[question.place, question.required] = access, now
            self._answers.move_to_end((question.place, question.required))
            self._required.setdefault(question.place, set()).add(question.required)
            while len(self._answers) > self.size:
                (place, required), _ = self._answers.popitem(last=False)
                self._untie(place, required)

    def forget(self, question: Question) -> None:
        with self._lock:
            asking = self._asking.get(question.place, set())
            asking.discard(question)
            if not asking:
                self._asking.pop(question.place, None)

    def drop(self, place: Place) -> None:
        """Something of this customer and feature has changed, or may have."""
        with self._lock:
            for required in self._required.pop(place, set()):
                del self._answers[place, required]
            for question in self._asking.get(place, ()):
                question.outdated = True

    def drop_all(self) -> None:
        with self._lock:
            self._answers.clear()
            self._required.clear()
            for asking in self._asking.values():
                for question in asking:
                    question.outdated = True

    def _untie(self, place: Place, required: Decimal) -> None:
        self._required[place].discard(required)
        if not self._required[place]:
            del self._required[place]
