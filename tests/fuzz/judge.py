"""One input made, read and judged, in this process."""

from __future__ import annotations

import contextlib
import io
import os
import re
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets_spec.contract import Problem
from tests.conftest import PROJECT
from tests.fuzz import trees
from tests.fuzz.guard import Escape, Guard
from tests.fuzz.maker import Maker, sort_of
from tests.fuzz.reader import Trial, one_line
from tests.fuzz.trees import Input

RIGHT, REFUSED, MUTED = "right", "refused", "muted"
WRONG, MESSAGE, TRACEBACK = "WRONG", "message", "traceback"
HANG, CRASH, MEMORY, ESCAPE = "hang", "crash", "memory", "escape"
KINDS = (RIGHT, REFUSED, WRONG, MESSAGE, TRACEBACK, HANG, CRASH, MEMORY, ESCAPE)
FAILURES = KINDS[2:]
"""WRONG values, a refusal that is not one line with an expectation and a place, another exception,
no answer in time, a died process, too much memory, a child process or a file outside."""
_LONGEST = 3000  # characters of a message that can still be read
_OWN = tuple(
    f"{PROJECT}/{place}" for place in ("pipeline/", "model/", "datasets_spec/", "tests/test_")
)
_FRAME = re.compile(r'File "([^"]+)", line (\d+),? in (\S+)')


@dataclass(frozen=True)
class Verdict:
    """What became of an input: one of :data:`KINDS`, where in the code, and in words.

    ``where`` is what sets failures apart. ``seconds`` and ``mb`` (growth of the peak of
    resident memory) are the reader's own.
    """

    kind: str
    where: str = ""
    words: str = ""
    recipe: tuple[str, ...] = ()
    byte_count: int = 0
    seconds: float = 0.0
    mb: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For the way between processes."""
        return asdict(self)


class Judge:
    """Makes the inputs of one reader, calls it and judges. ``folder`` is emptied for every input.

    ``limit_mb``: by how much the peak of resident memory may grow.
    """

    def __init__(self, name: str, folder: Path, guard: Guard, limit_mb: float) -> None:
        self.maker = Maker(name)
        self.reader = self.maker.reader
        self.folder, self.guard, self.limit_mb = folder, guard, limit_mb
        self.sound = {seed.origin: self._sound(seed) for seed in self.maker.seeds}

    def judged(self, seed: int, number: int, muted: Sequence[str]) -> Verdict:
        """Make input ``number``, call the reader with it and judge what comes.

        Nothing is done with an input of a sort that is ``muted``.
        """
        made = self.maker.made(seed, number)
        if sort_of(made.recipe) in muted:
            return Verdict(MUTED)
        trees.write(made.tree, self.folder)
        before, began = _reset_peak_mb(), time.monotonic()
        with self._called() as printed, self.guard.on():
            kind, where, words, result = self._answer(made)
        seconds, mb = time.monotonic() - began, peak_mb() - before
        if kind == REFUSED and number < len(self.maker.seeds) and not made.may_be_refused:
            kind, where = WRONG, f"{self.reader.name}: the sound seed {made.origin!r} is refused"
        if kind == RIGHT:
            kind, where, words = self._checked(made, result, printed.out(), number)
        elif kind == REFUSED and not all(map(one_line, printed.both().split("\n"))):
            kind, where = MESSAGE, f"{self.reader.name}: control characters in what is printed"
            words = printed.both()
        if self.guard.found:
            kind, where, words = ESCAPE, *self.guard.found[0]
        elif mb > self.limit_mb:
            kind, where, words = MEMORY, where or "no traceback", f"{mb:.0f} MB; {words}"
        return Verdict(kind, where, words[:_LONGEST], made.recipe, made.byte_count, seconds, mb)

    def _sound(self, seed: Input) -> Any:
        """What the reader makes of an untouched seed; None where it refuses it."""
        trees.write(seed.tree, self.folder)
        with self._called():
            try:
                return self.reader.call(seed.paths(self.folder), seed)
            except Exception:
                return None

    @contextlib.contextmanager
    def _called(self) -> Iterator[_Printed]:
        """The input's folder is the working folder, and what is printed is kept."""
        here = Path.cwd()
        out, err = (
            io.TextIOWrapper(io.BytesIO(), "utf-8", how, newline="")
            for how in ("strict", "backslashreplace")
        )
        os.chdir(self.folder)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                yield _Printed(out, err)
        finally:
            os.chdir(here)

    def _answer(self, made: Input) -> tuple[str, str, str, Any]:
        try:
            return RIGHT, "", "", self.reader.call(made.paths(self.folder), made)
        except Problem as problem:
            fault = _message_fault(problem)
            where = f"{_place(problem)}: {fault}" if fault else ""
            if not one_line(problem.where):
                where = f"{self.reader.name}: control characters in the place"
            return MESSAGE if fault else REFUSED, where, str(problem), None
        except Escape as error:
            return ESCAPE, _place(error), str(error), None
        except OSError as error:
            if error.strerror and error.filename:  # the command line makes one line of it
                return REFUSED, "", str(error), None
            return self._traceback(error)
        except BaseException as error:
            return self._traceback(error)

    def _traceback(self, error: BaseException) -> tuple[str, str, str, Any]:
        where = f"{_place(error)}: {type(error).__name__}"
        words = traceback.format_exception_only(error)[-1].strip()[:300]
        return TRACEBACK, where, words, None

    def _checked(self, made: Input, result: Any, printed: str, number: int) -> tuple[str, str, str]:
        [seed] = [one for one in self.maker.seeds if one.origin == made.origin]
        sound = self.sound[seed.origin]
        if number < len(self.maker.seeds) or sound is None:
            sound = result
        trial = Trial(made, seed, result, sound, printed, self.folder)
        with self._called():
            fault = self.reader.fault(trial)
        if not fault:
            return RIGHT, "", ""
        return WRONG, f"{self.reader.name}: {re.sub(r'[(].*?[)]', '', fault)}", fault


