"""Unpack untrusted archives (tar, zip): regular files and folders below one folder, nothing else.

Owners, modes and times are dropped, and the first member that is anything else than a file or a
folder, or that would be placed elsewhere, is refused by name. That is stricter than ``tarfile``'s
filter "data", which lets links within the folder pass and which Python has only since 3.11.4.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tqdm import tqdm

from datasets_spec.contract import Problem

MEMBERS = 1_000_000
"""The most members of an archive: several times the slices of the largest dataset."""
RATIO, SMALL = 200, 4 << 30
"""The most unpacked bytes: ``RATIO`` times the archive, or ``SMALL`` if that is more.

Scans compress two to ten times; label maps alone can compress a thousand times, but are then
small.
"""
_DEEPEST = 64  # folders; published datasets have fewer than ten
_BLOCK = 1 << 20  # bytes read at once, and the longest header of a member
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # a first member, or the end of an archive without any
_DAMAGED = (
    EOFError,
    RuntimeError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_TAR_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
}


def _plain(archive: Path) -> IO[bytes]:
    return archive.open("rb")


_OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


@dataclass(frozen=True)
class _Member:
    """One member; ``strange`` describes one that is neither a file nor a folder."""

    name: str
    size: int
    folder: bool
    strange: str
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, folder: Path) -> int:
    """Write what ``archive`` holds below ``folder``; returns the number of files.

    Raises :class:`Problem` for a member that is not a plain file or folder or would be placed
    elsewhere, for two of one name, for more than :data:`MEMBERS`, :data:`RATIO` or the disk allow,
    and for a damaged archive. Files that were written before remain: unpack into a new folder.
    """
    try:
        written = _unpack(archive, folder)
    except (*_DAMAGED, ValueError) as error:
        raise _refused(archive, "the structure of tar or zip", str(error)) from None
    except OSError as error:
        if error.errno is None:  # the decoders raise this for damage
            raise _refused(archive, "the structure of tar or zip", str(error)) from None
        where = error.filename or folder
        raise _no_room(where, f"to write what {archive.name} holds", str(error.strerror)) from None
    if not written:
        raise _refused(archive, "files", "none")
    return written


def _unpack(archive: Path, folder: Path) -> int:
    """:func:`unpack`, with the errors of the libraries that read archives."""
    limit = max(RATIO * archive.stat().st_size, SMALL)
    room = shutil.disk_usage(folder).free
    count = written = total = 0
    bar: dict[str, Any] = {"unit": "B", "unit_scale": True, "disable": None, "leave": False}
    with (
        closing(_members(archive, limit)) as members,
        tqdm(desc=f"unpack {archive.name}", **bar) as progress,
    ):
        for member in members:
            count, total = count + 1, total + member.size
            what = f"the member {member.name!r}"
            target = folder / _inside(member, archive)
            if count > MEMBERS:
                raise _refused(archive, f"at most {MEMBERS:,} members", f"more with {what}")
            if total > limit:
                raise _refused(archive, f"at most {limit:,} bytes", f"more with {what}")
            if total > room:
                what = f"room for {total:,} bytes and more"
                raise _no_room(folder, what, f"a disk with {room:,} free")
            try:
                if member.folder:
                    target.mkdir(parents=True, exist_ok=True)
                else:
                    _write(member, target, progress.update)
                    written += 1
            except (FileExistsError, NotADirectoryError):
                raise _refused(archive, "every name once", f"{what} twice") from None
            except _DAMAGED as error:
                raise _refused(archive, "whole members", f"{what}: {error}") from None
    return written


def _members(archive: Path, limit: int) -> Generator[_Member, None, None]:
    with archive.open("rb") as stream:
        start = stream.read(6)
    if start.startswith(_ZIP):
        yield from _of_zip(archive)
        return
    opener = next((one for magic, one in _OPENERS.items() if start.startswith(magic)), _plain)
    with opener(archive) as stream:
        yield from _of_tar(_Bounded(stream, archive, limit + MEMBERS * 2 * tarfile.BLOCKSIZE))


def _of_tar(stream: _Bounded) -> Generator[_Member, None, None]:
    file: Any = stream
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while (member := tar.next()) is not None:
            yield _Member(
                member.name,
                member.size if member.isreg() else 0,
                member.isdir(),
                ""
                if member.isreg() or member.isdir()
                else _TAR_KINDS.get(member.type, f"a member of type {member.type!r}"),
                partial(tar.extractfile, member),
            )
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all members in memory
        stream.seek(tar.offset)
        if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile would stop here without an error
            raise tarfile.ReadError("what follows the last whole member is no header")
        while stream.read(_BLOCK):  # to the end, where a compressed tar has its checksum
            pass


def _of_zip(archive: Path) -> Generator[_Member, None, None]:
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)  # as Unix stores it; 0 elsewhere
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            yield _Member(
                member.filename,
                member.file_size,
                member.is_dir(),
                "" if plain else _KINDS.get(kind, f"a member of type {kind:o}"),
                partial(packed.open, member),
            )


class _Bounded:
    """A tar's first ``most`` bytes, so that no header can demand more time or memory."""

    def __init__(self, stream: IO[bytes], archive: Path, most: int) -> None:
        self._stream, self._archive, self._most = stream, archive, most

    def read(self, size: int) -> bytes:
        if size > _BLOCK:
            raise _refused(self._archive, f"headers of at most {_BLOCK:,} bytes", f"{size:,} bytes")
        self._require(self._stream.tell() + size - _BLOCK)
        return self._stream.read(size)

    def seek(self, place: int) -> int:
        self._require(place)
        return self._stream.seek(place)

    def _require(self, place: int) -> None:
        if place > self._most:
            raise _refused(self._archive, f"at most {self._most:,} bytes", "more")

    def tell(self) -> int:
        return self._stream.tell()


def _inside(member: _Member, archive: Path) -> PurePosixPath:
    """The path of a member relative to the folder. Raises :class:`Problem` if it is outside."""
    what = f"the member {member.name!r}"
    if member.strange:
        raise _refused(archive, "files and folders alone", f"{what}, {member.strange}")
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise _refused(archive, "names below the folder that it is unpacked in", what)
    if len(path.parts) > _DEEPEST:
        raise _refused(archive, f"at most {_DEEPEST} folders in each other", what[:100])
    reserved = any(part.startswith(".unfinished-") for part in path.parts)
    if reserved or not (path.parts or member.folder) or member.size < 0:
        raise _refused(archive, "names that it may use", what)
    return path


def _write(member: _Member, target: Path, update: Callable[[int], object]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.size
    source = member.open()
    assert source is not None  # files have content
    with source, target.open("xb") as out:
        while block := source.read(min(_BLOCK, left + 1)):
            left -= len(block)
            if left < 0:
                break
            out.write(block)
            update(len(block))
    if left:
        raise EOFError(f"expected {member.size} bytes, got {'more' if left < 0 else 'fewer'}")


def _refused(archive: Path, expected: str, got: str) -> Problem:
    return Problem(
        f"expected an archive with {expected}, got {got}",
        where=archive,
        remedy="Nothing of it is kept. Ask its publisher whether that is intended; unpack by hand"
        " what you trust.",
    )


def _no_room(where: object, expected: str, got: str) -> Problem:
    return Problem(
        f"expected {expected}, got {got}",
        where=where,
        remedy="Make room or correct the rights there, and run it again.",
    )
