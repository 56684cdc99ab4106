"""Fold by fold: who is tested, what is done again, and what is pooled."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import datasets_spec
from datasets_spec.contract import Case
from model import params
from model.crossvalidate import crossvalidate as run_folds
from model.folds import running
from model.folds.workplace import Fold, Step
from model.scoring import one_by_one, scored_json
from pipeline import paths
from pipeline.augment import augment
from pipeline.convert import convert
from pipeline.pairs import manifest
from pipeline.params import reader
from pipeline.report import report
from pipeline.runtime import tables
from tests.conftest import Refused
from tests.support import cohort
from tests.support.steps import untrained

pytestmark = pytest.mark.slow

NAME = cohort.DATASET
FOLDS = paths.folds(NAME)
Steps = list[tuple[int, str]]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """The verbs of folds run in this program, with an untrained network; lists what was run."""
    return _acting(monkeypatch, untrained)


def _acting(monkeypatch: pytest.MonkeyPatch, verb: Callable[[Step], None]) -> Steps:
    done: Steps = []

    def act(step: Step, fold: Fold) -> None:
        done.append((fold.number, step.verb))
        with contextlib.chdir(fold.place):
            verb(step)

    monkeypatch.setattr(running, "_run", act)
    return done


@pytest.fixture
def settings(workplace: Path) -> params.Params:
    """Seven patients, converted, augmented and split for an ordinary run."""
    return cohort.prepare(patients=7)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all three folds of seven patients are done and pooled."""
    place = tmp_path_factory.mktemp("finished")
    with contextlib.chdir(place), pytest.MonkeyPatch.context() as patched:
        _acting(patched, untrained)
        run_folds(NAME, cohort.prepare(patients=7), paths.PARAMS, 3)
    return place


@pytest.fixture
def done(finished: Path, workplace: Path) -> params.Params:
    """A copy of it to work in."""
    shutil.copytree(finished, workplace, symlinks=True, dirs_exist_ok=True)
    return params.load(NAME)


def _table(folder: Path) -> list[dict[str, str]]:
    with (folder / paths.PER_CASE).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


ALL_STEPS = [(fold, verb) for fold in range(3) for verb in ("split", "train", "evaluate")]


def test_every_patient_is_tested_once_and_scored_as_evaluate_scores(done: params.Params) -> None:
    pooled = _table(FOLDS)
    patients = {pair.patient for pair in manifest.read(paths.converted(NAME))}
    assert sorted({row["patient"] for row in pooled}) == sorted(patients)
    assert len(pooled) == len(patients) * (cohort.CLASSES - 1)
    of_folds = [
        {**row, "fold": str(number)}
        for number in range(3)
        for row in _table(paths.fold(NAME, number) / paths.run(NAME))
    ]
    assert pooled == of_folds

    metrics = json.loads((FOLDS / paths.METRICS).read_text("utf-8"))
    scores = json.loads((FOLDS / paths.SCORES).read_text("utf-8"))
    for name, one in scores["model"]["classes"].items():
        dice = [float(row["dice"]) for row in pooled if row["class"] == name and row["dice"]]
        assert one["dice"]["mean"] == pytest.approx(np.mean(dice), abs=1e-6)
    each = scores["folds"]["each"]
    assert [one["patients"] for one in each] == [
        len({row["patient"] for row in of_folds if row["fold"] == str(fold)}) for fold in range(3)
    ]
    assert metrics["test_patients"] == len(patients)
    assert metrics["folds"]["lowest"] == min(one["dice"] for one in each)


def test_the_page_shows_the_pooled_scores_and_the_worst_cases(done: params.Params) -> None:
    scores = json.loads((FOLDS / paths.SCORES).read_text("utf-8"))
    assert scores["worst"]
    for one in (*scores["worst"], scores["best"], scores["median"]):
        assert (FOLDS / paths.PREDICTIONS / paths.EXAMPLES / f"{one['picture']}.png").is_file()
    report([NAME], paths.PARAMS)
    page = (paths.REPORT / "index.html").read_text("utf-8")
    assert "every patient is tested once" in page
    assert "Worst cases over all folds" in page
    assert page.count("fold_") >= len(scores["worst"])
    assert "7 patients in 3 folds" in (paths.REPORT / "summary.txt").read_text("utf-8")


