"""The inventory of raw data that lies behind a URL: what ``fetch`` listed and verified there.

It is the one file of ``data/raw/<dataset>`` then, so that DVC sees a small folder, which changes
exactly when the data does. Adapters list from it alone (:mod:`pipeline.sources.listed`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_spec.contract import Problem
from pipeline.runtime import files, remote

if TYPE_CHECKING:
    from pipeline.runtime.remote import Entry, Remote

_LOG = logging.getLogger(__name__)
NAME = "inventory.parquet"
_URL = b"flexunet.url"
_TYPES = {
    "path": "string",
    "size": "int64",
    "version": "string",
    "sha256": "string",
    "content": "binary",
}
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Object:
    """A file behind the URL: its path there, size, version, and what reading it has brought.

    ``sha256`` is "" until a case that needs the file has been verified. ``content`` is kept of
    what adapters read while they list, such as tables.
    """

    path: str
    size: int
    version: str
    sha256: str = ""
    content: bytes | None = None


@dataclass
class Inventory:
    """The objects below ``url`` by their paths, which stand for files below ``folder``."""

    folder: Path
    url: str
    objects: dict[str, Object]
    below: dict[str, list[str]] = field(init=False, repr=False)
    """Folder ("": the whole) -> the names in it, sorted."""

    def __post_init__(self) -> None:
        names: dict[str, set[str]] = {"": set()}
        for path in self.objects:
            while path:
                parent, _, name = path.rpartition("/")
                its = names.setdefault(parent, set())
                if name in its:
                    break
                its.add(name)
                path = parent
        self.below = {parent: sorted(its) for parent, its in names.items()}

    def url_of(self, path: str) -> str:
        """The URL of a file or folder below."""
        return f"{self.url}/{path}" if path else self.url

    def learn(self, digests: Mapping[str, str]) -> None:
        """Note the sha256 of objects that have been read."""
        for path, sha256 in digests.items():
            self.objects[path] = replace(self.objects[path], sha256=sha256)

    def content(self, path: str) -> bytes:
        """What a file holds that an adapter reads; kept once it has been read.

        Raises :class:`Problem` where the service does not give it.
        """
        one = self.objects[path]
        if one.content is not None:
            return one.content
        source = remote.opened(self.url)
        content = b"".join(source.blocks(path, one.size))
        self.objects[path] = replace(one, content=content)
        return content


def read(folder: Path) -> Inventory | None:
    """The inventory in ``folder``; None where the data itself lies there."""
    file = folder / NAME
    if not file.is_file():
        return None
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    objects: dict[str, Object] = {}
    try:
        with pq.ParquetFile(file) as parquet:
            url = (parquet.schema_arrow.metadata or {}).get(_URL)
            if url is None:  # a file of the dataset's own that is called so
                return None
            for batch in parquet.iter_batches(columns=list(_TYPES)):
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    objects[row[0]] = Object(*row)
    except (ArrowException, OSError) as error:
        raise Problem(
            f"expected the inventory of a URL, got a file that cannot be read: {error}",
            where=file,
            remedy="Take it away and run fetch with --from again.",
        ) from None
    return Inventory(folder, url.decode(), objects)


def write(found: Inventory) -> None:
    """Write the inventory, unless the file says the same already."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    former = read(found.folder)
    if former is not None and (former.url, former.objects) == (found.url, found.objects):
        return
    schema = pa.schema(
        [(name, pa.type_for_alias(kind)) for name, kind in _TYPES.items()],
        {_URL: found.url.encode()},
    )
    rows = [found.objects[path] for path in sorted(found.objects)]
    columns = {name: [getattr(one, name) for one in rows] for name in _TYPES}
    with files.replacing(found.folder / NAME) as place:
        pq.write_table(pa.table(columns, schema=schema), place, compression="zstd")


def listed(folder: Path, url: str = "") -> Inventory:
    """What lies below ``url`` now ("": that of the inventory in ``folder``), not yet written.

    The sha256 of objects whose size and version are as before is kept. Raises :class:`Problem`
    where nothing can be listed, and for a folder that holds raw data itself.
    """
    former = read(folder)
    _require_no_data(folder, former)
    source = remote.opened(url or (former.url if former else ""))
    before = former.objects if former and former.url == source.url else {}
    objects = {}
    for entry in _usable(source, source.entries()):
        one = before.get(entry.path)
        same = one is not None and entry.version and one.version == entry.version
        kept = one if same and one is not None and one.size == entry.size else None
        objects[entry.path] = kept or Object(*entry)
    return Inventory(folder, source.url, objects)


def _require_no_data(folder: Path, former: Inventory | None) -> None:
    here = folder.iterdir() if folder.is_dir() else ()
    own = {NAME} if former else set()
    others = sorted(
        one.name for one in here if not one.name.startswith(".") and one.name not in own
    )
    if others:
        raise Problem(
            f"expected a folder for the inventory of a URL alone, got {others[0]}",
            where=folder,
            remedy="Move the files there elsewhere, or leave out --from.",
        )


def _usable(source: Remote, entries: list[Entry]) -> list[Entry]:
    """The objects that can be files; logs which cannot: a//b, or a beside a/b."""
    folders = set()
    for entry in entries:
        parent = entry.path.rpartition("/")[0]
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    usable = [one for one in entries if one.path not in folders and _is_name(one.path)]
    if len(usable) < len(entries):
        left = sorted({one.path for one in entries} - {one.path for one in usable})
        _LOG.warning(
            "warning: left out: %d objects whose names cannot be those of files beside the others,"
            " such as %s",
            len(left),
            ", ".join(repr(source.of(one)) for one in left[:_EXAMPLES]),
        )
    return usable


def _is_name(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in path and not {"", ".", ".."} & set(path.split("/"))
