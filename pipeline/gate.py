"""The gate: what must never be true of a dataset that is split into train, valid and test.

It judges any folder of the layout ``{train,valid,test}/{images,masks}/*.png``: ours by
its manifest, a foreign one by its files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
from tqdm import tqdm

from datasets_spec.contract import SPLITS, Problem
from pipeline import manifest, paths, store
from pipeline.manifest import Pair


@dataclass(frozen=True)
class Finding:
    """One broken promise: which, how often, and an example that can be looked at."""

    promise: str
    count: int
    example: str


def judge(pairs: Iterable[Pair], blank: frozenset[str] = frozenset()) -> list[Finding]:
    """What is wrong with ``pairs``, whose ``split`` is set.

    ``blank`` holds the digests of pictures of one single value: they look the same
    in every patient and say nothing.
    """
    pairs = list(pairs)
    found = []
    keys: dict[str, Callable[[Pair], str]] = {
        "no patient is in two splits": lambda pair: pair.patient,
        "no parent of an augmented pair is in two splits": lambda pair: pair.parent or pair.id,
        "no picture is in two splits": lambda pair: pair.image_digest,
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
    strays = [pair for pair in pairs if pair.parent and pair.split != "train"]
    if strays:
        example = f"{strays[0].split}/{strays[0].id}"
        found.append(Finding("only train holds augmented pairs", len(strays), example))
    return found


def blank_digests(folder: Path, pairs: Iterable[Pair]) -> frozenset[str]:
    """Digests of the pictures among ``pairs`` (files below ``folder``) that have one value only.

    Only pictures that occur in several splits are opened.
    """
    splits = defaultdict(set)
    files = {}
    for pair in pairs:
        splits[pair.image_digest].add(pair.split)
        files[pair.image_digest] = folder / pair.split / pair.image
    shared = [digest for digest, where in splits.items() if len(where) > 1]
    return frozenset(digest for digest in shared if _blank(files[digest]))


def check(folder: Path) -> list[Finding]:
    """What is wrong with a folder on disk: :func:`judge`, unpaired files, changed files.

    Raises :class:`Problem` if the folder does not have the layout.
    """
    listing = _listing(folder)
    found = _unpaired(folder, listing)
    known = {}
    if (folder / paths.MANIFEST).is_file():
        known = {(pair.split, pair.id): pair for pair in manifest.read(folder)}
    pairs, changed = [], []
    for (split, stem), image in tqdm(listing.items(), "check", unit="pair", disable=None):
        digest = store.digest(image)
        pair = known.get((split, stem))
        if pair is None:
            pairs.append(_foreign(split, stem, image, digest))
        else:
            pairs.append(pair)
            if digest != pair.image_digest:
                changed.append(str(image))
    if changed:
        found.append(Finding("every picture is the manifest's", len(changed), changed[0]))
    return found + judge(pairs, blank_digests(folder, pairs))


def require(found: list[Finding], where: object) -> None:
    """Raises :class:`Problem` if anything was found."""
    if found:
        told = "; ".join(f"{f.promise}: broken {f.count} times, such as {f.example}" for f in found)
        raise Problem(
            told, where=where, remedy="Split by patient, and augment the train split only."
        )


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
    masks = {
        (split, file.stem)
        for split in SPLITS
        if (folder / split / paths.MASKS).is_dir()
        for file in (folder / split / paths.MASKS).iterdir()
    }
    lonely = sorted(masks ^ set(listing))
    if not lonely:
        return []
    return [Finding("every image has its mask and the reverse", len(lonely), "/".join(lonely[0]))]


def _foreign(split: str, stem: str, image: Path, digest: str) -> Pair:
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
        image_digest=digest,
        mask_digest="",
        licence="",
        fingerprint="",
        split=split,
    )


def _blank(file: Path) -> bool:
    picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    return picture is not None and picture.min() == picture.max()
