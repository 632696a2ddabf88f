"""`python -m bench [--quick] [--hot]`: measure, print each figure beside another, and write var/bench.json."""

import argparse
import os
import sys
import time

from bench import places


def main() -> int:
    options = arguments()
    began = time.monotonic()
    places.start()
    import django

    django.setup()
    # Imported late: what follows needs Django.
    from bench.measure import measure
    from bench.migrations import migrations
    from bench.report import Report
    from bench.resets import resets

    report = Report(quick=options.quick)
    measure(report, only_hot=options.hot)
    if not options.hot:
        resets(report)
        migrations(report)
    report.write(places.ROOT / "var" / "bench.json")
    print(f"\n{time.monotonic() - began:.0f} s in all; figures in var/bench.json")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows and a third of the time")
    parser.add_argument("--hot", action="store_true", help="only check and track")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "billing_admin.settings")
    sys.exit(main())
