"""Files are there whole or not at all, and nothing waits for a pipe."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from pipeline.runtime import files
from tests.conftest import Refused


def names_in(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "scores.json"
    with files.replacing(target) as place:
        place.write_text("half")
        assert not target.exists()
        place.write_text("whole")
    assert target.read_text() == "whole"
    assert names_in(target.parent) == ["scores.json"]


def write_half(place: Path) -> None:
    place.write_text("half")
    raise OSError("no space left")


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "scores.json"
    target.write_text("old")
    with pytest.raises(OSError, match="no space"), files.replacing(target) as place:
        write_half(place)
    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["scores.json"]


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, order = tmp_path / "scores.json", []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (order.append("sync"), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("name"), replace(a, b)))
    with files.replacing(target) as place:
        place.write_text("whole")
    assert order == ["sync", "name", "sync"]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A folder that was made anew, and the one that it is to replace."""
    made, target = tmp_path / "made", tmp_path / "target"
    for folder, content in ((made, "new"), (target, "old")):
        folder.mkdir()
        (folder / "pair.png").write_text(content)
    return made, target


def test_a_write_that_fails_names_the_file(tmp_path: Path) -> None:
    """A full disk's error, from write(2), has no name."""

    def fill(place: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target = tmp_path / "scores.json"
    with pytest.raises(OSError, match="No space") as caught, files.replacing(target) as place:
        fill(place)
    assert caught.value.filename == str(target)


def test_a_folder_is_on_the_disk_before_it_has_its_name(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, target = folders
    order = []
    exchanged = files._exchanged
    monkeypatch.setattr(files, "sync_disk", lambda folder: order.append(folder))
    monkeypatch.setattr(
        files, "_exchanged", lambda one, other: (order.append(other), exchanged(one, other))[1]
    )
    files.replace_folder(made, target)
    assert order == [made, target]


@pytest.mark.parametrize("system", [sys.platform, "win32"])
def test_a_disk_can_be_flushed_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    monkeypatch.setattr(files.sys, "platform", system)
    files.sync_disk(tmp_path)


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_takes_the_place_of_another(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    made, target = folders
    if not can_exchange:
        monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    files.replace_folder(made, target)
    assert (target / "pair.png").read_text() == "new"
    assert names_in(target.parent) == ["target"]


def test_a_folder_is_replaced_where_there_was_none(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    files.replace_folder(tmp_path / "made", tmp_path / "target")
    assert names_in(tmp_path) == ["target"]


def test_the_old_folder_is_there_at_every_moment(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill before the old folder is removed finds the new one in its place."""

    def killed(folder: Path, ignore_errors: bool = False) -> None:
        if Path(folder).exists():
            raise KeyboardInterrupt

    made, target = folders
    monkeypatch.setattr(files.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        files.replace_folder(made, target)
    assert (target / "pair.png").read_text() == "new"


def test_a_kill_between_two_names_is_undone_by_the_next_run(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, target = folders
    replace = os.replace

    def killed(one: Path, other: Path) -> None:
        if one == made:
            raise KeyboardInterrupt
        replace(one, other)

    monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        files.replace_folder(made, target)
    assert not target.exists()
    files.restore_folder(target)
    assert (target / "pair.png").read_text() == "old"


def test_a_link_to_a_regular_file_is_regular(tmp_path: Path) -> None:
    (tmp_path / "scan").write_text("")
    (tmp_path / "link").symlink_to("scan")
    assert files.is_regular(tmp_path / "link")
    assert files.require_regular(tmp_path / "link") == tmp_path / "link"


@pytest.mark.parametrize(
    ("kind", "name"), [("pipe", "a named pipe"), ("device", "a device"), ("folder", "a folder")]
)
def test_pipes_devices_and_folders_are_refused(
    tmp_path: Path, refused: Refused, kind: str, name: str
) -> None:
    file = tmp_path / "scan.nii"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        file.mkdir()
    assert not files.is_regular(file)
    problem = refused(lambda: files.require_regular(file))
    assert name in problem.what
    assert problem.where == str(file)


def test_a_missing_file_is_left_to_its_reader(tmp_path: Path) -> None:
    assert not files.is_regular(tmp_path / "none")
    assert files.require_regular(tmp_path / "none") == tmp_path / "none"
