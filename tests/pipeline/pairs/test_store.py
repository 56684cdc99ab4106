"""A folder of pairs is filled with what is missing, keeps what holds and loses what nobody owns."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from datasets_spec.contract import Label, LabelMap, Problem
from pipeline import paths
from pipeline.pairs import manifest, png, put, store
from pipeline.pairs.manifest import Pair
from pipeline.pairs.store import Job
from pipeline.runtime import executor, fingerprints
from pipeline.runtime.files import sha256

LABELS = LabelMap(
    (Label(0, "background", (0, 0, 0), "all else"), Label(1, "core", (255, 0, 0), "the inner part"))
)


def blank(pair_id, fingerprint, case=""):
    """A pair of which only the names matter."""
    text = ("dataset", "patient", "rater", "image", "mask", "source")
    more = ("source_digest", "plane", "image_digest", "mask_digest", "licence")
    numbers = {"source_shape": (2, 2, 2), "affine": (), "canvas": (), "class_pixels": ()}
    facts = {**dict.fromkeys((*text, *more), ""), **numbers, "window": (0.0, 1.0)}
    return Pair(id=pair_id, case=case, slice_index=0, fingerprint=fingerprint, **facts)


def pictures(job, index):
    """The image and mask of one pair of a job, from its name and content alone."""
    rng = np.random.default_rng([*job.name.encode(), index, job.content])
    image = rng.integers(0, 256, (16, 16)).astype(np.uint8)
    return image, (image > 128).astype(np.uint8)


def make(folder, job):
    """Two pairs of a job; a negative content is a bad case."""
    if job.content < 0:
        raise Problem("expected a scan, found none", where=f"raw/{job.name}.nii")
    return [
        put.put(
            folder,
            blank(f"{job.name}_{n}", job.fingerprint, job.name),
            *pictures(job, n),
            LABELS,
        )
        for n in range(2)
    ]


def jobs_of(**contents):
    return [
        Job(name, fingerprints.fingerprint(name, content), content)
        for name, content in contents.items()
    ]


def fill(folder, jobs, workers=1, failed=None):
    """Fill ``folder``; returns the names of the jobs that the task was called for."""
    called = []

    def task(job):
        called.append(job.name)
        return make(folder, job)

    failed = {} if failed is None else failed
    store.fill(
        folder, jobs, task if workers == 1 else partial(make, folder), workers, "fill", failed
    )
    return called


def files(folder):
    """Name -> bytes of everything below ``folder``."""
    found = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


def pairs_of(*names):
    return {
        f"{part}/{name}_{n}.png" for part in ("images", "masks") for name in names for n in (0, 1)
    }


# --- fingerprints ----------------------------------------------------------------------------


# --- put -------------------------------------------------------------------------------------


def test_put_writes_both_pictures_and_says_what_is_in_them(tmp_path):
    image, mask = pictures(Job("a", "f", 1), 0)
    pair = put.put(tmp_path, blank("a_0", "f"), image, mask, LABELS)
    assert (pair.image, pair.mask) == ("images/a_0.png", "masks/a_0.png")
    assert pair.class_pixels == (int((mask == 0).sum()), int((mask == 1).sum()))
    assert pair.image_digest == sha256(tmp_path / pair.image)
    assert pair.mask_digest == sha256(tmp_path / pair.mask)
    np.testing.assert_array_equal(png.read_image(tmp_path / pair.image), image)
    np.testing.assert_array_equal(png.read_mask(tmp_path / pair.mask, LABELS), mask)


def test_put_counts_classes_that_are_absent(tmp_path):
    empty = np.zeros((16, 16), np.uint8)
    assert put.put(tmp_path, blank("a", "f"), empty, empty, LABELS).class_pixels == (256, 0)


# --- fill ------------------------------------------------------------------------------------


def test_fill_makes_all_pairs_and_their_manifest(tmp_path, capsys):
    folder = tmp_path / "new"
    assert fill(folder, jobs_of(b=1, a=2)) == ["b", "a"]
    assert files(folder).keys() == {paths.MANIFEST, *pairs_of("a", "b")}
    assert [pair.id for pair in manifest.read(folder)] == ["a_0", "a_1", "b_0", "b_1"]
    assert "0 kept, 2 to make, 4 pairs" in capsys.readouterr().out


def test_fill_keeps_what_is_up_to_date(tmp_path, capsys):
    fill(tmp_path, jobs_of(a=1, b=2))
    before = files(tmp_path)
    assert fill(tmp_path, jobs_of(a=1, b=2)) == []
    assert files(tmp_path) == before
    assert "2 kept, 0 to make" in capsys.readouterr().out


def test_fill_makes_only_what_changed_and_what_is_new(tmp_path):
    grown, fresh = tmp_path / "grown", tmp_path / "fresh"
    fill(grown, jobs_of(a=1, b=2))
    assert fill(grown, jobs_of(a=1, b=3, c=4)) == ["b", "c"]
    fill(fresh, jobs_of(a=1, b=3, c=4))
    assert files(grown) == files(fresh)


def delete(file):
    file.unlink()


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


def repaint(file):
    png.write_image(file, np.zeros((16, 16), np.uint8))


@pytest.mark.parametrize("part", ["images", "masks"])
@pytest.mark.parametrize("damage", [delete, cut, repaint])
def test_fill_makes_a_damaged_pair_again(tmp_path, part, damage):
    fill(tmp_path, jobs_of(a=1, b=2))
    before = files(tmp_path)
    damage(tmp_path / part / "b_1.png")
    assert fill(tmp_path, jobs_of(a=1, b=2)) == ["b"]
    assert files(tmp_path) == before


def test_workers_find_what_is_damaged_among_many(tmp_path, monkeypatch):
    fill(tmp_path, jobs_of(a=1, b=2, c=3))
    before, asked = files(tmp_path), []
    cut(tmp_path / "masks" / "b_1.png")

    def run(task, jobs, workers, title):
        asked.append((title, len(jobs), workers))
        return executor.run(task, jobs, workers, title)

    monkeypatch.setattr(store, "_QUICKLY_CHECKED", 5)
    monkeypatch.setattr(store, "executor", SimpleNamespace(run=run))
    fill(tmp_path, jobs_of(a=1, b=2, c=3), workers=2)
    assert asked == [("fill: what is there", 3, 2), ("fill", 1, 2)]
    assert files(tmp_path) == before


@pytest.mark.parametrize("content", [None, b"", b"not a table"])
def test_fill_makes_all_again_without_a_manifest_to_trust(tmp_path, content):
    fill(tmp_path, jobs_of(a=1, b=2))
    before = files(tmp_path)
    (tmp_path / paths.MANIFEST).unlink()
    if content is not None:
        (tmp_path / paths.MANIFEST).write_bytes(content)
    assert fill(tmp_path, jobs_of(a=1, b=2)) == ["a", "b"]
    assert files(tmp_path) == before


def test_fill_brings_the_rows_of_what_it_keeps_up_to_date(tmp_path):
    fill(tmp_path, jobs_of(a=1, b=2))
    before = files(tmp_path)

    def present(job, pair):
        return replace(pair, licence=f"terms of {job.name}")

    jobs = jobs_of(a=1, b=2)
    pairs = store.fill(tmp_path, jobs, pytest.fail, 1, "fill", {}, present=present)
    assert {(pair.case, pair.licence) for pair in pairs} == {
        ("a", "terms of a"),
        ("b", "terms of b"),
    }
    assert sorted(manifest.read(tmp_path), key=str) == sorted(pairs, key=str)
    before.pop(paths.MANIFEST)
    assert before.items() < files(tmp_path).items()


def test_pictures_are_on_the_disk_before_the_manifest_that_lists_them(tmp_path, monkeypatch):
    order = []
    write = store.manifest.write
    monkeypatch.setattr(store.files, "sync_disk", lambda _: order.append("pictures"))
    monkeypatch.setattr(
        store.manifest, "write", lambda *parts: (order.append("manifest"), write(*parts))
    )
    store.fill(tmp_path, [], make, 1, "fill", {})
    assert order[-2:] == ["pictures", "manifest"]


def test_fill_removes_what_no_job_owns(tmp_path):
    fill(tmp_path, jobs_of(a=1, gone=2))
    (tmp_path / "images" / ".unfinished-x").touch()
    (tmp_path / "masks" / "stray.png").touch()
    assert fill(tmp_path, jobs_of(a=1)) == []
    assert files(tmp_path).keys() == {paths.MANIFEST, *pairs_of("a")}
    assert [pair.id for pair in manifest.read(tmp_path)] == ["a_0", "a_1"]


def test_fill_of_no_jobs_leaves_a_manifest_of_nothing(tmp_path):
    assert fill(tmp_path / "new", []) == []
    fill(tmp_path / "old", jobs_of(a=1))
    fill(tmp_path / "old", [])
    for folder in (tmp_path / "new", tmp_path / "old"):
        assert files(folder).keys() == {paths.MANIFEST}
        assert manifest.read(folder) == []


def test_jobs_that_make_no_pairs_leave_a_manifest_of_nothing(tmp_path):
    store.fill(tmp_path / "new", jobs_of(a=1), lambda _: [], 1, "fill", {})
    assert manifest.read(tmp_path / "new") == []


def test_fill_removes_a_stray_folder(tmp_path):
    fill(tmp_path, jobs_of(a=1))
    (tmp_path / "images" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "images" / ".ipynb_checkpoints" / "a_0.png").touch()
    fill(tmp_path, jobs_of(a=1))
    assert files(tmp_path).keys() == {paths.MANIFEST, *pairs_of("a")}


@pytest.mark.slow
def test_fill_gives_the_same_bytes_whatever_the_order_and_the_workers(tmp_path):
    jobs = jobs_of(a=1, b=2, c=3)
    fill(tmp_path / "one", jobs)
    fill(tmp_path / "two", jobs[::-1], workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")


# --- failures --------------------------------------------------------------------------------


def test_a_failing_job_keeps_the_others_and_is_named(tmp_path, refused, capsys):
    problem = str(refused(lambda: fill(tmp_path, jobs_of(a=1, bad=-1, c=3))))
    assert "1 of 3" in problem
    assert "bad" in problem
    assert str(tmp_path) in problem
    assert "raw/bad.nii: expected a scan, found none" in capsys.readouterr().err
    assert [pair.id for pair in manifest.read(tmp_path)] == ["a_0", "a_1", "c_0", "c_1"]
    assert files(tmp_path).keys() == {paths.MANIFEST, *pairs_of("a", "c")}


def test_a_rerun_makes_only_what_had_failed(tmp_path, refused):
    refused(lambda: fill(tmp_path, jobs_of(a=1, bad=-1, c=3)))
    assert fill(tmp_path, jobs_of(a=1, bad=2, c=3)) == ["bad"]
    assert files(tmp_path).keys() == {paths.MANIFEST, *pairs_of("a", "bad", "c")}


def test_a_job_that_fails_now_keeps_what_it_had(tmp_path, refused):
    fill(tmp_path, jobs_of(a=1, b=2))
    before = files(tmp_path)
    problem = str(refused(lambda: fill(tmp_path, jobs_of(a=1, b=-1))))
    assert "2 pairs of the others are kept" in problem
    assert "and 2 that an earlier run made of these" in problem
    assert files(tmp_path) == before
    assert fill(tmp_path, jobs_of(a=1, b=2)) == []


def test_a_damaged_pair_of_a_job_that_fails_is_not_kept(tmp_path, refused):
    fill(tmp_path, jobs_of(a=1, b=2))
    cut(tmp_path / "masks" / "b_0.png")
    refused(lambda: fill(tmp_path, jobs_of(a=1, b=-1)))
    assert files(tmp_path).keys() == {paths.MANIFEST, *pairs_of("a")}


def test_what_could_not_become_a_job_is_named_too(tmp_path, refused, capsys):
    failed = {"early": OSError("disk on fire")}
    problem = str(refused(lambda: fill(tmp_path, jobs_of(a=1, bad=-1), failed=failed)))
    assert "2 of 3" in problem
    assert "bad, early" in problem
    assert "early: OSError: disk on fire" in capsys.readouterr().err
    assert [pair.id for pair in manifest.read(tmp_path)] == ["a_0", "a_1"]


def test_every_failure_is_reported_but_only_some_in_the_summary(tmp_path, refused, capsys):
    bad = {f"bad{n}": -1 for n in range(5)}
    problem = str(refused(lambda: fill(tmp_path, jobs_of(a=1, **bad))))
    assert "5 of 6" in problem
    assert "(bad0, bad1, bad2, ...)" in problem
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == list(bad)


def test_a_mistake_that_spoils_every_job_costs_nothing(tmp_path, refused):
    fill(tmp_path, jobs_of(a=1, b=2))
    before = files(tmp_path)
    refused(lambda: fill(tmp_path, jobs_of(a=-1, b=-2)))
    assert files(tmp_path) == before


def test_a_folder_is_not_made_for_failures_alone(tmp_path, refused):
    refused(lambda: fill(tmp_path / "new", jobs_of(a=-1)))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("checkpoint_s", [-1.0, 1000.0])
def test_a_run_that_was_stopped_goes_on_where_it_stood(tmp_path, monkeypatch, checkpoint_s):
    monkeypatch.setattr(store, "_CHECKPOINT_S", checkpoint_s)

    def stopped(job):
        if job.name == "c":
            raise KeyboardInterrupt
        return make(tmp_path, job)

    with pytest.raises(KeyboardInterrupt):
        store.fill(tmp_path, jobs_of(a=1, b=2, c=3), stopped, 1, "fill", {})
    assert fill(tmp_path, jobs_of(a=1, b=2, c=3)) == ["c"]
    assert files(tmp_path).keys() == {paths.MANIFEST, *pairs_of("a", "b", "c")}


def test_a_second_run_on_the_same_folder_is_refused_and_spoils_nothing(tmp_path, refused):
    folder, problems = tmp_path / "folder", []

    def at_once(job):
        problems.append(str(refused(lambda: fill(folder, jobs_of(a=1)))))
        return make(folder, job)

    store.fill(folder, jobs_of(a=1, b=2), at_once, 1, "fill", {})
    assert len(problems) == 2
    assert "expected no other run" in problems[0]
    assert files(folder).keys() == {paths.MANIFEST, *pairs_of("a", "b")}
    assert fill(folder, jobs_of(a=1, b=2)) == []
