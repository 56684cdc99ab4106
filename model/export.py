"""export: a trained network in a format that runs without TensorFlow, its provenance inside."""

from __future__ import annotations

import json
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Problem
from model.inference import bundle, keras_file, onnx_file, places, stated
from model.params import Network
from pipeline.runtime import files, modelfile

_LOG = logging.getLogger(__name__)
FORMATS = ("onnx", "saved_model", "litert", "openvino")
"""The first is written and compared by us; the others are as Keras writes them, in a folder."""
_PACKAGE = {
    "onnx": ("onnxruntime", "flexunet-pipeline[predict]"),
    "saved_model": ("tensorflow", "flexunet-pipeline[train]"),
    "litert": ("tensorflow", "flexunet-pipeline[train]"),
    "openvino": ("openvino", "openvino"),
}
_OF_KERAS = {
    "saved_model": ("tf_saved_model", "."),
    "litert": ("litert", "model.tflite"),
    "openvino": ("openvino", "model.xml"),
}
"""What Keras calls a format, and the file or folder that it writes."""
_BUNDLE = ".zip"
_MOST = 1e-5  # difference of two probabilities


def export(model: str, form: str, output: Path | None = None) -> None:
    """Write ``model`` (a dataset's name, a run's folder or a file) as one of :data:`FORMATS`.

    It computes in float32, whatever it was trained in. By default, ONNX goes beside the model, as
    ``<stem>.onnx``, and anything else into a folder ``<stem>_<format>``. The same model gives the
    same ONNX bytes. A bundle becomes one of ONNX files, ``<stem>_onnx.zip``. Raises
    :class:`Problem` if the model cannot be used, a package is missing, ``output`` is something
    else, or ONNX' probabilities are not Keras'; then nothing is written.
    """
    source = places.model_file(model)
    if bundle.is_one(source):
        _export_bundle(source, form, output or source.with_name(f"{source.stem}_onnx{_BUNDLE}"))
        return
    if source.suffix == places.ONNX:
        raise Problem(
            "expected a model as Keras writes it, got one that was exported already",
            where=source,
            remedy="Give the model.keras that it was made of.",
        )
    target = output or _beside(source, form)
    _require_room(target, form)
    _require_package(form)
    network, origin = keras_file.keras_network(source)
    if form == "onnx":
        note = _write_onnx(network, origin, source, target)
    else:
        note = _write_as_keras_does(network, origin, form, target)
    _LOG.info("export %s: %s (%.1f MB), %s", source, target, _bytes(target) / 1e6, note)


def _export_bundle(source: Path, form: str, target: Path) -> None:
    """Write a bundle whose members are ONNX files; all else that it states stays."""
    if form != "onnx" or target.is_dir() or target.suffix != _BUNDLE:
        raise Problem(
            f"expected a bundle to become a file *{_BUNDLE} of ONNX files, got {form} as"
            f" {target.name}",
            where=source,
            remedy="Export its members one by one, or give another --output.",
        )
    _require_package(form)
    stated = bundle.read(source)
    with bundle.unpacked(stated) as members:
        exported = {}
        for file in members:
            exported[file.stem] = file.with_suffix(places.ONNX)
            with bundle.naming(stated, file):
                network, origin = keras_file.keras_network(file)
                note = _write_onnx(network, origin, file, exported[file.stem])
            _LOG.info("export %s: %s, %s", source, exported[file.stem].name, note)
        bundle.write(target, exported, stated.content)
    _LOG.info("export %s: %s (%.1f MB)", source, target, _bytes(target) / 1e6)


def _write_onnx(network: keras.Model, origin: dict[str, Any], source: Path, target: Path) -> str:
    shape, classes = stated.network(origin, source)
    parts = onnx_file.parts(shape, classes, origin, keras_file.arrays(network))
    with files.replacing(target) as unfinished:
        with unfinished.open("wb") as stream:
            stream.writelines(parts)
        runner = onnx_file.runner(unfinished, shape.image_px, shape.inputs, classes)
        return comparison(network, runner, shape, source)


