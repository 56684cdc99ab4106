"""Pairs in shards: the same pairs as in files of their own, in few files, and nothing lost."""

import tarfile
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from datasets_spec.contract import Problem
from pipeline import paths
from pipeline.pairs import manifest, packing, pictures, store
from pipeline.pairs.packing import Layout
from pipeline.runtime import shards
from pipeline.runtime.files import sha256
from pipeline.runtime.shards import Member, Part
from tests.pipeline.pairs import test_store as loose

COUNT = 3
NAMES = (*"abcdefgh", "g.1", *"klmnop")


def jobs(**changed):
    return loose.jobs_of(**(dict.fromkeys(NAMES, 1) | changed))


def fill(folder, wanted=None, in_shards=COUNT, workers=1, failed=None, make=loose.make, url=""):
    """Fill ``folder``; returns the names of the jobs that the task was called for."""
    called = []

    def task(job):
        called.append(job.name)
        return make(folder, job)

    own = task if workers == 1 else partial(make, folder)
    failed = {} if failed is None else failed
    wanted = jobs() if wanted is None else wanted
    layout = Layout(in_shards, url)
    store.fill(folder, wanted, own, workers, "fill", failed, layout=layout)
    return called


def shown(folder):
    """What the pairs of a folder show."""
    return {
        pair.id: (
            pictures.image(folder, pair).tobytes(),
            pictures.mask(folder, pair, loose.LABELS).tobytes(),
        )
        for pair in manifest.read(folder)
    }


@pytest.fixture
def packed(tmp_path):
    fill(tmp_path / "packed")
    return tmp_path / "packed"


def test_a_folder_holds_few_files_that_show_what_files_of_their_own_do(tmp_path, packed):
    fill(tmp_path / "loose", in_shards=0)
    assert len(shown(tmp_path / "loose")) == 2 * len(NAMES)
    assert shown(packed) == shown(tmp_path / "loose")
    assert len(loose.files(packed)) == COUNT + 1  # with the manifest
    assert len(loose.files(tmp_path / "loose")) == 4 * len(NAMES) + 1


@pytest.mark.parametrize("workers", [2, 3])
def test_the_bytes_are_those_of_any_number_of_workers(tmp_path, packed, workers):
    fill(tmp_path / "other", workers=workers)
    assert loose.files(tmp_path / "other") == loose.files(packed)


@pytest.mark.parametrize("first", [0, 1, 2, 7])
def test_the_bytes_are_those_of_any_number_of_shards_before(tmp_path, packed, first):
    fill(tmp_path / "other", in_shards=first)
    assert fill(tmp_path / "other") == []
    assert loose.files(tmp_path / "other") == loose.files(packed)


def test_files_on_their_own_come_back_as_they_were(tmp_path, packed):
    fill(tmp_path / "loose", in_shards=0)
    assert fill(packed, in_shards=0) == []
    assert loose.files(packed) == loose.files(tmp_path / "loose")


@pytest.mark.parametrize("at", NAMES)
def test_a_stopped_run_resumes_and_ends_as_it_would_have(tmp_path, packed, at):
    def stopped(folder, job):
        if job.name == at:
            raise KeyboardInterrupt
        return loose.make(folder, job)

    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "other", make=stopped)
    again = fill(tmp_path / "other")
    assert at in again
    assert loose.files(tmp_path / "other") == loose.files(packed)


def test_a_resumed_run_makes_nothing_again_that_was_packed(tmp_path):
    order = []
    fill(tmp_path / "order", make=lambda _, job: order.append(job.name) or [])

    def stopped(folder, job):
        if job.name == order[-1]:
            raise KeyboardInterrupt
        return loose.make(folder, job)

    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "other", make=stopped)
    assert fill(tmp_path / "other") == [order[-1]]


def test_a_changed_case_changes_its_own_shard_alone(packed):
    before = set(loose.files(packed))
    assert fill(packed, jobs(c=2)) == ["c"]
    after = set(loose.files(packed))
    assert len(before - after) == len(after - before) == 1
    (new,) = after - before
    number = packing.number_of("c", COUNT)
    assert new.startswith(f"shards/{number:05d}-of-{COUNT:05d}-")


