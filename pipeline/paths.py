"""The names of all files and folders. Paths are relative to the working folder."""

import os
from pathlib import Path

PARAMS = Path("params.yaml")
DATA = Path("data")
RUNS = Path("runs")
REPORT = Path("report")
PREFLIGHT = DATA / "preflight.txt"

DOWNLOADS = DATA / "downloads"
MOVING = ".unfinished-moving"
"""Complete files that are being moved into the raw folder around this one (sources/staging.py)."""
ID_SALT = DATA / "id_salt"
IDENTITIES = DATA / "identities"

IMAGES = "images"
CHANNELS_IN_FILE = 3
"""Of a picture of several channels, in one RGB file."""
MASKS = "masks"
TRUTH = "truth"
SCANS = "scans"
SHARDS = "shards"
MANIFEST = "manifest.parquet"
MINI_TEST = "mini_test"
CARD = "dataset.json"
STATISTICS = "statistics.png"
SAMPLES = "samples.png"
LIKENESS = "likeness.csv"

MEMBERS = "members"
ENSEMBLE = "ensemble"
MODEL = "model.keras"
MODEL_ONNX = "model.onnx"
BUNDLE = "ensemble.zip"
BUNDLE_ONNX = "ensemble_onnx.zip"
MEMBERS_TABLE = "members.csv"
HISTORY = "history.csv"
CURVES = "curves.png"
EPOCH_CHANGE = "epoch_change_infer"
METRICS = "metrics.json"
PER_CASE = "per_case.csv"
SCORES = "scores.json"
CONFUSION = "confusion.csv"
CONFUSION_PLOT = "confusion.png"
CALIBRATION = "calibration.csv"
PREDICTIONS = "predictions"
NATIVE = "native"
VIEW = "view"
"""Slices of cases, for the page that scrolls them."""
EXAMPLES = "examples"
OVERLAYS = "overlays"
CASES = "cases.json"
SHOWN = (METRICS, SCORES, PER_CASE, CONFUSION, CONFUSION_PLOT, CALIBRATION)
"""What the page needs of an evaluation."""
DOUBTS = "doubts.csv"
SCORED = (*SHOWN, DOUBTS, CASES)
"""What ``evaluate`` writes into a run beside its predictions; stale once the model has changed."""
FOLDS_TABLE = "folds.csv"
AUDIT, AUDIT_RATERS = "audit.csv", "audit_raters.csv"
DRIFT = "drift.json"
CURVE = "learning_curve.json"


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


def suggested(dataset: str) -> Path:
    """The near-duplicates over which ``split`` refused a dataset, grouped into patients."""
    return DATA / "suggested_patients" / f"{dataset}.csv"


def run(dataset: str) -> Path:
    """The outputs of ``train`` and ``evaluate``."""
    return RUNS / dataset


def member(dataset: str, name: str) -> Path:
    """The outputs of ``train`` for a further network of a dataset."""
    return run(dataset) / MEMBERS / name


def ensemble(dataset: str) -> Path:
    """The outputs of ``ensemble``: all networks of a dataset as one."""
    return run(dataset) / ENSEMBLE


def folds(dataset: str) -> Path:
    """The outputs of ``crossvalidate``: the pooled scores, and a folder for each fold."""
    return run(dataset) / "folds"


def fold(dataset: str, number: int) -> Path:
    """The working folder of a fold: parameters, dataset and run of its own."""
    return folds(dataset) / f"fold_{number}"


def learning_curve(dataset: str) -> Path:
    """The outputs of ``learningcurve``: the curve, and a folder for each training."""
    return run(dataset) / "learning_curve"


def subset(dataset: str, patients: int, seed: int) -> Path:
    """The working folder of a training on so many patients."""
    return learning_curve(dataset) / f"patients_{patients}_seed_{seed}"


def epoch_change(folder: Path, epoch: int) -> Path:
    """The folder, in a run or its checkpoint, of the pictures after ``epoch`` (from 1)."""
    return folder / EPOCH_CHANGE / f"epoch_{epoch:03d}"


def of_case(case: str, rater: str) -> str:
    """The name of a case's predictions; where each rater has pairs of their own, theirs follows.

    >>> of_case("ct_01", ""), of_case("ct_01", "2")
    ('ct_01', 'ct_01_r2')
    """
    return f"{case}_r{rater}" if rater else case


def picture_files(file: Path, channels: int) -> list[Path]:
    """The files of a picture of so many channels: ``file``, and others beside its folder.

    >>> [one.as_posix() for one in picture_files(Path("train/images/p1.png"), 4)]
    ['train/images/p1.png', 'train/images_2/p1.png']
    """
    folder = file.parent
    others = range(2, -(-channels // CHANNELS_IN_FILE) + 1)
    return [file, *(folder.with_name(f"{folder.name}_{one}") / file.name for one in others)]


def files_below(folder: Path) -> list[Path]:
    """Every file below ``folder``, sorted; linked folders are followed, each folder once."""
    return [path for path in entries_below(folder) if path.is_file()]


def entries_below(folder: Path) -> list[Path]:
    """Like :func:`files_below`, with pipes, devices, sockets and broken links."""
    found: list[Path] = []
    seen: set[str] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        found += [Path(here, name) for name in names]
    return sorted(found)
