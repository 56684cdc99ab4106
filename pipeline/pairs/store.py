"""A folder of pairs that a stage fills: only what is missing or out of date is made.

Every pair carries the fingerprint of all that it was made from. A run keeps the
pairs whose fingerprint still holds and whose files are whole, makes the rest,
and removes everything else. A job that fails costs neither the others nor what an
earlier run made of it; it is named, and the run ends with a :class:`Problem`. The
manifest is also written on the way and when the run is stopped, so that the next run
resumes there.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from datasets_spec.contract import Problem
from pipeline import paths
from pipeline.pairs import manifest, scan_record, truth_record
from pipeline.pairs.manifest import Pair
from pipeline.runtime import executor, files, locks, shortages
from pipeline.runtime.executor import Workers

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
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
) -> list[Pair]:
    """Make the pairs of all ``jobs`` in ``folder`` and write its manifest.

    ``case_of`` turns a job's name into the case of its pairs. ``present`` brings the row of a pair
    that is kept up to date, where no pixel follows from what changed, and ``of_failed`` that of a
    pair which an earlier run made of a job that failed now. ``failed`` names what could not even
    become a job; failures of the task are added. Raises :class:`Problem` at the
    end if anything failed, with all other pairs, those that an earlier run made of the failed jobs,
    and a manifest of them in place; and at once if another run fills the folder.
    """
    with locks.alone(folder):
        earlier = _whole_by_fingerprint(folder)
        made = {
            job.fingerprint: [present(job, pair) for pair in earlier[job.fingerprint]]
            for job in jobs
            if job.fingerprint in earlier
        }
        missing = [job for job in jobs if job.fingerprint not in made]
        _make(folder, missing, task, workers, title, failed, made)
        lost = {case_of(name) for name in failed}
        kept = {
            key: [of_failed(pair) for pair in pairs]
            for key, pairs in earlier.items()
            if pairs[0].case in lost
        }
        pairs = _all(made | kept)
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
        raise _failure(title, folder, failed, total, len(pairs), sum(map(len, kept.values())))
    return pairs


def _whole_by_fingerprint(folder: Path) -> dict[str, list[Pair]]:
    """What an earlier run made and is still whole: all pairs of a job by its fingerprint."""
    earlier: dict[str, list[Pair]] = {}
    for pair in _earlier(folder):
        earlier.setdefault(pair.fingerprint, []).append(pair)
    return {key: pairs for key, pairs in earlier.items() if _whole(folder, pairs)}


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
    folder: Path,
    missing: Sequence[Job[T]],
    task: Callable[[Job[T]], list[Pair]],
    workers: Workers,
    title: str,
    failed: dict[str, Exception],
    made: dict[str, list[Pair]],
) -> None:
    """Run the task over what is missing, into ``made`` and ``failed``; keep it when stopped."""
    checkpoint, pause = time.monotonic(), _CHECKPOINT_S
    try:
        for outcome in executor.run(task, missing, workers, title):
            if outcome.error is not None:
                failed[outcome.job.name] = outcome.error
                continue
            made[outcome.job.fingerprint] = outcome.result or []
            begin = time.monotonic()
            if begin - checkpoint > pause:
                manifest.write(folder, _all(made))
                checkpoint = time.monotonic()
                pause = max(_CHECKPOINT_S, 20 * (checkpoint - begin))
    except BaseException:
        if made:
            manifest.write(folder, _all(made))
        raise


def _reason(error: Exception) -> str:
    if isinstance(error, Problem):
        return str(error)
    return str(shortages.problem_of(error) or f"{type(error).__name__}: {error}")


def _earlier(folder: Path) -> list[Pair]:
    try:
        return manifest.read(folder)
    except Problem:
        return []


def _whole(folder: Path, pairs: Iterable[Pair]) -> bool:
    """All pictures, labels and scans of ``pairs`` are there, with the bytes that were written."""
    for name, digest in {(pair.truth, pair.truth_digest) for pair in pairs if pair.truth}:
        if not truth_record.KEPT.is_whole(folder, name, digest):
            return False
    for name, digest in {(pair.scan, pair.scan_digest) for pair in pairs if pair.scan}:
        if not scan_record.KEPT.is_whole(folder, name, digest):
            return False
    return all(files.holds(folder / name, digest) for pair in pairs for name, digest in pair.files)


def _all(made: dict[str, list[Pair]]) -> list[Pair]:
    return [pair for pairs in made.values() for pair in pairs]


def _remove_others(folder: Path, pairs: Iterable[Pair]) -> None:
    kept: set[Any] = {folder / name for pair in pairs for name, _ in pair.files}
    kept |= {(folder / pair.truth).parent for pair in pairs if pair.truth}
    kept |= {(folder / pair.scan).parent for pair in pairs if pair.scan}
    for part in (paths.IMAGES, f"{paths.IMAGES}_*", paths.MASKS, paths.TRUTH, paths.SCANS):
        for file in folder.glob(f"{part}/*"):
            if file in kept:
                continue
            if file.is_dir():
                shutil.rmtree(file)
            else:
                file.unlink()
