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

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import paths
from pipeline.pairs.case_record import Kept

KEPT = Kept(paths.SCANS, "scan.json", "the scan")
"""Where the records lie, and if they are whole."""


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


def volume_name(channel: str, uneven: bool) -> str:
    """The file of a channel; "" of grey pictures."""
    return f"scan{f'_{channel}' if channel else ''}{'.npz' if uneven else '.nii.gz'}"


def write(folder: Path, case: str, record: ScanRecord) -> tuple[str, str]:
    """As :meth:`pipeline.pairs.case_record.Kept.write`."""
    return KEPT.write(folder, case, asdict(record))


def read(folder: Path, name: str, digest: str) -> ScanRecord:
    """The record that a manifest names. Raises :class:`Problem` if its sha256 is not ``digest``."""
    content = KEPT.read(folder, name, digest)
    places = tuple(map(tuple, content["places_mm"]))
    return ScanRecord(content["digests"], places, tuple(content["normal"]))
