"""Files and folders that are written completely or not at all, and regular files only.

Output goes to a place beside its target, is flushed to the disk, and then takes the
target's name, so neither a kill nor a power cut leaves half a file under that name.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets_spec.contract import Problem

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
_writer: tuple[str, Callable[[], bool]] = "", lambda: True
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
)


class Unwanted(Exception):
    """Nobody waits any longer for what was just about to be finished."""


@contextmanager
def writing_as(name: str, wanted: Callable[[], bool]) -> Iterator[None]:
    """Within the block, unfinished files bear ``name``, and are finished only while ``wanted``.

    So two machines can write the same files of a shared folder, and one that was given up on (its
    network failed, or its client ended) finishes nothing any more: it meets :class:`Unwanted`.
    """
    global _writer
    before, _writer = _writer, (name, wanted)
    try:
        yield
    finally:
        _writer = before


@contextmanager
def replacing(target: Path, durable: bool = True) -> Iterator[Path]:
    """A path to write to; when the block ends, the file there replaces ``target``.

    If the block raises, ``target`` stays as it was. ``durable`` files are flushed to the disk
    before they get their name; pictures, whose digests are in a manifest, need not be.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = beside(target)
    try:
        yield unfinished
        if durable:
            sync(unfinished)
        _require_wanted(target)
        os.replace(unfinished, target)
        if durable:
            sync(target.parent)
    except OSError as error:
        if error.errno and error.filename is None:  # a write to a full disk names no file
            error.filename = str(target)
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def beside(target: Path) -> Path:
    """Where ``target`` is written before it gets its name; DVC ignores such names."""
    return target.with_name(f".unfinished-{_writer[0]}{target.name}")


def _require_wanted(target: Path) -> None:
    name, wanted = _writer
    if not wanted():
        raise Unwanted(f"{target}: nobody waits for {name} any longer")


def sha256(file: Path) -> str:
    """The digest of a file's content. Raises :class:`Problem` for what is no regular file."""
    with require_regular(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def holds(file: Path, digest: str | None) -> bool:
    """Whether a file is there, with content of this sha256."""
    return file.is_file() and sha256(file) == digest


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sync_disk(folder: Path) -> None:
    """Flush everything that was written to the disk of ``folder``, in one go.

    For thousands of pictures: a flush of each takes minutes, one of the whole disk seconds.
    """
    syncfs = getattr(ctypes.CDLL(None), "syncfs", None) if sys.platform == "linux" else None
    if syncfs is None:
        if hasattr(os, "sync"):
            os.sync()
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        syncfs(number)
    finally:
        os.close(number)


def replace_folder(made: Path, target: Path) -> None:
    """Flush the folder ``made`` to the disk and let it replace ``target``.

    On Linux both names are exchanged in one step, so that ``target`` is there at every moment.
    Elsewhere, and on file systems that cannot exchange, the old folder is moved aside first, and
    :func:`restore_folder` brings it back after a kill between the two steps.
    """
    _require_wanted(target)
    restore_folder(target)
    sync_disk(made)
    if not target.exists():
        os.replace(made, target)
    elif _exchanged(made, target):
        shutil.rmtree(made)
    else:
        old = _old(target)
        os.replace(target, old)
        os.replace(made, target)
        shutil.rmtree(old)
    sync(target.parent)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """An empty folder to fill; when the block ends, it replaces the folder ``target``.

    If the block raises, ``target`` stays as it was.
    """
    unfinished = beside(target)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        replace_folder(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def restore_folder(target: Path) -> None:
    """Clean up after a killed :func:`replace_folder`: put the old folder back, or remove it."""
    old = _old(target)
    if old.exists() and not target.exists():
        os.replace(old, target)
    shutil.rmtree(old, ignore_errors=True)


def _old(target: Path) -> Path:
    return target.with_name(f".old-{target.name}")


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names in one step (renameat2(2)); False where that cannot be done."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # a C library without it
        return False
    ends = os.fsencode(one), os.fsencode(other)
    return int(rename(_AT_FDCWD, ends[0], _AT_FDCWD, ends[1], _RENAME_EXCHANGE)) == 0


def is_regular(file: Path) -> bool:
    """Whether ``file``, or what a link of that name leads to, is a regular file."""
    try:
        return stat.S_ISREG(file.stat().st_mode)
    except OSError:
        return False


def kind(file: Path) -> str:
    """What ``file`` is instead of a regular file, such as "a named pipe"; "" for a regular one."""
    try:
        mode = file.stat().st_mode
    except OSError:
        return "a broken link" if file.is_symlink() else "a missing file"
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "")


def require_regular(file: Path) -> Path:
    """``file``; raises :class:`Problem` if it is a pipe, a device, a socket or a folder.

    Reading a named pipe would wait for ever, and a device may have no end. A missing file is
    left to the reader, which knows what it needs it for.
    """
    name = kind(file) if file.exists() else ""
    if name:
        raise Problem(
            f"expected a regular file, got {name}",
            where=file,
            remedy="Put the file itself there, or take this one out.",
        )
    return file
