"""The gate: what must never be true of a dataset that is split into train, valid and test.

It judges any folder of the layout ``{train,valid,test}/{images,masks}/*.png``: ours by
its manifest, a foreign one by its files and their names.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from datasets_spec.contract import SPLITS, Problem
from pipeline import colors, executor, likeness, manifest, paths, store
from pipeline.manifest import Pair

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
_CHUNK = 64


@dataclass(frozen=True)
class Finding:
    """One broken promise: which, how often, and an example that can be looked at."""

    promise: str
    count: int
    example: str


@dataclass(frozen=True)
class _Seen:
    """What reading one pair of files told: digest and hash of the image, colours of the mask."""

    digest: str
    likeness: str
    blank: bool
    colours: frozenset[int]
    fault: str


def judge(folder: Path, pairs: Iterable[Pair], blank: Iterable[str] = ()) -> list[Finding]:
    """What is wrong with ``pairs``, whose ``split`` is set and whose pictures lie in ``folder``.

    ``blank`` holds the digests of pictures of one single value: they look the same
    in every patient and say nothing. Other pictures that occur in several splits are opened.
    """
    pairs = list(pairs)
    blank = frozenset(blank) | _blank_digests(folder, pairs)
    found = []
    keys: dict[str, Callable[[Pair], str]] = {
        PATIENTS: lambda pair: pair.patient,
        PARENTS: lambda pair: pair.parent or pair.id,
        COPIES: lambda pair: pair.image_digest,
    }
    for promise, key in keys.items():
        places: dict[str, dict[str, str]] = defaultdict(dict)
        for pair in pairs:
            if pair.image_digest not in blank:
                places[key(pair)].setdefault(pair.split, pair.id)
        broken = {name: where for name, where in places.items() if len(where) > 1}
        if broken:
            name, where = next(iter(broken.items()))
            example = " and ".join(f"{split}/{pair_id}" for split, pair_id in where.items())
            found.append(Finding(promise, len(broken), f"{name}: {example}"))
    found += _likenesses(folder, [pair for pair in pairs if pair.image_digest not in blank])
    strays = [pair for pair in pairs if pair.parent and pair.split != "train"]
    if strays:
        example = f"{strays[0].split}/{strays[0].id}"
        found.append(Finding(AUGMENTED, len(strays), example))
    return found


def check(folder: Path, workers: int, patient: str = "") -> list[Finding]:
    """What is wrong with a folder on disk: :func:`judge`, unpaired, changed and damaged files.

    ``patient`` is a regular expression whose match (its first group, if it has one) in a file's
    name is the patient, for folders without a manifest. There a picture counts as augmented if
    its name ends in "_" and another picture's name. Raises :class:`Problem` if the folder does
    not have the layout, or no name matches ``patient``.
    """
    listing = _listing(folder)
    known = {}
    if (folder / paths.MANIFEST).is_file():
        known = {(pair.split, pair.id): pair for pair in manifest.read(folder)}
    seen = _look(folder, listing, workers)
    pairs, changed = [], []
    parents = _parents(listing)
    for (split, stem), image in listing.items():
        one, pair = seen[split, stem], known.get((split, stem))
        if pair is None:
            pairs.append(
                replace(
                    _foreign(split, stem, image, one),
                    patient=_patient(stem, patient) or f"{split}/{stem}",
                    parent=parents.get(stem, ""),
                )
            )
            continue
        pairs.append(replace(pair, image_digest=one.digest))
        if one.digest != pair.image_digest:
            changed.append(f"{split}/{stem}")
    if patient and not any(_patient(stem, patient) for _, stem in listing):
        raise Problem(
            f"expected names that match {patient!r}, got none, such as {next(iter(listing))[1]!r}",
            where=folder,
        )
    found = judge(folder, pairs, [one.digest for one in seen.values() if one.blank])
    found += _unpaired(folder, listing)
    faults = [f"{split}/{stem}: {one.fault}" for (split, stem), one in seen.items() if one.fault]
    for promise, broken in ((READABLE, faults), (UNCHANGED, changed)):
        if broken:
            found.append(Finding(promise, len(broken), broken[0]))
    found += _stray_colours(folder, seen)
    return sorted(found, key=lambda finding: PROMISES.index(finding.promise))


def table(found: Sequence[Finding]) -> str:
    """Every promise and whether it holds, a line each."""
    broken = {finding.promise: finding for finding in found}
    lines = []
    for promise in PROMISES:
        finding = broken.get(promise)
        told = f"broken {finding.count} times, such as {finding.example}" if finding else "holds"
        lines.append(f"  {promise:58} {told}")
    return "\n".join(lines)


def require(found: Sequence[Finding], where: object) -> None:
    """Raises :class:`Problem` if anything was found."""
    if found:
        told = "; ".join(f"{f.promise}: broken {f.count} times, such as {f.example}" for f in found)
        raise Problem(
            told, where=where, remedy="Split by patient, and augment the train split only."
        )


def _likenesses(folder: Path, pairs: Sequence[Pair]) -> list[Finding]:
    """Pictures of two patients in two splits that show the same slice.

    Copies and slices of one patient have promises of their own.
    """
    members = {split: [p for p in pairs if p.split == split and p.likeness] for split in SPLITS}
    found = [
        alike
        for first, second in combinations(SPLITS, 2)
        for alike in _alike(folder, members[first], members[second])
    ]
    if not found:
        return []
    correlation, example = max(found)
    return [Finding(LIKENESSES, len(found), f"{example} (correlation {correlation:.3f})")]


def _alike(folder: Path, here: Sequence[Pair], there: Sequence[Pair]) -> list[tuple[float, str]]:
    """Correlation and names of the pictures that show one slice of what should be two patients."""

    def strangers(one: int, other: int) -> bool:
        copies = here[one].image_digest == there[other].image_digest
        return here[one].patient != there[other].patient and not copies

    def reader(members: Sequence[Pair]) -> likeness.Picture:
        return lambda at: colors.read_image(folder / members[at].split / members[at].image)

    likenesses = likeness.near_duplicates(
        [pair.likeness for pair in here],
        [pair.likeness for pair in there],
        (reader(here), reader(there)),
        strangers,
    )
    return [
        (
            alike.correlation,
            f"{here[alike.first].split}/{here[alike.first].id} and"
            f" {there[alike.second].split}/{there[alike.second].id}",
        )
        for alike in likenesses
    ]


def _blank_digests(folder: Path, pairs: Iterable[Pair]) -> frozenset[str]:
    """Digests of the pictures of one single value, among those that occur in several splits."""
    splits = defaultdict(set)
    files = {}
    for pair in pairs:
        splits[pair.image_digest].add(pair.split)
        files[pair.image_digest] = folder / pair.split / pair.image
    shared = [digest for digest, where in splits.items() if len(where) > 1]
    return frozenset(digest for digest in shared if _blank(files[digest]))


def _blank(file: Path) -> bool:
    picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    return picture is not None and bool(picture.min() == picture.max())


def _listing(folder: Path) -> Mapping[tuple[str, str], Path]:
    missing = [split for split in SPLITS if not (folder / split / paths.IMAGES).is_dir()]
    if missing:
        raise Problem(
            f"expected {', '.join(f'{split}/images' for split in SPLITS)},"
            f" found no {missing[0]}/images",
            where=folder,
            remedy="Name a folder of the layout {train,valid,test}/{images,masks}/.",
        )
    return {
        (split, file.stem): file
        for split in SPLITS
        for file in sorted((folder / split / paths.IMAGES).iterdir())
        if not file.name.startswith(".")
    }


def _unpaired(folder: Path, listing: Mapping[tuple[str, str], Path]) -> list[Finding]:
    lonely = sorted(_masks(folder).keys() ^ listing.keys())
    return [Finding(PAIRED, len(lonely), "/".join(lonely[0]))] if lonely else []


def _masks(folder: Path) -> dict[tuple[str, str], Path]:
    return {
        (split, file.stem): file
        for split in SPLITS
        if (folder / split / paths.MASKS).is_dir()
        for file in (folder / split / paths.MASKS).iterdir()
        if not file.name.startswith(".")
    }


def _look(
    folder: Path, listing: Mapping[tuple[str, str], Path], workers: int
) -> dict[tuple[str, str], _Seen]:
    """Read every image with its mask, several at a time."""
    masks = _masks(folder)
    files = [(image, masks.get(key)) for key, image in listing.items()]
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    seen: list[_Seen] = []
    for outcome in executor.run(_look_at, chunks, workers, f"check {folder}", "batch"):
        if outcome.error is not None:
            raise outcome.error
        assert outcome.result is not None
        seen += outcome.result
    return dict(zip(listing, seen, strict=True))


def _look_at(files: Sequence[tuple[Path, Path | None]]) -> list[_Seen]:
    return [_one_pair(image, mask) for image, mask in files]


def _one_pair(image: Path, mask: Path | None) -> _Seen:
    digest = store.digest(image)
    picture = cv2.imread(str(image), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        return _Seen(digest, "", False, frozenset(), "the image cannot be read")
    grey = np.asarray(picture, np.uint8)
    seen = partial(_Seen, digest, likeness.perceptual_hash(grey), bool(grey.min() == grey.max()))
    if mask is None:
        return seen(frozenset(), "")
    try:
        with Image.open(mask) as opened:
            shape = (opened.height, opened.width)
            colours = _colours(opened)
    except (OSError, SyntaxError, ValueError):
        return seen(frozenset(), "the mask cannot be read")
    fault = "" if shape == grey.shape else f"the image is {grey.shape}, the mask {shape}"
    return seen(colours, fault)


def _colours(mask: Image.Image) -> frozenset[int]:
    """The colours that a mask shows, as red * 65536 + green * 256 + blue."""
    if mask.mode == "P" and (palette := mask.getpalette("RGB")) is not None:
        shown = np.flatnonzero(mask.histogram())
        return frozenset(colors.pack(np.array(palette, np.uint8).reshape(-1, 3)[shown]).tolist())
    rgb = np.asarray(mask.convert("RGB"), np.uint8)
    return frozenset(np.unique(colors.pack(rgb)).tolist())


def _stray_colours(folder: Path, seen: Mapping[tuple[str, str], _Seen]) -> list[Finding]:
    """Masks with colours of no class: by the card's label map, else by their great number."""
    card = folder / paths.CARD
    if card.is_file():
        labels = json.loads(card.read_text("utf-8"))["labels"]
        declared = {int(colors.pack(np.array(label["colour"]))) for label in labels}
        strays = {key: one.colours - declared for key, one in seen.items()}
    else:
        counts = Counter(colour for one in seen.values() for colour in one.colours)
        if len(counts) <= _MOST_COLOURS:
            return []
        usual = {colour for colour, _ in counts.most_common(_MOST_COLOURS)}
        strays = {key: one.colours - usual for key, one in seen.items()}
    bad = {key: colours for key, colours in strays.items() if colours}
    if not bad:
        return []
    (split, stem), colours = max(bad.items(), key=lambda entry: len(entry[1]))
    red, green, blue = (min(colours) >> shift & 255 for shift in (16, 8, 0))
    example = f"{split}/{stem} with {len(colours)} others, such as ({red}, {green}, {blue})"
    return [Finding(COLOURS, len(bad), example)]


def _parents(listing: Iterable[tuple[str, str]]) -> dict[str, str]:
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


def _patient(stem: str, pattern: str) -> str:
    match = re.search(pattern, stem) if pattern else None
    if match is None:
        return ""
    return str(match.group(1) if match.groups() else match.group())


def _foreign(split: str, stem: str, image: Path, seen: _Seen) -> Pair:
    """A pair of a folder without a manifest: nothing is known but the file."""
    return Pair(
        id=stem,
        dataset="",
        patient=f"{split}/{stem}",
        case=stem,
        slice_index=0,
        rater="",
        image=f"{paths.IMAGES}/{image.name}",
        mask=f"{paths.MASKS}/{image.name}",
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
        split=split,
        likeness=seen.likeness,
    )
