"""Class ids of a DICOM series -> DICOM SEG, a frame for each source instance and class.

Every frame has the position of its own source instance and refers to it, so tilted and unevenly
spaced series are described as they are. highdicom makes the object. It is shown the places and
UIDs of the source and nothing of its patient: what the standard demands of that
(:data:`~model.delivery.source_headers.DEMANDED`) is put in afterwards, and nothing else can get in.

The same masks, model and source give the same bytes: UIDs are digests of these, and the content has
the date of the scan, never that of today.
"""

from __future__ import annotations

import hashlib
import re
import uuid
import warnings
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import uid as uids

from datasets_spec.contract import LabelMap, Problem
from model.delivery import source_headers
from model.delivery.segment_codes import Concept, concepts_of
from model.delivery.source_headers import SourceHeaders
from pipeline.runtime import files
from pipeline.volumes.dicom.header import Instance

Kind = Literal["binary", "labelmap"]
_MAKER = "FlexUNet"
_SERIES_NUMBER = 1000  # above those of scanners, which count from 1
_LONG_STRING, _SHORT_TEXT = 64, 1024  # the most characters of the value representations LO and ST
_STAND_IN = uids.CTImageStorage


@dataclass(frozen=True)
class About:
    """Who made the masks: the model's name, the digest of its file, the version of this project,
    and what was computed, in a few words."""

    model: str
    digest: str
    version: str
    algorithm: str


