"""Every folder name, once. All paths are relative to the working folder, the project's root."""

from pathlib import Path

PARAMS = Path("params.yaml")
DATA = Path("data")
RUNS = Path("runs")
REPORT = Path("report")

IMAGES = "images"
MASKS = "masks"
MANIFEST = "manifest.parquet"
MINI_TEST = "mini_test"
CARD = "dataset.json"
STATISTICS = "statistics.png"
SAMPLES = "samples.png"

MODEL = "model.keras"
HISTORY = "history.csv"
CURVES = "curves.png"
EPOCH_CHANGE = "epoch_change_infer"
METRICS = "metrics.json"
PER_CASE = "per_case.csv"
PREDICTIONS = "predictions"


def raw(dataset: str) -> Path:
    """The scans as they were downloaded; filled by ``fetch``."""
    return DATA / "raw" / dataset


def converted(dataset: str) -> Path:
    """The output of ``convert``."""
    return DATA / "converted" / dataset


def augmented(dataset: str) -> Path:
    """The output of ``augment``."""
    return DATA / "augmented" / dataset


def dataset(dataset: str) -> Path:
    """The output of ``split``: what a model is trained on."""
    return DATA / "dataset" / dataset


def run(dataset: str) -> Path:
    """The outputs of ``train`` and ``evaluate``."""
    return RUNS / dataset
