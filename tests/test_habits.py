"""What judges a change is one thing everywhere: by hand, before a commit, and on every Python."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT, SLOW_FILE

CONFIG = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))


def content(name: str) -> Any:
    return yaml.safe_load((PROJECT / name).read_text("utf-8"))


def allowed() -> list[str]:
    """The versions of Python that pyproject.toml allows: "3.11", ..."""
    bounds = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", CONFIG["project"]["requires-python"])
    assert bounds
    return [f"3.{minor}" for minor in range(int(bounds[1]), int(bounds[2]))]


def test_every_allowed_python_is_tested_by_the_same_gate() -> None:
    workflow = content(".github/workflows/test.yml")
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == allowed()
    assert len(allowed()) > 1
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert workflow["permissions"] == {"contents": "read"}
    least, most = (version.replace(".", ", ") for version in (allowed()[0], allowed()[-1]))
    makefile = (PROJECT / "Makefile").read_text("utf-8")
    assert f"({least}) <= sys.version_info[:2] <= ({most})" in makefile


def test_a_commit_is_judged_by_the_tools_of_the_lock() -> None:
    lock = (PROJECT / "requirements.txt").read_text("utf-8")
    [own] = [one for one in content(".pre-commit-config.yaml")["repos"] if one["repo"] == "local"]
    entries = [hook["entry"].split()[0] for hook in own["hooks"]]
    assert entries == [".venv/bin/ruff", ".venv/bin/ruff", ".venv/bin/mypy"]
    for entry in entries:
        assert re.search(rf"(?m)^{entry.rpartition('/')[2]}==", lock)


@pytest.mark.slow
def test_the_quick_tests_are_many_and_import_no_deep_learning_library() -> None:
    program = (
        "import sys, pytest; pytest.main(['-m', 'not slow', '--collect-only', '-p', 'no:xdist']);"
        " print(sorted({'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert lines[-1] == "[]"
    files = {line.partition(":")[0] for line in lines if line.startswith("tests/")}
    assert len(files) > 30
    slow = {name for name in files if SLOW_FILE.search((PROJECT / name).read_text("utf-8"))}
    assert slow == set()
