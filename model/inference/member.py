"""One trained network at work: its file's facts, and its answer to pictures and to scans."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Problem
from model.inference import mirrors, onnx_file, places, stated, tiles
from model.inference.facts import Facts
from model.inference.mirrors import Run
from model.inference.sampling import Probabilities, Sampler
from model.inference.temperature import NONE, Temperatures
from model.network_input import model_input
from pipeline.pairs.canvas import Canvas
from pipeline.pairs.channels import Images, Views
from pipeline.runtime import files, modelfile

_ARCHIVE = b"PK\x03\x04"  # a Keras file is a zip archive
_FIRST_OF_ONNX = b"\x08"  # the tag of its first field, the version

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Member:
    """A model file that is ready to answer. ``axes``: see :mod:`model.inference.mirrors`.

    ``digest`` is the file's sha256; ``overlap``: see :mod:`model.inference.tiles`;
    ``temperatures``: by which its probabilities are calibrated once they are on the grid that they
    are asked for, so that they leave class ids as they are.
    """

    file: Path
    digest: str
    facts: Facts
    run: Run
    axes: tuple[str, ...]
    overlap: float = tiles.OVERLAP
    temperatures: Temperatures = NONE

    @classmethod
    def of(cls, file: Path, mirror_images: str = "auto") -> Member:
        """The model in ``file``, of Keras or ONNX.

        Raises :class:`Problem` if it cannot be used, or if mirror images are demanded of a network
        whose training saw none.
        """
        provenance, network = _opened(file)
        facts = Facts.of(provenance, file)
        axes = facts.mirrors.axes
        if mirror_images == "always" and not axes:
            raise Problem(
                "expected a network that saw mirror images in training, got one that saw none",
                where=file,
                remedy="Leave --mirrors out, or train with a variant that flips.",
            )
        wanted = mirror_images == "always" or (mirror_images == "auto" and facts.mirrors.kept)
        overlap = tiles.OVERLAP if facts.tiles.kept else 0.0
        used = axes if wanted else ()
        digest = files.sha256(file)
        return cls(file, digest, facts, network, used, overlap, facts.temperatures)

    def __reduce__(self) -> tuple[Any, ...]:
        """For a worker of a cluster, which opens the model file itself."""
        return _reopened, (self.file, self.digest, "always" if self.axes else "never")

    @property
    def at_once(self) -> int:
        """How many pictures the network is asked about at once: the same wherever it is asked."""
        return tiles.at_once(self.facts.network.whole_px)

    def of_pictures(self, pictures: Sequence[Picture]) -> Probabilities:
        """Square pictures of any size -> (B, px, px, classes), px as ``whole_px``.

        They are grey (H, H), or (H, H, channels), as convert makes them, or as many channels as the
        network sees of a slice and its neighbours.
        """
        network = self.facts.network

        def whole(seen: NDArray[np.uint8]) -> Probabilities:
            return tiles.asked(self.run, seen, network.image_px, self.overlap)

        return mirrors.asked(whole, model_input(pictures, network), self.axes)

    def sampler(self, canvas: Canvas) -> Sampler:
        """The way back from the network's size to the pixels that ``canvas`` was made of."""
        return _sampler(canvas, self.facts.network.whole_px)


def viewed(images: Images, facts: Facts, own_grey: bool = False) -> Views:
    """A scan, or those of a case by channel, as one model's pictures show it.

    ``own_grey``: see :func:`pipeline.volumes.windows.window_of`. Raises :class:`Problem` for scans
    of other channels than the model's.
    """
    bounds = facts.window.bounds if facts.window else None
    return Views.of(
        images,
        facts.channels,
        facts.plane,
        bounds,
        facts.percentiles,
        facts.drawn_px,
        own_grey,
        facts.network.neighbours,
        facts.network.field_mm,
        in_8_bits=facts.source == "scans",
    )


@lru_cache(maxsize=1)
def _reopened(file: Path, _digest: str, mirror_images: str) -> Member:
    """Once for all jobs of a worker, until the file has changed."""
    return Member.of(file, mirror_images)


@lru_cache(maxsize=8)
def _sampler(canvas: Canvas, px: int) -> Sampler:
    return Sampler.of(canvas, px)


def _keras_file(file: Path) -> ModuleType:
    try:
        return importlib.import_module("model.inference.keras_file")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("keras", "tensorflow"):
            raise
        modelfile.read(file)  # a damaged file is named even where Keras is not installed
        raise Problem(
            "expected Keras, which this model takes, found none",
            where=file,
            remedy="Export it where it was trained (python -m model export MODEL --format onnx)"
            " and take that file, or install the extra 'train'.",
        ) from None


def _opened(file: Path) -> tuple[dict[str, Any], Run]:
    """A model's provenance, and its network; which kind it is, its first bytes state."""
    if not files.require_regular(file).is_file():
        raise Problem("expected a trained model, found none", where=file)
    with file.open("rb") as stream:
        start = stream.read(len(_ARCHIVE))
    if start == _ARCHIVE:
        keras_file = _keras_file(file)
        model, provenance = keras_file.keras_network(file)
        return provenance, keras_file.runner(model)
    if file.suffix != places.ONNX and start[:1] != _FIRST_OF_ONNX:
        raise Problem(
            "expected a model as train or export writes it, got a file of another kind",
            where=file,
            remedy="Is it the right file? If so it is damaged: copy it again.",
        )
    provenance = onnx_file.read(file)
    network, classes = stated.network(provenance, file)
    return provenance, onnx_file.runner(file, network.image_px, network.inputs, classes)
