"""Chains of transforms from params.yaml, applied to a pair of image and mask.

A step is ``{Name: {argument: value}}``. The names below are ours, any other is looked up
in albumentations; ``albumentations.Name`` is theirs where both have it. A step is applied
always, unless it states a probability ``p``. Each step draws from a key of its own, so a
chain does the same whatever ran before it.

Spatial steps of ours that follow each other become one field and resample once. Any
other step between them, also one of albumentations or on the image alone, ends that:
what comes later starts from its pixels. Flips and right-angle turns are exact, on
their own and among each other.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Protocol

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network at import

import albumentations
import cv2
import numpy as np

from datasets_spec.contract import Problem
from pipeline import fields, warps
from pipeline.warps import Picture, Shape, Strip, Warp

Steps = Sequence[Mapping[str, Any]]
DRAWS = 20
"""How often a field that folds is drawn anew before its strength is refused."""


@dataclass(frozen=True)
class Step:
    """What every step of ours has: ``p``, how likely it is applied."""

    p: float = dataclasses.field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.type == "float":  # 1 and 1.0 are one step, also where steps are compared
                object.__setattr__(self, field.name, float(getattr(self, field.name)))
        _require(0 <= self.p <= 1, "0 <= p <= 1")
        self.check()

    def check(self) -> None:
        """Raise ValueError for arguments that do not fit."""


class Spatial(Step):
    """Bends image and mask alike. A ``constant`` one is the same for every pair."""

    constant: ClassVar[bool] = True

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        raise NotImplementedError


class Tonal(Step):
    """Changes the image's values; the mask stays."""

    def tone(self, image: Picture) -> Picture:
        raise NotImplementedError


@dataclass(frozen=True)
class Elastic(Spatial):
    """See :func:`pipeline.fields.elastic`."""

    sd_px: float
    sigma_px: float
    constant: ClassVar[bool] = False

    def check(self) -> None:
        _require(self.sd_px >= 0 and self.sigma_px >= 1, "sd_px >= 0 and sigma_px >= 1")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.elastic(rng, shape, self.sd_px, self.sigma_px)


@dataclass(frozen=True)
class Distorted(Spatial):
    """See :func:`pipeline.fields.distorted`."""

    ratio: float
    sigma_px: float
    constant: ClassVar[bool] = False

    def check(self) -> None:
        _require(0 <= self.ratio <= 1 and self.sigma_px >= 1, "0 <= ratio <= 1 and sigma_px >= 1")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.distorted(rng, shape, self.ratio, self.sigma_px)


@dataclass(frozen=True)
class Barrel(Spatial):
    """See :func:`pipeline.fields.barrel`; ``centre`` is [x, y], shares of the picture."""

    radius: float
    amount: float
    centre: tuple[float, float]

    def check(self) -> None:
        fits = 0 < self.radius <= 2 and -1 < self.amount < 4 and len(self.centre) == 2
        _require(fits, "0 < radius <= 2, -1 < amount < 4 and a centre [x, y]")
        object.__setattr__(self, "centre", tuple(map(float, self.centre)))

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.barrel(shape, self.centre, self.radius, self.amount)


@dataclass(frozen=True)
class Pincushion(Barrel):
    """A barrel of the negative ``amount``, which is stated above 0."""

    def check(self) -> None:
        super().check()
        _require(0 <= self.amount < 1, "0 <= amount < 1")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.barrel(shape, self.centre, self.radius, -self.amount)


@dataclass(frozen=True)
class Flip(Spatial):
    """See :func:`pipeline.fields.flip`; ``axis`` is horizontal or vertical."""

    axis: str

    def check(self) -> None:
        _require(self.axis in ("horizontal", "vertical"), "the axis horizontal or vertical")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.flip(shape, self.axis)


@dataclass(frozen=True)
class Rotate(Spatial):
    """See :func:`pipeline.fields.rotate`."""

    degrees: float

    def check(self) -> None:
        _require(-360 <= self.degrees <= 360, "-360 <= degrees <= 360")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.rotate(shape, self.degrees)


@dataclass(frozen=True)
class Shrink(Spatial):
    """See :func:`pipeline.fields.shrink`."""

    ratio: float

    def check(self) -> None:
        _require(0.1 <= self.ratio <= 1, "0.1 <= ratio <= 1")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.shrink(shape, self.ratio)


@dataclass(frozen=True)
class Shear(Spatial):
    """See :func:`pipeline.fields.shear`; ``axis`` is horizontal or vertical."""

    ratio: float
    axis: str = "horizontal"

    def check(self) -> None:
        _require(-2 <= self.ratio <= 2, "-2 <= ratio <= 2")
        _require(self.axis in ("horizontal", "vertical"), "the axis horizontal or vertical")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.shear(shape, self.ratio, self.axis)


