"""Label-meaning probes: what a case's picture shows that speaks against its labels.

A probe speaks only where a label map says that classes are tissues (``Label.tissue``), and it
changes no label. Few rules, each wide enough that a sound case is silent:

- *brightness*, T1w: the medians fall from white matter over grey matter and fluid to air.
  (Not so in the first year of life, before white matter is myelinated.)
- *brightness*, CT: blood is not darker, oedema and infarct not brighter than the undrawn
  tissue within 12 pixels around them, skull and air left out. Where values are HU: the
  middle half of the drawn blood reaches into 50 to 90 HU, which acute clot has (grey matter
  37 to 41, white matter 20 to 30, fluid 0 to 15); the middle half, because thin layers are
  thinned further by partial volume. The median of air is below -500 HU.
- *contact*: fluid touches the cortex, and white matter hardly: it is suspicious if fluid
  borders on white matter more than 1.5 times as often as on grey (Colin27: 1 to 53; the
  exception is a map whose fluid is the ventricles alone). Grey borders on white matter.
  Oedema borders on its blood.
- *place*, CT: brain and lesions do not lie in air: not more than 5 % of a tissue's voxels are below
  -300 HU, nor, where pictures were windowed, more than half at the darkest value.
- *amount*: a lesion is not more than half of the picture (then background and lesion are
  exchanged) nor more than 600 ml, half a brain (60 ml of blood are deadly to nine in ten
  comatose patients, Broderick et al., Stroke 24, 1993; infarcts above 145 ml are called malignant,
  Oppenheim et al., Stroke 31, 2000). Where fluid is drawn too, there is .5 to 4 times as much
  grey as white matter (adults have 1 to 2).

A tissue of fewer than 20 voxels, or of less than 1 % of what is drawn, is not judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import IGNORED, TISSUES, Dataset
from pipeline.labels.rules import FEW_VOXELS, SIGN, enough
from pipeline.labels.tables import RING_PX, T1_ORDER, grown
from pipeline.volumes.findings import PAIR, Finding, finding
from pipeline.volumes.volume import Volume

BLOOD_HU = (50, 90)
AIR_HU = -500
_IN_AIR_HU = -300
_MOST_IN_AIR, _MOST_DARKEST = 0.05, 0.5
_PARENCHYMA_HU = (0, 100)  # between fluid and skull: what a lesion is compared with
_MOST_LESION_ML = 600
_GREY_TO_WHITE = (0.5, 4.0)
_FEW_CONTACTS = 100
_MOST_WHITE_CONTACTS = 1.5
_ENOUGH_VOXELS = 1_000_000  # a median is as good from these as from all
_ENOUGH_SLICES = 24
_CODE = {tissue: code for code, tissue in enumerate(TISSUES, start=1)}


def of_case(
    dataset: Dataset, image: Volume, ids: NDArray[np.uint8], windowed: bool
) -> tuple[Finding, ...]:
    """What is suspicious in class ids (X, Y, Z) of ``image``; nothing where all is well.

    ``windowed``: the picture's values are a publisher's grey values, without HU or geometry.
    """
    codes = np.zeros(IGNORED + 1, np.uint8)  # what nobody annotated is of no tissue
    codes[: len(dataset.label_map)] = [_CODE.get(label.tissue, 0) for label in dataset.label_map]
    present = {TISSUES[code - 1] for code in codes if code}
    if not present:
        return ()
    where = _drawn(ids)
    tissue, shown = codes[ids[where]], image.array[where]
    counts = np.bincount(tissue.ravel("K"), minlength=len(TISSUES) + 1)
    voxels = enough({name: int(counts[_CODE[name]]) for name in present})
    suspicions = [*_contact(tissue, voxels), *_amount(image, codes, ids, voxels, windowed)]
    if dataset.contrast == "T1w":
        suspicions += _t1_order(shown, tissue, voxels)
    if dataset.modality == "CT":
        ends = float(image.array.min()), float(image.array.max())
        bounds = ends if windowed else _PARENCHYMA_HU
        suspicions += _ct(shown, tissue, ids[where] > 0, voxels, bounds, windowed)
    return tuple(suspicions)


def _drawn(ids: NDArray[np.uint8]) -> tuple[slice, ...]:
    """The box of all that is drawn, with the tissue around it that it is compared with."""
    if ids.max(initial=0) == IGNORED:
        ids = np.where(ids == IGNORED, np.uint8(0), ids)
    box = []
    for axis, margin in enumerate((RING_PX, RING_PX, 0)):
        there = np.flatnonzero(ids.max(axis=tuple({0, 1, 2} - {axis})))
        low, high = (there[0], there[-1]) if there.size else (0, -1)
        box.append(slice(max(low - margin, 0), high + margin + 1))
    return tuple(box)


def _t1_order(
    image: NDArray[Any], tissue: NDArray[np.uint8], voxels: Mapping[str, int]
) -> Iterator[Finding]:
    step = max(1, math.ceil(math.sqrt(tissue.size / _ENOUGH_VOXELS)))
    shown, drawn = image[::step, ::step], tissue[::step, ::step]
    medians = {}
    for name in T1_ORDER:
        if name in voxels and (here := shown[drawn == _CODE[name]]).size:
            medians[name] = float(np.median(here))
    for brighter, darker in pairwise(medians):
        if medians[brighter] <= medians[darker]:
            yield finding(
                "brightness-order",
                PAIR,
                brighter=brighter,
                brighter_median=medians[brighter],
                darker=darker,
                darker_median=medians[darker],
            )


def _ct(
    image: NDArray[Any],
    tissue: NDArray[np.uint8],
    drawn: NDArray[np.bool_],
    voxels: Mapping[str, int],
    bounds: tuple[float, float],
    windowed: bool,
) -> Iterator[Finding]:
    for name in sorted(voxels):
        lesion = name in SIGN
        inside, around = _inside_and_around(image, tissue == _CODE[name], drawn, bounds, lesion)
        if lesion and around.size >= FEW_VOXELS:
            yield from _beside(name, inside, around, windowed)
        if not windowed:
            yield from _in_hu(name, inside)
        if name not in ("air", "bone", "soft_tissue"):
            yield from _in_air(name, inside, bounds[0], windowed)


def _beside(
    name: str, inside: NDArray[Any], around: NDArray[Any], windowed: bool
) -> Iterator[Finding]:
    """A lesion that is darker or brighter than its surroundings, the wrong way round."""
    middle, beside = float(np.median(inside)), float(np.median(around))
    if SIGN[name] * (middle - beside) < 0:
        yield finding(
            "brightness-too-dark" if SIGN[name] > 0 else "brightness-too-bright",
            PAIR,
            tissue=name,
            median=middle,
            around=beside,
            unit="" if windowed else " HU",
        )


def _in_hu(name: str, inside: NDArray[Any]) -> Iterator[Finding]:
    """Blood or air whose HU are those of another tissue."""
    low, middle, high = np.percentile(inside, (25, 50, 75))
    least, most = BLOOD_HU
    if name == "blood" and not (high >= least and low <= most):
        yield finding(
            "brightness-blood", PAIR, median=middle, low=low, high=high, least=least, most=most
        )
    if name == "air" and middle >= AIR_HU:
        yield finding("brightness-air", PAIR, median=middle, most=AIR_HU)


def _in_air(name: str, inside: NDArray[Any], darkest: float, windowed: bool) -> Iterator[Finding]:
    """Brain or lesion of which too much lies where the picture shows air."""
    if windowed:
        share = float((inside <= darkest).mean())
        if share > _MOST_DARKEST:
            yield finding("place-darkest", PAIR, share=share, tissue=name)
        return
    share = float((inside < _IN_AIR_HU).mean())
    if share > _MOST_IN_AIR:
        yield finding("place-air", PAIR, share=share, tissue=name, below=_IN_AIR_HU)


def _inside_and_around(
    image: NDArray[Any],
    mask: NDArray[np.bool_],
    drawn: NDArray[np.bool_],
    bounds: tuple[float, float],
    ring: bool,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Values where ``mask`` is, and those of undrawn tissue around it, within ``bounds``."""
    inside, around = [], [np.empty(0, image.dtype)]
    for index in np.flatnonzero(mask.any(axis=(0, 1))):
        shown, here = image[..., index], mask[..., index]
        inside.append(shown[here])
        if ring:
            beside = shown[grown(here) & ~drawn[..., index]]
            around.append(beside[(beside > bounds[0]) & (beside < bounds[1])])
    return np.concatenate(inside), np.concatenate(around)


