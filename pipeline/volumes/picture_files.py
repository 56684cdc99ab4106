"""The one door for pictures: files are judged by their headers before they are decoded."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from datasets_spec.contract import Problem
from pipeline.params.limits import Limits
from pipeline.runtime import files
from pipeline.runtime.shards import File, Part
from pipeline.volumes.limits import require_pixels

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
"""What is opened as a picture, by its content and whatever its name: of the many kinds that
Pillow knows, EPS would start Ghostscript."""
_PIXEL_BYTES = 8  # four channels of 16 bits: no picture within the limits has a larger file


# The limits of the parameter file decide: Pillow's own would stand in the way of higher ones.
Image.MAX_IMAGE_PIXELS = None


@contextmanager
def opened(
    file: File,
    limits: Limits = Limits(),
    content: bytes | None = None,
    remedy: str = "It may be damaged; download or unpack it again.",
) -> Iterator[Image.Image]:
    """The picture in ``file`` (or in its ``content``): its header is read and judged, and its
    pixels are decoded where they are asked for. No other code opens a picture with Pillow.

    Raises :class:`Problem` for a file that is missing, no regular one, none of :data:`FORMATS`
    or larger than ``limits`` allow, and if it cannot be decoded within the block.
    """
    try:
        source: Path | io.BytesIO
        if content is None and isinstance(file, Path):
            source = files.require_regular(file)
        else:
            source = io.BytesIO(content_of(file, limits) if content is None else content)
        with Image.open(source, formats=FORMATS) as picture:
            require_pixels((picture.height, picture.width), limits, file)
            yield picture
    except Problem:
        raise
    except FileNotFoundError:
        raise Problem("expected a picture, found none", where=file) from None
    except UnidentifiedImageError:
        raise Problem(
            f"expected a picture ({', '.join(FORMATS)}), got a file that is none of these",
            where=file,
            remedy=remedy,
        ) from None
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        fault = str(error) or type(error).__name__
        raise Problem(
            f"expected a readable picture, got {fault}", where=file, remedy=remedy
        ) from None


def content_of(file: File, limits: Limits = Limits()) -> bytes:
    """The bytes of a picture's file.

    Raises :class:`Problem` for what is missing, no regular file, or larger than any picture within
    ``limits``.
    """
    try:
        there = file.size if isinstance(file, Part) else files.require_regular(file).stat().st_size
    except FileNotFoundError:
        raise Problem("expected a picture, found none", where=file) from None
    most = limits.pixels * _PIXEL_BYTES
    if there > most:
        raise Problem(
            f"expected at most {limits.pixels:,} pixels, got a picture of {there:,} bytes",
            where=file,
            remedy="If it is right, raise limits.pixels in the parameter file.",
        )
    return file.read_bytes()
