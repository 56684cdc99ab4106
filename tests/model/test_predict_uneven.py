"""A series of slices without one spacing: a mask for each slice, and no file that claims a grid."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from datasets_spec.contract import Problem, Window
from model.delivery.wish import Wish
from model.inference.predictor import Predictor
from model.inference.rules import Rule
from model.predict import predict
from pipeline.pairs import png
from tests.pipeline.volumes.dicom.test_assemble import write_series
from tests.support.members import LABELS, member

OUTPUT = Path("masks")
PIXEL_ML = 0.5 * 0.4 / 1000  # per mm of thickness, of the series below
TWO = (0.0, 5.0, 10.0, 15.0, 25.0, 35.0, 45.0)
DEPTHS = {
    "two thicknesses": TWO,
    "an overlap": (0.0, 5.0, 7.0, 12.0, 17.0, 22.0, 27.0),
    "a gap": (0.0, 5.0, 10.0, 22.0, 27.0, 32.0, 37.0),
}
THICKNESSES = {
    "two thicknesses": (5, 5, 5, 7.5, 10, 10, 10),
    "an overlap": (5, 3.5, 3.5, 5, 5, 5, 5),
    "a gap": (5, 5, 5, 5, 5, 5, 5),  # whose 7 mm without any slice are in none
}
TILT = 0.3
Change = Callable[[pydicom.Dataset, int], None]


def at(depths: Sequence[float], tilt: float = 0.0, down: bool = False) -> Change:
    """Slices at these depths; ``down``: columns run to the front, so the normal points down."""

    def change(header: pydicom.Dataset, number: int) -> None:
        depth = 7.0 + depths[number]
        header.ImagePositionPatient = [-20.0, -30.0 + tilt * depth, depth]
        header.FrameOfReferenceUID = header.SeriesInstanceUID
        if down:
            header.ImageOrientationPatient = [1, 0, 0, 0, -1, 0]
        values = np.random.default_rng(number).choice(np.array([0, 900], np.int16), (12, 10))
        header.PixelData = values.tobytes()

    return change


@pytest.fixture(autouse=True)
def here(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    Path("model.keras").write_bytes(b"a model")
    use(monkeypatch)
    return workplace


def use(
    monkeypatch: pytest.MonkeyPatch, *planes: str, rules: dict[int, Rule] | None = None
) -> None:
    """Let the model be one of CT that follows the brightness of a pixel, exactly."""
    members = []
    for plane in planes or ("axial",):
        one = member(plane, px=64)
        facts = replace(one.facts, modality="CT", window=Window(800.0, 2000.0))
        members.append(replace(one, facts=facts))
    monkeypatch.setattr(Predictor, "of", lambda *_: Predictor(tuple(members), rules or {}))


def run(**more: Any) -> None:
    predict([Path("model.keras")], [Path("ct")], OUTPUT, **more)


def rows(kind: str = "class") -> list[dict[str, str]]:
    with (OUTPUT / "volumes.csv").open(newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if row["kind"] == kind]


def masks() -> dict[str, NDArray[np.uint8]]:
    """The mask of each instance by its SOPInstanceUID."""
    return {
        one.SOPInstanceUID: png.read_mask(OUTPUT / "ct" / f"{one.SOPInstanceUID}.png", LABELS)
        for one in headers()
    }


def shown() -> dict[str, Any]:
    """What the page states of the scan."""
    page = (OUTPUT / "index.html").read_text("utf-8")
    data = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    facts: dict[str, Any] = json.loads(data)[0]["facts"]
    return facts


def headers() -> list[pydicom.Dataset]:
    """Of the source, lowest first."""
    every = [pydicom.dcmread(file) for file in Path("ct").iterdir()]
    return sorted(every, key=lambda one: one.ImagePositionPatient[2])


def world(one: pydicom.Dataset, row: float, column: float) -> NDArray[np.float64]:
    """Where a pixel lies, by the equation of the standard (PS3.3, C.7.6.2.1.1), in RAS+."""
    axes = np.array(one.ImageOrientationPatient, float).reshape(2, 3)
    rows_mm, columns_mm = one.PixelSpacing
    place = np.array(one.ImagePositionPatient, float)
    place += axes[0] * columns_mm * column + axes[1] * rows_mm * row
    return place * [-1, -1, 1]


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("tilt", [0.0, TILT])
@pytest.mark.parametrize("name", DEPTHS)
def test_each_instance_has_its_mask_and_volumes_are_those_of_true_places(
    name: str, tilt: float, down: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(Path("ct"), 7, at(DEPTHS[name], tilt, down))
    run()
    assert "steps of 5 mm" in capsys.readouterr().out
    ml, moments = 0.0, np.zeros(3)
    for one, thickness in zip(headers(), THICKNESSES[name], strict=True):
        mask = masks()[one.SOPInstanceUID]
        assert (mask == np.where(one.pixel_array > 500, 2, 1)).mean() > 0.95
        places = np.argwhere(mask == 2)
        ml += len(places) * thickness * PIXEL_ML
        moments += sum(world(one, *place) for place in places) * thickness * PIXEL_ML
    [bright] = [row for row in rows() if row["class"] == "bright"]
    assert float(bright["ml"]) == pytest.approx(ml, abs=1e-6)
    centre = [float(bright[f"{axis}_mm"]) for axis in "xyz"]
    assert centre == pytest.approx(moments / ml, abs=2e-3)
    components = [float(row["ml"]) for row in rows("component") if row["class"] == "bright"]
    assert sum(components) == pytest.approx(ml, abs=1e-5)
    assert components == sorted(components, reverse=True)


def test_sagittal_slices_are_predicted_by_a_model_of_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def sagittal(header: pydicom.Dataset, number: int) -> None:
        at(TWO)(header, number)
        header.ImagePositionPatient = [40.0 - TWO[number], -30.0, 20.0]
        header.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    use(monkeypatch, "sagittal")
    write_series(Path("ct"), 7, sagittal)
    run()
    left = sorted(headers(), key=lambda one: -one.ImagePositionPatient[0])
    weights, places = [], []
    for one, thickness in zip(left, THICKNESSES["two thicknesses"], strict=True):
        mask = masks()[one.SOPInstanceUID]
        assert (mask == np.where(one.pixel_array > 500, 2, 1)).mean() > 0.95
        places += [world(one, *place) for place in np.argwhere(mask == 2)]
        weights += [thickness * PIXEL_ML] * int((mask == 2).sum())
    [bright] = [row for row in rows() if row["class"] == "bright"]
    assert float(bright["ml"]) == pytest.approx(sum(weights), abs=1e-6)
    centre = [float(bright[f"{axis}_mm"]) for axis in "xyz"]
    assert centre == pytest.approx(np.average(places, axis=0, weights=weights), abs=2e-3)


@pytest.mark.parametrize("down", [False, True])
def test_a_seg_refers_to_each_instance_at_its_place(down: bool) -> None:
    highdicom = pytest.importorskip("highdicom")
    write_series(Path("ct"), 7, at(TWO, TILT, down))
    run()
    seg = highdicom.seg.segread(OUTPUT / "ct.seg.dcm")
    uids = [one.SOPInstanceUID for one in headers()]
    frames = seg.get_pixels_by_source_instance(uids, combine_segments=True)
    for uid, frame in zip(uids, frames, strict=True):
        assert (frame == masks()[uid]).all()
    places = {tuple(one.ImagePositionPatient) for one in headers()}
    found = {
        tuple(frame.PlanePositionSequence[0].ImagePositionPatient)
        for frame in seg.PerFrameFunctionalGroupsSequence
    }
    assert found == places


def test_no_file_claims_one_spacing(capsys: pytest.CaptureFixture[str]) -> None:
    write_series(Path("ct"), 7, at(TWO))
    run(wish=Wish(probabilities=True, uncertainty=True, overlays=True, film=True))
    assert not list(OUTPUT.rglob("*.nii*"))
    assert "no NIfTI of the mask and no maps" in capsys.readouterr().out
    facts = shown()
    assert "no NIfTI of the mask" in " ".join(facts["warnings"])
    assert not {"step_mm", "world"} & set(facts)
    assert len(list((OUTPUT / "overlays" / "ct").iterdir())) == 7


def test_an_even_series_has_its_nifti_and_places_on_the_page() -> None:
    write_series(Path("ct"), 7, at([5.0 * number for number in range(7)], TILT))
    run()
    assert (OUTPUT / "ct.nii.gz").exists()
    assert shown()["step_mm"] == pytest.approx(5 * np.hypot(1, TILT))
    assert "world" in shown()


def test_without_highdicom_the_masks_of_the_instances_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    write_series(Path("ct"), 7, at(TWO))
    run()
    assert len(masks()) == 7
    assert not list(OUTPUT.rglob("*.dcm"))


@pytest.mark.parametrize("planes", [("sagittal",), ("axial", "coronal")])
def test_a_model_of_another_plane_is_refused(
    planes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, *planes)
    write_series(Path("ct"), 7, at(TWO))
    with pytest.raises(Problem):
        run()
    said = capsys.readouterr().err
    assert "expected models of axial slices" in said
    assert f"one of {planes[-1]} slices" in said
    assert not list(OUTPUT.rglob("*.png"))


def test_masks_need_instances_of_distinct_uids(capsys: pytest.CaptureFixture[str]) -> None:
    def same(header: pydicom.Dataset, number: int) -> None:
        at(TWO)(header, number)
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"

    write_series(Path("ct"), 7, same)
    with pytest.raises(Problem):
        run()
    assert "distinct SOPInstanceUIDs" in capsys.readouterr().err


def test_small_components_are_those_of_their_own_thickness(monkeypatch: pytest.MonkeyPatch) -> None:
    def dot(header: pydicom.Dataset, number: int) -> None:
        at(TWO)(header, number)
        values = np.zeros((12, 10), np.int16)
        values[6, 5] = 900 if number in (0, 6) else 0  # slices of 5 and of 10 mm
        header.PixelData = values.tobytes()

    write_series(Path("ct"), 7, dot)
    for least_mm, kept in ((10.1, []), (5.1, [10]), (4.9, [10, 5])):
        use(monkeypatch, rules={2: Rule(smallest_ml=least_mm * PIXEL_ML)})
        run(wish=Wish(overlays=bool(kept), film=len(kept) == 1))  # else it would be done before
        bright = [row for row in rows("component") if row["class"] == "bright"]
        assert [float(row["ml"]) for row in bright] == pytest.approx([mm * PIXEL_ML for mm in kept])


def test_a_missing_slice_is_refused_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    write_series(Path("ct"), 6, at([0, 5, 10, 20, 25, 30]))
    with pytest.raises(Problem):
        run()
    said = "".join(capsys.readouterr())
    assert "missing along the normal 1 between 17.0 and 27.0 mm" in said
    assert not list(OUTPUT.rglob("*.png"))
