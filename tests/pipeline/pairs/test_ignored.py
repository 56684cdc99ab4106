"""What nobody annotated, from the raw data to the dataset: kept apart, and never background."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import datasets_spec
from datasets_spec.contract import IGNORED, Case
from model import params
from pipeline import paths
from pipeline.convert import convert
from pipeline.labels import plausibility
from pipeline.pairs import manifest, png
from pipeline.pairs.manifest import Pair
from pipeline.pairs.truth import KeptTruth
from pipeline.params.convert import FUSIONS
from pipeline.splits import folders, outliers
from pipeline.volumes.volume import Grid, Volume
from tests.support import cohort

RAW, CONVERTED = paths.raw(cohort.DATASET), paths.converted(cohort.DATASET)
DATASET, AUGMENTED = paths.dataset(cohort.DATASET), paths.augmented(cohort.DATASET)
ADAPTER = datasets_spec.load(cohort.DATASET)
LABEL_MAP = ADAPTER.dataset.label_map
States = Callable[[dict[str, Any]], None]


@pytest.fixture
def settings(workplace: Path) -> params.Params:
    """Six patients' raw data; nobody drew white matter in the third."""
    cohort.write_raw()
    shutil.rmtree(RAW / "sub-03")
    cohort.write_patient(RAW / "sub-03", 3, classes=3)
    return cohort.write_params()


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> States:
    """Let the adapter state something else of some cases."""

    def change(of_case: dict[str, Any]) -> None:
        def cases(raw: Path) -> list[Case]:
            found = [case for case in ADAPTER.cases(raw) if isinstance(case, Case)]
            return [replace(case, **of_case.get(case.id, {})) for case in found]

        monkeypatch.setattr(datasets_spec, "load", lambda _: replace(ADAPTER, cases=cases))

    return change


def pairs_of(case: str) -> list[Pair]:
    return [pair for pair in manifest.read(CONVERTED) if pair.case == case]


def _ids(folder: Path, pair: Pair) -> list[int]:
    found: list[int] = np.unique(png.read_mask(folder / pair.mask, LABEL_MAP)).tolist()
    return found


def test_slices_that_nobody_annotated_teach_and_score_nothing(
    settings: params.Params, states: States, capsys: pytest.CaptureFixture[str]
) -> None:
    states({f"sub-{number:02d}": {"annotated_slices": (1, 3)} for number in range(1, 7)})
    cohort.make_pairs(settings)
    converted = manifest.read(CONVERTED)
    for pair in converted:
        ids = png.read_mask(CONVERTED / pair.mask, LABEL_MAP)
        assert pair.ignored_pixels == np.count_nonzero(ids == IGNORED)
        assert sum(pair.class_pixels) + pair.ignored_pixels == ids.size
        assert pair.unannotated == bool((ids == IGNORED).all())
        assert not (pair.unannotated and pair.empty)
    blank = {pair.id for pair in converted if pair.unannotated}
    assert 0 < len(blank) < len(converted)
    placed, grown = manifest.read(DATASET), manifest.read(AUGMENTED)
    assert grown
    assert {pair.parent for pair in grown}.isdisjoint(blank)
    shown_in = {pair.id: set(_ids(CONVERTED, pair)) for pair in converted}
    assert all(set(_ids(AUGMENTED, pair)) <= shown_in[pair.parent] | {0} for pair in grown)
    assert any(pair.ignored_pixels for pair in grown)
    assert {pair.id for pair in placed if pair.split == "train"}.isdisjoint(blank)
    tested = [pair for pair in placed if pair.split != "train"]
    theirs = {pair.patient for pair in tested}
    assert {pair.id for pair in tested} == {one.id for one in converted if one.patient in theirs}
    shown = {file.stem for file in (DATASET / "mini_test" / "images").glob("*.png")}
    assert shown
    assert shown.isdisjoint(blank)
    assert f"nobody annotated {len(blank)} of {len(converted)} pairs" in capsys.readouterr().out
    assert not folders.check(DATASET)


