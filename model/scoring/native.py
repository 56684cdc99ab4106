"""A prediction in the source's own form: NIfTI on its grid, masks of DICOM instances, pictures."""

from __future__ import annotations

from pathlib import Path

from datasets_spec.contract import LabelMap
from model.delivery import instances
from model.scoring.scores import Stack
from pipeline import paths
from pipeline.pairs import png, truth_record
from pipeline.pairs.manifest import Pair
from pipeline.pairs.truth import KeptTruth
from pipeline.volumes import nifti, volume


def write(folder: Path, pair: Pair, stack: Stack, kept: KeptTruth, label_map: LabelMap) -> None:
    """Write class ids (N, rows, columns) of the case and rater of ``pair`` below ``folder``.

    ``<case>.nii.gz`` has the header that the labels were kept with; ``<case>/<part>.png`` is a
    DICOM instance, or one of several pictures, as the source stores it. Slices without one spacing
    have no NIfTI. Where each rater has pairs of their own, their name follows the case's.
    """
    name = paths.of_case(pair.case, pair.rater)
    parts = kept.record.parts
    if kept.record.source == truth_record.PICTURES:
        for part, ids in zip(parts, stack, strict=True):
            png.write_mask(folder / name / f"{part}.png", ids, label_map)
        return
    in_ras, grid = volume.unslice(stack, kept.plane), kept.grid
    if not kept.record.uneven:
        own = grid.from_ras(in_ras)
        nifti.save_like(folder / f"{name}.nii.gz", own, grid, kept.file(pair.rater))
    instances.write(folder / name, in_ras, grid, parts, label_map)
