"""convert keeps the labels of a case on the grid of its source, for evaluate to read."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

import datasets_spec
from datasets_spec.contract import Case
from model import params
from pipeline import paths
from pipeline.augment import augment
from pipeline.convert import convert
from pipeline.pairs import manifest, truth_record
from pipeline.pairs.manifest import Pair
from pipeline.pairs.truth import KeptTruth
from pipeline.volumes import volume
from tests.conftest import FIXTURES, Refused
from tests.pipeline.volumes.dicom.test_assemble import write_series
from tests.support import cohort

pytestmark = pytest.mark.slow  # whole conversions

CONVERTED = paths.converted(cohort.DATASET)
Folder = Path


def drawn(number: int) -> NDArray[np.uint8]:
    """Class ids (slices, rows, columns) as a DICOM series stores them."""
    ids = np.random.default_rng(number).integers(0, cohort.CLASSES, (5, 12, 10))
    return ids.astype(np.uint8)


def of_nifti(folder: Folder, number: int) -> Case:
    name = folder.name
    cohort.write_patient(folder, number)
    files = (folder / f"{name}_{kind}.nii" for kind in ("T1w", "dseg"))
    image, label = files
    return Case(name, name, image, {"": label})


def of_dicom(folder: Folder, number: int) -> Case:
    """Its gantry is tilted, and its first file shows the top of the head."""

    def storing(pixels: NDArray[np.uint8]) -> Callable[..., None]:
        def change(header: object, index: int) -> None:
            vars_of = {"Modality": "MR", "RescaleSlope": 1, "RescaleIntercept": 0}
            vars_of["PixelData"] = pixels[index].astype(np.int16).tobytes()
            for name, value in vars_of.items():
                setattr(header, name, value)

        return change

    write_series(folder / "scan", change=storing(drawn(number) * 50), tilt=1.5)
    write_series(folder / "mask", change=storing(drawn(number)), tilt=1.5)
    return Case(folder.name, folder.name, folder / "scan", {"": folder / "mask"})


def of_pictures(folder: Folder, number: int) -> Case:
    kinds = {}
    for kind, factor in (("scan", 50), ("mask", 1)):
        (folder / kind).mkdir(parents=True)
        files = tuple(folder / kind / f"slice{index}.png" for index in range(5))
        for file, ids in zip(files, drawn(number), strict=True):
            Image.fromarray(ids * np.uint8(factor)).save(file)
        kinds[kind] = files
    return Case(folder.name, folder.name, kinds["scan"], {"": kinds["mask"]})


KINDS = {
    truth_record.NIFTI: of_nifti,
    truth_record.DICOM: of_dicom,
    truth_record.PICTURES: of_pictures,
}


@pytest.fixture
def made(
    request: pytest.FixtureRequest, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Case], params.Params]:
    """Three converted patients whose sources are of one kind."""
    settings = cohort.write_params()
    folders = [paths.raw(cohort.DATASET) / f"sub-{number:02d}" for number in (1, 2, 3)]
    cases = [KINDS[request.param](folder, number) for number, folder in enumerate(folders, 1)]
    adapter = replace(datasets_spec.load(cohort.DATASET), cases=lambda _: iter(list(cases)))
    monkeypatch.setattr(datasets_spec, "load", lambda _: adapter)
    convert(cohort.DATASET, settings, 1)
    return cases, settings


of_each_kind = pytest.mark.parametrize("made", KINDS, indirect=True)
of_one_kind = pytest.mark.parametrize("made", [truth_record.NIFTI], indirect=True)
Made = tuple[list[Case], params.Params]


def pairs_of(case: Case) -> list[Pair]:
    return [pair for pair in manifest.read(CONVERTED) if pair.case == case.id]


def content(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


@of_each_kind
def test_labels_are_kept_as_the_source_stores_them(made: Made) -> None:
    """Read by nibabel alone, beside the raw label."""
    cases, _ = made
    for case in cases:
        [(name, _)] = {(pair.truth, pair.truth_digest) for pair in pairs_of(case)}
        file = nib.load((CONVERTED / name).parent / "label.nii.gz")
        ids = np.asanyarray(file.dataobj)
        assert ids.dtype == np.uint8
        label = case.labels[""]
        if isinstance(label, tuple):
            stored = np.stack([np.asarray(Image.open(one)) for one in label])
            assert np.array_equal(ids.transpose(2, 1, 0), stored)
        elif label.is_dir():
            assert np.array_equal(ids.transpose(2, 1, 0), drawn(int(case.id[-1])))
        else:
            raw = nib.load(label)
            assert np.array_equal(ids, np.asanyarray(raw.dataobj))
            assert np.array_equal(file.affine, raw.affine)


@of_each_kind
def test_what_is_read_back_is_what_the_masks_were_made_of(made: Made) -> None:
    cases, settings = made
    adapter = datasets_spec.load(cohort.DATASET)
    seen = 0
    for case in cases:
        pair, *_ = pairs_of(case)
        kept = KeptTruth.of(CONVERTED, pair, settings.limits)
        stack = kept.stack("")
        for one in pairs_of(case):
            counts = [int((stack[one.slice_index] == label).sum()) for label in range(4)]
            foreground = [bool(count) for count in one.class_pixels[1:]]
            assert foreground == [bool(count) for count in counts[1:]]
            seen += 1
        assert kept.record.source in KINDS
        parts = {
            truth_record.NIFTI: (),
            truth_record.DICOM: tuple(
                sorted_uids(pairs_of(case)) if adapter.dataset.plane == "axial" else ()
            ),
            truth_record.PICTURES: tuple(f"slice{index}" for index in range(5)),
        }
        assert kept.record.parts == parts[kept.record.source]
        grid_shape = pair.source_shape
        assert volume.unslice(stack, pair.plane).size == np.prod(grid_shape)
    assert seen > 9


def sorted_uids(pairs: list[Pair]) -> list[str]:
    return [pair.sop_instance_uid for pair in sorted(pairs, key=lambda one: one.slice_index)]


@of_each_kind
def test_the_same_case_gives_the_same_bytes_whoever_writes_them(made: Made) -> None:
    _, settings = made
    before = content(CONVERTED)
    volumes = [one for name, one in before.items() if name.endswith(".nii.gz")]
    assert len(volumes) == 6  # labels and scans
    for one in volumes:
        assert one[3:8] == bytes(5)  # neither a file's name nor a time in the header of gzip
        assert gzip.decompress(one)[148:252] == bytes(104)  # nor words in that of NIfTI
    shutil.rmtree(CONVERTED)
    convert(cohort.DATASET, settings, 2)
    assert content(CONVERTED) == before


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@of_one_kind
@pytest.mark.parametrize("damage", [Path.unlink, cut])
@pytest.mark.parametrize("name", ["label.nii.gz", "truth.json"])
def test_a_case_whose_labels_are_damaged_is_made_again(
    made: Made, name: str, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    _, settings = made
    before = content(CONVERTED)
    damage(CONVERTED / paths.TRUTH / "sub-02" / name)
    capsys.readouterr()
    convert(cohort.DATASET, settings, 1)
    assert "2 kept, 1 to make" in capsys.readouterr().out
    assert content(CONVERTED) == before


@of_one_kind
def test_labels_are_removed_with_their_case(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    cases, settings = made
    stray = CONVERTED / paths.TRUTH / "sub-01" / "label_r9.nii.gz"
    stray.touch()
    cases.pop()
    (CONVERTED / paths.TRUTH / "sub-01" / "truth.json").unlink()
    convert(cohort.DATASET, settings, 1)
    folders = sorted(file.name for file in (CONVERTED / paths.TRUTH).iterdir())
    assert folders == ["sub-01", "sub-02"]
    assert not stray.exists()


@of_one_kind
def test_augmented_pairs_keep_no_labels_of_their_own(made: Made) -> None:
    _, settings = made
    for _ in range(2):
        augment(cohort.DATASET, settings, 1)
    pairs = manifest.read(paths.augmented(cohort.DATASET))
    assert {(pair.truth, pair.truth_digest) for pair in pairs} == {("", "")}
    assert not (paths.augmented(cohort.DATASET) / paths.TRUTH).exists()


@of_one_kind
@pytest.mark.parametrize("name", ["label.nii.gz", "truth.json"])
def test_labels_of_another_conversion_are_refused(made: Made, name: str, refused: Refused) -> None:
    cases, _ = made
    pair, *_ = pairs_of(cases[0])
    here = CONVERTED / paths.TRUTH
    shutil.copy(here / "sub-02" / name, here / "sub-01" / name)
    problem = refused(lambda: KeptTruth.of(CONVERTED, pair).stack(""))
    assert problem.where == str(here / "sub-01" / name)
    assert f"python -m pipeline convert {cohort.DATASET}" in problem.remedy


@pytest.mark.parametrize(
    ("raters", "kept"),
    [
        ("majority", ["label", "label_r1", "label_r2", "label_r3"]),
        ("staple", ["label", "label_r1", "label_r2", "label_r3"]),
        ("each", ["label_r1", "label_r2", "label_r3"]),
        ("2", ["label_r1", "label_r2", "label_r3"]),
    ],
)
def test_every_rater_of_several_is_kept_beside_what_the_pairs_show(
    raters: str, kept: list[str], workplace: Path
) -> None:
    name = "mbh_seg25"
    shutil.copytree(FIXTURES / name / "raw", paths.raw(name))
    folder = paths.converted(name)
    found = {}
    for choice in ("majority", raters):  # the second conversion leaves nothing of the first
        settings = _params_of(name, **{"convert.raters": choice})
        convert(name, settings, 1)
        pairs = {pair.case: pair for pair in manifest.read(folder)}
        for case, pair in pairs.items():
            truth = KeptTruth.of(folder, pair)
            files = sorted(file.name for file in truth.folder.glob("*.nii.gz"))
            found[case] = [file.removesuffix(".nii.gz") for file in files]
            assert set(files) == set(truth.record.digests)
            assert truth.stack(pair.rater).any() or pair.empty
    assert kept in found.values()
    cases = {case.id: case for case in datasets_spec.load(name).cases(paths.raw(name))}
    for case, pair in pairs.items():
        drawn_by = cases[case].labels
        record = KeptTruth.of(folder, pair).record
        assert record.raters == (tuple(drawn_by) if len(drawn_by) > 1 else ())
        for rater in record.raters:
            file = folder / paths.TRUTH / case / f"label_r{rater}.nii.gz"
            raw = np.asanyarray(nib.load(drawn_by[rater]).dataobj)
            assert np.array_equal(np.asanyarray(nib.load(file).dataobj), raw)


def _params_of(name: str, **overrides: object) -> params.Params:
    cohort.write_params(**overrides)
    written = yaml.safe_load(paths.PARAMS.read_text("utf-8"))
    written["datasets"] = {name: None}
    paths.PARAMS.write_text(yaml.safe_dump(written), "utf-8")
    return params.load(name)
