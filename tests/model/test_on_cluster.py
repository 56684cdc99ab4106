"""Every stage on a cluster: the bytes that this machine's own processes make."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import keras
import pytest
import yaml

from model.cli import main
from model.scoring import choose
from pipeline import paths
from pipeline.pairs import manifest
from tests.support import cohort, dask
from tests.support.dask import Started
from tests.support.models import save_untrained

pytestmark = pytest.mark.slow

STAGES = ("convert", "augment", "split")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    with dask.cluster(tmp_path_factory.mktemp("dask"), 2) as one:
        yield one


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of every file below."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in paths.files_below(folder)
    }


def made(at: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> dict[str, str]:
    """The stages up to the pairs and the gate in a folder of their own, and what came of it."""
    at.mkdir()
    monkeypatch.chdir(at)
    cohort.write_raw(patients=9)
    cohort.write_params()
    for stage in STAGES:
        assert main([stage, cohort.DATASET, *options]) == 0
    assert main(["check", str(paths.dataset(cohort.DATASET)), *options]) == 0
    return digests(paths.DATA)


def test_pairs_are_those_of_processes(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = made(tmp_path / "here", monkeypatch, "--workers", "2")
    there = made(tmp_path / "there", monkeypatch, "--cluster", started.address)
    assert here == there
    assert len(here) > 100


def test_scores_and_masks_are_those_of_this_process(
    started: Started, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named in the parameter file for one, in the environment for the other."""
    settings = cohort.prepare(patients=9)
    keras.utils.set_random_seed(1)
    save_untrained(cohort.DATASET, settings)
    run = paths.run(cohort.DATASET)
    pairs = manifest.read(paths.dataset(cohort.DATASET))
    choose.write(run / paths.MODEL, pairs, cohort.DATASET, settings.train, settings.limits)
    scans = [str(paths.raw(cohort.DATASET)), "--output"]
    assert main(["evaluate", cohort.DATASET]) == 0
    assert main(["predict", cohort.DATASET, *scans, "masks", "--no-page"]) == 0
    here = digests(run), {name: one for name, one in digests(Path("masks")).items() if _mask(name)}
    shutil.rmtree("masks")

    content = yaml.safe_load(paths.PARAMS.read_text("utf-8"))
    paths.PARAMS.write_text(yaml.safe_dump({**content, "cluster": started.address}), "utf-8")
    assert main(["evaluate", cohort.DATASET]) == 0
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", started.address)
    assert main(["predict", cohort.DATASET, *scans, "masks", "--no-page"]) == 0
    there = digests(run), {name: one for name, one in digests(Path("masks")).items() if _mask(name)}
    assert here == there
    assert len(there[1]) == 18


def _mask(name: str) -> bool:
    return name.endswith(".nii.gz")


def test_a_case_that_fails_is_named_and_the_others_are_kept(
    started: Started,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    cohort.write_raw()
    cohort.write_params()
    (paths.raw(cohort.DATASET) / "sub-03/sub-03_T1w.nii").write_bytes(b"no scan")
    assert main(["convert", cohort.DATASET, "--cluster", started.address]) == 2
    assert "sub-03" in capsys.readouterr().err
    assert len({one.case for one in manifest.read(paths.converted(cohort.DATASET))}) == 5
