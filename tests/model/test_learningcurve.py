"""learningcurve: which trainings it makes, that they are not made twice, and what it writes."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import yaml

from model import params
from model.folds import running
from model.folds.workplace import Step, Workplace
from model.learningcurve import learningcurve
from pipeline import paths
from tests.conftest import Refused
from tests.support import cohort
from tests.support.steps import untrained

pytestmark = pytest.mark.slow

NAME = cohort.DATASET
PLACE = paths.learning_curve(NAME)
MANY = {"split.shares": {"train": 0.6, "valid": 0.2, "test": 0.2}}


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The verbs run in this program, with an untrained network; lists what was run."""
    words: list[str] = []

    def act(step: Step, one: Workplace) -> None:
        words.append(f"{one.words}: {step.verb}")
        with contextlib.chdir(one.place):
            untrained(step)

    monkeypatch.setattr(running, "_run", act)
    return words


@pytest.fixture
def settings(workplace: Path) -> params.Params:
    """Ten patients, six of them in train."""
    return cohort.prepare(patients=10, **MANY)


def test_every_training_learns_from_its_patients_for_as_many_steps(
    settings: params.Params, done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    learningcurve(NAME, settings, paths.PARAMS, (2, 4, 6), seeds=2)
    assert len(done) == 3 * 2 * len(("split", "train", "evaluate"))
    stated = [yaml.safe_load(file.read_text("utf-8")) for file in PLACE.glob("*/params.yaml")]
    trained = [content["datasets"][NAME]["train"] for content in stated]
    first = settings.train.seed
    assert sorted((one["patients"], one["seed"] - first) for one in trained) == [
        *((2, 0), (2, 1), (4, 0), (4, 1), (6, 0), (6, 1)),
    ]
    assert len({one["steps_per_epoch"] for one in trained}) == 1
    content = json.loads((PLACE / paths.CURVE).read_text("utf-8"))
    assert [one["patients"] for one in content["trainings"]] == [2, 2, 4, 4, 6, 6]
    assert [one["patients"] for one in content["expected"]] == [12, 206]
    assert "with 200 more, 206:" in capsys.readouterr().out


def test_what_is_done_is_not_done_again(settings: params.Params, done: list[str]) -> None:
    learningcurve(NAME, settings, paths.PARAMS, (2, 4, 6), seeds=1)
    before = (PLACE / paths.CURVE).read_bytes()
    done.clear()
    learningcurve(NAME, settings, paths.PARAMS, (2, 4, 6), seeds=1)
    assert not done
    assert (PLACE / paths.CURVE).read_bytes() == before
    learningcurve(NAME, settings, paths.PARAMS, (2, 3, 4, 6), seeds=1)
    assert {words.split(",")[0] for words in done} == {"3 patients"}


def test_numbers_of_which_no_curve_follows_are_refused(
    settings: params.Params, done: list[str], refused: Refused
) -> None:
    for sizes, words in (((2, 4), "3 numbers"), ((2, 4, 7), "1 to 6"), ((0, 2, 4), "1 to 6")):
        problem = refused(lambda sizes=sizes: learningcurve(NAME, settings, paths.PARAMS, sizes))
        assert words in str(problem)
    assert not done


def test_the_runs_own_files_stay_as_they_are(settings: params.Params, done: list[str]) -> None:
    before = {file: file.read_bytes() for file in paths.files_below(paths.dataset(NAME))}
    learningcurve(NAME, settings, paths.PARAMS, (2, 4, 6), seeds=1)
    assert {file: file.read_bytes() for file in paths.files_below(paths.dataset(NAME))} == before
    assert not (paths.run(NAME) / paths.MODEL).exists()
