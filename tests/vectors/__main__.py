"""`python -m tests.vectors {scenarios,money} FILE [--area A] [--id ID]`: a line per vector, exit code 1 on a FAIL."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.vectors.outcome import Outcome


def main() -> int:
    options = read_options()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    with a_database():
        counts: Counter[str] = Counter()
        for outcome in outcomes(options):
            counts[outcome.verdict] += 1
            print(outcome, flush=True)
        print(f"{counts['PASS']} passed, {counts['FAIL']} failed, {counts['SKIP']} skipped")
    return 1 if counts["FAIL"] else 0


def outcomes(options: argparse.Namespace) -> Iterator[Outcome]:
    """Plays one kind of file; Django has been set up by now."""
    if options.what == "money":
        from tests.vectors import money

        return money.play_file(options.file, area=options.area, only=options.id)
    from tests.vectors import scenarios

    return scenarios.play_file(options.file, area=options.area, scope=options.scope, only=options.id)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.vectors", description=__doc__)
    parser.add_argument("what", choices=["scenarios", "money"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--area", help="only areas (categories of money) that begin with this; several with commas")
    parser.add_argument("--scope", help="only scenarios of this scope, such as now")
    parser.add_argument("--id", help="only this vector")
    return parser.parse_args()


@contextmanager
def a_database() -> Iterator[None]:
    """The test servers with a database of our own, made from the migrations and dropped again."""
    import django
    from django.db import connection

    from launch import servers
    from tests.settings import GIVEN, PLACES

    started = None
    if "DATABASE_URL" not in GIVEN:
        from tests.conftest import leave_slot_as_the_last, take_slot

        take_slot()
        servers.make_folders(PLACES)
        started = servers.Postgres(PLACES, settings=servers.THROWAWAY)
        servers.start([started], PLACES)
    django.setup()
    connection.settings_dict.setdefault("TEST", {})["NAME"] = f"vectors_{os.getpid()}"
    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield
    finally:
        connection.creation.destroy_test_db(name, verbosity=0)
        if started is not None and leave_slot_as_the_last():
            servers.stop([started], PLACES)


if __name__ == "__main__":
    sys.exit(main())
