"""doctor: examine any folder of DICOM files, and say of each series whether it would be read."""

from __future__ import annotations

from pathlib import Path

from datasets_spec.contract import Problem, printable
from pipeline.pages import doubts
from pipeline.params.limits import Limits
from pipeline.volumes import hounsfield
from pipeline.volumes.dicom import assemble, series
from pipeline.volumes.dicom.checks import REFUSED
from pipeline.volumes.dicom.series import Series


def doctor(folder: Path, *, limits: Limits = Limits()) -> None:
    """Print a block per series below ``folder``: its facts, verdict and findings.

    Every series is decoded once, and the values of a CT are judged. Raises :class:`Problem` if
    any would be refused, or if there is no volume at all.
    """
    if not folder.is_dir():
        raise Problem("expected a folder of DICOM files, found none", where=folder)
    found = series.examine(folder, limits=limits)
    refused = 0
    for one in found.series:
        verdict, told = _verdict(one, limits)
        refused += verdict == REFUSED
        print(f"{verdict:8}  {printable(one.facts)}")
        for line in told:
            print(f"          {printable(line)}")
    for problem in found.damaged:
        print(f"{REFUSED:8}  {problem}")
    for kind, count in found.others:
        print(f"left out  {printable(kind)}: {count} files")
    if not found.volumes and not found.damaged:
        raise Problem("expected a series of slices, found none", where=folder)
    if len(found.volumes) > 1:
        print(f"{len(found.volumes)} volumes: a case of a dataset names the folder of one of them.")
    if refused or found.damaged:
        raise Problem(
            f"expected series that can be read, got {refused} of {len(found.volumes)} refused"
            f" and {len(found.damaged)} unreadable files",
            where=folder,
            remedy="Each is named above with what to do.",
        )


def _verdict(one: Series, limits: Limits) -> tuple[str, list[str]]:
    """Read, refused or left out, and the lines that say why."""
    if one.left_out:
        return "left out", [one.left_out]
    if not one.refused:
        try:
            read = assemble.read(one, limits=limits)
            if read.modality == "CT" and not hounsfield.is_drawing(read.array):
                read = hounsfield.judged(read, one.slices[0].file.parent)
            return "read", [
                f"{'doubtful' if doubts.is_doubt(told) else 'handled'}  {told}"
                for told in read.findings
            ]
        except Problem as problem:
            return REFUSED, [str(problem)]
    return REFUSED, [
        ". ".join(filter(None, (f"{found.action}  {found}{found.names}", found.remedy)))
        for found in one.findings
    ]
