"""A plan as lines of params.yaml: what it writes, what it takes back, and what it leaves alone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from model import params
from model.planning import entry, whole
from model.planning.cohort import Cohort
from model.planning.whole import Plan
from pipeline.pairs.variants import Variants
from pipeline.params import editing
from tests.conftest import PROJECT
from tests.support import cohort
from tests.support.planning import COHORTS, HIPPOCAMPUS, MACHINE

NAME = "msd_hippocampus"
ABOVE = ("datasets", NAME)
KINDS = ("hippocampus", "head CT of 5 mm", "sagittal scans sliced axially", "pairs without scans")
SETTINGS = params.load("virtual_mni152", PROJECT / "params.yaml")
TEXT = f"datasets:\n  other:\n  {NAME}:  # mine\nmembers: {{}}\nensembles: {{}}\n"


def planned(text: str, cohort: Cohort = HIPPOCAMPUS, minutes: float = 30) -> tuple[Plan, str]:
    stated = entry.stated(text, ABOVE)
    plan = whole.made(NAME, cohort, SETTINGS, MACHINE, minutes, stated)
    return plan, editing.written(text, entry.changes(text, NAME, plan))


@pytest.mark.parametrize("kind", KINDS)
def test_every_line_that_is_written_has_a_reason(kind: str) -> None:
    plan, text = planned(TEXT, COHORTS[kind])
    assert entry.planned(text, ABOVE) == set(plan.entry)
    assert not entry.stated(text, ABOVE)
    written = [*plan.entry.values(), *([plan.ensemble] if plan.ensemble else [])]
    written += [choice for own in plan.members.values() for choice in own.values()]
    reasons = re.findall(r"  # plan [^:]+: (.+)\n", text)
    assert sorted(reasons) == sorted(choice.reason for choice in written)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_can_be_read_by_every_stage(kind: str, tmp_path: Path) -> None:
    name, file = cohort.DATASET, tmp_path / "params.yaml"
    before = "datasets:" + (PROJECT / "params.yaml").read_text("utf-8").partition("\ndatasets:")[2]
    plan = whole.made(name, COHORTS[kind], SETTINGS, MACHINE, 30, {})
    file.write_text(editing.written(before, entry.changes(before, name, plan)), "utf-8")
    networks = [params.load(name, file)]
    networks += [params.load_member(one, file)[1] for one in params.members(name, file)]
    assert len(networks) == 1 + len(plan.members)
    assert (params.ensemble(name, file) is None) == (not plan.members)
    assert len({(one.train.plane, one.train.seed) for one in networks}) == len(networks)
    for one in networks:
        assert Variants(name, one.augment).names == ("moved", "bent", "rough")
        assert one.train.network.field_mm == plan_value(plan, "train.network.field_mm", 0.0)


def test_stated_epochs_beyond_the_minutes_are_noted() -> None:
    stated = {("train", "epochs"): 33, ("train", "steps_per_epoch"): 125}
    plan = whole.made(NAME, HIPPOCAMPUS, SETTINGS, MACHINE, 1, stated)
    assert not plan.members
    [note] = [one for one in plan.notes if "more than the 1 that there are" in one]
    assert note.endswith("epochs and steps_per_epoch are stated")
    fits = whole.made(NAME, HIPPOCAMPUS, SETTINGS, MACHINE, 30, {})
    assert not [one for one in fits.notes if "that there are" in one]


def plan_value(plan: Plan, key: str, missing: object) -> object:
    choice = plan.entry.get(tuple(key.split(".")))
    return choice.value if choice else missing


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_run_writes_the_same(kind: str) -> None:
    _, once = planned(TEXT, COHORTS[kind])
    assert planned(once, COHORTS[kind])[1] == once


def test_another_plan_replaces_what_a_plan_wrote_and_nothing_else() -> None:
    _, long = planned(TEXT)
    plan, short = planned(long, minutes=3)
    assert not plan.members
    assert short == planned(TEXT, minutes=3)[1]
    assert yaml.safe_load(short)["members"] == yaml.safe_load(short)["ensembles"] == {}


def test_what_people_write_or_change_wins_and_decides_the_rest() -> None:
    stated = TEXT.replace("# mine\n", "# mine\n    train: {network: {image_px: 96}, loss: dice}\n")
    plan, text = planned(stated)
    assert plan.entry["train", "network", "image_px"].stated
    assert plan.entry["train", "network", "num_layers"].value == 5  # of 96 pixels
    assert "image_px: 96\n" in text
    assert "loss: dice\n" in text
    changed = re.sub(r"batch_pairs: \d+ ", "batch_pairs: 5 ", text)
    again, last = planned(changed)
    assert again.entry["train", "batch_pairs"] == whole.Choice(
        5, again.entry["train", "batch_pairs"].reason, stated=True
    )
    assert "batch_pairs: 5  # plan 16" in last


@pytest.mark.parametrize(
    "ours", ["train: {plane: coronal}", "augment: {mode: both}", "train: {source: pairs}"]
)
def test_what_is_stated_of_planes_and_sources_is_followed(ours: str) -> None:
    plan, _ = planned(TEXT.replace("# mine\n", f"# mine\n    {ours}\n"))
    first = plan.entry["train", "plane"].value
    members = [one["train", "plane"].value for one in plan.members.values()]
    assert [first, *members] == (["coronal", "axial", "sagittal"] if "plane" in ours else ["own"])


@pytest.mark.parametrize("of_step", [0.05, 2.0])
def test_a_machine_that_is_not_as_foretold_has_as_many_steps_as_it_can(of_step: float) -> None:
    machine = replace(MACHINE, timed=lambda *_: {"float32": of_step})
    plan = whole.made(NAME, HIPPOCAMPUS, SETTINGS, machine, 30, {})
    steps = plan.entry["train", "epochs"].value * plan.entry["train", "steps_per_epoch"].value
    assert 60 + steps * of_step < 60 * plan.minutes
    assert 25 < (1 + len(plan.members)) * plan.minutes < 26


def test_epochs_that_are_stated_share_the_time() -> None:
    plan, text = planned(TEXT.replace("# mine\n", "# mine\n    train: {epochs: 60}\n"))
    usual, free = planned(TEXT)
    assert plan.entry["train", "steps_per_epoch"].value * 60 <= 10_000
    assert plan.minutes * networks(text) == pytest.approx(usual.minutes * networks(free), rel=0.3)


def networks(text: str) -> int:
    """How many a parameter file trains for its dataset."""
    return 1 + len(yaml.safe_load(text)["members"])


def test_members_that_somebody_changed_stay() -> None:
    _, text = planned(TEXT)
    name = f"{NAME}_coronal"
    changed = text.replace("plane: coronal", "seed: 3  # mine\n      plane: coronal")
    _, short = planned(changed, minutes=3)
    assert list(yaml.safe_load(short)["members"]) == [name]
    assert yaml.safe_load(short)["members"][name]["train"] == {"seed": 3, "plane": "coronal"}


def test_an_ensemble_that_somebody_wrote_stays() -> None:
    written = TEXT.replace("ensembles: {}", f"ensembles:\n  {NAME}: {{weights: equal}}")
    _, text = planned(written)
    assert yaml.safe_load(text)["ensembles"] == {NAME: {"weights": "equal"}}
    assert len(yaml.safe_load(text)["members"]) == 2
