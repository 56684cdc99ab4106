"""How fast training is and what memory it takes: python -m tests.benchmarks.training.

Writes training.md beside this. Every row is a process of its own, since threads, precision and
backend hold for a process; processes run one after the other, round after round, and the best
step of all rounds counts, so that a busy machine slows all alike. ``--other PYTHON`` names a
Python that has jax and torch. Not a part of the tests.

The peer is the reference projects' trainer as described: the same network in float32, one thread,
pictures as float32 and one-hot labels whole in memory, categorical cross-entropy, their metric.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from datasets_spec.contract import Label, LabelMap
from model import params
from model import params as params_reader
from pipeline.pairs import manifest, png
from pipeline.pairs.manifest import Pair
from tests.conftest import PROJECT
from tests.support import cohort

TABLE = Path(__file__).with_suffix(".md")
CLASSES = LabelMap(
    (
        Label(0, "background", (0, 0, 0), "everything else"),
        Label(1, "lesion", (255, 255, 255), "what is looked for"),
    )
)
SIZES = {
    "small": ("the default's network, 128 pixels, batch 16", 20),
    "full": ("the reference projects' network (`aisd`), 512 pixels, batch 2", 2),
}
ROWS = [
    ("peer: reference projects' trainer, one thread", "tensorflow", "float32", "never"),
    ("ours", "tensorflow", "float32", "never"),
    ("ours, XLA", "tensorflow", "float32", "always"),
    ("ours", "tensorflow", "bfloat16", "never"),
    ("ours", "jax", "float32", "always"),
    ("ours", "jax", "bfloat16", "always"),
    ("ours", "torch", "float32", "never"),
]
PAIRS = (100, 1_000, 10_000)


def wanted(size: str) -> params.Train:
    """The parameters of a row."""
    file = PROJECT / "params.yaml"
    train = params_reader.load(cohort.DATASET, file).train
    return params_reader.presets(file)["aisd"].train if size == "full" else train


def step_seconds(size: str, peer: bool, precision: str, jit: str) -> dict[str, float]:
    """The best step of this process, in seconds, without what the first one builds."""
    import keras

    from model.flexunet import flexunet
    from model.training.fit import optimizer
    from model.training.losses import loss_of
    from model.training.metrics import Scores
    from model.training.precision import use

    train, steps = wanted(size), SIZES[size][1]
    use(precision)
    rng = np.random.default_rng(0)
    px, batch = train.network.image_px, train.batch_pairs
    pictures = rng.integers(0, 256, (batch, px, px, train.network.channels), np.uint8)
    ids = rng.integers(0, 2, (batch, px, px), np.uint8)
    model = flexunet(train.network, 2)
    if peer:
        metrics, loss = [_soft_dice], "categorical_crossentropy"
        pictures, ids = pictures.astype(np.float32), np.eye(2, dtype=np.float32)[ids]
    else:
        metrics, loss = [Scores(CLASSES)], loss_of(train, [3, 1])
    model.compile(optimizer(train), loss, metrics=metrics, jit_compile=jit == "always")
    model.train_on_batch(pictures, ids)
    spent = []
    for _ in range(steps):
        start = time.perf_counter()
        model.train_on_batch(pictures, ids)
        spent.append(time.perf_counter() - start)
    keras.backend.clear_session()
    return {"seconds": min(spent), "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


def _soft_dice(truth: Any, guess: Any) -> Any:
    """The reference projects' dice_coef_multiclass, of one-hot labels."""
    from keras import ops

    both, total = ops.sum(truth * guess, axis=(1, 2, 3)), ops.sum(truth + guess, axis=(1, 2, 3))
    return ops.mean((2 * both + 1) / (total + 1))


def feed_rate(folder: Path, px: int) -> dict[str, float]:
    """Pairs a second that the batches give, read by Keras' threads alone, without a model."""
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    batches = _batches(folder, replace(wanted("small").network, image_px=px), 400)
    start, seen = time.perf_counter(), 0
    for pictures, _ in PyDatasetAdapter(batches).get_numpy_iterator():
        seen += len(pictures)
    return {"rate": seen / (time.perf_counter() - start)}


