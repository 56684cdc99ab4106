"""predict: a trained network on pictures of any size; masks at the pictures' own size."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

import datasets_spec
from datasets_spec.contract import Problem
from model import provenance
from model.batches import model_input
from pipeline import colors, draw, params, paths
from pipeline.params import Network

_SUFFIXES = (".png", ".jpg", ".jpeg")
_LONGEST_PX = 10_000  # a picture is judged in a square: 100 million pixels
_DARK = 16


def predict(
    dataset: str,
    settings: params.Params,
    source: Path,
    target: Path,
    with_probabilities: bool = False,
    with_overlays: bool = False,
) -> None:
    """Masks ``target/<name>.png`` of all PNG and JPEG pictures in ``source``, at their own size.

    Pictures are taken as ``convert`` would have made them: windowed, anterior up. With
    probabilities, also ``<name>.npz`` (H, W, classes) float16; with overlays,
    ``overlays/<name>.png``. Raises :class:`Problem` if the model does not fit or there is
    nothing to do, and at the end if a picture could not be read, with all others done.
    """
    facts = datasets_spec.load(dataset).dataset
    files = _pictures(source, target)
    model = provenance.load(paths.run(dataset) / paths.MODEL, dataset, facts, settings)
    network = settings.train.network
    failed: dict[Path, str] = {}
    dark: list[Path] = []
    bar = tqdm(total=len(files), desc=f"predict {dataset}", unit="picture", disable=None)
    with bar:
        for batch in _batches(_readable(files, failed, dark), settings.evaluate.batch_slices):
            squares = [_square(picture) for _, picture in batch]
            for (file, picture), guess in zip(
                batch, probabilities(model, squares, network), strict=True
            ):
                guess = _at(guess, picture.shape)
                ids = guess.argmax(axis=-1).astype(np.uint8)
                colors.write_mask(target / f"{file.stem}.png", ids, facts.label_map)
                if with_probabilities:
                    np.savez_compressed(target / f"{file.stem}.npz", guess.astype(np.float16))
                if with_overlays:
                    (target / "overlays").mkdir(exist_ok=True)
                    overlay = Image.fromarray(draw.outlined(picture, ids, facts.label_map))
                    overlay.save(target / "overlays" / f"{file.stem}.png", compress_level=1)
            bar.update(len(batch))
    print(f"predict {dataset}: {len(files) - len(failed)} of {len(files)} pictures, in {target}")
    if dark:
        print(
            f"  {len(dark)} of {len(files)} pictures look almost black, such as {dark[0]}:"
            " 12-bit values in 16-bit files? rescale them"
        )
    if failed:
        for file, reason in failed.items():
            print(f"  {file}: {reason}", file=sys.stderr)
        raise Problem(
            f"expected readable pictures, got {len(failed)} that are not, each named above",
            where=source,
            remedy="The others are done; mend or remove these and run again.",
        )


def read_picture(file: Path) -> NDArray[np.uint8]:
    """A picture of any depth as grey (H, W) uint8; 16 bits keep their upper eight.

    Raises :class:`Problem` if it cannot be read to its end or is too large.
    """
    with colors.opened(file) as opened:
        if max(opened.size) > _LONGEST_PX:
            width, height = opened.size
            raise ValueError(
                f"expected at most {_LONGEST_PX} pixels a side, got {width} x {height}"
            )
        opened.load()
        if _is_deep(opened):
            deep = np.asarray(opened).astype(np.int64)
            return np.asarray(np.clip(deep >> 8, 0, 255), np.uint8)
        return np.asarray(opened.convert("L"), np.uint8)


def probabilities(
    model: keras.Model, pictures: Sequence[NDArray[np.uint8]], network: Network
) -> NDArray[np.float32]:
    """Grey pictures -> (B, px, px, classes) float32 at the network's size."""
    predicted = model.predict_on_batch(model_input(pictures, network))
    return np.asarray(predicted, np.float32)


def class_ids(probability: NDArray[np.float32], px: int) -> NDArray[np.uint8]:
    """Probabilities (n, n, classes) of one picture -> the likeliest class ids (px, px).

    The probabilities, not the ids, are enlarged (linearly), which keeps outlines smooth.
    """
    ids: NDArray[np.uint8] = _enlarged(probability, px).argmax(axis=-1).astype(np.uint8)
    return ids


def _enlarged(probability: NDArray[np.float32], px: int) -> NDArray[np.float32]:
    if len(probability) == px:
        return probability
    enlarged: Any = cv2.resize(probability, (px, px), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.float32)


def _pictures(source: Path, target: Path) -> list[Path]:
    if not source.is_dir():
        raise Problem("expected a folder of pictures, found none", where=source)
    if target.resolve() == source.resolve():
        raise Problem(
            "expected another folder than the pictures' own, which masks would overwrite",
            where=target,
            remedy="Name another one with --output.",
        )
    files = sorted(file for file in source.iterdir() if file.suffix.lower() in _SUFFIXES)
    if not files:
        raise Problem(f"expected pictures ({', '.join(_SUFFIXES)}), found none", where=source)
    stems: dict[str, Path] = {}
    for file in files:
        other = stems.setdefault(file.stem, file)
        if other != file:
            raise Problem(
                f"expected names of their own, got {other.name} and {file.name}",
                where=source,
                remedy="Both masks would have one name: rename one of them.",
            )
    return files


def _readable(
    files: Iterable[Path], failed: dict[Path, str], dark: list[Path]
) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    for file in files:
        try:
            picture = read_picture(file)
        except Problem as problem:
            failed[file] = problem.what
            continue
        if picture.max() < _DARK:
            with colors.opened(file) as opened:
                dark += [file] if _is_deep(opened) else []
        yield file, picture


def _is_deep(opened: Image.Image) -> bool:
    """Whether its values have more than 8 bits."""
    return opened.mode.startswith(("I", "F"))


def _batches(
    pictures: Iterator[tuple[Path, NDArray[np.uint8]]], count: int
) -> Iterator[list[tuple[Path, NDArray[np.uint8]]]]:
    while batch := list(islice(pictures, count)):
        yield batch


def _square(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) -> (n, n), n the longer side, black around it."""
    (top, bottom), (left, right) = _margins(picture.shape)
    return np.pad(picture, ((top, bottom), (left, right)))


def _at(probability: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Probabilities (px, px, classes) of a square -> those (H, W, classes) of its picture."""
    side = max(shape)
    (top, _), (left, _) = _margins(shape)
    whole = _enlarged(probability, side)
    return whole[top : top + shape[0], left : left + shape[1]]


def _margins(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    return [((max(shape) - n) // 2, max(shape) - n - (max(shape) - n) // 2) for n in shape]
