"""Raw data in a bucket: the same bytes as of the same data here, whatever fails on the way.

The bucket is that of a real S3 server (:mod:`tests.support.s3`).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import datasets_spec
from datasets_spec.contract import Case, PatientsTable, Problem
from pipeline import paths
from pipeline.convert import convert
from pipeline.fetch import fetch
from pipeline.pairs import manifest
from pipeline.params import reader as params
from pipeline.runtime import remote, retries
from pipeline.runtime.executor import Cluster
from pipeline.runtime.files import sha256
from pipeline.sources import brought, inventory, listed, listing
from tests.conftest import FIXTURES, PROJECT, Refused
from tests.support import dask, s3
from tests.support.s3 import Fault, Server

pytestmark = pytest.mark.slow

NAMES = datasets_spec.names()
NAME = "msd_hippocampus"
LABEL = "Task04_Hippocampus/labelsTr/hippocampus_017.nii.gz"
LABEL_URL = f"{s3.URL}/{LABEL}"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3.server(tmp_path_factory.mktemp("s3")) as one:
        yield one


@pytest.fixture
def server(
    started: Server, tmp_path: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> Server:
    """With an empty bucket, which everything asks that does not say otherwise."""
    started.reset()
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in started.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(retries, "PAUSES_S", (0.01,) * len(retries.PAUSES_S))
    s3.forget_connections()
    return started


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where scratch folders are."""
    folder = tmp_path_factory.mktemp("tmp")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def in_bucket(server: Server) -> Server:
    """With the fixture of :data:`NAME` in the bucket, listed and verified."""
    server.put(FIXTURES / NAME / "raw")
    fetch(NAME, 1, subset=True, url=s3.URL)
    server.asked.clear()
    return server


def settings() -> params.Params:
    read = params.load("virtual_mni152", PROJECT / paths.PARAMS)
    return replace(read, convert=replace(read.convert, image_px=64))