@dataclass(frozen=True)
class Brighten(Tonal):
    """Values times ``factor``; below 1 darkens."""

    factor: float

    def check(self) -> None:
        _require(0 <= self.factor <= 255, "0 <= factor <= 255")

    def tone(self, image: Picture) -> Picture:
        values = np.clip(np.rint(np.arange(256) * self.factor), 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(image, values), np.uint8)


@dataclass(frozen=True)
class Sharpen(Tonal):
    """``amount`` times the difference from the four neighbours (Laplacian) is added."""

    amount: float

    def check(self) -> None:
        _require(0 <= self.amount <= 16, "0 <= amount <= 16")

    def tone(self, image: Picture) -> Picture:
        around = np.pad(image.astype(np.float32), 1, mode="edge")
        middle = around[1:-1, 1:-1]
        neighbours = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]
        sharp = middle + np.float32(self.amount) * (4 * middle - neighbours)
        return np.clip(np.rint(sharp), 0, 255).astype(np.uint8)


_OURS: dict[str, type[Spatial] | type[Tonal]] = {
    kind.__name__: kind
    for kind in (
        Elastic, Distorted, Barrel, Pincushion, Flip, Rotate, Shrink, Shear, Brighten, Sharpen,
    )
}  # fmt: skip


class Part(Protocol):
    """Some steps of a chain that are done at once."""

    def __call__(
        self, seed_parts: Sequence[object], image: Picture, mask: Picture
    ) -> tuple[Picture, Picture]: ...


def chain(steps: Steps, where: str) -> list[Part]:
    """The transforms of ``steps``, in order; spatial neighbours of ours are one part.

    Raises :class:`Problem` for an unknown name or arguments that do not fit.
    """
    parts: list[Part] = []
    run: list[tuple[int, Spatial]] = []
    for position, step in enumerate(steps):
        name, arguments = next(iter(step.items()))
        built = _built(name, dict(arguments or {}), where)
        if isinstance(built, Spatial):
            if not run:
                parts.append(_Bend(run, where))
            run.append((position, built))
            continue
        run = []
        if isinstance(built, Tonal):
            parts.append(_Tone(position, built))
        else:
            parts.append(_Theirs(position, built, where))
    return parts


def apply(
    transforms: Sequence[Part], seed_parts: Sequence[object], image: Picture, mask: Picture
) -> tuple[Picture, Picture]:
    """The chain on a pair of (H, W) uint8 pictures, with random numbers from ``seed_parts``.

    Raises :class:`Problem` for fields that fold, and if an albumentations transform changed
    the pictures' shape or made a class id that was not there.
    """
    for part in transforms:
        image, mask = part(seed_parts, image, mask)
    return image, mask


@dataclass(frozen=True)
class _Bend:
    """A run of spatial steps, each with its position in the chain: one field, resampled once."""

    run: list[tuple[int, Spatial]]
    where: str

    def __call__(
        self, seed_parts: Sequence[object], image: Picture, mask: Picture
    ) -> tuple[Picture, Picture]:
        run = [(at, step) for at, step in self.run if _happens(step, seed_parts, at)]
        if not run:
            return image, mask
        shape = (mask.shape[0], mask.shape[1])
        if all(step.constant for _, step in run):
            return warps.bend(image, mask, _constant(tuple(step for _, step in run), shape))
        drawn = [self._drawn(step, (*seed_parts, at), shape) for at, step in run]
        return warps.bend(image, mask, warps.strips(warps.composed(drawn, shape)))

    def _drawn(self, step: Spatial, seed_parts: Sequence[object], shape: Shape) -> Warp:
        for again in range(DRAWS):
            parts = (*seed_parts, again) if again else seed_parts
            warp = step.warp(np.random.default_rng(warps.key(*parts)), shape)
            if step.constant or not warp.folds:  # by their formulas constant ones never fold
                return warp
        raise Problem(
            f"expected a field that does not fold the picture, got {DRAWS} that do from {step}",
            where=self.where,
            remedy="Lower its strength or raise sigma_px.",
        )


@lru_cache(maxsize=16)
def _constant(steps: tuple[Spatial, ...], shape: Shape) -> tuple[Strip, ...]:
    rng = np.random.default_rng(0)  # constant steps draw nothing
    return tuple(warps.strips(warps.composed([step.warp(rng, shape) for step in steps], shape)))


