"""Pictures on disk: 8-bit images, grey or of several channels, and class ids as indexed PNG.

Two or three channels are one RGB file, a missing third being 0. Of more, each three are a file of
the same name, in the folders ``images``, ``images_2``, ``images_3``, ...

A mask's palette is the label map's colours, so one file is both the colourised
mask and the class ids. Encoder settings are fixed, because the same pairs must give the same bytes;
run-length encoding (zlib's Z_RLE) was as small as the default on brain slices,
faster, and does not depend on the processor's hash instructions. Where a mask holds
:data:`~datasets_spec.contract.IGNORED`, its palette has that entry too.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_spec.contract import IGNORED, IGNORED_COLOUR, LabelMap, Problem
from pipeline import paths
from pipeline.labels.colours import ids_of_colours
from pipeline.runtime import files
from pipeline.runtime.shards import File
from pipeline.volumes.picture_files import content_of, opened

_Z_RLE = 3
_RUN_AGAIN = "Run the stage that writes it again."


def write_images(file: Path, picture: NDArray[np.uint8]) -> list[str]:
    """Write a picture, (H, W) or (H, W, channels) uint8; returns the sha256 of each file."""
    if picture.ndim == 2:
        return [write_image(file, picture)]
    digests = []
    for number, name in enumerate(paths.picture_files(file, picture.shape[2])):
        some = picture[..., number * paths.CHANNELS_IN_FILE : (number + 1) * paths.CHANNELS_IN_FILE]
        rgb = np.zeros((*picture.shape[:2], paths.CHANNELS_IN_FILE), np.uint8)
        rgb[..., : some.shape[2]] = some
        digests.append(write_image(name, rgb))
    return digests


def write_image(file: Path, picture: NDArray[np.uint8]) -> str:
    """Write a grey (H, W) or RGB (H, W, 3) picture uint8 as PNG; returns the file's sha256."""
    import cv2  # here and in read_image: masks are written where only Pillow is installed

    settings = [
        cv2.IMWRITE_PNG_COMPRESSION,
        1,
        cv2.IMWRITE_PNG_STRATEGY,
        cv2.IMWRITE_PNG_STRATEGY_RLE,
    ]
    as_cv2_has_it = picture if picture.ndim == 2 else picture[..., ::-1]
    encoded, buffer = cv2.imencode(".png", as_cv2_has_it, settings)
    assert encoded
    return _put(file, buffer.tobytes())


def write_mask(file: Path, ids: NDArray[np.uint8], label_map: LabelMap) -> str:
    """Write class ids (H, W) uint8, IGNORED among them, as indexed PNG; returns its sha256.

    Raises :class:`Problem` for an id that the label map does not have.
    """
    colours = [label.colour for label in label_map]
    known = ids
    if partly := int(ids.max(initial=0)) == IGNORED:
        known = ids[ids != IGNORED]
        colours += [(0, 0, 0)] * (IGNORED - len(colours)) + [IGNORED_COLOUR]
    highest = int(known.max(initial=0))
    if highest >= len(label_map):
        raise Problem(
            f"expected class ids 0 to {len(label_map) - 1}, got {highest} in"
            f" {int((known >= len(label_map)).sum())} pixels",
            where=file,
        )
    picture = Image.frombytes(
        "P", (ids.shape[1], ids.shape[0]), np.ascontiguousarray(ids).tobytes()
    )
    picture.putpalette([channel for colour in colours for channel in colour])
    bits = 8 if partly else next(bits for bits in (1, 2, 4, 8) if len(label_map) <= 2**bits)
    buffer = io.BytesIO()
    picture.save(buffer, "png", bits=bits, compress_level=1, compress_type=_Z_RLE)
    return _put(file, buffer.getvalue())


def read_image(file: Path, channels: int = 1) -> NDArray[np.uint8]:
    """A picture (H, W) uint8 or, of several ``channels`` in RGB files, (H, W, channels).

    One channel is grey whatever is in the file, and a grey file is whatever is asked for. Raises
    :class:`Problem` if a file cannot be read.
    """
    return of_files(paths.picture_files(file, channels), channels)


def of_files(parts: Sequence[File], channels: int) -> NDArray[np.uint8]:
    """As :func:`read_image`, of the files that the picture consists of."""
    first = _read(parts[0], in_colour=channels > 1)
    if first.ndim == 2:
        return first
    others = [_read(one, in_colour=True) for one in parts[1:]]
    for one, other in zip(parts[1:], others, strict=True):
        if other.shape != first.shape:
            raise Problem(
                f"expected the shape of the picture's first file, {first.shape}, got {other.shape}",
                where=one,
                remedy=_RUN_AGAIN,
            )
    return np.ascontiguousarray(np.concatenate([first, *others], axis=2)[..., :channels])


def read_shown(file: File) -> NDArray[np.uint8]:
    """What people see of the picture in ``file``, (H, W): see :func:`one_channel`."""
    return one_channel(_read(file, in_colour=True))


def one_channel(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What people see of a picture, (H, W): the first of its channels that shows anything."""
    if picture.ndim == 2:
        return picture
    shows = picture.any(axis=(0, 1))
    return np.ascontiguousarray(picture[..., int(shows.argmax())])


def _read(file: File, in_colour: bool) -> NDArray[np.uint8]:
    """A file as grey (H, W) or, where it is RGB and so wanted, (H, W, 3)."""
    import cv2

    way = cv2.IMREAD_UNCHANGED if in_colour else cv2.IMREAD_GRAYSCALE
    content = content_of(file)
    with opened(file, content=content, remedy=_RUN_AGAIN):  # which checks its size first
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), way)
    if picture is None:
        raise Problem("expected a readable picture, found none", where=file, remedy=_RUN_AGAIN)
    decoded = np.asarray(picture, np.uint8)
    return decoded if decoded.ndim == 2 else decoded[..., 2::-1]


def read_mask(file: File, label_map: LabelMap) -> NDArray[np.uint8]:
    """Class ids (H, W) uint8 of an indexed or RGB mask, IGNORED where nobody annotated.

    Raises :class:`Problem` if the file cannot be read or has a colour that is
    not in the label map, with the count and an example.
    """
    with opened(file, content=content_of(file), remedy=_RUN_AGAIN) as picture:
        palette = picture.getpalette("RGB") if picture.mode == "P" else None
        wanted = [channel for label in label_map for channel in label.colour]
        if palette is not None and palette[: len(wanted)] == wanted:
            ids = np.asarray(picture, np.uint8)
            highest = int(ids.max(initial=0))
            if highest == IGNORED and palette[3 * IGNORED :] == [*IGNORED_COLOUR]:
                highest = int(ids[ids != IGNORED].max(initial=0))
            if highest < len(label_map):
                return ids
        rgb = np.asarray(picture.convert("RGB"), np.uint8)
    return ids_of_colours(rgb, label_map, file)


def _put(file: Path, content: bytes) -> str:
    """Write ``file`` completely or not at all, as a new file: the old one may have hard links."""
    with files.replacing(file, durable=False) as unfinished:
        unfinished.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
