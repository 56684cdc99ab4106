"""Several model files as one: an uncompressed zip with them and ``ensemble.json``.

``ensemble.json`` names the members' files with their sha256, the weight of each, and what valid
chose for all of them together. The file may come from anyone: it is checked before anything of it
is used, and of each member exactly what is checked of a model file that is alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets_spec.contract import Problem
from model.inference import fusing
from model.inference.fusing import Weights
from pipeline.params.values import shown
from pipeline.runtime import files, modelfile

STATED = "ensemble.json"
FORMAT = 2
_MOST_MEMBERS = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}\.(keras|onnx)")
_REMEDY = "Copy it again: it may be damaged; or make it again: python -m model ensemble"
_NONSENSE = (ArithmeticError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class Bundle:
    """What a bundle states. ``names``: the members' files in it, in the order of ``weights``.

    ``weights`` are None where all members weigh alike. ``chosen`` is what valid chose, as in the
    provenance of a model; ``content`` is all of ``ensemble.json``, which is JSON.
    """

    file: Path
    names: tuple[str, ...]
    digests: tuple[str, ...]
    weights: Weights | None
    content: Mapping[str, Any]

    @property
    def chosen(self) -> Mapping[str, Any]:
        """Post-processing and all else that was chosen for the members together."""
        chosen: Mapping[str, Any] = self.content["chosen"]
        return chosen


def is_one(file: Path) -> bool:
    """Whether a file is a bundle, as far as its first look tells; :func:`read` checks it."""
    try:
        if not files.is_regular(file):
            return False
        with zipfile.ZipFile(file) as archive:
            return STATED in archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def read(file: Path) -> Bundle:
    """What a bundle states, checked. Raises :class:`Problem` that names what does not fit."""
    try:
        modelfile.require_whole(file)
    except (OSError, zipfile.BadZipFile) as error:
        raise unfit(file, f"expected a whole bundle, got {error}") from None
    content = modelfile.member(file, STATED)
    with zipfile.ZipFile(file) as archive:
        there = sorted(archive.namelist())
    try:
        members = content["members"]
        names = tuple(str(one["file"]) for one in members)
        digests = tuple(str(one["sha256"]) for one in members)
        _require(content["format"] == FORMAT, f"the format {shown(content['format'])}")
        _require(0 < len(names) <= _MOST_MEMBERS, f"{len(names)} members")
        strange = [name for name in names if not _NAME.fullmatch(name)]
        _require(not strange, f"the name {shown(strange[:1])} of a member")
        _require(there == sorted((STATED, *names)), f"other files in it: {shown(there)}")
        _require(isinstance(content["chosen"], dict), "nothing that was chosen")
        weights = _weights(content["weights"], len(names))
    except _NONSENSE as error:
        said = str(error)[:200] or type(error).__name__
        raise unfit(file, f"expected an ensemble in its {STATED}, got {said}") from None
    return Bundle(file, names, digests, weights, content)


@contextmanager
def unpacked(bundle: Bundle) -> Iterator[list[Path]]:
    """The members' files, in a folder that goes when the block ends.

    Raises :class:`Problem` for a member that is not the one that the bundle was made of.
    """
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(bundle.file) as archive:
        targets = []
        for name, digest in zip(bundle.names, bundle.digests, strict=True):
            targets.append(Path(folder, name))
            with archive.open(name) as source, targets[-1].open("wb") as target:
                shutil.copyfileobj(source, target)
            if not files.holds(targets[-1], digest):
                raise unfit(bundle.file, f"expected {name} of its digest, got another")
        yield targets


@contextmanager
def naming(bundle: Bundle, file: Path) -> Iterator[None]:
    """Within the block, a :class:`Problem` of an unpacked member names it as one of the bundle."""
    try:
        yield
    except Problem as problem:
        where = bundle.file / file.name
        raise Problem(problem.what, where=where, remedy=_REMEDY) from None


def write(target: Path, members: Mapping[str, Path], content: Mapping[str, Any]) -> None:
    """Write the bundle of model files, which get the names that they are keys of.

    ``content`` is all that is stated but for the format and the members. The same files and
    content give the same bytes.
    """
    stated: dict[str, Any] = {**content, "format": FORMAT, "members": []}
    for name, file in members.items():
        stated["members"].append(
            {"name": name, "file": f"{name}{file.suffix}", "sha256": files.sha256(file)}
        )
    with files.replacing(target) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        text = json.dumps(stated, indent=1, sort_keys=True, allow_nan=False)
        archive.writestr(zipfile.ZipInfo(STATED), text)  # with the date of no clock
        for one, file in zip(stated["members"], members.values(), strict=True):
            with (
                file.open("rb") as source,
                archive.open(zipfile.ZipInfo(one["file"]), "w", force_zip64=True) as entry,
            ):
                shutil.copyfileobj(source, entry)


def digest(bundle: Bundle) -> str:
    """The sha256 of what a bundle states, its members' digests among it."""
    return hashlib.sha256(json.dumps(bundle.content, sort_keys=True).encode()).hexdigest()


def unfit(file: Path, what: str) -> Problem:
    """The :class:`Problem` of a bundle that cannot be used."""
    return Problem(what, where=file, remedy=_REMEDY)


def _weights(stated: Any, members: int) -> Weights | None:
    """Raises ValueError and the like for anything but a weight of each member, or null."""
    if stated is None:
        return None
    weights = np.array(stated, np.float64)
    _require(weights.shape == (members,), f"weights {weights.shape}")
    _require(bool(np.isfinite(weights).all() and (weights >= 0).all()), "weights below 0")
    _require(bool(weights.any()), "no network with a weight")
    return fusing.normalised(weights)


def _require(fits: bool, got: str) -> None:
    if not fits:
        raise ValueError(got)
