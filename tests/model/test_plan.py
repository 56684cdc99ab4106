"""The verb plan on a tiny cohort: what it reads, what it prints, and what it does to the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from model import params
from model.plan import examined, plan
from pipeline import paths
from pipeline.convert import convert
from tests.conftest import Refused
from tests.support import cohort
from tests.support.planning import MACHINE

NAME = cohort.DATASET


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with raw data that is converted."""
    folder = tmp_path_factory.mktemp("planned")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cohort.write_raw()
        convert(NAME, cohort.write_params(), 1)
    return folder


@pytest.fixture
def file(converted: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The parameter file of a converted dataset, with a comment."""
    monkeypatch.chdir(converted)
    cohort.write_params()
    text = paths.PARAMS.read_text("utf-8").replace(f"  {NAME}: null\n", f"  {NAME}:  # mine\n")
    paths.PARAMS.write_text(text, "utf-8")
    return paths.PARAMS


def test_the_cohort_is_what_was_drawn(file: Path) -> None:
    known = examined(NAME, params.load(NAME, file))
    assert (known.patients, known.cases, known.slices, known.channels) == (6, 6, 36, 1)
    assert known.shape == cohort.SHAPE
    assert known.spacing == pytest.approx(cohort.SIDES, rel=1e-4)
    sides = [count * side for count, side in zip(cohort.SHAPE, cohort.SIDES, strict=True)]
    assert known.extent == pytest.approx(sides, rel=1e-4)
    assert [one.name for one in known.classes] == ["csf", "grey_matter", "white_matter"]
    for one, (_, radius) in zip(known.classes, cohort.SPHERES.values(), strict=True):
        assert one.patients == 6
        assert one.ml == pytest.approx(4.19 * radius**3 / 1000, rel=0.25)
    left = list(known.ceilings.values())
    assert left[0] == 1
    assert left == sorted(left, reverse=True)


def test_the_plan_is_written_printed_and_read_back(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file.read_text("utf-8")
    made = plan(NAME, file, 30, MACHINE)
    text, out = file.read_text("utf-8"), capsys.readouterr().out
    kept = [line for line in text.splitlines() if "# plan" not in line]
    assert [one for one in before.splitlines() if one not in kept] == []
    settings = params.load(NAME, file)
    for path, choice in made.entry.items():
        assert f"{'.'.join(path)} " in out
        assert choice.reason in out
    assert settings.train.network.image_px == made.entry["train", "network", "image_px"].value
    assert "6 patients, 6 cases of 1 x 1.2 x 3 mm" in out
    assert "1 network," in out
    assert plan(NAME, file, 30, MACHINE) == made
    assert file.read_text("utf-8") == text


def test_a_plan_that_is_shown_alone_leaves_the_file(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file.read_bytes()
    plan(NAME, file, 30, MACHINE, show=True)
    assert file.read_bytes() == before
    assert "params.yaml stays as it is" in capsys.readouterr().out


def test_a_dataset_that_is_not_converted_is_named(workplace: Path, refused: Refused) -> None:
    cohort.write_params()
    problem = refused(lambda: plan(NAME, paths.PARAMS, 30, MACHINE))
    assert f"Run: python -m pipeline convert {NAME}" in problem.remedy


@pytest.mark.parametrize(
    ("entry", "others", "words"),
    [
        ("*extra", "presets:\n  one: &extra {train: {epochs: 3}}\n", "an alias"),
        ("&own\n    train: {epochs: 3}", "presets:\n  one: *own\n", "others refer to them"),
        ("&own", "presets:\n  one: *own\n", "an anchor or a tag of nothing"),
    ],
)
def test_an_entry_that_others_share_is_left_alone(
    file: Path, refused: Refused, entry: str, others: str, words: str
) -> None:
    text = file.read_text("utf-8").replace(f"{NAME}:  # mine", f"{NAME}: {entry}")
    text = others + text if entry.startswith("*") else text + others
    file.write_text(text, "utf-8")
    problem = refused(lambda: plan(NAME, file, 30, MACHINE))
    assert words in problem.what
    assert file.read_text("utf-8") == text


def test_line_ends_of_other_systems_stay(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    plan(NAME, file, 30, MACHINE)
    text = file.read_bytes()
    assert text.count(b"\n") == text.count(b"\r\n")
    assert yaml.safe_load(text)["datasets"][NAME]["train"]["loss"] == "dice_ce"
