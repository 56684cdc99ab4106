"""What the gate needs to know of the pictures in a folder: digest, likeness, colours, faults."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from datasets_spec.contract import Problem
from pipeline import paths
from pipeline.labels import colours as label_colours
from pipeline.pairs import likeness
from pipeline.pairs.manifest import Pair
from pipeline.params.limits import Limits
from pipeline.runtime import executor
from pipeline.runtime.executor import Workers
from pipeline.runtime.shards import File, Part, located
from pipeline.volumes import picture_files

_CHUNK = 64
_FEW = 256
"""Up to this many pictures are read in this process: starting others would take longer."""
Key = tuple[str, str]
"""A split, and a file's name without its suffix."""
Files = Mapping[Key, Sequence[str]]
"""The suffixes of all files of a name."""
_Job = tuple[Key, str, str | None, "Known | None"]  # the suffixes of image and mask


class Known(NamedTuple):
    """What the manifest states of a pair's image and mask: digests and, in a shard, places."""

    image_digest: str
    mask_digest: str
    shard: str
    shard_at: tuple[int, ...]

    @classmethod
    def of(cls, pair: Pair) -> Known:
        """What is known of a pair."""
        return cls(pair.image_digest, pair.mask_digest, pair.shard, pair.shard_at)


@dataclass(frozen=True, slots=True)
class Content:
    """One image with its mask: digest and hash of the image, colours of the mask.

    Of a pair whose bytes are as in the manifest (``unchanged``) only the digest is known.
    """

    digest: str
    likeness: str = ""
    blank: bool = False
    colours: frozenset[int] = frozenset()
    fault: str = ""
    unchanged: bool = False


def read(
    folder: Path,
    images: Files,
    masks: Files,
    known: Mapping[Key, Known],
    workers: Workers,
    limits: Limits,
) -> Iterator[tuple[Key, Content]]:
    """Read every image with its mask, several at a time."""
    jobs: list[_Job] = [
        (key, suffixes[0], masks[key][0] if key in masks else None, known.get(key))
        for key, suffixes in images.items()
    ]
    chunks = [jobs[start : start + _CHUNK] for start in range(0, len(jobs), _CHUNK)]
    few = 1 if len(jobs) <= _FEW else workers
    task = partial(_read_chunk, folder, limits)
    for chunk, found in executor.results(task, chunks, few, f"check {folder}", "batch"):
        yield from zip((key for key, *_ in chunk), found, strict=True)


def _read_chunk(folder: Path, limits: Limits, jobs: Sequence[_Job]) -> list[Content]:
    return [_content(*_files(folder, job), job[-1], limits) for job in jobs]


def _files(folder: Path, job: _Job) -> tuple[File, File | None]:
    (split, stem), image, mask, known = job
    if known is not None and known.shard:
        at, shard = known.shard_at, located(folder, known.shard)
        return Part(shard, stem, *at[:2]), Part(shard, stem, *at[-2:])
    here = folder / split
    own = here / paths.IMAGES / f"{stem}{image}"
    return own, None if mask is None else here / paths.MASKS / f"{stem}{mask}"


def _content(image: File, mask: File | None, known: Known | None, limits: Limits) -> Content:
    image_bytes = picture_files.content_of(image, limits)
    mask_bytes = picture_files.content_of(mask, limits) if mask else b""
    digest = hashlib.sha256(image_bytes).hexdigest()
    digests = (digest, hashlib.sha256(mask_bytes).hexdigest())
    if known is not None and known[:2] == digests:
        return Content(digest, unchanged=True)
    try:
        with picture_files.opened(image, limits, image_bytes):  # which checks its size first
            picture = cv2.imdecode(np.frombuffer(image_bytes, np.uint8), cv2.IMREAD_GRAYSCALE)
    except Problem as problem:
        return Content(digest, fault=f"the image cannot be read: {problem.what}")
    if picture is None:
        return Content(digest, fault="the image cannot be read")
    grey = np.asarray(picture, np.uint8)
    content = Content(digest, likeness.perceptual_hash(grey), bool(grey.min() == grey.max()))
    if mask is None:
        return content
    try:
        with picture_files.opened(mask, limits, mask_bytes) as opened:
            shape = (opened.height, opened.width)
            content = replace(content, colours=_colours(opened))
    except Problem as problem:
        return replace(content, fault=f"the mask cannot be read: {problem.what}")
    if shape != grey.shape:
        content = replace(content, fault=f"the image is {grey.shape}, the mask {shape}")
    return content


def _colours(mask: Image.Image) -> frozenset[int]:
    """The colours that a mask shows, as red * 65536 + green * 256 + blue."""
    if mask.mode == "P" and (palette := mask.getpalette("RGB")) is not None:
        shown = np.flatnonzero(mask.histogram())
        return frozenset(
            label_colours.pack(np.array(palette, np.uint8).reshape(-1, 3)[shown]).tolist()
        )
    rgb = np.asarray(mask.convert("RGB"), np.uint8)
    return frozenset(label_colours.distinct(label_colours.pack(rgb)).tolist())
