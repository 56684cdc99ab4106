"""A series of uneven spacing is converted slice by slice, each with its place and thickness."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image

import datasets_spec
from datasets_spec.contract import Case, Problem
from pipeline import paths
from pipeline.augment import augment
from pipeline.convert import convert
from pipeline.pairs import manifest
from pipeline.pairs.manifest import Pair
from pipeline.pairs.truth import KeptTruth
from pipeline.volumes import findings
from pipeline.volumes.dicom import assemble
from tests.pipeline.volumes.dicom.test_assemble import write_series
from tests.support import cohort

pytestmark = pytest.mark.slow  # whole conversions

CONVERTED = paths.converted(cohort.DATASET)
TWO = (0.0, 2.5, 5.0, 7.5, 11.25, 16.25, 21.25)
THICKNESSES = (2.5, 2.5, 2.5, 3.125, 4.375, 5.0, 5.0)
EVEN = tuple(5.0 * number for number in range(7))
SHAPE = (7, 12, 10)
Change = Callable[[pydicom.Dataset, int], None]


def ids() -> NDArray[np.uint8]:
    """Class ids (slices, rows, columns), lowest slice first."""
    return np.random.default_rng(5).integers(0, cohort.CLASSES, SHAPE).astype(np.uint8)


def stored(
    values: NDArray[Any], depths: Sequence[float], tilt: float = 0.0, down: bool = False
) -> Change:
    """A series of MR whose slices lie at these depths; ``down``: its normal points down."""

    def change(header: pydicom.Dataset, number: int) -> None:
        header.Modality, header.RescaleSlope, header.RescaleIntercept = "MR", 1, 0
        header.ImagePositionPatient = [-20.0, -30.0 + tilt * depths[number], 7.0 + depths[number]]
        if down:
            header.ImageOrientationPatient = [1, 0, 0, 0, -1, 0]
        header.PixelData = values[number].astype(np.int16).tobytes()

    return change


def case_of(number: int, depths: Sequence[float] = TWO, **how: Any) -> Case:
    folder = paths.raw(cohort.DATASET) / f"sub-{number:02d}"
    write_series(folder / "scan", 7, stored(ids() * 50, depths, **how))
    write_series(folder / "mask", 7, stored(ids(), depths, **how))
    return Case(folder.name, folder.name, folder / "scan", {"": folder / "mask"})


@pytest.fixture
def converted(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, list[Pair]]]:
    """Converts cases; returns the pairs of each."""

    def run(*cases: Case, **facts: Any) -> dict[str, list[Pair]]:
        adapter = datasets_spec.load(cohort.DATASET)
        adapter = replace(
            adapter,
            cases=lambda _: iter(cases),
            dataset=replace(adapter.dataset, **facts),
        )
        monkeypatch.setattr(datasets_spec, "load", lambda _: adapter)
        convert(cohort.DATASET, cohort.write_params(), 1)
        groups = manifest.grouped(manifest.read(CONVERTED), "case")
        return {group[0].case: group for group in groups}

    return run


Converted = Callable[..., dict[str, list[Pair]]]


def pictures(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    return [(pair.image_digest, pair.mask_digest) for pair in pairs]


@pytest.mark.parametrize("down", [False, True])
def test_every_slice_is_a_picture_with_its_own_place(converted: Converted, down: bool) -> None:
    case = case_of(1, tilt=0.3, down=down)
    even = case_of(2, EVEN, down=down)
    other = case_of(3, EVEN, down=down)
    pairs = converted(case, even, other)
    mine = pairs["sub-01"]
    assert pictures(mine) == pictures(pairs["sub-02"])  # a place moves no pixel
    headers = [pydicom.dcmread(file) for file in Path(case.image).iterdir()]
    known = {one.SOPInstanceUID: one.ImagePositionPatient for one in headers}
    for pair, depth, thickness in zip(mine, TWO, THICKNESSES, strict=True):
        x, y, z = known[pair.sop_instance_uid]
        assert z == 7 + depth
        assert pair.place == pytest.approx((-x, -y, z))
        assert pair.thickness_mm == pytest.approx(thickness)
    assert {(pair.place, pair.thickness_mm) for pair in pairs["sub-02"]} == {((), 0.0)}
    codes = [one.code for one in findings.from_json(mine[0].findings)]
    assert codes.count("uneven-spacing") == 1


@pytest.mark.parametrize("down", [False, True])
def test_its_labels_are_kept_in_a_file_that_states_no_geometry(
    converted: Converted, down: bool
) -> None:
    case = case_of(1, down=down)
    [*pairs] = converted(case, case_of(2, EVEN), case_of(3, EVEN))["sub-01"]
    folder = CONVERTED / paths.TRUTH / "sub-01"
    assert sorted(file.name for file in folder.iterdir()) == ["label.npz", "truth.json"]
    kept = KeptTruth.of(CONVERTED, pairs[0])
    scan = assemble.read_series(Path(case.image))
    assert scan.uneven is not None
    with np.load(folder / "label.npz") as arrays:
        assert list(arrays) == ["ids"]
        lowest_first = arrays["ids"].transpose(2, 1, 0)[:: -1 if down else 1]
        assert np.array_equal(lowest_first, ids())
    record = json.loads((folder / "truth.json").read_text("utf-8"))
    assert record["places_mm"] == scan.uneven.places.tolist()
    assert record["thicknesses_mm"] == scan.uneven.thicknesses.tolist()
    assert record["parts"] == list(scan.uids)
    assert np.array_equal(kept.voxel_ml, scan.voxel_ml)
    np.testing.assert_allclose(kept.voxel_ml, 0.5 * 0.4 * np.array(THICKNESSES) / 1000)
    stack = kept.stack("")
    for pair in pairs:
        counts = [int((stack[pair.slice_index] == one).sum()) for one in range(cohort.CLASSES)]
        assert [bool(one) for one in counts] == [bool(one) for one in pair.class_pixels]


def test_the_same_labels_give_the_same_bytes(converted: Converted) -> None:
    cases = case_of(1), case_of(2), case_of(3)
    converted(*cases)
    folder = CONVERTED / paths.TRUTH
    one, other = ((folder / name / "label.npz").read_bytes() for name in ("sub-01", "sub-02"))
    assert one == other


def test_augmented_pairs_keep_the_place_of_their_parent(converted: Converted) -> None:
    pairs = converted(case_of(1), case_of(2), case_of(3))
    augment(cohort.DATASET, cohort.write_params(), 1)
    parents = {pair.id: pair for group in pairs.values() for pair in group}
    augmented = manifest.read(paths.augmented(cohort.DATASET))
    assert augmented
    for pair in augmented:
        assert pair.place == parents[pair.parent].place
        assert pair.thickness_mm == parents[pair.parent].thickness_mm


def test_pictures_of_each_instance_are_its_labels(converted: Converted) -> None:
    """Picture n is that of InstanceNumber n, whatever the order of the slices."""
    cases = [case_of(number) for number in (1, 2, 3)]
    folder = Path(cases[0].image).parent / "pictures"
    folder.mkdir()
    by_number = {}
    for file in Path(cases[0].image).iterdir():
        header = pydicom.dcmread(file)
        by_number[header.InstanceNumber] = header.pixel_array // 50
    files = []
    for number in sorted(by_number):
        files.append(folder / f"{number:02d}.png")
        Image.fromarray(by_number[number].astype(np.uint8)).save(files[-1])
    drawn = replace(cases[0], labels={"": tuple(files)})
    pairs = converted(drawn, *cases[1:])
    assert pictures(pairs["sub-01"]) == pictures(pairs["sub-02"])


def nifti_of(case: Case, step_mm: float, from_top: bool = False, **changed: float) -> Case:
    """The case with a NIfTI label of one spacing, as converters write it beside a scan."""
    scan = assemble.read_series(Path(case.image))
    affine = scan.grid.affine.copy()
    affine[:3, 2] = [0, 0, step_mm]
    if from_top:
        affine[2, 3] += TWO[-1] - step_mm * (len(TWO) - 1)
    affine[1, 3] += changed.get("aside", 0.0)
    affine[:3, 0] *= changed.get("wider", 1.0)
    labels = np.pad(ids().transpose(2, 1, 0), [(0, 0), (0, 0), (0, int(changed.get("more", 0)))])
    file = Path(case.image).parent / "label.nii"
    nib.save(nib.Nifti1Image(labels, affine), file)
    return replace(case, labels={"": file})


@pytest.mark.parametrize(
    ("step_mm", "from_top"), [(2.5, False), (5.0, False), (5.0, True), (21.25 / 6, False)]
)
def test_a_nifti_with_the_slices_of_the_series_is_laid_on_them_one_by_one(
    converted: Converted, step_mm: float, from_top: bool
) -> None:
    pairs = converted(nifti_of(case_of(1), step_mm, from_top), case_of(2), case_of(3))
    assert pictures(pairs["sub-01"]) == pictures(pairs["sub-02"])
    known = {one.code: one for one in findings.from_json(pairs["sub-01"][0].findings)}
    assert known["label-by-slice"].severity == findings.DOUBT
    assert known["label-by-slice"].numbers["moved_mm"] > 1


@pytest.mark.parametrize(
    "changed", [{"aside": 3.0}, {"wider": 1.2}, {"more": 2}], ids=["aside", "wider", "more"]
)
def test_any_other_nifti_is_refused_with_what_is_possible(
    converted: Converted, changed: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Problem):
        converted(nifti_of(case_of(1), 2.5, **changed), case_of(2), case_of(3))
    words = capsys.readouterr().err
    assert "expected a label of each slice of this series of uneven spacing" in words
    assert "a picture of each instance" in words


@pytest.mark.parametrize(
    ("scan", "mask"),
    [
        (TWO, EVEN),
        (EVEN, TWO),
        (TWO, [21.25 - depth for depth in TWO[::-1]]),
        (TWO, (*TWO[1:], 26)),
    ],
)
def test_a_label_series_of_other_places_is_refused(
    converted: Converted,
    scan: Sequence[float],
    mask: Sequence[float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    case, other = case_of(1, scan), case_of(2, mask)
    mixed = replace(case, labels=other.labels)
    with pytest.raises(Problem):
        converted(mixed, case_of(3), case_of(4))
    assert "of uneven spacing" in capsys.readouterr().err


def test_another_plane_is_refused_with_what_to_do(
    converted: Converted, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Problem):
        converted(case_of(1), case_of(2, EVEN), case_of(3, EVEN), plane="coronal")
    words = capsys.readouterr().err
    assert "the plane in which this series of uneven spacing was taken, axial" in words
    assert 'State plane="axial" in the dataset' in words
    assert {pair.case for pair in manifest.read(CONVERTED)} == {"sub-02", "sub-03"}


def test_slices_without_uids_of_their_own_are_refused(
    converted: Converted, capsys: pytest.CaptureFixture[str]
) -> None:
    case = case_of(1)
    for file in Path(case.image).iterdir():
        header = pydicom.dcmread(file)
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        header.save_as(file)
    with pytest.raises(Problem):
        converted(case, case_of(2), case_of(3))
    assert "expected distinct SOPInstanceUIDs" in capsys.readouterr().err
