"""``index.html``: every scan of a folder, scrolled slice by slice with its outlines, offline.

The page holds the list of scans and the program; the slices lie beside it, in scripts that it
loads when they are looked at: a page of file:// may load scripts and nothing else. Of ``view/
<scan>/``, ``scan.js`` holds where each class is, and ``0000.js``, ``0001.js``, ... hold
:data:`PART_SLICES` slices each: grey as WebP of at most :data:`GREY_PX` (lossy, to look at), class
ids, and the truth's where it is known, as zlib of their bytes (exact), all as base64. Outlines are
drawn by the browser. A slice of 512 x 512 takes about 10 to 35 kB.

Three planes and 3-D of a scan are drawn by NiiVue (``view/niivue.umd.js``, 2.3 MB, BSD-2-Clause)
from the same slices, at most 256 pixels wide, where its slices have one spacing.

Browsers from 2023 on read them (Chromium 80, Firefox 113, Safari 16.4).
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_spec.contract import IGNORED, LabelMap
from pipeline import paths
from pipeline.labels import colours
from pipeline.pages import rendering
from pipeline.runtime import files

GREY_PX = 512
"""The longer side of a grey slice; larger ones are shrunk by averaging."""
IDS_PX = 1024
"""The longer side of the class ids; of larger ones, every second, third, ... pixel is shown."""
PART_SLICES = 16
INDEX, VIEW = "index.html", paths.VIEW
_TEMPLATES = Path(__file__).parent / "templates" / "viewer"
_NIIVUE = _TEMPLATES / "niivue.umd.js"
_QUALITY, _METHOD = 85, 2  # of WebP: a third of JPEG's bytes in 7 ms per slice of 512 x 512
_LISTED = 6
"""Components of a class that the page lists; ``volumes.csv`` has them all."""

Slice = tuple[NDArray[np.uint8], ...]
"""Grey (rows, columns), class ids of the same shape and, where it is known, the truth likewise."""


class Facts(TypedDict, total=False):
    """What the page states of a scan. All text may come from strangers' files: it is escaped.

    ``source``: where it was read. ``plane``: axial, coronal or sagittal, for the letters at the
    edges; none for pictures. ``step_mm``: from slice to slice. ``window``: what black and white
    stand for, in ``unit``. ``world``: :meth:`pipeline.volumes.volume.Grid.world`, for the place
    below the pointer. ``measures``: rows as :mod:`model.delivery.measures` makes them; where the
    truth is known, rows of kind "class" have ``truth_ml``, ``truth_voxels`` and ``dice`` too.
    ``files``: name -> path below the page's folder, to be linked.
    """

    source: str
    modality: str
    plane: str
    step_mm: float
    seconds: float
    window: tuple[float, float]
    unit: str
    world: Sequence[Sequence[float]]
    warnings: Sequence[str]
    measures: Sequence[Mapping[str, Any]]
    files: Mapping[str, str]


class About(TypedDict, total=False):
    """What the page states above its scans: a title, the model, and lines of text."""

    title: str
    model: str
    notes: Sequence[str]


def write_scan(
    folder: Path,
    name: str,
    slices: Iterable[Slice],
    pixel_mm: tuple[float, float] | None,
    label_map: LabelMap,
    facts: Facts,
) -> dict[str, Any]:
    """Write ``view/<name>/`` below ``folder``, whole or not at all; returns the scan's record.

    ``slices`` yields grey, class ids and perhaps the truth from the first slice to the last, each
    (rows, columns) uint8 and all of one shape; at most :data:`PART_SLICES` encoded ones are held.
    ``pixel_mm``: from row to row and from column to column; None for pictures. ``facts`` are read
    after the last slice: whoever yields the slices may fill them in. The record goes to
    :func:`write_index` and may go through JSON.
    """
    if name in ("", "..") or Path(name).name != name:
        raise ValueError(f"a scan's name is that of a folder, not {name!r}")
    (folder / VIEW).mkdir(parents=True, exist_ok=True)
    with files.replacing_folder(folder / VIEW / name) as unfinished:
        parts = _Parts(unfinished, len(label_map))
        for grey, *drawn in slices:
            parts.add(grey, *drawn)
        parts.flush()
        rows = [dict(row) for row in facts.get("measures", ())]
        _write_script(
            unfinished / "scan.js",
            {"counts": parts.counts, "components": _largest(rows), "wrong": parts.wrong},
        )
    return {
        "name": name,
        "slices": parts.slices,
        "shape": parts.shape,
        "grid": parts.grid,
        "truth": parts.judged,
        "pixel_mm": None if pixel_mm is None else [float(one) for one in pixel_mm],
        "classes": [
            {"id": one.id, "name": one.name, "colour": list(one.colour), "meaning": one.meaning}
            for one in colours.visible(label_map).foreground
        ],
        "facts": {**facts, "measures": [row for row in rows if row["kind"] == "class"]},
    }


def write_index(folder: Path, records: Sequence[Mapping[str, Any]], about: About) -> None:
    """Write ``index.html`` of all scans of ``records``, whole or not at all.

    Its bytes depend on the arguments alone: no clock, no host.
    """
    templates = rendering.environment(_TEMPLATES)
    templates.filters["volume"] = _volume
    templates.policies["json.dumps_kwargs"] = {"allow_nan": False}
    js = (_TEMPLATES / f"{name}.js" for name in ("slices", "drawing", "solid", "viewer"))
    page = templates.get_template("viewer.html").render(
        about={"title": "Scans and masks", "model": "", "notes": (), **about},
        scans=records,
        data=[{**one, "part": PART_SLICES} for one in records],
        css=(_TEMPLATES / "viewer.css").read_text("utf-8"),
        js="\n".join(file.read_text("utf-8") for file in js),
    )
    if any("world" in one["facts"] for one in records):
        with files.replacing(folder / VIEW / _NIIVUE.name) as unfinished:
            shutil.copyfile(_NIIVUE, unfinished)
    with files.replacing(folder / INDEX) as unfinished:
        unfinished.write_text(page, "utf-8")


class _Parts:
    """Slices on their way into scripts of :data:`PART_SLICES`, and how much of each class each has.

    ``counts``: class id -> pixels per slice, of the classes that occur. ``shape``: rows and columns
    of a slice, ``grid``: of the class ids that are shown. ``wrong``: pixels per slice that differ
    from the truth, where it is known; a class then counts as often as either has it.
    """

    def __init__(self, folder: Path, classes: int) -> None:
        self.slices, self.shape, self.grid = 0, [0, 0], [0, 0]
        self.counts: dict[int, list[int]] = {}
        self.judged, self.wrong = False, list[int]()
        self._folder, self._classes = folder, classes
        self._part: list[tuple[str, ...]] = []

    def add(
        self,
        grey: NDArray[np.uint8],
        ids: NDArray[np.uint8],
        truth: NDArray[np.uint8] | None = None,
    ) -> None:
        counts = self._counted(ids)
        if truth is not None:
            self.judged = True
            self.wrong.append(int(np.count_nonzero((ids != truth) & (truth != IGNORED))))
            counts = np.maximum(counts, self._counted(truth))
        for label in np.flatnonzero(counts[1:]) + 1:
            self.counts.setdefault(int(label), [0] * self.slices)
        for number, known in self.counts.items():
            known.append(int(counts[number]))
        step = -(-max(ids.shape) // IDS_PX)
        drawn = [ids] if truth is None else [ids, truth]
        shown = [one[step // 2 :: step, step // 2 :: step] for one in drawn]
        self.shape, self.grid = list(ids.shape), list(shown[0].shape)
        self._part.append((_webp(grey), *map(_packed, shown)))
        self.slices += 1
        if len(self._part) == PART_SLICES:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered."""
        if not self._part:
            return
        number = (self.slices - 1) // PART_SLICES
        kinds = ("grey", "ids", "truth") if self.judged else ("grey", "ids")
        content = dict(zip(kinds, zip(*self._part, strict=True), strict=True))
        _write_script(self._folder / f"{number:04d}.js", content)
        self._part.clear()

    def _counted(self, ids: NDArray[np.uint8]) -> NDArray[np.intp]:
        """Pixels of each class."""
        return np.bincount(ids.reshape(-1), minlength=self._classes)[: self._classes]


