"""The rows of :mod:`recipes`: what each changes, and of which other row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml

from model import params
from tests.conftest import PROJECT

DATASET = "msd_hippocampus"
REFERENCE = "full_head_t1w"  # the preset of the reference projects that is for MR
BASE = "preset"
NEVER = 1_000_000
Change = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """``entry``: the dataset's whole entry in params.yaml, without epochs and steps.

    ``against``: the name of the row that it is compared with. ``unfused``: its steps are as many as
    Keras' own batch normalisation would leave time for; what they do is the same.
    """

    name: str
    words: str
    entry: Change
    against: str = ""
    unfused: bool = False


@dataclass(frozen=True)
class _Lever:
    """What a row changes of the one before it, or of the preset."""

    name: str
    words: str
    train: Change = field(default_factory=dict)
    augment: Change = field(default_factory=dict)
    unfused: bool = False
    mirrored: bool = False


_BENT = [
    {
        "Affine": {
            "rotate": [-20, 20],
            "scale": {"x": [0.8, 1.25], "y": [0.8, 1.25]},
            "translate_percent": [-0.08, 0.08],
        }
    },
    {"Elastic": {"sd_px": 12.0, "sigma_px": 48.0}},
    {"RandomGamma": {"gamma_limit": [60, 160]}},
    {"RandomBrightnessContrast": {"brightness_limit": 0.15, "contrast_limit": 0.25}},
]
_VARIANTS = {"variants": dict.fromkeys(("v1", "v2", "v3", "v4"), _BENT)}


_PATH = [
    _Lever(
        "size",
        "the reference projects' settings, but a network of the pictures' own size: 64 px, 4"
        " levels, kernels of 3, batch 32",
        {
            "network": {"image_px": 64, "channels": 1, "base_kernels": 3, "num_layers": 4},
            "batch_pairs": 32,
            "precision": "auto",
        },
        {"mode": "online", "variants": {}},
    ),
    _Lever(
        "rate", "a learning rate of .002, no clipping", {"learning_rate": 0.002, "clipvalue": 0.0}
    ),
    _Lever(
        "loss",
        "Dice + cross-entropy, foreground Dice as monitor",
        {"loss": "dice_ce", "monitor": "val_foreground_dice"},
    ),
    _Lever("cosine", "cosine schedule", {"schedule": "cosine"}),
    _Lever("batch_norm", "batch normalisation", {"network": {"normalization": "batch"}}),
    _Lever("bent", "four bent variants of every pair", {}, {"mode": "offline", **_VARIANTS}),
    _Lever("online", "the same variants, drawn anew each epoch", {}, {"mode": "online"}),
    _Lever("scans", "slices of the kept scans, at the network's size", {"source": "scans"}),
    _Lever("field", "56 pixels of 1 mm", {"network": {"image_px": 56, "field_mm": 56.0}}),
    _Lever("three", "three neighbouring slices instead of one", {"network": {"neighbours": 1}}),
    _Lever("five", "five neighbouring slices", {"network": {"neighbours": 2}}),
]
_LEVERS = [
    _Lever("one_slice", "one slice instead of five", {"network": {"neighbours": 0}}),
    _Lever("none", "no normalisation", {"network": {"normalization": "none"}}),
    _Lever("unfused", "batch normalisation by Keras' own layer", unfused=True),
    _Lever("instance", "instance normalisation", {"network": {"normalization": "instance"}}),
    _Lever("narrow", "half the filters", {"network": {"base_filters": 8}}),
    _Lever("wide", "twice the filters", {"network": {"base_filters": 32}}),
    _Lever("oversampling", "foreground oversampling, .33", {"foreground_oversampling": 0.33}),
    _Lever("bent_steps", "the four bent variants instead of its own", {}, _VARIANTS),
    _Lever(
        "mirrors",
        "half of the pictures mirrored, and mirror images asked (test-time augmentation)",
        {"mirrors": "always"},
        mirrored=True,
    ),
]


def path() -> list[Row]:
    """From the reference projects' recipe to ours, each row on top of the one before.

    Their own network is none of the rows: it sees 512 pixels, and a step of it takes seconds.
    """
    preset = _presets()[DATASET]
    train = asdict(params.presets(PROJECT / "params.yaml")[REFERENCE].train)
    augment: Change = {}
    found: list[Row] = []
    for one in _PATH:
        train, augment = _merged(train, one.train), augment | one.augment
        entry = {"augment": augment, "split": preset["split"], "train": _judged(train)}
        found.append(Row(one.name, one.words, entry, found[-1].name if found else ""))
    return found


def levers() -> list[Row]:
    """The preset, and rows that each change one thing of it."""
    preset = _presets()[DATASET]
    entry = preset | {"train": _judged(preset["train"])}
    found = [Row(BASE, f"the preset `{DATASET}`", entry)]
    for one in _LEVERS:
        augment = entry["augment"] | one.augment
        if one.mirrored:
            flip = {"Flip": {"axis": "horizontal", "p": 0.5}}
            augment["variants"] = {
                name: [flip, *steps] for name, steps in augment["variants"].items()
            }
        train = _merged(entry["train"], one.train)
        changed = entry | {"augment": augment, "train": train}
        found.append(Row(one.name, one.words, changed, BASE, one.unfused))
    return found


def _judged(train: Mapping[str, Any]) -> Change:
    """``train`` without what valid chooses afterwards, all epochs of which are trained."""
    return dict(train) | {
        "early_stopping_patience": NEVER,
        "epoch_change_pictures": 0,
        "postprocess": False,
        "calibrate": "never",
        "mirrors": "never",
    }


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> Change:
    """``old`` with the leaves of ``new``."""
    return {
        key: _merged(old.get(key, {}), new[key])
        if isinstance(new.get(key), dict)
        else new.get(key, old.get(key))
        for key in dict.fromkeys((*old, *new))
    }


def _presets() -> Change:
    found: Change = yaml.safe_load((PROJECT / "params.yaml").read_text("utf-8"))["presets"]
    return found
