"""What convert keeps of each case's labels beside the pairs: which files, and if they are whole.

``data/converted/<dataset>/truth/<case>/`` holds

    label.nii.gz              class ids on the source's own grid: the one rater, or several fused
    label_r<rater>.nii.gz     those that one of several raters drew
    truth.json                a :class:`TruthRecord`: the kind of source, its parts, the raters, the
                              sha256 of each volume, and the places of slices without one spacing

Of slices without one spacing the volumes are ``label.npz`` and so on: a NIfTI would state one.

The manifest names ``truth.json`` with its sha256, which therefore stands for all of them. Cases,
raters and instances have the names of the outputs (:mod:`pipeline.pairs.pseudonyms`). How the
volumes are written and read is in :mod:`pipeline.pairs.truth`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import paths
from pipeline.pairs.case_record import Kept

NIFTI, DICOM, PICTURES = "nifti", "dicom", "pictures"
KEPT = Kept(paths.TRUTH, "truth.json", "the labels")
"""Where the records lie, and if they are whole."""


@dataclass(frozen=True)
class TruthRecord:
    """What is known of a case's source without the source.

    ``source``: :data:`NIFTI`, :data:`DICOM` or :data:`PICTURES` (which state no geometry).
    ``parts``: the names under which a prediction is written part by part: of a DICOM series the
    SOPInstanceUID of each third index of its grid, of pictures a name for each slice; none of
    NIfTI. ``raters``: those of the raw data, where there are several. ``digests``: the sha256 of
    each volume by its file's name. ``places_mm`` and ``thicknesses_mm``: of slices without one
    spacing, in the order of the grid's third axis, where the first voxel of each lies (x, y, z in
    RAS+), and how much of the stack it stands for; else none.
    """

    source: str
    parts: tuple[str, ...]
    raters: tuple[str, ...]
    digests: Mapping[str, str]
    places_mm: tuple[tuple[float, ...], ...] = ()
    thicknesses_mm: tuple[float, ...] = ()

    @property
    def uneven(self) -> bool:
        """Whether the source is slices without one spacing."""
        return bool(self.places_mm)


def volume_name(rater: str, uneven: bool) -> str:
    """The file of a rater's labels; "" for the only rater, or for several fused."""
    return f"label{f'_r{rater}' if rater else ''}{'.npz' if uneven else '.nii.gz'}"


def write(folder: Path, case: str, record: TruthRecord) -> tuple[str, str]:
    """As :meth:`pipeline.pairs.case_record.Kept.write`."""
    return KEPT.write(folder, case, asdict(record))


def read(folder: Path, name: str, digest: str) -> TruthRecord:
    """The record that a manifest names. Raises :class:`Problem` if its sha256 is not ``digest``."""
    content = KEPT.read(folder, name, digest)
    return TruthRecord(
        content["source"],
        tuple(content["parts"]),
        tuple(content["raters"]),
        content["digests"],
        tuple(map(tuple, content["places_mm"])),
        tuple(content["thicknesses_mm"]),
    )
