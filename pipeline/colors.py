"""Pictures on disk: 8-bit grey images, and class ids as indexed PNG.

A mask's palette is the label map's colours, so one file is both the colourised
mask and the class ids. Encoder settings are fixed because bytes are a promise;
run-length encoding (zlib's Z_RLE) was as small as the default on brain slices,
faster, and does not depend on the processor's hash instructions.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_spec.contract import LabelMap, Problem
from pipeline import files

_Z_RLE = 3
_IMAGE_SETTINGS = [
    cv2.IMWRITE_PNG_COMPRESSION,
    1,
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_RLE,
]
_READ_AGAIN = "Run the stage that writes it again."


def write_image(file: Path, picture: NDArray[np.uint8]) -> str:
    """Write a grey picture (H, W) uint8 as PNG; returns the file's sha256."""
    encoded, buffer = cv2.imencode(".png", picture, _IMAGE_SETTINGS)
    assert encoded
    return _put(file, buffer.tobytes())


def write_mask(file: Path, ids: NDArray[np.uint8], label_map: LabelMap) -> str:
    """Write class ids (H, W) uint8 as indexed PNG; returns the file's sha256.

    Raises :class:`Problem` for an id that the label map does not have.
    """
    highest = int(ids.max(initial=0))
    if highest >= len(label_map):
        raise Problem(
            f"expected class ids 0 to {len(label_map) - 1}, got {highest} in"
            f" {int((ids >= len(label_map)).sum())} pixels",
            where=file,
        )
    picture = Image.frombytes(
        "P", (ids.shape[1], ids.shape[0]), np.ascontiguousarray(ids).tobytes()
    )
    picture.putpalette([channel for label in label_map for channel in label.colour])
    bits = next(bits for bits in (1, 2, 4, 8) if len(label_map) <= 2**bits)
    buffer = io.BytesIO()
    picture.save(buffer, "png", bits=bits, compress_level=1, compress_type=_Z_RLE)
    return _put(file, buffer.getvalue())


def read_image(file: Path) -> NDArray[np.uint8]:
    """A grey picture (H, W) uint8. Raises :class:`Problem` if it cannot be read."""
    picture = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise Problem("expected a readable picture, found none", where=file, remedy=_READ_AGAIN)
    return np.asarray(picture, np.uint8)


def read_mask(file: Path, label_map: LabelMap) -> NDArray[np.uint8]:
    """Class ids (H, W) uint8 of an indexed or RGB mask.

    Raises :class:`Problem` if the file cannot be read or has a colour that is
    not in the label map, with the count and an example.
    """
    try:
        with Image.open(file) as opened:
            picture = opened.copy()
    except (OSError, SyntaxError, ValueError) as error:
        raise Problem(
            f"expected a readable mask, got {error}", where=file, remedy=_READ_AGAIN
        ) from None
    palette = picture.getpalette("RGB") if picture.mode == "P" else None
    wanted = [channel for label in label_map for channel in label.colour]
    if palette is not None and palette[: len(wanted)] == wanted:
        ids = np.asarray(picture, np.uint8)
        if int(ids.max(initial=0)) < len(label_map):
            return ids
    return ids_of_colours(np.asarray(picture.convert("RGB"), np.uint8), label_map, file)


def ids_of_colours(rgb: NDArray[np.uint8], label_map: LabelMap, where: object) -> NDArray[np.uint8]:
    """Colours (H, W, 3) uint8 -> class ids (H, W) uint8, exactly.

    Raises :class:`Problem` for a colour of no class, with the count and an example.
    """
    packed = pack(rgb)
    wanted = {int(pack(np.array(label.colour))): label.id for label in label_map}
    colours, inverse = np.unique(packed, return_inverse=True)
    known = np.isin(colours, list(wanted))
    stray = ~known[inverse].reshape(packed.shape)
    if stray.any():
        row, col = np.argwhere(stray)[0]
        raise Problem(
            f"expected the {len(wanted)} colours of the label map, got {int(stray.sum())} pixels"
            f" of {int((~known).sum())} other colours, such as {tuple(rgb[row, col].tolist())} at"
            f" row {row}, column {col}",
            where=where,
        )
    lookup = np.array([wanted[int(colour)] for colour in colours], np.uint8)
    return lookup[inverse].reshape(packed.shape)


def colourise(ids: NDArray[np.uint8], label_map: LabelMap) -> NDArray[np.uint8]:
    """Class ids (H, W) uint8 -> RGB (H, W, 3) uint8."""
    palette = np.array([label.colour for label in label_map], np.uint8)
    return palette[ids]


def pack(rgb: NDArray[Any]) -> NDArray[np.uint32]:
    """Colours (..., 3) uint8 -> red * 65536 + green * 256 + blue."""
    channels = rgb.astype(np.uint32)
    packed: NDArray[np.uint32] = (
        channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]
    ).astype(np.uint32)
    return packed


def _put(file: Path, content: bytes) -> str:
    """Write a new file at ``file`` at once or not at all; never into a linked one."""
    with files.replacing(file, durable=False) as unfinished:
        unfinished.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
