"""The gate: what must never be true of a dataset that is split into train, valid and test.

It judges any folder of the layout ``{train,valid,test}/{images,masks}/*.png``: ours by
its manifest, a foreign one by its files and their names.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from datasets_spec.contract import SPLITS, Problem
from pipeline import colors, executor, likeness, manifest, paths
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
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_CHUNK = 64
_FEW = 256
"""So few pictures are read here: to start other processes takes longer."""
_Key = tuple[str, str]  # split and a file's name without its suffix
_Files = Mapping[_Key, Sequence[Path]]


@dataclass(frozen=True)
class Finding:
    """One broken promise: which, how often, and examples that can be looked at, worst first."""

    promise: str
    count: int
    example: str
    more: tuple[str, ...] = ()

    def told(self, most: int | None = 3) -> str:
        """How often, and up to ``most`` examples (None: all of them)."""
        examples = (self.example, *self.more)[:most]
        left = 1 + len(self.more) - len(examples)
        return f"broken {self.count} times, such as {'; '.join(examples)}" + (
            f"; and {left} more" if left else ""
        )


@dataclass(frozen=True)
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
            if promise != COPIES or pair.image_digest not in blank:
                places[key(pair)].setdefault(pair.split, pair.id)
        broken = {name: where for name, where in places.items() if len(where) > 1}
        if broken:
            examples = [
                f"{name}: {' and '.join(f'{split}/{pair_id}' for split, pair_id in where.items())}"
                for name, where in broken.items()
            ]
            found.append(Finding(promise, len(broken), examples[0], tuple(examples[1:])))
    found += _likenesses(folder, [pair for pair in pairs if pair.image_digest not in blank])
    strays = [pair for pair in pairs if pair.parent and pair.split != "train"]
    if strays:
        examples = [f"{pair.split}/{pair.id}" for pair in strays]
        found.append(Finding(AUGMENTED, len(strays), examples[0], tuple(examples[1:])))
    return found


def check(folder: Path, workers: int, patient: str = "") -> list[Finding]:
    """What is wrong with a folder on disk: :func:`judge`, unpaired, changed and damaged files.

    Image and mask are paired by their names without suffix, so a JPEG image may have a PNG mask.
    ``patient`` is a regular expression whose match (its first group, if it has one) in a file's
    name is the patient, for folders without a manifest. There a picture counts as augmented if
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
    seen = _look(folder, {key: files[0] for key, files in images.items()}, masks, known, workers)
    parents = _parents(images)
    pairs = []
    for key, one in seen.items():
        if key in known:
            pair = known[key]
            looks = pair.likeness if one.ours else one.likeness
            pairs.append(replace(pair, image_digest=one.digest, likeness=looks))
            continue
        split, stem = key
        parent = parents.get(stem, "")
        whose = patients.get(parent or stem) or f"{split}/{stem}"
        pair = _foreign(split, stem, images[key][0], one)
        pairs.append(replace(pair, patient=whose, parent=parent))
    faults = [f"{'/'.join(key)}: {one.fault}" for key, one in seen.items() if one.fault]
    changed = ["/".join(key) for key, one in seen.items() if known and not one.ours]
    changed += ["/".join(key) for key in known.keys() - images.keys()]
    found = judge(folder, pairs, [one.digest for one in seen.values() if one.blank])
    for promise, broken in (
        (PAIRED, _unpaired(images, masks)),
        (READABLE, faults),
        (UNCHANGED, sorted(changed)),
    ):
        if broken:
            found.append(Finding(promise, len(broken), broken[0], tuple(broken[1:])))
    found += _stray_colours(folder, seen)
    return sorted(found, key=lambda finding: PROMISES.index(finding.promise))


def table(found: Sequence[Finding], most: int | None = 3) -> str:
    """Every promise and whether it holds, a line each, with up to ``most`` examples."""
    broken = {finding.promise: finding for finding in found}
    lines = []
    for promise in PROMISES:
        finding = broken.get(promise)
        told = finding.told(most) if finding else "holds"
        lines.append(f"  {promise:58} {told}")
    return "\n".join(lines)


def require(found: Sequence[Finding], where: object) -> None:
    """Raises :class:`Problem` if anything was found."""
    if found:
        told = "; ".join(f"{finding.promise}: {finding.told()}" for finding in found)
        raise Problem(
            told, where=where, remedy="Split by patient, and augment the train split only."
        )


def _likenesses(folder: Path, pairs: Sequence[Pair]) -> list[Finding]:
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
    if any(len(group) == likeness.ENOUGH for group in groups):
        told[0] += f"; between two splits the search ends at {likeness.ENOUGH}"
    return [Finding(LIKENESSES, len(told), told[0], tuple(told[1:]))]


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


