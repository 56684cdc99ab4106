"""Test-time augmentation: the mean of what a network answers to a picture and its mirror images.

Only mirror images of a kind that training saw are asked: a network that has seen every liver on
one side is right to be wrong about the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain, combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Pictures (B, px, px, channels) uint8 -> probabilities (B, px, px, classes) float32."""

MIRRORS = ("auto", "always", "never")
"""When mirror images are asked too: where they gained on valid, where training saw them, never."""

_OF_STEP = {"HorizontalFlip": "horizontal", "VerticalFlip": "vertical"}
_AXIS = {"horizontal": 2, "vertical": 1}


def seen(augment: Mapping[str, Any]) -> tuple[str, ...]:
    """The axes along which the section ``augment`` of a training mirrors pictures.

    >>> seen({"variants": {"hflipped": [{"HorizontalFlip": None}]}})
    ('horizontal',)
    """
    axes: set[Any] = {
        (arguments or {}).get("axis") if name == "Flip" else _OF_STEP.get(name.split(".")[-1])
        for steps in augment["variants"].values()
        for step in steps
        for name, arguments in step.items()
    }
    return tuple(sorted(axes & set(_AXIS)))


def asked(run: Run, pictures: NDArray[np.uint8], axes: tuple[str, ...]) -> NDArray[np.float32]:
    """The mean of ``run`` over all mirror images along ``axes``, each mirrored back."""
    subsets = chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1))
    total: NDArray[np.float32] | None = None
    for subset in subsets:
        turned = tuple(_AXIS[axis] for axis in subset)
        answer = np.flip(run(np.ascontiguousarray(np.flip(pictures, turned))), turned)
        total = np.array(answer) if total is None else total + answer
    assert total is not None
    return total / np.float32(2 ** len(axes))
