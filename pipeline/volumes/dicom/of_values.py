"""Rules about the values of a sound DICOM series: what is worth to know."""

from __future__ import annotations

from pipeline.volumes.dicom import rules
from pipeline.volumes.dicom.of_likeness import has_own_frames
from pipeline.volumes.dicom.rules import Evidence, Match, SeriesRule, Slices


def _of_own_rescale(slices: Slices) -> Evidence | None:
    slopes, intercepts = ({one.rescale[part] for one in slices} for part in (0, 1))
    if len(slopes) == 1 and len(intercepts) == 1:
        return None
    return Evidence(
        {
            "least_slope": min(slopes),
            "most_slope": max(slopes),
            "least_intercept": min(intercepts),
            "most_intercept": max(intercepts),
        }
    )


def _of_no_rescale(slices: Slices) -> Evidence | None:
    bare = any(one.modality == "CT" and not one.rescaled for one in slices)
    return Evidence({}) if bare else None


def _of_compression(slices: Slices) -> Evidence | None:
    lossy = [one for one in slices if one.lossy]
    if not lossy:
        return None
    syntaxes = ", ".join(sorted({one.syntax.name for one in lossy}))
    return Evidence({"slices": len(lossy), "of": len(slices), "syntaxes": syntaxes})


def _of_uids(slices: Slices) -> Evidence | None:
    known = [one.name for one in slices]
    return Evidence({}) if "" in known or len(set(known)) < len(known) else None


def _of_bits(slices: Slices) -> Evidence | None:
    bits = {one.stored[1] for one in slices}
    return Evidence({"least": min(bits), "most": max(bits)}) if len(bits) > 1 else None


def _of_frames(slices: Slices) -> Evidence | None:
    return Evidence({"slices": len(slices)}) if has_own_frames(slices) else None


VALUES: tuple[SeriesRule[Slices], ...] = (
    SeriesRule(
        code="rescale-per-slice",
        asks="RescaleSlope and RescaleIntercept are the same in every slice",
        reason="each slice is rescaled by its own, as PET and some MR need it",
        check=_of_own_rescale,
    ),
    SeriesRule(
        code="no-rescale",
        asks="a CT states RescaleSlope and RescaleIntercept",
        reason="its stored values are taken as HU, which its histogram has to confirm",
        check=_of_no_rescale,
    ),
    SeriesRule(
        code="mixed-bits",
        asks="BitsStored is the same in every slice",
        reason="each slice is decoded by its own",
        check=_of_bits,
    ),
    SeriesRule(
        code="own-frames-of-reference",
        asks="not every slice has a FrameOfReferenceUID of its own",
        tolerance="slices in one even line",
        reason="positions of one even line are in one frame, whatever an anonymiser made of its"
        " UID; no DICOM SEG can refer to it",
        check=_of_frames,
    ),
    SeriesRule(
        code="lossy-compression",
        asks="the pixels were compressed without loss",
        reason="fine texture may be lost",
        check=_of_compression,
    ),
    SeriesRule(
        code="odd-instance-uids",
        asks="every slice has a SOPInstanceUID of its own",
        reason="a prediction cannot be written per source instance",
        check=_of_uids,
    ),
)


def of_values(ordered: Slices) -> list[Match]:
    """What is right in the volume but worth to know."""
    return rules.every(VALUES, ordered)
