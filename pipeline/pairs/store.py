"""A folder of pairs that a stage fills: only what is missing or out of date is made.

Every pair carries the fingerprint of all that it was made from. A run keeps the
pairs whose fingerprint still holds and whose files are whole, makes the rest,
and removes everything else. A job that fails costs neither the others nor what an
earlier run made of it; it is named, and the run ends with a :class:`Problem`. The
manifest is also written on the way and when the run is stopped, so that the next run
resumes there. Files are on their own until all of their shard are there, where there are shards
(:mod:`pipeline.pairs.packing`).
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from datasets_spec.contract import Problem
from pipeline import paths
from pipeline.pairs import manifest, packing, pictures, scan_record, truth_record
from pipeline.pairs.case_folder import CaseFolder
from pipeline.pairs.manifest import Pair
from pipeline.pairs.packing import Layout
from pipeline.runtime import executor, files, locks, shards, shortages
from pipeline.runtime.executor import Workers

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_PARTS = (paths.IMAGES, paths.MASKS, paths.TRUTH, paths.SCANS, paths.SHARDS)
_QUICKLY_CHECKED = 5_000  # pairs: read in the seconds that processes take to start
_CHECKPOINT_S = 2.0  # at the least; never more than a twentieth of the time goes into it


@dataclass(frozen=True)
class Job(Generic[T]):
    """One thing to make: its name for messages, its fingerprint, and what the task needs."""

    name: str
    fingerprint: str
    content: T


def fill(
    folder: Path,
    jobs: Sequence[Job[T]],
    task: Callable[[Job[T]], list[Pair]],
    workers: Workers,
    title: str,
    failed: dict[str, Exception],
    case_of: Callable[[str], str] = str,
    present: Callable[[Job[T], Pair], Pair] = lambda _, pair: pair,
    of_failed: Callable[[Pair], Pair] = lambda pair: pair,
    layout: Layout = Layout(),
) -> list[Pair]:
    """Make the pairs of all ``jobs`` in ``folder`` and write its manifest.

    ``case_of`` turns a job's name into the case of its pairs. ``present`` brings the row of a pair
    that is kept up to date, where no pixel follows from what changed, and ``of_failed`` that of a
    pair which an earlier run made of a job that failed now. ``failed`` names what could not even
    become a job; failures of the task are added. ``layout``: in how many shards the files
    go, and where.
    Raises :class:`Problem` at the end if anything failed, with all other pairs, those that an
    earlier run made of the failed jobs, and a manifest of them in place; and at once if another run
    fills the folder.
    """
    with locks.alone(folder):
        earlier = _whole_by_fingerprint(folder, workers, title)
        shelf = _Shelf(folder, layout, earlier, failed, case_of, of_failed)
        for job in jobs:
            if job.fingerprint in earlier:
                kept = [present(job, pair) for pair in earlier[job.fingerprint]]
                shelf.put(job.name, job.fingerprint, kept)
        missing = [job for job in jobs if job.fingerprint not in earlier]
        missing.sort(key=lambda job: shelf.number(job.name))  # shard by shard
        _make(shelf, missing, task, workers, title)
        pairs = shelf.finished()
        _require_own_names(pairs, title)
        if pairs or not failed:
            folder.mkdir(parents=True, exist_ok=True)
            files.sync_disk(folder)  # the pictures: what comes next trusts the manifest
            manifest.write(folder, pairs)
            _remove_others(folder, pairs)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    up_to_date = len(jobs) - len(missing)
    _LOG.info("%s: %d kept, %d to make, %d pairs", title, up_to_date, len(missing), len(pairs))
    if failed:
        total = len({job.name for job in jobs} | set(failed))
        old = sum(map(len, shelf.of_failed.values()))
        raise _failure(title, folder, failed, total, len(pairs), old)
    return pairs


def _whole_by_fingerprint(folder: Path, workers: Workers, title: str) -> dict[str, list[Pair]]:
    """What an earlier run made and is still whole: all pairs of a job by its fingerprint."""
    earlier: dict[str, list[Pair]] = {}
    for pair in _earlier(folder):
        earlier.setdefault(pair.fingerprint, []).append(pair)
    here = [pairs for pairs in earlier.values() if not shards.is_url(pairs[0].shard)]
    readers = workers if sum(map(len, here)) > _QUICKLY_CHECKED else 1
    checks = executor.run(partial(_whole, folder), here, readers, f"{title}: what is there")
    broken = {one.job[0].fingerprint for one in checks if not one.result}
    sizes: dict[str, int] = {}
    for key, pairs in earlier.items():
        if shards.is_url(pairs[0].shard) and not packing.are_there(pairs, sizes):
            broken.add(key)
    return {key: pairs for key, pairs in earlier.items() if key not in broken}


def _require_own_names(pairs: Sequence[Pair], title: str) -> None:
    """Raises :class:`Problem` if two pairs have one name."""
    twice = [name for name, times in Counter(pair.id for pair in pairs).items() if times > 1]
    if twice:
        raise Problem(
            f"expected pairs with names of their own, got {twice[0]!r} from two cases",
            where=title,
            remedy="Rename a case or a rater in the raw data.",
        )


def _failure(
    title: str, folder: Path, failed: dict[str, Exception], total: int, pairs: int, old: int
) -> Problem:
    """What to say of failed jobs, each of which is logged with its reason.

    ``pairs`` are in place, of which an earlier run made ``old`` of the failed jobs.
    """
    for name, error in sorted(failed.items()):
        _LOG.error("%s: %s: %s", title, name, _reason(error))
    return Problem(
        f"{len(failed)} of {total} could not be made ({', '.join(sorted(failed)[:3])}"
        f"{', ...' if len(failed) > 3 else ''}); each is named above with the reason",
        where=title,
        remedy=f"The {pairs - old} pairs of the others are kept in {folder}"
        + (f", and {old} that an earlier run made of these" if old else "")
        + "; correct what is named and run again: only what is missing is made.",
    )


def _make(
    shelf: _Shelf,
    missing: Sequence[Job[T]],
    task: Callable[[Job[T]], list[Pair]],
    workers: Workers,
    title: str,
) -> None:
    """Run the task over what is missing, and put it on the shelf; keep it when stopped.

    Jobs of one shard follow one another; once all are done, it is packed.
    """
    left = Counter(shelf.number(job.name) for job in missing)
    checkpoint, pause = time.monotonic(), _CHECKPOINT_S
    try:
        for outcome in executor.run(task, missing, workers, title):
            job, number = outcome.job, shelf.number(outcome.job.name)
            if outcome.error is not None:
                shelf.failed[job.name] = outcome.error
            else:
                shelf.put(job.name, job.fingerprint, outcome.result or [])
            left[number] -= 1
            if shelf.layout.count and not left[number]:
                shelf.pack(number)
            begin = time.monotonic()
            if begin - checkpoint > pause:
                shelf.checkpoint()
                checkpoint = time.monotonic()
                pause = max(_CHECKPOINT_S, 20 * (checkpoint - begin))
    except BaseException:
        shelf.checkpoint()
        raise


class _Shelf:
    """The pairs of a run, by the fingerprints of their jobs, and how their files are kept."""

    def __init__(
        self,
        folder: Path,
        layout: Layout,
        earlier: Mapping[str, list[Pair]],
        failed: dict[str, Exception],
        case_of: Callable[[str], str],
        of_failed: Callable[[Pair], Pair],
    ) -> None:
        self.folder, self.layout, self.failed, self.case_of = folder, layout, failed, case_of
        self._of_failed, self._made = of_failed, dict[str, list[Pair]]()
        self._earlier = {pairs[0].case: (key, pairs) for key, pairs in earlier.items()}
        self._in_shard: dict[int, list[str]] = {}
        self._packed: set[int] = set()
        self._superseded: set[Path] = set()
        self.of_failed: dict[str, list[Pair]] = {}

    def number(self, name: str) -> int:
        """The shard of a job; 0 where there are none."""
        return packing.number_of(self.case_of(name), self.layout.count) if self.layout.count else 0

    def put(self, name: str, fingerprint: str, pairs: list[Pair]) -> None:
        """Take the pairs of a job."""
        self._made[fingerprint] = pairs
        self._in_shard.setdefault(self.number(name), []).append(fingerprint)

    def pairs(self) -> list[Pair]:
        """All pairs so far: of a job that failed, those that an earlier run made of it."""
        self._take_of_failed()
        return [pair for pairs in self._made.values() for pair in pairs]

    def _take_of_failed(self) -> None:
        for name in self.failed:
            key, earlier = self._earlier.pop(self.case_of(name), ("", []))
            if earlier and key not in self._made:
                self.of_failed[key] = [self._of_failed(pair) for pair in earlier]
                self.put(name, key, self.of_failed[key])

    def checkpoint(self) -> None:
        """Write the manifest of what is made so far; then no file is needed beside its shard."""
        if pairs := self.pairs():
            manifest.write(self.folder, pairs)
            for path in self._superseded:
                _remove(path)
            self._superseded = set()

    def pack(self, number: int) -> None:
        """Put the files of all pairs of a shard in it."""
        self._take_of_failed()
        keys = self._in_shard.get(number, [])
        own = [pair for key in keys for pair in self._made[key]]
        packed = packing.pack(self.folder, number, self.layout, own)
        self._made |= {key: [] for key in keys}
        for pair in packed:
            self._made[pair.fingerprint].append(pair)
        self._packed.add(number)
        loose = (pair for pair in own if not pair.shard)
        self._superseded |= {
            path for pair in loose for path in packing.loose_files(self.folder, pair)
        }

    def finished(self) -> list[Pair]:
        """All pairs, in shards or with each file on its own, as it is wanted."""
        pairs = self.pairs()
        if not self.layout.count:
            return packing.unpack(self.folder, pairs) if packing.count_in(pairs) else pairs
        for number in sorted(self._in_shard.keys() - self._packed):
            self.pack(number)
        return self.pairs()


def _reason(error: Exception) -> str:
    if isinstance(error, Problem):
        return str(error)
    return str(shortages.problem_of(error) or f"{type(error).__name__}: {error}")


def _earlier(folder: Path) -> list[Pair]:
    try:
        return manifest.read(folder)
    except Problem:
        return []


def _whole(folder: Path, pairs: Sequence[Pair]) -> bool:
    """All pictures, labels and scans of ``pairs`` are there, with the bytes that were written."""
    try:
        case = CaseFolder(folder, pairs[0])
    except (OSError, Problem):
        return False
    for name, digest in {(pair.truth, pair.truth_digest) for pair in pairs if pair.truth}:
        if not truth_record.KEPT.is_whole(case.path, name, digest):
            return False
    for name, digest in {(pair.scan, pair.scan_digest) for pair in pairs if pair.scan}:
        if not scan_record.KEPT.is_whole(case.path, name, digest):
            return False
    return all(
        shards.holds(file, digest)
        for pair in pairs
        for file, (_, digest) in zip(pictures.files(folder, pair), pair.files, strict=True)
    )


def _remove_others(folder: Path, pairs: Iterable[Pair]) -> None:
    """Remove what is in the places of a stage's files and is none of the files of ``pairs``."""
    kept: set[Path] = set()
    for pair in pairs:
        if pair.shard:
            kept.update(folder / name for name in (pair.shard, pair.case_shard))
        else:
            kept.update(packing.loose_files(folder, pair))
    for part in (*_PARTS, f"{paths.IMAGES}_*"):
        for path in folder.glob(f"{part}/*"):
            if path not in kept:
                _remove(path)
        for place in folder.glob(part):
            if not any(place.iterdir()):
                place.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
