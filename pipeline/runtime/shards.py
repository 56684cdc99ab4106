"""Shards: many small files as one, an uncompressed tar that is read at any place.

A shard's name ends in a digest of what it holds, so it never changes: another content is another
file. Same members, same bytes: they have no time, no owner and the order in which they are given.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from datasets_spec.contract import Problem
from pipeline.runtime import files, remote

SUFFIX = ".tar"
_BLOCK = 512  # of a tar, in bytes


Shard = Path | str
"""A file of this machine, or a URL."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file within a shard: its name there, and its ``size`` bytes from ``offset`` on."""

    shard: Shard
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"

    def read_bytes(self) -> bytes:
        """The file's content.

        Raises :class:`Problem` if the shard does not hold so much, or a service does not answer.
        """
        try:
            content = self._content()
        except FileNotFoundError:
            raise self._lost("none") from None
        if len(content) != self.size:
            raise self._lost("a shorter one")
        return content

    def _content(self) -> bytes:
        if isinstance(self.shard, str):
            folder, name = remote.folder_of(self.shard)
            return folder.part(name, self.offset, self.size)
        with self.shard.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.size)

    def _lost(self, there: str) -> Problem:
        end = self.offset + self.size
        return Problem(
            f"expected a shard of at least {end:,} bytes, got {there}",
            where=self.shard,
            remedy="Run the stage that writes it again.",
        )


def located(folder: Path, name: str) -> Shard:
    """The shard that a manifest in ``folder`` names: a file below it, or a URL.

    >>> located(Path("data"), "shards/a.tar").as_posix(), located(Path("data"), "s3://b/a.tar")
    ('data/shards/a.tar', 's3://b/a.tar')
    """
    return name if is_url(name) else folder / name


def is_url(name: str) -> bool:
    """Whether a manifest's name of a shard is a URL.

    >>> is_url("s3://b/a.tar"), is_url("shards/a.tar")
    (True, False)
    """
    return "://" in name


File = Path | Part
"""A file of its own, or one within a shard."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member lies in its shard: its header's start, and its content's offset and size."""

    start: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        """Where the next member starts."""
        return self.offset + _whole_blocks(self.size)


@dataclass(frozen=True)
class Member:
    """What goes into a shard: its name there, the file that it is now, and its sha256."""

    name: str
    file: File
    digest: str


def digest_of(members: Iterable[Member]) -> str:
    """16 hexadecimal digits that stand for the content of a shard of these members."""
    listed = "".join(f"{one.digest} {one.name}\n" for one in members)
    return hashlib.sha256(listed.encode()).hexdigest()[:16]


def write(target: Path, members: Iterable[Member]) -> list[Place]:
    """Write ``target``, completely or not at all; returns the place of each member.

    Raises :class:`Problem` if a file does not have the content that is stated of it.
    """
    places = []
    with (
        files.replacing(target) as unfinished,
        tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for one in members:
            content = one.file.read_bytes()
            if hashlib.sha256(content).hexdigest() != one.digest:
                raise Problem(
                    f"expected sha256 {one.digest}, got another content",
                    where=one.file,
                    remedy="Run the stage again.",
                )
            entry, start = tarfile.TarInfo(one.name), archive.offset  # of no time and no owner
            entry.size = len(content)
            archive.addfile(entry, BytesIO(content))
            places.append(Place(start, archive.offset - _whole_blocks(len(content)), len(content)))
    return places


def _whole_blocks(size: int) -> int:
    """The bytes that a content of ``size`` takes in a tar."""
    return -(-size // _BLOCK) * _BLOCK


def unpack(part: Part, target: Path) -> None:
    """Write the members that ``part`` of a shard spans to ``target``, by their names.

    Raises :class:`Problem` if the shard does not hold them.
    """
    try:
        with tarfile.open(fileobj=BytesIO(part.read_bytes())) as archive:
            archive.extractall(target, filter="data")
    except tarfile.TarError as error:
        raise Problem(
            f"expected files of a shard, got other bytes ({error})",
            where=part,
            remedy="Run the stage that writes it again.",
        ) from None


def holds(file: File, digest: str) -> bool:
    """Whether a file is there, of its own or in a shard, with content of this sha256."""
    if isinstance(file, Path):
        return files.holds(file, digest)
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == digest
    except (OSError, Problem):
        return False
