"""One elastic deformation of a pair, as each library does it: a fresh field, image and mask.

A peer is made for a strength, in its own unit, and bends a pair of (512, 512) uint8
pictures. :data:`STRENGTH` is what gives about :data:`SD_PX`; the benchmark corrects it by
what it measures. Fields are as smooth as a Gaussian of :data:`SIGMA_PX` over white
noise; where a library has control points instead, they are 2.5 sigma apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

Picture = NDArray[np.uint8]
Bend = Callable[[Picture, Picture], tuple[Picture, Picture]]
PX = 512
SIGMA_PX = 8.0
SD_PX = 2.27
_POINTS_PX = 2.5 * SIGMA_PX
# what a 2-D Gaussian filter makes of noise of sd 1, times what makes it SD_PX
_ALPHA = SD_PX * 2 * SIGMA_PX * math.sqrt(math.pi)


def ours(strength: float) -> Bend:
    from pipeline.warps import chains

    chain = chains.chain([{"Elastic": {"sd_px": strength, "sigma_px": SIGMA_PX}}], "benchmark")
    count = iter(range(1 << 30))
    return lambda image, mask: chains.apply(chain, ("benchmark", next(count)), image, mask)


def reference(strength: float) -> Bend:
    """Uniform noise under a Gaussian over rows, columns *and* channels, times alpha; RGB pictures.

    The image and the coloured mask are bent in two calls with a field each.
    """

    def bent(picture: Picture) -> Picture:
        colours = np.repeat(picture[..., None], 3, axis=-1)
        dx, dy = (
            gaussian_filter(np.random.rand(*colours.shape) * 2 - 1, SIGMA_PX, mode="constant")
            * strength
            for _ in range(2)
        )
        y, x, channel = np.indices(colours.shape)
        return map_coordinates(colours, [y + dy, x + dx, channel], order=1)[..., 0]

    return lambda image, mask: (bent(image), bent(mask))


def albumentations_exact(strength: float) -> Bend:
    return _albumentations(strength, approximate=False)


def albumentations_approximate(strength: float) -> Bend:
    return _albumentations(strength, approximate=True)


def _albumentations(strength: float, approximate: bool) -> Bend:
    import albumentations

    transform = albumentations.Compose(
        [
            albumentations.ElasticTransform(
                alpha=strength, sigma=SIGMA_PX, approximate=approximate, p=1
            )
        ]
    )

    def bend(image: Picture, mask: Picture) -> tuple[Picture, Picture]:
        bent = transform(image=image, mask=mask)
        return bent["image"], bent["mask"]

    return bend


def monai(strength: float) -> Bend:
    import torch
    from monai.transforms import Rand2DElasticd

    transform = Rand2DElasticd(
        ["image", "mask"],
        spacing=(_POINTS_PX, _POINTS_PX),
        magnitude_range=(strength, strength),
        prob=1,
        mode=["bilinear", "nearest"],
        padding_mode="zeros",
    )

    def bend(image: Picture, mask: Picture) -> tuple[Picture, Picture]:
        with torch.no_grad():
            bent = transform({"image": image[None], "mask": mask[None]})
        return np.asarray(bent["image"])[0], np.asarray(bent["mask"])[0]

    return bend


def torchio(strength: float) -> Bend:
    import torch
    import torchio as tio

    points = round(PX / _POINTS_PX) + 3
    transform = tio.RandomElasticDeformation(
        num_control_points=(points, points, 4),
        max_displacement=(strength, strength, 0),
        locked_borders=0,
    )

    def bend(image: Picture, mask: Picture) -> tuple[Picture, Picture]:
        subject = tio.Subject(
            image=tio.ScalarImage(tensor=torch.from_numpy(image)[None, ..., None]),
            mask=tio.LabelMap(tensor=torch.from_numpy(mask)[None, ..., None]),
        )
        bent = transform(subject)
        return bent["image"].numpy()[0, ..., 0], bent["mask"].numpy()[0, ..., 0]

    return bend


def batchgenerators(strength: float) -> Bend:
    from batchgenerators.augmentations.spatial_transformations import augment_spatial

    def bend(image: Picture, mask: Picture) -> tuple[Picture, Picture]:
        bent, ids = augment_spatial(
            image[None, None].astype(np.float32), mask[None, None].astype(np.float32), (PX, PX),
            alpha=(strength, strength), sigma=(SIGMA_PX, SIGMA_PX), do_rotation=False,
            do_scale=False, random_crop=False, border_mode_data="constant", order_data=1,
        )  # fmt: skip
        return bent[0, 0], ids[0, 0]

    return bend


def batchgeneratorsv2(strength: float) -> Bend:
    import torch
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    transform = SpatialTransform(
        (PX, PX), 0, False, p_elastic_deform=1,
        elastic_deform_scale=(SIGMA_PX / PX, SIGMA_PX / PX),
        elastic_deform_magnitude=(strength, strength), mode_seg="nearest",
    )  # fmt: skip

    def bend(image: Picture, mask: Picture) -> tuple[Picture, Picture]:
        bent = transform(
            image=torch.from_numpy(image)[None].float(), segmentation=torch.from_numpy(mask)[None]
        )
        return bent["image"].numpy()[0], bent["segmentation"].numpy()[0]

    return bend


PEERS: dict[str, Callable[[float], Bend]] = {
    "ours": ours,
    "reference projects' method": reference,
    "albumentations ElasticTransform": albumentations_exact,
    "albumentations, approximate": albumentations_approximate,
    "MONAI Rand2DElasticd": monai,
    "TorchIO RandomElasticDeformation": torchio,
    "batchgenerators augment_spatial": batchgenerators,
    "batchgeneratorsv2 SpatialTransform": batchgeneratorsv2,
}
STRENGTH = {
    "ours": SD_PX,
    "reference projects' method": 1300.0,
    "albumentations ElasticTransform": _ALPHA,
    "albumentations, approximate": _ALPHA,
    "MONAI Rand2DElasticd": SD_PX,
    "TorchIO RandomElasticDeformation": 3 * SD_PX,
    "batchgenerators augment_spatial": _ALPHA * math.sqrt(3),
    "batchgeneratorsv2 SpatialTransform": 4.5 * SD_PX,
}