def _contact(tissue: NDArray[np.uint8], voxels: Mapping[str, int]) -> Iterator[Finding]:
    asked = [
        {"grey_matter", "white_matter"} <= voxels.keys(),
        {"oedema", "blood"} <= voxels.keys(),
    ]
    if not any(asked):
        return
    touching = _contacts(tissue, "oedema" if asked[1] else "grey_matter")

    def between(one: str, other: str) -> int:
        return int(touching[_CODE[one], _CODE[other]] + touching[_CODE[other], _CODE[one]])

    if asked[0]:
        grey, white = between("csf", "grey_matter"), between("csf", "white_matter")
        if grey + white >= _FEW_CONTACTS and white > _MOST_WHITE_CONTACTS * grey:
            yield finding("contact-csf", PAIR, white=white, grey=grey)
        if grey + white >= _FEW_CONTACTS and not between("grey_matter", "white_matter"):
            yield finding("contact-grey-white", PAIR)
    if asked[1] and not between("oedema", "blood"):
        yield finding("contact-oedema", PAIR)


def _contacts(tissue: NDArray[np.uint8], wanted: str) -> NDArray[np.intp]:
    """How often two tissue codes are neighbours within slices that hold ``wanted``: (a, b)."""
    size = len(TISSUES) + 1
    total = np.zeros(size * size, np.intp)
    slices = np.flatnonzero((tissue == _CODE[wanted]).any(axis=(0, 1)))
    step = -(-len(slices) // _ENOUGH_SLICES)
    for index in slices[::step]:
        plane = np.ascontiguousarray(tissue[..., index])
        for one, other in ((plane[1:], plane[:-1]), (plane[:, 1:], plane[:, :-1])):
            total += np.bincount((one * np.uint8(size) + other).ravel(), minlength=size * size)
    return total.reshape(size, size)


def _amount(
    image: Volume,
    codes: NDArray[np.uint8],
    ids: NDArray[np.uint8],
    voxels: Mapping[str, int],
    windowed: bool,
) -> Iterator[Finding]:
    size = math.prod(image.grid.shape)
    for name in sorted(SIGN.keys() & voxels.keys()):
        if voxels[name] > size / 2:
            yield finding("amount-of-picture", PAIR, tissue=name, share=voxels[name] / size)
        elif not windowed and voxels[name] * np.max(image.voxel_ml) > _MOST_LESION_ML:
            ml = image.ml(codes[ids] == _CODE[name])
            if ml > _MOST_LESION_ML:
                yield finding("amount-of-lesion", PAIR, tissue=name, ml=ml, most=_MOST_LESION_ML)
    if {"csf", "grey_matter", "white_matter"} <= voxels.keys():
        ratio = voxels["grey_matter"] / voxels["white_matter"]
        low, high = _GREY_TO_WHITE
        if not low <= ratio <= high:
            yield finding("amount-grey-white", PAIR, ratio=ratio, least=low, most=high)
