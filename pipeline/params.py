"""params.yaml as frozen dataclasses. This module is the only reader of that file.

The sections ``convert``, ``augment``, ``split``, ``train``, ``evaluate`` and ``limits`` hold
for every dataset. ``datasets`` lists the enabled ones; an entry may override
leaves of any section but ``evaluate`` and ``limits`` for its dataset::

    datasets:
      virtual_mni152:                      # as the sections say
      msd_hippocampus:
        train: {epochs: 30}                # everything else as the sections say

``presets`` holds entries for datasets that are not enabled, to be referred to by
YAML anchors. An unknown key, a missing key and a wrong type are errors that name
the place; a value is never taken as a Python expression. A file that is larger, deeper or, with
its aliases written out, longer than anyone would write is refused before anything walks it.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

import datasets_spec
from datasets_spec.contract import Problem
from pipeline import files, paths

ACTIVATIONS = ("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus", "tanh")
"""Names of Keras for the activation of FlexUNet's convolutions."""

LOSSES = (
    "categorical_crossentropy",
    "weighted_ce",
    "focal",
    "dice",
    "dice_ce",
    "tversky",
    "boundary",
)
"""The losses of model/losses.py."""

FUSIONS = ("majority", "staple", "each")
"""What ``convert.raters`` can be beside the name of one rater (pipeline/labels.py)."""

MONITORS = ("val_loss", "val_foreground_dice", "val_foreground_iou", "val_dice_coef_multiclass")
"""What can decide the best checkpoint, early stopping and the reducer; all but the loss grow."""

_MARKS = str.maketrans("", "", "._-")
_MOVED = {
    "id_salt": "The salt is a secret and no parameter: take it out here, and set FLEXUNET_ID_SALT"
    " or write it into data/id_salt. If this file was ever passed on, choose another salt.",
}
"""Parameters of earlier versions, and where what they said belongs now."""

_MOST_BYTES = 1_000_000
_MOST_NODES, _DEEPEST = 100_000, 32
"""Values and levels of a parameter file with its aliases written out; ours: 2,000 and 11."""
_MOST_BITS = 63  # of a whole number: what numpy and Parquet can hold
_SHOWN = 100  # characters of a wrong value

_REMEDY = "Correct the parameter file; README.md and pipeline/params.py list the parameters."


@dataclass(frozen=True)
class Convert:
    """Scans to square pictures."""

    image_px: int
    """Width and height of every picture, in pixels."""
    mr_percentiles: tuple[float, float]
    """The percentiles of an MR volume that are shown as black and as white."""
    raters: str
    """What becomes of several raters: `majority`, `staple`, `each` (a pair for every rater), or one
    rater's name."""
    label_table: str
    """`auto`, or the name of one of the tables of a dataset whose sources contradict each other."""

    def __post_init__(self) -> None:
        _expect(16 <= self.image_px <= 4096, "image_px", "16 to 4096", self.image_px)
        low, high = self.mr_percentiles
        _expect(0 <= low < high <= 100, "mr_percentiles", "0 <= low < high <= 100", [low, high])


@dataclass(frozen=True)
class Augment:
    """Warped variants of every pair."""

    seed: int
    """Seeds everything that is drawn at random."""
    empty_slices: bool
    """Whether slices without any foreground get variants too."""
    variants: dict[str, list[dict[str, Any]]]
    """Name of each variant -> its steps, `{Step: {argument: value}}`, applied in order. A
    dataset's entry replaces them whole."""

    def __post_init__(self) -> None:
        for name, steps in self.variants.items():
            _expect(
                name[:1].isalnum() and name.translate(_MARKS).isalnum() and "__" not in name,
                f"variants.{name}",
                "a name of letters, digits, '.', '-' and '_' (it becomes a file's prefix)",
                name,
            )
            for step in steps:
                arguments = next(iter(step.values()), None)
                _expect(
                    len(step) == 1 and (arguments is None or isinstance(arguments, dict)),
                    f"variants.{name}",
                    "steps of the form {Transform: {argument: value}}",
                    step,
                )


