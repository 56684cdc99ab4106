"""The kill table itself: a stage that keeps its promise passes, and others are caught."""

from __future__ import annotations

import signal
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests import kills
from tests.kills import Kill, Stage, Table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/stat").exists(), reason="processes are looked for in /proc"
    ),
]
CAREFUL = """
    import os, pathlib, time
    data = pathlib.Path("data")
    data.mkdir(exist_ok=True)
    (data / ".unfinished-a").write_text("one ")
    time.sleep(0.6)
    (data / ".unfinished-a").write_text("one two")
    os.replace(data / ".unfinished-a", data / "a")
"""
CAREFUL_PLAIN = textwrap.dedent(CAREFUL)
CARELESS = """
    import pathlib, time
    file = pathlib.Path("data/a")
    if not file.exists():
        file.parent.mkdir()
        file.write_text("one ")
        time.sleep(0.6)
        file.write_text("one two")
"""
PARENT = """
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    time.sleep(0.6)
    child.kill()
"""


class Middle:
    """Draws the signal that is wanted, and the middle of the duration."""

    def integers(self, _: int) -> int:
        return 0

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Kills a stage of the given program once, amid its sleep."""

    def once(program: str, sent: signal.Signals = signal.SIGKILL) -> Kill:
        monkeypatch.setattr(kills, "_SIGNALS", (sent,))
        monkeypatch.setattr(kills, "_LEAVE_S", 0.3)
        stage = Stage("made up", ("-c", textwrap.dedent(program)))
        (tmp_path / "empty").mkdir()
        table = Table(tmp_path, tmp_path / "project", [stage], seed=0)
        table.prepare()
        table.random = Middle()
        return table.kill(stage)

    return once


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stage_that_writes_beside_and_renames_passes(killed, sent: signal.Signals) -> None:
    one = killed(CAREFUL, sent)
    assert one.status not in (0, kills._HUNG)
    assert one.left == ["data/.unfinished-a"]
    assert not one.failed, kills.line(one)


def test_a_kill_is_one_though_the_shell_ignores_the_signal(killed) -> None:
    """As for what a shell runs in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        one = killed(CAREFUL, signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not one.missed


def test_a_stage_that_comes_to_its_own_end_is_no_kill(killed, capsys) -> None:
    one = killed(
        "import signal\nsignal.signal(15, signal.SIG_IGN)\n" + CAREFUL_PLAIN, signal.SIGTERM
    )
    assert one.missed
    assert kills._total([one]) == 1
    assert "0 kills" in capsys.readouterr().out


def test_half_a_file_that_stays_is_a_difference(killed) -> None:
    one = killed(CARELESS)
    assert (one.failed, one.files, one.byte_count) == (True, 1, 3)
    assert "data/a" in one.words


def test_a_process_that_outlives_its_leader_is_counted_and_ended(killed) -> None:
    one = killed(PARENT, signal.SIGTERM)
    assert (one.failed, one.orphans) == (True, 1)


def test_what_differs_between_undisturbed_runs_is_not_compared(killed) -> None:
    program = """
        import os, pathlib, time
        pathlib.Path("data").mkdir(exist_ok=True)
        time.sleep(0.3)
        pathlib.Path("data/a").write_bytes(os.urandom(9))
    """
    assert not killed(program).failed


def test_different_bytes_are_counted(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(bytes(10))
    assert kills.different_bytes(one, other) == 10
    other.write_bytes(np.array([0, 1, 0, 2], np.uint8).tobytes())
    assert kills.different_bytes(one, other) == 2 + 6


@pytest.mark.parametrize(
    ("member", "now", "same"),
    [
        ("metadata.json", b"another moment", True),
        ("config.json", b'[{"shared_object_id": 9}, {"shared_object_id": 9}]', True),
        ("config.json", b'[{"shared_object_id": 9}, {"shared_object_id": 8}]', False),
        ("model.weights.h5", b"other weights", False),
        ("provenance.json", b"other words", False),
    ],
)
def test_a_model_is_compared_but_for_its_clock_and_addresses(
    tmp_path: Path, member: str, now: bytes, same: bool
) -> None:
    members = {
        "metadata.json": b"a moment",
        "config.json": b'[{"shared_object_id": 7}, {"shared_object_id": 7}]',
        "model.weights.h5": b"weights",
        "provenance.json": b"words",
    }
    files = tmp_path / "one.keras", tmp_path / "other.keras"
    for file, changed in zip(files, ({}, {member: now}), strict=True):
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in {**members, **changed}.items():
                archive.writestr(name, content)
    assert (kills.content(files[0]) == kills.content(files[1])) is same
    assert (kills.different_bytes(*files) == 0) is same


def test_what_every_victim_owes() -> None:
    def one(victim: str, status: int, words: str = "") -> Kill:
        return Kill("made up", "SIGKILL", 1.0, 2.0, victim, status=status, words=words)

    assert one("client", 0).missed
    assert not one("client", -9).missed
    assert not one("client", -9).failed
    assert one("worker", 2).failed  # others could have done its work
    assert not one("worker", 0).failed
    assert not one("worker", 0).missed
    assert one("disk", 1, "no word of room: KeyError").failed
    assert not one("disk", 2).failed


def test_the_table_has_a_row_for_each_stage_and_victim() -> None:
    found = [
        Kill("convert", "SIGKILL", 1.0, 4.0, "worker"),
        Kill("convert", "SIGKILL", 3.0, 4.0, "worker"),
        Kill("convert", "SIGTERM", 2.0, 4.0, "client", status=143),
        Kill("convert", "SIGTERM", 2.0, 4.0, "client", early=True),
    ]
    assert list(kills.rows(found, "a cluster", 4))[-2:] == [
        "| convert | client | 1 SIGTERM | 2.0 of 4.0 | 0 | 0 | 0 | 0 |",
        "| convert | worker | 2 SIGKILL | 1.0, 3.0 of 4.0 | 0 | 0 | 0 | 0 |",
    ]
