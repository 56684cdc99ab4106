"""What can happen to any file: its bytes, its kind and its name.

A mutation takes a random generator, an input and all seeds of its reader, and returns another
input, or None where it does not apply. The formats' own mutations stand in modules of their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.fuzz.trees import Entry, Input, Special

Random = np.random.Generator
Apply = Callable[[Random, Input, Sequence[Input]], Input | None]
NUMBERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**32 - 1)
"""Whole numbers at which readers stumble."""
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e-6, 1e6, 1e30, 3.4e38, float("nan"), float("inf"), -1e38)


@dataclass(frozen=True)
class Mutation:
    """A way to harm an input: ``name`` for reports, ``weight`` for how often it is drawn."""

    name: str
    apply: Apply
    weight: float = 1.0


def pick(rng: Random, choices: Sequence[Any]) -> Any:
    """One of ``choices``, which may be of any kind."""
    return choices[int(rng.integers(len(choices)))]


def target(rng: Random, made: Input, suffixes: tuple[str, ...] = ()) -> str | None:
    """One of the input's regular files, of one of ``suffixes`` where any are given."""
    files = [file for file in made.files() if not suffixes or file.lower().endswith(suffixes)]
    return str(pick(rng, files)) if files else None


def harmed(rng: Random, content: bytes, other: bytes) -> tuple[bytes, str]:
    """``content`` with a random harm done to its bytes, and in words what it is."""
    size = len(content)
    ways = [_flipped, _run, _cut, _longer, _spliced, _without_run, _with_run, _number, _exchanged]
    if size < 16:
        ways = [_longer, _spliced, _with_run]
    way = ways[int(rng.integers(len(ways)))]
    return way(rng, content, other)


def _flipped(rng: Random, content: bytes, _: bytes) -> tuple[bytes, str]:
    changed = bytearray(content)
    bits = rng.integers(len(content) * 8, size=int(pick(rng, (1, 1, 1, 2, 8))))
    for bit in bits:
        changed[int(bit) >> 3] ^= 1 << (int(bit) & 7)
    return bytes(changed), f"bits {sorted(int(bit) for bit in bits)} flipped"


def _run(rng: Random, content: bytes, _: bytes) -> tuple[bytes, str]:
    start = int(rng.integers(len(content)))
    count = min(int(2 ** rng.uniform(0, 10)), len(content) - start)
    value = int(pick(rng, (0, 255, 32, -1)))
    run = rng.bytes(count) if value < 0 else bytes([value]) * count
    words = "random bytes" if value < 0 else f"bytes of {value}"
    return content[:start] + run + content[start + count :], f"{count} {words} at {start}"


def _cut(rng: Random, content: bytes, _: bytes) -> tuple[bytes, str]:
    size = int(pick(rng, (int(rng.integers(len(content))), len(content) - 1, len(content) - 4, 1)))
    return content[:size], f"cut to {size} of {len(content)} bytes"


def _longer(rng: Random, content: bytes, _: bytes) -> tuple[bytes, str]:
    count = int(2 ** rng.uniform(0, 16))
    more = [rng.bytes(count), bytes(count), content][int(rng.integers(3))]
    return content + more, f"{len(more)} bytes appended"


def _spliced(rng: Random, content: bytes, other: bytes) -> tuple[bytes, str]:
    share = rng.random()
    at, of = int(share * len(content)), int(share * len(other))
    return content[:at] + other[of:], f"from byte {at} on another file's from {of} on"


def _without_run(rng: Random, content: bytes, _: bytes) -> tuple[bytes, str]:
    start, count = int(rng.integers(len(content))), int(2 ** rng.uniform(0, 8))
    return content[:start] + content[start + count :], f"{count} bytes left out at {start}"


def _with_run(rng: Random, content: bytes, _: bytes) -> tuple[bytes, str]:
    start, count = int(rng.integers(len(content) + 1)), int(2 ** rng.uniform(0, 8))
    return content[:start] + rng.bytes(count) + content[
        start:
    ], f"{count} bytes inserted at {start}"


