"""Memory that a process keeps when it is freed, instead of giving it back to the system."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt(3)


def keep_freed() -> None:
    """Let this process keep what it frees, for what it asks for next; with glibc alone.

    A training step asks for the same large blocks as the one before. glibc takes every block above
    32 MB from the system and gives it back at once, so all its pages are cleared and mapped anew:
    nearly half of the time of a step (docs/decisions/training.md).
    """
    with suppress(OSError, TypeError, AttributeError):  # Windows, macOS and musl have no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, -1)
        mallopt(_MMAP_MAX, 0)
