"""Raw data behind SSH: the same bytes, over connections that break; unknown hosts are refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import datasets_spec
from pipeline import paths
from pipeline.fetch import fetch
from pipeline.runtime import remote, retries
from pipeline.runtime.files import sha256
from pipeline.sources import listing
from pipeline.sources.brought import brought
from tests.conftest import FIXTURES, Refused
from tests.support import ssh
from tests.support.ssh import Server

pytestmark = pytest.mark.slow

NAME = "msd_hippocampus"


@pytest.fixture(scope="module")
def started() -> Iterator[Server]:
    with ssh.server() as one:
        yield one


@pytest.fixture
def server(
    started: Server, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Server, str]]:
    """The server, which this user knows, and the URL of a dataset there."""
    from sshfs import SSHFileSystem

    (workplace / "home/.ssh").mkdir(parents=True)
    (workplace / "home/.ssh/known_hosts").write_text(started.known_host, "utf-8")
    monkeypatch.setenv("HOME", str(workplace / "home"))
    monkeypatch.setattr(retries, "PAUSES_S", (0.01,) * len(retries.PAUSES_S))
    shutil.copytree(FIXTURES / NAME / "raw", workplace / "shared folder")
    yield started, started.url(workplace / "shared folder")
    SSHFileSystem.clear_instance_cache()


def test_cases_are_brought_whole_and_a_lost_connection_costs_nothing(
    server: tuple[Server, str],
) -> None:
    its, url = server
    fetch(NAME, 1, subset=True, url=url)
    for case in listing.cases(datasets_spec.load(NAME)):
        its.drop()
        with brought(case) as here:
            for own, file in zip(listing.files(case), listing.files(here.case), strict=True):
                source = FIXTURES / NAME / "raw" / own.relative_to(paths.raw(NAME))
                assert sha256(file) == sha256(source)


def test_a_file_that_has_changed_is_named(
    server: tuple[Server, str], workplace: Path, refused: Refused
) -> None:
    _, url = server
    fetch(NAME, 1, subset=True, url=url)
    case = listing.cases(datasets_spec.load(NAME))[0]
    changed = listing.files(case)[1].relative_to(paths.raw(NAME))
    with (workplace / "shared folder" / changed).open("ab") as file:
        file.write(b"more")

    def bring() -> None:
        with brought(case):
            raise AssertionError

    problem = refused(bring)
    assert problem.where == f"{url}/{changed.as_posix()}"
    assert "fetch again" in problem.remedy


def test_a_host_that_ssh_does_not_know_is_refused(
    server: tuple[Server, str], workplace: Path, refused: Refused
) -> None:
    (workplace / "home/.ssh/known_hosts").write_text("", "utf-8")
    problem = refused(lambda: remote.opened(server[1]))
    assert "Host key" in problem.what
    assert os.environ["HOME"] not in problem.where.removeprefix(server[1])
