"""The gate: what must never be true of a dataset that is split into train, valid and test.

It judges any folder of the layout ``{train,valid,test}/{images,masks}/*.png``: ours by
its manifest, a foreign one by its files and their names.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from datasets_spec.contract import SPLITS, Problem
from pipeline import paths
from pipeline.labels import colours as labels_colours
from pipeline.pairs import identities, manifest, png
from pipeline.pairs import likeness as pairs_likeness
from pipeline.pairs.manifest import Pair
from pipeline.params.limits import Limits
from pipeline.runtime import executor
from pipeline.splits import near_duplicates
from pipeline.volumes import picture_files

PATIENTS = "no patient is in two splits"
PARENTS = "no parent of an augmented pair is in two splits"
COPIES = "no picture is in two splits"
LIKENESSES = "no near-duplicate picture is in two splits"
AUGMENTED = "only train holds augmented pairs"
PAIRED = "every image has its mask, and the reverse"
READABLE = "every picture can be read, image and mask in one size"
UNCHANGED = "every picture is the manifest's"
COLOURS = "masks hold the label map's colours only"
PROMISES = (
    PATIENTS, PARENTS, COPIES, LIKENESSES, AUGMENTED, PAIRED, READABLE, UNCHANGED, COLOURS,
)  # fmt: skip

_MOST_COLOURS = 32
"""More colours than this over all masks of a folder without a label map are blends, not classes."""
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_CHUNK = 64
_FEW = 256
"""So few pictures are read here: to start other processes takes longer."""
_Key = tuple[str, str]  # split and a file's name without its suffix
_Files = Mapping[_Key, Sequence[str]]  # the suffixes of all files of that name


SHOWN = 3
"""Examples of a broken promise that are shown, unless all are asked for."""


@dataclass(frozen=True)
class Violation:
    """One broken promise: which, how often, and examples that can be looked at, worst first."""

    promise: str
    count: int
    example: str
    more: tuple[str, ...] = ()

    def summary(self, most: int | None = SHOWN) -> str:
        """How often, and up to ``most`` examples (None: all of them)."""
        examples = (self.example, *self.more)[:most]
        left = 1 + len(self.more) - len(examples)
        return f"broken {self.count} times, such as {'; '.join(examples)}" + (
            f"; and {left} more" if left else ""
        )


class _Digests(NamedTuple):
    """What the manifest says of a pair's files."""

    image_digest: str
    mask_digest: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """What reading one pair of files told: digest and hash of the image, colours of the mask.

    Of a pair whose bytes are the manifest's (``ours``) the digest is enough.
    """

    digest: str
    likeness: str = ""
    blank: bool = False
    colours: frozenset[int] = frozenset()
    fault: str = ""
    ours: bool = False


def judge(folder: Path, pairs: Iterable[Pair], blank: Iterable[str] = ()) -> list[Violation]:
    """What is wrong with ``pairs``, whose ``split`` is set and whose pictures lie in ``folder``.

    ``blank`` holds the digests of pictures of one single value: they look the same
    in every patient and say nothing. Other pictures that occur in several splits are opened.
    """
    pairs = list(pairs)
    blank = frozenset(blank) | _blank_digests(folder, pairs)
    showing = [pair for pair in pairs if pair.image_digest not in blank]
    found = [
        *_shared(PATIENTS, pairs, lambda pair: pair.patient),
        *_shared(PARENTS, pairs, lambda pair: pair.parent or pair.id),
        *_shared(COPIES, showing, lambda pair: pair.image_digest),
    ]
    found += _likenesses(folder, showing)
    strays = [pair for pair in pairs if pair.parent and pair.split != "train"]
    if strays:
        examples = [f"{pair.split}/{pair.id}" for pair in strays]
        found.append(Violation(AUGMENTED, len(strays), examples[0], tuple(examples[1:])))
    return found


