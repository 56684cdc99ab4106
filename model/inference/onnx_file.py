"""A network in an ONNX file, computed by onnxruntime: no deep-learning library is needed.

The file may come from anyone. Its provenance is read and checked; from that alone our own code
derives what the file must consist of, byte by byte but for the weights
(:mod:`model.inference.onnx_graph`). So it has no operator, no path of another file and no shape
that we did not choose, and onnxruntime is given nothing else.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Problem
from model.inference import onnx_graph, protobuf, stated
from model.inference.onnx_graph import Hole
from model.params import Network
from pipeline.runtime import files, modelfile

Runner = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
_MOST_BYTES = 2**31 - 1  # of a file: what a message of Protocol Buffers holds
_DIGEST = "weights_sha256"


def read(file: Path) -> dict[str, Any]:
    """The provenance of an ONNX file that ``export`` wrote, checked as that of a Keras archive is.

    Raises :class:`Problem` if the file is missing, damaged, too large or not a regular file, or
    has no valid provenance. The network itself is checked by :func:`runner`.
    """
    return _provenance(file, _metadata(file))


def runner(file: Path, px: int, channels: int, classes: int) -> Runner:
    """Pictures (B, px, px, channels) uint8 -> probabilities (B, px, px, classes) float32.

    On a GPU where onnxruntime has one, else on the processors that this process may use. Raises
    :class:`Problem` if onnxruntime is missing, if the file is not what :mod:`model.export` writes
    of the network in its provenance, or of other pictures and classes; the runner does so when a
    probability is not a number.
    """
    text = _metadata(file)
    origin = _provenance(file, text)
    network, count = stated.network(origin, file)
    if (network.image_px, network.inputs, count) != (px, channels, classes):
        raise modelfile.unfit(
            file,
            f"expected a network of {px} px, {channels} channels and {classes} classes,"
            f" got one of {network.image_px}, {network.inputs} and {count}",
        )
    layout = onnx_graph.layout(network, classes, text)
    size = onnx_graph.length(layout)
    if file.stat().st_size != size:
        got = f"a file of {file.stat().st_size} bytes, not {size}"
        raise modelfile.unfit(file, f"expected the FlexUNet of its parameters, got {got}")
    content = file.read_bytes()
    _require_ours(file, content, layout, origin)
    return _running(file, _session(file, content), (px, px, classes))


def parts(
    network: Network, classes: int, origin: Mapping[str, Any], weights: Mapping[str, NDArray[Any]]
) -> list[bytes]:
    """What an ONNX file of these weights consists of, in order.

    ``weights``: by the names and in the shapes of the graph's holes. ``origin``: the provenance,
    whose mapping ``format`` gets more facts. Raises KeyError for a missing weight, ValueError for
    one of another size, and :class:`Problem` for a network of 2 GiB or more.
    """
    layout = onnx_graph.layout(network, classes)
    if onnx_graph.length(layout) + modelfile.MOST_BYTES > _MOST_BYTES:
        raise Problem(
            f"expected a network of less than {_MOST_BYTES} bytes, which is the most that ONNX"
            f" holds in one file, got {onnx_graph.length(layout)}",
            remedy="Use its model.keras, or train one with fewer filters.",
        )
    arrays, digest = {}, hashlib.sha256()
    for hole in layout:
        if isinstance(hole, Hole):
            arrays[hole.name] = np.reshape(weights[hole.name], hole.shape).astype("<f4").tobytes()
            digest.update(arrays[hole.name])
    facts = {
        "name": "onnx",
        "ir_version": onnx_graph.IR_VERSION,
        "opset": onnx_graph.OPSET,
        "precision": "float32",
        _DIGEST: digest.hexdigest(),
    }
    stated_too = {**origin, "format": origin.get("format", {}) | facts}
    text = json.dumps(stated_too, indent=1, sort_keys=True)
    return [
        arrays[one.name] if isinstance(one, Hole) else one
        for one in onnx_graph.layout(network, classes, text)
    ]


def _metadata(file: Path) -> str:
    """The text of a file's provenance; its graph is passed over without being read."""
    if not files.require_regular(file).is_file():
        raise Problem(
            "expected a model in an ONNX file, found none",
            where=file,
            remedy="Write it: python -m model export <model> --format onnx",
        )
    size = file.stat().st_size
    try:
        if size > _MOST_BYTES:
            raise ValueError(f"{size} bytes, where {_MOST_BYTES} are the most")
        with file.open("rb") as stream:
            most = modelfile.MOST_BYTES
            for pair in protobuf.contents(stream, size, onnx_graph.METADATA, most):
                name, text = (
                    b"".join(protobuf.contents(io.BytesIO(pair), len(pair), number, most))
                    for number in (1, 2)
                )
                if name == onnx_graph.PROVENANCE.encode():
                    return text.decode("utf-8")
    except (OSError, ValueError) as error:
        raise modelfile.unfit(file, f"expected an ONNX file, got {error}") from None
    raise modelfile.unfit(file, "expected an ONNX file of this project, got one without provenance")