def write(
    file: Path,
    slices: Sequence[Instance],
    ids: NDArray[np.uint8],
    label_map: LabelMap,
    about: About,
    kind: Kind = "binary",
) -> None:
    """Write class ids (N, rows, columns) of a series as a DICOM SEG, completely or not at all.

    ``slices``: N instances in any order; ``ids[i]`` is shown by slice i as it stores its rows and
    columns. ``binary`` has a frame of one bit for each class that a slice shows;
    ``labelmap``, which the standard has had since 2024, a compressed frame of class ids for each
    slice that shows any.

    Raises :class:`Problem` where highdicom is not installed, where the source lacks what a SEG
    refers to, and for an id that the label map does not have.
    """
    if ids.shape != (len(slices), *slices[0].shape):
        raise ValueError(f"masks {ids.shape} of {len(slices)} slices {slices[0].shape}")
    _require_ids(ids, label_map, file)
    seg_package = _highdicom()
    source = source_headers.read(slices)
    names = _Names.of(slices, ids, label_map, about, kind, source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on values of the source, which are written as they are
        seg = _made(seg_package, slices, ids, label_map, about, kind, source, names)
        _complete(seg, source, slices, names)
        with files.replacing(file) as unfinished:
            seg.save_as(unfinished, enforce_file_format=True)


def _highdicom() -> Any:
    """highdicom. Raises :class:`Problem` where it is not installed."""
    try:
        import highdicom
        import highdicom.seg
    except ImportError:
        raise Problem(
            "expected highdicom, which writes DICOM SEG, found none",
            remedy='Install it: pip install "flexunet-pipeline[seg]"',
        ) from None
    return highdicom


def _require_ids(ids: NDArray[np.uint8], label_map: LabelMap, file: Path) -> None:
    highest = int(ids.max(initial=0))
    if highest >= len(label_map):
        raise Problem(
            f"expected class ids 0 to {len(label_map) - 1}, got {highest} in"
            f" {int((ids >= len(label_map)).sum())} voxels",
            where=file,
        )


@dataclass(frozen=True)
class _Names:
    """The UIDs of what is made."""

    series: str
    instance: str
    dimensions: str

    @classmethod
    def of(
        cls,
        slices: Sequence[Instance],
        ids: NDArray[np.uint8],
        label_map: LabelMap,
        about: About,
        kind: Kind,
        source: SourceHeaders,
    ) -> _Names:
        """A series for a model and a source series, an instance for these masks of it."""
        series = repr((astuple(about), source.series))
        content = hashlib.sha256(repr((series, kind, astuple(label_map))).encode())
        for one, mask in zip(slices, ids, strict=True):
            content.update(one.name.encode())
            content.update(np.ascontiguousarray(mask).data)
        digest = content.hexdigest()
        return cls(_uid("series", series), _uid("instance", digest), _uid("dimensions", digest))


def _uid(purpose: str, content: str) -> str:
    """A UID below 2.25, the root of UUIDs (ITU-T X.667), from a digest."""
    digest = hashlib.sha256(f"flexunet seg {purpose} {content}".encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def _made(
    highdicom: Any,
    slices: Sequence[Instance],
    ids: NDArray[np.uint8],
    label_map: LabelMap,
    about: About,
    kind: Kind,
    source: SourceHeaders,
    names: _Names,
) -> Any:
    """A SEG of the masks without any patient.

    Where nothing is in the foreground, it has one empty frame per class: a SEG needs frames.
    """
    stand_ins = [_stand_in(one, slices[0], source) for one in slices]
    shown = len(slices) if ids.any() else 1
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=_line(about.algorithm),
        family=highdicom.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"),
        version=_line(about.version),
    )
    return highdicom.seg.Segmentation(
        source_images=stand_ins[:shown],
        further_source_images=stand_ins[shown:],
        pixel_array=ids[:shown],
        segmentation_type=kind.upper(),
        segment_descriptions=_segments(highdicom, label_map, algorithm),
        series_instance_uid=names.series,
        series_number=_SERIES_NUMBER,
        series_description=_line(f"{about.model}: segmentation"),
        sop_instance_uid=names.instance,
        instance_number=1,
        manufacturer=_MAKER,
        manufacturer_model_name=_line(about.model),
        software_versions=_line(about.version),
        device_serial_number=_line(about.digest),
        content_label="SEGMENTATION",
        content_description=_line(about.algorithm),
        content_date=source.moment[0],
        content_time=source.moment[1],
        specific_character_set="ISO_IR 192",
        transfer_syntax_uid=uids.RLELossless if kind == "labelmap" else uids.ExplicitVRLittleEndian,
        omit_empty_frames=bool(ids.any()),
    )


def _stand_in(one: Instance, first: Instance, source: SourceHeaders) -> pydicom.Dataset:
    """The place and the UIDs of a source instance, and nothing of its patient.

    Its class is one that highdicom knows; :func:`_complete` puts the true one in.
    """
    header = pydicom.Dataset()
    for name in source_headers.DEMANDED:
        setattr(header, name, "")
    header.SOPClassUID = _STAND_IN
    header.SOPInstanceUID = _stand_in_uid(one)
    header.SeriesInstanceUID = source.series
    header.StudyInstanceUID = source.identity["StudyInstanceUID"]
    header.FrameOfReferenceUID = source.identity["FrameOfReferenceUID"]
    header.Rows, header.Columns = one.shape
    header.ImagePositionPatient = list(one.position or ())
    header.ImageOrientationPatient = list(first.orientation or ())
    header.PixelSpacing = list(first.spacing or ())
    header.SliceThickness = source.thickness
    return header


def _stand_in_uid(one: Instance) -> str:
    """A UID for each picture: frames of one file share theirs."""
    return one.uid if one.frame is None else _uid("frame", one.name)


def _segments(highdicom: Any, label_map: LabelMap, algorithm: Any) -> list[Any]:
    """A description of each class in the foreground, whether it occurs or not."""
    segments = []
    for label in label_map.foreground:
        category, kind = concepts_of(label)
        segment = highdicom.seg.SegmentDescription(
            segment_number=label.id,
            segment_label=_line(label.name),
            segmented_property_category=_code(highdicom, category),
            segmented_property_type=_code(highdicom, kind),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            display_color=highdicom.color.CIELabColor.from_rgb(*label.colour),
        )
        segment.SegmentDescription = _line(label.meaning, _SHORT_TEXT)
        segments.append(segment)
    return segments


def _code(highdicom: Any, concept: Concept) -> Any:
    return highdicom.sr.CodedConcept(concept.value, "SCT", concept.meaning)


def _complete(
    seg: pydicom.Dataset, source: SourceHeaders, slices: Sequence[Instance], names: _Names
) -> None:
    """Put in what the standard demands of the source; take out what follows clock and chance."""
    for name, value in (source.identity | source.lossy).items():
        setattr(seg, name, value)
    seg.ContentCreatorName = ""  # which readers expect to be there
    del seg.InstanceCreationDate, seg.InstanceCreationTime, seg.ContributingEquipmentSequence
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = names.dimensions
    own = {
        _stand_in_uid(one): (one, kind) for one, kind in zip(slices, source.classes, strict=True)
    }
    of_frames = [
        reference
        for frame in seg.PerFrameFunctionalGroupsSequence
        for derivation in frame.DerivationImageSequence
        for reference in derivation.SourceImageSequence
    ]
    # each once: those of the series are those of the whole, and segments of a slice share one
    every = {id(one): one for one in (*seg.SourceImageSequence, *of_frames)}
    is_of_frame = {id(one) for one in of_frames}
    for reference in every.values():
        one, kind = own[reference.ReferencedSOPInstanceUID]
        reference.ReferencedSOPInstanceUID = one.uid
        reference.ReferencedSOPClassUID = kind
        if one.frame is not None and id(reference) in is_of_frame:
            reference.ReferencedFrameNumber = one.frame + 1
    _name_files_once(seg)


def _name_files_once(seg: pydicom.Dataset) -> None:
    """List every file of the source once, however many frames of it are referred to."""
    every = {one.ReferencedSOPInstanceUID: one for one in reversed(seg.SourceImageSequence)}
    files = [*reversed(every.values())]
    if len(files) == len(seg.SourceImageSequence):
        return
    seg.SourceImageSequence = pydicom.Sequence(files)
    for series in seg.ReferencedSeriesSequence:
        series.ReferencedInstanceSequence = pydicom.Sequence(files)


def _line(text: str, most: int = _LONG_STRING) -> str:
    """``text`` as one value of at most so many characters: a backslash would part two."""
    return re.sub(r"[\\\s]+", " ", text).strip()[:most].strip()
