"""The functional groups of a multi-frame file: what its header states of each frame by itself.

An enhanced header keeps the tags that a classic one has at its top in sequences, which are shared
by all frames or stand once for each (PS3.3, C.7.6.16). Here every frame gets a header as a classic
file has it, so that all later questions are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pydicom
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.tag import BaseTag, Tag

_SHARED, _EACH = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_GROUPS: dict[str, tuple[str, ...]] = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "CTImageFrameTypeSequence": ("FrameType",),
    "MRImageFrameTypeSequence": ("FrameType", "ComplexImageComponent"),
    "PETFrameTypeSequence": ("FrameType",),
    "XRay3DFrameTypeSequence": ("FrameType",),
    "CTReconstructionSequence": ("ConvolutionKernel",),
    "MREchoSequence": ("EffectiveEchoTime",),
    "MRModifierSequence": ("InversionTimes",),
    "MRDiffusionSequence": ("DiffusionBValue",),
    "CardiacSynchronizationSequence": ("NominalCardiacTriggerDelayTime",),
    "FrameContentSequence": (
        "StackID",
        "TemporalPositionIndex",
        "FrameAcquisitionNumber",
        "FrameAcquisitionDateTime",
    ),
}
_CLASSIC = {
    "FrameType": "ImageType",
    "EffectiveEchoTime": "EchoTime",
    "InversionTimes": "InversionTime",
    "NominalCardiacTriggerDelayTime": "TriggerTime",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "FrameAcquisitionDateTime": "AcquisitionDateTime",
}
"""What a classic header calls the same; the others have one name."""
_GRADIENT = (
    "MRDiffusionSequence",
    "DiffusionGradientDirectionSequence",
    "DiffusionGradientOrientation",
)
_OF_FRAMES = frozenset(_CLASSIC.get(name, name) for names in _GROUPS.values() for name in names) - {
    "ImageType"
}
"""What a multi-frame header states in its groups, wherever else it stands."""


def flattened(header: pydicom.Dataset) -> list[pydicom.Dataset]:
    """A header for each frame, with the tags of a classic file; none where frames have no groups.

    What stands for the frame itself counts before what all share, and that before the top.
    """
    frames = header.get(_EACH) or []
    if not frames:
        return []
    shared = (header.get(_SHARED) or [pydicom.Dataset()])[0]
    top = {
        tag: header.get_item(tag)
        for tag in tuple(header.keys())
        if keyword_for_tag(tag) not in (_SHARED, _EACH, *_OF_FRAMES)
    }
    top |= _stated(shared)
    return [pydicom.Dataset(top | _stated(frame)) for frame in frames]


def _stated(groups: pydicom.Dataset) -> dict[BaseTag, Any]:
    """The elements of functional groups, by the tags under which a classic header has them."""
    stated = {}
    items = [(names, item) for group, names in _GROUPS.items() for item in _first(groups, group)]
    items += [
        ((_GRADIENT[-1],), direction)
        for diffusion in _first(groups, _GRADIENT[0])
        for direction in _first(diffusion, _GRADIENT[1])
    ]
    for names, item in items:
        for name in (one for one in names if one in item):
            classic = Tag(_CLASSIC.get(name, name))
            own = item.get_item(name) if classic == Tag(name) else item[name]
            if classic != Tag(name):
                own = DataElement(classic, own.VR, own.value)
            stated[classic] = own
    return stated


def _first(groups: pydicom.Dataset, group: str) -> Sequence[pydicom.Dataset]:
    return (groups.get(group) or [])[:1]