def _write_as_keras_does(
    network: keras.Model, origin: dict[str, Any], form: str, target: Path
) -> str:
    name, part = _OF_KERAS[form]
    network(np.zeros((1, *network.input.shape[1:]), np.float32))  # Keras exports what was called
    with files.replacing_folder(target) as folder:
        network.export(str(folder / part), format=name, verbose=False)
        stated_text = json.dumps(origin, indent=1, sort_keys=True)
        (folder / modelfile.PROVENANCE).write_text(stated_text, "utf-8")
    return "as Keras writes it; its probabilities were not compared"


def comparison(network: keras.Model, runner: onnx_file.Runner, shape: Network, source: Path) -> str:
    """How far ONNX' probabilities are from Keras' on pictures of our own, in words.

    Within 1e-5 they count as the same. Where a normalisation by groups or instances meets hardly
    any contrast, Keras' float32 answers themselves are further than that from those in float64;
    then ONNX' may be as far from these as 1e-5, or twice what Keras' are. Raises :class:`Problem`
    for anything more. The pictures, in the size and channels of ``shape``: noise, black, white, a
    gradient, a noisy disc and a chessboard.
    """
    pictures = _pictures(shape.image_px, shape.inputs)
    theirs, ours = _answers(network, pictures), np.concatenate([runner(one) for one in pictures])
    apart = _distance(ours, theirs)
    words = f"at most {apart:.1e} from Keras' probabilities on {len(pictures)} pictures"
    if apart <= _MOST:
        return words
    exact = _answers(_in_float64(network), pictures)
    rounding, own = _distance(theirs, exact), _distance(ours, exact)
    words += f", which are {rounding:.1e} from those in float64; ONNX' are {own:.1e} from these"
    if own <= max(_MOST, 2 * rounding):
        return words
    raise Problem(
        f"expected ONNX to answer as Keras does, within {_MOST:g}, got an answer {words}",
        where=source,
        remedy="Nothing was written. Use the model.keras, and report this network.",
    )


def _in_float64(network: keras.Model) -> keras.Model:
    def layer(one: keras.layers.Layer) -> keras.layers.Layer:
        return type(one).from_config({**one.get_config(), "dtype": "float64"})

    precise = keras.models.clone_model(network, clone_function=layer)
    precise.set_weights(network.get_weights())
    return precise


def _answers(network: keras.Model, pictures: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """On the processor: a GPU may round products to fewer bits than float32 has."""
    with keras.device("cpu:0"):
        found = [network(one.astype(np.float32), training=False) for one in pictures]
    return np.concatenate([keras.ops.convert_to_numpy(one) for one in found])


def _distance(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.abs(one - other).max())


def _pictures(px: int, channels: int) -> list[NDArray[np.uint8]]:
    """Six batches (1, px, px, channels) of one picture."""
    rows, columns = np.mgrid[:px, :px]
    noise = np.random.default_rng(0).integers(0, 256, (px, px))
    disc = (rows - px / 2) ** 2 + (columns - px / 2) ** 2 < (px / 3) ** 2
    grey = (
        noise,
        np.zeros((px, px)),
        np.full((px, px), 255),
        rows * 255 // px,
        disc * (128 + noise // 4),
        (rows // 2 + columns // 2) % 2 * 255,
    )
    return [np.repeat(one.astype(np.uint8)[None, ..., None], channels, axis=-1) for one in grey]


def _beside(source: Path, form: str) -> Path:
    if form == "onnx":
        return source.with_suffix(places.ONNX)
    return source.with_name(f"{source.stem}_{form}")


def _require_room(target: Path, form: str) -> None:
    """Raises :class:`Problem` if the output would take the place of something else."""
    if form == "onnx":
        wanted, fits = f"a file *{places.ONNX}", not target.is_dir()
        fits = fits and target.suffix == places.ONNX
    else:
        wanted = f"a new folder, or one of an earlier export to {form}"
        fits = not target.exists() or (target / modelfile.PROVENANCE).is_file()
    if not fits:
        raise Problem(
            f"expected {wanted} as output, got something else",
            where=target,
            remedy="Give another --output.",
        )


def _require_package(form: str) -> None:
    package, wanted = _PACKAGE[form]
    if find_spec(package) is None:
        raise Problem(
            f"expected the package {package} for the format {form}, found none",
            remedy=f'Install it: pip install "{wanted}"',
        )


def _bytes(target: Path) -> int:
    return sum(one.stat().st_size for one in [target, *target.rglob("*")] if one.is_file())
