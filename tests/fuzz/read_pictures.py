"""Readers of PNG and JPEG: slices, labels in three codings, masks, and what predict is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

import datasets_spec
from datasets_spec.contract import Dataset, Label, LabelMap
from pipeline.labels import colours
from pipeline.labels import decode as labels_decode
from pipeline.pairs import png
from pipeline.volumes import reader, volume
from pipeline.volumes.volume import Volume
from tests.fuzz import nifti, pictures, second
from tests.fuzz.reader import Reader, Trial, limited
from tests.fuzz.trees import Input
from tests.support import cohort


def read_image(files: tuple[Path, ...], made: Input) -> Volume:
    picture = files[0] if len(files) == 1 else files
    return limited(reader.read_image, picture)


def facts(coding: str, modality: str = "MR") -> Dataset:
    """A dataset of the three classes that the seeds' labels are drawn in."""
    drawn = pictures.COLOURS[: 2 if coding == "binary" else 3]
    names = ("background", "core", "rim")
    label_map = LabelMap(
        tuple(Label(at, names[at], colour, names[at]) for at, colour in enumerate(drawn))
    )
    source = datasets_spec.load(cohort.DATASET).dataset.source
    return Dataset("fuzz", modality, label_map, source, coding=coding)


def _images_fault(trial: Trial) -> str:
    return nifti.oddity(trial.result) or _slices_fault(trial, trial.result, pictures.grey_of)


def _read_raw(coding: str) -> Callable[[tuple[Path, ...], Input], Volume]:
    dataset = facts(coding)

    def call(files: tuple[Path, ...], made: Input) -> Volume:
        found: tuple[Volume, int] = limited(labels_decode.read_raw, dataset, files)
        return found[0]

    return call


def _raw_fault(coding: str) -> Callable[[Trial], str]:
    def wanted(content: object) -> np.ndarray:
        if coding == "colours":
            return colours.pack(pictures.rgb_of(content)).astype(np.int64)
        ids = pictures.ids_of(content)
        return (ids > 0).astype(np.uint8) if coding == "binary" else ids

    def fault(trial: Trial) -> str:
        return nifti.oddity(trial.result) or _slices_fault(trial, trial.result, wanted)

    return fault


def _slices_fault(trial: Trial, read: Volume, decode: Callable[[object], np.ndarray]) -> str:
    slices = volume.slices(read.array, "axial")
    sound = volume.slices(trial.sound.array, "axial")
    if len(slices) != len(trial.made.main):
        return "another number of slices than files"
    for index, name in enumerate(trial.made.main):
        found = _pixels_fault(slices[index], trial.made.tree.get(name), sound[index], decode)
        if found:
            return found
    return ""


def _pixels_fault(
    read: np.ndarray, content: object, sound: np.ndarray, decode: Callable[[object], np.ndarray]
) -> str:
    damage = ""
    try:
        wanted = decode(content)
    except second.Undecided:
        return ""
    except second.Damaged as error:
        wanted, damage = sound, f"a damaged file ({error}) read as "
    if read.shape != wanted.shape:
        return f"{damage}another shape than the second reader's"
    return "" if np.array_equal(read, wanted) else f"{damage}other pixels than the second reader's"


def _label_seeds(coding: str) -> Callable[[], list[Input]]:
    return lambda: pictures.label_seeds()[coding]


def _single(seeds: Callable[[], list[Input]]) -> Callable[[], list[Input]]:
    """The first slice of each stack, as an input of one file."""

    def first() -> list[Input]:
        return [
            dataclasses.replace(one, tree={one.main[0]: one.tree[one.main[0]]}, main=one.main[:1])
            for one in seeds()
        ]

    return first


def _mask_fault(trial: Trial) -> str:
    def wanted(content: object) -> np.ndarray:
        packed = colours.pack(pictures.rgb_of(content))
        ids = np.full(packed.shape, 255, np.uint8)
        for at, colour in enumerate(pictures.COLOURS):
            ids[packed == colours.pack(np.array(colour))] = at
        return ids

    if trial.result.dtype != np.uint8 or trial.result.max(initial=0) > 2:
        return "ids that are no class's"
    content = trial.made.tree.get(trial.made.main[0])
    return _pixels_fault(trial.result, content, trial.sound, wanted)


def _grey_fault(trial: Trial) -> str:
    def wanted(content: object) -> np.ndarray:
        grey = pictures.grey_of(content)
        return (grey >> 8).astype(np.uint8) if grey.dtype != np.uint8 else grey

    if trial.result.dtype != np.uint8 or trial.result.ndim != 2:
        return "no grey picture of 8 bits"
    content = trial.made.tree.get(trial.made.main[0])
    return _pixels_fault(trial.result, content, trial.sound, wanted)


def _read_picture(files: tuple[Path, ...], _: Input) -> np.ndarray:
    """As predict does."""
    from model.delivery import picture

    read: np.ndarray = limited(picture.read, files[0]).picture
    return read


def _stack_reader(coding: str) -> Reader:
    return Reader(
        f"labels-{coding}",
        _label_seeds(coding),
        pictures.MUTATIONS,
        _read_raw(coding),
        _raw_fault(coding),
        0.5,
    )


READERS = (
    Reader("images", pictures.image_seeds, pictures.MUTATIONS, read_image, _images_fault),
    *(_stack_reader(coding) for coding in ("values", "binary", "colours")),
    Reader(
        "mask",
        _single(_label_seeds("colours")),
        pictures.MUTATIONS,
        lambda files, _: limited(png.read_mask, files[0], facts("values").label_map),
        _mask_fault,
        0.5,
    ),
    Reader(
        "image",
        _single(lambda: pictures.image_seeds()[:1]),
        pictures.MUTATIONS,
        lambda files, _: limited(png.read_image, files[0]),
        _grey_fault,
        0.5,
    ),
    Reader(
        "predict",
        _single(pictures.image_seeds),
        pictures.MUTATIONS,
        _read_picture,
        _grey_fault,
        heavy=True,
    ),
)
