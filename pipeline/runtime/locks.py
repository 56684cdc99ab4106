"""Locks: only one run at a time fills a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from datasets_spec.contract import Problem


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; it is released when the process ends, however that happens.

    Raises :class:`Problem` if another run holds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"), blocking=False)
    try:
        with lock:
            yield
    except filelock.Timeout:
        raise Problem(
            "expected no other run that fills this folder, found one",
            where=folder,
            remedy="Wait until that run has ended, or stop it, and run again.",
        ) from None
