"""A worker process and its watchdog: what hangs, dies or takes too much memory is known."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import PROJECT
from tests.fuzz import judge, trees, workplace
from tests.fuzz.judge import CRASH, HANG, MEMORY, Verdict

_TICK_S = 0.03
_BUSY = 4  # times the limit, where a busy machine keeps a worker from its work
_READY_S = 600.0  # to import TensorFlow and make a workplace


class Worker:
    """A process of its own group, begun anew after every input that it did not survive."""

    def __init__(self, folder: Path, limit_s: float, limit_mb: float) -> None:
        self.folder, self.limit_s, self.limit_mb = folder, limit_s, limit_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._ready: set[str] = set()

    def judged(self, reader: str, seed: int, number: int, muted: Sequence[str] = ()) -> Verdict:
        """The verdict on one input, whatever it does to the process."""
        self.prepare(reader)
        wanted = {"seed": seed, "number": number, "muted": list(muted)}
        request = {"reader": reader, "input": wanted}
        answer = self._asked(request, self.limit_s, self.limit_mb)
        return answer if isinstance(answer, Verdict) else Verdict(**answer)

    def prepare(self, reader: str) -> None:
        """Let the process import what the reader needs and read its sound seeds."""
        if reader in self._ready:
            return
        answer = self._asked({"reader": reader}, _READY_S, float("inf"))
        if isinstance(answer, Verdict):
            log = (self.folder / "log").read_text("utf-8", "replace")[-2000:]
            raise RuntimeError(f"the seeds of {reader} cannot be made: {answer}\n{log}")
        self._ready.add(reader)

    def end(self) -> None:
        """End the process and all that it started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
        self._process = None
        self._ready.clear()

    def _begun(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            trees.remove(self.folder)
            (self.folder / "tmp").mkdir(parents=True)
            (self.folder / "input").mkdir()
            environment = os.environ | {
                "PYTHONDONTWRITEBYTECODE": "1",
                "TMPDIR": str(self.folder / "tmp"),
                "MPLCONFIGDIR": str(self.folder.parent / "matplotlib"),
                "NO_ALBUMENTATIONS_UPDATE": "1",
                "CUDA_VISIBLE_DEVICES": "",
                "TF_CPP_MIN_LOG_LEVEL": "2",
                workplace.VARIABLE: str(self.folder.parent / "workplace"),
            }
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.worker", str(self.folder), str(self.limit_mb)],
                cwd=PROJECT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        return self._process

    def _asked(
        self, request: dict[str, Any], limit_s: float, limit_mb: float
    ) -> dict[str, Any] | Verdict:
        process = self._begun()
        assert process.stdin is not None
        assert process.stdout is not None
        before, began = judge.resident_mb(process.pid), time.monotonic()
        self._used_s = judge.processor(process.pid)[1]
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return self._failed(CRASH, "it had died before")
        while True:
            readable, _, _ = select.select([process.stdout], [], [], _TICK_S)
            seconds = time.monotonic() - began
            if readable:
                line = process.stdout.readline()
                if line:
                    answer: dict[str, Any] = json.loads(line)
                    return answer
                return self._failed(CRASH, f"exit status {process.wait()}", seconds)
            grown = judge.resident_mb(process.pid) - before
            if grown > limit_mb:
                return self._failed(MEMORY, f"{grown:.0f} MB after {seconds:.1f} s", seconds)
            if seconds > limit_s and (seconds > _BUSY * limit_s or not self._starved(limit_s)):
                return self._failed(HANG, f"no answer after {seconds:.0f} s", seconds)

    def _starved(self, limit_s: float) -> bool:
        """Whether it wants to go on, but others left it less of a processor than its limit."""
        assert self._process is not None
        state, used_s = judge.processor(self._process.pid)
        return state == "R" and used_s - self._used_s < limit_s

    def _failed(self, kind: str, words: str, seconds: float = 0.0) -> Verdict:
        """End the process, and say where it stood."""
        assert self._process is not None
        if kind != CRASH:
            os.kill(self._process.pid, signal.SIGUSR1)
            time.sleep(0.3)
        dump = (self.folder / "dump").read_text("utf-8", "replace")
        self.end()
        return Verdict(kind, judge.place_in_dump(dump), words, seconds=seconds)
