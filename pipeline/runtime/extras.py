"""Which extra of the project's package brings what is not installed.

The package alone brings what a model at work needs; all else is an extra of ``pyproject.toml``.
"""

from __future__ import annotations

from datasets_spec.contract import Problem

IMPORTED = {
    "train": "albumentations cv2 keras matplotlib nilearn pyarrow requests scipy SimpleITK sklearn"
    " tensorflow yaml",
    "cluster": "distributed",
    "jax": "jax",
    "predict": "onnxruntime",
    "seg": "highdicom",
}
"""The names under which the packages of an extra are imported."""


def problem_of(error: BaseException) -> Problem | None:
    """The problem to report if ``error`` is due to a package of an extra, else None."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    missing = (error.name or "").partition(".")[0]
    extra = next((extra for extra, names in IMPORTED.items() if missing in names.split()), None)
    if extra is None:
        return None
    return Problem(
        f"expected the package {missing}, which is not installed",
        remedy=f'Install the extra {extra!r}: pip install "flexunet-pipeline[{extra}]"'
        f' (in a checkout: pip install ".[{extra}]")',
    )