@dataclass(frozen=True)
class Shares:
    """Shares of patients (or of their slices, see ``Split.share_of``); they add up to 1."""

    train: float
    valid: float
    test: float

    def __post_init__(self) -> None:
        shares = [self.train, self.valid, self.test]
        _expect(
            all(share > 0 for share in shares) and abs(sum(shares) - 1) < 1e-6,
            "shares",
            "three positive shares that add up to 1",
            shares,
        )


@dataclass(frozen=True)
class EmptySlices:
    """Share of the slices without foreground that each split keeps."""

    train: float
    valid: float
    test: float

    def __post_init__(self) -> None:
        for name in ("train", "valid", "test"):
            _expect(0 <= getattr(self, name) <= 1, name, "0 to 1", getattr(self, name))


@dataclass(frozen=True)
class Split:
    """Patients to train, valid and test."""

    seed: int
    """Seeds the placement of patients."""
    shares: Shares
    """Share of the patients (or slices) that the split gets."""
    share_of: str
    """What the shares count: `slices` where patients differ much in size."""
    folds: int
    """0 splits by the shares. 3 or more deal the patients into that many folds, of which one is
    tested; valid has its share of the others."""
    fold: int
    """The fold that is tested, counted from 0. Where the test list is official, the fold is
    validated instead."""
    empty_slices: EmptySlices
    """Share of the slices without foreground that the split keeps."""
    mini_test: int
    """How many test pictures are also put into `mini_test`, to look at."""

    def __post_init__(self) -> None:
        _one_of("share_of", self.share_of, ("patients", "slices"))
        _expect(self.folds == 0 or self.folds >= 3, "folds", "0, or 3 and more", self.folds)
        _expect(0 <= self.fold < max(1, self.folds), "fold", "0 to below split.folds", self.fold)
        _expect(1 <= self.mini_test <= 1000, "mini_test", "1 to 1000", self.mini_test)