@dataclass(frozen=True)
class _Tone:
    position: int
    step: Tonal

    def __call__(
        self, seed_parts: Sequence[object], image: Picture, mask: Picture
    ) -> tuple[Picture, Picture]:
        happens = _happens(self.step, seed_parts, self.position)
        return (self.step.tone(image) if happens else image), mask


@dataclass(frozen=True)
class _Theirs:
    """An albumentations transform, made anew in each thread: its random state is its own."""

    position: int
    make: Callable[[], Any]
    where: str
    of_thread: threading.local = dataclasses.field(default_factory=threading.local)

    def __call__(
        self, seed_parts: Sequence[object], image: Picture, mask: Picture
    ) -> tuple[Picture, Picture]:
        if not hasattr(self.of_thread, "transform"):
            self.of_thread.transform = albumentations.Compose([self.make()])
        transform = self.of_thread.transform
        transform.set_random_seed(warps.key(*seed_parts))
        transform.transforms[0].set_random_seed(warps.key(*seed_parts, self.position))
        bent = transform(image=image, mask=mask)
        self._require_a_pair_like(image, mask, bent["image"], bent["mask"])
        return bent["image"], bent["mask"]

    def _require_a_pair_like(
        self, image: Picture, mask: Picture, bent_image: Any, bent_mask: Any
    ) -> None:
        if bent_image.shape != image.shape or bent_mask.shape != mask.shape:
            raise Problem(
                f"expected transforms that keep the picture's shape {image.shape},"
                f" got {bent_image.shape}",
                where=self.where,
                remedy="Leave out transforms that crop or resize.",
            )
        if bent_image.dtype != np.uint8 or bent_mask.dtype != np.uint8:
            raise Problem(
                f"expected transforms that keep 8-bit pictures, got {bent_image.dtype} images"
                f" and {bent_mask.dtype} masks",
                where=self.where,
                remedy="Leave out transforms that normalise or change the type.",
            )
        new = _ids(bent_mask) - {0} - _ids(mask)
        if new:
            raise Problem(
                f"expected transforms that keep class ids, got new ids {sorted(new)}",
                where=self.where,
                remedy="Leave the transform's mask interpolation at nearest.",
            )


def _ids(mask: Picture) -> set[int]:
    return set(np.flatnonzero(cv2.calcHist([mask], [0], None, [256], [0, 256])).tolist())


def _happens(step: Step, seed_parts: Sequence[object], position: int) -> bool:
    return step.p == 1 or warps.key(*seed_parts, position, "p") < step.p * 2**63


def _theirs() -> dict[str, Any]:
    """albumentations' transforms by name, without the base classes, which have no apply."""
    base: Any = albumentations.BasicTransform
    found: dict[str, Any] = {
        name: kind
        for name, kind in vars(albumentations).items()
        if isinstance(kind, type) and issubclass(kind, base)
    }
    return {name: kind for name, kind in found.items() if kind.apply is not base.apply}


_THEIR_PREFIX = "albumentations."


def _built(name: str, arguments: dict[str, Any], where: str) -> Spatial | Tonal | Callable[[], Any]:
    """A step of ours, or what makes a transform of albumentations."""
    theirs = _theirs()
    known: dict[str, Any] = {**theirs, **_OURS}
    known |= {_THEIR_PREFIX + both: theirs[both] for both in _OURS.keys() & theirs.keys()}
    kind = known.get(name) or theirs.get(name.removeprefix(_THEIR_PREFIX))
    if kind is None:
        near = difflib.get_close_matches(name, known, n=1)
        raise Problem(
            f"expected {', '.join(_OURS)} or the name of an albumentations transform, got {name!r}",
            where=where,
            remedy=f"Did you mean {near[0]!r}?" if near else "",
        )
    ours = name in _OURS
    # without "strict" a misspelt argument is dropped with a warning
    settings = arguments if ours else {"p": 1.0, **arguments, "strict": True}
    try:
        built = kind(**settings)
    except (TypeError, ValueError) as error:
        known_arguments = ", ".join(inspect.signature(kind).parameters)
        both = ours and name in theirs
        raise Problem(
            f"expected arguments of {name} ({known_arguments}), got {arguments}"
            f" ({' '.join(str(error).split())})",
            where=where,
            remedy="Correct it in the parameter file."
            + (f" albumentations' own is {_THEIR_PREFIX}{name}." if both else ""),
        ) from None
    return built if ours else lambda: kind(**settings)


def _require(fits: bool, expected: str) -> None:
    if not fits:
        raise ValueError(f"expected {expected}")