def _provenance(file: Path, text: str) -> dict[str, Any]:
    name = modelfile.PROVENANCE
    return modelfile.checked(modelfile.mapping(file, name, text.encode()), file)


def _require_ours(
    file: Path, content: bytes, layout: onnx_graph.Layout, origin: Mapping[str, Any]
) -> None:
    """Raises :class:`Problem` unless the file is the layout, with finite weights of its digest."""
    digest, rest = hashlib.sha256(), memoryview(content)
    for one in layout:
        length = one.length if isinstance(one, Hole) else len(one)
        here, rest = rest[:length], rest[length:]
        if isinstance(one, Hole):
            digest.update(here)
            if not np.isfinite(np.frombuffer(here, "<f4")).all():
                raise modelfile.unfit(
                    file, f"expected weights that are numbers, got NaN in {one.name}"
                )
        elif here != one:
            raise modelfile.unfit(
                file,
                "expected the FlexUNet of its parameters as this version exports it, got another"
                f" graph (at byte {len(content) - len(rest) - length})",
            )
    facts = origin.get("format")
    if not isinstance(facts, dict) or facts.get(_DIGEST) != digest.hexdigest():
        raise modelfile.unfit(file, "expected the weights of its digest, got others: it is damaged")


def _session(file: Path, content: bytes) -> Any:
    """onnxruntime's session of a checked file."""
    try:
        import onnxruntime
    except ImportError:
        raise Problem(
            "expected the package onnxruntime, found none",
            where=file,
            remedy='Install it: pip install "flexunet-pipeline[predict]"',
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _processors()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave idle ones be
    options.log_severity_level = 3  # errors alone
    there = onnxruntime.get_available_providers()
    wanted = [("CUDAExecutionProvider", {"use_tf32": 0}), ("CPUExecutionProvider", {})]
    providers = [one for one in wanted if one[0] in there]
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # of onnxruntime's own kinds
        raise _problem_of(file, error) from error


def _running(file: Path, session: Any, shape: tuple[int, int, int]) -> Runner:
    def run(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            [found] = session.run([onnx_graph.PROBABILITIES], {onnx_graph.PICTURE: pictures})
        except Exception as error:  # of onnxruntime's own kinds
            raise _problem_of(file, error) from error
        probabilities = np.asarray(found, np.float32)
        if probabilities.shape != (len(pictures), *shape) or not np.isfinite(probabilities).all():
            raise modelfile.unfit(file, "expected probabilities, got numbers that are none")
        return probabilities

    return run


def _problem_of(file: Path, error: Exception) -> Exception:
    """What to raise for an error of onnxruntime; that of memory is known by its text alone."""
    text = " ".join(str(error).split())[:200]
    if "alloc" in text:
        return MemoryError(text)
    return modelfile.unfit(file, f"expected a network that onnxruntime computes, got {text}")


def _processors() -> int:
    """How many processors this process may use: onnxruntime would count the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
