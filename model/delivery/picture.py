"""One PNG or JPEG picture -> its mask at its own size, and what the page shows of it.

A picture is taken as convert would have made it: windowed, anterior up. It is brought to a square
as a slice of square pixels is, and its probabilities come back to its own pixels strip by strip,
so that a picture of any size takes a few bytes a pixel.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_spec.contract import Problem
from model.delivery import measures
from model.delivery.wish import Wish
from model.inference import fusing
from model.inference.expected import Expected
from model.inference.predictor import Predictor
from model.inference.sampling import Probabilities, Sampler, class_ids
from model.inference.temperature import Temperatures
from pipeline.pages import draw, viewer
from pipeline.pairs import png
from pipeline.pairs.canvas import Canvas
from pipeline.params.limits import Limits
from pipeline.runtime.files import replacing
from pipeline.volumes import picture_files
from pipeline.volumes.limits import require_pixels

_STRIP_BYTES = 1 << 24
_DARK = 16
Answers = list[tuple[Sampler, Probabilities, Temperatures]]
"""Of each member the way back to the picture's pixels, its answer with columns sampled, and what
calibrates it."""
_TINGE = 8  # by which the channels of a grey JPEG may differ


@dataclass(frozen=True)
class Grey:
    """A picture (H, W) uint8. ``dark``: it looks like 12-bit values in a file of 16 bits;
    ``coloured``: its channels differ."""

    picture: NDArray[np.uint8]
    dark: bool = False
    coloured: bool = False


def read(file: Path, limits: Limits) -> Grey:
    """A PNG or JPEG of any depth as grey: of deeper ones the upper 8 of 16 bits are kept.

    Raises :class:`Problem` if it cannot be read to its end, is too large, or is no regular file.
    """
    with picture_files.opened(file, limits) as opened:
        _require_square(opened.size, limits, file)
        if not opened.mode.startswith(("I", "F")):
            grey = np.asarray(opened.convert("L"), np.uint8)
            return Grey(grey, coloured=_coloured(opened))
        deep = np.asarray(opened)
    grey = np.empty(deep.shape, np.uint8)
    for row, values in enumerate(deep):  # not at once: a whole number takes eight times as much
        grey[row] = np.clip(values.astype(np.int64) >> 8, 0, 255)
    return Grey(grey, dark=bool(grey.max() < _DARK))


def deliver(
    folder: Path,
    name: str,
    grey: NDArray[np.uint8],
    predictor: Predictor,
    wish: Wish,
    path: Path,
    warnings: Sequence[str] = (),
) -> tuple[list[Path], dict[str, Any]]:
    """Write ``<name>.png`` and what else is wanted; returns the files and the record's content.

    With probabilities, ``<name>.npz`` (H, W, classes) float16.
    """
    ids, answers = np.empty(grey.shape, np.uint8), _answers(predictor, grey)
    expected = Expected.none(len(predictor.label_map))
    for rows, strip in _strips(answers, predictor, grey.shape[0]):
        ids[rows] = class_ids(strip)
        expected.add(strip, ids[rows])
    ids = predictor.postprocessed(ids[None])[0]
    label_map = predictor.label_map
    made = [folder / f"{name}.png"]
    png.write_mask(made[0], ids, label_map)
    if wish.probabilities:
        made.append(folder / f"{name}.npz")
        strips = _strips(answers, predictor, grey.shape[0])
        _write_probabilities(made[-1], strips, (*grey.shape, len(label_map)))
    if wish.overlays:
        made.append(folder / "overlays" / f"{name}.png")
        made[-1].parent.mkdir(exist_ok=True)
        with replacing(made[-1], durable=False) as unfinished:
            overlay = Image.fromarray(draw.outlined(grey, ids, label_map))
            overlay.save(unfinished, "png", compress_level=1)
    counted = measures.measured(name, ids[None], label_map)
    measures.with_expected(counted, label_map, expected.dice)
    record: dict[str, Any] = {"measures": counted, "view": None}
    if wish.view:
        stated: viewer.Facts = {
            "source": "" if wish.anonymous else str(path),
            "warnings": list(warnings),
            "measures": counted,
            "files": {file.name: file.relative_to(folder).as_posix() for file in made},
        }
        record["view"] = viewer.write_scan(
            folder, name, iter([(grey, ids)]), None, label_map, stated
        )
        made += sorted((folder / viewer.VIEW / name).iterdir())
    return made, record


def _coloured(opened: Image.Image) -> bool:
    """Whether channels differ, in a small copy: enough to tell a photo from a grey picture."""
    if opened.mode in ("1", "L", "LA"):
        return False
    small = np.asarray(opened.convert("RGB").resize((32, 32)), np.int16)
    return bool(np.ptp(small, axis=-1).max() > _TINGE)


def _answers(predictor: Predictor, grey: NDArray[np.uint8]) -> Answers:
    """Ask every member about the picture as convert makes it."""
    answers = []
    for one in predictor.members:
        canvas = Canvas.fit((grey.shape[0], grey.shape[1]), (1.0, 1.0), one.facts.drawn_px)
        square = np.rint(canvas.image(grey)).astype(np.uint8)
        sampler = one.sampler(canvas)
        answers.append((sampler, sampler.wide(one.of_pictures([square])[0]), one.temperatures))
    return answers


def _strips(
    answers: Answers, predictor: Predictor, height: int
) -> Iterator[tuple[slice, Probabilities]]:
    """The members' mean probabilities (classes, rows, W) of some rows of a picture at a time."""
    classes, _, width = answers[0][1].shape
    step = max(1, _STRIP_BYTES // (4 * classes * width))
    for start in range(0, height, step):
        rows = slice(start, min(start + step, height))
        strips = [calibrated(sampler.tall(wide, rows)) for sampler, wide, calibrated in answers]
        mean = fusing.fused(strips, [""] * len(strips), predictor.weights)
        yield rows, predictor.temperatures(mean)


def _write_probabilities(
    file: Path, strips: Iterable[tuple[slice, Probabilities]], shape: tuple[int, ...]
) -> None:
    """What ``np.savez_compressed`` writes of ``shape`` (H, W, classes) as float16, by strips."""
    described = {"descr": "<f2", "fortran_order": False, "shape": shape}
    entry = zipfile.ZipInfo("arr_0.npy")  # with the date of no clock
    entry.compress_type = zipfile.ZIP_DEFLATED
    with (
        replacing(file, durable=False) as unfinished,
        zipfile.ZipFile(unfinished, "w") as archive,
        archive.open(entry, "w", force_zip64=True) as stream,
    ):
        np.lib.format.write_array_header_1_0(stream, described)
        for _, strip in strips:
            stream.write(np.moveaxis(strip, 0, -1).astype("<f2").tobytes())


def _require_square(shape: tuple[int, int], limits: Limits, file: Path) -> None:
    """A long picture becomes a large square."""
    require_pixels(shape, limits, file)
    if max(shape) ** 2 > limits.pixels:
        raise Problem(
            f"expected at most {math.isqrt(limits.pixels)} pixels a side, got {shape[0]} x"
            f" {shape[1]}: it is judged in a square, which limits.pixels bounds",
            where=file,
        )
