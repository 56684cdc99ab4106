"""convert, augment and split together: leak-free, repeatable, and kind to what is there."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import datasets_spec
from pipeline import colors, files, gate, locks, manifest, params, paths, store
from pipeline.augment import augment
from pipeline.convert import convert
from pipeline.manifest import Pair
from pipeline.split import mini_test, split
from tests import cohort as rows
from tests.conftest import FIXTURES, PROJECT, Refused

NAME = "virtual_mni152"
LABELS = datasets_spec.load(NAME).dataset.label_map


@pytest.fixture
def settings() -> params.Params:
    small = params.load(NAME, PROJECT / "params.yaml")
    return replace(small, convert=replace(small.convert, image_px=64))


@pytest.fixture
def raw(workplace: Path) -> Path:
    """The fixture's three patients."""
    folder = workplace / paths.raw(NAME)
    shutil.copytree(FIXTURES / NAME / "raw", folder)
    return folder


def original(folder: Path) -> Pair:
    """A pair of the train split that shows something and is not augmented."""
    pairs = manifest.read(folder)
    return next(p for p in pairs if p.split == "train" and not p.parent and not p.empty)


def run(settings: params.Params, workers: int = 1) -> None:
    convert(NAME, settings, workers)
    augment(NAME, settings, workers)
    split(NAME, settings, workers)


def digests(folder: Path = paths.DATA) -> dict[str, str]:
    """Every file that the stages made, and its sha256."""
    made = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file): store.digest(file) for file in made if "raw" not in file.parts}


@pytest.mark.slow
def test_gives_the_same_bytes_with_one_two_and_four_workers(
    raw: Path, settings: params.Params
) -> None:
    variants = {
        **settings.augment.variants,
        "distorted": [
            {"Distorted": {"ratio": 0.04, "sigma_px": 12.0}},
            {"Rotate": {"degrees": 10}},
            {"GaussNoise": None},
        ],
    }
    settings = replace(settings, augment=replace(settings.augment, variants=variants))
    run(settings, workers=1)
    one = digests()
    assert len(one) > 40
    for workers in (2, 4):
        for part in ("converted", "augmented", "dataset"):
            shutil.rmtree(paths.DATA / part)
        run(settings, workers=workers)
        assert digests() == one


def test_gives_the_same_bytes_after_a_resumed_run(raw: Path, settings: params.Params) -> None:
    run(settings)
    whole = digests()
    folder = paths.converted(NAME)
    kept = [pair for pair in manifest.read(folder) if pair.case != "sub-02"]
    manifest.write(folder, kept)
    (folder / kept[0].mask).unlink()
    run(settings)
    assert digests() == whole


def test_makes_only_the_case_that_changed(
    raw: Path, settings: params.Params, capsys: pytest.CaptureFixture[str]
) -> None:
    run(settings)
    with (raw / "sub-01" / "sub-01_dseg.nii").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\1")
    capsys.readouterr()
    run(settings)
    told = capsys.readouterr().out
    assert f"convert {NAME}: 2 kept, 1 to make" in told
    assert f"augment {NAME}: 2 kept, 1 to make" in told


def test_converts_nothing_again_when_only_the_warps_change(
    raw: Path, settings: params.Params, capsys: pytest.CaptureFixture[str]
) -> None:
    run(settings)
    variants = {"deformed": [{"Elastic": {"sd_px": 1.0, "sigma_px": 8.0}}]}
    capsys.readouterr()
    run(replace(settings, augment=replace(settings.augment, variants=variants)))
    told = capsys.readouterr().out
    assert f"convert {NAME}: 3 kept, 0 to make" in told
    assert f"augment {NAME}: 0 kept, 3 to make" in told
    assert {pair.id.split("_")[0] for pair in manifest.read(paths.augmented(NAME))} == {"deformed"}


def test_an_augmented_pair_names_its_parent_and_is_trained_on_alone(
    raw: Path, settings: params.Params
) -> None:
    run(settings)
    placed = manifest.read(paths.dataset(NAME))
    parents = {pair.id: pair for pair in placed if not pair.parent}
    grown = [pair for pair in placed if pair.parent]
    assert grown
    for pair in grown:
        assert pair.split == "train"
        assert pair.patient == parents[pair.parent].patient
        assert pair.id.endswith(pair.parent)