@dataclass(frozen=True)
class Network:
    """The shape of FlexUNet (model/flexunet.py)."""

    image_px: int
    """Width and height of what the network sees, in pixels: a multiple of 2^(num_layers - 1)."""
    channels: int
    """1 for grey, 3 for the same picture three times."""
    base_filters: int
    """Filters of the finest level; they double with every level."""
    base_kernels: int
    """Kernel side of the finest level; it shrinks by two with every level, to 3."""
    num_layers: int
    """Levels, the bridge included."""
    dilation: int
    """Dilation of the finest level; it shrinks by one with every level, to 1."""
    dropout_rate: float
    """Dropout of each block: this rate times the level, which is 0 at the finest."""
    activation: str
    """Applied after every convolution."""
    normalization: str
    """Applied after every activation."""
    input_normalization: str = "none"
    """`none` takes 0..255 to 0..1; `zscore` gives each picture mean 0 and standard deviation 1."""
    deep_supervision: bool = False
    """While training, up to three coarser levels of the decoder are judged too."""

    def __post_init__(self) -> None:
        _expect(self.channels in (1, 3), "channels", "1 or 3", self.channels)
        _expect(2 <= self.num_layers <= 12, "num_layers", "2 to 12", self.num_layers)
        _expect(self.base_filters >= 1, "base_filters", "1 or more", self.base_filters)
        _expect(
            self.base_kernels >= 3 and self.base_kernels % 2 == 1,
            "base_kernels",
            "an odd number of at least 3",
            self.base_kernels,
        )
        _expect(self.dilation >= 1, "dilation", "1 or more", self.dilation)
        deepest = self.num_layers - 1
        _expect(
            0 <= self.dropout_rate * deepest < 1,
            "dropout_rate",
            f"0 to below {1 / deepest:.4g} (times {deepest}, its level, at the deepest one)",
            self.dropout_rate,
        )
        _one_of("activation", self.activation, ACTIVATIONS)
        _one_of("normalization", self.normalization, ("none", "batch", "group", "instance"))
        _one_of("input_normalization", self.input_normalization, ("none", "zscore"))
        step = 2 ** (self.num_layers - 1)
        if self.image_px < step or self.image_px % step:
            near = max(step, self.image_px // step * step)
            _expect(
                False,
                "image_px",
                f"a multiple of 2^(num_layers - 1) = {step}, such as {near} or {near + step}",
                self.image_px,
            )


@dataclass(frozen=True)
class Train:
    """The trainer. ``patience`` values count epochs; 0 switches a share or a limit off."""

    seed: int
    """Seeds the initial weights, the order of the pairs and the dropout."""
    augment: str
    """`offline` trains on the originals and the variants on disk; `online` on the originals, each
    of which every epoch shows as a freshly drawn variant or as it is; `both` on the originals shown
    like that and on the variants on disk as they are."""
    network: Network
    """The shape of the network."""
    loss: str
    """The module of the losses states each formula and its source."""
    focal_gamma: float
    """For the loss `focal`: how much less a pixel counts that is right already."""
    tversky_alpha: float
    """For the loss `tversky`: the weight of false positives; that of false negatives is 1 minus
    it."""
    boundary_weight: float
    """For the loss `boundary`: how much more a pixel on a boundary counts."""
    boundary_px: int
    """For the loss `boundary`: how far from a boundary that reaches, in pixels."""
    optimizer: str
    """AdamW is Adam with decoupled weight decay."""
    learning_rate: float
    """The initial learning rate."""
    weight_decay: float
    """For `adamw` alone; biases and normalisation are spared."""
    schedule: str
    """`plateau` multiplies the learning rate by `reducer_factor` after `reducer_patience` epochs
    without gain; `cosine` takes it to 0 over all epochs."""
    reducer_factor: float
    """For the schedule `plateau`."""
    reducer_patience: int
    """For the schedule `plateau`, in epochs."""
    clipvalue: float
    """Clips each gradient to this; 0 switches it off. At most one of the two clips."""
    clipnorm: float
    """Clips each gradient's norm to this; 0 switches it off."""
    accumulate_batches: int
    """Batches per update of the weights."""
    ema_momentum: float
    """Above 0, such as 0.999, the moving average of the weights is judged and saved."""
    precision: str
    """Number format of the computation; weights and head stay float32. `auto` times some steps of
    the network and reports its choice."""
    jit: str
    """Whether XLA compiles the step. `auto`: with JAX, and with TensorFlow on a GPU."""
    batch_pairs: int
    """Pairs per batch."""
    class_share: float
    """The part of the pairs that is drawn from the pictures of each class in turn."""
    epochs: int
    """The most epochs that are trained."""
    steps_per_epoch: int
    """Batches per epoch; 0 shows every pair once."""
    monitor: str
    """Decides the best epoch, the plateau and early stopping."""
    early_stopping_patience: int
    """Epochs without gain after which training stops."""
    epoch_change_pictures: int
    """How many pictures of `mini_test` are drawn after every epoch; no decision uses them."""
    tensorboard: bool
    """Also write logs for TensorBoard, where it is installed."""
    dvclive: bool
    """Also write logs with DVCLive, where it is installed."""

    def __post_init__(self) -> None:
        _one_of("augment", self.augment, ("offline", "online", "both"))
        _one_of("loss", self.loss, LOSSES)
        _one_of("optimizer", self.optimizer, ("adam", "adamw"))
        _one_of("schedule", self.schedule, ("plateau", "cosine"))
        _one_of("precision", self.precision, ("auto", "float32", "bfloat16", "float16"))
        _one_of("jit", self.jit, ("auto", "always", "never"))
        _one_of("monitor", self.monitor, MONITORS)
        _expect(0 < self.learning_rate <= 1, "learning_rate", "above 0 to 1", self.learning_rate)
        _expect(0 <= self.seed < 2**32, "seed", f"0 to {2**32 - 1}", self.seed)
        for name in ("reducer_factor", "tversky_alpha"):
            _expect(0 < getattr(self, name) < 1, name, "above 0 to below 1", getattr(self, name))
        for name in ("ema_momentum", "weight_decay"):
            _expect(0 <= getattr(self, name) < 1, name, "0 to below 1", getattr(self, name))
        _expect(0 <= self.class_share <= 1, "class_share", "0 to 1", self.class_share)
        _expect(
            not (self.clipvalue and self.clipnorm),
            "clipnorm",
            "0 beside a clipvalue (Keras clips in one way only)",
            self.clipnorm,
        )
        for name in (
            "focal_gamma",
            "boundary_weight",
            "clipvalue",
            "clipnorm",
            "steps_per_epoch",
            "epoch_change_pictures",
        ):
            _expect(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        for name in (
            "boundary_px",
            "accumulate_batches",
            "batch_pairs",
            "epochs",
            "early_stopping_patience",
            "reducer_patience",
        ):
            _expect(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))


@dataclass(frozen=True)
class Evaluate:
    """The scores, and what is kept beside them."""

    seed: int
    """Seeds the resamples that the intervals are made from."""
    batch_slices: int
    """Slices predicted at once."""
    nsd_tolerance_mm: float
    """How far two surfaces may be apart and still count as one, in mm."""
    postprocess: bool
    """Whether the valid split may choose a post-processing."""
    worst_cases: int
    """How many of the cases with the lowest Dice are kept as pictures."""

    def __post_init__(self) -> None:
        _expect(self.batch_slices >= 1, "batch_slices", "1 or more", self.batch_slices)
        _expect(self.nsd_tolerance_mm >= 0, "nsd_tolerance_mm", "0 or more", self.nsd_tolerance_mm)
        _expect(0 <= self.worst_cases <= 100, "worst_cases", "0 to 100", self.worst_cases)


@dataclass(frozen=True)
class Limits:
    """What is refused before memory is taken for it. They decide no byte: no stage tracks them."""

    voxels: int = 300_000_000
    """The largest volume that is read. A scan takes 4 bytes a voxel, each of its labels 1, and several
    times that while it is converted."""
    pixels: int = 100_000_000
    """The largest picture that is read."""

    def __post_init__(self) -> None:
        for name in ("voxels", "pixels"):
            _expect(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))


