"""The sections of params.yaml that a model follows: ``train`` with its network, and ``evaluate``.

:mod:`pipeline.params.reader` reads the file; here stands what these two sections may say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import datasets_spec
from datasets_spec.contract import MOST_CHANNELS, PLANES, Problem
from pipeline import paths
from pipeline.pairs import channels
from pipeline.params import reader
from pipeline.params.augment import Augment
from pipeline.params.values import expect, one_of

ACTIVATIONS = ("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus", "tanh")
"""Names of Keras for the activation of FlexUNet's convolutions."""
LOSSES = (
    "categorical_crossentropy",
    "weighted_ce",
    "focal",
    "dice",
    "dice_ce",
    "tversky",
)
"""The losses of model/training/losses.py."""
MONITORS = ("val_loss", "val_foreground_dice", "val_foreground_iou", "val_dice_coef_multiclass")
"""What can decide the best checkpoint, early stopping and the reducer; all but the loss grow."""
SOURCES = ("pairs", "scans")
"""What a network learns from: the 512-pixel pairs of the split, or slices of the kept scans."""
_MOST_PICTURE_PX = 4096
_MOST_NEIGHBOURS = 7  # on either side
_MOST_PARTS = 32  # along a side of a picture


@dataclass(frozen=True)
class Network:
    """The shape of FlexUNet (model/flexunet.py)."""

    image_px: int
    """Width and height of what the network sees, in pixels: a multiple of 2^(num_layers - 1)."""
    channels: int
    """1 for grey, 3 for the same picture three times. Pictures of several channels: their number,
    which 1 stands for too."""
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
    picture_px: int = 0
    """Above `image_px`, pictures are brought to this width and height, and the network sees parts
    of them of `image_px` x `image_px`; 0 brings whole pictures to `image_px`."""
    neighbours: int = 0
    """Slices on either side of a slice that the network sees too, as further channels (2.5-D)."""
    field_mm: float = 0.0
    """Field of view: a whole picture shows a square of this many mm, or of the slice's longer side
    where that is more; 0 always takes the slice's own."""

    @property
    def inputs(self) -> int:
        """The channels that the network sees: those of a picture and of all its neighbours."""
        return self.channels * (2 * self.neighbours + 1)

    @property
    def whole_px(self) -> int:
        """Width and height that whole pictures are brought to."""
        return self.picture_px or self.image_px

    def __post_init__(self) -> None:
        expect(
            1 <= self.channels <= MOST_CHANNELS, "channels", f"1 to {MOST_CHANNELS}", self.channels
        )
        expect(2 <= self.num_layers <= 12, "num_layers", "2 to 12", self.num_layers)
        expect(self.base_filters >= 1, "base_filters", "1 or more", self.base_filters)
        expect(
            self.base_kernels >= 3 and self.base_kernels % 2 == 1,
            "base_kernels",
            "an odd number of at least 3",
            self.base_kernels,
        )
        expect(self.dilation >= 1, "dilation", "1 or more", self.dilation)
        deepest = self.num_layers - 1
        expect(
            0 <= self.dropout_rate * deepest < 1,
            "dropout_rate",
            f"0 to below {1 / deepest:.4g} (times {deepest}, its level, at the deepest one)",
            self.dropout_rate,
        )
        one_of("activation", self.activation, ACTIVATIONS)
        one_of("normalization", self.normalization, ("none", "batch", "group", "instance"))
        expect(
            0 <= self.neighbours <= _MOST_NEIGHBOURS,
            "neighbours",
            f"0 to {_MOST_NEIGHBOURS}",
            self.neighbours,
        )
        expect(self.field_mm >= 0, "field_mm", "0 or more", self.field_mm)
        step = 2 ** (self.num_layers - 1)
        if self.image_px < step or self.image_px % step:
            near = max(step, self.image_px // step * step)
            expect(
                False,
                "image_px",
                f"a multiple of 2^(num_layers - 1) = {step}, such as {near} or {near + step}",
                self.image_px,
            )
        most = min(_MOST_PICTURE_PX, _MOST_PARTS * self.image_px)
        expect(
            self.picture_px == 0 or self.image_px < self.picture_px <= most,
            "picture_px",
            f"0, or above image_px ({self.image_px}) to {most}",
            self.picture_px,
        )


@dataclass(frozen=True)
class Train:
    """The trainer. ``patience`` values count epochs; 0 switches a share or a limit off."""

    seed: int
    """Seeds the initial weights, the order of the pairs and the dropout."""
    source: str
    """`pairs` are the pictures of the split, brought to the network's size; `scans` are slices of
    the scans that convert kept, drawn at the network's size. Other planes, neighbours and a field
    of view take `scans`, and these no variants from the disk: `augment.mode: online`."""
    plane: str
    """The plane of the slices that the network sees: `own` is the dataset's."""
    folds: int
    """Above 0, the patients of train and valid are dealt into so many folds, and `fold` is judged
    instead of valid; test stays apart."""
    fold: int
    """Which of `folds`, counted from 0."""
    patients: int
    """Learn from so many of the patients of train, the first of an order that `seed` draws, so that
    fewer are among more; 0: from all. Valid and test stay as they are."""
    network: Network
    """The shape of the network."""
    loss: str
    """The module of the losses states each formula and its source."""
    focal_gamma: float
    """For the loss `focal`: how much less a pixel counts that is right already."""
    tversky_alpha: float
    """For the loss `tversky`: the weight of false positives; that of false negatives is 1 minus
    it."""
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
    precision: str
    """Number format of the computation; weights and head stay float32. `auto` times some steps of
    the network and reports its choice."""
    jit: str
    """Whether XLA compiles the step. `auto`: with JAX, and with TensorFlow on a GPU."""
    batch_pairs: int
    """Pairs per batch."""
    foreground_oversampling: float
    """The part of the pairs that is drawn from the pictures of each foreground class in turn."""
    channel_dropout: float
    """Of pictures of several channels: how likely a pair lacks each channel, never all of them, so
    that a model does without a missing sequence."""
    epochs: int
    """The most epochs that are trained."""
    steps_per_epoch: int
    """Batches per epoch; 0 shows every pair once. More than that shows pairs again, as other
    variants, so that few patients may be trained for as many steps as many."""
    monitor: str
    """Decides the best epoch, the plateau and early stopping."""
    early_stopping_patience: int
    """Epochs without gain after which training stops."""
    postprocess: bool
    """Whether valid may choose a post-processing when training has ended; the model carries it."""
    mirrors: str
    """Whether a prediction is the mean over mirror images (test-time augmentation). `auto`: where
    training saw mirrored pictures and valid gains more than noise; `always`: where training saw
    some; `never`."""
    calibrate: str
    """Whether valid may choose a temperature for each class, by which probabilities are calibrated;
    class ids stay as they are. `auto`: where it gains more than noise in patients that it does not
    follow from; `always`; `never`."""
    epoch_change_pictures: int
    """How many pictures of `mini_test` are drawn after every epoch; no decision uses them."""
    tensorboard: bool
    """Also write logs for TensorBoard, where it is installed."""
    dvclive: bool
    """Also write logs with DVCLive, where it is installed."""

    def __post_init__(self) -> None:
        one_of("source", self.source, SOURCES)
        one_of("plane", self.plane, ("own", *PLANES))
        expect(self.folds == 0 or self.folds >= 2, "folds", "0, or 2 or more", self.folds)
        most = max(self.folds - 1, 0)
        expect(0 <= self.fold <= most, "fold", f"0 to {most}", self.fold)
        for name, value, usual in (
            ("plane", self.plane, "own"),
            ("network", self.network.neighbours, 0),
            ("network", self.network.field_mm, 0.0),
            ("folds", self.folds, 0),
        ):
            what = f"{usual!r} of neighbours and field_mm" if name == "network" else repr(usual)
            expect(
                self.source == "scans" or value == usual,
                name,
                f"{what} where source is 'pairs'",
                value,
            )
        one_of("loss", self.loss, LOSSES)
        one_of("optimizer", self.optimizer, ("adam", "adamw"))
        one_of("schedule", self.schedule, ("plateau", "cosine"))
        one_of("precision", self.precision, ("auto", "float32", "bfloat16", "float16"))
        one_of("jit", self.jit, ("auto", "always", "never"))
        one_of("monitor", self.monitor, MONITORS)
        one_of("mirrors", self.mirrors, ("auto", "always", "never"))
        one_of("calibrate", self.calibrate, ("auto", "always", "never"))
        expect(0 < self.learning_rate <= 1, "learning_rate", "above 0 to 1", self.learning_rate)
        expect(0 <= self.seed < 2**32, "seed", f"0 to {2**32 - 1}", self.seed)
        for name in ("reducer_factor", "tversky_alpha"):
            expect(0 < getattr(self, name) < 1, name, "above 0 to below 1", getattr(self, name))
        expect(0 <= self.weight_decay < 1, "weight_decay", "0 to below 1", self.weight_decay)
        share = self.foreground_oversampling
        expect(0 <= share <= 1, "foreground_oversampling", "0 to 1", share)
        rate = self.channel_dropout
        expect(0 <= rate < 1, "channel_dropout", "0 to below 1", rate)
        expect(
            not (self.clipvalue and self.clipnorm),
            "clipnorm",
            "0 beside a clipvalue (Keras clips in one way only)",
            self.clipnorm,
        )
        for name in (
            "focal_gamma",
            "clipvalue",
            "clipnorm",
            "patients",
            "steps_per_epoch",
            "epoch_change_pictures",
        ):
            expect(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        for name in (
            "accumulate_batches",
            "batch_pairs",
            "epochs",
            "early_stopping_patience",
            "reducer_patience",
        ):
            expect(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))


@dataclass(frozen=True)
class Evaluate:
    """The scores, and what is kept beside them."""

    seed: int
    """Seeds the resamples that the intervals are made from."""
    nsd_tolerance_mm: float
    """How far two surfaces may be apart and still count as one, in mm."""
    worst_cases: int
    """How many of the cases with the lowest Dice are kept as pictures."""
    viewed_cases: int
    """How many test cases can be scrolled slice by slice, truth beside prediction: those of lowest
    Dice, and the best. Each takes 10 to 35 kB a slice of 512 x 512."""

    def __post_init__(self) -> None:
        expect(self.nsd_tolerance_mm >= 0, "nsd_tolerance_mm", "0 or more", self.nsd_tolerance_mm)
        expect(0 <= self.worst_cases <= 100, "worst_cases", "0 to 100", self.worst_cases)
        most = 100_000
        expect(0 <= self.viewed_cases <= most, "viewed_cases", f"0 to {most}", self.viewed_cases)


@dataclass(frozen=True)
class Ensemble:
    """How the networks of a dataset become one: an entry of the section `ensembles`."""

    PARTIAL: ClassVar[bool] = True
    """Whatever of it is left out of a parameter file has its usual value."""

    weights: str = "auto"
    """`auto`: valid may weigh the planes that networks see, where that gains more than noise over
    equal weights; `equal` does not ask."""
    own: bool = True
    """Whether the dataset's own network takes part; else its members do alone."""

    def __post_init__(self) -> None:
        one_of("weights", self.weights, ("auto", "equal"))


@dataclass(frozen=True)
class Params(reader.Params):
    """Everything in params.yaml that holds for one dataset."""

    train: Train
    evaluate: Evaluate


def load(dataset: str, file: Path = paths.PARAMS) -> Params:
    """The parameters of ``dataset``: the sections with its entry's overrides.

    Its network has as many channels as its pictures. Raises :class:`Problem` for a dataset that is
    not enabled and for any key or value that does not fit.
    """
    settings = reader.load_as(Params, dataset, file)
    return _fitted(settings, dataset, file)


def load_member(member: str, file: Path = paths.PARAMS) -> tuple[str, Params]:
    """The dataset of a member, and its parameters: the dataset's with the member's overrides.

    Raises :class:`Problem` as :func:`load` does, and for a member that the file does not name.
    """
    dataset, settings = reader.load_member_as(Params, member, file)
    if settings.train.source == "pairs":
        _require_same_variants(load(dataset, file).augment, settings.augment, f"{file}: {member}")
    return dataset, _fitted(settings, dataset, file)


def _require_same_variants(of_dataset: Augment, of_member: Augment, where: str) -> None:
    """Raises :class:`Problem` for variants on the disk that the dataset's augment does not make."""
    there = of_dataset.mode != "online"
    same = replace(of_member, mode=of_dataset.mode) == of_dataset
    if of_member.mode == "online" or (there and (same or of_member.mode == "both")):
        return
    what = "those of its dataset" if there else "none: its dataset's are drawn online"
    raise Problem(
        f"expected the variants on the disk to be {what}, got others with the mode"
        f" {of_member.mode!r}",
        where=f"{where}: augment",
        remedy="Write 'mode: online', with which a network draws variants of its own.",
    )


def members(dataset: str, file: Path = paths.PARAMS) -> tuple[str, ...]:
    """The names of the members of ``dataset``, in the file's order."""
    return tuple(name for name, its in reader.members(file).items() if its == dataset)


def ensemble(dataset: str, file: Path = paths.PARAMS) -> Ensemble | None:
    """The entry of ``dataset`` below ``ensembles``; None where it has none."""
    return reader.ensemble_as(Ensemble, dataset, file)


def _fitted(settings: Params, dataset: str, file: Path) -> Params:
    """``settings`` whose network has as many channels as the pictures of ``dataset``."""
    names = [
        one.name for one in channels.of(datasets_spec.load(dataset).dataset, settings.convert.in_hu)
    ]
    wanted = settings.train.network.channels
    expected = f"1 or {len(names)} ({', '.join(names)})" if names else "1 or 3"
    if wanted not in ((1, len(names)) if names else (1, 3)):
        raise Problem(
            f"expected {expected}, the channels of the pictures, got {wanted}",
            where=f"{file}: train: network: channels of {dataset}",
            remedy="Correct it in the parameter file.",
        )
    if settings.train.channel_dropout and not names:
        raise Problem(
            f"expected 0 for pictures of one channel, got {settings.train.channel_dropout}",
            where=f"{file}: train: channel_dropout of {dataset}",
            remedy="Correct it in the parameter file.",
        )
    mode = settings.augment.mode
    if settings.train.source == "scans" and mode != "online" and settings.augment.variants:
        raise Problem(
            f"expected online where train.source is scans, got {mode}: the variants on disk are of"
            " pairs",
            where=f"{file}: augment: mode of {dataset}",
            remedy="Set augment.mode to online, or augment.variants to {}.",
        )
    network = replace(settings.train.network, channels=len(names) or wanted)
    return replace(settings, train=replace(settings.train, network=network))


def presets(file: Path = paths.PARAMS) -> dict[str, Params]:
    """Every entry of ``presets``, as the parameters that it leads to."""
    return reader.presets_as(Params, file)