def check(
    folder: Path,
    workers: int,
    patient: str = "",
    limits: Limits = Limits(),
) -> list[Violation]:
    """What is wrong with a folder on disk: :func:`judge`, unpaired, changed and damaged files.

    Image and mask are paired by their names without suffix, so a JPEG image may have a PNG mask.
    ``patient`` is a regular expression whose match (its first group, if it has one) in a file's
    name is the patient, for folders without a manifest. Pictures larger than ``limits`` allow
    count as unreadable. There a picture counts as augmented if
    its name ends in "_" and another picture's name, which then tells the patient. Raises
    :class:`Problem` if the folder does not have the layout, a split has no pictures, or no name
    matches ``patient``.
    """
    images, masks = _listing(folder, paths.IMAGES), _listing(folder, paths.MASKS)
    _require_pictures(folder, images)
    patients = _patients(folder, images, patient)
    known = {}
    if (folder / paths.MANIFEST).is_file():
        known = {(pair.split, pair.id): pair for pair in manifest.read(folder)}
    parents = _parents(images)
    pairs, blank, faults, changed = [], set(), [], []
    shown: dict[_Key, frozenset[int]] = {}
    kinds: dict[frozenset[int], frozenset[int]] = {}  # masks share few sets of colours
    for key, one in _look(folder, images, masks, known, workers, limits):
        pair = known.get(key)
        if one.ours and pair is not None:
            pairs.append(pair)
            continue
        if pair is None:
            split, stem = key
            parent = parents.get(stem, "")
            whose = patients.get(parent or stem) or f"{split}/{stem}"
            pairs.append(_foreign(key, images[key][0], one, whose, parent))
        else:
            pairs.append(replace(pair, image_digest=one.digest, likeness=one.likeness))
        if one.blank:
            blank.add(one.digest)
        if one.fault:
            faults.append(f"{'/'.join(key)}: {one.fault}")
        if known:
            changed.append("/".join(key))
        shown[key] = kinds.setdefault(one.colours, one.colours)
    changed += ["/".join(key) for key in known.keys() - images.keys()]
    found = judge(folder, pairs, blank)
    for promise, broken in (
        (PAIRED, _unpaired(images, masks)),
        (READABLE, faults),
        (UNCHANGED, sorted(changed)),
    ):
        if broken:
            found.append(Violation(promise, len(broken), broken[0], tuple(broken[1:])))
    found += _stray_colours(folder, shown)
    for dataset in sorted({pair.dataset for pair in known.values()}):
        found = [_explained(dataset, one) for one in found]
    return sorted(found, key=lambda violation: PROMISES.index(violation.promise))


def table(found: Sequence[Violation], most: int | None = 3) -> str:
    """Every promise and whether it holds, a line each, with up to ``most`` examples."""
    broken = {violation.promise: violation for violation in found}
    lines = []
    for promise in PROMISES:
        violation = broken.get(promise)
        told = violation.summary(most) if violation else "holds"
        lines.append(f"  {promise:58} {told}")
    return "\n".join(lines)


def require(found: Sequence[Violation], where: object) -> None:
    """Raises :class:`Problem` if anything was found."""
    if found:
        told = "; ".join(f"{violation.promise}: {violation.summary()}" for violation in found)
        raise Problem(
            told, where=where, remedy="Split by patient, and augment the train split only."
        )


def _shared(promise: str, pairs: Sequence[Pair], key: Callable[[Pair], str]) -> Iterator[Violation]:
    """The violation that pairs of several splits have one ``key``, if there are such pairs."""
    several = _in_several_splits(pairs, key)
    if several:
        where: dict[str, dict[str, str]] = {}
        for pair in pairs:
            if (name := key(pair)) in several:
                where.setdefault(name, {}).setdefault(pair.split, pair.id)
        examples = [
            f"{name}: {' and '.join(f'{split}/{pair_id}' for split, pair_id in places.items())}"
            for name, places in where.items()
        ]
        yield Violation(promise, len(several), examples[0], tuple(examples[1:]))