def test_the_test_split_keeps_every_slice(raw: Path, settings: params.Params) -> None:
    few = params.EmptySlices(train=0.0, valid=0.0, test=1.0)
    lean = replace(settings, split=replace(settings.split, empty_slices=few))
    run(lean)
    placed = manifest.read(paths.dataset(NAME))
    converted = manifest.read(paths.converted(NAME))
    tested = {pair.patient for pair in placed if pair.split == "test"}
    assert tested
    everything = {pair.id for pair in converted if pair.patient in tested}
    assert {pair.id for pair in placed if pair.split == "test"} == everything
    assert any(pair.empty for pair in placed if pair.split == "test")
    assert not any(pair.empty for pair in placed if pair.split in ("train", "valid"))


def test_split_links_and_does_not_copy(raw: Path, settings: params.Params) -> None:
    run(settings)
    for pair in manifest.read(paths.dataset(NAME)):
        source = paths.augmented(NAME) if pair.parent else paths.converted(NAME)
        link = paths.dataset(NAME) / pair.split / pair.image
        assert link.samefile(source / pair.image)


def test_mini_test_is_a_part_of_test(raw: Path, settings: params.Params) -> None:
    run(settings)
    folder = paths.dataset(NAME)
    mini = {file.name for file in (folder / "mini_test" / "images").iterdir()}
    assert mini
    assert mini <= {file.name for file in (folder / "test" / "images").iterdir()}
    assert mini == {file.name for file in (folder / "mini_test" / "masks").iterdir()}


def test_masks_hold_only_classes_of_the_map_after_a_warp(
    raw: Path, settings: params.Params
) -> None:
    run(settings)
    converted = {pair.id: pair for pair in manifest.read(paths.converted(NAME))}
    grown = manifest.read(paths.augmented(NAME))
    for pair in grown:
        ids = colors.read_mask(paths.augmented(NAME) / pair.mask, LABELS)
        counts = np.bincount(ids.ravel(), minlength=len(LABELS))
        assert counts.tolist() == list(pair.class_pixels)
        had = np.flatnonzero(converted[pair.parent].class_pixels)
        assert set(np.flatnonzero(counts)) <= set(had)


def test_too_few_patients_are_refused_and_the_old_split_stays(
    raw: Path, settings: params.Params, refused: Refused
) -> None:
    run(settings)
    before = digests(paths.dataset(NAME))
    shutil.rmtree(raw / "sub-03")
    convert(NAME, settings, 1)
    augment(NAME, settings, 1)
    problem = refused(lambda: split(NAME, settings, 1))
    assert "2 patients" in str(problem)
    assert digests(paths.dataset(NAME)) == before


def test_a_picture_of_two_patients_is_a_leak(
    raw: Path, settings: params.Params, refused: Refused
) -> None:
    for number in range(4, 9):
        twin = f"sub-{number:02d}"
        shutil.copytree(raw / "sub-03", raw / twin)
        for part in ("T1w", "dseg"):
            (raw / twin / f"sub-03_{part}.nii").rename(raw / twin / f"{twin}_{part}.nii")
    convert(NAME, settings, 1)
    augment(NAME, settings, 1)
    problem = refused(lambda: split(NAME, settings, 1))
    assert "no picture is in two splits" in str(problem)
    assert not paths.dataset(NAME).exists()


def test_a_folder_of_ours_passes_the_gate(raw: Path, settings: params.Params) -> None:
    run(settings)
    assert gate.check(paths.dataset(NAME), 1) == []


