"""The sections of params.yaml that a model follows: ``train`` with its network, and ``evaluate``.

:mod:`pipeline.params.reader` reads the file; here stands what these two sections may say.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline import paths
from pipeline.params import reader
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
    "boundary",
)
"""The losses of model/training/losses.py."""
MONITORS = ("val_loss", "val_foreground_dice", "val_foreground_iou", "val_dice_coef_multiclass")
"""What can decide the best checkpoint, early stopping and the reducer; all but the loss grow."""


@dataclass(frozen=True)
class Network:
    """The knobs of FlexUNet (model/flexunet.py). ``dropout_rate`` grows by level.

    ``input_normalization``: none (0..255 to 0..1) or zscore (each picture to mean 0, sd 1).
    ``deep_supervision``: while training, coarser levels of the decoder are judged too.
    """

    image_px: int
    channels: int
    base_filters: int
    base_kernels: int
    num_layers: int
    dilation: int
    dropout_rate: float
    activation: str
    normalization: str
    input_normalization: str = "none"
    deep_supervision: bool = False

    def __post_init__(self) -> None:
        expect(self.channels in (1, 3), "channels", "1 or 3", self.channels)
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
        one_of("input_normalization", self.input_normalization, ("none", "zscore"))
        step = 2 ** (self.num_layers - 1)
        if self.image_px < step or self.image_px % step:
            near = max(step, self.image_px // step * step)
            expect(
                False,
                "image_px",
                f"a multiple of 2^(num_layers - 1) = {step}, such as {near} or {near + step}",
                self.image_px,
            )


@dataclass(frozen=True)
class Train:
    """The trainer. ``patience`` values count epochs; 0 switches a share or a limit off.

    ``focal_gamma``, ``tversky_alpha`` (the weight of false positives; 1 minus it that of false
    negatives) and ``boundary_weight`` with ``boundary_px`` matter to the losses of these names.
    ``schedule``: plateau (times ``reducer_factor`` after ``reducer_patience`` epochs without
    gain) or cosine (to 0 over all epochs). ``accumulate_batches``: batches per update.
    ``ema_momentum``: the model is the moving average of its weights. ``precision`` auto: as a
    short probe finds fastest; ``jit`` auto: where XLA is not known to be slower.
    ``class_share``: part of the pairs that is drawn from the pictures of each class in turn.
    ``steps_per_epoch`` 0 means every picture once per epoch. ``monitor`` decides the best
    checkpoint, early stopping and the plateau. ``tensorboard``, ``dvclive``: also write these.
    """

    seed: int
    network: Network
    loss: str
    focal_gamma: float
    tversky_alpha: float
    boundary_weight: float
    boundary_px: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    schedule: str
    reducer_factor: float
    reducer_patience: int
    clipvalue: float
    clipnorm: float
    accumulate_batches: int
    ema_momentum: float
    precision: str
    jit: str
    batch_pairs: int
    class_share: float
    epochs: int
    steps_per_epoch: int
    monitor: str
    early_stopping_patience: int
    epoch_change_pictures: int
    tensorboard: bool
    dvclive: bool

    def __post_init__(self) -> None:
        one_of("loss", self.loss, LOSSES)
        one_of("optimizer", self.optimizer, ("adam", "adamw"))
        one_of("schedule", self.schedule, ("plateau", "cosine"))
        one_of("precision", self.precision, ("auto", "float32", "bfloat16", "float16"))
        one_of("jit", self.jit, ("auto", "always", "never"))
        one_of("monitor", self.monitor, MONITORS)
        expect(0 < self.learning_rate <= 1, "learning_rate", "above 0 to 1", self.learning_rate)
        expect(0 <= self.seed < 2**32, "seed", f"0 to {2**32 - 1}", self.seed)
        for name in ("reducer_factor", "tversky_alpha"):
            expect(0 < getattr(self, name) < 1, name, "above 0 to below 1", getattr(self, name))
        for name in ("ema_momentum", "weight_decay"):
            expect(0 <= getattr(self, name) < 1, name, "0 to below 1", getattr(self, name))
        expect(0 <= self.class_share <= 1, "class_share", "0 to 1", self.class_share)
        expect(
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
            expect(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        for name in (
            "boundary_px",
            "accumulate_batches",
            "batch_pairs",
            "epochs",
            "early_stopping_patience",
            "reducer_patience",
        ):
            expect(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))


@dataclass(frozen=True)
class Evaluate:
    """The scores. ``batch_slices``: slices predicted at once.

    ``nsd_tolerance_mm``: how far two surfaces may be apart and still count as one.
    ``postprocess``: whether valid may choose a post-processing. ``worst_cases``: how many of
    the cases with the lowest Dice are kept as pictures. ``seed`` draws the intervals' resamples.
    """

    seed: int
    batch_slices: int
    nsd_tolerance_mm: float
    postprocess: bool
    worst_cases: int

    def __post_init__(self) -> None:
        expect(self.batch_slices >= 1, "batch_slices", "1 or more", self.batch_slices)
        expect(self.nsd_tolerance_mm >= 0, "nsd_tolerance_mm", "0 or more", self.nsd_tolerance_mm)
        expect(0 <= self.worst_cases <= 100, "worst_cases", "0 to 100", self.worst_cases)


@dataclass(frozen=True)
class Params(reader.Params):
    """Everything in params.yaml that holds for one dataset."""

    train: Train
    evaluate: Evaluate


def load(dataset: str, file: Path = paths.PARAMS) -> Params:
    """The parameters of ``dataset``: the sections with its entry's overrides.

    Raises :class:`Problem` for a dataset that is not enabled and for any key or
    value that does not fit.
    """
    return reader.load_as(Params, dataset, file)


def presets(file: Path = paths.PARAMS) -> dict[str, Params]:
    """Every entry of ``presets``, as the parameters that it leads to."""
    return reader.presets_as(Params, file)
