"""Nothing is installed but what the lock pins by hash, and nothing is built with anything else."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import pytest

from tests.conftest import PROJECT

LOCK = (PROJECT / "requirements.txt").read_text("utf-8")
PINNED = r"(?m)^([A-Za-z0-9._-]+)(?:\[\w+\])?==\S+.*\\\n(?:    --hash=sha256:[0-9a-f]{64}.*\n)+"


@pytest.fixture(scope="module")
def commands() -> list[str]:
    """What make would run for a fresh environment."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", ".venv/ready", "PYTHON=python3"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_every_requirement_of_the_lock_has_hashes() -> None:
    names = re.findall(r"(?m)^([A-Za-z0-9._-]+)(?:\[\w+\])?==", LOCK)
    assert len(names) > 100
    assert re.findall(PINNED, LOCK) == names


def test_pip_takes_and_builds_nothing_that_is_not_pinned(commands: list[str]) -> None:
    installs = [line for line in commands if " pip install " in line]
    assert len(installs) == 2
    for line in installs:
        assert "--require-hashes" in line
        assert "--only-binary=:all:" in line
    assert "--no-binary" not in installs[0]
    assert "--no-build-isolation" in installs[1]
    assert "-r requirements.txt" in installs[1]


def test_what_builds_is_the_setuptools_of_the_lock(commands: list[str]) -> None:
    [line] = [line for line in commands if line.startswith("sed ")]
    command, place = line.split(" > ")
    done = subprocess.run(
        shlex.split(command), cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert re.findall(PINNED, done.stdout) == ["setuptools"]
    assert "==" not in re.sub(PINNED, "", done.stdout)
    assert any(f"-r {place}" in other for other in commands)
