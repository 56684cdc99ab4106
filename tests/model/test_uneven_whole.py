"""Series of uneven spacing from convert to a SEG: every volume by its slice's own thickness."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import generate_uid

import datasets_spec
from datasets_spec.contract import Case
from model import params, provenance
from model.__main__ import main
from model.evaluate import evaluate
from pipeline import paths, report
from pipeline.pairs import png
from pipeline.runtime import modelfile
from tests.pipeline.volumes.dicom.test_assemble import write_series
from tests.support import cohort
from tests.support.models import save_untrained

pytestmark = pytest.mark.slow

TWO = (0.0, 2.5, 5.0, 7.5, 11.25, 16.25, 21.25)
PIXEL_ML = 0.5 * 0.4 / 1000  # per mm of thickness
THICKNESSES = np.array([2.5, 2.5, 2.5, 3.125, 4.375, 5, 5])  # lowest slice first
LABELS = datasets_spec.load(cohort.DATASET).dataset.label_map
RUN = paths.run(cohort.DATASET)
NATIVE = RUN / paths.PREDICTIONS / paths.NATIVE
RULES = {"1": (True, 2.6 * PIXEL_ML), "2": (False, 4.4 * PIXEL_ML)}
"""Per class, whether holes are filled, and the least volume of a component: a thin slice's pixel
is below it, a thick one's is not."""


def _case(number: int) -> Case:
    """A tilted MR of 7 slices, the normal of every second patient pointing down."""
    ids = np.random.default_rng(number).integers(0, len(LABELS), (7, 12, 10))

    def storing(values: NDArray[Any], kind: str) -> Any:
        def change(header: pydicom.Dataset, index: int) -> None:
            header.Modality, header.RescaleSlope, header.RescaleIntercept = "MR", 1, 0
            depth = TWO[index]
            header.ImagePositionPatient = [-20.0, -30.0 + 0.2 * depth, 7.0 + depth]
            if number % 2:
                header.ImageOrientationPatient = [1, 0, 0, 0, -1, 0]
            parts = [str(number), kind]
            header.SeriesInstanceUID = generate_uid(entropy_srcs=parts)
            header.FrameOfReferenceUID = header.SeriesInstanceUID
            header.SOPInstanceUID = generate_uid(entropy_srcs=[*parts, str(index)])
            header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
            header.PixelData = values[index].astype(np.int16).tobytes()

        return change

    folder = paths.raw(cohort.DATASET) / f"sub-{number:02d}"
    noise = np.random.default_rng([number, 1]).integers(0, 60, ids.shape)
    write_series(folder / "scan", 7, storing(ids * 100 + noise, "scan"))
    write_series(folder / "mask", 7, storing(ids, "mask"))
    return Case(folder.name, folder.name, folder / "scan", {"": folder / "mask"})


