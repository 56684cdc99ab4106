"""The rules of a plan, one function each: what of a cohort decides, and what follows.

A rule is pure and gives a value with its reason. Figures without another source are measured on the
100 hippocampus patients that were kept apart (docs/decisions/planning.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets_spec.contract import PLANES
from model.planning.cohort import Cohort

CUBES = 2.0
"""Below this ratio of the largest to the smallest spacing, other planes are as sharp as the own."""
NEAR = 2.0
"""Slices that are at most so many pixels apart show nearly the same: two on either side help."""
REACH_MM = 6.0
"""Slices farther apart than that show other anatomy than their neighbours."""
COMMON = 1 / 3
"""Where each class is in so many of the slices, the pictures show it often enough; else so many are
drawn for the classes (the share of nnU-Net, Isensee et al., Nat. Methods 2021)."""
HEAD_MM = 120.0
"""From this width on, a picture shows both sides of the head."""
_BRIDGE_PX = 8  # about the side of the deepest level: its convolutions then see all of a picture
_MOST_LEVELS, _DEEPEST_DROPOUT = 6, 0.15
_PICTURES_PX = 512  # lengths of steps in pixels are those of pictures of this size
_SIDES = ("left", "right", "lh", "rh")


Step = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Choice:
    """A value of a plan and why; ``stated``: people have written it, and it stands."""

    value: Any
    reason: str
    stated: bool = False


def source(cohort: Cohort, mode: str) -> Choice:
    """Slices of the kept scans, at the network's own size; else the pictures of the split."""
    if mode != "online":
        return Choice("pairs", f"augment.mode is {mode}: variants lie on the disk")
    if not cohort.kept:
        return Choice("pairs", "convert has kept no scans of this dataset")
    return Choice("scans", "slices drawn straight at the network's size")


def planes(cohort: Cohort, source: str) -> Choice:
    """The planes that are worth a network, the dataset's own first."""
    own = cohort.plane
    if source == "pairs":
        return Choice((own,), "pictures of the split have one plane")
    if cohort.spacing is None:
        return Choice((own,), "pictures have one plane")
    if cohort.uneven:
        return Choice((own,), "some series have no one spacing: no other plane is whole")
    ratio = cohort.anisotropy
    if ratio < CUBES:
        others = tuple(one for one in PLANES if one != own)
        return Choice((own, *others), f"voxels are about cubes (sides 1 : {ratio:.2g})")
    sharp = max(PLANES, key=cohort.across)
    return Choice((sharp,), f"its slices are {ratio:.2g} times as far apart as its pixels")


def neighbours(cohort: Cohort, source: str, plane: str) -> Choice:
    """How many slices on either side are shown too."""
    if source == "pairs":
        return Choice(0, "pairs are single slices")
    if cohort.slices < 3 * cohort.cases:
        return Choice(0, "cases are single slices")
    if cohort.spacing is None:
        return Choice(1, "how far apart slices lie is not known: one on either side")
    apart, ratio = cohort.across(plane), cohort.across(plane) / cohort.within(plane)
    if ratio <= NEAR:
        return Choice(2, f"slices are {apart:.3g} mm apart, {ratio:.2g} pixels")
    if apart <= REACH_MM:
        return Choice(1, f"slices are {apart:.3g} mm apart, {ratio:.2g} pixels")
    return Choice(0, f"slices are {apart:.3g} mm apart: others show other anatomy")


def levels(px: int) -> int:
    """Levels until the deepest is about 8 pixels wide, 6 at most.

    >>> [levels(px) for px in (32, 64, 128, 256, 512)]
    [3, 4, 5, 6, 6]
    """
    return max(2, min(_MOST_LEVELS, round(math.log2(px / _BRIDGE_PX)) + 1))


def fitting(px: float, num_layers: int = 0) -> tuple[int, int]:
    """The least side of a network's picture that is not below ``px``, and its levels.

    >>> fitting(59), fitting(120), fitting(181)
    ((64, 4), (128, 5), (192, 5))
    """
    deep = num_layers or levels(round(px))
    step = 2 ** (deep - 1)
    return max(1, math.ceil(px / step - 1e-6)) * step, deep


def dropout(num_layers: int) -> Choice:
    """A rate that makes .15 at the deepest level, as the hippocampus preset has."""
    rate = round(_DEEPEST_DROPOUT / (num_layers - 1), 2)
    return Choice(rate, f"times {num_layers - 1} at the deepest level")


