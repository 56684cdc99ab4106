"""Further networks of a dataset in params.yaml: what they override, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from datasets_spec.contract import Problem
from model import params
from model.__main__ import main
from model.preflight import preflight
from pipeline import paths
from pipeline.params import reader
from tests.conftest import PROJECT, Refused

DATASET, OTHER = "virtual_mni152", "virtual_ncct"
SECTIONS = yaml.safe_load((PROJECT / "params.yaml").read_text("utf-8"))
Write = Callable[..., Path]


@pytest.fixture
def write(workplace: Path) -> Write:
    """Writes the project's sections with these members and ensembles."""

    def call(members: Any, ensembles: Any = None, entry: Any = None) -> Path:
        ensembles = {DATASET: None} if ensembles is None else ensembles
        content = {**SECTIONS, "datasets": {DATASET: entry, OTHER: None}, "presets": {}}
        content |= {"members": members, "ensembles": ensembles}
        paths.PARAMS.write_text(yaml.safe_dump(content), "utf-8")
        return paths.PARAMS

    return call


def second(**more: Any) -> dict[str, Any]:
    return {"second": {"dataset": DATASET, **more}}


def test_a_member_takes_its_datasets_entry_and_overrides_leaves_of_it(write: Write) -> None:
    write(
        second(train={"seed": 2, "network": {"base_filters": 4}}, augment={"mode": "online"}),
        entry={"train": {"epochs": 3, "seed": 1}},
    )
    of_dataset = params.load(DATASET)
    dataset, settings = params.load_member("second")
    assert dataset == DATASET
    assert settings.train.seed == 2
    assert settings.train.epochs == of_dataset.train.epochs == 3
    assert settings.train.network.base_filters == 4
    assert settings.train.network.image_px == of_dataset.train.network.image_px
    assert settings.augment.mode == "online"
    assert (settings.convert, settings.split) == (of_dataset.convert, of_dataset.split)
    assert params.members(DATASET) == ("second",)
    assert params.members(OTHER) == ()


def test_what_an_ensemble_leaves_out_has_its_usual_value(write: Write) -> None:
    write(second())
    assert params.ensemble(DATASET) == params.Ensemble("auto", True)
    write(second(), {DATASET: {"weights": "equal"}})
    assert params.ensemble(DATASET) == params.Ensemble("equal", True)
    assert params.ensemble(OTHER) is None


@pytest.mark.parametrize("lacking", [("members",), ("members", "ensembles")])
def test_a_file_may_lack_both_sections(write: Write, lacking: tuple[str, ...]) -> None:
    file = write({}, {})
    content = yaml.safe_load(file.read_text("utf-8"))
    file.write_text(yaml.safe_dump({k: v for k, v in content.items() if k not in lacking}))
    assert reader.members() == {}
    assert params.ensemble(DATASET) is None
    preflight(file)


@pytest.mark.parametrize(
    ("members", "ensembles", "words"),
    [
        ({"a.b": {"dataset": DATASET}}, None, "member's name of up to 60 letters"),
        ({DATASET: {"dataset": DATASET}}, None, "which is a dataset's"),
        ({"second": None}, None, "a mapping with the key 'dataset', got None"),
        ({"second": {"train": {"seed": 2}}}, None, "one of the enabled datasets"),
        (second(dataset="aisd"), None, "one of the enabled datasets"),
        (second(split={"seed": 2}), None, "which make the pairs"),
        (second(convert={"image_px": 64}), None, "which make the pairs"),
        (second(evaluate={"seed": 2}), None, "expected keys among dataset, augment, train"),
        (second(seed=2), None, "indented below 'train:'"),
        (second(train={"sed": 2}), None, "Did you mean 'seed'?"),
        (second(train={"epochs": 0}), None, "members.second: train: epochs"),
        (second(train=[]), None, "expected a mapping"),
        (second(augment={"seed": 2}), None, "Write 'mode: online'"),
        (second(), {}, f"  {DATASET}:' below 'ensembles:'"),
        (second(), {DATASET: None, OTHER: None}, f"a member of {OTHER}, found none"),
        (second(), {DATASET: None, "aisd": None}, "one of the enabled datasets"),
        (second(), {DATASET: {"weights": "best"}}, "weights"),
        (second(), {DATASET: {"weight": "equal"}}, "Did you mean 'weights'?"),
        ([], {}, "expected a mapping"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_any_work(
    write: Write, refused: Refused, members: Any, ensembles: Any, words: str
) -> None:
    file = write(members, ensembles)
    assert words in str(refused(lambda: preflight(file)))


def test_variants_on_the_disk_are_those_of_the_dataset(write: Write, refused: Refused) -> None:
    """Its augment stage makes none where they are drawn online."""
    own = {"augment": {"mode": "offline"}}
    write(second(**own))
    assert params.load_member("second")[1].augment.mode == "offline"
    write(second(**own), entry={"augment": {"mode": "online"}})
    problem: Problem = refused(lambda: params.load_member("second"))
    assert "drawn online" in str(problem)
    scans = {"train": {"source": "scans"}, "augment": {"mode": "offline", "variants": {}}}
    write(second(**scans))
    assert params.load_member("second")[1].augment.variants == {}  # of no pair on the disk


def test_a_member_that_is_not_named_is_refused_with_those_that_are(
    write: Write, refused: Refused
) -> None:
    write(second())
    assert "(second)" in str(refused(lambda: params.load_member("third")))


def test_train_tells_of_datasets_and_members(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(second())
    assert main(["train", "third"]) == 2
    assert f"{OTHER}, second, got 'third'" in capsys.readouterr().err
