"""A raw folder gets all of its new content or none, wherever a run is stopped."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from pipeline.sources import listing, staging

NAMES = ["a", "b", "c"]


def fill(place: Path) -> None:
    for name in NAMES:
        (place / name).mkdir()
        (place / name / "scan").write_text(f"new {name}")


def content(folder: Path) -> dict[str, str]:
    return {file.parent.name: file.read_text() for file in folder.glob("*/scan")}


def test_nothing_shows_until_all_is_there(tmp_path: Path) -> None:
    place = staging.begin(tmp_path / "raw", "download", resume=False)
    fill(place)
    assert not listing.filled(tmp_path / "raw")
    staging.deliver(place)
    assert listing.filled(tmp_path / "raw")
    assert content(tmp_path / "raw") == {name: f"new {name}" for name in NAMES}
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == NAMES


def test_a_link_to_another_disk_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "raw").symlink_to(tmp_path / "disk")
    place = staging.begin(tmp_path / "raw", "download", resume=False)
    fill(place)
    staging.deliver(place)
    assert (tmp_path / "raw").is_symlink()
    assert len(content(tmp_path / "disk")) == len(NAMES)


@pytest.mark.parametrize("resume", [True, False])
def test_what_a_stopped_run_left_is_resumed_or_removed(tmp_path: Path, resume: bool) -> None:
    fill(staging.begin(tmp_path, "one", resume=False))
    (tmp_path / ".hidden").touch()
    place = staging.begin(tmp_path, "one", resume=resume)
    assert len(content(place)) == (len(NAMES) if resume else 0)
    staging.begin(tmp_path, "other", resume=resume)
    assert not place.exists()
    assert (tmp_path / ".hidden").exists()


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("moves", range(2 * len(NAMES) + 1))
def test_a_kill_between_two_names_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int, old: bool
) -> None:
    folder = tmp_path / "raw"
    if old:
        for name in NAMES:
            (folder / name).mkdir(parents=True)
            (folder / name / "scan").write_text("old")
    place = staging.begin(folder, "download", resume=False)
    fill(place)
    replace, left = os.replace, [moves]

    def killed(source: Path, target: Path) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    stopped = moves < 1 + len(NAMES) * (1 + old)
    with pytest.raises(KeyboardInterrupt) if stopped else nullcontext():
        staging.deliver(place)
    monkeypatch.setattr(os, "replace", replace)
    if stopped:
        assert listing.filled(folder) == (old and not moves)
    if moves:
        staging.finish(folder)
    else:
        staging.deliver(place)
    assert listing.filled(folder)
    assert content(folder) == {name: f"new {name}" for name in NAMES}
    assert sorted(path.name for path in folder.iterdir()) == NAMES
