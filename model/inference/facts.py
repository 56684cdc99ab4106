"""What a model file states of itself, typed and checked: all that a prediction takes.

The file may come from anyone, so everything is checked before it is used
(:mod:`pipeline.runtime.modelfile` reads it; here it gets its types).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from datasets_spec.contract import PLANES, Label, LabelMap, Window, is_slug
from model.inference import familiarity, mirrors, stated
from model.inference.rules import Rule
from model.inference.structure import CORRECTED
from model.inference.temperature import NONE, Temperatures
from model.params import SOURCES, Network
from pipeline.pairs.channels import Channel
from pipeline.params.convert import Convert
from pipeline.params.values import OutOfRange, shown
from pipeline.runtime import modelfile
from pipeline.structure.label_rules import LabelRule

LEAST_PATIENTS = 5
"""Of valid, to decide anything by what they gain."""
T = TypeVar("T")
NONSENSE = (ArithmeticError, AttributeError, LookupError, OutOfRange, TypeError, ValueError)
"""What a file of nonsense raises where it is given its types."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What valid decided, and what it gained and cost there.

    ``gain``: in mean foreground Dice, with its 95 % interval over ``patients``; ``cost``: how many
    times the processor's time.
    """

    kept: bool
    gain: float = math.nan
    low: float = math.nan
    high: float = math.nan
    patients: int = 0
    cost: float = math.nan

    @property
    def in_words(self) -> str:
        """Gain and cost, for people."""
        if not self.patients:
            return "were not measured on valid"
        enough = self.patients >= LEAST_PATIENTS
        few = "" if enough else f" (too few to decide: {LEAST_PATIENTS} are needed)"
        return (
            f"gained {self.gain:+.4f} Dice [{self.low:+.4f}, {self.high:+.4f}] on {self.patients}"
            f" patients of valid{few}, at {self.cost:.1f} times the computation"
        )


@dataclass(frozen=True)
class Mirrors(Measured):
    """Whether a picture's mirror images are asked too; ``axes``: along which training saw them."""

    axes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What they gained and cost."""
        return f"mirror images ({', '.join(self.axes)}) {self.in_words}"


@dataclass(frozen=True, kw_only=True)
class Tiles(Measured):
    """Whether parts of a picture overlap, against parts edge to edge.

    Of networks that see whole pictures this means nothing.
    """

    kept: bool = True

    @property
    def sentence(self) -> str:
        """What they gained and cost."""
        return f"overlapping parts {self.in_words}"


@dataclass(frozen=True)
class Facts:
    """A model's own description.

    ``window``: of a CT, in HU; None for the percentiles of each scan. ``image_px``: the side of
    the pictures that convert made. ``rules``: the post-processing of each class that valid chose;
    None where its training had not come to choosing. ``scans``: what its training scans were like
    (:mod:`model.inference.familiarity`), of several channels the first. ``temperatures``: what
    calibrates its probabilities. ``channels``: those of its pictures, none of grey ones. ``plane``
    is that of the slices that the network sees, ``source`` what they are drawn from:
    :data:`model.params.SOURCES`. ``label_rules``: those of train's labels that predictions are
    made to obey, because valid gained by it.
    """

    dataset: str
    label_map: LabelMap
    modality: str
    plane: str
    window: Window | None
    percentiles: tuple[float, float]
    image_px: int
    network: Network
    rules: Mapping[int, Rule] | None
    mirrors: Mirrors
    scans: Mapping[str, Any]
    tiles: Tiles = Tiles()
    temperatures: Temperatures = NONE
    channels: tuple[Channel, ...] = ()
    source: str = "pairs"
    label_rules: tuple[LabelRule, ...] = ()

    @property
    def sequences(self) -> tuple[str, ...]:
        """The names of the channels that are scans of their own; none where one scan is all."""
        return tuple(one.name for one in self.channels if one.own)

    @property
    def drawn_px(self) -> int:
        """The side of the pictures that are drawn of slices: convert's, or the network's own."""
        return self.image_px if self.source == "pairs" else self.network.whole_px

    @classmethod
    def of(cls, provenance: Mapping[str, Any], file: Path) -> Facts:
        """From a model's provenance. Raises :class:`Problem` that names what does not fit."""

        def part(name: str, read: Callable[[], T]) -> T:
            try:
                return read()
            except NONSENSE as error:
                said = str(error)[:200] or type(error).__name__
                raise modelfile.unfit(
                    file, f"expected {name} in its {modelfile.PROVENANCE}, got {said}"
                ) from None

        labels = part("labels and meanings", lambda: _label_map(provenance))
        convert = part("convert", lambda: _convert(provenance["convert"]))
        chosen = part("chosen", lambda: dict(provenance.get("chosen") or {}))
        plane = provenance.get("plane")
        if plane not in PLANES:
            raise modelfile.unfit(file, f"expected a plane of {', '.join(PLANES)}, got {plane!r}")
        network = stated.network(provenance, file)[0]
        return cls(
            dataset=str(provenance["dataset"]),
            label_map=labels,
            modality=str(provenance["modality"]),
            plane=plane,
            window=part("window", lambda: _window(provenance["window"])),
            percentiles=convert.mr_percentiles,
            image_px=convert.image_px,
            network=network,
            rules=part("post-processing", lambda: rules_of(chosen, len(labels))),
            mirrors=part("mirrors", lambda: _mirrors(provenance, chosen)),
            scans=part("scans", lambda: _scans(provenance)),
            tiles=part("tiles", lambda: _tiles(chosen)),
            temperatures=part(
                "temperature", lambda: Temperatures.of(chosen.get("temperature") or {}, len(labels))
            ),
            label_rules=part("label rules", lambda: label_rules_of(chosen, len(labels))),
            channels=part("channels", lambda: _channels(provenance, network.channels)),
            source=part("source", lambda: _source(provenance, network)),
        )


