"""predict: a trained network on pictures of any size; masks at the pictures' own size."""

from __future__ import annotations

import logging
import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

import datasets_spec
from datasets_spec.contract import LabelMap, Problem
from model import params, provenance
from model.inference import pictures as inference
from model.network_input import picture_at
from pipeline import paths
from pipeline.pages import draw
from pipeline.pairs import png
from pipeline.params.limits import Limits
from pipeline.runtime.files import is_regular, replacing
from pipeline.volumes import picture_files
from pipeline.volumes.limits import require_pixels

_LOG = logging.getLogger(__name__)
_SUFFIXES = (".png", ".jpg", ".jpeg")
_PICTURES = "pictures"
_SCANS = {
    "NIfTI": (".nii", ".nii.gz", ".hdr", ".img"),
    "MGH": (".mgz", ".mgh"),
    "NRRD": (".nrrd", ".nhdr"),
    "MetaImage": (".mha", ".mhd"),
    "DICOM": (".dcm", ".dcm.gz", ".ima", ".dicom"),
}
_PREAMBLE = 128  # bytes before "DICM" (DICOM PS3.10, 7.1)
_DARK = 16


@dataclass(frozen=True)
class _Shown:
    """A picture that was read: where from, its own size, and how the network sees it."""

    file: Path
    shape: tuple[int, int]
    small: NDArray[np.uint8]


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
    ``overlays/<name>.png``. One picture at a time is in memory at its own size: about 5 bytes a
    pixel, 15 with overlays. Raises :class:`Problem` if the model does not fit, there is nothing
    to do or scans lie there too, and at the end if a picture could not be read, with all others
    done.
    """
    facts = datasets_spec.load(dataset).dataset
    files = _pictures(source, target)
    model = provenance.load(paths.run(dataset) / paths.MODEL, dataset, facts, settings)
    network = settings.train.network
    failed: dict[Path, str] = {}
    dark: list[Path] = []
    bar = tqdm(total=len(files), desc=f"predict {dataset}", unit="picture", disable=None)
    with bar:
        shown = _readable(files, settings, failed, dark)
        while batch := list(islice(shown, settings.evaluate.batch_slices)):
            guesses = inference.probabilities(model, [one.small for one in batch], network)
            for one, guess in zip(batch, guesses, strict=True):
                ids = np.empty(one.shape, np.uint8)
                for rows, strip in inference.strips(guess, one.shape):
                    ids[rows] = strip.argmax(axis=-1)
                png.write_mask(target / f"{one.file.stem}.png", ids, facts.label_map)
                if with_probabilities:
                    _write_probabilities(target / f"{one.file.stem}.npz", guess, one.shape)
                if with_overlays:
                    _write_overlay(target, one.file, ids, facts.label_map, settings.limits)
                bar.update()
    done = len(files) - len(failed)
    _LOG.info("predict %s: %d of %d pictures, in %s", dataset, done, len(files), target)
    _report_doubts(source, files, failed, dark)


def _write_overlay(
    target: Path, file: Path, ids: NDArray[np.uint8], label_map: LabelMap, limits: Limits
) -> None:
    """The picture with the outlines of its mask."""
    picture, _ = read_picture(file, limits)
    overlay = Image.fromarray(draw.outlined(picture, ids, label_map))
    (target / "overlays").mkdir(exist_ok=True)
    overlay.save(target / "overlays" / f"{file.stem}.png", compress_level=1)


def _report_doubts(
    source: Path, files: Sequence[Path], failed: Mapping[Path, str], dark: Sequence[Path]
) -> None:
    """Say which pictures look wrong; raises :class:`Problem` if some could not be read."""
    if dark:
        _LOG.info(
            "  %d of %d pictures look almost black, such as %s: 12-bit values in 16-bit files?"
            " rescale them",
            len(dark),
            len(files),
            dark[0],
        )
    for file, reason in failed.items():
        _LOG.error("  %s: %s", file, reason)
    if failed:
        raise Problem(
            f"expected readable pictures, got {len(failed)} that are not, each named above",
            where=source,
            remedy="The others are done; repair or remove these and run again.",
        )


def read_picture(file: Path, limits: Limits) -> tuple[NDArray[np.uint8], bool]:
    """A PNG or JPEG of any depth as grey (H, W) uint8, and whether it is deeper than 8 bits.

    Of deeper ones the upper 8 of 16 bits are kept. Raises :class:`Problem` if it cannot be read
    to its end, is too large, or is no regular file.
    """
    with picture_files.opened(file, limits) as opened:
        _require_square(opened.size, limits, file)
        if not opened.mode.startswith(("I", "F")):
            return np.asarray(opened.convert("L"), np.uint8), False
        deep = np.asarray(opened)
    grey = np.empty(deep.shape, np.uint8)
    for row, values in enumerate(deep):  # not at once: a whole number takes eight times as much
        grey[row] = np.clip(values.astype(np.int64) >> 8, 0, 255)
    return grey, True


def _require_square(shape: tuple[int, int], limits: Limits, file: Path) -> None:
    """A long picture becomes a large square: see :func:`~model.inference.pictures.squared`."""
    require_pixels(shape, limits, file)
    if max(shape) ** 2 > limits.pixels:
        raise Problem(
            f"expected at most {math.isqrt(limits.pixels)} pixels a side, got {shape[0]} x"
            f" {shape[1]}: it is judged in a square, which limits.pixels bounds",
            where=file,
        )


def _pictures(source: Path, target: Path) -> list[Path]:
    """The pictures of the folder itself; what else lies in and below it is named.

    Raises :class:`Problem` if there are none, if two masks would have one name, and if scans lie
    there: their masks are missed only later, by whoever counted on them.
    """
    if not source.is_dir():
        raise Problem("expected a folder of pictures, found none", where=source)
    if target.resolve() == source.resolve():
        raise Problem(
            "expected another folder than the pictures' own, which masks would overwrite",
            where=target,
            remedy="Name another one with --output.",
        )
    kinds: dict[str, list[Path]] = {}
    for file in paths.entries_below(source):
        if not _is_hidden(file, source) and target.resolve() not in file.resolve().parents:
            kinds.setdefault(_kind(file, source), []).append(file)
    pictures = kinds.pop(_PICTURES, [])
    scans = {kind: kinds[kind] for kind in _SCANS if kind in kinds}
    if scans:
        raise Problem(
            f"expected pictures ({', '.join(_SUFFIXES)}) alone, got {_counted(scans)} beside"
            f" {len(pictures)} pictures",
            where=source,
            remedy="predict reads no scans: evaluate predicts those of a dataset"
            " (docs/how-to/own-data.md). To have masks of the pictures, give them a folder of"
            " their own.",
        )
    if not pictures:
        others = f", only {_counted(kinds)}" if kinds else ""
        raise Problem(
            f"expected pictures ({', '.join(_SUFFIXES)}), found none{others}", where=source
        )
    if kinds:
        _LOG.info("  not read in %s: %s", source, _counted(kinds))
    _require_own_names(pictures, source)
    return pictures


def _require_own_names(pictures: Sequence[Path], source: Path) -> None:
    """Raises :class:`Problem` if two masks would have one name."""
    stems: dict[str, Path] = {}
    for file in pictures:
        other = stems.setdefault(file.stem, file)
        if other != file:
            raise Problem(
                f"expected names of their own, got {other.name} and {file.name}",
                where=source,
                remedy="Both masks would have one name: rename one of them.",
            )


def _kind(file: Path, source: Path) -> str:
    """What a file is, by its name, and of nameless kinds by its first bytes."""
    name = file.name.lower()
    for kind, suffixes in _SCANS.items():
        if name.endswith(suffixes):
            return kind
    if name.endswith(_SUFFIXES):
        return _PICTURES if file.parent == source else "pictures in sub-folders"
    if is_regular(file):
        with file.open("rb") as stream:
            if stream.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM":
                return "DICOM"
    return f"{file.suffix.lower() or 'nameless'} files"


def _is_hidden(file: Path, source: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(source).parts)


def _counted(kinds: Mapping[str, Sequence[Path]]) -> str:
    """How many there are of each kind, with an example."""
    return ", ".join(
        f"{len(files)} {kind} (such as {files[0]})" for kind, files in sorted(kinds.items())
    )


def _readable(
    files: Iterable[Path], settings: params.Params, failed: dict[Path, str], dark: list[Path]
) -> Iterator[_Shown]:
    """The pictures that can be read, at the network's size; the others are noted in ``failed``."""
    for file in files:
        try:
            picture, deep = read_picture(file, settings.limits)
        except Problem as problem:
            failed[file] = problem.what
            continue
        if deep and picture.max() < _DARK:
            dark.append(file)
        height, width = picture.shape
        yield _Shown(
            file,
            (height, width),
            picture_at(inference.squared(picture), settings.train.network.image_px),
        )


def _write_probabilities(
    file: Path, probability: NDArray[np.float32], shape: tuple[int, int]
) -> None:
    """What ``np.savez_compressed`` writes of the picture's probabilities as float16, by strips."""
    described = {"descr": "<f2", "fortran_order": False, "shape": (*shape, probability.shape[-1])}
    with (
        replacing(file, durable=False) as unfinished,
        zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as stream,
    ):
        np.lib.format.write_array_header_1_0(stream, described)
        for _, strip in inference.strips(probability, shape):
            stream.write(strip.astype("<f2").tobytes())
