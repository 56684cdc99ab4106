"""Write the pictures of a pair, and fill in the columns that depend on them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import IGNORED, LabelMap
from pipeline import paths
from pipeline.pairs import png
from pipeline.pairs.manifest import Pair


def put(
    folder: Path,
    pair: Pair,
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    label_map: LabelMap,
) -> Pair:
    """Write the pictures of ``pair``; returns it with file names, counts and digests.

    ``image`` is (H, W), or (H, W, channels) of a pair that names them.
    """
    image_name, mask_name = f"{paths.IMAGES}/{pair.id}.png", f"{paths.MASKS}/{pair.id}.png"
    digest, *more = png.write_images(folder / image_name, image)
    return replace(
        pair,
        image=image_name,
        mask=mask_name,
        class_pixels=tuple(int(np.count_nonzero(mask == label.id)) for label in label_map),
        image_digest=digest,
        more_digests=json.dumps(more) if more else "",
        mask_digest=png.write_mask(folder / mask_name, mask, label_map),
        ignored_pixels=int(np.count_nonzero(mask == IGNORED)),
    )