@dataclass(frozen=True)
class Params:
    """Everything in params.yaml that holds for one dataset."""

    convert: Convert
    augment: Augment
    split: Split
    train: Train
    evaluate: Evaluate
    limits: Limits


_ROOT = Path(__file__).resolve().parent.parent
_OVERRIDABLE = ("convert", "augment", "split", "train")
_LEAVES = {"variants"}  # replaced whole by an override, not merged
_TOP = {"datasets", "presets", *(field.name for field in dataclasses.fields(Params))}


def enabled(file: Path = paths.PARAMS) -> tuple[str, ...]:
    """The names under ``datasets``, in the file's order; each has an adapter."""
    entries, where = _read(file).get("datasets"), f"{file}: datasets"
    if isinstance(entries, list | str):  # "- aisd", or "aisd" without its colon
        names = entries.split() if isinstance(entries, str) else entries
        raise Problem(
            f"expected a line '  name:' for each dataset, got {_shown(entries)}",
            where=where,
            remedy=f"Write '  {names[0] if names else 'aisd'}:', indented, with the colon and"
            " without a dash.",
        )
    if not entries:
        raise Problem("expected at least one dataset, found none", where=where)
    _mapping(entries, where)
    for name in entries:
        if name in _TOP:
            raise Problem(
                f"expected a dataset's name, got the section {name!r}",
                where=where,
                remedy=f"Indent '{name}:' below the dataset that it is for; to hold for all,"
                " it stands at the margin.",
            )
        if not isinstance(name, str):
            raise Problem(
                f"expected a dataset's name, got {_shown(name)}, which is no text", where=where
            )
        datasets_spec.load(name)
    return tuple(entries)


def load(dataset: str, file: Path = paths.PARAMS) -> Params:
    """The parameters of ``dataset``: the sections with its entry's overrides.

    Raises :class:`Problem` for a dataset that is not enabled and for any key or
    value that does not fit.
    """
    if dataset not in enabled(file):
        datasets_spec.load(dataset)
        raise Problem(
            f"expected one of the enabled datasets ({', '.join(enabled(file))}), got {dataset!r}",
            where=f"{file}: datasets",
            remedy=f"Add a line '  {dataset}:' below 'datasets:'.",
        )
    content = _read(file)
    return _with(content, content["datasets"][dataset], f"{file}: datasets.{dataset}", file)


def limits(file: Path = paths.PARAMS) -> Limits:
    """The limits of the parameter file; the defaults where there is none.

    For what needs no dataset: ``fetch``, ``check`` and ``doctor`` work in any folder.
    """
    if file == paths.PARAMS and not file.exists():
        return Limits()
    return _limits(_read(file), file)


def _limits(content: Mapping[str, Any], file: Path) -> Limits:
    """The one section that may be left out: its defaults decide no byte."""
    section = _section(content, "limits", file)
    limits: Limits = _build(Limits, section or asdict(Limits()), f"{file}: limits")
    return limits


