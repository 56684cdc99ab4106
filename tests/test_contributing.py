"""The three first changes of CONTRIBUTING.md, made to the letter in a copy of the project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import markdown
from tests.support.walkthrough import Reader

SECTIONS = markdown.sections(markdown.read(Path("CONTRIBUTING.md")))
FIRST = [name for name in SECTIONS if name.startswith("Your first")]


def test_there_are_three_first_changes() -> None:
    assert FIRST == ["Your first adapter", "Your first step", "Your first loss"]


@pytest.mark.slow
@pytest.mark.parametrize("section", FIRST)
def test_the_change_is_complete(section: str, tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    reader.follow(SECTIONS[section])
    assert "passed" in reader.printed or any("pytest" in one for one in reader.tried)
    ruff = [sys.executable, "-m", "ruff", "check", "datasets_spec", "pipeline", "model"]
    judged = subprocess.run(ruff, cwd=reader.project, capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout
