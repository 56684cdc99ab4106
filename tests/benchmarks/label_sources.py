"""What becomes of a mask that is stored as DICOM SEG, as RTSTRUCT or with other axes, and read.

``python -m tests.benchmarks.label_sources [FOLDER]`` makes series, reads real ones in ``FOLDER``
(``shared/data/dicom`` beside the project by default), and writes ``label_sources.md`` beside this
file. Needs highdicom; dcm2niix, where it is installed, converts each series too.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from datasets_spec.contract import Dataset, Licence, Problem, Source, Window
from model.delivery import seg
from pipeline.labels import decode, grids, scanlines
from pipeline.volumes import nifti, volume
from pipeline.volumes.dicom import header
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.volume import Volume
from tests.conftest import PROJECT
from tests.model.delivery import series
from tests.pipeline.labels import test_drawings as made
from tests.support import outlines
from tests.support.outlines import Outline

Ids = NDArray[np.uint8]
ABOUT = seg.About("model", "ab" * 32, "0.1.0", "drawn by a benchmark")
SOURCE = Source(
    "https://example.org",
    Licence("CC BY 4.0", redistribute=True, commercial=True),
    "none",
    instructions="none",
)
DATASET = Dataset("masks", "CT", series.label_map(2), SOURCE, Window(40, 80))
SHAPE = (6, 128, 112)


@dataclass(frozen=True)
class Case:
    """A series, its volume, and a mask (slices, rows, columns) on it."""

    title: str
    slices: Sequence[Instance]
    image: Volume
    ids: Ids


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")  # of highdicom and pydicom, about what the sources hold
    with tempfile.TemporaryDirectory() as place:
        cases = [*_virtual(Path(place)), *_real(folder, Path(place))]
        parts = [
            _round_trips(cases, Path(place)),
            _rasterisers(cases),
            _converted(cases, Path(place)),
            _times(Path(place)),
        ]
    lines = [_HEAD.strip(), *(line for part in parts for line in ("", *part))]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", "utf-8")


_HEAD = """
# Label sources

`python -m tests.benchmarks.label_sources`. Masks of two classes, with holes and in several pieces,
written, read as labels of their series, and compared voxel by voxel. The virtual series have 6
slices of 128x112 pixels; of the real ones, the mask is what is above the mean of their
pixels, smoothed.
"""


def _virtual(place: Path) -> Iterator[Case]:
    for name, how in made.KINDS.items():
        slices = series.write(place / name, shape=SHAPE, **how)
        image = outlines.volume_of(slices)
        yield Case(f"{name}, virtual", slices, image, made.mask(shape=SHAPE))


def _real(folder: Path, place: Path) -> Iterator[Case]:
    archives = {
        "tilted CT": "ct_phantom_gantry_tilt.tar.xz",
        "oblique MR": "PGBM-001_04-02-1992.tar.gz",
        "oblique MR, other": "PGBM-008_06-10-1993.tar.gz",
    }
    for title, name in archives.items():
        if not (folder / name).is_file():
            print(f"{folder / name} is not there")
            continue
        home = place / name
        with tarfile.open(folder / name) as archive:
            archive.extractall(home, filter="data")
        found: dict[str, list[Instance]] = {}
        for file in sorted(home.rglob("*")):
            if file.is_file() and isinstance(one := header.read(file), Instance):
                found.setdefault(one.series, []).append(one)
        chosen = [one for one in found.values() if "MaskTumor" not in str(one[0].file)]
        for number, slices in enumerate(chosen[: 2 if "CT" in title else 1], start=1):
            image = outlines.volume_of(slices)
            ordered = sorted(slices, key=lambda one: image.uids.index(one.uid))
            yield Case(f"{title} {number}", ordered, image, _mask(image))


def _mask(image: Volume) -> Ids:
    shown = gaussian_filter(image.grid.from_ras(image.array).transpose(2, 1, 0), (0, 2, 2))
    bright = shown > shown.mean()
    return np.where(bright, 1 + (shown > shown[bright].mean()), 0).astype(np.uint8)


# --- round trips -----------------------------------------------------------------------------


def _as_seg(kind: seg.Kind) -> Callable[[Path, Case], Path]:
    def write(file: Path, case: Case) -> Path:
        seg.write(file, case.slices, case.ids, DATASET.label_map, ABOUT, kind)
        return file

    return write


def _as_fractional(file: Path, case: Case) -> Path:
    shares = np.stack([case.ids == 1, case.ids == 2], axis=-1) * 0.9
    return made.by_highdicom(file, list(case.slices), shares)


def _as_contours(digits: int, trace: Callable[[Ids], list[NDArray[np.float64]]]):
    def write(file: Path, case: Case) -> Path:
        regions = {
            f"class_{number}": [
                Outline(outlines.on_slice(one, outline), uid=one.uid)
                for one, drawn in zip(case.slices, case.ids == number, strict=True)
                for outline in trace(drawn.astype(np.uint8))
            ]
            for number in (1, 2)
        }
        return outlines.write(file, regions, digits)

    return write


def _through_centres(mask: Ids) -> list[NDArray[np.float64]]:
    """Outlines through the centres of the outermost pixels, as OpenCV traces them."""
    found, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [one[:, 0, ::-1].astype(float) for one in found if len(one) > 2]


WAYS = {
    "SEG, binary": _as_seg("binary"),
    "SEG, label map": _as_seg("labelmap"),
    "SEG, fractional": _as_fractional,
    "RTSTRUCT, 2 digits": _as_contours(2, outlines.traced),
    "RTSTRUCT, 1 digit": _as_contours(1, outlines.traced),
    "RTSTRUCT through centres": _as_contours(2, _through_centres),
}


def _round_trips(cases: Sequence[Case], place: Path) -> list[str]:
    lines = [
        "## Round trips",
        "",
        "| series | slices | voxels drawn | " + " | ".join(WAYS) + " |",
        "|---|---|---|" + "---|" * len(WAYS),
    ]
    for case in cases:
        cells = []
        for way, write in WAYS.items():
            file = write(place / "drawn", case)
            try:
                read = decode.drawn(DATASET, case.image, {"": file}).ids[""]
                cells.append(_dice(case.image.grid.from_ras(read).transpose(2, 1, 0), case.ids))
            except Problem as problem:
                cells.append("refused")
                print(case.title, way, problem)
        rows, columns = case.slices[0].shape
        size = f"{len(case.slices)} of {columns}x{rows}"
        drawn = int((case.ids > 0).sum())
        lines.append(f"| {case.title} | {size} | {drawn:,} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return [
        *lines,
        "",
        "Mean Dice of the classes; in brackets, the voxels that differ. Outlines run half way"
        " between the pixels inside and outside (marching squares), in the last column through the"
        " centres of the outermost pixels (OpenCV), where pieces of one or two pixels are no"
        " contours; coordinates have so many digits of a mm.",
    ]


def _dice(read: Ids, ids: Ids) -> str:
    scores = [
        2 * ((read == one) & (ids == one)).sum() / ((read == one).sum() + (ids == one).sum())
        for one in (1, 2)
    ]
    return f"{np.mean(scores):.4f} ({int((read != ids).sum()):,})"


# --- second rasterisers ----------------------------------------------------------------------


def _by_matplotlib(polygons, shape) -> NDArray[np.bool_]:
    centres = np.stack(np.indices(shape), axis=-1).reshape(-1, 2)
    odd = np.zeros(shape, bool)
    for polygon in polygons:
        odd ^= Polygon(np.vstack([polygon, polygon[:1]])).contains_points(centres).reshape(shape)
    return odd


def _by_opencv(polygons, shape) -> NDArray[np.bool_]:
    fixed = [np.rint(one[:, ::-1] * 65536).astype(np.int32) for one in polygons]
    return cv2.fillPoly(np.zeros(shape, np.uint8), fixed, 1, shift=16) > 0


def _by_pillow(polygons, shape) -> NDArray[np.bool_]:
    odd = np.zeros(shape, bool)
    for polygon in polygons:
        picture = Image.new("1", shape[::-1])
        ImageDraw.Draw(picture).polygon([tuple(point) for point in polygon[:, ::-1]], fill=1)
        odd ^= np.asarray(picture)
    return odd


SECOND = {"matplotlib": _by_matplotlib, "OpenCV": _by_opencv, "Pillow": _by_pillow}


def _rasterisers(cases: Sequence[Case]) -> list[str]:
    lines = [
        "## Against other rasterisers",
        "",
        "| outlines | pixels | " + " | ".join(SECOND) + " |",
        "|---|---|" + "---|" * len(SECOND),
    ]
    rng = np.random.default_rng(0)
    stars = []
    for _ in range(200):
        angles, reach = np.sort(rng.uniform(0, 2 * np.pi, 24)), rng.uniform(4, 60, 24)
        way = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        stars.append(([rng.uniform(40, 80, 2) + reach[:, None] * way], SHAPE[1:]))
    masks = [
        (outlines.traced(one), one.shape) for case in cases for one in case.ids == 1 if one.any()
    ]
    for title, drawings in (("random stars", stars), ("outlines of the masks above", masks)):
        total, differ = 0, dict.fromkeys(SECOND, 0)
        for polygons, shape in drawings:
            mine = scanlines.inside(polygons, shape)[0]
            total += int(mine.sum())
            for name, fill in SECOND.items():
                differ[name] += int((fill(polygons, shape) != mine).sum())
        shares = [f"{count:,} ({count / total:.2%})" for count in differ.values()]
        lines.append(f"| {title} | {total:,} | {' | '.join(shares)} |")
        print(lines[-1], flush=True)
    return [
        *lines,
        "",
        "Pixels that differ from ours. matplotlib asks each centre, as we do; OpenCV and Pillow"
        " draw the outline itself, too.",
    ]


# --- other axes, and what a converter makes --------------------------------------------------


def _converted(cases: Sequence[Case], place: Path) -> list[str]:
    tool = shutil.which("dcm2niix")
    lines = ["## Labels with other axes", "", "| series | 48 orders and flips | dcm2niix |"]
    lines.append("|---|---|---|")
    for number, case in enumerate(case for case in cases if case.image.uneven is None):
        native = nib.Nifti1Image(case.ids.transpose(2, 1, 0), case.image.grid.affine)
        ways = [
            np.stack([np.argsort(order), flips], axis=1)
            for order in np.array(list(np.ndindex(3, 3, 3)))
            if len(set(order.tolist())) == 3
            for flips in np.array(list(np.ndindex(2, 2, 2))) * 2 - 1
        ]
        same = 0
        for way in ways:
            nib.save(native.as_reoriented(way), place / "label.nii")
            read = decode.drawn(DATASET, case.image, {"": place / "label.nii"}).ids[""]
            stored = case.image.grid.from_ras(read).transpose(2, 1, 0)
            same += bool((stored == case.ids).all())
        made_by = "not installed" if tool is None else _by_dcm2niix(tool, case, place / f"{number}")
        lines.append(f"| {case.title} | {same} of {len(ways)} the same | {made_by} |")
        print(lines[-1], flush=True)
    return lines


def _by_dcm2niix(tool: str, case: Case, place: Path) -> str:
    """Whether what it writes of the series itself is on the series' grid, voxel by voxel."""
    home = place / "in"
    home.mkdir(parents=True)
    for one in case.slices:
        shutil.copy(one.file, home)
    command = [tool, "-o", place, "-f", "x", "-b", "n", home]
    subprocess.run(command, check=True, capture_output=True)
    found = []
    for file in sorted(place.glob("*.nii")):
        label = nifti.read(file)
        kind = "straightened copy" if "Tilt" in file.stem else "slices as they are"
        found.append(f"{kind}: {_grid_of(label, case)}")
    return "; ".join(found)


