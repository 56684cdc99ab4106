"""fetch brings the raw data or says where to get it, and reads every file once."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import datasets_spec
from datasets_spec.contract import RemoteFile, Source
from pipeline import fetch, paths
from pipeline.params import Limits
from tests.conftest import FIXTURES, Refused

NAME = "msd_hippocampus"


@pytest.fixture
def fixture_raw(workplace: Path) -> Path:
    target = workplace / paths.raw(NAME)
    shutil.copytree(FIXTURES / NAME / "raw", target)
    return target


def with_source(monkeypatch: pytest.MonkeyPatch, source: Source) -> None:
    """Let the adapter have another source than its own."""
    adapter = datasets_spec.load(NAME)
    changed = replace(adapter, dataset=replace(adapter.dataset, source=source))
    monkeypatch.setattr(datasets_spec, "load", lambda _: changed)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder that is served on the loopback, and its address."""
    folder = tmp_path_factory.mktemp("served")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_states_the_terms_and_verifies(
    fixture_raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch.fetch(NAME, workers=1)
    told = capsys.readouterr().out
    assert "CC BY-SA 4.0" in told
    assert "3 of 260 published cases, 3 patients" in told
    assert "Warning: the rest is not here" in told
    assert "2 files that belong to no case: 1 in Task04_Hippocampus, 1 in" in told


def test_a_missing_file_is_told_from_a_damaged_one(
    fixture_raw: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fixture_raw / "Task04_Hippocampus"
    lost, cut = root / "labelsTr/hippocampus_001.nii.gz", root / "imagesTr/hippocampus_017.nii.gz"
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:1000])
    problem = refused(lambda: fetch.fetch(NAME, workers=1))
    assert "2 with missing or damaged" in str(problem)
    told = capsys.readouterr().err.splitlines()
    assert any(lost.name in line and "found none" in line for line in told)
    assert any(cut.name in line and "cannot be read" in line for line in told)


def test_downloads_checks_and_unpacks(
    workplace: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = server
    with tarfile.open(folder / "hippocampus.tar", "w") as archive:
        archive.add(FIXTURES / NAME / "raw" / "Task04_Hippocampus", "Task04_Hippocampus")
    digest = hashlib.sha256((folder / "hippocampus.tar").read_bytes()).hexdigest()
    file = RemoteFile(f"{address}/hippocampus.tar", f"sha256:{digest}", unpack=True)
    source = datasets_spec.load(NAME).dataset.source
    with_source(monkeypatch, replace(source, files=(file,)))
    fetch.fetch(NAME, workers=1)
    assert (paths.raw(NAME) / "Task04_Hippocampus" / "imagesTr").is_dir()


def test_a_download_with_another_digest_is_refused(
    workplace: Path,
    server: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    refused: Refused,
) -> None:
    folder, address = server
    (folder / "hippocampus.tar").write_bytes(gzip.compress(b"not what was published"))
    file = RemoteFile(f"{address}/hippocampus.tar", "md5:" + "0" * 32, unpack=True)
    source = datasets_spec.load(NAME).dataset.source
    with_source(monkeypatch, replace(source, files=(file,)))
    problem = refused(lambda: fetch.fetch(NAME, workers=1))
    assert file.url in str(problem)
    assert not paths.raw(NAME).exists()


def test_a_gated_download_is_explained(
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Refused,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = replace(
        datasets_spec.load(NAME).dataset.source,
        files=(),
        instructions="Ask at the homepage for the archive.",
    )
    with_source(monkeypatch, source)
    refused(lambda: fetch.fetch(NAME, workers=1))
    told = capsys.readouterr().out
    assert "Ask at the homepage" in told
    assert str(paths.raw(NAME)) in told
    assert "imagesTr/hippocampus_NNN.nii.gz" in told


def test_a_scan_beyond_the_limits_is_named(
    fixture_raw: Path, capsys: pytest.CaptureFixture[str], refused: Refused
) -> None:
    refused(lambda: fetch.fetch(NAME, 1, Limits(voxels=10)))
    assert "raise limits.voxels" in capsys.readouterr().err


def test_a_scan_with_a_wrong_checksum_is_named(
    fixture_raw: Path, capsys: pytest.CaptureFixture[str], refused: Refused
) -> None:
    file = next(iter(sorted(fixture_raw.rglob("imagesTr/hippo*.nii.gz"))))
    content = bytearray(file.read_bytes())
    content[-6] ^= 1
    file.write_bytes(content)
    refused(lambda: fetch.fetch(NAME, workers=1))
    told = capsys.readouterr().err
    assert file.name in told
    assert "CRC check failed" in told


@pytest.mark.parametrize("part", ["imagesTr", "labelsTr"])
def test_a_pipe_for_a_scan_is_named_and_not_waited_for(
    fixture_raw: Path, capsys: pytest.CaptureFixture[str], refused: Refused, part: str
) -> None:
    file = next(iter(sorted(fixture_raw.rglob(f"{part}/hippo*.nii.gz"))))
    file.unlink()
    os.mkfifo(file)
    refused(lambda: fetch.fetch(NAME, workers=1))
    assert "got a named pipe" in capsys.readouterr().err
