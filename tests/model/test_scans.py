"""Networks that learn from kept scans: of any plane, with neighbours and a field of view."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import datasets_spec
from datasets_spec.contract import IGNORED
from model import params, provenance
from model.evaluate import evaluate
from model.export import export
from model.inference.facts import Facts
from model.inference.member import Member, viewed
from model.inference.predictor import Predictor
from model.predict import predict
from model.preflight import preflight
from model.scoring import answers
from model.train import train
from model.training import slices
from model.training.batches import Batches
from model.training.slices import KeptSlices
from pipeline import paths
from pipeline.convert import convert
from pipeline.pairs import manifest, png
from pipeline.pairs.manifest import Pair
from pipeline.pairs.truth import KeptTruth
from pipeline.runtime import modelfile
from pipeline.volumes import reader, volume
from tests.conftest import Refused
from tests.pipeline.pairs import test_truth, test_uneven_cases
from tests.pipeline.pairs.test_uneven_cases import converted  # noqa: F401  # a fixture
from tests.support import channelled, cohort
from tests.support.models import save_untrained

pytestmark = pytest.mark.slow

RUN = paths.run(cohort.DATASET)
DATASET = paths.dataset(cohort.DATASET)
CONVERTED = paths.converted(cohort.DATASET)
SEEN = {
    "train.source": "scans",
    "train.plane": "coronal",
    "train.network.neighbours": 1,
    "train.network.field_mm": 40.0,
    "train.network.image_px": 16,
    "train.epochs": 1,
    "train.epoch_change_pictures": 2,
    "augment.mode": "online",
    "augment.variants": {"mirrored": [{"HorizontalFlip": None}]},
}
PX = 16
KINDS = ("grey", "three times", "sequences", "windows")


def prepared(kind: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> params.Params:
    """Pairs that are grey, of two sequences or of a CT in three windows."""
    wanted = {**SEEN, **more}
    if kind in ("grey", "three times"):
        wanted["train.network.channels"] = 1 if kind == "grey" else 3
        return cohort.prepare(**wanted)
    if kind == "windows":
        channelled.ct(monkeypatch)
        wanted["convert.windows"] = channelled.WINDOWS
    else:
        channelled.sequences(monkeypatch, 2)
    settings = cohort.write_params(**wanted)
    cohort.make_pairs(settings)
    return settings


def of(settings: params.Params) -> slices.Slices:
    return slices.of(cohort.DATASET, datasets_spec.load(cohort.DATASET).dataset, settings)


def pairs_of(*splits: str) -> list[Pair]:
    return [one for one in manifest.read(DATASET) if one.split in splits and not one.parent]


def raw_of(case: str) -> list[Path]:
    return sorted(
        file for file in (paths.raw(cohort.DATASET) / case).iterdir() if "dseg" not in file.name
    )


def ids_of(file: Path) -> np.ndarray:
    return np.asarray(nib.load(file).dataobj)


def same_as_evaluated(masks: Path) -> int:
    """How many test cases have in ``masks`` what evaluate scored, voxel for voxel."""
    found = 0
    for case in {one.case for one in pairs_of("test")}:
        kept = ids_of(RUN / paths.PREDICTIONS / paths.NATIVE / f"{case}.nii.gz")
        [mask] = masks.glob(f"{case}*.nii.gz")
        assert np.array_equal(ids_of(mask), kept)
        found += bool(kept.any())
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_predict_on_raw_scans_is_what_evaluate_predicts_of_the_kept_ones(
    kind: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = prepared(kind, monkeypatch)
    save_untrained(cohort.DATASET, settings)
    evaluate(cohort.DATASET, settings)
    facts = Facts.of(modelfile.read(RUN / paths.MODEL), RUN / paths.MODEL)
    assert (facts.plane, facts.source, facts.network.inputs % 3) == ("coronal", "scans", 0)
    scans = [file for case in {one.case for one in pairs_of("test")} for file in raw_of(case)]
    predict([RUN / paths.MODEL], scans, Path("masks"))
    assert same_as_evaluated(Path("masks"))
    export(cohort.DATASET, "onnx")
    one, other = (Member.of(RUN / name) for name in (paths.MODEL, paths.MODEL_ONNX))
    assert one.facts == other.facts
    images = {
        name: reader.read_image(file)
        for name, file in zip(facts.sequences, raw_of("sub-01"), strict=False)
    }
    views = viewed(images or reader.read_image(raw_of("sub-01")[0]), facts)
    pictures = [views.picture(index) for index in range(4)]
    np.testing.assert_allclose(one.of_pictures(pictures), other.of_pictures(pictures), atol=1e-5)


def test_a_training_is_a_model_of_its_plane_that_is_used_everywhere(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = prepared("grey", monkeypatch, **{"train.channel_dropout": 0.0, "train.epochs": 2})
    train(cohort.DATASET, settings)
    names = {file.name for file in (DATASET / paths.MINI_TEST / paths.IMAGES).iterdir()}
    for epoch in (1, 2):
        masks = sorted(paths.epoch_change(RUN, epoch).iterdir())
        assert len(masks) == 2
        for mask in masks:
            assert mask.name in names
            drawn = png.read_mask(mask, datasets_spec.load(cohort.DATASET).dataset.label_map)
            assert drawn.shape == (settings.convert.image_px,) * 2
    origin = modelfile.read(RUN / paths.MODEL)
    assert "postprocessing" in origin["chosen"]
    assert origin["plane"] == "coronal"
    evaluate(cohort.DATASET, settings)
    with (RUN / paths.PER_CASE).open(newline="") as stream:
        assert {row["case"] for row in csv.DictReader(stream)} == {p.case for p in pairs_of("test")}
    found = json.loads((RUN / paths.SCORES).read_text("utf-8"))
    assert found["slices_left_out"] == 0
    scans = [file for case in {one.case for one in pairs_of("test")} for file in raw_of(case)]
    predict([RUN / paths.MODEL], scans, Path("masks"))
    same_as_evaluated(Path("masks"))
    several = Predictor.of([RUN / paths.MODEL, RUN / paths.MODEL])
    image = reader.read_image(scans[0])
    assert several(image).shape == image.array.shape


@pytest.mark.parametrize("name", ["train.plane", "train.source", "train.network.neighbours"])
def test_a_model_of_other_slices_is_refused(
    name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    settings = prepared("grey", monkeypatch)
    save_untrained(cohort.DATASET, settings)
    plain = {"train.plane": "own", "train.network.neighbours": 0, "train.network.field_mm": 0.0}
    other = {"train.source": {**plain, name: "pairs"}, "train.plane": {name: "sagittal"}}
    changed = cohort.write_params(**{**SEEN, **other.get(name, {name: 2})})
    problem = refused(lambda: evaluate(cohort.DATASET, changed))
    assert "expected a model of" in str(problem)


@pytest.mark.parametrize("plane", ["own", "coronal", "sagittal"])
def test_rows_are_all_slices_of_the_plane_with_their_labels(
    plane: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"split.empty_slices": {"train": 1.0, "valid": 1.0, "test": 1.0}, "train.plane": plane}
    settings = prepared("grey", monkeypatch, **more)
    seen = of(settings)
    assert seen.read
    own = datasets_spec.load(cohort.DATASET).dataset.plane if plane == "own" else plane
    for rows, split in ((seen.train, "train"), (seen.valid, "valid")):
        cases = {pair.case: pair for pair in pairs_of(split)}
        expected = 0
        for pair in cases.values():
            kept = KeptTruth.of(CONVERTED, pair)
            ids = volume.unslice(kept.stack(""), pair.plane)
            expected += len(volume.slices(ids, own))
        assert len(rows) == len({row.id for row in rows}) == expected
        assert {row.plane for row in rows} == {own}
    for row in seen.train[::4]:
        image, ids = seen.read(row)
        assert (image.shape, ids.shape) == ((PX, PX, 3), (PX, PX))
        counts = [int(np.count_nonzero(ids == label)) for label in range(cohort.CLASSES)]
        assert row.class_pixels == tuple(counts)
        assert row.ignored_pixels == np.count_nonzero(ids == IGNORED)
    assert any(any(row.class_pixels[1:]) for row in seen.train)
    assert seen.cases == pairs_of("valid")


def test_a_share_of_the_empty_slices_is_left_out_whatever_else_there_is(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = {"split.empty_slices": {"train": 0.4, "valid": 0.0, "test": 1.0}}
    seen = of(prepared("grey", monkeypatch, **some))
    assert seen.read
    every = [row for rows in seen.read.rows(pairs_of("train")) for row in rows]
    kept = {row.id for row in seen.train}
    assert {row.id for row in every if not row.empty} <= kept
    empty = [row for row in every if row.empty]
    assert 0 < len(kept & {row.id for row in empty}) < len(empty)
    assert not any(row.empty for row in seen.valid)


def test_folds_deal_train_and_valid_and_leave_test_alone(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = prepared("grey", monkeypatch, **{"train.folds": 2})
    judged: Counter[str] = Counter()
    for fold in (0, 1):
        wanted = replace(settings, train=replace(settings.train, fold=fold))
        seen = of(wanted)
        theirs = {row.patient for row in seen.valid}
        assert theirs
        assert theirs == {pair.patient for pair in seen.cases}
        assert {pair.split for pair in seen.cases} == {"valid"}
        assert theirs.isdisjoint({row.patient for row in seen.train})
        judged.update(theirs)
    assert set(judged.values()) == {1}
    assert set(judged) == {pair.patient for pair in pairs_of("train", "valid")}


def test_a_row_is_read_once_and_online_variants_are_drawn_of_what_is_kept(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = prepared("grey", monkeypatch)
    seen = of(settings)
    assert seen.read
    read: list[str] = []
    views = KeptSlices.views
    monkeypatch.setattr(
        KeptSlices, "views", lambda self, pair: read.append(pair.case) or views(self, pair)
    )
    facts = datasets_spec.load(cohort.DATASET).dataset

    def batches(**more: Any) -> Batches:
        network = settings.train.network
        return Batches(workplace, seen.train, facts.label_map, network, 4, read=seen.read, **more)

    plain, kept = batches(), batches(scratch=workplace)
    turned = batches(scratch=workplace, online=lambda _, __, image, ids: (image[::-1], ids[::-1]))
    kept.fill("read")
    turned.fill("read")
    known = len(read)
    assert known == 2 * len({row.case for row in seen.train})
    shown = [kept[index] for index in range(len(kept))]
    upside = [turned[index] for index in range(len(turned))]
    assert len(read) == known
    for index, ((images, ids), (bent, bent_ids)) in enumerate(zip(shown, upside, strict=True)):
        again, again_ids = plain[index]
        assert np.array_equal(images, again)
        assert np.array_equal(ids, again_ids)
        assert np.array_equal(bent, images[:, ::-1])
        assert np.array_equal(bent_ids, ids[:, ::-1])


def test_a_full_disk_is_named_and_costs_time_alone(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = prepared("grey", monkeypatch)
    seen = of(settings)
    facts = datasets_spec.load(cohort.DATASET).dataset
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    rows, network = seen.train, settings.train.network
    plain = Batches(workplace, rows, facts.label_map, network, 4, read=seen.read)
    full = Batches(workplace, rows, facts.label_map, network, 4, read=seen.read, scratch=workplace)
    full.fill("read train")
    assert f"no room for {len(rows)} of {len(rows)} slices" in capsys.readouterr().err
    for one, other in zip(plain[1], full[1], strict=True):
        assert np.array_equal(one, other)


def test_a_sequence_is_dropped_in_all_neighbours(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = prepared("sequences", monkeypatch)
    seen = of(settings)
    facts, network = datasets_spec.load(cohort.DATASET).dataset, settings.train.network
    rows = [row for row in seen.train if all(row.present)]
    assert rows
    batches = Batches(
        workplace, rows, facts.label_map, network, 4, 7, channel_dropout=0.5, read=seen.read
    )
    dropped = Counter()
    for index in range(len(batches)):
        pictures, _ = batches[index]
        assert pictures.shape[-1] == 6
        for picture in pictures:
            there = picture.any(axis=(0, 1)).reshape(3, 2)  # slices, sequences
            assert (there == there[0]).all()
            dropped[tuple(there[0].tolist())] += 1
    assert set(dropped) == {(True, True), (True, False), (False, True)}


@pytest.mark.parametrize("mode", ["offline", "both"])
def test_variants_on_disk_are_refused(mode: str, workplace: Path, refused: Refused) -> None:
    problem = refused(lambda: cohort.write_params(**{**SEEN, "augment.mode": mode}))
    assert "augment: mode" in problem.where
    settings = cohort.write_params(**{**SEEN, "augment.mode": mode, "augment.variants": {}})
    assert settings.train.source == "scans"


def test_steps_for_fewer_channels_than_slices_and_sequences_are_refused(
    workplace: Path, refused: Refused
) -> None:
    hue = {"augment.variants": {"hue": [{"HueSaturationValue": None}]}}
    cohort.write_params(**{**SEEN, **hue, "train.network.neighbours": 2})
    assert "pictures of 5 channels" in refused(lambda: preflight(paths.PARAMS)).what


def test_every_rater_has_rows_of_their_own(workplace: Path) -> None:
    name = "mbh_seg25"
    test_truth.shutil.copytree(test_truth.FIXTURES / name / "raw", paths.raw(name))
    settings = test_truth._params_of(name, **{**SEEN, "convert.raters": "each"})
    convert(name, settings, 1)
    pairs = manifest.read(paths.converted(name))
    read = KeptSlices.of(name, datasets_spec.load(name).dataset, settings)
    rows = [row for rows in read.rows(pairs) for row in rows]
    of_case: dict[str, set[str]] = {}
    for row in rows:
        of_case.setdefault(row.case, set()).add(row.rater)
    assert max(map(len, of_case.values())) > 1
    drawn = {(pair.case, pair.rater) for pair in pairs}
    assert {(row.case, row.rater) for row in rows} == drawn
    for row in rows[::7]:
        _, ids = read(row)
        assert row.class_pixels[1] == np.count_nonzero(ids == 1)


def test_slices_of_uneven_spacing_take_their_own_plane(
    converted: test_uneven_cases.Converted,  # noqa: F811
    refused: Refused,
) -> None:
    pairs = converted(*map(test_uneven_cases.case_of, (1, 2, 3)))["sub-01"]
    facts = datasets_spec.load(cohort.DATASET).dataset
    settings = cohort.write_params(**SEEN)
    placed = [replace(pair, split="test") for pair in pairs]
    manifest.write(DATASET, placed)
    problem = refused(lambda: of(settings))
    assert "uneven spacing" in problem.what
    assert problem.where == "train: sub-01"
    save_untrained(cohort.DATASET, settings)
    member = Member.of(RUN / paths.MODEL)
    label_map = facts.label_map
    problem = refused(lambda: answers.answer(member, [placed], label_map, settings.limits))
    assert "one of coronal slices" in problem.what
    assert answers.asked(member, [placed]) == 12  # rows of the series
    own = replace(settings, train=replace(settings.train, plane="own"))
    read = KeptSlices.of(cohort.DATASET, facts, own)
    [rows] = read.rows(pairs)
    assert len(rows) == len(pairs)


@pytest.mark.parametrize("made", ["pictures"], indirect=True)
def test_pictures_without_mm_have_no_other_plane_and_no_field(
    made: test_truth.Made, refused: Refused
) -> None:
    facts = datasets_spec.load(cohort.DATASET).dataset
    pairs = manifest.read(CONVERTED)
    for name, value in (("train.plane", "own"), ("train.network.field_mm", 0.0)):
        settings = cohort.write_params(**{**SEEN, name: value})
        read = KeptSlices.of(cohort.DATASET, facts, settings)
        assert "state no mm" in refused(lambda: list(read.rows(pairs))).what  # noqa: B023
    settings = cohort.write_params(**{**SEEN, "train.plane": "own", "train.network.field_mm": 0.0})
    read = KeptSlices.of(cohort.DATASET, facts, settings)
    row = next(read.rows(pairs))[0]
    assert read(row)[0].shape == (PX, PX, 3)


made = test_truth.made  # a fixture


def test_the_ingredients_of_a_training_name_the_split_and_the_plane(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model.training import checkpoint

    settings = prepared("grey", monkeypatch)
    facts = datasets_spec.load(cohort.DATASET).dataset
    origin = provenance.of(cohort.DATASET, facts, settings)
    mixed = checkpoint.ingredients(origin, settings.train)
    assert mixed["plane"] == "coronal"
    assert mixed["split.empty_slices"] == {"train": 0.2, "valid": 1.0, "test": 1.0}
    assert origin["code"] != provenance._code(online=True, scans=False)