def _grid_of(label: Volume, case: Case) -> str:
    where = Path("label.nii")
    try:
        read, _ = grids.on_grid(DATASET, label, case.image.grid, where)
    except Problem:
        try:
            spec = replace(DATASET, resample_labels=True)
            grids.on_grid(spec, label, case.image.grid, where)
        except Problem:
            return "refused (placed beside the series)"
        return "refused, unless resampled"
    same = "the same grid" if volume.same_grid(case.image.grid, label.grid) else "step too short"
    equal = bool((read.array == case.image.array).all())
    return f"{same}, {'every voxel' if equal else 'not every voxel'}"


# --- time ------------------------------------------------------------------------------------


def _times(place: Path) -> list[str]:
    shape = (40, 512, 512)
    slices = series.write(place / "large", shape=shape)
    case = Case("large", slices, outlines.volume_of(slices), made.mask(shape=shape, seed=1))
    lines = [
        "## Time",
        "",
        "A series of 40 slices of 512x512, two classes, on one core.",
        "",
        "| source | file | seconds |",
        "|---|---|---|",
    ]
    for way in ("SEG, binary", "SEG, label map", "RTSTRUCT, 2 digits"):
        file = WAYS[way](place / "drawn", case)
        begin = time.perf_counter()
        decode.drawn(DATASET, case.image, {"": file})
        taken = time.perf_counter() - begin
        lines.append(f"| {way} | {file.stat().st_size / 1e6:.1f} MB | {taken:.1f} |")
        print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    default = PROJECT.parent / "shared" / "data" / "dicom"
    main((Path(sys.argv[1]) if sys.argv[1:] else default).resolve())