def test_every_patient_is_scrolled_as_the_fold_that_tested_them_drew(done: params.Params) -> None:
    cases = {row["case"]: row["fold"] for row in _table(FOLDS)}
    for case, fold in cases.items():
        place = paths.fold(NAME, int(fold)) / paths.run(NAME)
        theirs, ours = (run / paths.PREDICTIONS / paths.VIEW / case for run in (place, FOLDS))
        assert {file.name: file.read_bytes() for file in ours.iterdir()} == {
            file.name: file.read_bytes() for file in theirs.iterdir()
        }
    report([NAME], paths.PARAMS)
    page = (paths.REPORT / "index.html").read_text("utf-8")
    links = set(re.findall(rf'href="cases/{NAME}_folds/index.html#([^"]*)"', page))
    worst = json.loads((FOLDS / paths.SCORES).read_text("utf-8"))["worst"]
    assert links == {one["case"] for one in worst}
    shown = paths.REPORT / "cases" / f"{NAME}_folds" / paths.VIEW
    assert {one.name for one in shown.iterdir() if one.is_dir()} == set(cases)


def test_dataset_and_model_of_the_ordinary_run_stay(done: params.Params) -> None:
    whole = manifest.read(paths.dataset(NAME))
    assert {pair.split for pair in whole} == {"train", "valid", "test"}
    assert not (paths.run(NAME) / paths.MODEL).exists()
    of_fold = {pair.patient for pair in manifest.read(paths.fold(NAME, 0) / paths.dataset(NAME))}
    assert of_fold == {pair.patient for pair in whole}