def test_a_patient_without_any_annotated_slice_is_in_no_split(
    settings: params.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = RAW / "sub-05" / "sub-05_dseg.nii"
    drawn = nib.load(label)
    nib.save(nib.Nifti1Image(np.full(drawn.shape, 9, np.uint8), drawn.affine), label)
    spec = replace(ADAPTER.dataset, ignored_values=(9,))
    monkeypatch.setattr(datasets_spec, "load", lambda _: replace(ADAPTER, dataset=spec))
    cohort.make_pairs(settings)
    assert all(pair.unannotated for pair in pairs_of("sub-05"))
    patients = {pair.patient for pair in manifest.read(DATASET)}
    assert patients == {f"sub-{number:02d}" for number in (1, 2, 3, 4, 6)}


def test_labels_that_are_kept_say_what_nobody_annotated(
    settings: params.Params, states: States
) -> None:
    states({"sub-02": {"annotated_slices": (1, 3)}})
    convert(cohort.DATASET, settings, 1)
    kept = KeptTruth.of(CONVERTED, pairs_of("sub-02")[0])
    stored = np.asarray(nib.load(kept.file("")).dataobj).copy()
    raw = np.asarray(nib.load(RAW / "sub-02" / "sub-02_dseg.nii").dataobj)
    np.testing.assert_array_equal(stored[..., [1, 3]], raw[..., [1, 3]])
    stored[..., [1, 3]] = IGNORED
    assert (stored == IGNORED).all()
    assert not any(pair.ignored_pixels for pair in pairs_of("sub-01"))


def test_a_class_that_nobody_annotated_is_a_column_and_no_pixel(
    settings: params.Params, states: States, capsys: pytest.CaptureFixture[str]
) -> None:
    convert(cohort.DATASET, settings, 1)
    before = pairs_of("sub-03")
    states({"sub-03": {"unlabelled": ("white_matter",)}})
    capsys.readouterr()
    convert(cohort.DATASET, settings, 1)
    assert "5 kept, 1 to make" in capsys.readouterr().out
    for pair, earlier in zip(pairs_of("sub-03"), before, strict=True):
        assert (pair.unlabelled, earlier.unlabelled) == ((3,), ())
        assert pair.mask_digest == earlier.mask_digest


@pytest.mark.parametrize(
    ("case", "name", "reason"),
    [
        ("sub-03", "gland", "expected names of the classes csf, grey_matter, white_matter, got"),
        ("sub-03", "background", "got 'background'"),
        ("sub-01", "white_matter", "expected no voxel of white_matter, which nobody annotated"),
    ],
)
def test_a_class_that_cannot_be_unlabelled_is_refused(
    settings: params.Params,
    states: States,
    capsys: pytest.CaptureFixture[str],
    case: str,
    name: str,
    reason: str,
) -> None:
    states({case: {"unlabelled": (name,)}})
    with pytest.raises(Exception, match=f"1 of 6 could not be made .{case}."):
        convert(cohort.DATASET, settings, 1)
    out = capsys.readouterr()
    assert reason in out.out + out.err
    assert f"Case.unlabelled of {case}" in out.out + out.err


@pytest.mark.parametrize("raters", FUSIONS)
def test_two_raters_are_warned_of_once_where_only_what_both_drew_is_kept(
    settings: params.Params,
    states: States,
    capsys: pytest.CaptureFixture[str],
    raters: str,
) -> None:
    two = {"a": RAW / "sub-02/sub-02_dseg.nii", "b": RAW / "sub-02/sub-02_dseg.nii"}
    states({"sub-02": {"labels": two}})
    of_raters = replace(settings, convert=replace(settings.convert, raters=raters))
    convert(cohort.DATASET, of_raters, 1)
    warned = "union (all that either drew) or agreed" in capsys.readouterr().err
    assert warned == (raters in ("majority", "staple"))


def test_the_card_counts_what_nobody_annotated(settings: params.Params, states: States) -> None:
    states({"sub-03": {"unlabelled": ("white_matter",)}, "sub-01": {"annotated_slices": (1, 3)}})
    cohort.make_pairs(settings)
    card = json.loads((DATASET / paths.CARD).read_text("utf-8"))
    pairs = [pair for pair in manifest.read(DATASET) if not pair.parent]
    ignored = sum(pair.ignored_pixels for pair in pairs)
    assert ignored
    assert sum(one["ignored_pixels"] for one in card["splits"].values()) >= ignored
    assert card["unlabelled"] == {"white_matter": 1}
    words = (DATASET / "README.md").read_text("utf-8")
    assert "white_matter in 1 cases" in words


def test_volumes_that_are_not_known_are_not_compared() -> None:
    def rows(**values: Any) -> list[Pair]:
        canvas = (64.0, 64.0, 64.0, 1.0, 1.0, 0.0, 0.0)
        counts = dict.fromkeys(range(1, 21), 500) | {5: 3, 6: 0}
        return [
            cohort.pair(
                f"p{number:02d}_0",
                canvas=canvas,
                class_pixels=(3000, count, 0, 0),
                **(values if number in (5, 6) else {}),
            )
            for number, count in counts.items()
        ]

    assert set(outliers.outliers(rows(), LABEL_MAP)) == {("p05", ""), ("p06", "")}
    for unknown in ({"ignored_pixels": 7}, {"unlabelled": (1,)}):
        assert not outliers.outliers(rows(**unknown), LABEL_MAP)


def test_plausibility_takes_what_nobody_annotated_for_no_tissue() -> None:
    rng = np.random.default_rng(0)
    ids = np.zeros((40, 40, 4), np.uint8)
    ids[10:30, 10:20], ids[10:30, 20:26], ids[10:30, 26:30] = 3, 2, 1
    image = np.array([0, 40, 90, 140])[ids] + rng.normal(0, 2, ids.shape)
    volume = Volume(image, Grid(ids.shape, np.eye(4)))
    whole = plausibility.of_case(ADAPTER.dataset, volume, ids, False)
    ids[:, :, 2:] = IGNORED
    ids[0, 0, 0] = IGNORED
    assert plausibility.of_case(ADAPTER.dataset, volume, ids, False) == whole
