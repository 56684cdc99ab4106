"""The network that a model file states, typed and within bounds before anything is built of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from model.params import Network
from pipeline.params.values import OutOfRange, expect, shown
from pipeline.runtime import modelfile

_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
}
_GONE: dict[str, tuple[object, ...]] = {
    "block": ("plain",),
    "deep_supervision": (False, True),  # of the training alone
    "input_normalization": ("none",),
}
"""Parameters that earlier models state, with the values of which a network is the same today."""
_MOST_PX, _MOST_CLASSES = 4096, 256
_MOST_BYTES = 2**32  # of what the finest level makes of one picture; the presets take 16 MB
_MOST_ANSWER = 2**31  # bytes of the probabilities of a picture that is larger than its parts


def network(provenance: Mapping[str, Any], file: Path) -> tuple[Network, int]:
    """The network of a model's checked provenance, and its number of classes.

    Raises :class:`Problem` for a value of another type or out of range, and for a network that
    would take more memory than the file's size accounts for.
    """
    try:
        stated = _network(provenance["train"]["network"])
        classes = len(provenance["labels"])
        expect(2 <= classes <= _MOST_CLASSES, "labels", f"2 to {_MOST_CLASSES} classes", classes)
        widest = _MOST_ANSWER // (4 * stated.picture_px**2) if stated.picture_px else classes
        expect(classes <= widest, "picture_px", f"at most {widest} classes at this size", classes)
        least, there = _least_bytes(stated), file.stat().st_size
        expect(least <= there, "its weights", f"a file of at least {least} bytes", there)
    except (OutOfRange, TypeError) as error:
        what = ", ".join(map(str, error.args))
        raise modelfile.unfit(
            file, f"expected a FlexUNet in its {modelfile.PROVENANCE}, got another: {what}"
        ) from None
    return stated, classes


def _least_bytes(network: Network) -> int:
    """Of the largest of its kernels, that of the bridge, which has most of all weights."""
    level = network.num_layers - 1
    side = max(network.base_kernels - 2 * level, 3)
    return int(4 * side**2 * (network.base_filters * 2**level) ** 2)


def _network(everything: Mapping[str, Any]) -> Network:
    stated = {key: one for key, one in everything.items() if one not in _GONE.get(key, ())}
    for one in fields(Network):
        value = stated.get(one.name, one.default)
        kind = str(one.type)
        if not isinstance(value, _KINDS[kind]) or isinstance(value, bool) != (kind == "bool"):
            raise TypeError(f"{one.name} {shown(value)}")
    strange = sorted(stated.keys() - {one.name for one in fields(Network)})
    if strange:
        raise TypeError(f"the parameter {shown(strange[0])} of {shown(stated[strange[0]])}")
    made = Network(**stated)
    expect(made.image_px <= _MOST_PX, "image_px", f"at most {_MOST_PX}", made.image_px)
    widest = _MOST_BYTES // (4 * made.image_px**2)
    expect(made.base_filters <= widest, "base_filters", f"at most {widest}", made.base_filters)
    return made
