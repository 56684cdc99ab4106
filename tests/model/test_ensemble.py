"""A dataset's own network and a member: trained, fused, scored as one and one by one, used."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from model import params
from model.__main__ import main
from model.evaluate import evaluate
from model.inference import bundle
from model.inference.predictor import Predictor
from pipeline import paths
from pipeline.pairs import manifest
from pipeline.report import report
from tests.support import cohort
from tests.support.models import save_untrained

pytestmark = pytest.mark.slow

FOLDER = paths.ensemble(cohort.DATASET)
BUNDLE = FOLDER / paths.BUNDLE
MEMBER = paths.member(cohort.DATASET, "second")

SMALL = {"train.epochs": 1, "train.calibrate": "always"}
SECOND = {
    "dataset": cohort.DATASET,
    "augment": {"mode": "online"},
    "train": {"source": "scans", "plane": "coronal", "network": {"neighbours": 1}},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a dataset, its own network, a member, and both as one.

    The own one sees axial pairs and is untrained; the member learnt from coronal slices.
    """
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save_untrained(cohort.DATASET, cohort.prepare(**SMALL))
        content = yaml.safe_load(paths.PARAMS.read_text("utf-8"))
        content["members"] = {"second": SECOND}
        content["ensembles"] = {cohort.DATASET: None}
        paths.PARAMS.write_text(yaml.safe_dump(content), "utf-8")
        FOLDER.mkdir()
        (FOLDER / paths.PER_CASE).touch()
        patch.setenv("DVC_STAGE", "member@second")
        assert main(["train"]) == 0
        assert not FOLDER.exists()  # scores of an ensemble with an earlier network
        patch.setenv("DVC_STAGE", f"ensemble@{cohort.DATASET}")
        assert main(["ensemble"]) == 0
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def here(made: Path, workplace: Path) -> Path:
    shutil.copytree(made, workplace, dirs_exist_ok=True, copy_function=os.link)
    return workplace


def scores() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / paths.SCORES).read_text("utf-8"))
    return content


def test_a_member_is_trained_into_a_folder_of_its_own(here: Path) -> None:
    there = {one.name for one in MEMBER.iterdir()}
    assert there == {
        paths.MODEL, paths.HISTORY, paths.CURVES, paths.EPOCH_CHANGE, "checkpoint",
    }  # fmt: skip
    assert not (paths.run(cohort.DATASET) / paths.HISTORY).exists()


def test_a_bundle_predicts_raw_scans_as_it_was_scored(here: Path) -> None:
    """Bit for bit: the same pictures, batches, sums and rules."""
    kept = sorted((FOLDER / paths.PREDICTIONS / paths.NATIVE).glob("*.nii.gz"))
    assert len(kept) > 1
    for file in kept:
        case = file.name.removesuffix(".nii.gz")
        scan = paths.raw(cohort.DATASET) / case / f"{case}_T1w.nii"
        assert main(["predict", str(FOLDER), str(scan), "--output", "masks", "--no-page"]) == 0
        predicted = nib.load(Path("masks") / f"{case}_T1w.nii.gz")
        assert np.array_equal(
            np.asanyarray(predicted.dataobj), np.asanyarray(nib.load(file).dataobj)
        )


def test_the_same_networks_give_the_same_bytes(here: Path) -> None:
    before = {
        file.relative_to(FOLDER): file.read_bytes()
        for file in sorted(FOLDER.rglob("*"))
        if file.is_file()
    }
    assert main(["ensemble", cohort.DATASET]) == 0
    after = {
        file.relative_to(FOLDER): file.read_bytes()
        for file in sorted(FOLDER.rglob("*"))
        if file.is_file()
    }
    assert before == after
    assert Path(paths.BUNDLE) in after


