"""What no reader may do: start a process, open a connection, or change anything outside.

An audit hook (PEP 578) sees what Python code does, libraries included, stops it before it
happens, and remembers it, since a library may swallow the exception.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fuzz.archives import OUTSIDE

_PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn")
_CONNECTIONS = ("socket.connect", "socket.bind", "socket.sendto")
_CHANGES = {  # event -> indices of the paths in its arguments
    "os.mkdir": (0,), "os.remove": (0,), "os.rmdir": (0,), "os.rename": (0, 1), "os.link": (0, 1),
    "os.symlink": (1,), "os.chmod": (0,), "os.chown": (0,), "os.truncate": (0,), "os.utime": (0,),
}  # fmt: skip
_FOLLOWED = ("open", "os.chmod", "os.chown", "os.truncate", "os.utime")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Escape(BaseException):
    """A reader tried to do what none may do."""


class Guard:
    """Watches this process while it is :meth:`on`; ``found`` are (where, what) since then."""

    def __init__(self, *allowed: Path) -> None:
        self.allowed = tuple(f"{folder.resolve()}{os.sep}" for folder in allowed)
        self.found: list[tuple[str, str]] = []
        self._watching = False
        sys.addaudithook(self._hook)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Watch until the block ends; children that live then are looked for too."""
        self.found.clear()
        before = _children()
        self._watching = True
        try:
            yield
        finally:
            self._watching = False
            if _children() - before:
                self.found.append(("a living child process", "started and not ended"))
            if Path(OUTSIDE).exists():
                self.found.append(("a file outside", OUTSIDE))

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self._watching:
            return
        self._watching = False
        try:
            words = self._forbidden(event, arguments)
            if words:
                self.found.append((f"{_caller()}: {event}", words))
                raise Escape(words)
        finally:
            self._watching = True

    def _forbidden(self, event: str, arguments: tuple[object, ...]) -> str:
        if event in _PROCESSES or event in _CONNECTIONS:
            return f"{event}: {arguments[:2]!r:.200}"
        if event == "open":
            flags = arguments[2]
            if not isinstance(flags, int) or not flags & _WRITES:
                return ""
            return self._outside(event, arguments, (0,))
        return self._outside(event, arguments, _CHANGES.get(event, ()))

    def _outside(self, event: str, arguments: tuple[object, ...], places: tuple[int, ...]) -> str:
        for place in places:
            path = arguments[place]
            if isinstance(path, int) or path is None:
                continue
            name = os.fsdecode(path)
            number = arguments[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else -1
            if isinstance(number, int) and number >= 0 and not os.path.isabs(name):  # noqa: PTH117
                name = f"{os.readlink(f'/proc/self/fd/{number}')}/{name}"  # noqa: PTH115
            folder, last = os.path.split(os.path.abspath(name))  # noqa: PTH100
            real = f"{os.path.realpath(folder)}{os.sep}{last}"
            if event in _FOLLOWED:
                real = os.path.realpath(real)
            if not f"{real}{os.sep}".startswith(self.allowed) and real != "/dev/null":
                return f"{event} outside: {real!r:.200}"
        return ""


def _caller() -> str:
    from tests.fuzz.judge import innermost

    frames = traceback.extract_stack()[:-3]
    return innermost([(one.filename, one.lineno or 0, one.name) for one in frames][::-1])


def _children() -> set[str]:
    """The process ids of the children of every thread."""
    found: set[str] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        try:
            found |= set(file.read_text().split())
        except OSError:  # the thread has ended
            continue
    return found
