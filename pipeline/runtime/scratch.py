"""Folders of a process on this machine's own disk, which are gone with it, however it ends.

They lie in the temporary folder (TMPDIR). Each is locked by the process that uses it, and a lock
ends with its process: so whoever needs a folder next removes those of processes that were killed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

_START = "flexunet-scratch-"
_LOCK, _CONTENT = "lock", "content"


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder, which is removed with all that it holds when the block ends."""
    remove_left_behind()
    while True:
        place = Path(tempfile.mkdtemp(prefix=_START)).resolve()
        # whichever thread ends the block: that of a case that nobody needs any more, for one
        lock = filelock.FileLock(place / _LOCK, blocking=False, thread_local=False)
        with suppress(filelock.Timeout, OSError):  # another process has just taken it for left
            lock.acquire()
            if (place / _LOCK).exists():
                break
    try:
        content = place / _CONTENT
        content.mkdir()
        yield content
    finally:
        shutil.rmtree(place, ignore_errors=True)
        lock.release()
        shutil.rmtree(place, ignore_errors=True)  # Windows removes no file that is locked


def remove_left_behind() -> None:
    """Remove the folders of this user's processes that were killed."""
    for place in Path(tempfile.gettempdir()).glob(f"{_START}*"):
        with suppress(filelock.Timeout, OSError):  # it is in use, gone, or another user's
            if place.is_symlink() or (hasattr(os, "getuid") and place.stat().st_uid != os.getuid()):
                continue
            with filelock.FileLock(place / _LOCK, blocking=False):
                shutil.rmtree(place)
