"""What is written in a web process goes on in a worker, at once where there is a queue."""

import os
import subprocess
import sys

import pytest

from invoicing import providers
from invoicing.models import Invoice
from launch.environment import ROOT
from tests.builders import customer, enable, pro

IN_A_WEB_PROCESS = """
import threading, django
django.setup()
from billing_admin.tasks import collect_invoice
thread = threading.Thread(target=lambda: print(collect_invoice.app.main, collect_invoice.app.conf.broker_url))
thread.start(); thread.join()
"""


def test_every_thread_of_a_web_process_knows_the_queue():
    """A process that never loaded the workers' own module would hand over to a broker that is not there."""
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings", "REDIS_URL": "redis://queue:6379/3"}

    done = subprocess.run(
        [sys.executable, "-c", IN_A_WEB_PROCESS], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["billing_admin", "redis://queue:6379/3"]


@pytest.mark.django_db
def test_a_provider_that_cannot_be_told_undoes_nothing(monkeypatch, django_capture_on_commit_callbacks):
    heard: list[str] = []
    monkeypatch.setattr(providers, "LISTENERS", [fail, heard.append])

    with django_capture_on_commit_callbacks(execute=True):
        enable(customer(), pro())

    assert heard == [Invoice.objects.get().public_id]


def fail(public_id: str) -> None:
    raise ConnectionError
