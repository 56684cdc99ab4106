"""doctor: examine any folder of DICOM files, and report which series could be read."""

from __future__ import annotations

import logging
from pathlib import Path

from datasets_spec.contract import Problem, printable
from pipeline.params.dicom import USUAL, Tolerances
from pipeline.params.limits import Limits
from pipeline.volumes import hounsfield
from pipeline.volumes.dicom import assemble, series
from pipeline.volumes.dicom.series import Folder, Series
from pipeline.volumes.findings import DOUBT, REFUSED

_LOG = logging.getLogger(__name__)
_READ, _LEFT_OUT = "read", "left out"


def doctor(folder: Path, *, limits: Limits = Limits(), tolerances: Tolerances = USUAL) -> None:
    """Log a block per series below ``folder``: its facts, verdict and findings.

    Every series is decoded once, and the values of a CT are judged. Raises :class:`Problem` if
    any would be refused, or if there is no volume at all.
    """
    if not folder.is_dir():
        raise Problem("expected a folder of DICOM files, found none", where=folder)
    content = series.examine(folder, limits=limits, tolerances=tolerances)
    refused = [_log_series(one, limits) for one in content.series].count(REFUSED)
    _log_others(content)
    if not content.volumes and not content.damaged:
        raise Problem("expected a series of slices, found none", where=folder)
    if refused or content.damaged:
        raise Problem(
            f"expected series that can be read, got {refused} of {len(content.volumes)} refused"
            f" and {len(content.damaged)} unreadable files",
            where=folder,
            remedy="Each is named above with what to do.",
        )


def _log_series(one: Series, limits: Limits) -> str:
    """Log the facts of a series, its verdict, and the lines that explain it."""
    verdict, lines = _verdict(one, limits)
    _LOG.info("%-8s  %s", verdict, printable(one.facts))
    for line in lines:
        _LOG.info("          %s", printable(line))
    return verdict


def _log_others(content: Folder) -> None:
    """Log what is no series: damaged files, and files of other kinds."""
    for problem in content.damaged:
        _LOG.info("%-8s  %s", REFUSED, problem)
    for kind, count in content.others:
        _LOG.info("%s  %s: %d files", _LEFT_OUT, printable(kind), count)
    volumes = len(content.volumes)
    if volumes > 1:
        every = [one.key for one in content.volumes]
        keys = [
            one.key
            for one in content.volumes
            if one.key and every.count(one.key) == 1 and not one.refused
        ]
        by_key = f", or one by its key: OneVolume(folder, {keys[0]!r})" if keys else ""
        line = "%d volumes: a case of a dataset names the folder of one of them%s."
        _LOG.info(line, volumes, by_key)


def _verdict(one: Series, limits: Limits) -> tuple[str, list[str]]:
    """Read, refused or left out, and the lines that explain it."""
    if one.left_out:
        return _LEFT_OUT, [one.left_out]
    if one.refused:
        return REFUSED, [
            ". ".join(
                filter(None, (f"{match.finding.severity}  {match}{match.names}", match.remedy))
            )
            for match in one.matches
        ]
    try:
        volume = assemble.read(one, limits=limits)
        if volume.modality == "CT" and not hounsfield.is_drawing(volume.array):
            volume = hounsfield.judged(volume, one.slices[0].file.parent)
    except Problem as problem:
        return REFUSED, [str(problem)]
    words = {DOUBT: "in doubt"}
    return _READ, [f"{words.get(each.severity, each.severity)}  {each}" for each in volume.findings]
