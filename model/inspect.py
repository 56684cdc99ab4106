"""inspect: what a dataset's network is before it is trained: levels, weights, work and reach."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import keras
import matplotlib
from keras import layers

import datasets_spec
from model import params
from model.flexunet import flexunet
from model.params import Network
from pipeline import paths
from pipeline.structure import label_rules

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.patches import Rectangle

_LOG = logging.getLogger(__name__)
_BLUE, _ORANGE, _GREY = "#0072b2", "#e69f00", "#999999"


@dataclass(frozen=True)
class Level:
    """One level, encoder and decoder together. ``gflop``: of one picture, forwards."""

    name: str
    px: int
    filters: int
    kernel: int
    dilation: int
    weights: int
    gflop: float


def inspect(dataset: str, settings: params.Params) -> None:
    """List the network of ``dataset`` and draw it into ``runs/<dataset>/network.png``.

    And what the labels of train obey, where the dataset is made.
    """
    network = settings.train.network
    classes = len(datasets_spec.load(dataset).dataset.label_map)
    model = flexunet(network, classes)
    table = levels(model, network)
    px = network.image_px
    whole = network.picture_px
    parts = f", parts of {whole} x {whole}" if whole else ""
    _LOG.info("%s: %d x %d x %d pixels%s", dataset, network.inputs, px, px, parts)
    heads = ("level", "pixels", "filters", "kernel", "dilation", "parameters", "MFLOP")
    _LOG.info("%8s%8s%9s%8s%10s%14s%13s", *heads)
    for row in table:
        _LOG.info(
            f"{row.name:>8}{row.px:>8}{row.filters:>9}{row.kernel:>8}{row.dilation:>10}"
            f"{row.weights:>14,}{1000 * row.gflop:>13,.3f}"
        )
    reach = receptive_field(network)
    most = "part" if network.picture_px else "picture"
    seen = f"{reach} x {reach} pixels" if reach <= network.image_px else f"the whole {most}"
    file = paths.run(dataset) / "network.png"
    draw(table, network, classes, file)
    _LOG.info(
        f"{model.count_params():,} parameters, {sum(row.gflop for row in table):.4g} GFLOP forwards"
        f" per picture; a pixel sees {seen}; drawn in {file}"
    )
    names = [label.name for label in datasets_spec.load(dataset).dataset.label_map]
    for rule in label_rules.of_card(paths.dataset(dataset) / paths.CARD):
        _LOG.info("the labels of train obey: %s", rule.in_words(names))


def levels(model: keras.Model, network: Network) -> list[Level]:
    """The rows of the table, the finest level and its head first."""
    rows = []
    for level in range(network.num_layers):
        bridge = level == network.num_layers - 1
        names = ["bridge"] if bridge else [f"encoder_{level}", f"decoder_{level}", f"up_{level}"]
        names += [] if level else ["head"]
        members = [
            one for one in model.layers if any(f"{one.name}_".startswith(f"{n}_") for n in names)
        ]
        convolutions = [
            one for one in members if isinstance(one, layers.Conv2D | layers.Conv2DTranspose)
        ]
        first = next(one for one in convolutions if "conv" in one.name)
        rows.append(
            Level(
                "bridge" if bridge else str(level),
                network.image_px // 2**level,
                first.filters,
                first.kernel_size[0],
                first.dilation_rate[0],
                sum(one.count_params() for one in members),
                sum(map(_flop, convolutions)) / 1e9,
            )
        )
    return rows


def _flop(layer: layers.Layer) -> int:
    """Multiplications and additions of one picture's convolution, without the bias.

    Every weight is used once per pixel: of the output, or of a transposed convolution's input.
    """
    turned = isinstance(layer, layers.Conv2DTranspose)
    _, height, width, _ = (layer.input if turned else layer.output).shape
    weights = layer.count_params() - layer.filters
    return int(2 * height * width * weights)


def receptive_field(network: Network) -> int:
    """Side of the square of input pixels that can change one output pixel.

    A convolution widens it by (kernel - 1) * dilation steps of its level, pooling by one of the
    level above; a transposed convolution of stride 2 and kernel 2 by none.
    """
    side = 1
    down = range(network.num_layers)
    for level in [*down, *reversed(down[:-1])]:
        step = 2**level
        kernel = max(network.base_kernels - 2 * level, 3)
        side += 2 * (kernel - 1) * max(network.dilation - level, 1) * step
    return side + int(2 ** (network.num_layers - 1)) - 1


def draw(table: list[Level], network: Network, classes: int, file: Path) -> None:
    """The U as a picture: a bar per block, as high as its pictures, as wide as its filters."""
    figure, axis = pyplot.subplots(figsize=(9, 1 + 0.75 * len(table)), layout="constrained")
    last = len(table) - 1
    for depth, row in enumerate(table):
        height = 0.25 + 0.5 * (1 - depth / (last + 1))
        width = 0.3 + 0.09 * depth
        for side in (-1, 1) if depth < last else (0,):
            x, y = side * (4.2 - 3.4 * depth / max(last, 1)), -depth
            colour = _BLUE if side <= 0 else _ORANGE
            axis.add_patch(Rectangle((x - width / 2, y - height / 2), width, height, color=colour))
            text = f"{row.px} px\n{row.filters} filters, {row.kernel}x{row.kernel}"
            text += f", dilation {row.dilation}" if row.dilation > 1 else ""
            where = x + (width / 2 + 0.08) * (side or 1)
            align = "right" if side < 0 else "left"
            axis.text(where, y, text, ha=align, va="center", fontsize=7)
        if depth < last:
            inner = 4.2 - 3.4 * depth / max(last, 1) - width / 2
            below = 4.2 - 3.4 * (depth + 1) / max(last, 1) if depth + 1 < last else 0.0
            centre, low = inner + width / 2, -depth - height / 2
            for start, end in (
                ((-inner, -depth), (inner, -depth)),
                ((-centre, low), (-below, -depth - 0.7)),
                ((below, -depth - 0.7), (centre, low)),
            ):
                axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": _GREY})
    ends = f"{network.inputs} x {network.image_px}²", f"{classes} x {network.image_px}²"
    for x, text in zip((-4.2, 4.2), ends, strict=True):
        axis.text(x, 0.75, text, ha="center", fontsize=8)
    axis.set(xlim=(-6.4, 6.4), ylim=(-last - 0.8, 1.1))
    axis.axis("off")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
