"""What every test file shares: a workplace of its own, and small label maps and volumes."""

from __future__ import annotations

import os
import re
import signal
import struct
import zlib

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from datasets_spec.contract import Label, LabelMap, Problem
from pipeline.runtime import messages

FIXTURES = Path(__file__).parent / "fixtures"
PROJECT = Path(__file__).parent.parent
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # as a shell's background job has it; what a test starts would inherit it, deaf to its Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW_FILE = re.compile(r"^pytestmark = (\[\s*)?pytest\.mark\.slow\b", re.MULTILINE)
Refused = Callable[[Callable[[], Any]], Problem]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file of slow tests alone where none is wanted: TensorFlow by itself takes seconds.

    Such a file has :data:`SLOW_FILE` at its top, and is asked for by ``-m "not slow"``.
    """
    if config.option.markexpr != "not slow" or not collection_path.match("test_*.py"):
        return None
    return SLOW_FILE.search(collection_path.read_text("utf-8")) is not None or None


def png_of(width: int, height: int) -> bytes:
    """A grey PNG of these sides in its header, with next to no pixels behind it."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.fixture(autouse=True)
def on_terminal() -> Iterator[None]:
    """Messages appear as on a command line, so that ``capsys`` has them."""
    with messages.on_terminal():
        yield


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; every path of the pipeline is relative to it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def label_map() -> LabelMap:
    """Background and two classes."""
    return LabelMap(
        (
            Label(0, "background", (0, 0, 0), "everything else"),
            Label(1, "core", (230, 159, 0), "the inner part"),
            Label(2, "rim", (86, 180, 233), "the outer part"),
        )
    )


@pytest.fixture
def refused() -> Refused:
    """Calls something that must be refused; returns the :class:`Problem`, which is one line."""

    def call(action: Callable[[], Any]) -> Problem:
        with pytest.raises(Problem) as caught:
            action()
        assert "\n" not in str(caught.value)
        return caught.value

    return call
