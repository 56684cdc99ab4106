"""convert, augment and split together: leak-free, repeatable, and kind to what is there."""

from __future__ import annotations

import csv
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import datasets_spec
from datasets_spec.contract import Case, Licence, PatientsTable
from model import params
from pipeline import paths
from pipeline.augment import augment
from pipeline.convert import convert
from pipeline.pairs import manifest, png
from pipeline.pairs.manifest import Pair
from pipeline.params.limits import Limits
from pipeline.params.split import EmptySlices
from pipeline.runtime import files, locks
from pipeline.runtime.files import sha256
from pipeline.split import _require_present_parents, mini_test, split
from pipeline.splits import folders, leaks
from tests.conftest import FIXTURES, PROJECT, Refused
from tests.support import cohort as rows

pytestmark = pytest.mark.slow

NAME = "virtual_mni152"
OTHER_TERMS = Licence("other terms", redistribute=False, commercial=False)
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
    split(NAME, settings)


def digests(folder: Path = paths.DATA) -> dict[str, str]:
    """Every file that the stages made, and its sha256."""
    made = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file): sha256(file) for file in made if "raw" not in file.parts}


def test_gives_the_same_bytes_with_one_worker_and_three(raw: Path, settings: params.Params) -> None:
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
    for part in ("converted", "augmented", "dataset"):
        shutil.rmtree(paths.DATA / part)
    run(settings, workers=3)
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
    output = capsys.readouterr().out
    assert f"convert {NAME}: 2 kept, 1 to make" in output
    assert f"augment {NAME}: 2 kept, 1 to make" in output


def test_converts_nothing_again_when_only_the_warps_change(
    raw: Path, settings: params.Params, capsys: pytest.CaptureFixture[str]
) -> None:
    run(settings)
    variants = {"deformed": [{"Elastic": {"sd_px": 1.0, "sigma_px": 8.0}}]}
    capsys.readouterr()
    run(replace(settings, augment=replace(settings.augment, variants=variants)))
    output = capsys.readouterr().out
    assert f"convert {NAME}: 3 kept, 0 to make" in output
    assert f"augment {NAME}: 0 kept, 3 to make" in output
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
    few = EmptySlices(train=0.0, valid=0.0, test=1.0)
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
        ids = png.read_mask(paths.augmented(NAME) / pair.mask, LABELS)
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
    problem = refused(lambda: split(NAME, settings))
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
    problem = refused(lambda: split(NAME, settings))
    assert "no picture is in two splits" in str(problem)
    assert not paths.dataset(NAME).exists()


def test_a_folder_of_ours_passes_the_gate(raw: Path, settings: params.Params) -> None:
    run(settings)
    assert folders.check(paths.dataset(NAME), 1) == []


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
        picture = png.read_image(image)
        picture[0, 0] ^= 255
        png.write_image(image, picture)
    assert any(finding.promise.startswith(promise) for finding in folders.check(folder, 1))


def test_the_gate_judges_a_foreign_folder_by_its_files(
    raw: Path, settings: params.Params, refused: Refused
) -> None:
    run(settings)
    (paths.dataset(NAME) / paths.MANIFEST).unlink()
    assert folders.check(paths.dataset(NAME), 1) == []
    refused(lambda: folders.check(paths.raw(NAME), 1))


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
        problem = str(refused(lambda: split(NAME, settings)))
        assert f"python -m pipeline augment {NAME}" in problem
        assert digests(paths.dataset(NAME)) == before


Table = Callable[..., None]