def presets(file: Path = paths.PARAMS) -> dict[str, Params]:
    """Every entry of ``presets``, as the parameters that it leads to."""
    content = _read(file)
    return {
        str(name): _with(content, entry, f"{file}: presets.{name}", file)
        for name, entry in _section(content, "presets", file).items()
    }


def _with(content: dict[str, Any], entry: Any, where: str, file: Path) -> Params:
    entry = {} if entry is None else entry
    _mapping(entry, where)
    _no_unknown(entry, _OVERRIDABLE, where)
    sections: dict[str, Any] = {"limits": _limits(content, file)}
    for field in dataclasses.fields(Params):
        if field.name in sections:
            continue
        section = _section(content, field.name, file)
        kind = typing.get_type_hints(Params)[field.name]
        sections[field.name] = _build(kind, section, f"{file}: {field.name}")
        override = entry.get(field.name)
        if override is not None:
            place = f"{where}: {field.name}"
            _mapping(override, place)
            sections[field.name] = _build(kind, _merged(section, override), place)
    return Params(**sections)


def _read(file: Path) -> dict[str, Any]:
    try:
        length = files.require_regular(file).stat().st_size
        if length > _MOST_BYTES:
            raise Problem(
                f"expected a parameter file of at most {_MOST_BYTES:,} bytes, got {length:,}",
                where=file,
                remedy=_REMEDY,
            )
        content = yaml.load(file.read_text("utf-8"), _Strict)  # noqa: S506  # a SafeLoader
    except FileNotFoundError:
        raise Problem(
            "expected the parameter file, found none",
            where=file.resolve(),
            remedy=f"Run from the project's root, {_ROOT}, or name the file with --params.",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise Problem(f"expected YAML, got {error}", where=file, remedy=_REMEDY) from None
    _mapping(content, str(file))
    try:
        _no_unknown(content, _TOP, str(file))
    except Problem as problem:
        if Path.cwd() == _ROOT:
            raise
        other = f" (Or is it another project's? This one's is {_ROOT / paths.PARAMS}.)"
        raise Problem(problem.what, where=problem.where, remedy=problem.remedy + other) from None
    return dict(content)


class _Strict(yaml.SafeLoader):
    """YAML whose every value can be read, and walked without end or surprise.

    No key stands twice in one mapping (the second would win in silence). Nesting is limited, and
    so is what the aliases unfold to, since ten lines of them can stand for a billion values.
    """

    _depth = 0

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        count, levels = _extent(node, {})
        if count > _MOST_NODES or levels > _DEEPEST:
            raise yaml.YAMLError(
                f"aliases that unfold to more than {_MOST_NODES:,} values or {_DEEPEST} levels"
            )
        return self.construct_document(node)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self._depth == _DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"more than {_DEEPEST} levels", problem_mark=mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {_shown(key.value)} twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int) and value.bit_length() > _MOST_BITS:
                raise ValueError(f"a number of {value.bit_length()} bits")
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise yaml.MarkedYAMLError(
                problem=f"a value that cannot be read ({error})", problem_mark=node.start_mark
            ) from None
        return value


