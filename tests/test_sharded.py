"""A dataset in shards goes through every stage as one whose pictures are files of their own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model import params
from model.evaluate import evaluate
from model.train import train
from pipeline import api, paths
from pipeline.augment import augment
from pipeline.convert import convert
from pipeline.pairs import manifest, pictures
from pipeline.pairs.manifest import Pair
from pipeline.report import report
from pipeline.runtime.files import sha256
from pipeline.split import split
from pipeline.splits import folders, leaks
from tests.conftest import Refused
from tests.support import cohort

pytestmark = pytest.mark.slow

NAME, SHARDS = cohort.DATASET, 3
MADE = (paths.converted(NAME), paths.augmented(NAME), paths.dataset(NAME))
RUN = paths.run(NAME)


@pytest.fixture
def settings(workplace: Path) -> params.Params:
    """Pairs in shards, beside the folder ``loose`` with the same in files of their own."""
    cohort.prepare(patients=8)
    shutil.copytree(paths.DATA, "loose/data")
    shutil.rmtree(paths.DATA)
    return cohort.prepare(patients=8, **{"convert.shards": SHARDS})


def facts(folder: Path) -> list[Pair]:
    """The rows of a manifest, without where their files are."""
    nowhere = {"shard": "", "shard_at": (), "case_shard": "", "case_at": ()}
    return [replace(pair, **nowhere) for pair in manifest.read(folder)]


def files_in(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("folder", MADE, ids=lambda folder: folder.parts[1])
def test_every_stage_makes_the_same_pairs(settings: params.Params, folder: Path) -> None:
    rows = manifest.read(folder)
    assert {pair.shard != "" for pair in rows} == {True}
    assert [repr(one) for one in facts(folder)] == [repr(one) for one in facts("loose" / folder)]
    loose = {pair.id: pair for pair in manifest.read("loose" / folder)}
    for pair in rows:
        own = [file.read_bytes() for file in pictures.files(folder, pair)]
        assert own == [
            file.read_bytes() for file in pictures.files("loose" / folder, loose[pair.id])
        ]


def test_a_dataset_is_few_files(settings: params.Params) -> None:
    converted, augmented, dataset = map(files_in, MADE)
    assert len(converted) == 2 * SHARDS + 1
    assert len(augmented) == SHARDS + 1
    names = {name for name in converted | augmented if name.startswith("shards/")}
    linked = {name for name in dataset if name.startswith("shards/")}
    assert linked < names
    assert not any("/cases-" in name for name in linked)  # what convert keeps stays there
    shown = {name for name in dataset - linked if name.endswith(".png")}
    assert {name.split("/")[0] for name in shown if "/" in name} == {paths.MINI_TEST}


def test_a_shard_of_the_dataset_takes_no_room_of_its_own(settings: params.Params) -> None:
    split(NAME, settings)
    dataset = paths.dataset(NAME)
    for shard in {pair.shard for pair in manifest.read(dataset)}:
        assert (dataset / shard).stat().st_nlink == 2


def test_samples_are_read_from_shards(settings: params.Params) -> None:
    packed = api.open_pairs(paths.dataset(NAME), "train")
    loose = api.open_pairs("loose" / paths.dataset(NAME), "train")
    assert len(packed) == len(loose) > 10
    for one, other in zip(packed, loose, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.mask, other.mask)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_gate_holds_and_sees_a_changed_byte(settings: params.Params, workers: int) -> None:
    dataset = paths.dataset(NAME)
    assert folders.check(dataset, workers) == []
    victim = next(pair for pair in manifest.read(dataset) if not pair.empty)
    shard = dataset / victim.shard
    content = bytearray(shard.read_bytes())
    content[victim.shard_at[2] + victim.shard_at[3] // 2] ^= 0xFF
    shard.unlink()
    shard.write_bytes(content)
    found = {one.promise: one.examples for one in folders.check(dataset, workers)}
    assert found[leaks.UNCHANGED] == (f"{victim.split}/{victim.id}",)


def test_the_gate_finds_a_patient_in_two_splits(settings: params.Params) -> None:
    dataset = paths.dataset(NAME)
    rows = manifest.read(dataset)
    moved = next(pair for pair in rows if pair.split == "test")
    kept = [pair for pair in rows if pair is not moved]
    manifest.write(dataset, [*kept, replace(moved, split="train")])
    broken = {one.promise for one in folders.check(dataset)}
    assert leaks.PATIENTS in broken


def outputs(folder: Path) -> dict[str, str]:
    """What train and evaluate make, without what states when or from which manifest."""
    wanted: Sequence[Path] = sorted(
        [*folder.rglob("*.png"), folder / paths.HISTORY, folder / paths.PER_CASE]
    )
    return {file.relative_to(folder).as_posix(): sha256(file) for file in wanted}


@pytest.mark.parametrize("source", ["pairs", "scans"])
def test_a_network_learns_and_is_scored_alike(
    settings: params.Params, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    settings = replace(settings, train=replace(settings.train, source=source))
    train(NAME, settings)
    evaluate(NAME, settings)
    packed = outputs(RUN)
    scores = json.loads((RUN / paths.SCORES).read_text("utf-8"))
    monkeypatch.chdir("loose")
    own = replace(settings, convert=replace(settings.convert, shards=0))
    train(NAME, own)
    evaluate(NAME, own)
    assert outputs(RUN) == packed
    assert len([name for name in packed if name.endswith(".png")]) > 5
    assert json.loads((RUN / paths.SCORES).read_text("utf-8")) == scores


def test_the_page_shows_it(settings: params.Params) -> None:
    report([NAME], paths.PARAMS)
    packed = (paths.REPORT / "index.html").read_text("utf-8")
    assert packed.count("data:image/") > 10


def test_a_parameter_moves_pairs_and_converts_nothing(
    settings: params.Params, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {folder: files_in(folder) for folder in MADE}
    for count, same in ((0, False), (SHARDS, True)):
        own = replace(settings, convert=replace(settings.convert, shards=count))
        capsys.readouterr()
        for stage in (convert, augment):
            stage(NAME, own, 1)
        split(NAME, own)
        assert capsys.readouterr().out.count("8 kept, 0 to make") == 2
        assert ({folder: files_in(folder) for folder in MADE} == before) is same
    assert not (paths.converted(NAME) / paths.IMAGES).exists()


def test_a_missing_shard_is_named_with_what_to_do(
    settings: params.Params, refused: Refused
) -> None:
    dataset = paths.dataset(NAME)
    pair = manifest.read(dataset)[0]
    (dataset / pair.shard).unlink()
    problem = refused(lambda: pictures.image(dataset, pair))
    assert "expected a shard of at least" in str(problem)
    assert pair.shard in str(problem)
    assert problem.remedy