@pytest.fixture
def settings(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> params.Params:
    """Pairs of nine patients, a network of random weights whose model carries rules; evaluated."""
    written = cohort.write_params()
    cases = [_case(number) for number in range(1, 10)]
    adapter = replace(datasets_spec.load(cohort.DATASET), cases=lambda _: iter(cases))
    monkeypatch.setattr(datasets_spec, "load", lambda _: adapter)
    cohort.make_pairs(written)
    keras.utils.set_random_seed(1)  # of weights that give several classes
    save_untrained(cohort.DATASET, written)
    gain = {"gain": 0.01, "low": 0.01, "high": 0.01, "patients": 5, "kept": True}
    chosen = {
        label: {"fill_holes": fill, "smallest_ml": ml, **gain}
        for label, (fill, ml) in RULES.items()
    }
    record = modelfile.read(RUN / paths.MODEL) | {"chosen": {"postprocessing": chosen}}
    provenance.renew(RUN / paths.MODEL, record)
    evaluate(cohort.DATASET, written)
    return written


def headers(case: str, kind: str) -> list[pydicom.Dataset]:
    """Of a case's files, lowest slice first."""
    every = [pydicom.dcmread(file) for file in (paths.raw(cohort.DATASET) / case / kind).iterdir()]
    return sorted(every, key=lambda one: one.ImagePositionPatient[2])


def masks(folder: Path, case: str) -> NDArray[np.uint8]:
    """The masks of a case's instances, lowest slice first."""
    files = [folder / f"{one.SOPInstanceUID}.png" for one in headers(case, "scan")]
    return np.stack([png.read_mask(file, LABELS) for file in files])


def rows() -> list[dict[str, str]]:
    with (RUN / paths.PER_CASE).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_scores_are_those_of_volumes_and_there_are_no_distances(settings: params.Params) -> None:
    found = rows()
    cases = sorted({row["case"] for row in found})
    assert len(cases) > 1
    assert not list(RUN.rglob("*.nii*"))
    for row in found:
        label = next(one.id for one in LABELS if one.name == row["class"])
        truth = np.stack([one.pixel_array for one in headers(row["case"], "mask")]) == label
        guess = masks(NATIVE / row["case"], row["case"]) == label
        one, other, both = (
            float((part.sum(axis=(1, 2)) * THICKNESSES).sum() * PIXEL_ML)
            for part in (truth, guess, truth & guess)
        )
        assert float(row["truth_ml"]) == pytest.approx(one, abs=1e-6)
        assert float(row["predicted_ml"]) == pytest.approx(other, abs=1e-6)
        assert int(row["truth"]) == truth.sum()
        assert float(row["dice"]) == pytest.approx(2 * both / (one + other), abs=1e-6)
        assert float(row["iou"]) == pytest.approx(both / (one + other - both), abs=1e-6)
        assert (row["hd95_mm"], row["nsd"], row["spacing"]) == ("", "", "uneven")
    assert len({row["dice"] for row in found}) > 1
    scores = json.loads((RUN / paths.SCORES).read_text("utf-8"))
    assert scores["uneven_cases"] == len(cases)
    assert f"none of {len(cases)} cases" in scores["definitions"]["distances"]
    for one in scores["model"]["classes"].values():
        assert one["no_surface"] == 0
        assert one["hd95_mm"]["mean"] is None
    report.report([cohort.DATASET], paths.PARAMS)
    page = Path("report/index.html").read_text("utf-8")
    assert f"In {len(cases)} of the cases slices have no one spacing" in page
    final, plain = (scores[row]["classes"] for row in ("model", "before_postprocessing"))
    assert final["grey_matter"]["dice"] != plain["grey_matter"]["dice"]


def test_predict_on_the_raw_series_is_what_evaluate_predicts(settings: params.Params) -> None:
    """Instance by instance and pixel by pixel, with post-processing by each slice's thickness."""
    highdicom = pytest.importorskip("highdicom")
    raw = paths.raw(cohort.DATASET)
    cases = sorted({row["case"] for row in rows()})
    scans = [str(raw / case / "scan") for case in cases]
    assert main(["predict", cohort.DATASET, *scans, "--output", "masks", "--no-page"]) == 0
    with Path("masks/volumes.csv").open(newline="", encoding="utf-8") as stream:
        volumes = [row for row in csv.DictReader(stream) if row["kind"] == "class"]
    seen: set[int] = set()
    for case in cases:
        [name] = {row["scan"] for row in volumes if case in row["scan"]}
        evaluated = masks(NATIVE / case, case)
        assert np.array_equal(masks(Path("masks") / name, case), evaluated)
        seen |= set(np.unique(evaluated).tolist())
        seg = highdicom.seg.segread(Path("masks") / f"{name}.seg.dcm")
        frames = seg.get_pixels_by_source_instance(
            [one.SOPInstanceUID for one in headers(case, "scan")],
            combine_segments=True,
            assert_missing_frames_are_empty=True,
        )
        assert np.array_equal(frames, evaluated)
        for row in (one for one in rows() if one["case"] == case):
            [ml] = [
                float(one["ml"])
                for one in volumes
                if (one["scan"], one["class"]) == (name, row["class"])
            ]
            assert ml == pytest.approx(float(row["predicted_ml"]), abs=2e-6)
    assert len(seen) > 1


def test_the_raw_data_are_not_needed_again(
    settings: params.Params, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [(RUN / name).read_bytes() for name in paths.SCORED]
    shutil.rmtree(paths.raw(cohort.DATASET))
    evaluate(cohort.DATASET, settings)
    assert [(RUN / name).read_bytes() for name in paths.SCORED] == before
    assert "no HD95, no NSD and no NIfTI" in capsys.readouterr().out
