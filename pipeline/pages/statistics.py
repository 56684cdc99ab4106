"""The plot of a dataset's statistics: pairs per split, and how much of a patient each class is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from datasets_spec.contract import SPLITS, Dataset, Label
from pipeline.pairs.manifest import Pair

matplotlib.use("Agg")
from matplotlib import pyplot, ticker

_UPRIGHT = 4  # so many classes leave room for the splits' names side by side
_Shares = dict[tuple[str, str], np.ndarray]
_BARS: tuple[tuple[str, Callable[[Pair], bool], str], ...] = (
    ("with foreground", lambda pair: not pair.parent and any(pair.class_pixels[1:]), "#0072b2"),
    ("without", lambda pair: not pair.parent and pair.empty, "#bbbbbb"),
    ("not annotated", lambda pair: pair.unannotated, "#eeeeee"),
    ("augmented", lambda pair: bool(pair.parent), "#e69f00"),
)


def draw(file: Path, dataset: Dataset, pairs: Sequence[Pair]) -> None:
    """Write a PNG: patients and slices per split; and per class, how much of a patient it is."""
    originals = [pair for pair in pairs if not pair.parent]
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(10, 3.6), layout="constrained", width_ratios=[2, 3]
    )
    _draw_pairs(left, pairs, originals)
    shares = _shares(originals, len(dataset.label_map))
    _draw_shares(right, dataset.label_map.foreground, shares)
    figure.savefig(file, dpi=100, metadata={"Software": None})
    pyplot.close(figure)


def _draw_pairs(axes: Any, pairs: Sequence[Pair], originals: Sequence[Pair]) -> None:
    """Stacked bars of the pairs in each split, with the number of its patients on top."""
    tops = np.zeros(len(SPLITS))
    for name, held, shade in _BARS:
        heights = [sum(held(p) for p in pairs if p.split == split) for split in SPLITS]
        if name == "not annotated" and not any(heights):
            continue
        axes.bar(SPLITS, heights, bottom=tops, label=name, color=shade)
        tops += heights
    patients = [len({p.patient for p in originals if p.split == split}) for split in SPLITS]
    for at, (top, count) in enumerate(zip(tops, patients, strict=True)):
        axes.annotate(
            f"{count} patients", (at, top), (0, 3), textcoords="offset points", ha="center"
        )
    axes.set(title="pairs per split", ylim=(0, max(1, *tops) * 1.12))
    axes.legend(fontsize="small")


def _draw_shares(axes: Any, labels: Sequence[Label], shares: _Shares) -> None:
    """Per class and split a point for each patient, on a logarithmic axis."""
    crowded = len(labels) > _UPRIGHT
    places = []
    for number, label in enumerate(labels):
        start = number * (len(SPLITS) + 1)
        places += [start + at for at in range(len(SPLITS))]
        _draw_points(axes, label, start, shares)
        axes.annotate(
            label.name, (start + 1, 0), (0, -48 if crowded else -26), va="top", ha="center",
            xycoords=("data", "axes fraction"), textcoords="offset points", fontsize="small",
        )  # fmt: skip
    axes.set(title="share of a patient's slices with foreground", ylabel="% of pixels")
    axes.set_xticks(places, SPLITS * len(labels), fontsize="small", rotation=90 * crowded)
    if shares:  # a logarithmic axis without a point has no ticks to draw
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    else:
        axes.text(0.5, 0.5, "no slice has foreground", ha="center", transform=axes.transAxes)
    axes.margins(y=0.1)
    axes.grid(axis="y", alpha=0.3)


def _draw_points(axes: Any, label: Label, start: int, shares: _Shares) -> None:
    """The patients of each split that have a class, side by side from ``start`` on."""
    colour = [channel / 255 for channel in label.colour]
    for at, split in enumerate(SPLITS):
        values = [100 * share[label.id] for (_, where), share in shares.items() if where == split]
        shown = [value for value in values if value > 0]
        spread = np.linspace(-0.3, 0.3, len(shown)) if len(shown) > 1 else np.zeros(len(shown))
        axes.scatter(start + at + spread, shown, 14, [colour], edgecolors="#333333", linewidths=0.5)


def _shares(pairs: Sequence[Pair], classes: int) -> _Shares:
    """(patient, split) -> the share of every class in the pixels of slices with foreground.

    Splits keep different shares of the others, so these would tell splits apart, not patients.
    """
    totals: _Shares = {}
    for pair in (pair for pair in pairs if any(pair.class_pixels[1:])):
        key = (pair.patient, pair.split)
        totals[key] = totals.get(key, np.zeros(classes)) + pair.class_pixels
    return {key: counts / counts.sum() for key, counts in totals.items()}