def test_what_is_done_and_unchanged_is_left_as_it_is(
    done: params.Params, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verb(step: Step) -> None:
        if step.verb == "evaluate":
            cases = paths.run(NAME) / paths.CASES
            shutil.copyfile(finished / Path.cwd().relative_to(here) / cases, cases)

    here, ran = Path.cwd(), _acting(monkeypatch, verb)
    before = {name: (FOLDS / name).read_bytes() for name in paths.SCORED}
    run_folds(NAME, done, paths.PARAMS, 3)
    assert not ran
    assert {name: (FOLDS / name).read_bytes() for name in paths.SCORED} == before

    (paths.fold(NAME, 2) / paths.run(NAME) / paths.CASES).unlink()
    run_folds(NAME, done, paths.PARAMS, 3)
    assert ran == [step for step in ALL_STEPS if step[0] == 2]

    changed = cohort.write_params(**{"train.epochs": 3})
    run_folds(NAME, changed, paths.PARAMS, 3, [1])
    assert ran[3:] == [step for step in ALL_STEPS if step[0] == 1]


def test_scores_are_pooled_when_the_last_fold_is_done(
    done: params.Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = _acting(monkeypatch, lambda _: None)
    for number in (0, 2):
        (paths.fold(NAME, number) / "done.json").unlink()
    (FOLDS / paths.METRICS).unlink()
    run_folds(NAME, done, paths.PARAMS, 3, [0])
    assert ran == ALL_STEPS[:3]
    assert not (FOLDS / paths.METRICS).exists()
    assert "left: 2" in capsys.readouterr().out
    run_folds(NAME, done, paths.PARAMS, 3, [2])
    assert (FOLDS / paths.METRICS).exists()
    assert f"7 test cases of 7 patients in 3 folds: {FOLDS}" in capsys.readouterr().out


def test_an_official_test_list_is_tested_by_every_fold(
    workplace: Path,
    steps: Steps,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = datasets_spec.load

    def stated(name: str) -> datasets_spec.Adapter:
        adapter = load(name)

        def cases(raw: Path) -> list[Case]:
            found = [one for one in adapter.cases(raw) if isinstance(one, Case)]
            return [replace(one, split="test" if n < 2 else "train") for n, one in enumerate(found)]

        return replace(adapter, cases=cases)

    monkeypatch.setattr(datasets_spec, "load", stated)
    settings = cohort.write_params()
    cohort.write_raw(patients=7)
    convert(NAME, settings, 1)
    augment(NAME, settings, 1)
    run_folds(NAME, settings, paths.PARAMS, 3)
    pooled = _table(FOLDS)
    assert len({row["patient"] for row in pooled}) == 2
    assert len(pooled) == 3 * 2 * (cohort.CLASSES - 1)
    scores = json.loads((FOLDS / paths.SCORES).read_text("utf-8"))
    assert scores["test_patients"] == 2
    assert "same official test list" in scores["definitions"]["folds"]


def test_an_ensemble_is_pooled_with_what_each_network_adds(
    done: params.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = _acting(monkeypatch, lambda _: None)
    gain = 0.01
    for number in range(3):
        run = paths.fold(NAME, number) / paths.run(NAME)
        ensemble = run / paths.ENSEMBLE
        ensemble.mkdir()
        for name in paths.SCORED:
            shutil.copyfile(run / name, ensemble / name)
        rows = [
            (row["patient"], row["case"], row["rater"], row["class"], networks, member, dice)
            for row in _table(run)
            for networks, member, dice in (("all", "", 0.5 + gain), ("alone", NAME, 0.5))
        ]
        tables.write(ensemble / paths.MEMBERS_TABLE, one_by_one.HEAD, rows)
    run_folds(NAME, done, paths.PARAMS, 3)
    assert not ran
    assert _table(FOLDS / paths.ENSEMBLE) == _table(FOLDS)
    found = json.loads((FOLDS / paths.ENSEMBLE / paths.SCORES).read_text("utf-8"))
    [of_all, alone] = found["members"]
    assert of_all["dice"]["mean"] == pytest.approx(0.51)
    assert alone["all_gain"] == {"mean": gain, "low": gain, "high": gain, "cases": 7, "better": 7}
    report([NAME], paths.PARAMS)
    page = (paths.REPORT / "index.html").read_text("utf-8")
    assert "+0.0100 [+0.0100, +0.0100]" in page

    shutil.rmtree(paths.fold(NAME, 0) / paths.run(NAME) / paths.ENSEMBLE)
    run_folds(NAME, done, paths.PARAMS, 3)
    assert not (FOLDS / paths.ENSEMBLE).exists()


def test_a_fold_takes_the_members_and_the_ensemble_of_its_dataset_alone(workplace: Path) -> None:
    cohort.write_params()
    content = yaml.safe_load(paths.PARAMS.read_text("utf-8"))
    content["datasets"]["virtual_ncct"] = None
    content["members"] = {
        "mine": {"dataset": NAME, "train": {"seed": 1}},
        "other": {"dataset": "virtual_ncct", "train": {"seed": 1}},
    }
    content["ensembles"] = {NAME: None, "virtual_ncct": None}
    paths.PARAMS.write_text(yaml.safe_dump(content), "utf-8")
    fold = Fold.stated(NAME, 1, 4, paths.PARAMS)
    fold.prepare()
    inside = fold.place / paths.PARAMS
    assert [one.words for one in fold.steps] == [
        f"pipeline split {NAME}",
        f"model train {NAME}",
        "model train mine",
        f"model evaluate {NAME}",
        f"model ensemble {NAME}",
    ]
    assert params.members(NAME, inside) == ("mine",)
    assert reader.enabled(inside) == (NAME,)
    _, member = params.load_member("mine", inside)
    assert (member.split.folds, member.split.fold) == (4, 1)


def test_folds_that_test_a_patient_twice_are_not_pooled(
    done: params.Params, refused: Refused
) -> None:
    one, other = (paths.fold(NAME, number) / paths.dataset(NAME) for number in (0, 1))
    shutil.copyfile(other / paths.MANIFEST, one / paths.MANIFEST)
    problem = refused(lambda: run_folds(NAME, done, paths.PARAMS, 3))
    assert "test every patient once" in problem.what


@pytest.mark.parametrize("name", [paths.CASES, paths.SCORES])
@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 1, "cases": [{}]}'])
def test_a_damaged_file_of_a_fold_is_named(
    name: str, content: str, done: params.Params, refused: Refused
) -> None:
    file = paths.fold(NAME, 1) / paths.run(NAME) / name
    file.write_text(content, "utf-8")
    problem = refused(lambda: run_folds(NAME, done, paths.PARAMS, 3))
    assert str(file) in str(problem)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"made_from": 1}', "{"])
def test_a_fold_with_a_damaged_mark_is_done_again(
    content: str, done: params.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = _acting(monkeypatch, lambda _: None)
    (paths.fold(NAME, 1) / "done.json").write_text(content, "utf-8")
    run_folds(NAME, done, paths.PARAMS, 3, [1])
    assert ran == ALL_STEPS[3:6]


def test_folds_take_pairs(workplace: Path, refused: Refused) -> None:
    settings = cohort.write_params()
    problem = refused(lambda: run_folds(NAME, settings, paths.PARAMS, 3))
    assert f"python -m pipeline convert {NAME}" in str(problem)


@pytest.mark.parametrize(
    ("folds", "only", "words"), [(3, [3], "0 to 2, got 3"), (2, [], "3 folds or more, got 2")]
)
def test_an_unknown_fold_and_too_few_are_refused(
    folds: int, only: list[int], words: str, workplace: Path, refused: Refused
) -> None:
    settings = cohort.write_params()
    problem = refused(lambda: run_folds(NAME, settings, paths.PARAMS, folds, only))
    assert words in problem.what


def test_a_verb_that_fails_is_named_with_its_fold(
    settings: params.Params, refused: Refused
) -> None:
    fold = Fold.stated(NAME, 1, 3, paths.PARAMS)
    fold.prepare()
    problem = refused(lambda: running._run(Step("pipeline", "split", "nobody"), fold))
    assert "fold 1 of 3 to go through split, got exit status 2" in problem.what


def test_a_verb_ends_with_the_program_that_runs_it(
    settings: params.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `kill` reaches that program alone."""
    verbs: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def sleeping(*_: object, **__: object) -> subprocess.Popen[bytes]:
        verbs.append(start([sys.executable, "-c", "import time; time.sleep(60)"]))
        threading.Timer(0.2, interrupt).start()
        return verbs[0]

    def interrupt() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    monkeypatch.setattr(running, "_GRACE_SECONDS", 0.1)
    monkeypatch.setattr(subprocess, "Popen", sleeping)
    with pytest.raises(KeyboardInterrupt):
        running._run(Step("model", "train", NAME), Fold.stated(NAME, 0, 3, paths.PARAMS))
    assert verbs[0].poll() is not None


def test_a_verb_works_in_the_folder_of_its_fold(settings: params.Params) -> None:
    fold = Fold.stated(NAME, 2, 3, paths.PARAMS)
    fold.prepare()
    fold.prepare()
    running._run(Step("pipeline", "split", NAME), fold)
    assert (fold.pairs / paths.MANIFEST).is_file()


def test_scored_cases_survive_their_file_exactly(done: params.Params) -> None:
    content = json.loads((paths.fold(NAME, 0) / paths.run(NAME) / paths.CASES).read_text("utf-8"))
    cases = scored_json.read(content)
    assert len(cases) >= 2
    assert json.loads(json.dumps(scored_json.written(cases))) == content
    assert cases[0].confusion.dtype == np.int64
