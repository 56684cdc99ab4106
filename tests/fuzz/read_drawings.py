"""Readers of drawn labels: DICOM SEG and RTSTRUCT on a series that is sound."""

from __future__ import annotations

import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
from pydicom import uid as uids

from model.delivery import seg
from pipeline.labels import decode
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.volume import Volume
from tests.fuzz import dicom as dicom_files
from tests.fuzz.mutations import Mutation, anything
from tests.fuzz.read_pictures import facts
from tests.fuzz.reader import Reader, Trial, limited, lines_fault
from tests.fuzz.trees import Input
from tests.model.delivery import series
from tests.support import outlines

_SHAPE = (4, 24, 20)
_ABOUT = seg.About("model", "ab" * 32, "0.1.0", "drawn by a fuzzer")


@cache
def _scan() -> tuple[tuple[Instance, ...], Volume]:
    """The instances of a tilted series, and its volume; the files themselves are gone."""
    with tempfile.TemporaryDirectory() as folder:
        slices = series.write(Path(folder), shape=_SHAPE, tilt=11.0)
        if find_spec("highdicom"):
            _made.update(_segmentations(Path(folder), slices))
        return tuple(slices), outlines.volume_of(slices)


_made: dict[str, bytes] = {}


def _ids() -> np.ndarray:
    ids = np.zeros(_SHAPE, np.uint8)
    ids[1:, 4:20, 4:16], ids[1:3, 8:14, 8:12] = 1, 2
    return ids


def _segmentations(folder: Path, slices) -> dict[str, bytes]:
    """SEG files of both kinds and, of one, deflated. Their classes have the names of ``facts``."""
    label_map = facts("values").label_map
    made = {}
    for kind in ("binary", "labelmap"):
        seg.write(folder / kind, slices, _ids(), label_map, _ABOUT, kind)
        made[kind] = (folder / kind).read_bytes()
    content = pydicom.dcmread(folder / "binary")
    content.file_meta.TransferSyntaxUID = uids.DeflatedExplicitVRLittleEndian
    content.save_as(folder / "deflated")
    return {**made, "deflated": (folder / "deflated").read_bytes()}


def _seeds() -> list[Input]:
    slices, _ = _scan()
    names = [label.name for label in facts("values").label_map]
    with tempfile.TemporaryDirectory() as folder:
        drawn = {
            names[one]: outlines.outlines_of(slices, _ids() == one) for one in range(1, len(names))
        }
        contours = outlines.write(Path(folder) / "contours", drawn).read_bytes()
    files = {"contours": contours, **_made}
    return [Input(name, {"drawn.dcm": one}, ("drawn.dcm",)) for name, one in files.items()]


def _drawn(files: tuple[Path, ...], _made_of: Input) -> decode.Drawn:
    _, image = _scan()
    return limited(decode.drawn, facts("values"), image, {"": files[0]})


def _fault(trial: Trial) -> str:
    ids = trial.result.ids[""]
    if ids.dtype != np.uint8 or ids.shape != _scan()[1].array.shape or ids.max() > 2:
        return "ids that are no class's"
    return lines_fault([str(one) for one in trial.result.findings])


_MUTATIONS = (*anything(), Mutation("element", dicom_files.hostile_elements, 6.0))
READERS = (Reader("drawings", _seeds, _MUTATIONS, _drawn, _fault),)