def _explained(dataset: str, violation: Violation) -> Violation:
    """The violation with what hashed names stand for, in the examples that are shown."""
    shown = [
        identities.explained(dataset, one)
        for one in (violation.example, *violation.more[: SHOWN - 1])
    ]
    return replace(violation, example=shown[0], more=(*shown[1:], *violation.more[SHOWN - 1 :]))


def _in_several_splits(pairs: Iterable[Pair], key: Callable[[Pair], str]) -> set[str]:
    first: dict[str, str] = {}
    return {name for pair in pairs if first.setdefault(name := key(pair), pair.split) != pair.split}


def _likenesses(folder: Path, pairs: Sequence[Pair]) -> list[Violation]:
    """Pictures of two patients in two splits that show the same slice.

    Copies and slices of one patient have promises of their own.
    """
    members = {split: [p for p in pairs if p.split == split and p.likeness] for split in SPLITS}
    groups = [
        _alike(folder, members[first], members[second]) for first, second in combinations(SPLITS, 2)
    ]
    if not any(groups):
        return []
    told = [
        f"{example} (correlation {correlation:.3f})"
        for correlation, example in sorted((one for group in groups for one in group), reverse=True)
    ]
    if any(len(group) == near_duplicates.ENOUGH for group in groups):
        told[0] += f"; between two splits the search ends at {near_duplicates.ENOUGH}"
    return [Violation(LIKENESSES, len(told), told[0], tuple(told[1:]))]


def _alike(folder: Path, here: Sequence[Pair], there: Sequence[Pair]) -> list[tuple[float, str]]:
    """Correlation and names of the pictures that show one slice of what should be two patients."""

    def reader(members: Sequence[Pair]) -> near_duplicates.ImageAt:
        return lambda at: png.read_image(folder / members[at].split / members[at].image)

    def looks(members: Sequence[Pair]) -> list[near_duplicates.Look]:
        return [near_duplicates.Look(p.likeness, p.patient, p.image_digest) for p in members]

    likenesses = near_duplicates.near_duplicates(
        looks(here), looks(there), (reader(here), reader(there))
    )
    return [
        (
            alike.correlation,
            f"{here[alike.first].split}/{here[alike.first].id} and"
            f" {there[alike.second].split}/{there[alike.second].id}",
        )
        for alike in likenesses
    ]


def _blank_digests(folder: Path, pairs: Sequence[Pair]) -> frozenset[str]:
    """Digests of the pictures of one single value, among those that occur in several splits."""
    shared = _in_several_splits(pairs, lambda pair: pair.image_digest)
    files = {
        pair.image_digest: folder / pair.split / pair.image
        for pair in pairs
        if pair.image_digest in shared
    }
    return frozenset(digest for digest, file in files.items() if _blank(file))


def _blank(file: Path) -> bool:
    try:
        with picture_files.opened(file):  # its size is judged before it is decoded
            picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    except Problem:
        return False
    return picture is not None and bool(picture.min() == picture.max())


def _listing(folder: Path, part: str) -> _Files:
    """(split, name without suffix) -> the pictures of that name in ``part`` (images or masks).

    Only names are kept, so that a folder of many files fits.
    """
    found: dict[_Key, tuple[str, ...]] = {}
    for split in SPLITS:
        place = folder / split / part
        if not place.is_dir():
            if part == paths.MASKS:
                continue
            raise Problem(
                f"expected {', '.join(f'{s}/{part}' for s in SPLITS)}, found no {split}/{part}",
                where=folder,
                remedy="Name a folder of the layout {train,valid,test}/{images,masks}/.",
            )
        for name in sorted(file.name for file in place.iterdir()):
            stem, suffix = Path(name).stem, sys.intern(Path(name).suffix)
            if suffix.lower() in _PICTURES and not name.startswith("."):
                found[split, stem] = (*found.get((split, stem), ()), suffix)
    return found


