"""A full disk or a lack of memory, reported as a :class:`Problem` with a remedy."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets_spec.contract import Problem

_FULL = (errno.ENOSPC, errno.EDQUOT)
_OUT_OF_MEMORY = {"MemoryError", "OutOfMemoryError", "ResourceExhaustedError"}
"""Errors that Python, numpy and the deep-learning libraries raise when memory runs out."""
_NEARLY_FULL_BYTES = 100_000_000


def problem_of(error: BaseException, making: str = "") -> Problem | None:
    """The problem to report if ``error`` is due to a shortage, else None; ``making``: where."""
    if isinstance(error, OSError) and error.errno in _FULL:
        place = Path(str(error.filename)) if error.filename is not None else None
        return Problem(
            f"expected room on the disk, got: {os.strerror(error.errno)}; {_free(place)}",
            where=f"{making}: {place}" if making and place else place or making,
            remedy="Make room there and run again: what was finished is kept.",
        )
    if any(kind.__name__ in _OUT_OF_MEMORY for kind in type(error).__mro__):
        reason = " ".join(str(error).split())[:200]
        return Problem(
            f"expected enough memory, got {reason or 'none from the system'}",
            where=making,
            remedy="End other programs, take fewer workers (--workers 1), smaller batches"
            " (train.batch_pairs) or smaller pictures.",
        )
    return None


@contextmanager
def named(making: str) -> Iterator[None]:
    """Report a shortage within the block as a :class:`Problem` that names what was being made."""
    try:
        yield
    except Exception as error:
        problem = problem_of(error, making)
        if problem is None:
            raise
        raise problem from error


def _free(place: Path | None) -> str:
    """Free space on the disk of ``place``; without a place, on the disks that are written to."""
    places = [place] if place else [Path.cwd(), Path(tempfile.gettempdir())]
    disks = {}
    for one in places:
        folder = one.absolute()
        while not folder.exists():
            folder = folder.parent
        usage = shutil.disk_usage(folder)
        disks[folder.stat().st_dev] = (
            usage.free,
            f"{usage.free / 1e9:.2f} of {usage.total / 1e9:.1f} GB are free in {folder}",
        )
    full = [text for free, text in disks.values() if free < _NEARLY_FULL_BYTES]
    return " and ".join(full or [text for _, text in disks.values()])
