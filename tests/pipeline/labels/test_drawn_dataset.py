"""A dataset whose labels are DICOM SEG, and one whose labels are RTSTRUCT, through ``convert``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

import datasets_spec
from datasets_spec.contract import LabelMap, Problem
from model.delivery import seg
from pipeline import paths
from pipeline.convert import convert
from pipeline.fetch import fetch
from pipeline.pairs import manifest, png
from pipeline.pairs.truth import KeptTruth
from pipeline.params import reader as params
from pipeline.virtual import dicom_writer
from pipeline.volumes import findings
from tests.conftest import PROJECT
from tests.model.delivery import series
from tests.support import outlines

pytestmark = pytest.mark.slow

NAME = "drawn_heads"
SHAPE = (5, 40, 32)
TILTS = {"p1": 0.0, "p2": 14.0, "p3": -9.0}
UNEVEN = {"p1": (0.0, 10.0, 20.0, 25.0, 30.0)}  # mm, by slice: two thicknesses
ABOUT = seg.About("model", "ab" * 32, "0.1.0", "drawn by a test")
ADAPTER = '''"""Heads, with what was drawn on them.

<patient>/scan/*.dcm    the series
<patient>/drawn         a DICOM SEG or an RTSTRUCT
"""

from datasets_spec.contract import (
    Case, Dataset, Label, LabelMap, Licence, Source, Window, folders_in,
)

DATASET = Dataset(
    title="Drawn heads",
    modality="CT",
    window=Window(40, 80),
    label_map=LabelMap(
        (
            Label(0, "background", (0, 0, 0), "everything else", names=("background", "BODY")),
            Label(1, "core", (230, 159, 0), "the inner part", names=("Core left", "core_right")),
            Label(2, "rim", (86, 180, 233), "the outer part"),
        )
    ),
    source=Source(
        homepage="https://example.org",
        citation="unpublished",
        licence=Licence("CC BY 4.0", redistribute=True, commercial=True),
        instructions="Copy the folders.",
    ),
)


def cases(raw):
    for patient in folders_in(raw):
        yield Case(patient, patient, raw / patient / "scan", {"": raw / patient / "drawn"})
'''


@dataclass(frozen=True)
class Cohort:
    settings: params.Params
    ids: dict[str, np.ndarray]  # by patient: (slices, rows, columns) as the instances store them


def head(number: int) -> tuple[np.ndarray, np.ndarray]:
    """HU and class ids (slices, rows, columns) of a head with a core in a rim."""
    z, y, x = np.indices(SHAPE)
    off = np.sqrt(((y - 20) / 1.2) ** 2 + (x - 16 + number) ** 2)
    ids = np.select([off < 3, off < 6 - np.abs(z - 2)], [1, 2]).astype(np.uint8)
    ids[[0, -1]] = 0
    noise = np.random.default_rng(number).normal(0, 5, SHAPE)
    values = np.where(off < 14, 35 + 10 * ids, -1000) + noise
    return np.rint(values).astype(np.int16), ids


def segmentation(file: Path, slices, ids: np.ndarray) -> None:
    pytest.importorskip("highdicom", reason="the extra seg is not installed")
    names = ("core_right", "rim")
    labels = series.label_map(2).labels
    own = [replace(one, name=name) for one, name in zip(labels[1:], names, strict=True)]
    seg.write(file, slices, ids, LabelMap((labels[0], *own)), ABOUT)


def structures(file: Path, slices, ids: np.ndarray) -> None:
    drawn = {"Core Left": ids == 1, "rim": ids == 2, "BODY": np.ones(SHAPE, bool)}
    outlines.write(file, {name: outlines.outlines_of(slices, mask) for name, mask in drawn.items()})


DRAWN = {"seg": segmentation, "rtstruct": structures}


def make(draw) -> dict[str, np.ndarray]:
    ids = {}
    for number, (patient, tilt) in enumerate(TILTS.items()):
        folder = paths.raw(NAME) / patient
        values, ids[patient] = head(number)
        made = dicom_writer.WrittenSeries(f"{patient} ct", f"Person {number}", 1, False)
        frame = dicom_writer.Frame.around((0.0, 0.0, 0.0), SHAPE, 0.7, 5.0, tilt)
        dicom_writer.write(folder / "scan", made, frame, values)
        for file in (folder / "scan").rglob("*.dcm") if patient in UNEVEN else ():
            header = pydicom.dcmread(file)
            header.ImagePositionPatient[2] = UNEVEN[patient][header.InstanceNumber - 1]
            header.save_as(file)
        draw(folder / "drawn", series.read(folder / "scan"), ids[patient])
    return ids


@pytest.fixture(params=DRAWN)
def cohort(
    request: pytest.FixtureRequest, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cohort]:
    modules = workplace / "modules"
    modules.mkdir()
    (modules / f"{NAME}.py").write_text(ADAPTER, "utf-8")
    monkeypatch.setattr(datasets_spec, "__path__", [*datasets_spec.__path__, str(modules)])
    settings = params.load("virtual_ncct", PROJECT / "params.yaml")
    small = replace(settings, convert=replace(settings.convert, image_px=64))
    yield Cohort(small, make(DRAWN[request.param]))
    sys.modules.pop(f"datasets_spec.{NAME}", None)


def test_what_was_drawn_becomes_masks_and_truth_and_no_name_leaves(cohort: Cohort, capsys) -> None:
    fetch(NAME, 1)
    assert re.search(r"core +3 +3\n +rim +3 +3\n", capsys.readouterr().out)
    convert(NAME, cohort.settings, workers=1)
    folder = paths.converted(NAME)
    pairs = manifest.read(folder)
    assert len(pairs) == len(TILTS) * SHAPE[0]
    label_map = datasets_spec.load(NAME).dataset.label_map
    truths = [KeptTruth.of(folder, pair).stack("") for pair in pairs if not pair.slice_index]
    found = {name for name, one in cohort.ids.items() for own in truths if (own == one).all()}
    assert found == set(TILTS)
    masks = [png.read_mask(folder / pair.mask, label_map) for pair in pairs]
    assert {one for mask in masks for one in np.unique(mask).tolist()} == {0, 1, 2}
    content = b"".join(
        file.read_bytes() for file in folder.rglob("*") if file.suffix in (".json", ".parquet")
    )
    raw = pydicom.dcmread(next((paths.raw(NAME) / "p1" / "scan").rglob("*.dcm")))
    for name in (raw.SOPInstanceUID, raw.PatientID, "Core", "BODY", "core_right"):
        assert str(name).encode() not in content
    codes = {one.code for pair in pairs for one in findings.from_json(pair.findings)}
    assert codes & {"frames-by-position", "contours-left-out"} == set()
    assert {"gantry-tilt", "uneven-steps"} <= codes


def test_another_drawing_of_one_patient_makes_its_pairs_anew_and_no_others(
    cohort: Cohort,
) -> None:
    convert(NAME, cohort.settings, workers=1)
    before = {pair.id: pair for pair in manifest.read(paths.converted(NAME))}
    file = paths.raw(NAME) / "p2" / "drawn"
    content = pydicom.dcmread(file)
    if "ROIContourSequence" in content:
        content.ROIContourSequence[0].ContourSequence.pop()
    else:
        content.PixelData = bytes(len(content.PixelData))
    content.save_as(file)
    convert(NAME, cohort.settings, workers=1)
    after = {pair.id: pair for pair in manifest.read(paths.converted(NAME))}
    changed = {one.case for key, one in after.items() if one.fingerprint != before[key].fingerprint}
    assert len(changed) == 1
    assert sum(pair.class_pixels[1] for pair in after.values()) < sum(
        pair.class_pixels[1] for pair in before.values()
    )


def test_one_unknown_name_costs_one_case_and_is_named(cohort: Cohort, capsys) -> None:
    file = paths.raw(NAME) / "p3" / "drawn"
    content = pydicom.dcmread(file)
    if "StructureSetROISequence" in content:
        content.StructureSetROISequence[1].ROIName = "Ring"
    else:
        content.SegmentSequence[1].SegmentLabel = "Ring"
    content.save_as(file)
    fetch(NAME, 1)
    assert "got 'Ring' among" in capsys.readouterr().err
    with pytest.raises(Problem, match="1 of 3 could not be made"):
        convert(NAME, cohort.settings, workers=1)
    assert len(manifest.read(paths.converted(NAME))) == 2 * SHAPE[0]
