"""Fingerprints: what an output was made from, its files, parameters and code, in one text."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import tokenize
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from pipeline.runtime import files, imports

LIBRARIES = (
    "albumentations",
    "nibabel",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "pydicom",
    "scipy",
    "SimpleITK",
)
"""Whose versions decide bytes."""
RUNNERS = (
    "pipeline.paths",
    "pipeline.params",
    "pipeline.pairs.case_folder",
    "pipeline.pairs.identities",
    "pipeline.pairs.packing",
    "pipeline.volumes.limits",
    "pipeline.pairs.store",
    "pipeline.runtime.allocator",
    "pipeline.runtime.cluster",
    "pipeline.runtime.executor",
    "pipeline.runtime.extras",
    "pipeline.runtime.files",
    "pipeline.runtime.fingerprints",
    "pipeline.runtime.imports",
    "pipeline.runtime.locks",
    "pipeline.runtime.messages",
    "pipeline.runtime.modelfile",
    "pipeline.runtime.outcomes",
    "pipeline.runtime.processes",
    "pipeline.runtime.remote",
    "pipeline.runtime.retries",
    "pipeline.runtime.sameness",
    "pipeline.runtime.shards",
    "pipeline.runtime.scratch",
    "pipeline.runtime.shortages",
    "pipeline.runtime.tables",
    "pipeline.sources.brought",
    "pipeline.sources.inventory",
    "pipeline.sources.listed",
)
"""Modules and packages that run a stage, name its files or check its parameters, and decide none
of its bytes. Of :mod:`pipeline.runtime` that is all but the keys of random numbers."""


def fingerprint(*parts: object) -> str:
    """32 hexadecimal digits that stand for ``parts`` (JSON or their repr)."""
    text = json.dumps(parts, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def code(module: str, *more: Path) -> str:
    """The fingerprint of the code that ``module`` runs through, ``more`` files and the libraries.

    Comments, docstrings and empty lines do not count, nor does what decides no byte
    (:data:`RUNNERS`): values of parameters are fingerprinted by their stage.
    """
    return fingerprint(
        substances(imports.closure(module, without=RUNNERS)),
        [files.sha256(file) for file in more],
        [(name, version(name)) for name in LIBRARIES],
    )


def substances(used: Iterable[Path]) -> list[str]:
    """The :func:`substance` of some of the project's own files, in the order of their names."""
    return [substance((imports.ROOT / file).read_text("utf-8")) for file in sorted(used)]


def substance(source: str) -> str:
    """Python ``source`` without comments, docstrings and empty lines, the same in every Python."""
    lines = source.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            first, last = node.lineno - 1, node.end_lineno or node.lineno
            lines[first:last] = [lines[first][: node.col_offset], *[""] * (last - first - 1)]
    return "\n".join(line.rstrip() for line in lines if line.strip())


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