@pytest.mark.parametrize(
    ("harm", "promise"),
    [
        ("copy", "no picture is in two splits"),
        ("unpair", "every image has its mask"),
        ("repaint", "every picture is the manifest's"),
    ],
)
def test_the_gate_finds_harm_done_to_a_folder(
    raw: Path, settings: params.Params, harm: str, promise: str
) -> None:
    run(settings)
    folder = paths.dataset(NAME)
    image = folder / "train" / original(folder).image
    if harm == "copy":
        for part in ("images", "masks"):
            shutil.copy(folder / "train" / part / image.name, folder / "test" / part / "copy.png")
    elif harm == "unpair":
        (folder / "train" / "masks" / image.name).unlink()
    else:
        picture = colors.read_image(image)
        picture[0, 0] ^= 255
        colors.write_image(image, picture)
    assert any(finding.promise.startswith(promise) for finding in gate.check(folder, 1))


def test_the_gate_judges_a_foreign_folder_by_its_files(
    raw: Path, settings: params.Params, refused: Refused
) -> None:
    run(settings)
    (paths.dataset(NAME) / paths.MANIFEST).unlink()
    assert gate.check(paths.dataset(NAME), 1) == []
    refused(lambda: gate.check(paths.raw(NAME), 1))


def cohort(patients: int) -> list[Pair]:
    """Rows of a manifest for ``patients`` of two slices each."""
    return [
        rows.pair(f"p{number:03d}_{index}", class_pixels=(90, 10 * index))
        for number in range(patients)
        for index in range(2)
    ]


def test_mini_test_shows_every_class_a_normal_slice_and_several_patients() -> None:
    pairs = [replace(one, class_pixels=(*one.class_pixels, 0)) for one in cohort(5)]
    pairs[3] = replace(pairs[3], class_pixels=(80, 0, 20))
    chosen = mini_test(pairs, 4)
    assert len(chosen) == 4
    assert any(pair.class_pixels[1] for pair in chosen)
    assert any(pair.class_pixels[2] for pair in chosen)
    assert any(pair.empty for pair in chosen)
    assert len({pair.patient for pair in chosen}) >= 3


def test_the_normal_slice_of_mini_test_lies_beside_foreground() -> None:
    pairs = [
        replace(pair, id=f"c_{index}", case="c", slice_index=index, class_pixels=(90, drawn))
        for index, drawn in enumerate([0, 0, 0, 9, 9, 0])
        for pair in cohort(1)[:1]
    ]
    [normal] = [pair for pair in mini_test(pairs, 2) if pair.empty]
    assert normal.slice_index in (2, 5)


def test_augmented_pairs_of_an_earlier_conversion_are_refused(
    raw: Path, settings: params.Params, refused: Refused
) -> None:
    run(settings)
    before = digests(paths.dataset(NAME))
    for change in (settings, replace(settings, convert=replace(settings.convert, image_px=32))):
        if change is settings:
            (raw / "sub-03").rename(raw / ".sub-03")
        convert(NAME, change, 1)
        problem = str(refused(lambda: split(NAME, settings, 1)))
        assert f"python -m pipeline augment {NAME}" in problem
        assert digests(paths.dataset(NAME)) == before


def test_no_variants_leave_no_augmented_pairs(raw: Path, settings: params.Params) -> None:
    run(settings)
    run(replace(settings, augment=replace(settings.augment, variants={})))
    assert manifest.read(paths.augmented(NAME)) == []
    assert list(paths.augmented(NAME).rglob("*.png")) == []
    assert not any(pair.parent for pair in manifest.read(paths.dataset(NAME)))


def test_names_of_the_ancestors_show_variant_and_parent(raw: Path, settings: params.Params) -> None:
    name = "deformed_alpha_1300_sigmoid_8"
    variants = {name: [{"Elastic": {"sd_px": 0.5, "sigma_px": 8.0}}]}
    run(replace(settings, augment=replace(settings.augment, variants=variants)))
    grown = manifest.read(paths.augmented(NAME))
    assert grown
    for pair in grown:
        assert pair.id == f"{name}_{pair.parent}"
        assert (paths.augmented(NAME) / "images" / f"{pair.id}.png").is_file()