def _scans(provenance: Mapping[str, Any]) -> dict[str, Any]:
    scans = dict(provenance.get("scans") or {})
    familiarity.checked(scans)
    return scans


def _label_map(provenance: Mapping[str, Any]) -> LabelMap:
    rows = zip(provenance["labels"], provenance["meanings"], strict=True)
    return LabelMap(
        tuple(
            Label(int(number), name, tuple(int(one) for one in colour), meaning, tissue=tissue)  # type: ignore[arg-type]  # Label checks that there are three
            for (number, name, colour), (meaning, tissue) in rows
        )
    )


def _convert(stated: Mapping[str, Any]) -> Convert:
    low, high = stated["mr_percentiles"]
    return Convert(int(stated["image_px"]), (float(low), float(high)), "majority", "auto")


def _channels(provenance: Mapping[str, Any], seen: int) -> tuple[Channel, ...]:
    """The channels of pictures; ``seen``: how many the network sees."""
    several = tuple(
        Channel(str(one["name"]), one["window"] and _window(one["window"]), bool(one["own"]))
        for one in provenance.get("picture_channels") or []
    )
    names = {one.name for one in several}
    if several and (len(several) != seen or len(names) != seen or not all(map(is_slug, names))):
        raise ValueError(f"{len(several)} channels for a network of {seen}, or no names of theirs")
    if len({one.own for one in several}) > 1:
        raise ValueError("channels of which some alone are scans of their own")
    return several


def _source(provenance: Mapping[str, Any], network: Network) -> str:
    """Models from before there was a choice state none: they saw pairs."""
    source = provenance["train"].get("source", SOURCES[0])
    if source not in SOURCES:
        raise ValueError(shown(source))
    if source == "pairs" and (network.neighbours or network.field_mm):
        raise ValueError("pairs beside neighbours or a field of view")
    return str(source)


def _window(stated: Mapping[str, Any]) -> Window | None:
    if "percentiles" in stated:
        return None
    return Window(float(stated["level"]), float(stated["width"]))


def rules_of(chosen: Mapping[str, Any], classes: int) -> dict[int, Rule] | None:
    """The post-processing of each class in a section ``chosen``; None where there was no choosing.

    Raises one of :data:`NONSENSE` for what is none.
    """
    if "postprocessing" not in chosen:
        return None
    rules = {
        int(label): Rule(bool(one["fill_holes"]), float(one["smallest_ml"]))
        for label, one in chosen["postprocessing"].items()
        if one["kept"]
    }
    strange = [label for label in rules if not 0 < label < classes]
    if strange:
        raise ValueError(f"a rule for class {strange[0]} of {classes}")
    return rules


def label_rules_of(chosen: Mapping[str, Any], classes: int) -> tuple[LabelRule, ...]:
    """The label rules that a section ``chosen`` keeps; none of models from before there were any.

    Raises one of :data:`NONSENSE` for what is none.
    """
    stated = chosen.get("label_rules") or []
    rules = tuple(LabelRule.of(one["rule"]) for one in stated if one["kept"])
    for rule in rules:
        if rule.kind not in CORRECTED or max(rule.classes) >= classes or rules.count(rule) > 1:
            raise ValueError(f"a label rule {rule.kind} of the classes {rule.classes}")
    return rules


def _mirrors(provenance: Mapping[str, Any], chosen: Mapping[str, Any]) -> Mirrors:
    axes = mirrors.seen(provenance["augment"])
    measured = chosen.get("mirrors") or {}
    kept = bool(axes) and bool(measured.get("kept"))
    return Mirrors(axes, kept=kept, patients=int(measured.get("patients", 0)), **_numbers(measured))


def _tiles(chosen: Mapping[str, Any]) -> Tiles:
    measured = chosen.get("tiles") or {}
    kept = bool(measured.get("kept", True))
    return Tiles(kept=kept, patients=int(measured.get("patients", 0)), **_numbers(measured))


def _numbers(measured: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: math.nan if measured.get(name) is None else float(measured[name])
        for name in ("gain", "low", "high", "cost")
    }
