"""Pictures of an evaluation: the confusion matrix, masks, and truth beside prediction."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_spec.contract import LabelMap
from model.scoring import scores
from model.scoring.scores import Stack
from model.scoring.summary import Scored
from pipeline import paths
from pipeline.pages import draw
from pipeline.pairs import pictures as pairs_pictures
from pipeline.pairs import png
from pipeline.pairs.canvas import Canvas
from pipeline.pairs.manifest import Pair
from pipeline.runtime import files

matplotlib.use("Agg")
from matplotlib import pyplot

_OVERLAY_PX = 512
_KINDS, _TEST = (paths.MINI_TEST, paths.EXAMPLES), "test"


@dataclass(frozen=True)
class Shown:
    """The cases whose pictures are kept: the ``worst``, of lowest mean foreground Dice first, the
    one nearest the ``median``, and the ``best``; none where no picture is wanted."""

    worst: Sequence[Scored] = ()
    median: Scored | None = None
    best: Scored | None = None

    def all(self) -> list[Scored]:
        """Each picture's case once, the worst first."""
        several = (*self.worst, self.median, self.best)
        return list({one.shown: one for one in several if one}.values())


def draw_confusion(file: Path, voxels: NDArray[np.int64], names: Sequence[str]) -> None:
    """Voxels (true class, predicted class) as shares of each true class, background first."""
    totals = voxels.sum(axis=1, keepdims=True)
    shares = np.divide(voxels, totals, out=np.zeros(voxels.shape), where=totals > 0)
    side = 1.6 + 0.9 * len(names)
    figure, axis = pyplot.subplots(figsize=(side + 0.6, side), layout="constrained")
    axis.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        axis.text(
            column,
            row,
            f"{100 * share:.1f} %" if totals[row] else "-",
            ha="center",
            va="center",
            color="black" if share > 0.5 else "white",
        )
    axis.set(xlabel="predicted", ylabel="truth", title="share of each true class's voxels")
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axis.set_yticks(range(len(names)), names)
    with files.replacing(file) as unfinished:
        figure.savefig(unfinished, dpi=100, metadata={"Software": None})
    pyplot.close(figure)


def draw_overlay(
    file: Path,
    image: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    label_map: LabelMap,
) -> None:
    """Side by side below its name: the image, and it with the outlines of truth and prediction."""
    plain = np.repeat(image[..., None], 3, axis=-1)
    outlined = [draw.outlined(image, ids, label_map) for ids in (truth, predicted)]
    file.parent.mkdir(parents=True, exist_ok=True)
    px = min(_OVERLAY_PX, len(image))
    Image.fromarray(draw.sheet({file.stem: [plain, *outlined]}, px)).save(file, compress_level=6)


def write_masks(
    predictions: Path, slices: Sequence[Pair], truth: Stack, final: Stack, label_map: LabelMap
) -> str:
    """Masks at picture size: of mini_test, and of the slice with most wrong voxels.

    They show the scored prediction itself, ``final`` (N, H, W). Returns the latter's pair id.
    """
    folder = paths.dataset(slices[0].dataset) / paths.MINI_TEST / paths.IMAGES
    canvas = Canvas.of(slices[0].canvas)
    judged = zip(*scores.comparable(truth, final, slices[0].unlabelled), strict=True)
    wrong = [np.count_nonzero(one != other) for one, other in judged]
    worst = max(slices, key=lambda pair: (wrong[pair.slice_index], sum(pair.class_pixels[1:])))
    for pair in slices:
        kinds = [paths.MINI_TEST] if (folder / f"{pair.id}.png").is_file() else []
        kinds += [paths.EXAMPLES] if pair.id == worst.id else []
        for kind in kinds:
            ids = canvas.labels(final[pair.slice_index])
            png.write_mask(predictions / kind / f"{pair.id}.png", ids, label_map)
    return worst.id


def keep_shown(predictions: Path, scored: Sequence[Scored], count: int) -> Shown:
    """Best, median and ``count`` worst of the cases; other cases' pictures are removed.

    The median is the nearest of those that have a picture.
    """
    known = sorted(
        (one for one in scored if not math.isnan(one.dice)),
        key=lambda one: (one.dice, one.case, one.rater),
    )
    drawn = [one for one in known if (predictions / paths.EXAMPLES / f"{one.shown}.png").is_file()]
    shown = Shown()
    if drawn and count:
        middle = known[len(known) // 2].dice
        nearest = min(drawn, key=lambda one: abs(one.dice - middle))
        shown = Shown(drawn[:count], nearest, drawn[-1])
    kept = {one.shown for one in shown.all()}
    for file in (predictions / paths.EXAMPLES).glob("*.png"):
        if file.stem not in kept:
            file.unlink()
    return shown


def place_truth(predictions: Path, folder: Path, pairs: Iterable[Pair]) -> None:
    """Put the pairs whose predicted masks are left beside these, as ``test/{images,masks}``.

    ``pairs`` are those of the dataset in ``folder``.
    """
    shutil.rmtree(predictions / _TEST, ignore_errors=True)
    left = {file.stem for kind in _KINDS for file in (predictions / kind).glob("*.png")}
    for pair in pairs:
        if pair.id in left:
            pairs_pictures.place(folder, pair, predictions / _TEST)


def draw_overlays(predictions: Path, label_map: LabelMap) -> None:
    """Truth beside prediction for every mask of :func:`write_masks` that is left."""
    for kind in _KINDS:
        for file in sorted((predictions / kind).glob("*.png")):
            image, mask = (
                predictions / _TEST / part / file.name for part in (paths.IMAGES, paths.MASKS)
            )
            draw_overlay(
                predictions / paths.OVERLAYS / kind / file.name,
                png.read_shown(image),
                png.read_mask(mask, label_map),
                png.read_mask(file, label_map),
                label_map,
            )
