"""The provenance of a trained model, read from its file without a deep-learning library.

The file is a Keras archive whose members are stored uncompressed, with one more member:
``provenance.json``. The file may come from anyone, so its content is checked before it is used,
and none of its code is run.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

from datasets_spec.contract import Problem
from pipeline import paths
from pipeline.runtime import files

PROVENANCE = "provenance.json"
CONFIG = "config.json"
MOST_BYTES = 2**24
"""Of a member that is JSON; the pipeline writes some ten thousand."""
_SECTIONS = ("convert", "augment", "split", "train")
_KINDS = {
    "dataset": str,
    "modality": str,
    "dataset_digest": str,
    "labels": list,
    "window": dict,
    **dict.fromkeys(_SECTIONS, dict),
}


def read(file: Path) -> dict[str, Any]:
    """The provenance of a model file: the dataset and the parameters that it was trained with.

    Raises :class:`Problem` if the file is missing or damaged, or has no valid provenance.
    """
    if not files.require_regular(file).is_file():
        raise Problem(
            "expected a trained model, found none", where=file, remedy=f"Run: {_train(file)}"
        )
    try:
        require_whole(file)
    except (OSError, zipfile.BadZipFile) as error:
        raise unfit(file, f"expected a whole model, got {error}") from None
    return checked(member(file, PROVENANCE), file)


def checked(provenance: dict[str, Any], file: Path) -> dict[str, Any]:
    """``provenance``; raises :class:`Problem` if a section that every model has is missing."""
    wrong = [name for name, kind in _KINDS.items() if not isinstance(provenance.get(name), kind)]
    if not wrong and not isinstance(provenance["train"].get("network"), dict):
        wrong = ["train.network"]
    if wrong:
        raise unfit(file, f"expected {wrong[0]} in its {PROVENANCE}, found none of the right type")
    return provenance


def member(file: Path, name: str) -> dict[str, Any]:
    """The JSON mapping in a member of the archive. Raises :class:`Problem` for anything else."""
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.getinfo(name).file_size > MOST_BYTES:
                raise ValueError(f"more than {MOST_BYTES} bytes")
            content = archive.read(name)
    except KeyError:
        raise unfit(file, f"expected {name} in the model, found none") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise unfit(file, f"expected JSON in the model's {name}, got {error}") from None
    return mapping(file, name, content)


def mapping(file: Path, name: str, text: bytes) -> dict[str, Any]:
    """The JSON mapping in ``text``, the content of ``name`` in a model.

    Raises :class:`Problem` for anything else.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unfit(file, f"expected JSON in the model's {name}, got {error}") from None
    if not isinstance(content, dict):
        raise unfit(file, f"expected a mapping in its {name}, got {type(content).__name__}")
    return content


def require_whole(file: Path) -> None:
    """Raise BadZipFile unless every member is stored uncompressed and matches its checksum.

    Compressed members, which the pipeline never writes, could demand any amount of memory.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            packed = [one for one in members if one.compress_type != zipfile.ZIP_STORED]
            if packed:
                raise zipfile.BadZipFile(f"{file.name} whose {packed[0].filename} is compressed")
            if sum(one.file_size for one in members) > file.stat().st_size:
                raise zipfile.BadZipFile(f"{file.name} whose members are larger than itself")
            damaged = archive.testzip()
    except (EOFError, RuntimeError, ValueError, zlib.error) as error:
        raise zipfile.BadZipFile(f"{file.name} that is damaged ({error})") from None
    if damaged:
        raise zipfile.BadZipFile(f"{file.name} whose {damaged} is damaged")


def unfit(file: Path, what: str) -> Problem:
    """The :class:`Problem` of a model file that cannot be used."""
    if file.suffix == ".onnx":
        again = "Export it again: python -m model export <model> --format onnx"
    else:
        ours = file.parent.parent.name in (paths.RUNS.name, paths.MEMBERS)
        again = f"Train it again: {_train(file)}" if ours else "Copy it again: it may be damaged."
    return Problem(what, where=file, remedy=again)


def _train(file: Path) -> str:
    return f"python -m model train {file.parent.name}"
