"""fetch brings the raw data or says where to get it, and reads every file once."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import datasets_spec
from datasets_spec.contract import RemoteFile, Source
from pipeline import fetch, paths
from pipeline.params.limits import Limits
from tests.conftest import FIXTURES, PROJECT, Refused

NAME = "msd_hippocampus"
LABEL = "Task04_Hippocampus/labelsTr/hippocampus_001.nii.gz"
CASES = 3  # of the fixture


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


@pytest.fixture
def archive(workplace: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fixture's patients as a published archive, which is served, and stated by the adapter."""
    folder, address = server
    file = folder / "hippocampus.tar"
    with tarfile.open(file, "w") as packed:
        packed.add(FIXTURES / NAME / "raw" / "Task04_Hippocampus", "Task04_Hippocampus")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    remote = RemoteFile(f"{address}/hippocampus.tar", f"sha256:{digest}", unpack=True)
    source = datasets_spec.load(NAME).dataset.source
    with_source(monkeypatch, replace(source, files=(remote,), cases=CASES))
    return file


@pytest.fixture
def impatient() -> Iterator[None]:
    """Ends a test that waits, as for a pipe that nobody writes to."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def listed(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.nii.gz"))


def test_states_the_terms_and_counts_who_shows_what(
    fixture_raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch.fetch(NAME, workers=1, subset=True)
    out = capsys.readouterr().out
    assert "CC BY-SA 4.0" in out
    assert "Readable: 3 of 260 published cases, 3 patients" in out
    assert "2 files that belong to no case: 1 in Task04_Hippocampus, 1 in" in out
    rows = [line.split() for line in out.splitlines() if line.startswith("    ")]
    assert rows[:3] == [
        ["class", "cases", "patients"],
        ["anterior", "3", "3"],
        ["posterior", "3", "3"],
    ]


# --- is everything here? ---------------------------------------------------------------------


def test_a_part_of_what_is_published_is_an_error_until_it_is_stated(
    fixture_raw: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = str(refused(lambda: fetch.fetch(NAME, workers=1)))
    assert "expected 260 published cases, got 3" in problem
    assert f"python -m pipeline fetch {NAME} --subset" in problem
    fetch.fetch(NAME, workers=1, subset=True)
    fetch.fetch(NAME, workers=1)  # remembered
    assert "Verified" not in capsys.readouterr().out
    (fixture_raw / LABEL).unlink()
    (fixture_raw / LABEL.replace("labelsTr", "imagesTr")).unlink()
    problem = str(refused(lambda: fetch.fetch(NAME, workers=1)))
    assert "expected the 3 cases of the stated subset, got 2" in problem


def test_all_that_is_published_is_verified(
    fixture_raw: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch.fetch(NAME, workers=1, subset=True)
    source = datasets_spec.load(NAME).dataset.source
    with_source(monkeypatch, replace(source, cases=CASES))
    fetch.fetch(NAME, workers=1)
    assert "Verified: 3 of 3 published cases, 3 patients" in capsys.readouterr().out
    with_source(monkeypatch, source)
    with pytest.raises(fetch.Problem):  # what was stated of a part is over with the whole
        fetch.fetch(NAME, workers=1)


def test_where_no_count_is_published_nothing_is_called_verified(
    fixture_raw: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = datasets_spec.load(NAME).dataset.source
    with_source(monkeypatch, replace(source, cases=0))
    fetch.fetch(NAME, workers=1)
    assert "Readable: 3 cases, 3 patients" in capsys.readouterr().out


def test_more_than_is_published_is_a_warning(
    fixture_raw: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = datasets_spec.load(NAME).dataset.source
    with_source(monkeypatch, replace(source, cases=2))
    fetch.fetch(NAME, workers=1)
    assert "warning: 2 cases are published" in capsys.readouterr().err


# --- can it be read, and learnt from? --------------------------------------------------------


def test_a_pipe_among_the_files_is_refused_and_not_waited_for(
    fixture_raw: Path, impatient: None, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    (fixture_raw / LABEL).unlink()
    os.mkfifo(fixture_raw / LABEL)
    refused(lambda: fetch.fetch(NAME, workers=1, subset=True))
    assert "expected a regular file, got a named pipe" in capsys.readouterr().err


def redraw(file: Path, value: int) -> None:
    """Let a label hold ``value`` where it held 2."""
    label = nib.load(file)
    values = np.asarray(label.dataobj).copy()
    values[values == 2] = value
    nib.save(nib.Nifti1Image(values, label.affine), file)


def test_a_class_that_too_few_show_is_a_warning(
    fixture_raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((fixture_raw / LABEL).parent.glob("hippo*"))
    redraw(files[0], 0)
    fetch.fetch(NAME, workers=1, subset=True)
    assert "warning: too few patients show posterior" in capsys.readouterr().err
    for file in files:
        redraw(file, 0)
    fetch.fetch(NAME, workers=1, subset=True)
    assert "warning: nobody shows posterior" in capsys.readouterr().err


def test_a_label_that_convert_will_refuse_is_a_warning(
    fixture_raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    redraw(fixture_raw / LABEL, 7)
    fetch.fetch(NAME, workers=1, subset=True)
    line = capsys.readouterr().err
    assert "convert will refuse 1 labels, such as hippocampus_001" in line
    assert "does not declare: 7" in line


def test_doubts_are_listed_apart_from_what_was_handled(
    fixture_raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label = nib.load(fixture_raw / LABEL)
    label.header.set_xyzt_units("meter")
    nib.save(label, fixture_raw / LABEL)
    fetch.fetch(NAME, workers=1, subset=True)
    lines = capsys.readouterr().out
    assert "In doubt: not millimetres in 1 volumes, such as hippocampus_001: label: the" in lines
    assert "Handled" not in lines


def test_fewer_patients_than_splits_are_an_error(fixture_raw: Path, refused: Refused) -> None:
    for part in ("imagesTr", "labelsTr"):
        (fixture_raw / "Task04_Hippocampus" / part / "hippocampus_001.nii.gz").unlink()
    problem = str(refused(lambda: fetch.fetch(NAME, workers=1, subset=True)))
    assert "expected at least 3 patients" in problem


def test_a_missing_file_is_distinguished_from_a_damaged_one(
    fixture_raw: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fixture_raw / "Task04_Hippocampus"
    lost, cut = root / "labelsTr/hippocampus_001.nii.gz", root / "imagesTr/hippocampus_017.nii.gz"
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:1000])
    problem = refused(lambda: fetch.fetch(NAME, workers=1, subset=True))
    assert "2 that cannot be used" in str(problem)
    words = capsys.readouterr().err.splitlines()
    assert any(lost.name in line and "found none" in line for line in words)
    assert any(cut.name in line and "cannot be read" in line for line in words)


# --- downloads -------------------------------------------------------------------------------


def test_downloads_checks_and_unpacks(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch.fetch(NAME, workers=1)
    assert (paths.raw(NAME) / "Task04_Hippocampus" / "imagesTr").is_dir()
    out = capsys.readouterr().out
    assert f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}" in out
    assert "Verified: 3 of 3" in out


def test_a_file_that_is_no_archive_comes_as_it_is(
    archive: Path, monkeypatch: pytest.MonkeyPatch, workplace: Path
) -> None:
    source = datasets_spec.load(NAME).dataset.source
    content = b"a table that comes with the scans"
    (archive.parent / "patients.csv").write_bytes(content)
    table = RemoteFile(
        source.files[0].url.replace("hippocampus.tar", "patients.csv"),
        f"sha256:{hashlib.sha256(content).hexdigest()}",
    )
    with_source(monkeypatch, replace(source, files=(*source.files, table)))
    fetch.fetch(NAME, workers=1)
    assert (paths.raw(NAME) / "patients.csv").read_bytes() == content
    assert listed(paths.raw(NAME)) == listed(FIXTURES / NAME / "raw")


STOPPED = """
import os, sys, time
from pipeline.sources import unpack
write, left = unpack._write, [int(sys.argv[1])]
def slow(*arguments):
    if not left[0]:
        print("stopped", flush=True)
        time.sleep(60)
    left[0] -= 1
    write(*arguments)
