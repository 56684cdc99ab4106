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

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from datasets_spec.contract import Problem
from pipeline import paths
from pipeline.runtime import files

NIFTI, DICOM, PICTURES = "nifti", "dicom", "pictures"
_RECORD = "truth.json"


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


def place(case: str) -> str:
    """The folder of a case, relative to the manifest's."""
    return f"{paths.TRUTH}/{case}"


def volume_name(rater: str, uneven: bool) -> str:
    """The file of a rater's labels; "" for the only rater, or for several fused."""
    return f"label{f'_r{rater}' if rater else ''}{'.npz' if uneven else '.nii.gz'}"


def write(folder: Path, case: str, record: TruthRecord) -> tuple[str, str]:
    """Write the record of a case, and remove volumes that it does not name.

    Returns its name relative to ``folder``, and its sha256.
    """
    name = f"{place(case)}/{_RECORD}"
    content = json.dumps(asdict(record), indent=1, sort_keys=True) + "\n"
    with files.replacing(folder / name, durable=False) as unfinished:
        unfinished.write_text(content, "utf-8")
    for file in (folder / name).parent.iterdir():
        if file.name not in (_RECORD, *record.digests):
            file.unlink()
    return name, hashlib.sha256(content.encode()).hexdigest()


def read(folder: Path, name: str, digest: str) -> TruthRecord:
    """The record that a manifest names. Raises :class:`Problem` if its sha256 is not ``digest``."""
    file = folder / name
    if not name or not files.holds(file, digest):
        raise changed(file, folder.name)
    content = json.loads(file.read_text("utf-8"))
    return TruthRecord(
        content["source"],
        tuple(content["parts"]),
        tuple(content["raters"]),
        content["digests"],
        tuple(map(tuple, content["places_mm"])),
        tuple(content["thicknesses_mm"]),
    )


def changed(file: Path, dataset: str) -> Problem:
    """The :class:`Problem` of a file that is not the one that the manifest stands for."""
    found = "another content" if file.is_file() else "none"
    return Problem(
        f"expected the labels that convert kept for the pairs, got {found}",
        where=file,
        remedy=f"Run: python -m pipeline convert {dataset}, then: dvc repro",
    )


def is_whole(folder: Path, name: str, digest: str) -> bool:
    """Whether the record that a manifest names is there, and every volume that it names."""
    try:
        record = read(folder, name, digest)
    except Problem:
        return False
    here = (folder / name).parent
    return all(files.holds(here / volume, wanted) for volume, wanted in record.digests.items())