@pytest.fixture
def table(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """Six patients, and what a table in their raw folder says of them.

    The call writes the table: case -> patient, official split, raters (one letter each).
    """
    rows.write_raw(patients=6)
    adapter = datasets_spec.load(NAME)

    def cases(folder: Path) -> Iterator[Case]:
        with (folder / "patients.csv").open(newline="") as stream:
            listed = {row[0]: row[1:] for row in csv.reader(stream)}
        for case in adapter.cases(folder):
            assert isinstance(case, Case)
            if case.id in listed:
                patient, official, raters = listed[case.id]
                labels = dict.fromkeys(raters or [""], case.labels[""])
                yield replace(case, patient=patient, split=official or None, labels=labels)

    monkeypatch.setattr(datasets_spec, "load", lambda _: replace(adapter, cases=cases))

    def write(**changes: tuple[str, str, str] | None) -> None:
        listed: dict[str, tuple[str, str, str] | None] = {
            f"sub-0{number}": (f"p{number}", "", "") for number in range(1, 7)
        }
        listed |= {name.replace("_", "-"): row for name, row in changes.items()}
        with (paths.raw(NAME) / "patients.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([name, *row] for name, row in listed.items() if row)

    write()
    return write


def splits_of_patients() -> Mapping[str, set[str]]:
    splits = defaultdict(set)
    for pair in manifest.read(paths.dataset(NAME)):
        splits[pair.patient].add(pair.split)
    return splits


CORRECTIONS = {
    "a patient": {"sub_01": ("p2", "", "")},
    "an official split": {"sub_01": ("p1", "test", "")},
    "a case less": {"sub_01": None},
    "a rater more": {"sub_01": ("p1", "", "ab")},
}


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_split_refuses_a_manifest_that_says_something_else_than_the_raw_data(
    table: Table, refused: Refused, correction: str
) -> None:
    settings = rows.write_params()
    run(settings)
    before = digests()
    table(**CORRECTIONS[correction])
    problem = refused(lambda: split(NAME, settings))
    assert "sub-01" in problem.what
    assert problem.remedy == f"Run: python -m pipeline convert {NAME}"
    assert digests() == before
    table()
    split(NAME, settings)
    assert digests() == before


def test_split_refuses_a_manifest_without_a_case_of_the_raw_data(
    table: Table, refused: Refused
) -> None:
    table(sub_01=None)
    run(settings := rows.write_params())
    table()
    assert "sub-01" in refused(lambda: split(NAME, settings)).what


def test_split_refuses_raters_that_are_asked_for_only_now(table: Table, refused: Refused) -> None:
    table(sub_01=("p1", "", "ab"))
    run(settings := rows.write_params())
    each = replace(settings, convert=replace(settings.convert, raters="each"))
    assert "the rater" in refused(lambda: split(NAME, each)).what
    run(each)
    assert {pair.rater for pair in manifest.read(paths.dataset(NAME))} == {"", "a", "b"}


@pytest.mark.parametrize("number", range(2, 7))
def test_a_corrected_table_of_patients_leaves_no_patient_in_two_splits(
    table: Table, number: int
) -> None:
    settings = rows.write_params()
    run(settings)
    case = f"sub_0{number}"
    table(sub_01=("same", "", ""), **{case: ("same", "", "")})
    convert(NAME, settings, 1)
    augment(NAME, settings, 1)
    split(NAME, settings)
    splits = splits_of_patients()
    assert splits.keys() == {"same", *(f"p{n}" for n in range(2, 7) if n != number)}
    assert all(len(where) == 1 for where in splits.values())


@pytest.fixture
def stated(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Six patients, and the patients table of the contract; the call writes that table.

    case -> patient and site.
    """
    rows.write_raw(patients=6)
    known = datasets_spec.load(NAME)
    facts = PatientsTable("participants.tsv", patient="person", strata=("site",))
    adapter = replace(known, dataset=replace(known.dataset, patients=facts))
    monkeypatch.setattr(datasets_spec, "load", lambda _: adapter)

    def write(**changes: str) -> None:
        listed = {f"sub-0{number}": f"p{number}\tA" for number in range(1, 7)}
        listed |= {name.replace("_", "-"): row for name, row in changes.items()}
        lines = ["participant_id\tperson\tsite", *("\t".join(row) for row in listed.items())]
        (paths.raw(NAME) / facts.file).write_text("\n".join(lines))

    write()
    return write


STAGES = {
    "convert": lambda one: convert(NAME, one, 1),
    "augment": lambda one: augment(NAME, one, 1),
}


@pytest.mark.parametrize("number", [2, 3])
def test_a_corrected_patients_table_changes_rows_and_no_picture(
    stated: Callable[..., None], number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = rows.write_params()
    run(settings)
    before = {file: file.stat().st_ino for file in paths.converted(NAME).rglob("*.png")}
    assert before
    stated(sub_01=f"p{number}\tB")
    capsys.readouterr()
    run(settings)
    assert capsys.readouterr().out.count("6 kept, 0 to make") == 2
    assert {file: file.stat().st_ino for file in before} == before
    for folder in (paths.converted(NAME), paths.augmented(NAME), paths.dataset(NAME)):
        mine = [pair for pair in manifest.read(folder) if pair.case == "sub-01"]
        assert {(pair.patient, pair.strata) for pair in mine} == {(f"p{number}", '{"site": "B"}')}
    assert all(len(where) == 1 for where in splits_of_patients().values())
    whole = digests()
    for folder in (paths.converted(NAME), paths.augmented(NAME)):
        shutil.rmtree(folder)
    run(settings)
    assert digests() == whole


@pytest.mark.parametrize("done", [(), ("augment",), ("convert",), ("augment", "convert")])
@pytest.mark.parametrize("row", ["p2\tA", "p1\tB"])
def test_split_refuses_a_patients_table_that_not_all_stages_know(
    stated: Callable[..., None], refused: Refused, done: tuple[str, ...], row: str
) -> None:
    settings = rows.write_params()
    run(settings)
    before = digests(paths.dataset(NAME))
    stated(sub_01=row)
    for stage in done:
        STAGES[stage](settings)
    assert "python -m pipeline" in refused(lambda: split(NAME, settings)).remedy
    assert digests(paths.dataset(NAME)) == before


def test_a_case_that_fails_keeps_its_old_pairs_and_has_the_patient_of_the_table(
    stated: Callable[..., None], refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = rows.write_params()
    run(settings)
    scan = paths.raw(NAME) / "sub-01" / "sub-01_T1w.nii"
    content = scan.read_bytes()
    scan.write_bytes(content[:400])
    stated(sub_01="p2\tA")
    refused(lambda: convert(NAME, settings, 1))
    augment(NAME, settings, 1)
    capsys.readouterr()
    split(NAME, settings)
    assert "1 of 6 cases failed in the last conversion, such as sub-01" in capsys.readouterr().err
    assert splits_of_patients().keys() == {f"p{number}" for number in range(2, 7)}
    assert all(len(where) == 1 for where in splits_of_patients().values())
    scan.write_bytes(content)
    run(settings)
    assert "failed" not in capsys.readouterr().err
    whole = digests()
    for folder in (paths.converted(NAME), paths.augmented(NAME)):
        shutil.rmtree(folder)
    run(settings)
    assert digests() == whole


def test_a_case_that_fails_without_a_table_is_counted_too(
    raw: Path, settings: params.Params, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    run(settings)
    (raw / "sub-01" / "sub-01_T1w.nii").unlink()
    refused(lambda: convert(NAME, settings, 1))
    augment(NAME, settings, 1)
    capsys.readouterr()
    split(NAME, settings)
    assert "1 of 3 cases failed" in capsys.readouterr().err


def test_labels_that_two_raters_exchange_are_converted_anew(
    table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = rows.write_params(**{"convert.raters": "each"})
    table(sub_01=("p1", "", "ab"))
    convert(NAME, settings, 1)
    output = capsys.readouterr().out
    assert "0 kept, 6 to make" in output
    table(sub_01=("p1", "", "ba"))
    convert(NAME, settings, 1)
    assert "5 kept, 1 to make" in capsys.readouterr().out


def rewritten(raw: Path) -> None:
    """The scan of one patient with other bytes and the same picture, as if compressed anew."""
    with (raw / "sub-01" / "sub-01_T1w.nii").open("r+b") as stream:
        stream.seek(148)  # descrip, 80 characters of no meaning
        stream.write(b"compressed anew")


def test_a_file_with_other_bytes_and_the_same_picture_costs_no_new_warp(
    raw: Path, settings: params.Params, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    run(settings)
    before = {name: made for name, made in digests().items() if name.endswith(".png")}
    rewritten(raw)
    convert(NAME, settings, 1)
    refused(lambda: split(NAME, settings))
    capsys.readouterr()
    augment(NAME, settings, 1)
    assert f"augment {NAME}: 3 kept, 0 to make" in capsys.readouterr().out
    split(NAME, settings)
    assert {name: made for name, made in digests().items() if name.endswith(".png")} == before
    whole = digests()
    shutil.rmtree(paths.augmented(NAME))
    run(settings)
    assert digests() == whole


def test_whatever_a_pair_inherits_follows_its_present_parent(
    raw: Path, settings: params.Params, capsys: pytest.CaptureFixture[str]
) -> None:
    run(settings)
    texts = ("patient", "source", "source_digest", "licence", "label_table", "findings")
    numbers = {"window": (1.0, 2.0), "agreement": (float("nan"), 0.5), "raters": 2}
    changes = {**dict.fromkeys(texts, "another"), **numbers}
    pairs = manifest.read(paths.converted(NAME))
    manifest.write(paths.converted(NAME), [replace(pair, **changes) for pair in pairs])
    capsys.readouterr()
    augment(NAME, settings, 1)
    assert f"augment {NAME}: 3 kept, 0 to make" in capsys.readouterr().out
    grown = manifest.read(paths.augmented(NAME))
    assert grown
    for pair in grown:
        assert {name: repr(getattr(pair, name)) for name in changes} == {
            name: repr(value) for name, value in changes.items()
        }
    _require_present_parents(NAME, manifest.read(paths.converted(NAME)), grown)


def test_a_renamed_scan_and_other_terms_make_no_picture_again(
    raw: Path,
    settings: params.Params,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(settings)
    adapter = datasets_spec.load(NAME)
    (raw / "sub-01").rename(raw / "moved")

    def cases(folder: Path) -> Iterator[Case]:
        yield from adapter.cases(folder)  # type: ignore[misc]  # of the others
        moved = folder / "moved"
        image, label = moved / "sub-01_T1w.nii", moved / "sub-01_dseg.nii"
        yield Case("sub-01", "sub-01", image, {"": label})

    source = replace(adapter.dataset.source, citation="Someone else", licence=OTHER_TERMS)
    facts = replace(adapter.dataset, title="Another title", source=source)
    other = replace(adapter, cases=cases, dataset=facts)
    monkeypatch.setattr(datasets_spec, "load", lambda _: other)
    capsys.readouterr()
    run(settings)
    output = capsys.readouterr().out
    assert f"convert {NAME}: 3 kept, 0 to make" in output
    assert f"augment {NAME}: 3 kept, 0 to make" in output
    placed = manifest.read(paths.dataset(NAME))
    assert {pair.licence for pair in placed} == {"other terms"}
    assert {pair.source for pair in placed if pair.case == "sub-01"} == {"moved/sub-01_T1w.nii"}


def test_limits_on_what_is_read_make_nothing_again(
    raw: Path, settings: params.Params, capsys: pytest.CaptureFixture[str]
) -> None:
    convert(NAME, settings, 1)
    capsys.readouterr()
    convert(NAME, replace(settings, limits=Limits(voxels=10**7, pixels=10**7)), 1)
    assert "3 kept, 0 to make" in capsys.readouterr().out


def test_a_class_or_a_lesion_that_a_split_lacks_is_reported_and_kept_on_the_card(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows.write_raw(classes=3)
    rows.make_pairs(rows.write_params())
    output = capsys.readouterr().out
    assert f"split {NAME}: warning: no patient shows white_matter" in output
    card = (paths.dataset(NAME) / "README.md").read_text("utf-8")
    assert "no patient shows white_matter" in card


def test_no_variants_leave_no_augmented_pairs(raw: Path, settings: params.Params) -> None:
    run(settings)
    run(replace(settings, augment=replace(settings.augment, variants={})))
    assert manifest.read(paths.augmented(NAME)) == []
    assert list(paths.augmented(NAME).rglob("*.png")) == []
    assert not any(pair.parent for pair in manifest.read(paths.dataset(NAME)))


def test_names_as_in_the_reference_projects_show_variant_and_parent(
    raw: Path, settings: params.Params
) -> None:
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
    run(replace(settings, augment=replace(settings.augment, mode="online")))
    assert manifest.read(paths.augmented(NAME)) == []
    assert list(paths.augmented(NAME).rglob("*.png")) == []


def test_an_interrupted_split_leaves_the_old_one_and_nothing_else(
    raw: Path, settings: params.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(settings)
    before = digests(paths.dataset(NAME))

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.pages.card.write", stopped)
    with pytest.raises(KeyboardInterrupt):
        split(NAME, replace(settings, split=replace(settings.split, seed=1)))
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
            split(NAME, settings)
    refused(lambda: split(NAME, replace(settings, split=replace(settings.split, folds=99))))
    assert manifest.read(paths.dataset(NAME)) == before
    assert sorted(one.name for one in paths.dataset(NAME).parent.iterdir()) == [
        f".{NAME}.lock",
        NAME,
    ]


def test_every_fold_is_a_dataset_of_its_own(raw: Path, settings: params.Params) -> None:
    run(settings)
    tested = []
    for fold in range(3):
        split(NAME, replace(settings, split=replace(settings.split, folds=3, fold=fold)))
        placed = manifest.read(paths.dataset(NAME))
        tested += sorted({pair.patient for pair in placed if pair.split == "test"})
        assert folders.check(paths.dataset(NAME), 1) == []
    assert sorted(tested) == ["sub-01", "sub-02", "sub-03"]


def test_a_mask_that_changed_and_a_pair_that_is_gone_are_found(
    raw: Path, settings: params.Params
) -> None:
    run(settings)
    folder = paths.dataset(NAME)
    drawn = next(p for p in manifest.read(folder) if p.split == "test" and not p.empty)
    blank = np.zeros((64, 64), np.uint8)
    (folder / "test" / drawn.mask).unlink()  # or the link's other end would change too
    png.write_mask(folder / "test" / drawn.mask, blank, LABELS)
    [found] = folders.check(folder, 1)
    assert (found.promise, found.count) == (leaks.UNCHANGED, 1)
    for file in (drawn.image, drawn.mask):
        (folder / "test" / file).unlink()
    [found] = folders.check(folder, 1)
    assert (found.promise, found.examples[0]) == (leaks.UNCHANGED, f"test/{drawn.id}")


def test_a_dataset_that_another_run_fills_is_refused(
    workplace: Path, settings: params.Params, refused: Refused
) -> None:
    with locks.alone(paths.dataset(NAME)):
        problem = refused(lambda: split(NAME, settings))
    assert problem.where == str(paths.dataset(NAME))
    assert "expected no other run" in problem.what
