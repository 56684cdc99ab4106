"""Many inputs over many readers: who is asked next, what came, and what is printed of it."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.fuzz import readers, workplace
from tests.fuzz.judge import FAILURES, HANG, KINDS, MUTED, Verdict
from tests.fuzz.maker import Maker, sort_of
from tests.fuzz.watch import Worker

_BATCH_S = 1.0  # so long a worker stays with one reader
_HANGS = 2  # more inputs of one sort than these that hang one reader would only take the time
_LINES_S = 20.0  # between lines of progress where there is no terminal


@dataclass(frozen=True)
class Failure:
    """One way to fail: its first and smallest input, and how many were like it."""

    identity: str
    verdict: Verdict
    count: int = 1


@dataclass
class Campaign:
    """Runs inputs until ``minutes`` are over, or ``inputs`` of each reader are done.

    ``folder`` is where workers have their folders. Inputs follow from ``seed`` alone.
    """

    names: Sequence[str]
    folder: Path
    seed: int = 0
    minutes: float = 10.0
    inputs: int = 0
    workers: int = 2
    limit_s: float = 20.0
    limit_mb: float = 1500.0
    quiet: bool = False
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    failures: dict[tuple[str, str, str], Failure] = field(default_factory=dict)

    def run(self) -> None:
        """Fill ``counts`` (of kinds, by reader) and ``failures``."""
        self.counts = {name: Counter() for name in self.names}

        self._weights = {name: readers.find(name).weight for name in self.names}
        self._spent = dict.fromkeys(self.names, 0.0)
        self._next = dict.fromkeys(self.names, 0)
        self._busy: Counter[str] = Counter()
        self._hung: dict[str, Counter[str]] = {name: Counter() for name in self.names}
        os.environ[workplace.VARIABLE] = str(self.folder / "workplace")
        self._lock, self._errors = threading.Lock(), []
        self._began = self._printed = time.monotonic()
        threads = [
            threading.Thread(target=self._work, args=(self.folder / f"worker-{number}",))
            for number in range(self.workers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not self.quiet and sys.stderr.isatty():
            print(file=sys.stderr)
        if self._errors:
            raise self._errors[0]

    @property
    def done(self) -> int:
        """How many inputs were judged."""
        return sum(sum(count.values()) for count in self.counts.values())

    def _work(self, folder: Path) -> None:
        worker = Worker(folder, self.limit_s, self.limit_mb)
        try:
            while (name := self._chosen()) is not None:
                worker.prepare(name)
                began = time.monotonic()
                while time.monotonic() - began < _BATCH_S and not self._errors:
                    number = self._drawn(name)
                    if number is None:
                        break
                    muted = [sort for sort, times in self._hung[name].items() if times > _HANGS]
                    self._take(name, number, worker.judged(name, self.seed, number, muted))
                with self._lock:
                    self._spent[name] += time.monotonic() - began
                    self._busy[name] -= 1
        except Exception as error:
            self._errors.append(error)
        finally:
            worker.end()

    def _chosen(self) -> str | None:
        """The reader that had the least of its share of the time; None when all is done."""
        with self._lock:
            over = time.monotonic() - self._began > self.minutes * 60
            names = [name for name in self.names if not (self.inputs and self._full(name))]
            if self._errors or not names or (over and not self.inputs):
                return None
            name = min(names, key=lambda one: (self._spent[one] + self._busy[one] * _BATCH_S)
                       / self._weights[one])  # fmt: skip
            self._busy[name] += 1
            return name

    def _full(self, name: str) -> bool:
        return self._next[name] >= self.inputs

    def _drawn(self, name: str) -> int | None:
        with self._lock:
            over = time.monotonic() - self._began > self.minutes * 60
            if self._full(name) if self.inputs else over:
                return None
            self._next[name] += 1
            return self._next[name] - 1

    def _take(self, name: str, number: int, verdict: Verdict) -> None:
        if verdict.kind == MUTED:
            return
        if verdict.kind in FAILURES and not verdict.recipe:  # the worker could not say
            made = Maker(name).made(self.seed, number)
            verdict = replace(verdict, recipe=made.recipe, byte_count=made.byte_count)
        with self._lock:
            self.counts[name][verdict.kind] += 1
            if verdict.kind == HANG:
                self._hung[name][sort_of(verdict.recipe)] += 1
            if verdict.kind in FAILURES:
                key = (name, verdict.kind, verdict.where)
                identity = f"{name}:{self.seed}:{number}"
                known = self.failures.get(key)
                if known is None:
                    self.failures[key] = Failure(identity, verdict)
                else:
                    smaller = verdict.byte_count < known.verdict.byte_count
                    best = Failure(identity, verdict) if smaller else known
                    self.failures[key] = replace(best, count=known.count + 1)
            self._tell()

    def _tell(self) -> None:
        """Progress: how many, how fast, how long still."""
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if self.quiet or now - self._printed < (0.5 if terminal else _LINES_S):
            return
        self._printed = now
        rate = self.done / (now - self._began)
        left = self.minutes * 60 - (now - self._began)
        if self.inputs:
            left = (self.inputs * len(self.names) - self.done) / rate
        failed = sum(count[kind] for count in self.counts.values() for kind in FAILURES)
        line = f"{self.done} inputs, {rate:.1f}/s, {failed} failed, {max(0, left):.0f} s left"
        print(f"\r{line}   " if terminal else line, end="" if terminal else "\n", file=sys.stderr)
        sys.stderr.flush()


def table(counts: dict[str, Counter[str]]) -> str:
    """Reader by kind of verdict, and the sums."""
    head = f"{'reader':16}{'inputs':>8}" + "".join(f"{kind:>10}" for kind in KINDS)
    lines = [head]
    total: Counter[str] = sum(counts.values(), Counter())
    for name, count in [*counts.items(), ("all", total)]:
        numbers = "".join(f"{count[kind]:>10}" for kind in KINDS)
        lines.append(f"{name:16}{sum(count.values()):>8}{numbers}")
    return "\n".join(lines)


def described(failure: Failure) -> str:
    """A failure in some lines: kind, place, words, recipe, and how to see it again."""
    verdict = failure.verdict
    recipe = "; ".join(f"{step:.160}" for step in verdict.recipe)
    return "\n".join(
        [
            f"{verdict.kind}  {verdict.where}  ({failure.count} inputs)",
            f"    {verdict.words:.400}".rstrip(),
            f"    input: {recipe}".rstrip(),
            f"    again: python -m tests.fuzz --replay {failure.identity}",
        ]
    )
