"""What a model's file states: the code that decides its weights, and the same bytes every time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import datasets_spec
from model import params, provenance
from model.training import checkpoint
from pipeline import paths
from pipeline.runtime import imports
from tests.conftest import PROJECT, Refused
from tests.support import cohort

pytestmark = pytest.mark.slow  # it imports Keras

FACTS = datasets_spec.load(cohort.DATASET).dataset


@pytest.fixture
def copy(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the code, whose fingerprint provenance takes, in a folder with a manifest."""
    manifest = paths.dataset(cohort.DATASET) / paths.MANIFEST
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    code = workplace / "code"
    for floor in imports.FLOORS:
        left = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / floor, code / floor, ignore=left)
    shutil.copy(PROJECT / "pyproject.toml", code)
    monkeypatch.setattr(imports, "ROOT", code)
    imports.closure.cache_clear()
    yield code
    imports.closure.cache_clear()


def ingredients(mode: str = "offline") -> dict[str, object]:
    """What a training of the dataset that lies here would follow from."""
    imports.closure.cache_clear()
    settings = cohort.write_params(**{"augment.mode": mode})
    origin = provenance.of(cohort.DATASET, FACTS, settings)
    return checkpoint.ingredients(origin, settings.train)


def edit(file: Path, text: str = "\nCHANGED = 1\n") -> None:
    assert file.is_file()
    with file.open("a", encoding="utf-8") as end:
        end.write(text)


RUNNING = [
    "model/__main__.py",
    "model/compare.py",
    "model/evaluate.py",
    "model/inference/member.py",
    "model/inference/sampling.py",
    "model/params.py",
    "model/predict.py",
    "model/provenance.py",
    "model/scoring/reference.py",
    "model/scoring/scores.py",
    "model/train.py",
    "model/training/checkpoint.py",
    "model/training/launch.py",
    "model/training/watch.py",
    "pipeline/convert.py",
    "pipeline/pairs/manifest.py",
    "pipeline/params/reader.py",
    "pipeline/params/split.py",
    "pipeline/paths.py",
    "pipeline/runtime/executor.py",
    "pipeline/runtime/files.py",
    "pipeline/runtime/locks.py",
    "datasets_spec/contract.py",
    "datasets_spec/virtual_mni152.py",
]
DECIDING = [
    "model/flexunet.py",
    "model/normalization.py",
    "model/network_input.py",
    "model/number_format.py",
    "model/training/batches.py",
    "model/training/devices.py",
    "model/training/fit.py",
    "model/training/losses.py",
    "model/training/metrics.py",
    "model/training/partial.py",
    "model/training/parts.py",
    "model/training/precision.py",
    "model/training/state.py",
    "pipeline/pairs/pictures.py",
    "pipeline/pairs/png.py",
]
DRAWING = ["pipeline/pairs/variants.py", "pipeline/warps/fields.py", "pipeline/runtime/keys.py"]


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_what_runs_a_training_discards_no_checkpoint(copy: Path, mode: str) -> None:
    before = ingredients(mode)
    for name in RUNNING:
        edit(copy / name)
        assert ingredients(mode) == before, name


def test_what_decides_weights_starts_a_training_over(copy: Path) -> None:
    seen = [ingredients()]
    for name in DECIDING:
        edit(copy / name)
        seen.append(ingredients())
        assert seen[-1]["code"] != seen[-2]["code"], name
    assert {**seen[0], "code": ""} == {**seen[-1], "code": ""}


@pytest.mark.parametrize(("mode", "same"), [("offline", True), ("online", False), ("both", False)])
def test_the_code_of_variants_counts_where_training_draws_them(
    copy: Path, mode: str, same: bool
) -> None:
    """Those on disk are in the dataset's digest."""
    for name in DRAWING:
        before = ingredients(mode)
        edit(copy / name)
        assert (ingredients(mode) == before) == same, name


@pytest.mark.parametrize("text", ["# a comment\n", '"""What a trainer should know."""\n', "\n\n"])
def test_words_about_the_code_discard_no_checkpoint(copy: Path, text: str) -> None:
    before = ingredients()
    for name in DECIDING:
        edit(copy / name, text)
    assert ingredients() == before


def test_the_lists_above_name_every_module_that_decides() -> None:
    deciding = imports.closure(provenance.DECIDING, without=provenance.RUNNERS)
    modules = {file.as_posix() for file in deciding if file.name != "__init__.py"}
    read = {"pipeline/labels/colours.py", "pipeline/volumes/picture_files.py"}  # by png
    assert modules == {*DECIDING, *read}


def test_watching_a_training_needs_nothing_of_predict() -> None:
    watched = {file.as_posix() for file in imports.closure("model.training.watch")}
    assert "model/inference/sampling.py" in watched
    assert not {"model/predict.py", "model/evaluate.py"} & watched


WRITE = """
import sys
from pathlib import Path
import keras
from model import params, provenance
from model.flexunet import flexunet
keras.utils.set_random_seed(1)
network = params.Network(16, 1, 2, 3, 2, 1, 0.1, "relu", "batch")
with provenance.writing(flexunet(network, 3), Path(sys.argv[1]), {"dataset": "x"}):
    pass
"""


def test_two_processes_write_the_same_bytes_of_one_model(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one.keras", "other.keras")]
    for file in files:
        subprocess.run([sys.executable, "-c", WRITE, str(file)], cwd=PROJECT, check=True)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_earlier_name_of_a_parameter_is_explained(workplace: Path, refused: Refused) -> None:
    cohort.write_params()
    text = paths.PARAMS.read_text("utf-8")
    assert "foreground_oversampling" in text
    paths.PARAMS.write_text(text.replace("foreground_oversampling", "class_share"), "utf-8")
    problem = refused(lambda: params.load(cohort.DATASET))
    assert "'class_share'" in problem.what
    assert "foreground_oversampling" in problem.remedy
