"""Fingerprints: what an output was made from, its files, parameters and code, in one text."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from pipeline.runtime import files, imports

_LIBRARIES = (
    "albumentations",
    "nibabel",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "pydicom",
    "scipy",
    "SimpleITK",
)
_RUNNERS = (
    "pipeline.runtime.executor",
    "pipeline.pairs.identities",
    "pipeline.runtime.limits",
    "pipeline.runtime.locks",
    "pipeline.params.reader",
)
"""What runs a stage, names it or judges it beforehand, and decides none of its bytes."""


def fingerprint(*parts: object) -> str:
    """32 hexadecimal digits that stand for ``parts`` (JSON or their repr)."""
    text = json.dumps(parts, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def code(module: str, *more: Path) -> str:
    """The fingerprint of a module with all it imports, ``more`` files and the libraries.

    What decides no byte is left out: values of parameters are fingerprinted by their stage.
    """
    used = sorted(imports.closure(module, without=_RUNNERS))
    used_files = [*(imports.ROOT / file for file in used), *more]
    return fingerprint(
        [files.sha256(file) for file in used_files], [(name, version(name)) for name in _LIBRARIES]
    )


def digests(*parts: Path) -> tuple[str, list[str]]:
    """The sha256 of the files' bytes, one after the other, and that of each; each is read once.

    Raises :class:`Problem` for what is no regular file: a pipe would be waited for.
    """
    total, each = hashlib.sha256(), []
    for file in parts:
        own = hashlib.sha256()
        with files.require_regular(file).open("rb") as stream:
            while block := stream.read(1 << 20):
                total.update(block)
                own.update(block)
        each.append(own.hexdigest())
    return total.hexdigest(), each
