"""Labels that are DICOM SEG or RTSTRUCT -> class ids: the door to both.

They state their classes by name, so no raw value, colour or table is decoded.
"""

from __future__ import annotations

from datasets_spec.contract import Dataset, Problem
from pipeline.labels import of_segmentation, of_structures
from pipeline.labels.of_segmentation import Elsewhere
from pipeline.labels.resample import onto_image, volume_changes
from pipeline.params.limits import Limits
from pipeline.volumes.dicom import segmentation, structures
from pipeline.volumes.dicom.objects import Drawing
from pipeline.volumes.volume import Volume


def class_ids(
    dataset: Dataset, drawing: Drawing, image: Volume, limits: Limits = Limits()
) -> Volume:
    """The class ids (X, Y, Z) uint8 of a drawing on the grid of ``image``, with findings.

    Raises :class:`Problem` for a damaged file, for a segment or region of no class, for voxels of
    two classes, and for a drawing on another grid that the dataset does not allow, or of which
    resampling takes more than :data:`~pipeline.labels.resample.LOST`.
    """
    if not drawing.is_segmentation:
        regions = structures.read(drawing.file, limits)
        return of_structures.onto(dataset, regions, image, drawing.file)
    seg = segmentation.read(drawing.file, limits)
    try:
        return of_segmentation.onto(dataset, seg, image)
    except Elsewhere as elsewhere:
        if not dataset.resample_labels or image.uneven is not None:
            raise _other_grid(drawing, image, str(elsewhere)) from None
    own = of_segmentation.on_own_grid(dataset, seg, limits)
    moved = onto_image(own, image.grid, drawing.file)
    changes = volume_changes(dataset, own, moved, drawing.file)
    return Volume(moved.array, moved.grid, findings=(*moved.findings, *changes))


def classes(dataset: Dataset, drawing: Drawing, limits: Limits = Limits()) -> frozenset[int]:
    """The class ids that a drawing shows anywhere, without a look at its image.

    Raises :class:`Problem` for a damaged file, and for a segment or region of no class.
    """
    if drawing.is_segmentation:
        return of_segmentation.classes(dataset, segmentation.read(drawing.file, limits))
    return of_structures.classes(dataset, structures.read(drawing.file, limits), drawing.file)


def _other_grid(drawing: Drawing, image: Volume, why: str) -> Problem:
    remedy = "Draw it on the image's own slices"
    if image.uneven is None:
        remedy += (
            ", or let the adapter state resample_labels: then it is resampled by nearest neighbour"
        )
    return Problem(
        f"expected frames that are slices of the image, got {why}",
        where=drawing.file,
        remedy=f"{remedy}.",
    )
