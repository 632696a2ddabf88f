import subprocess
import sys
from pathlib import Path

import pytest

from launch import environment
from launch.errors import LaunchError

AS_AN_OLD_PYTHON = """
import runpy, sys
sys.version_info = (3, 9, 18, "final", 0)
runpy.run_module("launch", run_name="__main__")
"""


def test_an_old_python_is_refused_in_a_sentence():
    done = subprocess.run(
        [sys.executable, "-c", AS_AN_OLD_PYTHON], cwd=environment.ROOT, capture_output=True, text=True, check=False
    )

    assert done.stderr == "This needs Python 3.11 or newer; this is Python 3.9.\n"
    assert done.returncode == 1


def test_a_folder_that_cannot_be_written_is_refused_in_a_sentence():
    with pytest.raises(LaunchError, match=r"^Cannot write to /proc: .*\.$"):
        environment.writable(Path("/proc"))


def test_a_word_it_does_not_know_shows_the_words_it_knows():
    done = subprocess.run(
        [sys.executable, "-m", "launch", "fly"], cwd=environment.ROOT, capture_output=True, text=True, check=False
    )

    assert done.stderr == "Usage: python -m launch run | setup [--dev] | servers | stop\n"
    assert done.returncode == 1


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with pins and an environment that answers."""
    for name in ("requirements.txt", "requirements-dev.txt", ".gitignore"):
        (tmp_path / name).write_text(f"# {name}\n")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(environment, "PYTHON", python)
    monkeypatch.setattr(environment, "answers", lambda python: True)
    return tmp_path


@pytest.fixture
def installed(project, monkeypatch) -> list[str]:
    files: list[str] = []
    monkeypatch.setattr(environment, "install", files.append)
    return files


def test_a_second_run_installs_nothing(installed):
    environment.set_up()
    environment.set_up()

    assert installed == ["requirements.txt"]


def test_changed_pins_are_installed(project, installed):
    environment.set_up()
    (project / "requirements.txt").write_text("Django==5.2.20\n")
    environment.set_up()

    assert installed == ["requirements.txt"] * 2


def test_what_developers_have_is_enough_to_run(installed):
    environment.set_up("develop")
    environment.set_up("run")

    assert installed == ["requirements-dev.txt"]
