"""convert has the workers read raw files: the same digests, and a bad file costs its case."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import datasets_spec
from pipeline import convert, fetch, paths
from pipeline.pairs import manifest
from pipeline.params import reader as params
from pipeline.runtime import executor
from pipeline.runtime.executor import Cluster, Workers
from pipeline.runtime.files import sha256
from pipeline.sources import listing
from tests.conftest import FIXTURES, PROJECT, Refused
from tests.support import dask

pytestmark = pytest.mark.slow

NAME = "msd_hippocampus"
IMAGE = "Task04_Hippocampus/imagesTr/hippocampus_017.nii.gz"


@pytest.fixture(autouse=True)
def raw(workplace: Path) -> Path:
    target = workplace / paths.raw(NAME)
    shutil.copytree(FIXTURES / NAME / "raw", target)
    return target


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[Workers]:
    """Who was asked to read the files of this dataset."""
    asked: list[Workers] = []
    run = executor.run

    def noting(task: object, jobs: object, workers: Workers, title: str, *more: object) -> object:
        if title == f"read {NAME}":
            asked.append(workers)
        return run(task, jobs, workers, title, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(executor, "run", noting)
    return asked


def settings() -> params.Params:
    read = params.load("virtual_mni152", PROJECT / paths.PARAMS)
    return replace(read, convert=replace(read.convert, image_px=64))


def made() -> dict[str, str]:
    folder = paths.converted(NAME)
    return {str(file): sha256(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def test_workers_give_the_digests_of_one_process(
    readers: list[Workers], monkeypatch: pytest.MonkeyPatch
) -> None:
    convert.convert(NAME, settings(), 1)
    alone = made()
    assert len(alone) > 10
    shutil.rmtree(paths.converted(NAME))
    monkeypatch.setattr(convert, "_QUICKLY_READ", 0)
    convert.convert(NAME, settings(), 2)
    assert made() == alone
    assert readers == [1, 2]


def test_few_bytes_are_read_without_starting_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = listing.cases(datasets_spec.load(NAME))
    least = sum(file.stat().st_size for case in cases for file in listing.files(case))
    for bytes_, who in ((least, 1), (least - 1, 2)):
        monkeypatch.setattr(convert, "_QUICKLY_READ", bytes_)
        assert convert._readers(NAME, cases, 2) == who


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_cannot_be_read_costs_its_case_alone(
    raw: Path,
    workers: int,
    monkeypatch: pytest.MonkeyPatch,
    refused: Refused,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(convert, "_QUICKLY_READ", 0)
    (raw / IMAGE).unlink()
    (raw / IMAGE).mkdir()
    (raw / IMAGE / "sub").symlink_to("nowhere")
    refused(lambda: convert.convert(NAME, settings(), workers))
    assert "hippocampus_017" in capsys.readouterr().err
    assert len({pair.case for pair in manifest.read(paths.converted(NAME))}) == 2


def test_a_cluster_verifies_and_converts_what_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(convert, "_QUICKLY_READ", 0)
    fetch.fetch(NAME, 1, subset=True)
    here = capsys.readouterr().out
    with dask.cluster(tmp_path / "dask", 2) as started:
        fetch.fetch(NAME, Cluster(started.address), subset=True)
        assert capsys.readouterr().out == here
        assert "3 of 260 published cases" in here
        convert.convert(NAME, settings(), Cluster(started.address))
    on_cluster = made()
    shutil.rmtree(paths.converted(NAME))
    convert.convert(NAME, settings(), 1)
    assert made() == on_cluster