def _listing(folder: Path, part: str) -> _Files:
    """(split, name without suffix) -> the pictures of that name in ``part`` (images or masks)."""
    found: dict[_Key, list[Path]] = defaultdict(list)
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
        for file in sorted(place.iterdir()):
            if file.suffix.lower() in _PICTURES and not file.name.startswith("."):
                found[split, file.stem].append(file)
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
    twice = [files for part in (images, masks) for files in part.values() if len(files) > 1]
    return lonely + [" and ".join("/".join(file.parts[-3:]) for file in files) for files in twice]


def _look(
    folder: Path,
    images: Mapping[_Key, Path],
    masks: _Files,
    known: Mapping[_Key, Pair],
    workers: int,
) -> dict[_Key, _Seen]:
    """Read every image with its mask, several at a time."""
    jobs = [
        (image, masks[key][0] if key in masks else None, known.get(key))
        for key, image in images.items()
    ]
    chunks = [jobs[start : start + _CHUNK] for start in range(0, len(jobs), _CHUNK)]
    seen: list[_Seen] = []
    workers = workers if len(jobs) > _FEW else 1
    for outcome in executor.run(_look_at, chunks, workers, f"check {folder}", "batch"):
        if outcome.error is not None:
            raise outcome.error
        assert outcome.result is not None
        seen += outcome.result
    return dict(zip(images, seen, strict=True))


def _look_at(jobs: Sequence[tuple[Path, Path | None, Pair | None]]) -> list[_Seen]:
    return [_one_pair(*job) for job in jobs]


def _one_pair(image: Path, mask: Path | None, known: Pair | None) -> _Seen:
    content, drawn = image.read_bytes(), mask.read_bytes() if mask else b""
    digest = hashlib.sha256(content).hexdigest()
    if (
        known is not None
        and known.image_digest == digest
        and known.mask_digest == hashlib.sha256(drawn).hexdigest()
    ):
        return _Seen(digest, ours=True)
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error:  # an empty file
        picture = None
    if picture is None:
        return _Seen(digest, fault="the image cannot be read")
    grey = np.asarray(picture, np.uint8)
    seen = _Seen(digest, likeness.perceptual_hash(grey), bool(grey.min() == grey.max()))
    if mask is None:
        return seen
    try:
        with Image.open(io.BytesIO(drawn)) as opened:
            shape = (opened.height, opened.width)
            seen = replace(seen, colours=_colours(opened))
    except (OSError, SyntaxError, ValueError):
        return replace(seen, fault="the mask cannot be read")
    if shape != grey.shape:
        seen = replace(seen, fault=f"the image is {grey.shape}, the mask {shape}")
    return seen


def _colours(mask: Image.Image) -> frozenset[int]:
    """The colours that a mask shows, as red * 65536 + green * 256 + blue."""
    if mask.mode == "P" and (palette := mask.getpalette("RGB")) is not None:
        shown = np.flatnonzero(mask.histogram())
        return frozenset(colors.pack(np.array(palette, np.uint8).reshape(-1, 3)[shown]).tolist())
    rgb = np.asarray(mask.convert("RGB"), np.uint8)
    return frozenset(np.unique(colors.pack(rgb)).tolist())


def _stray_colours(folder: Path, seen: Mapping[_Key, _Seen]) -> list[Finding]:
    """Masks with colours of no class: by the card's label map, else by their great number."""
    declared = _declared(folder)
    if declared is None:
        counts = Counter(colour for one in seen.values() for colour in one.colours)
        if len(counts) <= _MOST_COLOURS:
            return []
        declared = {colour for colour, _ in counts.most_common(_MOST_COLOURS)}
    bad = {key: one.colours - declared for key, one in seen.items() if one.colours - declared}
    if not bad:
        return []
    examples = []
    for (split, stem), colours in sorted(bad.items(), key=lambda entry: -len(entry[1])):
        red, green, blue = (min(colours) >> shift & 255 for shift in (16, 8, 0))
        examples.append(
            f"{split}/{stem} with {len(colours)} others, such as ({red}, {green}, {blue})"
        )
    return [Finding(COLOURS, len(bad), examples[0], tuple(examples[1:]))]


def _declared(folder: Path) -> set[int] | None:
    """The colours of the card's label map; None where there is no card, or another program's."""
    try:
        labels = json.loads((folder / paths.CARD).read_text("utf-8"))["labels"]
        return {int(colors.pack(np.array(label["colour"]))) for label in labels}
    except (OSError, ValueError, KeyError, TypeError):
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
