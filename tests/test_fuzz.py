"""The fuzz campaign itself: sound inputs pass, and readers that misbehave are caught."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets_spec.contract import Problem
from tests.fuzz import campaign, readers
from tests.fuzz.campaign import Campaign
from tests.fuzz.maker import Maker
from tests.fuzz.mutations import anything
from tests.fuzz.reader import Reader, Trial
from tests.fuzz.trees import Input
from tests.fuzz.watch import Worker

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="memory and processes are read from /proc"
)
LIGHT = [reader.name for reader in readers.READERS if not reader.heavy]
HEAVY = [reader.name for reader in readers.READERS if reader.heavy]


def planted(name: str, call: Any, sound: bool = True) -> Reader:
    """A reader of one small file that does ``call`` with all that is not the ``sound`` seed."""
    seed = Input("seed", {"file": b"0123456789abcdef"}, ("file",))

    def read(files: tuple[Path, ...], made: Input) -> Any:
        return np.zeros(3) if sound and not made.recipe else call(files)

    return Reader(f"tests.test_fuzz:{name}", lambda: [seed], anything(), read, _is_zeros)


def _is_zeros(trial: Trial) -> str:
    return "" if not np.any(trial.result) else "other voxels"


def _hangs(*_: object) -> None:
    time.sleep(1000)


def _stumbles(*_: object) -> None:
    raise ValueError("not enough values to unpack")


def _takes_much(*_: object) -> np.ndarray:
    return np.ones(2 << 30, np.uint8)


def _takes_much_for_a_moment(*_: object) -> np.ndarray:
    return np.ones(300 << 20, np.uint8)[:0]


def _dies(*_: object) -> None:
    import ctypes

    ctypes.string_at(0)


def _starts_another(*_: object) -> None:
    try:
        subprocess.run(["true"], check=True)
    except BaseException:  # as a library that tries one way after the other
        return


def _writes_outside(*_: object) -> None:
    Path("../outside").write_bytes(b"")


class _TwoLines(Problem):
    def __str__(self) -> str:
        return f"{self.where}: {self.what}\nand more"


def _says_two_lines(*_: object) -> None:
    raise _TwoLines("expected one line, got two", where="a place")


def _says_nothing_of_the_place(*_: object) -> None:
    raise Problem("expected a place, got none")


def _refuses(files: tuple[Path, ...]) -> None:
    raise Problem("expected zeros, got others", where="a place")


HANGS = planted("HANGS", _hangs)
STUMBLES = planted("STUMBLES", _stumbles)
WRONG = planted("WRONG", lambda *_: np.ones(3))
RIGHT = planted("RIGHT", lambda *_: np.zeros(3))
TAKES = planted("TAKES", _takes_much)
TAKES_SHORTLY = planted("TAKES_SHORTLY", _takes_much_for_a_moment)
DIES = planted("DIES", _dies)
STARTS = planted("STARTS", _starts_another)
WRITES = planted("WRITES", _writes_outside)
TWO_LINES = planted("TWO_LINES", _says_two_lines)
PLACELESS = planted("PLACELESS", _says_nothing_of_the_place)
REFUSES = planted("REFUSES", _refuses, sound=False)
BEHAVIOUR = {
    "HANGS": "hang",
    "STUMBLES": "traceback",
    "WRONG": "WRONG",
    "RIGHT": "right",
    "TAKES": "memory",
    "TAKES_SHORTLY": "memory",
    "DIES": "crash",
    "STARTS": "escape",
    "WRITES": "escape",
    "TWO_LINES": "message",
    "PLACELESS": "message",
    "REFUSES": "refused",
}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    one = Worker(tmp_path_factory.mktemp("fuzz") / "worker", limit_s=3.0, limit_mb=200.0)
    yield one
    one.end()


@pytest.mark.slow
@pytest.mark.parametrize("name", BEHAVIOUR)
def test_a_reader_that_misbehaves_is_caught(worker: Worker, name: str) -> None:
    verdict = worker.judged(f"tests.test_fuzz:{name}", 0, 1)
    assert verdict.kind == BEHAVIOUR[name], verdict
    if verdict.kind in ("hang", "traceback", "memory", "crash"):
        assert "tests/test_fuzz.py" in verdict.where or name == "TAKES_SHORTLY"


@pytest.mark.slow
def test_a_sound_input_that_is_refused_is_wrong(worker: Worker) -> None:
    verdict = worker.judged("tests.test_fuzz:REFUSES", 0, 0)
    assert (verdict.kind, "seed" in verdict.where) == ("WRONG", True)


def ran(folder: Path, names: list[str], inputs: int) -> Campaign:
    found = Campaign(names, folder, inputs=inputs, limit_s=60, quiet=True)
    found.run()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("names", [LIGHT, HEAVY], ids=["light", "heavy"])
def test_every_reader_reads_its_sound_seeds(tmp_path: Path, names: list[str]) -> None:
    """A few inputs of each; the first ones are seeds."""
    found = ran(tmp_path, names, inputs=3)
    assert found.done == 3 * len(names)
    untouched = [one for one in found.failures.values() if not one.verdict.recipe]
    assert [campaign.described(one) for one in untouched] == []


@pytest.mark.slow
def test_a_campaign_counts_all_and_keeps_the_smallest_input_of_each_failure(tmp_path: Path) -> None:
    names = ["tests.test_fuzz:STUMBLES", "tests.test_fuzz:RIGHT"]
    found = ran(tmp_path, names, inputs=6)
    assert found.counts[names[1]] == {"right": 6}
    assert found.counts[names[0]] == {"right": 1, "traceback": 5}
    [failure] = found.failures.values()
    assert failure.count == 5
    assert "_stumbles: ValueError" in failure.verdict.where
    assert f"--replay {names[0]}:0:" in campaign.described(failure)
    assert campaign.table(found.counts).splitlines()[-1].split()[:3] == ["all", "12", "7"]


@pytest.mark.parametrize("name", LIGHT)
def test_an_input_follows_from_its_number_alone(name: str) -> None:
    first, second = (Maker(name) for _ in range(2))
    number = len(first.seeds) + 2
    second.made(7, number + 1)
    made = first.made(7, number)
    assert made == second.made(7, number)
    assert made.recipe


@pytest.mark.slow
def test_every_mutation_fits_a_seed_of_some_reader() -> None:
    fits: dict[str, bool] = {}
    for maker in map(Maker, LIGHT):
        for mutation in maker.reader.mutations:
            rng = np.random.default_rng(1)
            changed = (mutation.apply(rng, seed, maker.seeds) for seed in maker.seeds)
            fits[mutation.name] = fits.get(mutation.name) or any(one is not None for one in changed)
    assert len(fits) > 10
    assert [name for name, fit in fits.items() if not fit] == []
