"""What happens once everything is written."""

from collections.abc import Callable
from typing import Any

from django.db import transaction


def after_commit(act: Callable[..., object], *args: Any, **options: Any) -> None:
    """Call it when the transaction is committed, at once where there is none; a failure is logged and undoes nothing.

    A named function around it, because Django asks a callback that fails for its name, and a partial has none.
    """

    def call() -> None:
        act(*args, **options)

    transaction.on_commit(call, robust=True)
