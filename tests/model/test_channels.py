"""Networks of several channels: learnt from, evaluated, exported and used on new scans."""

from __future__ import annotations

import csv
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import datasets_spec
from datasets_spec.contract import LabelMap
from model import params, provenance
from model.evaluate import evaluate
from model.export import export
from model.inference.facts import Facts
from model.inference.member import Member, viewed
from model.inference.predictor import Predictor
from model.predict import predict
from model.train import train
from model.training.batches import Batches
from pipeline import paths
from pipeline.pages import page
from pipeline.pairs import manifest, png
from pipeline.runtime import modelfile
from pipeline.volumes import reader
from tests.conftest import Refused
from tests.support import channelled, cohort
from tests.support.models import save_untrained

pytestmark = pytest.mark.slow

RUN = paths.run(cohort.DATASET)
DATASET = paths.dataset(cohort.DATASET)
QUICK = {"train.epochs": 1, "train.epoch_change_pictures": 1, "train.postprocess": False}
KINDS = ("sequences", "four", "windows")


@pytest.fixture(params=KINDS)
def settings(
    request: pytest.FixtureRequest, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> params.Params:
    """Pairs of two sequences, of four (two files a pair) or of a CT in three windows."""
    return prepared(request.param, monkeypatch)


def prepared(kind: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> params.Params:
    if kind == "windows":
        channelled.ct(monkeypatch)
        more["convert.windows"] = channelled.WINDOWS
    else:
        channelled.sequences(monkeypatch, 2 if kind == "sequences" else 4)
    settings = cohort.write_params(**QUICK, **more)
    cohort.make_pairs(settings)
    return settings


def of_test() -> str:
    """A patient of the test split."""
    return next(pair.case for pair in manifest.read(DATASET) if pair.split == "test")


def inputs(case: str, names: tuple[str, ...]) -> list[Path]:
    return [file for name in names if (file := channelled.raw(case, name)).is_file()]


def ids_of(file: Path) -> np.ndarray:
    return np.asarray(nib.load(file).dataobj)


def test_what_predict_writes_is_what_evaluate_scored_voxel_for_voxel(
    settings: params.Params,
) -> None:
    save_untrained(cohort.DATASET, settings)
    evaluate(cohort.DATASET, settings)
    facts = Facts.of(modelfile.read(RUN / paths.MODEL), RUN / paths.MODEL)
    names = facts.sequences or ("T1w",)
    assert facts.network.channels == settings.train.network.channels == len(facts.channels)
    cases = {pair.case for pair in manifest.read(DATASET) if pair.split == "test"}
    scans = [file for case in cases for file in inputs(case, names)]
    predict([RUN / paths.MODEL], scans, Path("masks"))
    for case in cases:
        (kept,) = (RUN / paths.PREDICTIONS / paths.NATIVE).glob(f"{case}*.nii.gz")
        name = case if facts.sequences else f"{case}_T1w"
        assert (ids_of(Path("masks") / f"{name}.nii.gz") == ids_of(kept)).all()


def test_training_drops_channels_and_bends_them_anew(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"train.channel_dropout": 0.5, "augment.mode": "online"}
    train(cohort.DATASET, prepared("four", monkeypatch, **more))
    facts = Facts.of(modelfile.read(RUN / paths.MODEL), RUN / paths.MODEL)
    assert facts.sequences == channelled.SEQUENCES
    assert facts.scans["patients"] > 1


def test_a_model_is_the_same_in_onnx(settings: params.Params) -> None:
    save_untrained(cohort.DATASET, settings)
    export(cohort.DATASET, "onnx")
    case = of_test()
    keras, onnx = (Member.of(RUN / name) for name in (paths.MODEL, paths.MODEL_ONNX))
    assert keras.facts.channels == onnx.facts.channels
    pair = next(pair for pair in manifest.read(DATASET) if pair.case == case)
    picture = png.read_image(DATASET / pair.split / pair.image, pair.depth)
    one, other = (member.of_pictures([picture]) for member in (keras, onnx))
    assert np.abs(one - other).max() < 1e-5


def test_a_new_scan_is_shown_as_convert_shows_it(settings: params.Params) -> None:
    save_untrained(cohort.DATASET, settings)
    facts = Member.of(RUN / paths.MODEL).facts
    for pair in manifest.read(paths.converted(cohort.DATASET)):
        there = {
            name: reader.read_image(channelled.raw(pair.case, name))
            for name in facts.sequences
            if name != pair.absent
        }
        images = there or reader.read_image(channelled.raw(pair.case, "T1w"))
        seen = viewed(images, facts)
        own = png.read_image(paths.converted(cohort.DATASET) / pair.image, pair.depth)
        assert (seen.picture(pair.slice_index) == own).all()
        assert seen.absent == tuple(filter(None, pair.absent.split(",")))


class TestPredict:
    @pytest.fixture
    def model(self, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        settings = prepared("sequences", monkeypatch)
        save_untrained(cohort.DATASET, settings)
        return RUN / paths.MODEL

    def test_says_which_sequence_is_missing(
        self, model: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        predict([model], [paths.raw(cohort.DATASET)], Path("masks"))
        record = json.loads(Path(f"masks/records/{channelled.LACKING}.json").read_text("utf-8"))
        assert "without flair: t1w alone" in record["warnings"]
        assert "without flair: t1w alone" in caplog.text
        page = Path("masks/index.html").read_text("utf-8")
        with Path("masks/volumes.csv").open(newline="", encoding="utf-8") as stream:
            absent = {row["scan"]: row["absent"] for row in csv.DictReader(stream)}
        assert absent == {f"sub-{n:02d}": "flair" * (n == 2) for n in range(1, 7)}
        assert "sub-02" in page
        assert "not read: " in caplog.text  # the label maps

    def test_does_not_take_one_scan_for_a_sequence(self, model: Path, refused: Refused) -> None:
        case = of_test()
        image = reader.read_image(channelled.raw(case, "t1w"))
        assert "without a name" in refused(lambda: Predictor.of([model])(image)).what
        assert Predictor.of([model])({"t1w": image}).shape == image.array.shape

    def test_refuses_sequences_of_two_grids(self, model: Path, caplog, refused: Refused) -> None:
        for name, affine in (("t1w", np.eye(4)), ("flair", np.diag([1.0, 1, 1.1, 1]))):
            values = np.random.default_rng(0).integers(0, 99, (9, 9, 9)).astype(np.int16)
            nib.save(nib.Nifti1Image(values, affine), f"p_{name}.nii")
        refused(lambda: predict([model], [Path("p_t1w.nii"), Path("p_flair.nii")], Path("masks")))
        assert "expected the channels of a case on one grid" in caplog.text

    def test_refuses_pictures(self, model: Path, caplog, refused: Refused) -> None:
        png.write_image(Path("p_t1w.png"), np.zeros((9, 9), np.uint8))
        problem = refused(lambda: predict([model], [Path("p_t1w.png")], Path("masks")))
        assert "expected scans of the channels t1w, flair, got none" in problem.what

    def test_takes_no_patterns_where_one_scan_is_all(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
    ) -> None:
        save_untrained(cohort.DATASET, cohort.prepare())
        scan = channelled.raw("sub-01", "T1w")
        problem = refused(
            lambda: predict([RUN / paths.MODEL], [scan], Path("m"), patterns={"t1w": "*"})
        )
        assert "expected no --channel for a model of one scan" in problem.what


class TestParameters:
    @pytest.mark.parametrize("channels", [1, 2])
    def test_give_the_network_the_channels_of_the_pictures(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch, channels: int
    ) -> None:
        channelled.sequences(monkeypatch, 2, patients=1)
        assert (
            cohort.write_params(**{"train.network.channels": channels}).train.network.channels == 2
        )

    def test_of_another_number_are_refused(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
    ) -> None:
        channelled.sequences(monkeypatch, 2, patients=1)
        problem = refused(lambda: cohort.write_params(**{"train.network.channels": 3}))
        assert "expected 1 or 2 (t1w, flair), the channels of the pictures, got 3" in problem.what

    def test_drop_no_channel_of_grey_pictures(self, workplace: Path, refused: Refused) -> None:
        problem = refused(lambda: cohort.write_params(**{"train.channel_dropout": 0.5}))
        assert "expected 0 for pictures of one channel" in problem.what

    def test_and_model_state_the_same_channels(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
    ) -> None:
        settings = prepared("windows", monkeypatch)
        save_untrained(cohort.DATASET, settings)
        facts = datasets_spec.load(cohort.DATASET).dataset
        provenance.require(RUN / paths.MODEL, cohort.DATASET, facts, settings)
        other = replace(settings.convert, windows={**settings.convert.windows, "bone": (500, 2000)})
        problem = refused(
            lambda: provenance.require(
                RUN / paths.MODEL, cohort.DATASET, facts, replace(settings, convert=other)
            )
        )
        assert "expected a model of picture_channels" in problem.what


def test_the_report_shows_the_channels_and_no_change_of_parameters(
    settings: params.Params,
) -> None:
    save_untrained(cohort.DATASET, settings)
    names = [one.name for one in Member.of(RUN / paths.MODEL).facts.channels]
    section = page.section(datasets_spec.load(cohort.DATASET), paths.PARAMS)
    changed = {name for _, name, _, _ in section["changed"]}
    assert not [one for one in changed if one.startswith(("train.", "convert.windows"))]
    assert [one["name"] for one in section["channels"]] == names
    assert [tile.caption for tile in section["by_channel"]] == names
    assert len({tile.url for tile in section["by_channel"]}) == len(names)


class TestBatches:
    LABELS: LabelMap = datasets_spec.load(cohort.DATASET).dataset.label_map

    def batches(self, settings: params.Params, **more: Any) -> Batches:
        pairs = [pair for pair in manifest.read(DATASET) if pair.split == "train"]
        network = settings.train.network
        return Batches(DATASET, pairs, self.LABELS, network, 4, **more)

    def every(self, batches: Batches) -> np.ndarray:
        return np.concatenate([batches[at][0] for at in range(len(batches))])

    def test_are_the_same_from_the_cache(self, settings: params.Params) -> None:
        first = self.batches(settings)
        kept = self.batches(settings, scratch=Path("scratch"))
        for _ in range(2):
            assert (self.every(first) == self.every(kept)).all()
        assert self.every(first).shape[-1] == settings.train.network.channels

    def test_lack_channels_by_seed_and_epoch_but_never_all(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = prepared("four", monkeypatch)
        whole = self.batches(settings, seed=1)
        dropped = self.batches(settings, seed=1, channel_dropout=0.6)
        shares = []
        for epoch in (0, 1):
            whole.show(epoch)
            dropped.show(epoch)
            for all_there, some in zip(self.every(whole), self.every(dropped), strict=True):
                shows = all_there.any(axis=(0, 1))
                heard = some.any(axis=(0, 1))
                assert (some[..., heard] == all_there[..., heard]).all()
                assert heard.any() or not shows.any()
                shares.append(heard[shows].mean() if shows.any() else np.nan)
        assert 0.3 < np.nanmean(shares) < 0.7
        again = self.batches(settings, seed=1, channel_dropout=0.6)
        again.show(1)
        assert (self.every(again) == self.every(dropped)).all()

    def test_to_judge_by_lack_none(self, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = prepared("sequences", monkeypatch)
        whole, judged = self.batches(settings), self.batches(settings, channel_dropout=0.9)
        assert (self.every(whole) == self.every(judged)).all()
