"""What a trained model's file says of itself, read without a deep-learning library.

The file is an archive as Keras writes them, whose members are stored as they are, with one more
member: ``provenance.json``. It may come from anyone, so nothing of it is believed before it is
checked, and none of its code is run.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

from datasets_spec.contract import Problem
from pipeline.runtime import files

PROVENANCE = "provenance.json"
CONFIG = "config.json"
_MOST_BYTES = 2**24  # of a member that is JSON; ours have some ten thousand
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
    """What the model file says of itself: what it was trained on, and how, by section.

    Raises :class:`Problem` if the file is missing, damaged, or does not say it.
    """
    if not files.require_regular(file).is_file():
        raise Problem(
            "expected a trained model, found none", where=file, remedy=f"Run: {_train(file)}"
        )
    try:
        require_whole(file)
    except (OSError, zipfile.BadZipFile) as error:
        raise unfit(file, f"expected a whole model, got {error}") from None
    said = member(file, PROVENANCE)
    wrong = [name for name, kind in _KINDS.items() if not isinstance(said.get(name), kind)]
    if not wrong and not isinstance(said["train"].get("network"), dict):
        wrong = ["train.network"]
    if wrong:
        raise unfit(file, f"expected {wrong[0]} in its {PROVENANCE}, found none of its kind")
    return said


def member(file: Path, name: str) -> dict[str, Any]:
    """A member of the archive that holds a JSON mapping; a :class:`Problem` for anything else."""
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.getinfo(name).file_size > _MOST_BYTES:
                raise ValueError(f"more than {_MOST_BYTES} bytes")
            content = json.loads(archive.read(name))
    except KeyError:
        raise unfit(file, f"expected {name} in the model, found none") from None
    except (OSError, ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise unfit(file, f"expected JSON in the model's {name}, got {error}") from None
    if not isinstance(content, dict):
        raise unfit(file, f"expected a mapping in its {name}, got {type(content).__name__}")
    return content


def require_whole(file: Path) -> None:
    """Raise BadZipFile unless every member is stored as it is and has the bytes of its checksum.

    Compressed members, which ours never are, could ask for any amount of memory.
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
    return Problem(what, where=file, remedy=f"Train it again: {_train(file)}")


def _train(file: Path) -> str:
    return f"python -m model train {file.parent.name}"