def everything(folder: Path) -> dict[str, str]:
    """The sha256 of every file below a folder."""
    return {
        file.relative_to(folder).as_posix(): sha256(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.endswith(".lock")
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_dataset_gives_the_listing_and_the_bytes_of_the_same_data_here(
    name: str, server: Server, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEXUNET_ID_SALT", "a salt of enough characters")
    adapter = datasets_spec.load(name)
    shutil.copytree(FIXTURES / name / "raw", paths.raw(name))
    here = listing.listing(adapter)
    files = [listing.files(case) for case in here.cases]
    convert(name, settings(), 1)
    made = everything(paths.DATA / "converted"), everything(paths.DATA / "identities")
    assert len(made[0]) > len(here.cases)
    assert bool(made[1]) != adapter.dataset.anonymous

    server.put(paths.raw(name))
    shutil.rmtree(paths.DATA)
    fetch(name, 1, subset=True, url=s3.URL)
    server.asked.clear()
    there = listing.listing(adapter)
    assert there == here
    assert [listing.files(case) for case in there.cases] == files
    assert server.asked == []
    convert(name, settings(), 1)
    assert (everything(paths.DATA / "converted"), everything(paths.DATA / "identities")) == made
    assert [file.name for file in paths.raw(name).iterdir()] == [inventory.NAME]
    assert list(temporary.iterdir()) == []


def test_processes_bring_their_own_files_and_a_second_run_none(in_bucket: Server) -> None:
    convert(NAME, settings(), 2)
    asked = [path for _, path in in_bucket.asked if "nii.gz" in path]
    assert len(asked) == 6
    in_bucket.asked.clear()
    convert(NAME, settings(), 2)
    assert in_bucket.asked == []


def test_an_inventory_changes_only_with_the_data_and_only_that_is_read_again(
    in_bucket: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    file = paths.raw(NAME) / inventory.NAME
    before = file.read_bytes()
    fetch(NAME, 1, subset=True)  # the address is remembered
    assert file.read_bytes() == before
    assert not [path for _, path in in_bucket.asked if "nii.gz" in path]
    assert "Not read again: 3 cases" in capsys.readouterr().out

    found = inventory.read(paths.raw(NAME))
    assert found is not None
    assert (found.url, found.objects[LABEL].sha256) == (
        s3.URL,
        sha256(FIXTURES / NAME / "raw" / LABEL),
    )
    other = FIXTURES / NAME / "raw" / LABEL.replace("017", "204")
    in_bucket.client().put_object(
        Bucket=s3.BUCKET, Key=f"raw data/{LABEL}", Body=other.read_bytes()
    )
    fetch(NAME, 1, subset=True)
    assert {Path(path).name for _, path in in_bucket.asked if "nii.gz" in path} == {
        "hippocampus_017.nii.gz"
    }
    assert file.read_bytes() != before
    again = inventory.read(paths.raw(NAME))
    assert again is not None
    assert {one for one in found.objects if again.objects[one] != found.objects[one]} == {LABEL}
    assert again.objects[LABEL].sha256 == sha256(other)


FAULTS = [s3.overloaded, s3.unavailable, s3.dropped, s3.cut]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_server_that_fails_for_a_while_costs_nothing(in_bucket: Server, fault: Fault) -> None:
    in_bucket.faults = [fault] * 4
    convert(NAME, settings(), 1)
    assert len({pair.case for pair in manifest.read(paths.converted(NAME))}) == 3
    in_bucket.faults = [fault] * 4
    fetch(NAME, 1, subset=True)
    assert in_bucket.faults == []


@pytest.mark.parametrize("fault", [s3.overloaded, s3.dropped], ids=lambda fault: fault.__name__)
def test_an_object_that_the_server_never_gives_costs_its_case_alone(
    in_bucket: Server, fault: Fault, refused: Refused, capsys: pytest.CaptureFixture[str],
    temporary: Path,
) -> None:  # fmt: skip
    in_bucket.about, in_bucket.always = "labelsTr/hippocampus_017", fault
    begin = time.monotonic()
    problem = refused(lambda: convert(NAME, settings(), 1))
    assert time.monotonic() - begin < 20
    assert "1 of 3" in problem.what
    [line] = [line for line in capsys.readouterr().err.splitlines() if "hippocampus_017:" in line]
    assert LABEL_URL in line
    assert f"in {len(retries.PAUSES_S) + 1} attempts" in line
    assert str(temporary) not in line
    assert len({pair.case for pair in manifest.read(paths.converted(NAME))}) == 2
    in_bucket.always = None
    convert(NAME, settings(), 1)
    assert len({pair.case for pair in manifest.read(paths.converted(NAME))}) == 3


def test_a_failing_object_costs_fetch_its_case_alone(
    server: Server, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    server.put(FIXTURES / NAME / "raw")
    server.about, server.always = "labelsTr/hippocampus_017", s3.dropped
    problem = refused(lambda: fetch(NAME, 1, subset=True, url=s3.URL))
    assert problem.where == s3.URL
    assert LABEL_URL in capsys.readouterr().err
    server.always = None
    server.asked.clear()
    fetch(NAME, 1, subset=True)
    assert {Path(path).name for _, path in server.asked if "nii.gz" in path} == {
        "hippocampus_017.nii.gz"
    }


def test_a_server_that_is_not_there_is_a_problem_soon(
    server: Server, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    s3.forget_connections()
    begin = time.monotonic()
    problem = refused(lambda: fetch(NAME, 1, subset=True, url=s3.URL))
    assert time.monotonic() - begin < 30
    assert problem.where == s3.URL
    assert "AWS_ENDPOINT_URL" in problem.remedy
    assert not (paths.raw(NAME) / inventory.NAME).exists()


def changed(server: Server, content: bytes) -> None:
    server.client().put_object(Bucket=s3.BUCKET, Key=f"raw data/{LABEL}", Body=content)


def vanished(server: Server, _: bytes) -> None:
    server.client().delete_object(Bucket=s3.BUCKET, Key=f"raw data/{LABEL}")


@pytest.mark.parametrize(
    ("change", "of", "says"),
    [
        (changed, lambda old: bytes([*old[:-1], old[-1] ^ 1]), "sha256"),
        (changed, lambda old: old + b"more", "bytes"),
        (changed, lambda old: old[:-3], "bytes"),
        (changed, lambda _: b"", "bytes"),
        (vanished, bytes, "found none"),
    ],
    ids=["same size", "longer", "shorter", "empty", "gone"],
)
def test_an_object_that_is_not_the_one_that_fetch_listed_is_named(
    in_bucket: Server,
    change: Callable[[Server, bytes], None],
    of: Callable[[bytes], bytes],
    says: str,
    refused: Refused,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(in_bucket, of((FIXTURES / NAME / "raw" / LABEL).read_bytes()))
    refused(lambda: convert(NAME, settings(), 1))
    [line] = [line for line in capsys.readouterr().err.splitlines() if "hippocampus_017:" in line]
    assert f"{LABEL_URL}: expected the object that fetch listed" in line
    assert says in line
    assert "fetch again" in line
    assert len({pair.case for pair in manifest.read(paths.converted(NAME))}) == 2


def test_a_file_that_no_scan_is_read_from_is_named_by_its_url(
    server: Server, refused: Refused, capsys: pytest.CaptureFixture[str], temporary: Path
) -> None:
    server.put(FIXTURES / NAME / "raw")
    changed(server, b"no NIfTI at all")
    refused(lambda: fetch(NAME, 1, subset=True, url=s3.URL))
    printed = capsys.readouterr()
    assert LABEL_URL in printed.err
    assert str(temporary) not in printed.err + printed.out


def test_a_missing_partner_is_named_by_its_url(
    in_bucket: Server, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    vanished(in_bucket, b"")
    refused(lambda: fetch(NAME, 1, subset=True))
    refused(lambda: convert(NAME, settings(), 1))
    fetched, converted = [
        line for line in capsys.readouterr().err.splitlines() if "hippocampus_017:" in line
    ]
    for line in (fetched, converted):
        assert f"{LABEL_URL}: expected the label of {s3.URL}/" in line


@pytest.mark.parametrize("who", ["wrong", "nobody"])
def test_wrong_credentials_are_a_problem_that_shows_none(
    server: Server, refused: Refused, monkeypatch: pytest.MonkeyPatch, who: str, tmp_path: Path
) -> None:
    server.put(FIXTURES / NAME / "raw")
    server.require_known_keys()
    if who == "nobody":
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("HOME", str(tmp_path))
    s3.forget_connections()
    problem = refused(lambda: fetch(NAME, 1, subset=True, url=s3.URL))
    assert "expected credentials" in problem.what
    assert problem.where == s3.URL
    assert s3.SECRET not in str(problem)


def test_credentials_stand_in_no_file(in_bucket: Server) -> None:
    convert(NAME, settings(), 1)
    files = [file for file in Path().rglob("*") if file.is_file()]
    assert len(files) > 5
    for file in files:
        content = file.read_bytes()
        assert s3.SECRET.encode() not in content
        assert in_bucket.address.encode() not in content


@pytest.mark.parametrize("url", [f"s3://{s3.BUCKET}/nothing", "s3://another-bucket/raw"])
def test_where_nothing_lies_is_named(server: Server, refused: Refused, url: str) -> None:
    problem = refused(lambda: fetch(NAME, 1, subset=True, url=url))
    assert (problem.what, problem.where) == ("expected a folder with files, found none", url)


def test_objects_whose_names_are_no_files_are_left_out_by_name(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.put(FIXTURES / NAME / "raw")
    for key in ("a//b", "Task04_Hippocampus", "Task04_Hippocampus/imagesTr/", "../c"):
        server.client().put_object(Bucket=s3.BUCKET, Key=f"raw data/{key}", Body=b"")
    fetch(NAME, 1, subset=True, url=s3.URL)
    printed = capsys.readouterr()
    assert "left out" in printed.err
    assert "Readable: 3 of" in printed.out


def test_names_with_spaces_and_umlauts_keep_their_spelling(server: Server, tmp_path: Path) -> None:
    raw = FIXTURES / "mbh_seg25" / "raw" / "MBH_Train_2025_voxel-label"
    first = sorted(one for one in raw.iterdir() if one.is_dir())[0]
    names = [unicodedata.normalize(form, "Müller ß+%20 #1_a_b") for form in ("NFC", "NFD")]
    for name in [names[0], names[1].replace("1", "2"), "plain_a_b"]:
        shutil.copytree(first, tmp_path / "named" / raw.name / name)
    server.put(tmp_path / "named")
    fetch("mbh_seg25", 1, subset=True, url=s3.URL)
    convert("mbh_seg25", settings(), 1)
    sources = {pair.source.split("/")[1] for pair in manifest.read(paths.converted("mbh_seg25"))}
    assert sources == {names[0], names[1].replace("1", "2"), "plain_a_b"}


def test_a_table_that_listing_reads_is_kept_in_the_inventory(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = PatientsTable("participants.csv", patient="person")
    adapter = datasets_spec.load(NAME)
    stated = replace(adapter, dataset=replace(adapter.dataset, patients=table))
    monkeypatch.setattr(datasets_spec, "load", lambda _: stated)
    server.put(FIXTURES / NAME / "raw")
    rows = "".join(f"hippocampus_{one},p{one}\n" for one in ("001", "017", "204"))
    text = f"participant_id,person\n{rows}".encode()
    server.client().put_object(Bucket=s3.BUCKET, Key=f"raw data/{table.file}", Body=text)
    fetch(NAME, 1, subset=True, url=s3.URL)
    server.asked.clear()
    assert [case.patient for case in listing.cases(stated)] == ["p001", "p017", "p204"]
    assert server.asked == []


_CONVERT = """
import sys
from pipeline.convert import convert
from tests.pipeline.sources.test_remote_raw import NAME, settings
if __name__ == "__main__":
    convert(NAME, settings(), 2)
"""


def test_what_a_killed_run_leaves_the_next_one_removes(
    in_bucket: Server, temporary: Path, tmp_path: Path
) -> None:
    def slow(request: s3.Relayed) -> None:
        time.sleep(60)

    in_bucket.about, in_bucket.always = "labelsTr", slow
    script = tmp_path / "run.py"
    script.write_text(_CONVERT, "utf-8")
    run = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": f"{PROJECT}:{os.environ.get('PYTHONPATH', '')}"},
        start_new_session=True,
    )
    soon = time.monotonic() + 60
    while not list(temporary.glob("*/content/**/*.nii.gz")):
        assert time.monotonic() < soon
        assert run.poll() is None
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait(30)
    assert list(temporary.iterdir())
    in_bucket.always = None
    convert(NAME, settings(), 1)
    assert list(temporary.iterdir()) == []


def test_a_folder_with_data_of_its_own_is_refused(server: Server, refused: Refused) -> None:
    shutil.copytree(FIXTURES / NAME / "raw", paths.raw(NAME))
    server.put(FIXTURES / NAME / "raw")
    problem = refused(lambda: fetch(NAME, 1, subset=True, url=s3.URL))
    assert problem.where == str(paths.raw(NAME))


def test_another_address_is_read_anew(in_bucket: Server) -> None:
    in_bucket.put(FIXTURES / NAME / "raw", "other")
    fetch(NAME, 1, subset=True, url=f"s3://{s3.BUCKET}/other/")
    found = inventory.read(paths.raw(NAME))
    assert found is not None
    assert found.url == f"s3://{s3.BUCKET}/other"
    assert len([path for _, path in in_bucket.asked if "nii.gz" in path]) == 6


def test_blocks_of_a_large_object_are_asked_for_one_by_one(
    in_bucket: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "BLOCK", 100)
    in_bucket.faults = [s3.cut, s3.dropped] * 2
    case = listing.cases(datasets_spec.load(NAME))[0]
    with brought.brought(case) as here:
        for own, brought_file in zip(listing.files(case), listing.files(here.case), strict=True):
            assert sha256(brought_file) == listed.sha256(own)  # type: ignore[arg-type]
    size = sum(file.stat().st_size for file in listing.files(case))
    assert size / 100 < len(in_bucket.asked) < size / 100 + 8


def test_a_full_disk_names_the_temporary_folder(
    in_bucket: Server, refused: Refused, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    def full(*_: object) -> Iterator[bytes]:
        raise OSError(28, "No space left on device")
        yield b""

    case: Case = listing.cases(datasets_spec.load(NAME))[0]
    monkeypatch.setattr(remote.Remote, "blocks", full)

    def bring() -> None:
        with brought.brought(case):
            raise AssertionError

    problem = refused(bring)
    assert "TMPDIR" in problem.remedy
    assert f"in the temporary folder {temporary.resolve()}, got" in problem.what
    assert problem.where.startswith(s3.URL)


def test_a_folder_by_its_url_gives_the_same(workplace: Path, tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / NAME / "raw", tmp_path / "elsewhere")
    fetch(NAME, 1, subset=True, url=(tmp_path / "elsewhere").as_uri())
    convert(NAME, settings(), 1)
    by_url = everything(paths.converted(NAME))
    shutil.rmtree(paths.DATA)
    shutil.copytree(FIXTURES / NAME / "raw", paths.raw(NAME))
    convert(NAME, settings(), 1)
    assert everything(paths.converted(NAME)) == by_url


def test_workers_of_a_cluster_verify_and_bring_what_lies_in_a_bucket(
    server: Server, tmp_path: Path
) -> None:
    server.put(FIXTURES / NAME / "raw")
    with dask.cluster(tmp_path / "dask", 2) as started:
        at = Cluster(started.address)
        fetch(NAME, at, subset=True, url=s3.URL)
        found = inventory.read(paths.raw(NAME))
        convert(NAME, settings(), at)
        on_cluster = everything(paths.converted(NAME))
    assert found is not None
    assert found.objects[LABEL].sha256 == sha256(FIXTURES / NAME / "raw" / LABEL)
    shutil.rmtree(paths.DATA)
    fetch(NAME, 1, subset=True, url=s3.URL)
    assert inventory.read(paths.raw(NAME)) == found
    convert(NAME, settings(), 1)
    assert everything(paths.converted(NAME)) == on_cluster


def test_problems_of_urls_are_stated_before_anything_is_asked(refused: Refused) -> None:
    for url, says in (
        ("data/raw", "expected a URL"),
        ("simplecache::s3://bucket/x", "expected a URL"),
        ("sftp://me:hunter2@host/x", "without a password"),
        ("abfs://box/x?sig=hunter2", "without a password"),
        ("nowhere://x/y", "expected a service"),
        ("gs://bucket/x", "which is not installed"),
    ):
        problem: Problem = refused(lambda url=url: remote.opened(url))  # type: ignore[misc]
        assert says in problem.what
        assert "hunter2" not in str(problem)
    assert "[gcs]" in problem.remedy
