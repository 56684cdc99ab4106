"""Our warps as albumentations transforms, and chains of transforms from params.yaml.

A step is ``{Name: {argument: value}}``: ``Elastic`` and ``Barrel`` are ours, every
other name is looked up in albumentations. Each step has a random state of its own,
drawn from the pair's key, so a chain does the same whatever ran before it.
"""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network at import

import albumentations
import numpy as np
from albumentations.core.type_definitions import Targets
from numpy.typing import NDArray

from datasets_spec.contract import Problem
from pipeline import warps

Steps = Sequence[Mapping[str, Any]]


class _Warp(albumentations.DualTransform):  # type: ignore[misc]  # untyped library
    """Draws one field per pair and bends image and label with it."""

    _targets = (Targets.IMAGE, Targets.MASK)

    def draw(self, shape: tuple[int, int]) -> warps.Field:
        raise NotImplementedError

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        height, width = params["shape"][:2]
        return {"field": self.draw((height, width))}

    def apply(self, img: NDArray[np.uint8], field: warps.Field, **_: Any) -> NDArray[np.uint8]:
        return warps.bend_image(img, field)

    def apply_to_mask(
        self, mask: NDArray[np.uint8], field: warps.Field, **_: Any
    ) -> NDArray[np.uint8]:
        return warps.bend_label(mask, field)


class Elastic(_Warp):
    """See :func:`pipeline.warps.elastic`; lengths in picture pixels."""

    def __init__(self, sd_px: float, sigma_px: float, p: float = 1.0) -> None:
        super().__init__(p=p)
        if not (sd_px >= 0 and sigma_px >= 1):
            raise ValueError(f"expected sd_px >= 0 and sigma_px >= 1, not {sd_px} and {sigma_px}")
        self.sd_px, self.sigma_px = sd_px, sigma_px

    def draw(self, shape: tuple[int, int]) -> warps.Field:
        return warps.elastic(self.random_generator, shape, self.sd_px, self.sigma_px)


class Barrel(_Warp):
    """See :func:`pipeline.warps.barrel`; ``centre`` is (x, y), shares of the picture."""

    def __init__(
        self, radius: float, amount: float, centre: Sequence[float], p: float = 1.0
    ) -> None:
        super().__init__(p=p)
        if not (0 < radius <= 2 and -1 < amount < 4 and len(centre) == 2):
            raise ValueError("expected 0 < radius <= 2, -1 < amount < 4 and a centre [x, y]")
        self.radius, self.amount = float(radius), float(amount)
        self.centre = (float(centre[0]), float(centre[1]))

    def draw(self, shape: tuple[int, int]) -> warps.Field:
        return warps.barrel(shape, self.centre, self.radius, self.amount)


_OURS = {"Elastic": Elastic, "Barrel": Barrel}


def chain(steps: Steps, where: str) -> albumentations.Compose:
    """The transforms of ``steps``, in order. A step is applied always, unless it states ``p``.

    Raises :class:`Problem` for an unknown name or arguments that do not fit.
    """
    return albumentations.Compose([_transform(step, where) for step in steps])


def apply(
    transforms: albumentations.Compose,
    seed_parts: Sequence[object],
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The chain on a pair of (H, W) uint8 pictures, with random numbers from ``seed_parts``.

    Raises :class:`Problem` if the chain changed the pictures' shape or made a class id
    that was not there.
    """
    transforms.set_random_seed(warps.key(*seed_parts))
    for position, transform in enumerate(transforms.transforms):
        transform.set_random_seed(warps.key(*seed_parts, position))
    bent = transforms(image=image, mask=mask)
    if bent["image"].shape != image.shape or bent["mask"].shape != mask.shape:
        raise Problem(
            f"expected transforms that keep the picture's shape {image.shape},"
            f" got {bent['image'].shape}",
            where=f"variant {seed_parts[-1]}",
            remedy="Leave out transforms that crop or resize.",
        )
    if bent["image"].dtype != np.uint8 or bent["mask"].dtype != np.uint8:
        raise Problem(
            f"expected transforms that keep 8-bit pictures, got {bent['image'].dtype} images"
            f" and {bent['mask'].dtype} masks",
            where=f"variant {seed_parts[-1]}",
            remedy="Leave out transforms that normalise or change the type.",
        )
    new = set(np.unique(bent["mask"]).tolist()) - {0} - set(np.unique(mask).tolist())
    if new:
        raise Problem(
            f"expected transforms that keep class ids, got new ids {sorted(new)}",
            where=f"variant {seed_parts[-1]}",
            remedy="Leave the transform's mask interpolation at nearest.",
        )
    return bent["image"], bent["mask"]


def _theirs() -> dict[str, Any]:
    """albumentations' transforms by name, without the base classes, which have no apply."""
    base: Any = albumentations.BasicTransform
    found: dict[str, Any] = {
        name: kind
        for name, kind in vars(albumentations).items()
        if isinstance(kind, type) and issubclass(kind, base)
    }
    return {name: kind for name, kind in found.items() if kind.apply is not base.apply}


def _transform(step: Mapping[str, Any], where: str) -> Any:
    name, arguments = next(iter(step.items()))
    known = {**_theirs(), **_OURS}
    kind = known.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, known, n=1)
        raise Problem(
            f"expected Elastic, Barrel or the name of an albumentations transform, got {name!r}",
            where=where,
            remedy=f"Did you mean {near[0]!r}?" if near else "",
        )
    settings = {"p": 1.0, **(arguments or {})}
    if name not in _OURS:
        settings["strict"] = True  # else a misspelt argument is dropped with a warning
    try:
        return kind(**settings)
    except (TypeError, ValueError) as error:
        known_arguments = ", ".join(inspect.signature(kind).parameters)
        raise Problem(
            f"expected arguments of {name} ({known_arguments}), got {dict(arguments or {})}"
            f" ({' '.join(str(error).split())})",
            where=where,
            remedy="Correct it in the parameter file.",
        ) from None
