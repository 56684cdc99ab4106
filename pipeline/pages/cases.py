"""Where the page's readers scroll test cases slice by slice: folders beside it, and links there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from pipeline import paths
from pipeline.pages import viewer
from pipeline.pairs import pictures

_FOLDER = "cases"


def links(run: Path) -> Mapping[str, str]:
    """Name of a case -> its place from the page; of the cases of an evaluation in ``run``."""
    view = run / paths.PREDICTIONS / viewer.VIEW
    if not (view.parent / viewer.INDEX).is_file():
        return {}
    index = f"{_FOLDER}/{_name(run)}/{viewer.INDEX}"
    return {
        one.name: f"{index}#{quote(one.name)}" for one in sorted(view.iterdir()) if one.is_dir()
    }


def place(dataset: str, report: Path) -> int:
    """Put every page of cases of a dataset below ``report``, where :func:`links` leads.

    Files are linked, or copied to another disk. Returns their bytes.
    """
    size = 0
    for run in _runs(dataset):
        if not links(run):
            continue
        predictions, target = run / paths.PREDICTIONS, report / _FOLDER / _name(run)
        view = paths.files_below(predictions / viewer.VIEW)
        for file in [predictions / viewer.INDEX, *view]:
            pictures.put(file, target / file.relative_to(predictions))
            size += file.stat().st_size
    return size


def _runs(dataset: str) -> Iterator[Path]:
    """What a dataset's page shows the scores of."""
    yield paths.run(dataset)
    yield paths.ensemble(dataset)
    yield paths.folds(dataset)
    yield paths.folds(dataset) / paths.ENSEMBLE


def _name(run: Path) -> str:
    return "_".join(run.relative_to(paths.RUNS).parts)