def oversampling(cohort: Cohort) -> Choice:
    """The part of the pictures that is drawn for the classes in turn."""
    known = [(one.slices, one.name) for one in cohort.classes if one.slices is not None]
    if not known:
        lesions = any(one.lesion for one in cohort.classes)
        return Choice(0.33 * lesions, "for lesions" if lesions else "tissues are in most slices")
    share, name = min(known)
    found = f"{name} is in {share:.0%} of the slices"
    if share >= COMMON:
        return Choice(0.0, f"{found}, the rarest class")
    return Choice(0.33, f"{found}: a third is drawn for the classes in turn")


def channel_dropout(cohort: Cohort) -> Choice | None:
    """How often a channel is left out, where cases lack some."""
    if not cohort.lacking:
        return None
    return Choice(0.3, f"{cohort.lacking:.0%} of the cases lack a channel")


def flips(cohort: Cohort, plane: str) -> bool:
    """Whether a picture may be mirrored from left to right: it shows both sides of a head, and no
    class is of one side."""
    sided = any(part in _SIDES for one in cohort.classes for part in one.name.split("_"))
    wide = cohort.extent is not None and cohort.extent[0] >= HEAD_MM
    return wide and plane != "sagittal" and not sided


def variants(cohort: Cohort, plane: str, whole_px: int) -> Choice:
    """Three variants, so that three in four pictures are changed, drawn anew whenever one is shown.

    Whole heads lie alike in all scans, crops do not; a CT's values are calibrated, an MR's are not.
    A blur is of up to a pixel of the network's pictures, which are ``whole_px`` wide.
    """
    head = cohort.extent is None or cohort.extent[0] >= HEAD_MM
    turn, size, move = (15.0, 1.15, 0.06) if head else (20.0, 1.25, 0.08)
    scale, shift = [round(1 / size, 2), size], [-move, move]
    placed = {
        "RandomAffine": {
            "degrees": [-turn, turn],
            "scale_x": scale,
            "scale_y": scale,
            "shift_x": shift,
            "shift_y": shift,
        }
    }
    bend = {"sd_px": 6.0, "sigma_px": 32.0} if head else {"sd_px": 12.0, "sigma_px": 48.0}
    calibrated = cohort.modality == "CT"
    gamma, factor = ([0.85, 1.2], [0.85, 1.15]) if calibrated else ([0.6, 1.6], [0.75, 1.25])
    tones: list[Step] = [
        {"Gamma": {"gamma": gamma}},
        {"Contrast": {"factor": factor, "brightness": [-25.0, 25.0]}},
    ]
    blur = {"Soften": {"sigma_px": [0.0, round(_PICTURES_PX / whole_px, 2)]}}
    noise = {"Noise": {"sd": [0.0, 10.0]}}
    mirrored = flips(cohort, plane)
    first: list[Step] = [{"Flip": {"axis": "horizontal", "p": 0.5}}] if mirrored else []
    why = "whole heads" if head else "crops, which lie freely"
    why += "; calibrated values" if calibrated else "; values of no fixed scale"
    why += "; both sides alike" if mirrored else "; not mirrored"
    return Choice(
        {
            "moved": [*first, placed, *tones],
            "bent": [*first, placed, {"Elastic": bend}, *tones],
            "rough": [*first, placed, {"Elastic": bend}, blur, noise],
        },
        why,
    )


def advice(cohort: Cohort, windows: Mapping[str, object]) -> list[str]:
    """What a plan cannot decide, but a person may."""
    found: list[str] = []
    if cohort.modality == "CT" and not windows and cohort.spacing is not None:
        found.append(
            "convert.windows: {brain: , blood: , bone: } shows a CT in three windows, which gained"
            " .12 Dice on virtual_ncct; it takes a new conversion, and then a new plan"
        )
    if cohort.raters > 1:
        found.append(
            f"up to {cohort.raters} raters drew a case: convert.raters says what becomes of them"
        )
    if cohort.patients < 3:
        found.append(
            f"{_counted(cohort.patients, 'patient')}: split needs three, one to learn from, one to"
            " choose by and one to judge by, so nothing is trained until there are more"
        )
    elif cohort.patients < 20:
        found.append(
            f"{cohort.patients} patients: one test split says little, let split.folds judge by all"
        )
    return found + [
        f"no patient shows {one.name}: it cannot be learnt"
        for one in cohort.classes
        if not one.patients
    ]


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: "axial", "axial and coronal", "axial, coronal and sagittal"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
