"""What a model file carries besides its weights, so that it is never used for something else.

The archive of Keras holds one more member, ``provenance.json``: the label map with its colours,
the window, the network, how it was trained, on what, and with which packages.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras

from datasets_spec.contract import Dataset, Problem
from pipeline import imports, paths
from pipeline.params import Params

MEMBER = "provenance.json"
_PACKAGES = ("keras", "numpy", "opencv-python-headless", "pillow")
_BACKENDS = {"tensorflow": ("tensorflow", "tensorflow-cpu"), "jax": ("jax",), "torch": ("torch",)}
_TRAIN_AGAIN = "Train it again: python -m model train {}"


def of(dataset: str, facts: Dataset, settings: Params) -> dict[str, Any]:
    """Everything that a model of ``data/dataset/<dataset>`` would be made from, as JSON."""
    return {
        **_pictures(dataset, facts, settings),
        "train": asdict(settings.train),
        "augment": asdict(settings.augment) if settings.train.augment != "offline" else None,
        "dataset_digest": dataset_digest(dataset),
        "code": _code(),
        "packages": packages(),
    }


def dataset_digest(dataset: str) -> str:
    """The sha256 of the dataset's manifest, which holds the digest of every picture."""
    return hashlib.sha256((paths.dataset(dataset) / paths.MANIFEST).read_bytes()).hexdigest()


def packages() -> dict[str, str]:
    """The backend, and the versions of what trains."""
    backend = keras.backend.backend()
    found = {"backend": backend}
    for name in (*_PACKAGES, *_BACKENDS[backend]):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # TensorFlow comes by one of two names
            continue
    return found


@contextmanager
def writing(model: keras.Model, file: Path, said: dict[str, Any]) -> Iterator[zipfile.ZipFile]:
    """Write ``model`` with its provenance at once or not at all; its archive may be added to."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".unfinished-{file.name}")
    model.save(unfinished)
    with zipfile.ZipFile(unfinished, "a") as archive:
        archive.writestr(MEMBER, json.dumps(said, indent=1, sort_keys=True))
        yield archive
    os.replace(unfinished, file)


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
        with zipfile.ZipFile(file) as archive:
            provenance: dict[str, Any] = json.loads(archive.read(MEMBER))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise Problem(
            f"expected a model that carries {MEMBER}, got {error}",
            where=file,
            remedy=_TRAIN_AGAIN.format(name),
        ) from None
    return provenance


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
    return {
        "dataset": dataset,
        "labels": [[label.id, label.name, list(label.colour)] for label in facts.label_map],
        "modality": facts.modality,
        "window": asdict(facts.window) if facts.window else list(settings.convert.mr_percentiles),
    }


def _code() -> str:
    """The sha256 of the code that training runs through."""
    total = hashlib.sha256()
    for file in sorted(imports.closure("model.train")):
        total.update((imports.ROOT / file).read_bytes())
    return total.hexdigest()
