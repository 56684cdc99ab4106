"""Paths of raw data that lies behind a URL, as adapters list them: from the inventory alone.

A :class:`ListedPath` is the path that a file would have below ``data/raw/<dataset>``, so that
whatever names, sorts and compares paths knows no difference. What is asked of the disk it answers
from the inventory. What opens a scan needs the file itself: :mod:`pipeline.sources.brought`.
"""

from __future__ import annotations

import fnmatch
import io
import os
import stat
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from datasets_spec.contract import Problem
from pipeline.runtime import fingerprints
from pipeline.sources import inventory
from pipeline.sources.inventory import Inventory, Object
from pipeline.volumes import nifti

if sys.platform == "win32":
    from pathlib import WindowsPath as _LocalPath
else:
    from pathlib import PosixPath as _LocalPath

_READ: dict[tuple[str, ...], Inventory] = {}
"""The inventories of this process, by the parts of their folders' paths."""


@dataclass(frozen=True)
class Carried:
    """What a path takes along to a worker: where its folder lies, and the objects that it needs."""

    url: str
    folder: Path
    objects: tuple[Object, ...]


class ListedPath(_LocalPath):
    """A file or folder of an inventory. Reading its content asks the service behind the URL."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _carrying, (self.parts, carried(self))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Its kind and size; nothing else is known."""
        found, path = _place(self)
        one = found.objects.get(path)
        if one is None and path not in found.below:
            raise FileNotFoundError(2, os.strerror(2), found.url_of(path))
        kind = stat.S_IFDIR | 0o555 if one is None else stat.S_IFREG | 0o444
        return os.stat_result((kind, 0, 0, 1, 0, 0, one.size if one else 0, 0, 0, 0))

    def lstat(self) -> os.stat_result:
        return self.stat()

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        found, path = _place(self)
        return path in found.objects

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        found, path = _place(self)
        return path in found.below

    def is_symlink(self) -> bool:
        return False

    def iterdir(self) -> Generator[ListedPath, None, None]:
        found, path = _place(self)
        if path not in found.below:
            raise FileNotFoundError(2, os.strerror(2), found.url_of(path))
        yield from (self / name for name in found.below[path])

    def glob(self, pattern: str, **_: Any) -> Generator[ListedPath, None, None]:
        """As of any path; capital letters differ from small ones on every system."""
        parts = pattern.replace(os.sep, "/").split("/")
        yield from dict.fromkeys(_matching(self, [one for one in parts if one], not parts[-1]))

    def rglob(self, pattern: str, **_: Any) -> Generator[ListedPath, None, None]:
        yield from self.glob(f"**/{pattern}")

    def files_below(self) -> list[Path]:
        """Every file below the folder, sorted."""
        entries = list(self.iterdir())
        found: list[Path] = [one for one in entries if one.is_file()]
        for one in entries:
            if one.is_dir():
                found += one.files_below()
        return sorted(found)

    def open(  # type: ignore[override]
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """The content, to read. Raises :class:`Problem` where the service does not give it."""
        if set(mode) - set("rbt"):
            raise io.UnsupportedOperation(f"{self} lies behind a URL, which is only read")
        found, path = _place(self)
        if path not in found.objects:
            raise FileNotFoundError(2, os.strerror(2), found.url_of(path))
        content = io.BytesIO(found.content(path))
        return content if "b" in mode else io.TextIOWrapper(content, encoding, errors, newline)

    def read_bytes(self) -> bytes:
        with self.open("rb") as stream:
            content: bytes = stream.read()
        return content

    def read_text(
        self, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> str:
        with self.open("r", encoding=encoding, errors=errors, newline=newline) as stream:
            text: str = stream.read()
        return text


def tree(folder: Path) -> Path:
    """The raw data of ``folder`` as adapters list it: the folder, or what its inventory names."""
    found = inventory.read(folder)
    if found is None:
        _READ.pop(folder.parts, None)
        return folder
    return tree_of(found)


def tree_of(found: Inventory) -> ListedPath:
    """The folder that an inventory stands for."""
    _READ[found.folder.parts] = found
    return ListedPath(found.folder)


def carried(path: Path) -> Carried | None:
    """What brings a path's files: its own and a NIfTI pair's other half, or all of a folder's.

    None of a path of this machine.
    """
    if not isinstance(path, ListedPath):
        return None
    along: Carried | None = path.__dict__.get("along")
    if along is not None:
        return along
    found, _ = _place(path)
    below = path.files_below() if path.is_dir() else nifti.files(path)
    objects = (found.objects.get(_place(one)[1]) for one in below)
    return Carried(found.url, found.folder, tuple(one for one in objects if one is not None))


def sha256(path: ListedPath) -> str:
    """What the inventory states of a file. Raises :class:`Problem` if ``fetch`` never read it."""
    found, key = _place(path)
    one = found.objects[key]
    if not one.sha256:
        raise Problem(
            "expected a file that fetch has verified, got one that it has not",
            where=found.url_of(key),
            remedy=f"Run: python -m pipeline fetch {found.folder.name}",
        )
    return one.sha256


@contextmanager
def naming(folder: Path, url: str = "") -> Iterator[None]:
    """In errors of the block, paths below ``folder`` become URLs: no such file can be looked at.

    By default ``url`` is that of the inventory that ``folder`` is of; of other folders, nothing
    becomes anything.
    """
    try:
        yield
    except Exception as error:
        rename(error, folder, url)
        raise


def rename(error: Exception, folder: Path, url: str = "") -> None:
    """What :func:`naming` does, to one error."""
    found = _read(folder)
    url = url or (found.url if found else "")
    place = str(found.folder if found else folder)
    if not url:
        return
    for one in ("what", "where", "remedy", "filename"):
        text = getattr(error, one, None)
        if isinstance(text, str):
            setattr(error, one, text.replace(place, url))
    error.args = tuple(
        one.replace(place, url) if isinstance(one, str) else one for one in error.args
    )


def standing_for(folder: Path) -> Path:
    """A folder as :func:`tree` returned it last."""
    return ListedPath(folder) if folder.parts in _READ else folder


def inventory_of(folder: Path) -> Inventory | None:
    """The inventory that :func:`tree` read last of ``folder``, with what was learnt since."""
    return _READ.get(folder.parts)


def where(folder: Path) -> str:
    """Where the raw data of ``folder`` lies: the URL, or the folder itself."""
    found = _READ.get(folder.parts)
    return found.url if found else str(folder)


def digests(parts: Sequence[Path]) -> tuple[str, list[str]]:
    """The sha256 of files' bytes, one after the other, and that of each.

    Of files behind a URL, nothing is read: the first is "", the others are the inventory's.
    Raises :class:`Problem` for what cannot be read, or ``fetch`` never has.
    """
    behind = [one for one in parts if isinstance(one, ListedPath)]
    return ("", [*map(sha256, behind)]) if behind else fingerprints.digests(*parts)


def _carrying(parts: tuple[str, ...], along: Carried | None) -> ListedPath:
    path = ListedPath(*parts)
    path.__dict__["along"] = along
    return path


def _place(path: Path) -> tuple[Inventory, str]:
    """The inventory that a path is of, and its key there. Raises LookupError for none."""
    found = _read(path)
    if found is None:
        raise LookupError(f"{path} is of no inventory that this process has read")
    return found, "/".join(path.parts[len(found.folder.parts) :])


def _read(path: Path) -> Inventory | None:
    parts = path.parts
    ways = (_READ.get(parts[:length]) for length in range(len(parts), 0, -1))
    return next((found for found in ways if found is not None), None)


def _matching(folder: ListedPath, parts: list[str], only_folders: bool) -> Iterator[ListedPath]:
    """What matches the parts of a pattern below ``folder``."""
    if not parts:
        if folder.is_dir() or not only_folders:
            yield folder
        return
    first, rest = parts[0], parts[1:]
    if not folder.is_dir():
        return
    if first == "**":
        yield from _matching(folder, rest, only_folders or not rest)
        for one in folder.iterdir():
            if one.is_dir():
                yield from _matching(one, parts, only_folders)
        return
    for one in folder.iterdir():
        if fnmatch.fnmatchcase(one.name, first):
            yield from _matching(one, rest, only_folders)
