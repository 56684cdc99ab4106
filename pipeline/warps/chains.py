"""Chains of transforms from params.yaml, applied to a pair of image and mask.

A step is ``{Name: {argument: value}}``. A name is looked up in
:mod:`pipeline.warps.steps` first and then in albumentations; ``albumentations.Name`` selects the
latter where both have it. A step is always applied, unless it states a probability ``p``. Each
step draws from a key of its own, so a chain gives the same result whatever ran before it.

Consecutive spatial steps of this project become one field and are resampled once. Any other
step between them (of albumentations, or on the image only) starts a new field. Flips and
rotations by right angles are exact, alone and combined.

A chain may be applied to a smaller picture of the same than its lengths in pixels are stated for:
a key draws the same field for both, looked up where the pixels of the smaller one lie. What acts
on single pixels (noise, ``Sharpen``) and what albumentations does is done to the pixels there are.
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
from typing import Any, Protocol

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would query the network

import albumentations
import cv2
import numpy as np

from datasets_spec.contract import Problem
from pipeline.runtime import keys
from pipeline.volumes.arrays import Image8
from pipeline.warps import warp as warps
from pipeline.warps.step import RandomTonal, Spatial, Step, Tonal
from pipeline.warps.steps import OURS
from pipeline.warps.warp import Shape, Strip, Warp

Steps = Sequence[Mapping[str, Any]]
_TRIAL_PX = 64
_LONGEST = 200  # characters of another library's error
DRAWS = 20
"""How often a field that folds is drawn again before its strength is refused."""


class Part(Protocol):
    """Steps of a chain that are applied together."""

    def __call__(
        self, seed_parts: Sequence[object], image: Image8, mask: Image8, reference: Shape
    ) -> tuple[Image8, Image8]: ...


def chain(steps: Steps, where: str) -> list[Part]:
    """The transforms of ``steps``, in order; consecutive spatial steps of ours are one part.

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
        if isinstance(built, Tonal | RandomTonal):
            parts.append(_Tone(position, built))
        else:
            parts.append(_Theirs(position, built, where))
    return parts


def apply(
    transforms: Sequence[Part],
    seed_parts: Sequence[object],
    image: Image8,
    mask: Image8,
    reference: Shape | None = None,
) -> tuple[Image8, Image8]:
    """The chain on a pair of (H, W) uint8 pictures, with random numbers from ``seed_parts``.

    An image of several channels is (H, W, channels): one field bends all of them. ``reference``:
    the shape of the pictures that lengths in pixels are stated for; without, that of these.

    Raises :class:`Problem` for fields that fold, and if an albumentations transform changed
    the pictures' shape or made a class id that was not there.
    """
    reference = reference or (mask.shape[0], mask.shape[1])
    for part in transforms:
        image, mask = part(seed_parts, image, mask, reference)
    return image, mask