unpack._write = slow
from tests.pipeline.test_fetch import remote
from pipeline import fetch
from pipeline.__main__ import guarded
fetch.datasets_spec.load = remote(sys.argv[2], sys.argv[3])
sys.exit(guarded(lambda: fetch.fetch("msd_hippocampus", 1), False))
"""


def remote(url: str, digest: str):  # type: ignore[no-untyped-def]
    """The adapter with another source, for a process of its own."""
    adapter = datasets_spec.load(NAME)
    files = (RemoteFile(url, digest, unpack=True),)
    source = replace(adapter.dataset.source, files=files, cases=CASES)
    changed = replace(adapter, dataset=replace(adapter.dataset, source=source))
    return lambda _: changed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("after", "ended"),
    [(0, signal.SIGKILL), (4, signal.SIGKILL), (1, signal.SIGTERM), (1, signal.SIGINT)],
)
def test_a_fetch_that_was_stopped_while_unpacking_does_not_stay_short(
    archive: Path,
    workplace: Path,
    refused: Refused,
    capsys: pytest.CaptureFixture[str],
    after: int,
    ended: signal.Signals,
) -> None:
    file = datasets_spec.load(NAME).dataset.source.files[0]
    running = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(after), file.url, file.digest],
        cwd=workplace,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.DEVNULL,
    )
    assert running.stdout is not None
    assert any(line == "stopped\n" for line in running.stdout)
    problem = str(refused(lambda: fetch.fetch(NAME, workers=1)))
    assert "expected no other run that fills this folder" in problem
    running.send_signal(ended)
    assert running.wait() == (-ended if ended == signal.SIGKILL else 130)
    running.stdout.close()
    assert not fetch.raw.filled(paths.raw(NAME))
    archive.unlink()  # what was downloaded is enough
    fetch.fetch(NAME, workers=1)
    assert "Verified: 3 of 3" in capsys.readouterr().out
    assert listed(paths.raw(NAME)) == listed(FIXTURES / NAME / "raw")


def test_what_an_earlier_version_left_short_is_named(
    archive: Path, workplace: Path, refused: Refused
) -> None:
    for part in ("imagesTr", "labelsTr"):
        file = FIXTURES / NAME / "raw" / LABEL.replace("labelsTr", part)
        target = paths.raw(NAME) / LABEL.replace("labelsTr", part)
        target.parent.mkdir(parents=True)
        shutil.copy(file, target)
    problem = str(refused(lambda: fetch.fetch(NAME, workers=1)))
    assert "expected 3 published cases, got 1" in problem
    assert "move it away and fetch again" in problem


def test_a_hostile_archive_leaves_nothing(
    archive: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    with tarfile.open(archive, "a") as packed:
        packed.addfile(tarfile.TarInfo("../../evil"))
    source = datasets_spec.load(NAME).dataset.source
    digest = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    with_source(monkeypatch, replace(source, files=(replace(source.files[0], digest=digest),)))
    problem = str(refused(lambda: fetch.fetch(NAME, workers=1)))
    assert "'../../evil'" in problem
    assert not list(paths.DATA.rglob("*evil*"))
    assert list(paths.raw(NAME).iterdir()) == []


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
    words = capsys.readouterr().out
    assert "Ask at the homepage" in words
    assert str(paths.raw(NAME)) in words
    assert "imagesTr/hippocampus_NNN.nii.gz" in words


def test_a_scan_beyond_the_limits_is_named(
    fixture_raw: Path, capsys: pytest.CaptureFixture[str], refused: Refused
) -> None:
    refused(lambda: fetch.fetch(NAME, 1, Limits(voxels=10), subset=True))
    assert "raise limits.voxels" in capsys.readouterr().err


def test_a_scan_with_a_wrong_checksum_is_named(
    fixture_raw: Path, capsys: pytest.CaptureFixture[str], refused: Refused
) -> None:
    file = next(iter(sorted(fixture_raw.rglob("imagesTr/hippo*.nii.gz"))))
    content = bytearray(file.read_bytes())
    content[-6] ^= 1
    file.write_bytes(content)
    refused(lambda: fetch.fetch(NAME, workers=1, subset=True))
    words = capsys.readouterr().err
    assert file.name in words
    assert "CRC check failed" in words


@pytest.mark.parametrize("part", ["imagesTr", "labelsTr"])
def test_a_pipe_for_a_scan_is_named_and_not_waited_for(
    fixture_raw: Path, capsys: pytest.CaptureFixture[str], refused: Refused, part: str
) -> None:
    file = next(iter(sorted(fixture_raw.rglob(f"{part}/hippo*.nii.gz"))))
    file.unlink()
    os.mkfifo(file)
    refused(lambda: fetch.fetch(NAME, workers=1, subset=True))
    assert "got a named pipe" in capsys.readouterr().err
