"""What convert keeps of each case's scan beside the pairs: which files, and if they are whole.

``data/converted/<dataset>/scans/<case>/`` holds

    scan.nii.gz               the scan in 8 bits on the source's own grid, as its pictures show it
    scan_<channel>.nii.gz     where pictures have several channels: each that the case has
    scan.json                 a :class:`ScanRecord`: the sha256 of each volume, and the places of
                              slices without one spacing

Of slices without one spacing the volumes are ``scan.npz`` and so on: a NIfTI would state one.

The manifest names ``scan.json`` with its sha256, which therefore stands for all of them. Cases
have the names of the outputs (:mod:`pipeline.pairs.pseudonyms`). How the volumes are written and
read is in :mod:`pipeline.pairs.kept_scan`.
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

_RECORD = "scan.json"


@dataclass(frozen=True)
class ScanRecord:
    """What is kept of a case's scan.

    ``digests``: the sha256 of each volume by its file's name. ``places_mm`` and ``normal``: of
    slices without one spacing, as in :class:`pipeline.volumes.uneven.Uneven`; else none.
    """

    digests: Mapping[str, str]
    places_mm: tuple[tuple[float, ...], ...] = ()
    normal: tuple[float, ...] = ()

    @property
    def uneven(self) -> bool:
        """Whether the source is slices without one spacing."""
        return bool(self.places_mm)


def place(case: str) -> str:
    """The folder of a case, relative to the manifest's."""
    return f"{paths.SCANS}/{case}"


def volume_name(channel: str, uneven: bool) -> str:
    """The file of a channel; "" of grey pictures."""
    return f"scan{f'_{channel}' if channel else ''}{'.npz' if uneven else '.nii.gz'}"


def write(folder: Path, case: str, record: ScanRecord) -> tuple[str, str]:
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


def read(folder: Path, name: str, digest: str) -> ScanRecord:
    """The record that a manifest names. Raises :class:`Problem` if its sha256 is not ``digest``."""
    file = folder / name
    if not name or not files.holds(file, digest):
        raise changed(file, folder.name)
    content = json.loads(file.read_text("utf-8"))
    places = tuple(map(tuple, content["places_mm"]))
    return ScanRecord(content["digests"], places, tuple(content["normal"]))


def changed(file: Path, dataset: str) -> Problem:
    """The :class:`Problem` of a file that is not the one that the manifest stands for."""
    found = "another content" if file.is_file() else "none"
    return Problem(
        f"expected the scan that convert kept for the pairs, got {found}",
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
