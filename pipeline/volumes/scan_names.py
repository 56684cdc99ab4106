"""Names of scans: short, safe as names of files, and each of them unique."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets_spec.contract import slug

IMAGES = tuple(
    kind + packed
    for packed in (".gz", ".bz2", ".zst", "")
    for kind in (".nii", ".hdr", ".img", ".mgh", ".mgz")
)
"""What the names of NIfTI and MGH files end in; their reader judges what is in them."""
_DIGITS = 6  # of a digest
_LONGEST = 60  # characters in front of a digest


@dataclass(frozen=True)
class Place:
    """Where a scan lies: a path, and what tells it apart from others there ("": it is alone).

    ``ending`` is what the path ends in that is no part of a name, such as ".nii.gz".
    """

    path: Path
    ending: str = ""
    part: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of all its parents, and its own without the ending."""
        whole = Path(normal(self.path))
        own = whole.name[: len(whole.name) - len(self.ending)]
        return (*whole.parts[1:-1], "_".join(filter(None, (own, self.part))))


def ending(file: Path) -> str:
    """What the name of a file ends in, in small letters: ".nii.gz", ".png"; "" for nothing.

    >>> ending(Path("Scan.v2.NII.gz")), ending(Path("IM001"))
    ('.nii.gz', '')
    """
    name = file.name.lower()
    return next((end for end in IMAGES if name.endswith(end)), file.suffix.lower())


def normal(path: Path) -> str:
    """A path from the root of the file system, without "..", but with links as they are."""
    return os.path.normpath(path.absolute())


def is_half(file: Path) -> bool:
    """Whether a file is one half of a NIfTI pair, by its name."""
    return ending(file).startswith((".hdr", ".img"))


def unique(places: Sequence[Place], reserved: Collection[str] = ()) -> list[str]:
    """A slug for each place, unique whatever the case of its letters, and none of ``reserved``.

    It is the name of the path without its ending. Places that would share it get so many of their
    parents' names in front that they do not, or else a digest of the whole path behind.

    >>> unique([Place(Path(one), ".nii") for one in ("a/t1.nii", "b/t1.nii", "b/t2.nii")])
    ['a_t1', 'b_t1', 't2']
    """
    alike = Counter(place.parts for place in places)
    paths = [_distinct(place) if alike[place.parts] > 1 else place.parts for place in places]
    depths = [1] * len(places)
    while True:
        names = [slug("_".join(parts[-depth:])) for parts, depth in zip(paths, depths, strict=True)]
        clashing = _clashing(names, reserved)
        deeper = [index for index in clashing if depths[index] < len(paths[index])]
        for index in deeper:
            depths[index] += 1
        if not deeper:
            break
    for index in clashing:
        short = slug(paths[index][-1])[:_LONGEST].rstrip("_") or "scan"
        names[index] = f"{short}-{digest(repr((*paths[index], places[index].ending)))}"
    return names


def digest(text: str) -> str:
    """A few hexadecimal digits of the sha256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]


def _clashing(names: Sequence[str], reserved: Collection[str]) -> list[int]:
    """The indices of names that are empty, reserved or another's too."""
    taken = Counter(name.casefold() for name in (*names, *set(reserved)))
    return [index for index, name in enumerate(names) if not name or taken[name.casefold()] > 1]


def _distinct(place: Place) -> tuple[str, ...]:
    """The parts of a place whose ending alone is its own: t1.nii and t1.mgz in one folder."""
    *parents, own = place.parts
    return (*parents, own + place.ending.replace(".", "-"))
