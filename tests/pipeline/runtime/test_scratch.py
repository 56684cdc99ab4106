"""A folder of a process, which is gone with it, however it ends."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.runtime import scratch
from tests.conftest import PROJECT

_HOLDS = """
import sys
from pipeline.runtime import scratch
with scratch.folder() as here:
    (here / "file").write_text("x")
    print(here, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_empty_and_gone_after_the_block(temporary: Path) -> None:
    with scratch.folder() as here:
        assert here.is_relative_to(temporary.resolve())
        assert list(here.iterdir()) == []
        (here / "folder").mkdir()
        (here / "folder" / "file").touch()
        with scratch.folder() as other:
            assert other != here
        assert (here / "folder" / "file").exists()
    assert list(temporary.iterdir()) == []


def test_it_is_gone_after_an_error(temporary: Path) -> None:
    def stopped() -> None:
        with scratch.folder() as here:
            (here / "file").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(temporary.iterdir()) == []


def test_that_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(
    temporary: Path,
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDS],
        cwd=PROJECT,
        env={"TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    place = Path(holder.stdout.readline().strip())
    with scratch.folder():
        assert (place / "file").exists()
    holder.kill()
    holder.communicate()
    assert (place / "file").exists()
    with scratch.folder():
        assert not place.exists()
    assert list(temporary.iterdir()) == []


def test_what_others_keep_there_stays(temporary: Path) -> None:
    (temporary / "flexunet-scratch-of-mine").symlink_to(temporary)
    (temporary / "notes").mkdir()
    with scratch.folder():
        pass
    assert len(list(temporary.iterdir())) == 2