@pytest.mark.parametrize("rater", ["", "b"])
def test_an_augmented_pair_of_another_pairs_name_is_refused(
    raw: Path, settings: params.Params, refused: Refused, rater: str
) -> None:
    convert(NAME, settings, 1)
    folder = paths.converted(NAME)
    pairs = manifest.read(folder)
    shown = next(pair for pair in pairs if not pair.empty)
    same = f"bent_{shown.id}" if not rater else f"b_{shown.id}"
    manifest.write(folder, [*pairs, replace(shown, id=same, case="sub-99")])
    variants = {"bent": [], "bent_b": []}
    harmful = replace(settings, augment=replace(settings.augment, variants=variants))
    problem = str(refused(lambda: augment(NAME, harmful, 1)))
    assert shown.id in problem
    assert "Rename the variant" in problem
    assert not paths.augmented(NAME).exists()


def test_online_leaves_no_augmented_pairs_on_disk(raw: Path, settings: params.Params) -> None:
    run(settings)
    assert manifest.read(paths.augmented(NAME))
    run(replace(settings, train=replace(settings.train, augment="online")))
    assert manifest.read(paths.augmented(NAME)) == []
    assert list(paths.augmented(NAME).rglob("*.png")) == []


def test_an_interrupted_split_leaves_the_old_one_and_nothing_else(
    raw: Path, settings: params.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(settings)
    before = digests(paths.dataset(NAME))

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.card.write", stopped)
    with pytest.raises(KeyboardInterrupt):
        split(NAME, replace(settings, split=replace(settings.split, seed=1)), 1)
    assert digests(paths.dataset(NAME)) == before
    left = {file.name for file in paths.dataset(NAME).parent.iterdir()}
    assert left - {f".{NAME}.lock"} == {NAME}


def test_a_split_killed_between_two_names_leaves_a_dataset(
    raw: Path, settings: params.Params, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    """Also when the next split fails, and on a file system that cannot exchange names."""
    run(settings)
    before = manifest.read(paths.dataset(NAME))
    replace_name = os.replace

    def killed(one: Path, other: Path) -> None:
        if Path(one).name.startswith(".unfinished-virtual"):
            raise KeyboardInterrupt
        replace_name(one, other)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_exchanged", lambda *_: False)
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            split(NAME, settings, 1)
    refused(lambda: split(NAME, replace(settings, split=replace(settings.split, folds=99)), 1))
    assert manifest.read(paths.dataset(NAME)) == before
    assert sorted(one.name for one in paths.dataset(NAME).parent.iterdir()) == [
        f".{NAME}.lock",
        NAME,
    ]


def test_every_fold_is_a_dataset_of_its_own(raw: Path, settings: params.Params) -> None:
    run(settings)
    tested = []
    for fold in range(3):
        split(NAME, replace(settings, split=replace(settings.split, folds=3, fold=fold)), 1)
        placed = manifest.read(paths.dataset(NAME))
        tested += sorted({pair.patient for pair in placed if pair.split == "test"})
        assert gate.check(paths.dataset(NAME), 1) == []
    assert sorted(tested) == ["sub-01", "sub-02", "sub-03"]


def test_a_mask_that_changed_and_a_pair_that_is_gone_are_found(
    raw: Path, settings: params.Params
) -> None:
    run(settings)
    folder = paths.dataset(NAME)
    drawn = next(p for p in manifest.read(folder) if p.split == "test" and not p.empty)
    blank = np.zeros((64, 64), np.uint8)
    (folder / "test" / drawn.mask).unlink()  # or the link's other end would change too
    colors.write_mask(folder / "test" / drawn.mask, blank, LABELS)
    [found] = gate.check(folder, 1)
    assert (found.promise, found.count) == (gate.UNCHANGED, 1)
    for file in (drawn.image, drawn.mask):
        (folder / "test" / file).unlink()
    [found] = gate.check(folder, 1)
    assert (found.promise, found.example) == (gate.UNCHANGED, f"test/{drawn.id}")


def test_a_dataset_that_another_run_fills_is_refused(
    workplace: Path, settings: params.Params, refused: Refused
) -> None:
    with locks.alone(paths.dataset(NAME)):
        problem = refused(lambda: split(NAME, settings, 1))
    assert problem.where == str(paths.dataset(NAME))
    assert "found another run at it" in problem.what
