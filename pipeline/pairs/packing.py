"""Pairs in shards: which lie together, and how they get there and back.

Cases are dealt by a digest of their names, so a new case changes one shard. What a case's pairs
show is in ``shards/<number>-of-<count>-<content>.tar``, for each pair ``<id>.image.png`` and
``<id>.mask.png`` one after the other, as WebDataset reads it; what convert keeps of the case is in
``shards/cases-<number>-of-<count>-<content>.tar``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import paths
from pipeline.pairs import case_folder, manifest, pictures
from pipeline.pairs.case_folder import CaseFolder
from pipeline.pairs.case_record import Kept
from pipeline.pairs.manifest import Pair
from pipeline.pairs.scan_record import KEPT as SCAN
from pipeline.pairs.truth_record import KEPT as TRUTH
from pipeline.params.convert import Convert
from pipeline.runtime import remote, shards
from pipeline.runtime.shards import Member, Place

MOST_CASES = 64
"""Of a shard, on average, where the number of shards follows from that of the cases."""
FROM_CASES = 2000
"""As many cases are kept in shards, unless the parameters say otherwise."""


@dataclass(frozen=True)
class Layout:
    """In how many shards the files of pairs lie, or 0, and behind which URL, or ""."""

    count: int = 0
    url: str = ""


def count_of(wanted: int | str, cases: int, from_cases: int = FROM_CASES) -> int:
    """How many shards ``convert.shards`` gives so many cases; 0: each file is on its own.

    Of ``auto`` it is a power of two, so few changes of the number of cases change it.

    >>> count_of("auto", 500), count_of("auto", 25_000), count_of(3, 500)
    (0, 512, 3)
    """
    if isinstance(wanted, int):
        return wanted
    if cases < from_cases:
        return 0
    count = 1
    while count * MOST_CASES < cases:
        count *= 2
    return count


def of_convert(dataset: str, wanted: Convert, cases: int) -> Layout:
    """How the pairs of so many cases are kept; behind a URL they are always in shards."""
    count = count_of(wanted.shards, cases, from_cases=1 if wanted.store else FROM_CASES)
    return _layout("converted", dataset, count, wanted.store)


def of_augment(dataset: str, wanted: Convert, converted: Sequence[Pair]) -> Layout:
    """How the variants of converted pairs are kept: as these are."""
    return _layout("augmented", dataset, count_in(converted), wanted.store)


def _layout(stage: str, dataset: str, count: int, store: str) -> Layout:
    return Layout(count, f"{store.rstrip('/')}/{stage}/{dataset}" if store and count else "")


def count_in(pairs: Sequence[Pair]) -> int:
    """In how many shards a dataset of these pairs is kept; 0: each file is on its own."""
    name = next((pair.shard for pair in pairs if pair.shard), "")
    return int(Path(name).name.split("-")[2]) if name else 0


def number_of(case: str, count: int) -> int:
    """The number of the shard, from 0, that a case lies in."""
    return int(hashlib.sha256(case.encode()).hexdigest()[:15], 16) % count


def pack(folder: Path, number: int, layout: Layout, pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs of one shard, packed: with the places of their files in their rows.

    Files that lie elsewhere are copied, and left where they are. Raises :class:`Problem` if one is
    not as its row states it.
    """
    rows = sorted(pairs, key=lambda pair: pair.id)
    if not rows:
        return []
    name = f"{number:05d}-of-{layout.count:05d}"
    rows = _pictures(folder, layout.url, name, rows)
    return _cases(folder, layout.url, f"cases-{name}", rows)


def are_there(pairs: Iterable[Pair], sizes: dict[str, int]) -> bool:
    """Whether the shards of pairs that lie behind a URL are there, as long as they must be.

    Their names stand for their content, and a service shows them once it has all of it. ``sizes``
    takes what the service says of each, to be asked once in a run.
    """
    ends: dict[str, int] = {}
    for pair in pairs:
        for shard, at in ((pair.shard, pair.shard_at[-2:]), (pair.case_shard, pair.case_at)):
            if shards.is_url(shard):
                ends[shard] = max(ends.get(shard, 0), sum(at))
    for shard in ends.keys() - sizes.keys():
        there, name = remote.folder_of(shard)
        sizes[shard] = there.size(name) or 0
    return all(sizes[shard] >= end for shard, end in ends.items())


