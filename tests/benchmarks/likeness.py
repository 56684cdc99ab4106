"""Which changed copies of a picture are found, and how often strangers are taken for copies.

``python -m tests.benchmarks.likeness [FOLDER]`` reads the real scans that lie in ``FOLDER``
(``shared/data`` beside the project by default) and the virtual cohorts, which it makes, and
writes ``likeness.md`` beside this file. Copies are made of every tenth picture, of small albums
of all; strangers are all pictures of other patients.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from model import params
from pipeline import paths
from pipeline.convert import convert
from pipeline.fetch import fetch
from pipeline.pairs import likeness, manifest, png
from pipeline.runtime import executor
from pipeline.splits import near_duplicates
from tests.conftest import PROJECT

Picture = NDArray[np.uint8]
Change = Callable[[Picture], Picture]
_PX = 512
_EVERY, _FEW = 10, 100  # of an album of few pictures, all are copied
_HIPPOCAMPUS = "Task04_Hippocampus"
THRESHOLDS = (0.96, 0.97, 0.975, 0.98, 0.985, 0.99)


@dataclass(frozen=True)
class Album:
    """Pictures that show something, by file; each with its hash and patient."""

    title: str
    files: Sequence[Path]
    hashes: Sequence[str]
    patients: Sequence[str]

    def picture(self, at: int) -> Picture:
        return png.read_image(self.files[at])


def gamma(exponent: float) -> Change:
    steps = np.rint(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)
    return lambda picture: steps[picture]


def brighter(factor: float, offset: float) -> Change:
    return lambda p: np.clip(np.rint(p.astype(float) * factor + offset), 0, 255).astype(np.uint8)


def moved(right: float, down: float, degrees: float = 0, scale: float = 1) -> Change:
    """Moved by pixels, turned about the middle and enlarged; air comes in from outside."""
    matrix = cv2.getRotationMatrix2D((_PX / 2, _PX / 2), degrees, scale)
    matrix[:, 2] += (right, down)
    return lambda picture: cv2.warpAffine(picture, matrix, (_PX, _PX))


def jpeg(quality: int) -> Change:
    def change(picture: Picture) -> Picture:
        _, code = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), np.uint8)

    return change


def resampled(px: int) -> Change:
    return lambda picture: cv2.resize(
        cv2.resize(picture, (px, px), interpolation=cv2.INTER_AREA), (_PX, _PX)
    )


def noisy(sd: float) -> Change:
    noise = np.random.default_rng(0).normal(0, sd, (_PX, _PX))
    return lambda picture: np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


CHANGES: dict[str, Change] = {
    "the same, encoded again": lambda picture: picture,
    "brighter by 20 levels": brighter(1, 20),
    "darker by 20 levels": brighter(1, -20),
    "contrast x 1.3": brighter(1.3, 0),
    "gamma 0.7": gamma(0.7),
    "gamma 1.4": gamma(1.4),
    "moved by 3 and 5 px": moved(3, 5),
    "moved by 12 and 20 px": moved(12, 20),
    "mirrored left to right": lambda picture: picture[:, ::-1].copy(),
    "mirrored top to bottom": lambda picture: picture[::-1].copy(),
    "turned by half": lambda picture: picture[::-1, ::-1].copy(),
    "mirrored, moved, brighter": lambda picture: moved(6, 4)(brighter(1.1, 10)(picture[:, ::-1])),
    "JPEG, quality 75": jpeg(75),
    "JPEG, quality 30": jpeg(30),
    "through 256 px and back": resampled(256),
    "noise of 5 levels": noisy(5),
    "turned by 2 degrees": moved(0, 0, 2),
    "turned by 10 degrees": moved(0, 0, 10),
    "enlarged by 10 %": moved(0, 0, 0, 1.1),
}


def main(folder: Path) -> None:
    """Measure every album, print the tables and write them down."""
    with tempfile.TemporaryDirectory() as place:
        albums = [*_seed_pairs(folder / "seed_pairs"), *_converted(folder, Path(place))]
        text = "\n".join([*_head(), *_copies(albums), *_all_strangers(albums)]) + "\n"
    Path(__file__).with_suffix(".md").write_text(text, "utf-8")


def _head() -> list[str]:
    return [
        "# Near-duplicates",
        "",
        "`python -m tests.benchmarks.likeness`. Two pictures are near-duplicates if they",
        f"correlate at least {near_duplicates.SAME}; hashes that differ in more than"
        f" {near_duplicates.CANDIDATE_BITS} of 255",
        f"bits are not looked at. Pictures of {_PX} px; those that show nothing are left out.",
        "",
    ]


def _copies(albums: Sequence[Album]) -> list[str]:
    lines = [
        "| copy | " + " | ".join(album.title for album in albums) + " |",
        "|---|" + "---|" * len(albums),
    ]
    for name, change in CHANGES.items():
        cells = [_found(album, change) for album in albums]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return [
        *lines,
        "",
        "Found, of the copies of every tenth picture (of few, of all); in brackets: whose hash is"
        " near enough.",
        "",
    ]


def _found(album: Album, change: Change) -> str:
    originals = range(0, len(album.files), _EVERY if len(album.files) > _FEW else 1)
    near = same = 0
    for at in originals:
        picture = album.picture(at)
        copy = np.ascontiguousarray(change(picture))
        if any(near_duplicates.candidates([album.hashes[at]], [likeness.perceptual_hash(copy)])):
            near += 1
            same += near_duplicates.correlation(picture, copy) >= near_duplicates.SAME
    return f"{same / len(originals):.3f} ({near / len(originals):.3f})"


def _all_strangers(albums: Sequence[Album]) -> list[str]:
    lines = [
        "| pictures of different patients | "
        + " | ".join(["compared", "looked at", *(f">= {t}" for t in THRESHOLDS), "highest"])
        + " |",
        "|---|" + "---|" * (len(THRESHOLDS) + 3),
    ]
    for album in albums:
        lines.append(_strangers(album))
        print(lines[-1], flush=True)
    return lines


def _strangers(album: Album) -> str:
    patients = np.array(album.patients)
    strangers = [
        (one, other)
        for one, other in near_duplicates.candidates(album.hashes, album.hashes)
        if one < other and patients[one] != patients[other]
    ]
    alike = np.array(
        [
            near_duplicates.correlation(album.picture(one), album.picture(two))
            for one, two in strangers
        ]
    )
    counts = np.unique(patients, return_counts=True)[1]
    compared = (len(patients) ** 2 - int((counts**2).sum())) // 2
    above = [str(int((alike >= threshold).sum())) for threshold in THRESHOLDS]
    highest = f"{alike.max():.3f}" if len(alike) else "none"
    title = f"{album.title}: {len(patients):,} of {len(counts)} patients"
    return f"| {title} | {compared:,} | {len(strangers):,} | {' | '.join(above)} | {highest} |"


def _seed_pairs(folder: Path) -> Iterator[Album]:
    """Published pairs whose names contain the patient."""
    for name, digits in (("MBH-Seg25", 3), ("Full-Head-T1W", 4)):
        files = sorted((folder / name / "images").glob("*.png"))
        if files:
            yield _album(name, files, [file.name[:digits] for file in files])


def _converted(folder: Path, place: Path) -> Iterator[Album]:
    """Every slice of the hippocampus, of the virtual cohorts."""
    shutil.copy(PROJECT / paths.PARAMS, place)
    workers = executor.default_workers()
    with contextlib.chdir(place):
        cases = sorted((folder / _HIPPOCAMPUS / "imagesTr").glob("*.nii.gz"))
        for image in cases:
            for part in ("imagesTr", "labelsTr"):
                link = paths.raw("msd_hippocampus") / _HIPPOCAMPUS / part / image.name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(folder / _HIPPOCAMPUS / part / image.name)
        for name in [*(["msd_hippocampus"] if cases else []), "virtual_mni152", "virtual_ncct"]:
            if name.startswith("virtual"):
                fetch(name, workers)
            settings = params.load("virtual_mni152")
            convert(name, settings, workers)
            home = (place / paths.converted(name)).resolve()
            pairs = manifest.read(home)
            yield _album(name, [home / pair.image for pair in pairs], [p.patient for p in pairs])


def _album(title: str, files: Sequence[Path], patients: Sequence[str]) -> Album:
    hashes = [likeness.perceptual_hash(png.read_image(file)) for file in files]
    hashed = [at for at, text in enumerate(hashes) if text]
    return Album(
        title,
        [files[at] for at in hashed],
        [hashes[at] for at in hashed],
        [patients[at] for at in hashed],
    )


if __name__ == "__main__":
    main((Path(sys.argv[1]) if sys.argv[1:] else PROJECT.parent / "shared" / "data").resolve())