def test_the_table_has_all_networks_and_each_alone(here: Path) -> None:
    found = {(one["networks"], one["member"]): one for one in scores()["members"]}
    assert set(found) == {("all", ""), ("alone", cohort.DATASET), ("alone", "second")}
    with (FOLDER / paths.MEMBERS_TABLE).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    cases = {
        pair.case for pair in manifest.read(paths.dataset(cohort.DATASET)) if pair.split == "test"
    }
    assert len(rows) == 3 * len(cases) * (cohort.CLASSES - 1)
    of_all = np.mean([float(one["dice"]) for one in rows if one["networks"] == "all"])
    assert found["all", ""]["dice"]["mean"] == pytest.approx(of_all, abs=1e-5)
    gain = found["alone", "second"]["all_gain"]
    alone = found["alone", "second"]["dice"]["mean"]
    assert gain["mean"] == pytest.approx(of_all - alone, abs=1e-5)
    assert gain["low"] <= gain["mean"] <= gain["high"]


def test_the_page_shows_what_each_network_adds(here: Path) -> None:
    evaluate(cohort.DATASET, params.load(cohort.DATASET))
    report([cohort.DATASET], paths.PARAMS)
    page = (paths.REPORT / "index.html").read_text("utf-8")
    assert "<h3>The ensemble</h3>" in page
    assert "Every network weighs alike." in page
    assert "2 networks as one" in page.split("<h3>")[0]
    rows = re.findall(r'<th scope="row">((?:all together|only)[^<]*)</th>', page)
    assert rows == ["all together", f"only {cohort.DATASET}", "only second"]
    assert "  ensemble: mean foreground Dice " in (paths.REPORT / "summary.txt").read_text("utf-8")
    (FOLDER / paths.METRICS).unlink()
    report([cohort.DATASET], paths.PARAMS)
    assert "The ensemble" not in (paths.REPORT / "index.html").read_text("utf-8")


def test_what_a_bundle_states_is_what_its_members_are(here: Path) -> None:
    stated = bundle.read(BUNDLE)
    assert stated.names == (f"{cohort.DATASET}.keras", "second.keras")
    assert stated.weights is None  # two patients of valid are too few to weigh by
    predictor = Predictor.of([BUNDLE])
    assert [one.digest for one in predictor.members] == list(stated.digests)
    assert [one.facts.plane for one in predictor.members] == ["axial", "coronal"]
    assert predictor.digest
    assert len(predictor.temperatures.of_class) == cohort.CLASSES
    assert not any(one.temperatures.of_class for one in predictor.members)  # of members alone


def test_an_exported_bundle_needs_no_keras(here: Path) -> None:
    assert main(["export", str(FOLDER)]) == 0
    exported = FOLDER / paths.BUNDLE_ONNX
    assert bundle.read(exported).names == (f"{cohort.DATASET}.onnx", "second.onnx")
    case = sorted((FOLDER / paths.PREDICTIONS / paths.NATIVE).glob("*.nii.gz"))[0]
    name = case.name.removesuffix(".nii.gz")
    scan = paths.raw(cohort.DATASET) / name / f"{name}_T1w.nii"
    assert main(["predict", str(exported), str(scan), "--output", "masks", "--no-page"]) == 0
    predicted = np.asanyarray(nib.load(Path("masks") / f"{name}_T1w.nii.gz").dataobj)
    assert (predicted == np.asanyarray(nib.load(case).dataobj)).mean() > 0.999


def test_a_bundle_is_exported_as_onnx_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(FOLDER), "--format", "saved_model"]) == 2
    assert "one by one" in capsys.readouterr().err


def test_a_network_that_is_missing_is_named_with_the_command(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (MEMBER / paths.MODEL).unlink()
    assert main(["ensemble", cohort.DATASET]) == 2
    assert "python -m model train second" in capsys.readouterr().err
    assert BUNDLE.exists()


def test_a_dataset_without_an_ensemble_is_named(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(paths.PARAMS.read_text("utf-8"))
    paths.PARAMS.unlink()
    paths.PARAMS.write_text(yaml.safe_dump({**content, "members": {}, "ensembles": {}}), "utf-8")
    assert main(["ensemble", cohort.DATASET]) == 2
    assert "below 'ensembles:'" in capsys.readouterr().err