def _extent(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Values and levels of a node with its aliases written out; more than allowed if endless."""
    if id(node) not in known:
        known[id(node)] = (_MOST_NODES + 1, _DEEPEST + 1)  # until it is left: met again inside
        parts = [node.value] if isinstance(node, yaml.SequenceNode) else []
        parts = node.value if isinstance(node, yaml.MappingNode) else parts
        below = [_extent(child, known) for part in parts for child in part]
        known[id(node)] = (
            1 + sum(count for count, _ in below),
            1 + max((levels for _, levels in below), default=0),
        )
    return known[id(node)]


def _section(content: Mapping[str, Any], name: str, file: Path) -> dict[str, Any]:
    section = content.get(name)
    section = {} if section is None else section
    _mapping(section, f"{file}: {name}")
    return dict(section)


def _merged(base: Any, override: Any) -> Any:
    """``base`` with the leaves of ``override``; mappings are merged, all else is replaced."""
    if not isinstance(base, dict) or not isinstance(override, dict):
        return override
    merged = dict(base)
    for key, value in override.items():
        merged[key] = _merged(base[key], value) if key in base and key not in _LEAVES else value
    return merged


def _build(kind: Any, value: Any, where: str) -> Any:
    """``value`` from YAML as ``kind``, a dataclass or a simple type; errors name ``where``."""
    if dataclasses.is_dataclass(kind):
        _mapping(value, where)
        hints = typing.get_type_hints(kind)
        _no_unknown(value, hints, where)
        missing = [name for name in hints if name not in value]
        if missing:
            raise Problem(
                f"expected the key {missing[0]!r}, found none", where=where, remedy=_REMEDY
            )
        built = {name: _build(hints[name], value[name], f"{where}: {name}") for name in hints}
        try:
            return kind(**built)  # type: ignore[operator]
        except _OutOfRange as error:
            key, told = error.args
            place = where if where.endswith(f" {key}") else f"{where}: {key}"
            raise Problem(told, where=place, remedy=_REMEDY) from None
    _finite(value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, list) and len(value) == len(arguments):
        return tuple(_build(part, item, where) for part, item in zip(arguments, value, strict=True))
    if origin is list and isinstance(value, list):
        return [_build(arguments[0], item, where) for item in value]
    if origin is dict and isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {key: _build(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is Any:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and not isinstance(kind, types.GenericAlias) and type(value) is kind:
        return value
    wanted = getattr(kind, "__name__", str(kind)) if origin is None else str(kind)
    hint = " (YAML reads 1e-3 as text; write 1.0e-3)" if _is_number(value) else ""
    raise Problem(
        f"expected {wanted}, got {_shown(value)} of type {type(value).__name__}{hint}",
        where=where,
        remedy=_REMEDY,
    )


def _finite(value: Any, where: str) -> None:
    """Refuse .inf and .nan, at any depth."""
    if isinstance(value, float) and not math.isfinite(value):
        raise Problem(f"expected a finite number, got {value}", where=where, remedy=_REMEDY)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        _finite(part, where)


def _is_number(text: object) -> bool:
    """Whether it is text that Python, unlike YAML, reads as a number."""
    try:
        return isinstance(text, str) and float(text) is not None
    except ValueError:
        return False


class _OutOfRange(Exception):
    """A key and what is wrong with its value."""


def _expect(fits: bool, key: str, expected: str, got: object) -> None:
    if not fits:
        raise _OutOfRange(key, f"expected {expected}, got {_shown(got)}")


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    _expect(value in choices, key, f"one of {', '.join(choices)}", value)


def _mapping(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise Problem(
            f"expected a mapping of keys to values, got {_shown(value)}",
            where=where,
            remedy=_REMEDY,
        )


def _no_unknown(value: Mapping[str, Any], known: typing.Iterable[str], where: str) -> None:
    known = sorted(known)
    for key in value:
        if key in _MOVED:
            raise Problem(f"expected no {key!r} any more", where=where, remedy=_MOVED[str(key)])
        if key not in known:
            raise Problem(
                f"expected keys among {', '.join(known)}, got {_shown(key)}",
                where=where,
                remedy=_place_of(str(key), known),
            )


def _place_of(key: str, known: typing.Sequence[str]) -> str:
    """What to do about an unknown key: it stands at the wrong level, or is misspelt."""
    homes = [home for home in _homes(Params) if home.rpartition(".")[2] == key]
    above = " or ".join(home.rpartition(".")[0] for home in homes if "." in home)
    if key in _TOP:
        inside = ", or indented below a dataset's name" if key in _OVERRIDABLE else ""
        return f"Write '{key}:' at the margin{inside}."
    if above:
        return f"{key!r} belongs to {above}: indent it below that."
    if key in datasets_spec.names():
        return f"A dataset stands below 'datasets:', indented by two: '  {key}:'."
    near = difflib.get_close_matches(key, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else _REMEDY


def _homes(kind: type, above: str = "") -> typing.Iterator[str]:
    """The dotted path of every key of a dataclass: train, train.network, train.network.channels."""
    for name, hint in typing.get_type_hints(kind).items():
        yield above + name
        if dataclasses.is_dataclass(hint):
            yield from _homes(typing.cast(type, hint), f"{above}{name}.")


def _shown(value: object) -> str:
    """``value`` as it is written, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