def test_a_case_that_fails_keeps_its_earlier_pairs_in_their_shard(packed):
    before = loose.files(packed)
    with pytest.raises(Problem, match="1 of 15 could not be made"):
        fill(packed, jobs(c=-1))
    assert loose.files(packed) == before


def test_a_case_that_goes_leaves_its_shard(packed):
    fill(packed, [job for job in jobs() if job.name != "c"])
    assert {pair.case for pair in manifest.read(packed)} == set(NAMES) - {"c"}
    members = Counter(name for file in packed.glob("shards/*.tar") for name in names_in(file))
    assert len(members) == 4 * (len(NAMES) - 1)
    assert not any(name.startswith("c_") for name in members)


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_of_a_damaged_shard_only_what_is_damaged_is_made_again(packed, damage):
    before = loose.files(packed)
    victim = next(p for p in manifest.read(packed) if p.case == "d")
    file = packed / victim.shard
    theirs = {pair.case for pair in manifest.read(packed) if pair.shard == victim.shard}
    content = bytearray(file.read_bytes())
    if damage == "changed":
        content[victim.shard_at[0] + 40] ^= 1
        file.write_bytes(content)
        theirs = {"d"}
    elif damage == "cut":
        file.write_bytes(content[:100])
    else:
        file.unlink()
    assert set(fill(packed)) == theirs
    assert loose.files(packed) == before


def names_in(file):
    with tarfile.open(file) as archive:
        return archive.getnames()


def test_a_shard_is_a_tar_whose_samples_follow_one_another(packed):
    pairs = {pair.id.replace(".", "%2E") for pair in manifest.read(packed)}
    found = []
    for file in sorted(packed.glob("shards/*.tar")):
        names = names_in(file)
        keys = [name.split(".", 1)[0] for name in names]
        assert [name.split(".", 1)[1] for name in names] == ["image.png", "mask.png"] * (
            len(names) // 2
        )
        assert sum(one != other for one, other in pairwise(keys)) == len(set(keys)) - 1
        found += keys
    assert set(found) == pairs
    assert Counter(found) == dict.fromkeys(pairs, 2)


def test_a_shard_is_named_by_its_number_of_all_and_its_content(packed):
    for file in packed.glob("shards/*.tar"):
        number, of, count, digest = file.stem.split("-")
        assert (of, int(count)) == ("of", COUNT)
        assert int(number) < COUNT
        assert len(digest) == 16
    assert packing.count_in(manifest.read(packed)) == COUNT


def test_tar_members_tell_no_time_and_no_owner(packed):
    for file in packed.glob("shards/*.tar"):
        with tarfile.open(file) as archive:
            facts = {(one.mtime, one.uid, one.gid, one.uname, one.gname) for one in archive}
        assert facts == {(0, 0, 0, "", "")}


@pytest.mark.parametrize(
    ("wanted", "cases", "count"),
    [("auto", 1999, 0), ("auto", 2000, 32), ("auto", 25_000, 512), (0, 9000, 0), (5, 2, 5)],
)
def test_the_number_of_shards_follows_from_that_of_the_cases(wanted, cases, count):
    assert packing.count_of(wanted, cases) == count


def test_a_new_case_moves_no_other_to_another_shard():
    many = [f"case-{number}" for number in range(200)]
    sizes = Counter(packing.number_of(case, 8) for case in many)
    assert sizes.keys() == set(range(8))
    assert max(sizes.values()) < 3 * min(sizes.values())


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 70_000])
def test_a_part_of_a_shard_is_the_file_that_went_in(tmp_path, size):
    content = np.random.default_rng(size).bytes(size)
    members = []
    for name in ("short", "a/" + "long" * 60, "naïve"):
        (tmp_path / "file").write_bytes(content)
        members.append(Member(name, tmp_path / "file", sha256(tmp_path / "file")))
    places = shards.write(tmp_path / "some.tar", members)
    for place, one in zip(places, members, strict=True):
        part = Part(tmp_path / "some.tar", one.name, place.offset, place.size)
        assert part.read_bytes() == content
    whole = Part(tmp_path / "some.tar", "all", 0, places[-1].end)
    shards.unpack(whole, tmp_path / "out")
    assert {file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()} == {
        content
    }


