"""One run at a time in one folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from datasets_spec.contract import Problem


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which goes with the process, however that ends.

    Raises :class:`Problem` if another run holds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"), blocking=False)
    try:
        with lock:
            yield
    except filelock.Timeout:
        raise Problem(
            "expected to fill this folder alone, found another run at it",
            where=folder,
            remedy="Wait until it has ended, or stop it, and run again.",
        ) from None
