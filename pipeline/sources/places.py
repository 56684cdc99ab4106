"""The paths of a picture: its files, and its path relative to the raw data."""

from __future__ import annotations

from pathlib import Path

from datasets_spec.contract import Picture, paths_of
from pipeline import paths


def parts(picture: Picture) -> tuple[Path, ...]:
    """The paths that a picture consists of."""
    return paths_of(picture)


def relative(picture: Picture, dataset: str, index: int) -> str:
    """The path of a picture relative to ``data/raw/<dataset>``; of slices, the one at ``index``.

    Bytes that are not UTF-8 become \\xNN, because a Parquet column holds text.
    """
    files = parts(picture)
    file = files[index] if len(files) > 1 else files[0]
    path = file.relative_to(paths.raw(dataset)).as_posix()
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