def test_a_file_that_is_not_what_its_row_states_goes_in_no_shard(tmp_path, refused):
    (tmp_path / "file").write_bytes(b"another")
    problem = refused(
        lambda: shards.write(tmp_path / "some.tar", [Member("a", tmp_path / "file", "0" * 64)])
    )
    assert "expected sha256 0000" in str(problem)
    assert not (tmp_path / "some.tar").exists()


def test_a_part_of_a_cut_shard_is_refused(tmp_path, refused):
    (tmp_path / "some.tar").write_bytes(bytes(100))
    problem = refused(Part(tmp_path / "some.tar", "a", 50, 60).read_bytes)
    assert "expected a shard of at least 110 bytes, got a shorter one" in str(problem)


def test_files_of_a_shard_that_are_none_are_refused(tmp_path, refused):
    (tmp_path / "some.tar").write_bytes(b"no tar" * 200)
    problem = refused(lambda: shards.unpack(Part(tmp_path / "some.tar", "a", 0, 1024), tmp_path))
    assert "expected files of a shard, got other bytes" in str(problem)
    assert "some.tar/a" in str(problem)


def test_pairs_in_shards_have_no_files_of_their_own(packed):
    pair = manifest.read(packed)[0]
    assert not any(path.exists() for path in packing.loose_files(packed, pair))
    own = packing.unpack(packed, [pair])
    assert own == [replace(pair, shard="", shard_at=())]
    assert (packed / pair.image).is_file()
    assert not (packed / paths.TRUTH).exists()


# --- behind a URL ----------------------------------------------------------------------------


def objects(folder):
    """The names of everything below, and a digest of each."""
    return {name: sha256(folder / name) for name in loose.files(folder)}


@pytest.fixture
def away(tmp_path):
    """A folder with a manifest whose shards are behind a URL, and the folder that this leads to."""
    there = tmp_path / "bucket with ä space"
    fill(tmp_path / "here", url=f"file://{there}")
    return tmp_path / "here", there


def test_behind_a_url_are_the_same_shards(away, packed):
    here, there = away
    assert set(loose.files(here)) == {"manifest.parquet"}
    assert objects(there) == {
        name: sha256(packed / name) for name in loose.files(packed) if name.startswith("shards/")
    }
    assert shown(here) == shown(packed)


def test_behind_a_url_nothing_is_made_or_sent_twice(away):
    here, there = away
    before = {file: file.stat().st_ino for file in there.rglob("*.tar")}
    assert fill(here, url=f"file://{there}") == []
    assert {file: file.stat().st_ino for file in there.rglob("*.tar")} == before


def test_behind_a_url_a_changed_case_is_a_new_shard_beside_the_old(away):
    here, there = away
    before = objects(there)
    assert fill(here, jobs(c=2), url=f"file://{there}") == ["c"]
    after = objects(there)
    assert before.items() < after.items()  # another manifest may still name the old one
    assert len(after) == len(before) + 1


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_behind_a_url_what_is_lost_is_made_again(away, damage):
    here, there = away
    victim = next(p for p in manifest.read(here) if p.case == "d")
    theirs = {pair.case for pair in manifest.read(here) if pair.shard == victim.shard}
    file = there / "shards" / victim.shard.rpartition("/")[2]
    whole = objects(there)
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:1000])
    assert set(fill(here, url=f"file://{there}")) == theirs
    assert objects(there) == whole


def test_shards_move_to_a_url_and_back(tmp_path, packed):
    there, before = tmp_path / "bucket", loose.files(packed)
    assert fill(packed, url=f"file://{there}") == []
    assert set(loose.files(packed)) == {"manifest.parquet"}
    assert fill(packed) == []
    assert loose.files(packed) == before


def test_what_is_lost_behind_a_url_is_named(away, refused):
    here, there = away
    pair = manifest.read(here)[0]
    for file in there.rglob("*.tar"):
        file.unlink()
    problem = refused(lambda: pictures.image(here, pair))
    assert "expected a shard of at least" in str(problem)
    assert pair.shard in str(problem)
