"""Where a model lies that a user names."""

from __future__ import annotations

import stat
from pathlib import Path

from datasets_spec.contract import Problem
from pipeline import paths

ONNX = ".onnx"
"""The suffix of a model in the format of that name."""


def model_file(text: str) -> Path:
    """The model file that ``text`` names: itself, in a run's folder, or of a dataset's run.

    In a folder with both, ``model.keras`` comes before ``model.onnx``; that of an ensemble
    (``runs/<dataset>/ensemble``) has a bundle. What is no regular file, a
    pipe for instance, is returned as well: whoever reads the file refuses it. Raises
    :class:`Problem` with all places that were looked at.
    """
    given = Path(text)
    if _is_there(given):
        return given
    folders = [given] if given.name != text else [given, paths.run(text)]
    names = (paths.MODEL, paths.MODEL_ONNX, paths.BUNDLE, paths.BUNDLE_ONNX)
    looked_at = [folder / name for folder in folders for name in names]
    for file in looked_at:
        if _is_there(file):
            return file
    raise Problem(
        "expected a model: a dataset's name, a run's folder or a model file, found none of "
        + ", ".join(map(str, [given, *looked_at])),
        where=text,
        remedy="Train one (python -m model train <dataset>), or give the path of its file.",
    )


def _is_there(file: Path) -> bool:
    try:
        return not stat.S_ISDIR(file.stat().st_mode)
    except OSError:  # a name that is too long is an error of its own
        return False
