"""`python -m launch run | setup [--dev] | servers | stop`. Must stay readable to an old Python up to its check."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  it says so instead of failing on new syntax
    sys.exit("This needs Python 3.11 or newer; this is Python %d.%d." % sys.version_info[:2])  # noqa: UP031

from launch.commandline import main

sys.exit(main(sys.argv[1:]))
