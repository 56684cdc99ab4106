"""What convert keeps of a case, as a folder to read from: its own, or one unpacked from a shard."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from pathlib import Path

from pipeline.pairs.manifest import Pair
from pipeline.runtime import scratch, shards
from pipeline.runtime.shards import Part


class CaseFolder:
    """The folder that ``truth`` and ``scan`` of a case's pairs are relative to.

    Of a case in a shard it is unpacked in a scratch folder, which is there as long as this object.
    Raises :class:`Problem` if the shard is not there.
    """

    def __init__(self, converted: Path, pair: Pair) -> None:
        self.path = converted
        if not pair.case_shard:
            return
        until = ExitStack()
        weakref.finalize(self, until.close)
        here = until.enter_context(scratch.folder())
        self.path = here / converted.name  # by which messages name the dataset
        shards.unpack(part(converted, pair), self.path)


def part(converted: Path, pair: Pair) -> Part:
    """The files that are kept of a pair's case, as a part of their shard."""
    offset, size = pair.case_at
    return Part(shards.located(converted, pair.case_shard), pair.case, offset, size)