def unpack(folder: Path, pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs with each file on its own in ``folder`` again."""
    found = []
    for own in manifest.grouped(pairs, "case"):
        if own[0].case_shard:
            shards.unpack(case_folder.part(folder, own[0]), folder)
        for pair in own:
            if pair.shard:
                pictures.place(folder, pair, folder)
            found.append(replace(pair, shard="", shard_at=(), case_shard="", case_at=()))
    return found


def loose_files(folder: Path, pair: Pair) -> list[Path]:
    """Where the files of a pair are while they are in no shard; of its case, their folders."""
    names = [name for name, _ in pair.files]
    return [folder / name for name in names] + [
        (folder / record).parent for record in (pair.truth, pair.scan) if record
    ]


def _pictures(folder: Path, url: str, name: str, rows: Sequence[Pair]) -> list[Pair]:
    members = [
        Member(_name(pair.id, file), there, digest)
        for pair in rows
        for (file, digest), there in zip(pair.files, pictures.files(folder, pair), strict=True)
    ]
    shard = _shard(url, name, members)
    if all(pair.shard == shard for pair in rows):
        return list(rows)
    places = _written(folder, shard, members)
    found = []
    for pair in rows:
        each = [next(places) for _ in pair.files]
        at = tuple(number for one in each for number in (one.offset, one.size))
        found.append(replace(pair, shard=shard, shard_at=at))
    return found


def _cases(folder: Path, url: str, name: str, rows: Sequence[Pair]) -> list[Pair]:
    cases = [own for own in manifest.grouped(rows, "case") if own[0].truth or own[0].scan]
    if not cases:
        return list(rows)
    folders = [CaseFolder(folder, own[0]) for own in cases]
    each = [_kept(one.path, own[0]) for one, own in zip(folders, cases, strict=True)]
    members = [member for kept in each for member in kept]
    shard = _shard(url, name, members)
    if all(own[0].case_shard == shard for own in cases):
        return list(rows)
    places = _written(folder, shard, members)
    at = {}
    for kept, own in zip(each, cases, strict=True):
        first, *others = (next(places) for _ in kept)
        at[own[0].case] = first.start, (others[-1] if others else first).end - first.start
    return [
        replace(pair, case_shard=shard, case_at=at[pair.case]) if pair.case in at else pair
        for pair in rows
    ]


def _shard(url: str, name: str, members: Sequence[Member]) -> str:
    """The name of a shard in the manifest."""
    own = f"{paths.SHARDS}/{name}-{shards.digest_of(members)}{shards.SUFFIX}"
    return f"{url}/{own}" if url else own


def _written(folder: Path, shard: str, members: Sequence[Member]) -> Iterator[Place]:
    """The places of the members in a shard that is written, or sent to where its URL says."""
    file = folder / paths.SHARDS / shard.rpartition("/")[2]
    places = shards.write(file, members)
    if shards.is_url(shard):
        there, name = remote.folder_of(shard)
        if there.size(name) != file.stat().st_size:
            there.put(file, name)
        file.unlink()
    return iter(places)


def _kept(folder: Path, pair: Pair) -> list[Member]:
    """What convert keeps of the case of a pair, in ``folder``."""
    found = []
    records: tuple[tuple[Kept, str, str], ...] = (
        (SCAN, pair.scan, pair.scan_digest),
        (TRUTH, pair.truth, pair.truth_digest),
    )
    for kind, record, digest in records:
        if record:
            volumes = kind.read(folder, record, digest)["digests"]
            place = Path(record).parent
            files = [(record, digest), *((f"{place}/{one}", own) for one, own in volumes.items())]
            found += [Member(name, folder / name, own) for name, own in sorted(files)]
    return found


def _name(pair_id: str, file: str) -> str:
    """A pair's file in a shard: WebDataset takes what stands before the first dot for its id.

    >>> _name("p1_0003", "images_2/p1_0003.png")
    'p1_0003.image_2.png'
    """
    part = Path(file).parent.name.replace(paths.IMAGES, "image").replace(paths.MASKS, "mask")
    return f"{pair_id.replace('.', '%2E')}.{part}.png"
