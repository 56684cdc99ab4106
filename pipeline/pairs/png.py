"""Pictures on disk: 8-bit grey images, and class ids as indexed PNG.

A mask's palette is the label map's colours, so one file is both the colourised
mask and the class ids. Encoder settings are fixed, because the same pairs must give the same bytes;
run-length encoding (zlib's Z_RLE) was as small as the default on brain slices,
faster, and does not depend on the processor's hash instructions. Where a mask holds
:data:`~datasets_spec.contract.IGNORED`, its palette has that entry too.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_spec.contract import IGNORED, IGNORED_COLOUR, LabelMap, Problem
from pipeline.labels.colours import ids_of_colours
from pipeline.runtime import files
from pipeline.volumes.picture_files import opened

_Z_RLE = 3
_RUN_AGAIN = "Run the stage that writes it again."


def write_image(file: Path, picture: NDArray[np.uint8]) -> str:
    """Write a grey picture (H, W) uint8 as PNG; returns the file's sha256."""
    import cv2  # here and in read_image: masks are written where only Pillow is installed

    settings = [
        cv2.IMWRITE_PNG_COMPRESSION,
        1,
        cv2.IMWRITE_PNG_STRATEGY,
        cv2.IMWRITE_PNG_STRATEGY_RLE,
    ]
    encoded, buffer = cv2.imencode(".png", picture, settings)
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


def read_image(file: Path) -> NDArray[np.uint8]:
    """A grey picture (H, W) uint8. Raises :class:`Problem` if it cannot be read."""
    import cv2

    with opened(file, remedy=_RUN_AGAIN):  # which checks its size before it is decoded
        picture = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise Problem("expected a readable picture, found none", where=file, remedy=_RUN_AGAIN)
    return np.asarray(picture, np.uint8)


def read_mask(file: Path, label_map: LabelMap) -> NDArray[np.uint8]:
    """Class ids (H, W) uint8 of an indexed or RGB mask, IGNORED where nobody annotated.

    Raises :class:`Problem` if the file cannot be read or has a colour that is
    not in the label map, with the count and an example.
    """
    with opened(file, remedy=_RUN_AGAIN) as picture:
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
