"""Rules about single DICOM files: what makes one unfit, whatever the others are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pipeline.params.limits import Limits
from pipeline.volumes.dicom import rules
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.dicom.rules import FileRule, Match

_EXPORT_AGAIN = "Export or download it again."
_CAPTURES = {"SCREEN SAVE", "SCREEN CAPTURE", "SCREENSHOT"}
_SHOWN = 3  # odd values or places in one line


def is_localizer(one: Instance) -> bool:
    """Whether a picture is an overview of where the slices lie."""
    return not {"LOCALIZER", "SCOUT"}.isdisjoint(one.image_type)


def is_capture(one: Instance) -> bool:
    """Whether a picture is one of a screen, and not of a scanner."""
    return "Secondary Capture" in one.kind or not _CAPTURES.isdisjoint(one.image_type)


def _in_colour(one: Instance) -> bool:
    return one.samples > 1 or one.photometric not in ("", "MONOCHROME1", "MONOCHROME2")


def _distinct(words: Callable[[Instance], Sequence[str]], slices: Sequence[Instance]) -> list[str]:
    return sorted({word for one in slices for word in words(one)})


FILES = (
    FileRule(
        code="burned-in-annotation",
        asks="BurnedInAnnotation is not YES",
        reason="names may stand in the pixels",
        remedy="Names may stand in the pixels: blank them and set the tag to NO, or leave it out.",
        unfit=lambda one, _: one.burned_in,
    ),
    FileRule(
        code="multi-frame",
        asks="NumberOfFrames is 1, or PerFrameFunctionalGroupsSequence states each frame's place",
        reason="nothing else states the places of frames",
        remedy="Take the original export: enhanced multi-frame, or a file for each slice.",
        unfit=lambda one, _: one.frame is None and (one.frames > 1 or "Enhanced" in one.kind),
        numbers=lambda slices, _: {"frames": max(one.frames for one in slices)},
    ),
    FileRule(
        code="mosaic",
        asks="ImageType does not name MOSAIC",
        reason="one picture holds all slices as tiles",
        remedy="Convert it with dcm2niix and use the NIfTI file.",
        unfit=lambda one, _: "MOSAIC" in one.image_type,
    ),
    FileRule(
        code="colour",
        asks="SamplesPerPixel is 1 and PhotometricInterpretation is a grey one",
        reason="colours are no intensities",
        remedy="Take the original grey series.",
        unfit=lambda one, _: _in_colour(one),
        numbers=lambda slices, _: {
            "photometric": ", ".join(_distinct(lambda one: [one.photometric], slices))
        },
    ),
    FileRule(
        code="modality-lookup-table",
        asks="there is no ModalityLUTSequence",
        reason="a table of values need not be linear, and decoders ignore it",
        remedy="Export it with linear values.",
        unfit=lambda one, _: one.lookup,
    ),
    FileRule(
        code="too-large",
        asks="Rows times Columns is within the limit",
        tolerance="`limits.pixels` of the parameter file",
        reason="a damaged header can ask for any amount of memory",
        remedy="Is its header right? If so, and there is memory for it, raise limits.pixels in the"
        " parameter file.",
        unfit=lambda one, limits: math.prod(one.shape) > limits.pixels,
        numbers=lambda slices, limits: {
            "limit": limits.pixels,
            "rows": slices[0].shape[0],
            "columns": slices[0].shape[1],
        },
        last=True,
    ),
    FileRule(
        code="unreadable-pixels",
        asks="the pixel data are complete, and of a known transfer syntax",
        reason="decoders fill up what a shortened file lacks",
        remedy=_EXPORT_AGAIN,
        unfit=lambda one, _: one.pixel_fault,
        numbers=lambda slices, _: {
            "faults": ", ".join(_distinct(lambda one: [one.pixel_fault], slices))
        },
        last=True,
    ),
    FileRule(
        code="odd-values",
        asks="sizes, bits, geometry and rescale are there, and make sense",
        tolerance="a kilometre in geometry, a million units in rescale",
        reason="decoders make up what is missing",
        remedy=_EXPORT_AGAIN,
        unfit=lambda one, _: one.odd,
        numbers=lambda slices, _: {
            "values": ", ".join(_distinct(lambda one: one.odd, slices)[:_SHOWN])
        },
        last=True,
    ),
    FileRule(
        code="missing-geometry",
        asks="ImagePositionPatient, ImageOrientationPatient and PixelSpacing are there",
        reason="without them a slice has no place",
        remedy="Without them a slice has no place; take the original export.",
        unfit=lambda one, _: None in (one.position, one.orientation, one.spacing),
        last=True,
    ),
)
"""What a file is comes first; only of files that are slices is it asked whether their sizes,
pixels, numbers and geometry are whole, and the first that is not explains the others."""


def of_files(slices: Sequence[Instance], limits: Limits) -> list[Match]:
    """What makes single files unfit, whatever the others are."""
    return rules.of_files(FILES, slices, limits)