def _number(rng: Random, content: bytes, _: bytes) -> tuple[bytes, str]:
    width = int(pick(rng, (1, 2, 4, 8)))
    number = int(pick(rng, NUMBERS)) % 256**width
    order = "little" if rng.random() < 0.5 else "big"
    start = int(rng.integers(max(1, min(len(content), 4096) - width)))
    written = number.to_bytes(width, order)
    words = f"{number} in {width} {order}-endian bytes at {start}"
    return content[:start] + written + content[start + width :], words


def _exchanged(rng: Random, content: bytes, _: bytes) -> tuple[bytes, str]:
    a, b, c = sorted(int(at) for at in rng.integers(len(content) + 1, size=3))
    return content[:a] + content[b:c] + content[a:b] + content[
        c:
    ], f"blocks {a}, {b}, {c} exchanged"


def harm_bytes(rng: Random, made: Input, seeds: Sequence[Input]) -> Input | None:
    """Any harm to the bytes of any file."""
    file = target(rng, made)
    if file is None:
        return None
    other = seeds[int(rng.integers(len(seeds)))]
    donor = target(rng, other)
    changed, words = harmed(rng, made.content(file), other.content(donor) if donor else b"")
    return made.with_entry(file, changed, words)


_KINDS: dict[str, Entry] = {
    "a named pipe": Special("pipe"),
    "a link to /dev/zero": Special("link", "/dev/zero"),
    "a folder": Special("folder"),
    "a link into nothing": Special("link", "nowhere"),
    "a file that nobody may read": Special("locked"),
    "empty": b"",
}


def other_kind(rng: Random, made: Input, _: Sequence[Input]) -> Input | None:
    """A pipe, a device, a folder, a link to nowhere or to itself, or nothing, in a file's place."""
    file = target(rng, made)
    if file is None:
        return None
    names = [*_KINDS, "a link to itself", "missing"]
    kind = str(pick(rng, names))
    if kind == "missing":
        return made.without(file)
    if kind == "a link to itself":
        return made.with_entry(file, Special("link", os.path.basename(file)), kind)  # noqa: PTH119
    return made.with_entry(file, _KINDS[kind], kind)


_NAMES = (
    "{} (1){}",
    "Übung {}{}",
    "{}\nerror: second line{}",
    "{}\t{}",
    "\x1b[31m{}{}",
    "{}\udcff{}",
    "-rf {}{}",
    "{}$(touch escaped){}",
    "%s%n{}{}",
    "<script>{}{}",
    "=HYPERLINK({}){}",
    "{}..{}",
    "." + "{}{}",
    "{}" + "x" * 200 + "{}",
    "{}\u202e{}",
)


def other_name(rng: Random, made: Input, _: Sequence[Input]) -> Input | None:
    """A name with spaces, umlauts, line ends, escape sequences, or of another encoding."""
    file = target(rng, made)
    if file is None:
        return None
    folder, _, name = file.rpartition("/")
    stem, dot, suffix = name.partition(".")
    changed = str(pick(rng, _NAMES)).format(stem, dot + suffix)
    if rng.random() < 0.1:
        changed = stem + (dot + suffix).upper()
    return made.renamed(file, f"{folder}/{changed}" if folder else changed)


def stranger(rng: Random, made: Input, seeds: Sequence[Input]) -> Input | None:
    """One more file beside the others: a copy, another seed's, or something else."""
    file = target(rng, made)
    if file is None:
        return None
    folder = file.rpartition("/")[0]
    other = seeds[int(rng.integers(len(seeds)))]
    donor = target(rng, other)
    contents: list[Entry] = [
        made.content(file),
        other.content(donor) if donor else b"",
        b"some text\n",
        rng.bytes(100),
        Special("pipe"),
        Special("link", "{folder}"),
        Special("link", "/dev/zero"),
    ]
    name = str(pick(rng, ("other", "a.dcm", "zz.png", "000.png", "Thumbs.db", "~$x.nii.gz")))
    path = f"{folder}/{name}" if folder else name
    if path in made.tree:
        return None
    entry = contents[int(rng.integers(len(contents)))]
    words = entry.kind if isinstance(entry, Special) else f"{len(entry)} bytes"
    return made.with_entry(path, entry, f"added, {words}")


def anything() -> tuple[Mutation, ...]:
    """The mutations that fit every reader of files; the last is of their names."""
    return (
        Mutation("bytes", harm_bytes, 4.0),
        Mutation("kind", other_kind, 0.4),
        Mutation("name", other_name, 0.4),
    )