class _Printed:
    """What a reader wrote to its streams."""

    def __init__(self, *streams: io.TextIOWrapper) -> None:
        self.streams = streams

    def out(self) -> str:
        """What went to stdout."""
        return _text(self.streams[0])

    def both(self) -> str:
        """What went to stdout, then what went to stderr."""
        return "".join(map(_text, self.streams))


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("utf-8", "surrogateescape")


def _message_fault(problem: Problem) -> str:
    """Why a refusal is none that a person can act on; "" if it is one."""
    text = str(problem)
    if not one_line(text):
        return "more than one line, or control characters"
    if "Traceback" in text:
        return "a traceback in the message"
    if len(text) > _LONGEST:
        return "a message that nobody reads to its end"
    if "expected" not in text and "could not be made" not in text:
        return "no expectation"
    return "" if problem.where else "no place"


def _place(error: BaseException) -> str:
    """The innermost line of the project that an exception came through."""
    frames = traceback.extract_tb(error.__traceback__)
    return innermost([(frame.filename, frame.lineno or 0, frame.name) for frame in frames][::-1])


def innermost(frames: list[tuple[str, int, str]]) -> str:
    """Of frames, innermost first, the project's first one; else the first one of all."""
    own = [frame for frame in frames if frame[0].startswith(_OWN)]
    if not (own or frames):
        return "no traceback"
    file, line, name = (own or frames)[0]
    return f"{file.removeprefix(f'{PROJECT}/')}:{line} in {name}"


def place_in_dump(dump: str) -> str:
    """The project's innermost line in what faulthandler wrote of the thread that was running."""
    main = dump.rpartition("Current thread")[2] or dump
    return innermost([(file, int(line), name) for file, line, name in _FRAME.findall(main)])


def peak_mb() -> float:
    """The highest resident memory of this process since :func:`_reset_peak_mb`."""
    return _status("VmHWM") / 1024


def _reset_peak_mb() -> float:
    """Forget the peak (proc_pid_clear_refs(5)); returns what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS") / 1024


def _status(name: str, process: int | str = "self") -> int:
    text = Path(f"/proc/{process}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) if found else 0


def resident_mb(process: int) -> float:
    """The resident memory of another process; 0 once it has ended."""
    try:
        return _status("VmRSS", process) / 1024
    except OSError:
        return 0.0


def processor(process: int) -> tuple[str, float]:
    """What another process does (proc_pid_stat(5): R, S, D, ...), and the seconds that it used."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", 0.0
    return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
