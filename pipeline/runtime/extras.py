"""Which extra of the project's package brings what is not installed.

The package alone brings what a model at work needs; all else is an extra of ``pyproject.toml``.
"""

from __future__ import annotations

from datasets_spec.contract import Problem

IMPORTED = {
    "train": "albumentations cv2 fsspec keras matplotlib nilearn pyarrow requests scipy SimpleITK"
    " sklearn tensorflow yaml",
    "cluster": "distributed",
    "jax": "jax",
    "predict": "onnxruntime",
    "seg": "highdicom",
}
"""The names under which the packages of an extra are imported."""
PROTOCOLS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "az"), "azure"),
    **dict.fromkeys(("ssh", "sftp"), "ssh"),
}
"""The extra that brings the library for URLs of a protocol; fsspec imports it by itself."""


def problem_of(error: BaseException) -> Problem | None:
    """The problem to report if ``error`` is due to a package of an extra, else None."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    missing = (error.name or "").partition(".")[0]
    extra = next((extra for extra, names in IMPORTED.items() if missing in names.split()), None)
    if extra is None:
        return None
    return Problem(
        f"expected the package {missing}, which is not installed", remedy=_install(extra)
    )


def problem_of_protocol(protocol: str, url: str) -> Problem | None:
    """The problem to report if the library for a URL is not installed and an extra brings it."""
    extra = PROTOCOLS.get(protocol)
    if extra is None:
        return None
    return Problem(
        f"expected the library for {protocol}://, which is not installed",
        where=url,
        remedy=_install(extra),
    )


def _install(extra: str) -> str:
    return (
        f'Install the extra {extra!r}: pip install "flexunet-pipeline[{extra}]"'
        f' (in a checkout: pip install ".[{extra}]")'
    )
