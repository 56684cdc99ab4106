"""DVC does not follow imports: the deps of every stage must be what its code imports."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pathspec import PathSpec

from model import params
from pipeline import paths
from pipeline.params.augment import Augment
from pipeline.runtime.imports import FLOORS, closure
from tests.conftest import PROJECT

STAGES: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text("utf-8"))["stages"]
OF_A_DATASET = ("convert", "augment", "split", "train", "evaluate")
OF_NETWORKS = {"member": "${members}", "ensemble": "${ensembles}"}
VERB_OF = {"member": "train"}  # of another name than the stage
TEMPLATES = {  # of the module that writes a page
    "pipeline/pages/card.py": "card.md",
    "pipeline/pages/page.py": "page",
    "model/scoring/case_views.py": "viewer",
}
ON_MODELS_FLOOR = ("train", "evaluate", "preflight", *OF_NETWORKS)


def verb(stage: str) -> str:
    """Floor and verb, such as "model.train"."""
    floor = "model" if stage in ON_MODELS_FLOOR else "pipeline"
    return f"{floor}.{VERB_OF.get(stage, stage)}"


def body(stage: str) -> dict[str, Any]:
    content: dict[str, Any] = STAGES[stage]
    return dict(content.get("do", content))


def code_deps(stage: str) -> set[str]:
    return {dep for dep in body(stage)["deps"] if dep.endswith(".py")}


def test_the_stages_stand_in_order() -> None:
    pairs = OF_A_DATASET[:-1]
    assert list(STAGES) == ["preflight", *pairs, "member", "evaluate", "ensemble", "report"]


def test_every_stage_of_a_dataset_waits_for_the_preflight() -> None:
    """Its output never changes, so that another dataset makes nothing of the others again."""
    [out] = body("preflight")["outs"]
    assert set(out) == {paths.PREFLIGHT.as_posix()}
    for stage in (*OF_A_DATASET, *OF_NETWORKS):
        assert paths.PREFLIGHT.as_posix() in body(stage)["deps"]
    assert {"params.yaml", "datasets_spec"} <= set(body("preflight")["deps"])
    assert "params" not in body("preflight")


def test_the_preflight_is_never_taken_from_the_run_cache() -> None:
    """In an experiment's folder it links the raw data; DVC's run cache has no kept outputs."""
    [out] = body("preflight")["outs"]
    assert out[paths.PREFLIGHT.as_posix()]["persist"] is True


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_import_closure(stage: str) -> None:
    needed = {file.as_posix() for file in closure(verb(stage))}
    if stage not in (*OF_A_DATASET, *OF_NETWORKS):
        needed = {file for file in needed if not file.startswith("datasets_spec/")}
        assert "datasets_spec" in body(stage)["deps"]
    else:
        needed.add(f"datasets_spec/{'${item.dataset}' if stage == 'member' else '${key}'}.py")
    assert code_deps(stage) == needed


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_writes_a_page_depends_on_its_templates(stage: str) -> None:
    code = code_deps(stage)
    wanted = {folder for writer, folder in TEMPLATES.items() if writer in code}
    listed = {dep for dep in body(stage)["deps"] if "/templates/" in dep}
    assert listed == {f"pipeline/pages/templates/{one}" for one in wanted}


@pytest.mark.parametrize("stage", STAGES)
def test_every_dep_of_code_exists(stage: str) -> None:
    for dep in code_deps(stage):
        assert (PROJECT / re.sub(r"\$\{.*\}", "virtual_mni152", dep)).is_file()
        assert dep.split("/")[0] in FLOORS


@pytest.mark.parametrize("stage", STAGES)
def test_a_command_is_four_words_and_holds_no_name_that_a_shell_would_obey(stage: str) -> None:
    assert body(stage)["cmd"] == f"python -m {verb(stage).replace('.', ' ')}"
    assert body(stage)["desc"]


@pytest.mark.parametrize("stage", OF_A_DATASET)
def test_a_stage_runs_for_each_dataset(stage: str) -> None:
    assert STAGES[stage]["foreach"] == "${datasets}"


@pytest.mark.parametrize("stage", OF_NETWORKS)
def test_a_stage_runs_for_each_member_and_each_ensemble(stage: str) -> None:
    assert STAGES[stage]["foreach"] == OF_NETWORKS[stage]
    assert f"{OF_NETWORKS[stage].strip('${}')}.${{key}}" in body(stage)["params"]


def test_a_member_is_trained_as_the_datasets_own_network_is() -> None:
    own = {one.replace("${key}", "${item.dataset}") for one in body("train")["params"]}
    assert set(body("member")["params"]) == {*own, "members.${key}"}


def test_an_ensemble_waits_for_all_members() -> None:
    deps = body("ensemble")["deps"]
    assert {"runs/${key}/members", "runs/${key}/model.keras"} <= set(deps)
    assert "members" in body("ensemble")["params"]  # one that is taken out, too


@pytest.mark.parametrize("stage", OF_A_DATASET)
def test_a_stage_tracks_its_own_section(stage: str) -> None:
    assert stage in body(stage)["params"]
    others = set(STAGES) - {stage}
    assert not others & set(body(stage)["params"])


def test_train_tracks_every_leaf_of_augment_and_what_deals_slices() -> None:
    """Online, augment makes no pairs, and train draws them by the leaves of augment."""
    leaves = {f"augment.{field.name}" for field in dataclasses.fields(Augment)}
    leaves |= {f"split.{one}" for one in ("empty_slices", "seed", "share_of", "strata")}
    assert leaves <= set(body("train")["params"])


@pytest.mark.parametrize("stage", ["convert", "augment"])
def test_what_is_filled_bit_by_bit_is_kept_between_runs(stage: str) -> None:
    [out] = body(stage)["outs"]
    assert [settings["persist"] for settings in out.values()] == [True]


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_pushes_no_pictures(stage: str) -> None:
    outs = body(stage)["outs"]
    pushed = {out for out in outs if isinstance(out, str)}
    numbers = (
        *("cases.json", "confusion.csv", "doubts.csv", "curves.png", "model.keras", "per_case.csv"),
        *("scores.json", "ensemble.zip", "members.csv"),
    )
    folders = ("runs/${key}", "runs/${key}/ensemble", "runs/${item.dataset}/members/${key}")
    assert pushed <= {f"{folder}/{name}" for folder in folders for name in numbers}
    assert all(
        settings["push"] is False
        for out in outs
        if isinstance(out, dict)
        for settings in out.values()
    )


def test_a_lock_is_no_dependency_of_the_report() -> None:
    """It depends on all of data/dataset and runs."""
    patterns = (PROJECT / ".dvcignore").read_text("utf-8").splitlines()
    ignored = PathSpec.from_lines("gitignore", patterns)
    assert ignored.match_file("data/dataset/.virtual_mni152.lock")
    assert ignored.match_file("runs/.virtual_mni152.lock")
    assert ignored.match_file("runs/virtual_mni152/.ensemble.lock")
    assert ignored.match_file("runs/virtual_mni152/members/.second.lock")
    assert ignored.match_file("runs/virtual_mni152/members/second/checkpoint/last.keras")
    assert ignored.match_file("runs/virtual_mni152/.folds.lock")
    assert ignored.match_file("runs/virtual_mni152/folds/.fold_0.lock")
    assert not ignored.match_file("runs/virtual_mni152/metrics.json")
    assert not ignored.match_file("runs/virtual_mni152/members/second/model.keras")


def test_the_report_depends_on_pooled_scores_and_on_no_folder_of_a_fold() -> None:
    patterns = (PROJECT / ".dvcignore").read_text("utf-8").splitlines()
    ignored = PathSpec.from_lines("gitignore", patterns)
    assert not ignored.match_file((paths.folds("virtual_mni152") / paths.METRICS).as_posix())
    assert ignored.match_file((paths.fold("virtual_mni152", 3) / paths.PARAMS).as_posix())


@pytest.mark.parametrize("stage", ["convert", "split"])
def test_a_stage_sees_the_raw_data_where_the_patients_table_lies(stage: str) -> None:
    assert "data/raw/${key}" in body(stage)["deps"]
    assert "convert.raters" in body("split")["params"]


def test_dvc_and_git_overlook_the_salt_and_what_the_hashes_stand_for() -> None:
    for name in (".dvcignore", ".gitignore"):
        ignored = PathSpec.from_lines("gitignore", (PROJECT / name).read_text("utf-8").splitlines())
        assert ignored.match_file(paths.ID_SALT.as_posix())
        assert ignored.match_file((paths.IDENTITIES / "clinic" / "0123.csv").as_posix())
    tracked = {
        str(path) for stage in STAGES for path in (*body(stage)["deps"], *body(stage)["outs"])
    }
    assert not [path for path in tracked if "salt" in path or "identities/" in path]


def test_no_parameter_is_a_secret() -> None:
    """DVC writes the values of parameters into dvc.lock and its run cache."""
    assert not [name for name in names(params.Params) if "salt" in name]
    assert "salt" not in (PROJECT / "dvc.yaml").read_text("utf-8")


def test_nothing_changes_the_working_folder() -> None:
    assert not [stage for stage in STAGES if "wdir" in body(stage)]


def names(kind: Any) -> Iterator[str]:
    for field in dataclasses.fields(kind):
        yield field.name
        hint = typing.get_type_hints(kind)[field.name]
        if dataclasses.is_dataclass(hint):
            yield from names(hint)


def test_no_parameter_has_a_name_that_dvc_overlooks() -> None:
    found = set(names(params.Params))
    assert "image_px" in found
    assert not found & {"size", "nfiles"}


def test_analytics_are_off() -> None:
    assert "analytics = false" in (PROJECT / ".dvc" / "config").read_text("utf-8")


def test_paths_of_outputs_are_those_of_the_pipeline() -> None:
    for stage, path in (
        ("convert", paths.converted("X")),
        ("augment", paths.augmented("X")),
        ("split", paths.dataset("X")),
    ):
        [out] = body(stage)["outs"]
        text = out if isinstance(out, str) else next(iter(out))
        assert Path(text.replace("${key}", "X")) == path
