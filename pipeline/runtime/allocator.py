"""How much of the memory that a process frees it keeps for what it asks for next; glibc's alone.

Memory that goes back to the system is cleared and mapped anew, page by page, when it is asked for
again. Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of mallopt(3)
_MOST = 32 * 2**20  # bytes of a block that glibc ever keeps by itself


def keep_freed() -> None:
    """Let this process keep all that it frees.

    A training step asks for the same large blocks as the one before. glibc takes every block above
    32 MB from the system and gives it back at once: nearly half of the time of a step
    (docs/decisions/training.md).
    """
    _set(_TRIM_THRESHOLD, -1)
    _set(_MMAP_MAX, 0)


def keep_as_usual() -> None:
    """Let this process keep what glibc comes to keep where nothing is stated.

    Dask starts workers with ``MALLOC_TRIM_THRESHOLD_=65536``, by which each array goes back to the
    system: ``convert`` took 1.6 times as long on them.
    """
    _set(_MMAP_THRESHOLD, _MOST)
    _set(_TRIM_THRESHOLD, 2 * _MOST)


def _set(parameter: int, value: int) -> None:
    with suppress(OSError, TypeError, AttributeError):  # Windows, macOS and musl have no mallopt
        ctypes.CDLL(None).mallopt(parameter, value)