def _webp(grey: NDArray[np.uint8]) -> str:
    picture = Image.fromarray(grey)
    if max(grey.shape) > GREY_PX:
        share = GREY_PX / max(grey.shape)
        rows, columns = (max(1, round(side * share)) for side in grey.shape)
        picture = picture.resize((columns, rows), Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, "webp", quality=_QUALITY, method=_METHOD)
    return base64.b64encode(buffer.getvalue()).decode()


def _packed(ids: NDArray[np.uint8]) -> str:
    """The zlib of class ids; "" where there is background alone."""
    if not ids.any():
        return ""
    # run lengths do not depend on the processor's hash instructions, see pipeline.pairs.png
    pack = zlib.compressobj(9, strategy=zlib.Z_RLE)
    return base64.b64encode(pack.compress(ids.tobytes()) + pack.flush()).decode()


def _largest(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of the rows of components, what the page lists: the first few of each class."""
    kept = ("class", "component", "ml", "voxels", "first_slice", "last_slice")
    return [
        {name: row[name] for name in kept}
        for row in rows
        if row["kind"] == "component" and row["component"] <= _LISTED
    ]


def _write_script(file: Path, content: object) -> None:
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    file.write_text(f"viewerPart({text});\n", "utf-8")


def _volume(row: Mapping[str, Any]) -> str:
    """The size in a row of measures, for people: "12.3 ml", or "1,234 px" of a picture.

    >>> _volume({"ml": 0.0123, "voxels": 12}), _volume({"ml": None, "voxels": 1234})
    ('0.012 ml', '1,234 px')
    """
    ml = row["ml"]
    if ml is None:
        return f"{row['voxels']:,} px"
    return f"{ml:,.{0 if ml >= 100 else 1 if ml >= 10 else 2 if ml >= 0.1 else 3}f} ml"
