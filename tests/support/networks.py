"""Networks that are drawn at random and written without a deep-learning library."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from model.inference import onnx_file, onnx_graph
from model.params import Network


def record(network: Network, classes: int) -> dict[str, Any]:
    """The least provenance of a model that is read, without a dataset or parameters."""
    return {
        "dataset": "drawn",
        "modality": "MR",
        "dataset_digest": "0" * 64,
        "labels": [[number, f"class_{number}", [number, 0, 0]] for number in range(classes)],
        "window": {"percentiles": [0.5, 99.5]},
        "convert": {},
        "augment": {},
        "split": {},
        "train": {"network": asdict(network)},
    }


def write_onnx(file: Path, network: Network, classes: int, spread: float = 0.3) -> bytes:
    """An ONNX file of random weights; returns its content."""
    rng = np.random.default_rng(0)
    weights = {
        hole.name: np.abs(rng.normal(0, spread, hole.shape)).astype(np.float32)
        for hole in onnx_graph.layout(network, classes)
        if isinstance(hole, onnx_graph.Hole)
    }
    content = b"".join(onnx_file.parts(network, classes, record(network, classes), weights))
    file.write_bytes(content)
    return content