def require_channels(parts: Sequence[Part], steps: Steps, channels: int, where: str) -> None:
    """Raises :class:`Problem` unless a chain can be applied to so many channels, which is tried."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (_TRIAL_PX, _TRIAL_PX, channels), np.uint8)
    mask = np.zeros((_TRIAL_PX, _TRIAL_PX), np.uint8)
    for part in parts:
        if not isinstance(part, _Theirs):
            continue
        name = next(iter(steps[part.position]))
        try:
            part((0, name), image, mask, (_TRIAL_PX, _TRIAL_PX))
        except Problem:
            raise
        except Exception as error:  # whatever a transform for colours meets
            raise Problem(
                f"expected transforms of pictures of {channels} channels, got {name}, which fails"
                f" ({type(error).__name__}: {' '.join(str(error).split())[:_LONGEST]})",
                where=where,
                remedy="Leave it out for this dataset.",
            ) from None


@dataclass(frozen=True)
class _Bend:
    """A run of spatial steps, each with its position in the chain: one field, resampled once."""

    run: list[tuple[int, Spatial]]
    where: str

    def __call__(
        self, seed_parts: Sequence[object], image: Image8, mask: Image8, reference: Shape
    ) -> tuple[Image8, Image8]:
        run = [(at, step) for at, step in self.run if _happens(step, seed_parts, at)]
        if not run:
            return image, mask
        shape = (mask.shape[0], mask.shape[1])
        if all(step.constant for _, step in run):
            steps = tuple(step for _, step in run)
            return warps.bend(image, mask, _constant(steps, shape, reference))
        drawn = [self._drawn(step, (*seed_parts, at), reference) for at, step in run]
        return warps.bend(image, mask, warps.strips(warps.composed(drawn, shape, reference)))

    def _drawn(self, step: Spatial, seed_parts: Sequence[object], shape: Shape) -> Warp:
        for again in range(DRAWS):
            parts = (*seed_parts, again) if again else seed_parts
            warp = step.warp(np.random.default_rng(keys.key(*parts)), shape)
            if step.constant or not warp.folds:  # constant steps never fold, by their formulas
                return warp
        raise Problem(
            f"expected a field that does not fold the picture, got {DRAWS} that do from {step}",
            where=self.where,
            remedy="Lower its strength or raise sigma_px.",
        )


@lru_cache(maxsize=16)
def _constant(steps: tuple[Spatial, ...], shape: Shape, reference: Shape) -> tuple[Strip, ...]:
    rng = np.random.default_rng(0)  # constant steps draw nothing
    drawn = [step.warp(rng, reference) for step in steps]
    return tuple(warps.strips(warps.composed(drawn, shape, reference)))


@dataclass(frozen=True)
class _Tone:
    position: int
    step: Tonal | RandomTonal

    def __call__(
        self, seed_parts: Sequence[object], image: Image8, mask: Image8, reference: Shape
    ) -> tuple[Image8, Image8]:
        if not _happens(self.step, seed_parts, self.position):
            return image, mask
        if isinstance(self.step, RandomTonal):
            rng = np.random.default_rng(keys.key(*seed_parts, self.position))
            return self.step.tone(image, rng, image.shape[1] / reference[1]), mask
        if image.ndim == 2:
            return self.step.tone(image), mask
        return np.dstack([self.step.tone(one.copy()) for one in image.transpose(2, 0, 1)]), mask


@dataclass(frozen=True)
class _Theirs:
    """An albumentations transform, made anew in each thread: its random state is its own."""

    position: int
    make: Callable[[], Any]
    where: str
    of_thread: threading.local = dataclasses.field(default_factory=threading.local)

    def __call__(
        self, seed_parts: Sequence[object], image: Image8, mask: Image8, reference: Shape
    ) -> tuple[Image8, Image8]:
        if not hasattr(self.of_thread, "transform"):
            self.of_thread.transform = albumentations.Compose([self.make()])
        transform = self.of_thread.transform
        transform.set_random_seed(keys.key(*seed_parts))
        transform.transforms[0].set_random_seed(keys.key(*seed_parts, self.position))
        bent = transform(image=image, mask=mask)
        self._require_same_kind(image, mask, bent["image"], bent["mask"])
        return bent["image"], bent["mask"]

    def _require_same_kind(
        self, image: Image8, mask: Image8, bent_image: Any, bent_mask: Any
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


def _ids(mask: Image8) -> set[int]:
    return set(np.flatnonzero(cv2.calcHist([mask], [0], None, [256], [0, 256])).tolist())


def _happens(step: Step, seed_parts: Sequence[object], position: int) -> bool:
    return step.p == 1 or keys.key(*seed_parts, position, "p") < step.p * 2**63


def _theirs() -> dict[str, Any]:
    """The transforms of albumentations by name, without the base classes, which have no apply."""
    base: Any = albumentations.BasicTransform
    found: dict[str, Any] = {
        name: kind
        for name, kind in vars(albumentations).items()
        if isinstance(kind, type) and issubclass(kind, base)
    }
    return {name: kind for name, kind in found.items() if kind.apply is not base.apply}


_THEIR_PREFIX = "albumentations."


def _built(
    name: str, arguments: dict[str, Any], where: str
) -> Spatial | Tonal | RandomTonal | Callable[[], Any]:
    """A step of this project, or a function that makes a transform of albumentations."""
    theirs = _theirs()
    known: dict[str, Any] = {**theirs, **OURS}
    known |= {_THEIR_PREFIX + both: theirs[both] for both in OURS.keys() & theirs.keys()}
    kind = known.get(name) or theirs.get(name.removeprefix(_THEIR_PREFIX))
    if kind is None:
        near = difflib.get_close_matches(name, known, n=1)
        raise Problem(
            f"expected {', '.join(OURS)} or the name of an albumentations transform, got {name!r}",
            where=where,
            remedy=f"Did you mean {near[0]!r}?" if near else "",
        )
    ours = name in OURS
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
