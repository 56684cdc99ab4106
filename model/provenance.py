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
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras

from datasets_spec.contract import Dataset
from model.params import SOURCES, Network, Params
from pipeline import paths
from pipeline.pairs import channels
from pipeline.runtime import files, fingerprints, imports, modelfile

_PACKAGES = ("keras", "numpy", "opencv-python-headless", "pillow")
_BACKENDS = {"tensorflow": ("tensorflow", "tensorflow-cpu"), "jax": ("jax",), "torch": ("torch",)}
_LONGEST = 200  # characters of a foreign value in a message
_DEFAULTS = {one.name: one.default for one in fields(Network) if one.default is not MISSING}
_DEFAULTS |= {"picture_channels": []}  # of models from before there were any
DECIDING, _VARIANTS = "model.training.fit", "pipeline.pairs.variants"
_SLICES = "model.training.slices"
RUNNERS = (
    *fingerprints.RUNNERS,
    "datasets_spec",
    "model.params",
    "pipeline.pairs.manifest",
)
"""What states facts and parameters, or reads tables: their values are ingredients themselves."""


def of(dataset: str, facts: Dataset, settings: Params) -> dict[str, Any]:
    """Everything that a model of ``data/dataset/<dataset>`` would be made from, as JSON."""
    return {
        **_pictures(dataset, facts, settings),
        "meanings": [[label.meaning, label.tissue] for label in facts.label_map],
        "convert": settings.convert.deciding,
        "augment": asdict(settings.augment),
        "split": asdict(settings.split),
        "train": asdict(settings.train),
        "dataset_digest": dataset_digest(dataset),
        "code": _code(settings.augment.mode != "offline", settings.train.source == "scans"),
        "project": imports.project_version(),
        "packages": packages(),
    }


def dataset_digest(dataset: str) -> str:
    """The sha256 of the dataset's manifest, which holds the digest of every picture."""
    return files.sha256(paths.dataset(dataset) / paths.MANIFEST)


def packages() -> dict[str, str]:
    """The backend, and the versions of Python and of what trains."""
    backend = keras.backend.backend()
    versions = {"backend": backend, "python": platform.python_version()}
    for name in (*_PACKAGES, *_BACKENDS[backend]):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # TensorFlow comes by one of two names
            continue
    return versions


@contextmanager
def writing(model: keras.Model, file: Path, origin: dict[str, Any]) -> Iterator[zipfile.ZipFile]:
    """Write ``model`` with its provenance at once or not at all; its archive may be added to.

    The same model gives the same bytes: Keras would write the hour (and fails where that is before
    1980), and the places in memory of what layers may share.
    """
    parts = files.beside(file).with_suffix(".parts")
    shutil.rmtree(parts, ignore_errors=True)
    try:
        with files.replacing(file) as unfinished:
            model.save(parts, zipped=False)
            (parts / "metadata.json").write_text(
                json.dumps({"keras_version": keras.__version__}), "utf-8"
            )
            config = json.loads((parts / modelfile.CONFIG).read_text("utf-8"))
            (parts / modelfile.CONFIG).write_text(json.dumps(_numbered(config, {})), "utf-8")
            with zipfile.ZipFile(unfinished, "w") as archive:
                for part in sorted(parts.glob("*.*")):
                    with (
                        part.open("rb") as source,
                        archive.open(part.name, "w", force_zip64=True) as target,
                    ):
                        shutil.copyfileobj(source, target)
                add(archive, modelfile.PROVENANCE, json.dumps(origin, indent=1, sort_keys=True))
                yield archive
    finally:
        shutil.rmtree(parts, ignore_errors=True)


def _numbered(content: Any, numbers: dict[int, int]) -> Any:
    """A model's description whose shared objects are numbered as they come, not by their place."""
    if isinstance(content, list):
        return [_numbered(part, numbers) for part in content]
    if not isinstance(content, dict):
        return content
    return {
        key: numbers.setdefault(value, len(numbers))
        if key == "shared_object_id"
        else _numbered(value, numbers)
        for key, value in content.items()
    }


def add(archive: zipfile.ZipFile, name: str, text: str) -> None:
    """Add a text to an archive, with the date of no clock."""
    archive.writestr(zipfile.ZipInfo(name), text)


def renew(file: Path, origin: dict[str, Any]) -> None:
    """Give a model file the provenance ``origin``; one that has it is left as it is."""
    if modelfile.member(file, modelfile.PROVENANCE) == json.loads(json.dumps(origin)):
        return
    with (
        files.replacing(file) as unfinished,
        zipfile.ZipFile(file) as old,
        zipfile.ZipFile(unfinished, "w") as new,
    ):
        for one in old.infolist():
            if one.filename != modelfile.PROVENANCE:
                with (
                    old.open(one) as source,
                    new.open(one.filename, "w", force_zip64=True) as target,
                ):
                    shutil.copyfileobj(source, target)
        add(new, modelfile.PROVENANCE, json.dumps(origin, indent=1, sort_keys=True))


def require(
    file: Path, dataset: str, facts: Dataset, settings: Params, digest: str | None = None
) -> dict[str, Any]:
    """The provenance of a model that was made for these labels, this window and this network.

    With ``digest``, also for this dataset: on another split it would be judged by what it learnt
    from. Raises :class:`Problem` that names what differs.
    """
    origin = modelfile.read(file)
    wanted = _pictures(dataset, facts, settings) | asdict(settings.train.network)
    if digest is not None:
        wanted["dataset_digest"] = digest
    trained = _DEFAULTS | origin | origin["train"]["network"]
    wanted["source"] = settings.train.source
    trained["source"] = origin["train"].get("source", SOURCES[0])
    for name, value in wanted.items():
        if value != trained.get(name):
            raise modelfile.unfit(
                file,
                f"expected a model of {name} {value!r}, got one of {_short(trained.get(name))}",
            )
    return origin


def _short(value: object) -> str:
    """A stranger's value in an error's line."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _pictures(dataset: str, facts: Dataset, settings: Params) -> dict[str, Any]:
    """What the pictures show, and what the classes are called and drawn in."""
    low, high = settings.convert.mr_percentiles
    return {
        "dataset": dataset,
        "labels": [[label.id, label.name, list(label.colour)] for label in facts.label_map],
        "modality": facts.modality,
        "plane": plane_of(facts, settings),
        "window": asdict(facts.window) if facts.window else {"percentiles": [low, high]},
        "picture_channels": [asdict(one) for one in channels.of(facts, settings.convert.in_hu)],
    }


def plane_of(facts: Dataset, settings: Params) -> str:
    """The plane of the slices that the network sees."""
    plane = settings.train.plane
    return facts.plane if plane == "own" else plane


def _code(online: bool, scans: bool) -> str:
    """The sha256 of the code that decides weights: comments and docstrings do not count.

    ``online``: with the code of the variants that training draws; others are in the dataset.
    ``scans``: with the code that draws slices of kept scans.
    """
    deciding: set[Path] = set()
    for module in (DECIDING, *[_VARIANTS] * online, *[_SLICES] * scans):
        deciding |= imports.closure(module, without=RUNNERS)
    return hashlib.sha256(json.dumps(fingerprints.substances(deciding)).encode()).hexdigest()
