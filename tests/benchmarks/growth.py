"""What grows with the number of pairs and with the size of a scan: time and peak memory.

    python -m tests.benchmarks.growth SCRATCH [--before CHECKOUT] [--sizes 1000 10000 100000]

In the folder SCRATCH, which it fills, it draws scans of three kinds and runs the stages on them as
processes, with this checkout's code and, to compare, with that of CHECKOUT. The table goes to
``growth.md`` beside this file.

- *rows*: tiny patients (32 px, 50 slices, one variant each) until their dataset has so many pairs;
  ``split`` and then ``check`` of what it wrote.
- *large*: a head CT of 512 x 512 x 600 voxels, smooth, drawn by four raters, with five tiny ones
  beside; ``convert`` with the raters fused by majority, by STAPLE, and each for itself, and
  ``evaluate`` with a tiny untrained network.
- *identical*: 8,000 times one picture, a patient each, to ``check``.

Peak memory is that of the largest single process (``ru_maxrss``); seconds are those of processors,
all processes of a run together, and by the clock, which counts little on a busy machine. What lies
in SCRATCH from an earlier run is used again.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray
from PIL import Image

from datasets_spec.contract import SPLITS
from pipeline import paths
from pipeline.pairs import manifest
from tests.conftest import PROJECT

SMALL, LARGE = "virtual_mni152", "mbh_seg25"
SLICES, PX = 50, 32
SHAPE, RATERS = (512, 512, 600), 4
GIANT = "ID_0000_ID_0000"
KINDS = ("rows", "large", "identical")
IDENTICAL = 8000
_UNTRAINED = f"""
import keras
from pipeline import params
from tests.support.models import save_untrained

