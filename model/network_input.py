"""Pictures and class ids at the network's size: what it is shown while it learns and afterwards.

NumPy alone, since a trained network is used where nothing else is installed. Pictures that shrink
have the very bytes of OpenCV's INTER_AREA.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Problem
from model.params import Network

_LEAST_SHARE = 1e-3  # of a pixel's side: what is covered less has no weight, as in OpenCV


def picture_at(image: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """A picture (H, H) at (px, px): area averaging when it shrinks, linear when it grows.

    Of several channels, (H, H, channels), each by itself.
    """
    if len(image) == px:
        return image
    if image.ndim == 3:
        every = [picture_at(np.ascontiguousarray(one), px) for one in image.transpose(2, 0, 1)]
        return np.stack(every, axis=-1)
    if len(image) % px == 0:
        return _mean_of_blocks(image, len(image) // px)
    indices, weights = _covered(len(image), px) if px < len(image) else _beside(len(image), px)
    columns = _weighted(image, 1, indices, weights[:, None, :])
    return _rounded(_weighted(columns, 0, indices, weights[:, :, None]))


def labels_at(ids: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """Class ids (H, H) at (px, px): the id under each pixel's centre."""
    index = ((np.arange(px) + 0.5) * len(ids) / px).astype(np.intp)
    return ids[np.ix_(index, index)]


def model_input(pictures: Sequence[NDArray[np.uint8]], network: Network) -> NDArray[np.uint8]:
    """Square pictures of any size -> (B, px, px, inputs) uint8, px as ``whole_px``.

    They are grey (H, H), or (H, H, channels), of a network with neighbours those of all slices.
    """
    return stacked([picture_at(picture, network.whole_px) for picture in pictures], network)


def stacked(pictures: Sequence[NDArray[np.uint8]], network: Network) -> NDArray[np.uint8]:
    """Pictures or parts of one size (px, px) -> (B, px, px, inputs) uint8.

    Grey slices (px, px, 2 * neighbours + 1) are repeated for networks of several channels, and so
    is a grey picture (px, px): its own neighbour. Raises :class:`Problem` for pictures of more or
    fewer channels than the network sees.
    """
    every = np.stack(pictures)
    if every.ndim == 3:
        return np.repeat(every[..., None], network.inputs, axis=-1)
    slices = 2 * network.neighbours + 1
    if every.shape[-1] == slices:
        return np.repeat(every, network.channels, axis=-1)
    if every.shape[-1] != network.inputs:
        raise Problem(
            f"expected pictures of {network.inputs} channels, which the network sees, got"
            f" {every.shape[-1]}"
        )
    return every


def starts(whole: int, px: int, overlap: float = 0.0) -> list[int]:
    """Where parts of ``px`` pixels begin that cover ``whole`` pixels, evenly spread.

    The first begins and the last ends with the whole. Neighbours share at least ``overlap`` of a
    part, and no fewer parts would do.

    >>> starts(512, 128), starts(300, 128), starts(256, 128, 0.5)
    ([0, 128, 256, 384], [0, 86, 172], [0, 64, 128])
    """
    room, step = whole - px, max(1, int(px * (1 - overlap)))
    last = -(-room // step)
    return [index * room // last for index in range(last + 1)] if last else [0]


def _mean_of_blocks(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The mean of every block of ``side`` x ``side``, a half rounded to even; of 2 x 2, up."""
    whole = np.uint16 if 255 * side**2 < 2**16 else np.uint32
    rows: NDArray[Any] = image[::side].astype(whole)
    for row in range(1, side):
        rows += image[row::side]
    sums: NDArray[Any] = rows[:, ::side].copy()
    for column in range(1, side):
        sums += rows[:, column::side]
    if side == 2:
        sums = (sums + 2) >> 2
        return sums.astype(np.uint8)
    return _rounded(sums.astype(np.float32) * np.float32(1 / side**2))


def _weighted(
    array: NDArray[Any],
    axis: int,
    indices: NDArray[np.intp],
    weights: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The sum over taps of the rows (or columns) at ``indices`` (taps, px), each by its weight."""
    total: NDArray[np.float32] = array.take(indices[0], axis=axis) * weights[0]
    for index, weight in zip(indices[1:], weights[1:], strict=True):
        total += array.take(index, axis=axis) * weight
    return total


@lru_cache(maxsize=16)
def _covered(n: int, px: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Which of ``n`` pixels each of ``px`` larger ones covers, and which share of it they are.

    Both are (taps, px), and the weights of a pixel add up to 1.
    """
    start = np.arange(px) * (n / px)
    side = np.minimum(n / px, n - start)
    stop = start + n / px
    indices = np.floor(start).astype(np.intp) + np.arange(int(np.ceil(n / px)) + 1)[:, None]
    covered = np.minimum(stop, indices + 1) - np.maximum(start, indices)
    covered[covered <= _LEAST_SHARE] = 0
    return np.minimum(indices, n - 1), (covered / side).astype(np.float32)


@lru_cache(maxsize=16)
def _beside(n: int, px: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Between which two of ``n`` pixels the centre of each of ``px`` smaller ones lies; weights."""
    place = np.clip((np.arange(px) + 0.5) * n / px - 0.5, 0, n - 1)
    lower = np.floor(place).astype(np.intp)
    share = place - lower
    indices = np.stack([lower, np.minimum(lower + 1, n - 1)])
    return indices, np.stack([1 - share, share]).astype(np.float32)


def _rounded(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(values).astype(np.uint8)
