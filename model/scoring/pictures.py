"""Pictures of an evaluation: the confusion matrix, and truth beside prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_spec.contract import LabelMap
from pipeline.pages import draw
from pipeline.runtime import files

matplotlib.use("Agg")
from matplotlib import pyplot

_OVERLAY_PX = 512


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
