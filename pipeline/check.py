"""check: judge any folder of the layout {train,valid,test}/{images,masks}."""

from __future__ import annotations

import logging
from pathlib import Path

from pipeline.params.limits import Limits
from pipeline.runtime.executor import Workers
from pipeline.splits import folders, leaks

_LOG = logging.getLogger(__name__)


def check(
    folder: Path,
    workers: Workers,
    limits: Limits,
    patient: str = "",
    every_example: bool = False,
    suggest: Path | None = None,
) -> None:
    """Log every promise and whether ``folder`` keeps it; see :func:`pipeline.splits.folders.check`.

    Raises :class:`Problem` if the folder breaks a promise or does not have the layout.
    """
    violations = folders.check(folder, workers, patient, limits, suggest)
    _LOG.info("%s", leaks.table(violations, None if every_example else leaks.SHOWN))
    remedy = "Split by patient, and augment the train split only."
    if leaks.of_like_pictures(violations) and suggest is None:
        remedy += " With --suggest FILE, all like pictures are listed, grouped into patients."
    leaks.require(violations, folder, remedy)
