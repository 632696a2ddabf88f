import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SLOT
from tests.settings import PLACES


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder of this worker that another user may enter: pytest's own are private, so root's servers could not."""
    name = f"launch-{os.environ[SLOT]}-{os.environ.get('PYTEST_XDIST_WORKER', 'gw0')}"
    folder = PLACES.var / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
