"""What a training step takes while freed memory is given back, and while it is kept.

    python -m tests.benchmarks.allocator

Writes allocator.md beside this. Each row is a process of its own, which fits the hippocampus
preset's network to noise, by Keras' ``fit`` and its reading threads as ``train`` does; both ways
take turns, so that a busy machine slows both. Not a part of the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from model import params
from tests.conftest import PROJECT

TABLE = Path(__file__).with_suffix(".md")
WAYS = {"given": "given back, glibc's default", "kept": "kept, as `train` asks for it"}
FORMATS, STEPS = ("float32", "bfloat16"), 30


def measured(way: str, form: str) -> dict[str, float]:
    """Of this process: milliseconds and page faults a step, and peak MB."""
    import keras

    from model.flexunet import flexunet
    from model.training import fit, precision
    from model.training.losses import loss_of
    from pipeline.runtime import allocator

    if way == "kept":
        allocator.keep_freed()
    train = params.presets(PROJECT / "params.yaml")["msd_hippocampus"].train
    network, rng = train.network, np.random.default_rng(0)
    shape = (train.batch_pairs, network.image_px, network.image_px)
    pictures = rng.integers(0, 256, (*shape, network.inputs), np.uint8)
    ids = rng.integers(0, 3, shape, np.uint8)

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # untyped library
        def __len__(self) -> int:
            return STEPS

        def __getitem__(self, index: int) -> tuple[object, object]:
            return pictures, ids

    precision.use(form)
    model = flexunet(network, 3)
    model.compile(fit.optimizer(train), loss_of(train, [8, 1, 1]), jit_compile=False)
    batches = Batches(workers=2)
    model.fit(batches, verbose=0)
    faults, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    model.fit(batches, verbose=0)
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "ms": 1000 * seconds / STEPS,
        "faults": (used.ru_minflt - faults) / STEPS,
        "mb": used.ru_maxrss / 1024,
    }


def main() -> None:
    """Measure each way in turn, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--call", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.call:
        print(json.dumps(measured(*options.call)))
        return
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for form in FORMATS:
            for way in WAYS:
                rows.setdefault((form, way), []).append(_process(way, form))
                print(form, way, rows[form, way][-1], flush=True)
    TABLE.write_text("\n".join(_lines(rows)) + "\n", "utf-8")


def _process(way: str, form: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.allocator", "--call", way, form]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _lines(rows: dict[tuple[str, str], list[dict[str, float]]]) -> list[str]:
    lines = [
        "# Memory that a training frees",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} processors ({platform.machine()}),"
        f" {' '.join(platform.libc_ver())}, TensorFlow. Written by"
        " `python -m tests.benchmarks.allocator`: the hippocampus preset's network, batches of 32,"
        f" medians of {max(map(len, rows.values()))} processes that took turns.",
        "",
        "| format | freed memory is | ms a step | page faults a step | peak |",
        "|---|---|---|---|---|",
    ]
    for (form, way), found in rows.items():
        ms, faults, mb = (
            statistics.median(one[name] for one in found) for name in ("ms", "faults", "mb")
        )
        lines.append(f"| {form} | {WAYS[way]} | {ms:,.0f} | {faults:,.0f} | {mb:,.0f} MB |")
    return lines


if __name__ == "__main__":
    main()
