"""report: manifests and runs -> ``report/index.html``, one self-contained page, and a summary.

It reads files only, and states what is not there yet. The same files give the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import datasets_spec
from pipeline import paths
from pipeline.pages import cases, page
from pipeline.runtime import files

_LOG = logging.getLogger(__name__)


def report(datasets: Sequence[str], params_file: Path) -> None:
    """Write ``report/index.html`` and ``report/summary.txt`` for the enabled datasets.

    Raises :class:`Problem` for a file of an earlier stage that cannot be shown; the report of
    before then stays.
    """
    sections = [page.section(datasets_spec.load(name), params_file) for name in datasets]
    html, page_mb = page.render(sections)
    summary = page.summary(sections)
    with files.replacing_folder(paths.REPORT) as unfinished:
        (unfinished / "index.html").write_text(html, "utf-8")
        (unfinished / "summary.txt").write_text(summary, "utf-8")
        beside = sum(cases.place(name, unfinished) for name in datasets)
    _LOG.info(
        "report: %s, %s MB, and %.1f MB of slices beside it",
        *(paths.REPORT / "index.html", page_mb, beside / 1e6),
    )
