"""Whether pictures without patients are grouped into the scans that they are slices of.

``python -m tests.benchmarks.grouping [FOLDER [CONVERTED]]`` reads the real scans in ``FOLDER``
(``shared/data`` beside the project by default) and the virtual cohorts in ``CONVERTED``
(``data/converted`` by default, as ``make repro`` leaves it), takes every slice for a case of an
unknown patient, groups them, and writes ``grouping.md`` beside this file.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.pairs import likeness, manifest, png
from pipeline.pairs.canvas import Canvas
from pipeline.pairs.manifest import Pair
from pipeline.splits import grouping, near_duplicates
from pipeline.volumes import reader, volume
from tests.conftest import PROJECT

Picture = NDArray[np.uint8]
_PX = 512
_PERCENTILES = (0.5, 99.5)
NAMES = ("in the scans' order", "every second slice missing", "without order")


@dataclass(frozen=True)
class Slice:
    """A picture, whose it is, and where it lies: the scan, and the number there."""

    patient: str
    scan: str
    number: int
    picture: Picture


def main(folder: Path, converted: Path) -> None:
    """Measure every album, print the tables and write them down."""
    albums = {title: list(slices) for title, slices in _albums(folder, converted)}
    lines = [*_head(), *_distributions(albums), *_all_groups(albums), *_speed(albums)]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))


def _head() -> list[str]:
    return [
        "# Groups of pictures without patients",
        "",
        "`python -m tests.benchmarks.grouping`. Every slice is taken for a case of an unknown",
        f"patient. Two are linked at a correlation as they lie of {grouping.ALIKE} with hashes",
        f"that differ in at most {near_duplicates.CANDIDATE_BITS} bits, or of {grouping.FOLLOWING}"
        " where their names follow each other.",
        "",
    ]


def _distributions(albums: dict[str, list[Slice]]) -> Iterator[str]:
    yield (
        "| correlation as they lie | neighbours: lowest | 1 % | 5 % | median | next but one: 5 % |"
        " median | strangers: 99 % | 99.9 % | highest |"
        f" >= {grouping.ALIKE}, near hashes | >= {grouping.FOLLOWING} |"
        " end of a scan and start of the next: highest |"
    )
    yield "|---" * 13 + "|"
    for title, slices in albums.items():
        yield f"| {title} | {' | '.join(_distribution(slices))} |"
    yield ""


def _distribution(slices: Sequence[Slice]) -> Iterator[str]:
    table = _correlations(slices)
    scan, patient = (
        np.array([getattr(one, name) for one in slices]) for name in ("scan", "patient")
    )
    number = np.array([one.number for one in slices])
    upper = np.triu(np.ones(table.shape, bool), 1)
    apart = np.abs(number[:, None] - number) * np.where(scan[:, None] == scan, 1, 10**6)
    for gap, shares in ((1, (0, 1, 5, 50)), (2, (5, 50))):
        values = table[(apart == gap) & (scan[:, None] == scan) & upper]
        yield from (f"{np.percentile(values, q):.3f}" if len(values) else "–" for q in shares)
    strange = (patient[:, None] != patient) & upper
    values = table[strange]
    yield from (f"{np.percentile(values, q):.3f}" for q in (99, 99.9, 100))
    hashes = [likeness.perceptual_hash(one.picture) for one in slices]
    near = [
        (a, b) for a, b in near_duplicates.candidates(hashes, hashes) if a < b and strange[a, b]
    ]
    yield f"{sum(table[pair] >= grouping.ALIKE for pair in near)} of {len(values):,}"
    yield f"{np.mean(values >= grouping.FOLLOWING):.1%}"
    order = np.lexsort((number, scan, patient))
    ends = [table[a, b] for a, b in pairwise(order) if patient[a] != patient[b]]
    yield f"{max(ends):.3f}"


def _correlations(slices: Sequence[Slice]) -> NDArray[np.float64]:
    small = np.stack([near_duplicates.thumbnail(one.picture).ravel() for one in slices])
    values = small.astype(np.float32) - small.mean(axis=1, keepdims=True, dtype=np.float32)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    values /= np.where(length, length, 1)
    return np.asarray(values @ values.T, np.float64)


def _all_groups(albums: dict[str, list[Slice]]) -> Iterator[str]:
    yield (
        "| pictures, names | slices, patients | groups | neighbours in one group | patients in"
        " several groups | groups of several patients | most patients in one | largest group |"
    )
    yield "|---" * 8 + "|"
    for title, slices in albums.items():
        for names in NAMES:
            yield f"| {title}, {names} | {' | '.join(_grouped(slices, names))} |"
    yield ""


def _grouped(slices: Sequence[Slice], names: str) -> Iterator[str]:
    if names == NAMES[1]:
        slices = [one for one in slices if one.number % 2 == 0]
    found = _groups(slices, mixed=names == NAMES[2])
    at = {pair.slice_index: name for pair, name in zip(found.pictures, found.names, strict=True)}
    of: dict[str, set[str]] = {}
    whose: dict[str, set[str]] = {}
    for index, one in enumerate(slices):
        of.setdefault(one.patient, set()).add(at[index])
        whose.setdefault(at[index], set()).add(one.patient)
    place = {(one.scan, one.number): index for index, one in enumerate(slices)}
    step = 2 if names == NAMES[1] else 1
    beside = [
        at[index] == at[place[scan, number + step]]
        for (scan, number), index in place.items()
        if (scan, number + step) in place
    ]
    sizes = np.unique(list(at.values()), return_counts=True)[1]
    yield f"{len(slices):,}, {len(of)}"
    yield str(len(sizes))
    yield f"{np.mean(beside):.3f} of {len(beside)}" if beside else "–"
    yield str(sum(len(groups) > 1 for groups in of.values()))
    yield str(sum(len(patients) > 1 for patients in whose.values()))
    yield str(max(map(len, whose.values())))
    yield str(int(sizes.max()))


def _groups(slices: Sequence[Slice], mixed: bool = False) -> grouping.Groups:
    """The groups of the slices that show something, each a case of its own."""
    order = np.random.default_rng(0).permutation(len(slices)) if mixed else range(len(slices))
    pairs, paths = [], {}
    for index, one in enumerate(slices):
        name = f"{index:06d}"
        hashed = likeness.perceptual_hash(one.picture)
        pairs.append(
            manifest.blank(
                name, case=name, patient=name, slice_index=index, image_digest=name, likeness=hashed
            )
        )
        paths[name] = f"scans/{order[index]}.png"

    def read(pair: Pair) -> Picture:
        return slices[pair.slice_index].picture

    return grouping.groups(pairs, read, paths)


def _speed(albums: dict[str, list[Slice]]) -> Iterator[str]:
    """How long 7,000 pictures take: those of all albums, again and again with some noise."""
    some = [one for slices in albums.values() for one in slices if one.picture.any()]
    rng = np.random.default_rng(0)
    many = [
        Slice(one.patient, one.scan, at, np.roll(one.picture, int(rng.integers(-40, 40)), 1))
        for at, one in enumerate(some[at % len(some)] for at in range(7000))
    ]
    begin = time.perf_counter()
    _groups(many)
    yield f"7,000 pictures, hashing included and reading not: {time.perf_counter() - begin:.0f} s."


def _albums(folder: Path, converted: Path) -> Iterator[tuple[str, Iterator[Slice]]]:
    seeds = folder / "seed_pairs" / "MBH-Seg25" / "images"
    if seeds.is_dir():
        yield "MBH-Seg25 (CT)", _published(seeds)
    if (folder / "ms_two_raters").is_dir():
        yield "heads (MR)", _heads(folder)
    if (folder / "Task04_Hippocampus").is_dir():
        scans = sorted((folder / "Task04_Hippocampus" / "imagesTr").glob("*.nii.gz"))
        crops = (one for file in scans[::3] for one in _scan(file, file.name))
        yield "hippocampus (MR crops)", crops
    for name in ("virtual_ncct", "virtual_mni152"):
        if (converted / name).is_dir():
            yield name, _converted(converted / name)


def _published(folder: Path) -> Iterator[Slice]:
    """Pairs whose names are the patient's three digits and the slice's."""
    for file in sorted(folder.glob("*.png")):
        yield Slice(file.stem[:3], file.stem[:3], int(file.stem[3:]), png.read_image(file))


def _heads(folder: Path) -> Iterator[Slice]:
    """Two scans of FLAIR, and one of T1w at every fifth millimetre."""
    for file in sorted((folder / "ms_two_raters").glob("*flair.nii.gz")):
        yield from _scan(file, file.name[:10])
    yield from _scan(folder / "colin27" / "colin27_ch2_T1.nii.gz", "colin27", 5)


def _scan(file: Path, patient: str, step: int = 1) -> Iterator[Slice]:
    scan = reader.read_image(file)
    low, high = np.percentile(scan.array, _PERCENTILES)
    stack = volume.slices(scan.array, "axial")
    spacing = volume.slice_spacing(scan.grid, "axial")
    canvas = Canvas.fit((stack.shape[1], stack.shape[2]), spacing, _PX)
    for number, native in enumerate(stack[::step]):
        grey = canvas.image(volume.to_8_bit(native, (float(low), float(high))))
        yield Slice(patient, patient, number, np.rint(grey).astype(np.uint8))


def _converted(folder: Path) -> Iterator[Slice]:
    for pair in manifest.read(folder):
        yield Slice(pair.patient, pair.case, pair.slice_index, png.read_image(folder / pair.image))


if __name__ == "__main__":
    given = [Path(one).resolve() for one in sys.argv[1:]]
    defaults = [PROJECT.parent / "shared" / "data", PROJECT / "data" / "converted"]
    main(*[*given, *defaults[len(given) :]])