def _require_pictures(folder: Path, images: Iterable[_Key]) -> None:
    """Raises :class:`Problem` for a split without pictures: nothing would be judged there."""
    filled = {split for split, _ in images}
    for split in SPLITS:
        if split not in filled:
            others = len(list((folder / split / paths.IMAGES).iterdir()))
            raise Problem(
                f"expected pictures ({', '.join(_PICTURES)}), found none among {others} files",
                where=folder / split / paths.IMAGES,
                remedy="Put the split's pictures there.",
            )


def _unpaired(images: _Files, masks: _Files) -> list[str]:
    """Images without mask, masks without image, and names that two files share."""
    lonely = sorted("/".join(key) for key in images.keys() ^ masks.keys())
    twice = [
        [f"{split}/{part}/{stem}{suffix}" for suffix in suffixes]
        for part, files in ((paths.IMAGES, images), (paths.MASKS, masks))
        for (split, stem), suffixes in files.items()
        if len(suffixes) > 1
    ]
    return lonely + [" and ".join(names) for names in twice]


_Job = tuple[_Key, str, str | None, _Digests | None]  # the suffixes of image and mask


def _look(
    folder: Path,
    images: _Files,
    masks: _Files,
    known: Mapping[_Key, Pair],
    workers: int,
    limits: Limits,
) -> Iterator[tuple[_Key, _Seen]]:
    """Read every image with its mask, several at a time."""
    jobs = [
        (
            key,
            suffixes[0],
            masks[key][0] if key in masks else None,
            _Digests(pair.image_digest, pair.mask_digest) if (pair := known.get(key)) else None,
        )
        for key, suffixes in images.items()
    ]
    chunks = [jobs[start : start + _CHUNK] for start in range(0, len(jobs), _CHUNK)]
    workers = workers if len(jobs) > _FEW else 1
    task = partial(_look_at, folder, limits)
    for outcome in executor.run(task, chunks, workers, f"check {folder}", "batch"):
        if outcome.error is not None:
            raise outcome.error
        assert outcome.result is not None
        yield from zip((key for key, *_ in outcome.job), outcome.result, strict=True)


def _look_at(folder: Path, limits: Limits, jobs: Sequence[_Job]) -> list[_Seen]:
    return [
        _one_pair(
            folder / split / paths.IMAGES / f"{stem}{image}",
            None if mask is None else folder / split / paths.MASKS / f"{stem}{mask}",
            known,
            limits,
        )
        for (split, stem), image, mask, known in jobs
    ]


def _one_pair(image: Path, mask: Path | None, known: _Digests | None, limits: Limits) -> _Seen:
    content = picture_files.content_of(image, limits)
    drawn = picture_files.content_of(mask, limits) if mask else b""
    digest = hashlib.sha256(content).hexdigest()
    if (
        known is not None
        and known.image_digest == digest
        and known.mask_digest == hashlib.sha256(drawn).hexdigest()
    ):
        return _Seen(digest, ours=True)
    try:
        with picture_files.opened(
            image, limits, content
        ):  # its size is judged before it is decoded
            picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    except Problem as problem:
        return _Seen(digest, fault=f"the image cannot be read: {problem.what}")
    if picture is None:
        return _Seen(digest, fault="the image cannot be read")
    grey = np.asarray(picture, np.uint8)
    seen = _Seen(digest, pairs_likeness.perceptual_hash(grey), bool(grey.min() == grey.max()))
    if mask is None:
        return seen
    try:
        with picture_files.opened(mask, limits, drawn) as opened:
            shape = (opened.height, opened.width)
            seen = replace(seen, colours=_colours(opened))
    except Problem as problem:
        return replace(seen, fault=f"the mask cannot be read: {problem.what}")
    if shape != grey.shape:
        seen = replace(seen, fault=f"the image is {grey.shape}, the mask {shape}")
    return seen


