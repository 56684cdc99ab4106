"""What a model file carries besides its weights, so that it is never used for something else.

The archive of Keras holds one more member, ``provenance.json``: the label map with its colours,
the window, how its pairs were made, the network, how it was trained, on what, and with which
packages.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tomllib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras

from datasets_spec.contract import Dataset, Problem
from pipeline import files, imports, paths
from pipeline.params import Params

MEMBER = "provenance.json"
_PACKAGES = ("keras", "numpy", "opencv-python-headless", "pillow")
_BACKENDS = {"tensorflow": ("tensorflow", "tensorflow-cpu"), "jax": ("jax",), "torch": ("torch",)}
_TRAIN_AGAIN = "Train it again: python -m model train {}"


def of(dataset: str, facts: Dataset, settings: Params) -> dict[str, Any]:
    """Everything that a model of ``data/dataset/<dataset>`` would be made from, as JSON."""
    return {
        **_pictures(dataset, facts, settings),
        "convert": asdict(settings.convert),
        "augment": asdict(settings.augment),
        "split": asdict(settings.split),
        "train": asdict(settings.train),
        "dataset_digest": dataset_digest(dataset),
        "code": _code(),
        "project": _project(),
        "packages": packages(),
    }


def dataset_digest(dataset: str) -> str:
    """The sha256 of the dataset's manifest, which holds the digest of every picture."""
    return hashlib.sha256((paths.dataset(dataset) / paths.MANIFEST).read_bytes()).hexdigest()


def packages() -> dict[str, str]:
    """The backend, and the versions of Python and of what trains."""
    backend = keras.backend.backend()
    found = {"backend": backend, "python": platform.python_version()}
    for name in (*_PACKAGES, *_BACKENDS[backend]):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # TensorFlow comes by one of two names
            continue
    return found


@contextmanager
def writing(model: keras.Model, file: Path, said: dict[str, Any]) -> Iterator[zipfile.ZipFile]:
    """Write ``model`` with its provenance at once or not at all; its archive may be added to.

    No clock stands in it: Keras would write the hour, and fails where that is before 1980.
    """
    parts = files.beside(file).with_suffix(".parts")
    shutil.rmtree(parts, ignore_errors=True)
    try:
        with files.replacing(file) as unfinished:
            model.save(parts, zipped=False)
            (parts / "metadata.json").write_text(
                json.dumps({"keras_version": keras.__version__}), "utf-8"
            )
            with zipfile.ZipFile(unfinished, "w") as archive:
                for part in sorted(parts.glob("*.*")):
                    with (
                        part.open("rb") as source,
                        archive.open(part.name, "w", force_zip64=True) as target,
                    ):
                        shutil.copyfileobj(source, target)
                add(archive, MEMBER, json.dumps(said, indent=1, sort_keys=True))
                yield archive
    finally:
        shutil.rmtree(parts, ignore_errors=True)


def add(archive: zipfile.ZipFile, name: str, text: str) -> None:
    """Add a text to an archive, with the date of no clock."""
    archive.writestr(zipfile.ZipInfo(name), text)


def read(file: Path) -> dict[str, Any]:
    """What the model file says of itself. Raises :class:`Problem` if it is missing or mute."""
    name = file.parent.name
    if not file.is_file():
        raise Problem(
            "expected a trained model, found none",
            where=file,
            remedy=f"Run: python -m model train {name}",
        )
    try:
        require_whole(file)
        with zipfile.ZipFile(file) as archive:
            provenance: dict[str, Any] = json.loads(archive.read(MEMBER))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise Problem(
            f"expected a whole model that carries {MEMBER}, got {error}",
            where=file,
            remedy=_TRAIN_AGAIN.format(name),
        ) from None
    return provenance


def require_whole(file: Path) -> None:
    """Raise BadZipFile if any byte of the archive's members is not as it was written."""
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except (EOFError, RuntimeError, ValueError, zlib.error) as error:
        raise zipfile.BadZipFile(f"{file.name} that is damaged ({error})") from None
    if damaged:
        raise zipfile.BadZipFile(f"{file.name} whose {damaged} is damaged")


def load(
    file: Path, dataset: str, facts: Dataset, settings: Params, digest: str | None = None
) -> keras.Model:
    """The model, uncompiled, if it was made for these labels, this window and this network.

    With ``digest``, also for this dataset: on another split it would be judged by what it learnt
    from. Raises :class:`Problem` that names what differs.
    """
    found = read(file)
    wanted = _pictures(dataset, facts, settings) | asdict(settings.train.network)
    if digest is not None:
        wanted["dataset_digest"] = digest
    trained = found | found["train"]["network"]
    for name, value in wanted.items():
        if value != trained.get(name):
            raise Problem(
                f"expected a model of {name} {value!r}, got one of {trained.get(name)!r}",
                where=file,
                remedy=_TRAIN_AGAIN.format(dataset),
            )
    return keras.saving.load_model(file, compile=False)


def _pictures(dataset: str, facts: Dataset, settings: Params) -> dict[str, Any]:
    """What the pictures show, and what the classes are called and drawn in."""
    low, high = settings.convert.mr_percentiles
    return {
        "dataset": dataset,
        "labels": [[label.id, label.name, list(label.colour)] for label in facts.label_map],
        "modality": facts.modality,
        "window": asdict(facts.window) if facts.window else {"percentiles": [low, high]},
    }


def _project() -> str:
    """The version of this project, which is run from its folder, not installed."""
    content = tomllib.loads((imports.ROOT / "pyproject.toml").read_text("utf-8"))
    return str(content["project"]["version"])


def _code() -> str:
    """The sha256 of the code that training runs through."""
    total = hashlib.sha256()
    for file in sorted(imports.closure("model.train")):
        total.update((imports.ROOT / file).read_bytes())
    return total.hexdigest()
