"""How long 20,000 pairs take to split, check and track, and how often a picture lies on the disk.

``python -m tests.benchmarks.split [PAIRS]`` draws synthetic volumes of 64 px (what counts is the
number of files), makes pairs of them in a scratch DVC project, and writes ``split.md`` beside this
file.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import dvc
import nibabel as nib
import numpy as np
import yaml

from pipeline import paths
from pipeline.pairs import manifest
from tests.conftest import PROJECT

NAME = "virtual_mni152"
SLICES, VARIANTS, PX = 40, 3, 64
_BENT = [{"Elastic": {"sd_px": 1.0, "sigma_px": 8.0}}]


def main(pairs: int) -> None:
    """Measure in a scratch project, print the table and write it down."""
    patients = pairs // (SLICES * (1 + VARIANTS))
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        _project()
        for number in range(patients):
            _draw(paths.raw(NAME) / f"sub-{number:03d}", number)
        rows = [*_stages(), *_tracked()]
    lines = [
        "# Many pairs: split, gate and DVC",
        "",
        f"`python -m tests.benchmarks.split {pairs}`: {patients} patients of {SLICES} slices and",
        f"{VARIANTS} variants of each, {PX} px. Python {platform.python_version()}, DVC"
        f" {dvc.__version__}, {os.cpu_count()}",
        f"processor cores (load average {os.getloadavg()[0]:.0f} at the end): seconds by the"
        " clock, in brackets of",
        "processor time, which counts more on a busy machine.",
        "",
        "| what | measured |",
        "|---|---|",
        *(f"| {what} | {measured} |" for what, measured in rows),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_suffix(".md").write_text(text, "utf-8")


def _project() -> None:
    """The code, its stages up to split, and parameters, as a DVC project of its own."""
    for part in ("datasets_spec", "pipeline"):
        shutil.copytree(PROJECT / part, part, ignore=shutil.ignore_patterns("__pycache__"))
    content = yaml.safe_load((PROJECT / "dvc.yaml").read_text("utf-8"))
    kept = {name: content["stages"][name] for name in ("convert", "augment", "split")}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": kept}, sort_keys=False), "utf-8")
    values = yaml.safe_load((PROJECT / paths.PARAMS).read_text("utf-8"))
    values["datasets"] = {NAME: None}
    values["convert"]["image_px"] = PX
    values["augment"]["variants"] = {f"v{number}": _BENT for number in range(VARIANTS)}
    paths.PARAMS.write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    _timed("git", "init", "--quiet")
    _timed("dvc", "init", "--quiet")
    shutil.copy(PROJECT / ".dvc" / "config", Path(".dvc") / "config")


def _draw(folder: Path, number: int) -> None:
    """A patient in the raw layout of virtual_mni152: every slice a texture of its own."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:PX, :PX] - PX / 2
    away = np.hypot(rows * rng.uniform(1, 1.3), columns * rng.uniform(1, 1.3))
    ids = np.select([away < 8, away < 16, away < 26], [3, 2, 1], 0).astype(np.uint8)
    grain = rng.normal(0, 1, (SLICES, 12, 12)).astype(np.float32)
    texture = [cv2.resize(coarse, (PX, PX), interpolation=cv2.INTER_CUBIC) for coarse in grain]
    image = np.where(ids, 500 + 120 * np.stack(texture), 0).astype(np.int16)
    folder.mkdir(parents=True)
    for name, array in (("T1w", image), ("dseg", np.broadcast_to(ids, image.shape))):
        turned = np.ascontiguousarray(np.moveaxis(array, 0, 2))
        nib.save(nib.Nifti1Image(turned, np.eye(4)), folder / f"{folder.name}_{name}.nii")


def _stages() -> list[tuple[str, str]]:
    """The stages by themselves, and the gate on what they made."""
    for stage in ("convert", "augment"):
        _timed(sys.executable, "-m", "pipeline", stage, NAME)
    split = _timed(sys.executable, "-m", "pipeline", "split", NAME)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    idle = _timed(sys.executable, "-m", "pipeline", "--help")
    pairs = manifest.read(paths.dataset(NAME))
    check = _timed(sys.executable, "-m", "pipeline", "check", str(paths.dataset(NAME)))
    (paths.dataset(NAME) / paths.MANIFEST).rename("hidden")
    foreign = _timed(sys.executable, "-m", "pipeline", "check", str(paths.dataset(NAME)))
    Path("hidden").rename(paths.dataset(NAME) / paths.MANIFEST)
    return [
        ("pairs in the dataset", f"{len(pairs):,}"),
        ("`python -m pipeline split`: place, judge, link, card", split),
        ("most memory of any of the stages", f"{peak:.0f} MiB"),
        ("`python -m pipeline check`, with manifest", check),
        ("`python -m pipeline check`, without", foreign),
        ("`python -m pipeline --help`: what starting Python costs", idle),
        ("pictures below `data/`: names, files", _files(paths.DATA)),
    ]


def _tracked() -> list[tuple[str, str]]:
    """DVC: first run, nothing to do, status, one case changed, another seed for the split."""
    shutil.rmtree(paths.dataset(NAME))
    rows = [
        ("`dvc repro` with split to make: hashes and caches all folders", _dvc("repro")),
        ("pictures below `data/` and in DVC's cache: names, files", _files(Path())),
        ("`dvc repro` with nothing to do", _dvc("repro")),
        ("`dvc status`", _dvc("status")),
    ]
    file = next(paths.raw(NAME).glob("*/*_T1w.nii"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    rows.append(("`dvc repro` after one case changed", _dvc("repro")))
    values = yaml.safe_load(paths.PARAMS.read_text("utf-8"))
    values["split"]["seed"] += 1
    paths.PARAMS.write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    rows.append(("`dvc repro` after another `split.seed`", _dvc("repro")))
    return rows


def _dvc(*arguments: str) -> str:
    return _timed("dvc", *arguments)


def _files(folder: Path) -> str:
    """How many names pictures have below a folder, and how many files these are."""
    pictures = [*folder.rglob("*.png"), *folder.glob(".dvc/cache/files/*/*/*")]
    inodes = {file.stat().st_ino for file in pictures if file.is_file()}
    return f"{len(pictures):,}, {len(inodes):,}"


def _timed(*command: str) -> str:
    """Run a command: how long it took, and how much processor time it and its children used."""
    begin, before = time.monotonic(), _processor()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    seconds = f"{time.monotonic() - begin:.1f} s ({_processor() - before:.1f} s)"
    print(f"{seconds:>20}  {' '.join(command)}", flush=True)
    return seconds


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 20_000)