def _colours(mask: Image.Image) -> frozenset[int]:
    """The colours that a mask shows, as red * 65536 + green * 256 + blue."""
    if mask.mode == "P" and (palette := mask.getpalette("RGB")) is not None:
        shown = np.flatnonzero(mask.histogram())
        return frozenset(
            labels_colours.pack(np.array(palette, np.uint8).reshape(-1, 3)[shown]).tolist()
        )
    rgb = np.asarray(mask.convert("RGB"), np.uint8)
    return frozenset(labels_colours.distinct(labels_colours.pack(rgb)).tolist())


def _stray_colours(folder: Path, shown: Mapping[_Key, frozenset[int]]) -> list[Violation]:
    """Masks with colours of no class: by the card's label map, else by their great number."""
    declared = _declared(folder)
    if declared is None:
        counts = Counter(colour for colours in shown.values() for colour in colours)
        if len(counts) <= _MOST_COLOURS:
            return []
        declared = {colour for colour, _ in counts.most_common(_MOST_COLOURS)}
    bad = {key: stray for key, colours in shown.items() if (stray := colours - declared)}
    if not bad:
        return []
    examples = []
    for (split, stem), colours in sorted(bad.items(), key=lambda entry: -len(entry[1])):
        red, green, blue = (min(colours) >> shift & 255 for shift in (16, 8, 0))
        examples.append(
            f"{split}/{stem} with {len(colours)} others, such as ({red}, {green}, {blue})"
        )
    return [Violation(COLOURS, len(bad), examples[0], tuple(examples[1:]))]


def _declared(folder: Path) -> set[int] | None:
    """The colours of the card's label map; None where there is no card, or another program's."""
    try:
        labels = json.loads((folder / paths.CARD).read_text("utf-8"))["labels"]
        return {int(labels_colours.pack(np.array(label["colour"]))) for label in labels}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _parents(listing: Iterable[_Key]) -> dict[str, str]:
    """Stem -> the picture that it is named after: "barrdistorted_017" comes from "017"."""
    stems = {stem for _, stem in listing}
    found = {}
    for stem in stems:
        parts = stem.split("_")
        ends = ("_".join(parts[start:]) for start in range(1, len(parts)))
        parent = next((end for end in ends if end in stems), "")
        if parent:
            found[stem] = parent
    return found


def _patients(folder: Path, images: Iterable[_Key], pattern: str) -> dict[str, str]:
    """Stem -> the patient that ``pattern`` finds in it."""
    if not pattern:
        return {}
    try:
        matches = {stem: re.search(pattern, stem) for _, stem in images}
    except re.error as error:
        raise Problem(
            f"expected a regular expression, got {pattern!r}: {error}", where="--patient"
        ) from None
    found = {stem: match[bool(match.groups())] for stem, match in matches.items() if match}
    if not any(found.values()):
        raise Problem(
            f"expected names that match {pattern!r}, got none, such as {next(iter(matches))!r}",
            where=folder,
            remedy="Correct --patient: its match, or its first group, is the patient.",
        )
    return found


def _foreign(key: _Key, suffix: str, seen: _Seen, patient: str, parent: str) -> Pair:
    """A pair of a folder without a manifest: nothing is known but the file and its name."""
    split, stem = key
    return Pair(
        id=stem,
        dataset="",
        patient=patient,
        case=stem,
        slice_index=0,
        rater="",
        image=f"{paths.IMAGES}/{stem}{suffix}",
        mask="",
        source="",
        source_digest="",
        source_shape=(0, 0, 0),
        affine=(),
        plane="",
        canvas=(),
        window=(0.0, 255.0),
        class_pixels=(),
        image_digest=seen.digest,
        mask_digest="",
        licence="",
        fingerprint="",
        parent=parent,
        split=split,
        likeness=seen.likeness,
    )
