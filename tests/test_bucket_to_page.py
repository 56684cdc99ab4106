"""From raw data in a bucket to the page, with the shards in the bucket too: nothing differs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from model import params
from model.evaluate import evaluate
from model.train import train
from pipeline import paths
from pipeline.augment import augment
from pipeline.convert import convert
from pipeline.fetch import fetch
from pipeline.pairs import manifest
from pipeline.pairs.manifest import Pair
from pipeline.report import report
from pipeline.runtime.files import sha256
from pipeline.split import split
from pipeline.splits import folders, leaks
from tests.support import cohort, s3
from tests.support.s3 import Server

pytestmark = pytest.mark.slow

NAME = cohort.DATASET
STORE = f"s3://{s3.BUCKET}/brains"
MADE = (paths.converted(NAME), paths.augmented(NAME), paths.dataset(NAME))


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3.server(tmp_path_factory.mktemp("s3")) as one:
        yield one


@pytest.fixture
def server(started: Server, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """With the cohort's raw data in the bucket; what is made of the same data here is in `here`."""
    s3.use(started, monkeypatch)
    cohort.prepare(patients=8, **{"convert.shards": 2})
    cohort.write_raw(Path("raw"), patients=8)
    started.put(Path("raw"), "raw data")
    shutil.copytree(paths.DATA, "here/data")
    shutil.copytree("raw", Path("here") / paths.raw(NAME), dirs_exist_ok=True)
    shutil.rmtree(paths.DATA)
    shutil.rmtree("raw")
    return started


@pytest.fixture
def settings(server: Server) -> params.Params:
    return cohort.write_params(**{"convert.shards": 2, "convert.store": STORE})


def pairs_of(settings: params.Params) -> None:
    fetch(NAME, 1, subset=True, url=s3.URL)
    convert(NAME, settings, 1)
    augment(NAME, settings, 1)
    split(NAME, settings)


def facts(folder: Path) -> list[Pair]:
    """The rows of a manifest, with where their files are within the store or the folder."""
    rows = []
    for pair in manifest.read(folder):
        shard, case = (
            name.rpartition(f"{paths.SHARDS}/")[2] for name in (pair.shard, pair.case_shard)
        )
        rows.append(replace(pair, shard=shard, case_shard=case))
    return rows


def outputs() -> dict[str, str]:
    run = paths.run(NAME)
    wanted = sorted([*run.rglob("*.png"), run / paths.HISTORY, run / paths.PER_CASE])
    return {file.relative_to(run).as_posix(): sha256(file) for file in wanted}


def test_pairs_scores_and_page_are_those_of_the_same_data_here(
    settings: params.Params, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs_of(settings)
    assert folders.check(paths.dataset(NAME)) == []
    train(NAME, settings)
    evaluate(NAME, settings)
    report([NAME], paths.PARAMS)
    made, page = outputs(), paths.REPORT / "index.html"
    assert page.read_text("utf-8").count("data:image/") > 10
    assert not list(paths.DATA.rglob("*.tar"))
    assert not list(paths.raw(NAME).rglob("*.nii"))
    listed = server.client().list_objects_v2(Bucket=s3.BUCKET, Prefix="brains/")["Contents"]
    in_bucket = {Path(one["Key"]).name for one in listed}
    rows = {folder: facts(folder) for folder in MADE}
    monkeypatch.chdir("here")
    for folder in MADE:
        assert [repr(one) for one in rows[folder]] == [repr(one) for one in facts(folder)]
    assert in_bucket == {file.name for file in paths.DATA.rglob("*.tar")}
    own = replace(settings, convert=replace(settings.convert, store=""))
    train(NAME, own)
    evaluate(NAME, own)
    assert outputs() == made
    assert len(made) > 10


def test_a_service_that_fails_for_a_while_costs_nothing(
    settings: params.Params, server: Server
) -> None:
    fetch(NAME, 1, subset=True, url=s3.URL)
    server.about = "/brains/"
    server.faults = [s3.overloaded, s3.dropped, s3.unavailable, s3.overloaded]
    convert(NAME, settings, 1)
    assert server.faults == []
    server.faults = [s3.cut, s3.dropped, s3.overloaded]
    augment(NAME, settings, 1)
    assert server.faults == []
    split(NAME, settings)
    assert folders.check(paths.dataset(NAME)) == []


def test_a_service_that_stays_away_ends_the_run_which_resumes(
    settings: params.Params, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(NAME, 1, subset=True, url=s3.URL)
    server.about, server.always = "/brains/", s3.overloaded
    with pytest.raises(Exception, match="expected an answer of the service"):
        convert(NAME, settings, 1)
    server.always = None
    capsys.readouterr()
    convert(NAME, settings, 1)
    assert "0 kept" not in capsys.readouterr().out
    assert {pair.case for pair in manifest.read(paths.converted(NAME))} == {
        pair.case for pair in manifest.read("here" / paths.converted(NAME))
    }


def test_the_gate_sees_a_changed_byte_in_the_bucket(
    settings: params.Params, server: Server
) -> None:
    pairs_of(settings)
    dataset = paths.dataset(NAME)
    victim = next(pair for pair in manifest.read(dataset) if not pair.empty)
    client, key = server.client(), victim.shard.removeprefix(f"s3://{s3.BUCKET}/")
    content = bytearray(client.get_object(Bucket=s3.BUCKET, Key=key)["Body"].read())
    content[victim.shard_at[2] + victim.shard_at[3] // 2] ^= 0xFF
    client.put_object(Bucket=s3.BUCKET, Key=key, Body=bytes(content))
    found = {one.promise: one.examples for one in folders.check(dataset)}
    assert found[leaks.UNCHANGED] == (f"{victim.split}/{victim.id}",)


def test_a_picture_is_asked_for_once_however_many_epochs_show_it(
    settings: params.Params, server: Server
) -> None:
    pairs_of(settings)
    asked = []
    for epochs in (1, 3):
        own = replace(settings.train, epochs=epochs, seed=epochs)  # so that it begins anew
        own = replace(own, network=replace(own.network, image_px=64))
        server.asked.clear()
        train(NAME, replace(settings, train=own))
        asked.append(sum("/brains/" in path for _, path in server.asked))
    assert asked[0] == asked[1] > 50
