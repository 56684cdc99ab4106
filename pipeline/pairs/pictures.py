"""The pictures of a pair, wherever its files lie: on their own, or in a shard."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import LabelMap
from pipeline.pairs import png
from pipeline.pairs.manifest import Pair
from pipeline.runtime.shards import File, Part, located


def files(folder: Path, pair: Pair) -> list[File]:
    """Every file of a pair, those of the image first and the mask last.

    ``folder`` is that of its manifest; once a pair has a split, its own files lie below that.
    """
    names = [name for name, _ in pair.files]
    if not pair.shard:
        return [folder / pair.split / name for name in names]
    shard, places = (
        located(folder, pair.shard),
        zip(pair.shard_at[::2], pair.shard_at[1::2], strict=True),
    )
    return [Part(shard, name, *place) for name, place in zip(names, places, strict=True)]


def image(folder: Path, pair: Pair) -> NDArray[np.uint8]:
    """The image (H, W) uint8, or (H, W, channels) of a pair that names several.

    Raises :class:`Problem` if it cannot be read; so do the others.
    """
    return png.of_files(files(folder, pair)[:-1], pair.depth)


def shown(folder: Path, pair: Pair) -> NDArray[np.uint8]:
    """What people see of the image, (H, W): see :func:`pipeline.pairs.png.one_channel`."""
    return png.one_channel(image(folder, pair))


def mask(folder: Path, pair: Pair, label_map: LabelMap) -> NDArray[np.uint8]:
    """The class ids (H, W) uint8, IGNORED where nobody annotated."""
    return png.read_mask(files(folder, pair)[-1], label_map)


def place(folder: Path, pair: Pair, target: Path) -> None:
    """Put every file of a pair below ``target`` by its name: linked, copied or out of its shard."""
    for (name, _), file in zip(pair.files, files(folder, pair), strict=True):
        put(file, target / name)


def put(file: File, target: Path) -> None:
    """Put one file at ``target``: linked, copied or out of its shard."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(file, Part):
        target.write_bytes(file.read_bytes())
    else:
        link(file, target)


def link(source: Path, target: Path) -> None:
    """Let a file have a second name; a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without them
        shutil.copyfile(source, target)