keras.utils.set_random_seed(1)
save_untrained("{LARGE}", params.load("{LARGE}"))
"""


def main() -> None:
    """Measure, print a line per measurement, and write the table down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--before", type=Path, help="a checkout of the code to compare with")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    codes = {"after": PROJECT}
    if options.before:
        codes = {"before": options.before.resolve(), **codes}
    rows: list[tuple[str, dict[str, str]]] = []
    options.scratch.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(options.scratch):
        if "rows" in options.kinds:
            for size in options.sizes:
                rows += _rows(size, codes)
        if "large" in options.kinds:
            rows += _large(codes)
        if "identical" in options.kinds:
            rows += _identical(codes)
    lines = [
        "# Growth",
        "",
        "Made by `python -m tests.benchmarks.growth`: seconds of processors, by the clock, and peak"
        " memory of the largest process.",
        f"Python {platform.python_version()}, {os.cpu_count()} shared processor cores (load"
        f" average {os.getloadavg()[0]:.0f} at the end): ratios count.",
        "",
        f"| what | {' | '.join(codes)} |",
        f"|---|{'---|' * len(codes)}",
        *(f"| {what} | {' | '.join(figures[code] for code in codes)} |" for what, figures in rows),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if set(options.kinds) == set(KINDS):
        Path(__file__).with_suffix(".md").write_text(text, "utf-8")


def _rows(size: int, codes: dict[str, Path]) -> Iterator[tuple[str, dict[str, str]]]:
    """Split and check of a dataset of about ``size`` pairs."""
    patients = round(size / SLICES / 1.7)  # 0.7 of the patients are in train, with a variant each
    with _place(f"rows-{size}"):
        _settle(PROJECT, SMALL)
        if not paths.augmented(SMALL).is_dir():
            for number in range(patients):
                _draw_small(paths.raw(SMALL) / f"sub-{number:04d}", number)
            _run(PROJECT, "pipeline", "convert", SMALL)
            _run(PROJECT, "pipeline", "augment", SMALL)
        split, check = {}, {}
        for name, code in codes.items():
            _settle(code, SMALL)
            shutil.rmtree(paths.DATA / "dataset", ignore_errors=True)
            split[name] = _run(code, "pipeline", "split", SMALL)
            check[name] = _run(code, "pipeline", "check", str(paths.dataset(SMALL)))
        metadata = pq.read_metadata(paths.dataset(SMALL) / paths.MANIFEST)
        pairs = f"{metadata.num_rows:,} pairs"
    yield f"`split`, {pairs}", split
    yield f"`check`, {pairs}", check


def _large(codes: dict[str, Path]) -> Iterator[tuple[str, dict[str, str]]]:
    """Convert and evaluate with a case of 512 x 512 x 600 voxels and four raters in test."""
    case = f"{' x '.join(map(str, SHAPE))} voxels, {RATERS} raters"
    with _place("large"):
        raw = paths.raw(LARGE) / "MBH_Train_2025_voxel-label"
        if not raw.is_dir():
            for number in range(1, 6):
                _draw_head(raw / f"ID_{number:04d}_ID_{number:04d}", (64, 64, 6), 2)
            # in a process of its own: one that is started begins with its parent's peak
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                pool.submit(_draw_head, raw / GIANT, SHAPE, RATERS).result()
        for raters in ("majority", "staple", "each"):
            convert, evaluate = {}, {}
            for name, code in codes.items():
                seed = _settle(code, LARGE, raters)
                for folder in (paths.DATA / "converted", paths.DATA / "dataset", paths.RUNS):
                    shutil.rmtree(folder, ignore_errors=True)
                convert[name] = _run(code, "pipeline", "convert", LARGE)
                if raters == "staple":
                    continue
                _run(code, "pipeline", "augment", LARGE)
                while True:
                    _run(code, "pipeline", "split", LARGE)
                    pairs = manifest.read(paths.dataset(LARGE))
                    if next(p.split for p in pairs if p.case == GIANT) == "test":
                        break
                    seed = _settle(code, LARGE, raters, seed + 1)
                _python(code, "-c", _UNTRAINED)
                evaluate[name] = _run(code, "model", "evaluate", LARGE)
            yield f"`convert` ({raters}), {case}", convert
            if evaluate:
                yield f"`evaluate` ({raters}), {case}", evaluate


def _identical(codes: dict[str, Path]) -> Iterator[tuple[str, dict[str, str]]]:
    """Check of a folder that holds one picture many times."""
    with _place("identical"):
        folder = Path("folder")
        if not folder.is_dir():
            rng = np.random.default_rng(0)
            coarse = rng.integers(40, 230, (8, 8)).astype(np.float32)
            picture = cv2.resize(coarse, (PX, PX), interpolation=cv2.INTER_CUBIC)
            drawn = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
            for number in range(IDENTICAL):
                split = SPLITS[0 if number % 4 < 2 else number % 4 - 1]
                for part in (paths.IMAGES, paths.MASKS):
                    place = folder / split / part
                    place.mkdir(parents=True, exist_ok=True)
                    drawn.save(place / f"{number:05d}.png")
        figures = {
            name: _run(code, "pipeline", "check", str(folder)) for name, code in codes.items()
        }
    yield f"`check`, {IDENTICAL:,} identical pictures", figures


@contextlib.contextmanager
def _place(name: str) -> Iterator[None]:
    Path(name).mkdir(exist_ok=True)
    with contextlib.chdir(name):
        yield


def _settle(code: Path, dataset: str, raters: str = "majority", seed: int = 1) -> int:
    """Write the parameters of ``code``, made small; returns ``seed``, that of the split."""
    values = yaml.safe_load((code / paths.PARAMS).read_text("utf-8"))
    values.pop("presets", None)
    values["datasets"] = {dataset: None}
    values["convert"] |= {"raters": raters, "image_px": PX if dataset == SMALL else 512}
    variants = {"bent": [{"Barrel": {"radius": 0.3, "amount": 0.3, "centre": [0.5, 0.5]}}]}
    values["augment"] |= {"variants": variants if dataset == SMALL else {}}
    values["split"] |= {"seed": seed, "empty_slices": {"train": 1.0, "valid": 1.0, "test": 1.0}}
    values["train"] |= {"precision": "float32"}
    small = {"image_px": 64, "channels": 1, "base_filters": 2, "base_kernels": 3, "num_layers": 2}
    values["train"]["network"] |= small
    paths.PARAMS.write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    return seed


def _draw_small(folder: Path, number: int) -> None:
    """A patient in the raw layout of virtual_mni152: every slice a texture of its own."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:PX, :PX] - PX / 2
    away = np.hypot(rows * rng.uniform(1, 1.3), columns * rng.uniform(1, 1.3))
    ids = np.select([away < 4, away < 8, away < 13], [3, 2, 1], 0).astype(np.uint8)
    grain = rng.normal(0, 1, (SLICES, 16, 16)).astype(np.float32)
    texture = [cv2.resize(coarse, (PX, PX), interpolation=cv2.INTER_CUBIC) for coarse in grain]
    image = np.where(ids, 500 + 120 * np.stack(texture), 0).astype(np.int16)
    folder.mkdir(parents=True)
    for name, array in (("T1w", image), ("dseg", np.broadcast_to(ids, image.shape))):
        turned = np.ascontiguousarray(np.moveaxis(array, 0, 2))
        nib.save(nib.Nifti1Image(turned, np.eye(4)), folder / f"{folder.name}_{name}.nii")


def _draw_head(folder: Path, shape: tuple[int, int, int], raters: int) -> None:
    """A CT in the raw layout of mbh_seg25, written slab by slab: brain, and a blob per class."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(sum(folder.name.encode()))
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape]
    places = rng.uniform(-0.45, 0.45, (5, 3)).astype(np.float32)
    sizes = rng.uniform(0.12, 0.25, 5).astype(np.float32)

    def flat(place: NDArray[np.float32]) -> NDArray[np.float32]:
        """Squared distances from a place within a slice."""
        return np.add.outer((axes[0] - place[0]) ** 2, (axes[1] - place[1]) ** 2)

    image = np.full(shape, -1000, np.int16)
    labels = np.zeros((raters, *shape), np.uint8)
    grain = rng.normal(0, 12, (2, 20, 20)).astype(np.float32)  # so that no head is like another
    texture = [cv2.resize(coarse, shape[1::-1], interpolation=cv2.INTER_CUBIC) for coarse in grain]
    for index, height in enumerate(axes[2]):
        drawn, air = image[..., index], flat(np.zeros(2)) + height**2 >= 0.8
        drawn[:] = 32 + np.sin(3 * height) * texture[0] + np.cos(3 * height) * texture[1]
        for class_id, (place, size) in enumerate(zip(places, sizes, strict=True), 1):
            away = flat(place) + (height - place[2]) ** 2
            drawn[away < size**2] += 35
            for rater in range(raters):
                mine = (size * (1 + 0.06 * (rater - 1))) ** 2
                labels[rater][..., index][(away < mine) & ~air] = class_id
        drawn[air] = -1000
    affine = np.diag([-0.45, 0.45, 0.5, 1.0])
    nib.Nifti1Image(image, affine).to_filename(folder / "image.nii.gz")
    for rater in range(raters):
        nib.Nifti1Image(labels[rater], affine).to_filename(folder / f"label_annot_{rater}.nii.gz")


def _run(code: Path, module: str, *arguments: str) -> str:
    """Run a module of the checkout ``code`` in here: its seconds and peak memory."""
    figure = _python(code, "-m", module, *arguments)
    print(f"{figure:>28}  {code.name} {module} {' '.join(arguments)}", flush=True)
    return figure


def _python(code: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(code), "KERAS_BACKEND": "tensorflow"}
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    begin = time.monotonic()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, *arguments],
        environment,
        file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
    )
    _, status, used = os.wait4(pid, 0)
    busy = used.ru_utime + used.ru_stime
    os.close(log)
    if status and "check" not in arguments:  # which exits with 2 where pictures are identical
        raise SystemExit(f"{' '.join(arguments)}: {Path('log').read_text()[-2000:]}")
    taken = f"{busy:.0f} s of {time.monotonic() - begin:.0f} s"
    return f"{taken}, {used.ru_maxrss / 1024:,.0f} MB"


if __name__ == "__main__":
    main()