def peak_memory(folder: Path, pairs: int) -> dict[str, float]:
    """Peak resident MB of 60 steps at 128 pixels, of a dataset of so many pairs."""
    from model.flexunet import flexunet
    from model.training.fit import fit_epoch, optimizer
    from model.training.losses import loss_of
    from model.training.metrics import Scores

    train = wanted("small")
    model = flexunet(train.network, 2)
    model.compile(
        optimizer(train), loss_of(train, [3, 1]), metrics=[Scores(CLASSES)], jit_compile=False
    )
    fit_epoch(model, _batches(folder, train.network, pairs, steps=60), 0, [])
    return {"rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _batches(folder: Path, network: params.Network, pairs: int, steps: int = 0) -> Any:
    from model.training.batches import Batches

    found = manifest.read(folder)[:pairs]
    return Batches(folder, found, CLASSES, network, 16, 1, steps, foreground_oversampling=0.25)


def write_pairs(folder: Path, count: int, px: int) -> None:
    """A dataset of ``count`` pairs; beyond 200 they are links to the same pictures."""
    rng = np.random.default_rng(0)
    rows: list[Pair] = []
    for number in range(count):
        pair = cohort.pair(f"sub-{number:05d}_0000", class_pixels=(px * px - 9, 9))
        if number < 200:
            coarse = rng.integers(0, 256, (px // 16, px // 16), np.uint8)
            picture = np.kron(coarse, np.ones((16, 16), np.uint8)) + rng.integers(
                0, 9, (px, px), np.uint8
            )
            png.write_image(folder / pair.image, picture)
            png.write_mask(folder / pair.mask, (picture > 240).astype(np.uint8), CLASSES)
        else:
            for kind in ("image", "mask"):
                os.link(folder / getattr(rows[number % 200], kind), folder / getattr(pair, kind))
        rows.append(pair)
    manifest.write(folder, rows)


def _process(python: str, backend: str, threads: int | None, *call: Any) -> dict[str, float] | None:
    """The answer of ``call`` in a process of its own; None where the backend is not there."""
    few = {"OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"}
    done = subprocess.run(
        [python, "-m", "tests.benchmarks.training", "--call", json.dumps(call)],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            **(dict.fromkeys(few, str(threads)) if threads else {}),
        },
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stderr[-400:], file=sys.stderr)
        return None
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _steps(other: str | None, rounds: int) -> list[str]:
    lines = []
    for size, (title, _) in SIZES.items():
        best: dict[int, float] = {}
        for _ in range(rounds):
            for number, (name, backend, precision, jit) in enumerate(ROWS):
                python = sys.executable if backend == "tensorflow" else other
                peer = name.startswith("peer")
                if python is None or (
                    size == "full" and (backend != "tensorflow" or "XLA" in name)
                ):
                    continue
                call = ("step_seconds", size, peer, precision, jit)
                found = _process(python, backend, 1 if peer else None, *call)
                if found:
                    best[number] = min(found["seconds"], best.get(number, np.inf))
        lines += ["", f"{title}:", "", "| | backend | precision | step | peer / step |"]
        lines += ["|---|---|---|---|---|"]
        for number, seconds in best.items():
            name, backend, precision, _ = ROWS[number]
            lines.append(
                f"| {name} | {backend} | {precision} | {seconds * 1000:,.0f} ms"
                f" | {best[0] / seconds:.2f} |"
            )
    return lines


def main() -> None:
    """Measure everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", help="a Python that has jax and torch")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--call", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.call:
        name, *arguments = json.loads(options.call)
        given = [
            Path(one) if name != "step_seconds" and isinstance(one, str) else one
            for one in arguments
        ]
        print(json.dumps(globals()[name](*given)))
        return
    lines = [
        "# Training: step time, feeding, memory",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} processors ({platform.machine()}):"
        " ratios count. Written by `python -m tests.benchmarks.training`.",
        "",
        "## Step time",
        *_steps(options.other, options.rounds),
        "",
        "## Feeding",
        "",
        "Pairs a second that the batches give without a model (2 to 8 threads):",
        "",
        "| pictures | pairs/s |",
        "|---|---|",
    ]
    with tempfile.TemporaryDirectory() as place:
        for px in (128, 512):
            write_pairs(Path(place) / str(px), 400, px)
            found = _process(sys.executable, "tensorflow", None, "feed_rate", f"{place}/{px}", px)
            assert found
            lines.append(f"| {px} x {px} | {found['rate']:.0f} |")
        lines += ["", "## Memory", "", "Peak of a process that trains 60 steps at 128 pixels:", ""]
        lines += ["| pairs in the dataset | peak |", "|---|---|"]
        for count in PAIRS:
            folder = f"{place}/{count}"
            write_pairs(Path(folder), count, 128)
            found = _process(sys.executable, "tensorflow", None, "peak_memory", folder, count)
            assert found
            lines.append(f"| {count:,} | {found['rss']:,.0f} MB |")
    TABLE.write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
