"""The door through which a worker opens a case: with its files on the worker's own disk.

Of raw data on this machine, that is the case as it is. Of raw data behind a URL, the files come
into a scratch folder (:mod:`pipeline.runtime.scratch`) that is gone after the case, so that disk
and memory hold one case per worker; errors name URLs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from datasets_spec.contract import Case, OneVolume, Picture, Problem, paths_of
from pipeline.runtime import fingerprints, remote, scratch, shortages
from pipeline.sources import listed, listing
from pipeline.sources.inventory import Object
from pipeline.sources.listed import Carried, ListedPath

_AT_ONCE = 8
"""Requests of one worker: many small slices would otherwise wait for one another's answers."""


@dataclass(frozen=True)
class Brought:
    """A case whose files are here, and the sha256 of each object that was brought, by its path."""

    case: Case
    digests: dict[str, str] = field(default_factory=dict)

    def source_digest(self) -> str:
        """The sha256 of all files of the case, image first."""
        return fingerprints.digests(*listing.files(self.case))[0]


@contextmanager
def brought(case: Case) -> Iterator[Brought]:
    """The case with files that can be opened, for the time of the block.

    Raises :class:`Problem` for an object that is gone, has changed since ``fetch`` or cannot be
    read; what the block raises names URLs and no file of the scratch folder.
    """
    parcels = [found for path in _paths(case) if (found := listed.carried(path)) is not None]
    if not parcels:
        yield Brought(case)
        return
    with scratch.folder() as here, listed.naming(here, parcels[0].url):
        digests = _bring(parcels, here)
        yield Brought(_moved(case, parcels[0].folder, here), digests)


def verified(case: Case) -> bool:
    """Whether the files of a case lie behind a URL, and ``fetch`` has read them as they are."""
    try:
        files = listing.files(case)
        behind = [listed.sha256(one) for one in files if isinstance(one, ListedPath)]
    except Problem:
        return False
    return bool(behind)


def _paths(case: Case) -> list[Path]:
    pictures = (*case.pictures.values(), *case.labels.values())
    return [path for picture in pictures for path in paths_of(picture)]


def _moved(case: Case, folder: Path, here: Path) -> Case:
    """The case with the same tree below ``here`` as below the raw ``folder``."""

    def moved(picture: Picture) -> Picture:
        if isinstance(picture, OneVolume):
            return replace(picture, path=here / picture.path.relative_to(folder))
        if isinstance(picture, tuple):
            return tuple(here / one.relative_to(folder) for one in picture)
        return here / picture.relative_to(folder)

    image: Any = {name: moved(one) for name, one in case.pictures.items()}
    labels = {rater: moved(one) for rater, one in case.labels.items()}
    # plain paths, which no longer answer from the inventory
    return replace(
        case, image=image if isinstance(case.image, Mapping) else image[""], labels=labels
    )


def _bring(parcels: list[Carried], here: Path) -> dict[str, str]:
    """Every object of a case into ``here``; path -> sha256."""
    source = remote.opened(parcels[0].url)
    objects = {one.path: one for parcel in parcels for one in parcel.objects}
    at_once = min(_AT_ONCE, len(objects)) if source.system.async_impl else 1
    pool = ThreadPoolExecutor(max(1, at_once))
    try:
        found = list(pool.map(partial(_bring_one, source, here), objects.values()))
    finally:
        pool.shutdown(cancel_futures=True)
    return dict(zip(objects, found, strict=True))


def _bring_one(source: remote.Remote, here: Path, wanted: Object) -> str:
    """Stream one object to its place; returns its sha256, which is the listed one if there is."""
    target = here / wanted.path
    total = hashlib.sha256()
    with _room(source.of(wanted.path), wanted.size, here):
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            for block in source.blocks(wanted.path, wanted.size):
                total.update(block)
                out.write(block)
    got = total.hexdigest()
    if wanted.sha256 not in ("", got):
        raise remote.changed(f"sha256 {wanted.sha256}", f"another ({got})", source.of(wanted.path))
    return got


@contextmanager
def _room(url: str, size: int, here: Path) -> Iterator[None]:
    """Report a full disk as what it means here."""
    try:
        yield
    except OSError as error:
        if shortages.problem_of(error) is None:
            raise
        folder = here.parent.parent
        raise Problem(
            f"expected room for {size:,} bytes in the temporary folder {folder}, got:"
            f" {os.strerror(error.errno or 0)}",
            where=url,
            remedy="Make room there, or let TMPDIR name a folder with room for a case per worker.",
        ) from None
