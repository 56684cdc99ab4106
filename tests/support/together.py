"""What processes that train together may do, without what takes seconds to import."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from model.training import launch
from pipeline.__main__ import guarded

NUMBER = "KERAS_DISTRIBUTION_PROCESS_ID"
LONG_S = 60.0  # what a process does that nobody ends


def _note(folder: Path) -> None:
    (folder / os.environ[NUMBER]).write_text(str(os.getpid()), "utf-8")


def _wait_for(folder: Path, count: int) -> None:
    while len([*folder.iterdir()]) < count:
        time.sleep(0.02)


def ends_well(folder: Path) -> None:
    _note(folder)


def fails(folder: Path, number: str, error: Exception) -> None:
    """One raises, once both are there; the other would work on."""
    _note(folder)
    _wait_for(folder, 2)
    if os.environ[NUMBER] == number:
        raise error
    time.sleep(LONG_S)


def works_on(folder: Path) -> None:
    """What nobody ends by itself."""
    _note(folder)
    time.sleep(LONG_S)


def dies(folder: Path, number: str, by: signal.Signals) -> None:
    _note(folder)
    _wait_for(folder, 2)
    if os.environ[NUMBER] == number:
        print(f"what {number} saw", flush=True)
        os.kill(os.getpid(), by)
    time.sleep(LONG_S)


if __name__ == "__main__":
    launch.require_jax = lambda: None  # what is started does not train
    task = partial(importlib.import_module("tests.support.together").works_on, Path(sys.argv[1]))
    sys.exit(guarded(lambda: launch.run(task, 2, "aisd", 4), False))
