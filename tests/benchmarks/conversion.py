"""How fast scans become pairs, beside the sum of what cannot be saved, and in how much memory.

    python -m tests.benchmarks.conversion SCANS

SCANS is a folder with ``Task04_Hippocampus`` (NIfTI, Medical Segmentation Decathlon) and, for the
DICOM part, ``dicom/PGBM-*.tar.gz`` (TCIA). The table goes to ``conversion.md`` beside this file.

*Limit* is the sum of three things done alone in this process: decompressing and parsing image and
label (nibabel), resizing every slice (OpenCV, linear for the image, nearest for the label) and
encoding both as PNG with our settings. Repeats of limit and conversion alternate, so that a busy
machine troubles both alike.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import SimpleITK as sitk
from PIL import Image

from model import params
from pipeline import paths
from pipeline.convert import convert
from pipeline.pairs import png
from pipeline.volumes import volume
from pipeline.volumes.dicom import assemble

HERE = Path(__file__)
NAME = "msd_hippocampus"
CASES, REPEATS, PX = 20, 5, 512


def settings() -> params.Params:
    return params.presets(HERE.parents[2] / "params.yaml")[NAME]


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def limit(raw: Path) -> dict[str, float]:
    """Seconds of decompression, resizing and encoding alone, and the number of slices."""
    spent = dict.fromkeys(("decompress", "resize", "encode"), 0.0)
    slices = 0
    for image_file in sorted((raw / "imagesTr").glob("*.nii.gz")):
        start = time.perf_counter()
        image, label = (
            np.asanyarray(nib.Nifti1Image.from_bytes(gzip.decompress(f.read_bytes())).dataobj)
            for f in (image_file, raw / "labelsTr" / image_file.name)
        )
        spent["decompress"] += time.perf_counter() - start
        low, high = np.percentile(image, (0.5, 99.5))
        grey = np.clip((image - low) * (255 / (high - low)), 0, 255).astype(np.float32)
        for index in range(image.shape[2]):
            slices += 1
            side = PX / max(image.shape[:2])
            size = (round(image.shape[1] * side), round(image.shape[0] * side))
            start = time.perf_counter()
            shown = cv2.resize(grey[..., index], size, interpolation=cv2.INTER_LINEAR)
            drawn = cv2.resize(
                label[..., index].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST
            )
            spent["resize"] += time.perf_counter() - start
            picture, mask = np.zeros((PX, PX), np.uint8), np.zeros((PX, PX), np.uint8)
            picture[: shown.shape[0], : shown.shape[1]] = shown
            mask[: drawn.shape[0], : drawn.shape[1]] = drawn
            start = time.perf_counter()
            cv2.imencode(".png", picture, png._IMAGE_SETTINGS)
            indexed = Image.frombytes("P", (PX, PX), mask.tobytes())
            indexed.putpalette([0, 0, 0, 230, 159, 0, 86, 180, 233])
            indexed.save(io.BytesIO(), "png", bits=2, compress_level=1, compress_type=png._Z_RLE)
            spent["encode"] += time.perf_counter() - start
    return {**spent, "slices": slices}


def link_cases(scans: Path, count: int) -> Path:
    """``count`` hippocampus cases below ``data/raw``, repeated under new names if need be."""
    raw = paths.raw(NAME) / "Task04_Hippocampus"
    shutil.rmtree(raw, ignore_errors=True)
    files = sorted((scans / "Task04_Hippocampus" / "imagesTr").glob("*.nii.gz"))
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True)
        for number in range(count):
            file = scans / "Task04_Hippocampus" / part / files[number % len(files)].name
            (raw / part / f"hippocampus_{number:03d}.nii.gz").symlink_to(file.resolve())
    return raw


def converted(workers: int) -> float:
    shutil.rmtree(paths.converted(NAME), ignore_errors=True)
    return seconds(lambda: convert(NAME, settings(), workers))


def speed(scans: Path) -> list[str]:
    raw = link_cases(scans, CASES)
    converted(1)  # imports and caches
    rows: dict[str, list[float]] = {"limit": [], "one": [], "two": [], "ratio": []}
    parts: list[dict[str, float]] = []
    for _ in range(REPEATS):
        parts.append(limit(raw))
        rows["limit"].append(sum(parts[-1][part] for part in ("decompress", "resize", "encode")))
        rows["one"].append(converted(1))
        rows["ratio"].append(rows["one"][-1] / rows["limit"][-1])
    link_cases(scans, 4 * CASES)  # enough that starting two processes does not hide their gain
    rows["four"], rows["two"] = [], []
    for _ in range(3):
        rows["four"].append(converted(1))
        rows["two"].append(converted(2))
    slices = parts[0]["slices"]
    times = ", ".join(
        f"{part} {1e3 * statistics.median(p[part] for p in parts) / slices:.2f} ms"
        for part in ("decompress", "resize", "encode")
    )
    return [
        f"{CASES} cases, {slices:.0f} slices, {PX} x {PX} pixels; {REPEATS} alternating repeats.",
        "",
        "| what | slices a second, median | ratio |",
        "|---|---|---|",
        f"| limit ({times} a slice) | {slices / statistics.median(rows['limit']):.0f} | 1 |",
        f"| convert, one worker | {slices / statistics.median(rows['one']):.0f} |"
        f" time {statistics.median(rows['ratio']):.2f} x the limit's"
        f" ({min(rows['ratio']):.2f} to {max(rows['ratio']):.2f}) |",
        f"| convert of {4 * CASES} cases, one worker |"
        f" {4 * slices / statistics.median(rows['four']):.0f} | |",
        f"| convert of {4 * CASES} cases, two workers |"
        f" {4 * slices / statistics.median(rows['two']):.0f} | {_speedup(rows)} x one worker |",
    ]


def _speedup(rows: dict[str, list[float]]) -> str:
    return f"{statistics.median(a / b for a, b in zip(rows['four'], rows['two'], strict=True)):.2f}"


def memory(scans: Path) -> list[str]:
    """Peak resident memory of a process that converts 1, 10 and 100 cases."""
    rows = ["| cases | peak memory, MiB |", "|---|---|"]
    for count in (1, 10, 100):
        link_cases(scans, count)
        shutil.rmtree(paths.converted(NAME), ignore_errors=True)
        command = [sys.executable, "-m", "tests.benchmarks.conversion", "--peak", str(Path.cwd())]
        done = subprocess.run(
            command, cwd=HERE.parents[2], capture_output=True, text=True, check=True
        )
        rows.append(f"| {count} | {int(done.stdout.split()[-1]) / 1024:.0f} |")
    return rows


def peers(scans: Path) -> list[str]:
    """Reading DICOM series: ours, SimpleITK's reader and dcm2niix, voxels and geometry compared."""
    archives = sorted((scans / "dicom").glob("PGBM-*.tar.gz"))
    if not archives:
        return ["No DICOM series were there."]
    for archive in archives:
        with tarfile.open(archive) as content:
            content.extractall("dicom", filter="data")
    series = sorted({file.parent for file in Path("dicom").rglob("*.dcm")})
    rows = [
        "| series | slices | ours, s | SimpleITK, s | dcm2niix, s | voxels | corners apart |",
        "|---|---|---|---|---|---|---|",
    ]
    for folder in series:
        times: dict[str, list[float]] = {"ours": [], "itk": [], "dcm2niix": []}
        for _ in range(REPEATS):
            times["ours"].append(seconds(partial(assemble.read_series, folder)))
            times["itk"].append(seconds(partial(_itk, folder)))
            if shutil.which("dcm2niix"):
                times["dcm2niix"].append(seconds(partial(_dcm2niix, folder)))
        ours = assemble.read_series(folder)
        found = [_compared(ours, *_itk(folder))]
        names = ["SimpleITK"]
        if times["dcm2niix"]:
            found.append(_compared(ours, *_dcm2niix(folder)))
            names.append("dcm2niix")
        voxels = "; ".join(f"{name} {same}" for name, (same, _) in zip(names, found, strict=True))
        apart = "; ".join(f"{name} {mm:.2g} mm" for name, (_, mm) in zip(names, found, strict=True))
        middle = {n: f"{statistics.median(t):.3f}" if t else "absent" for n, t in times.items()}
        rows.append(
            f"| {' / '.join(folder.parts[-2:])[:60]} | {ours.grid.shape[2]} | {middle['ours']} |"
            f" {middle['itk']} | {middle['dcm2niix']} | {voxels} | {apart} |"
        )
    return rows


def _itk(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, np.diag([-1, -1, 1, 1]) @ affine


def _dcm2niix(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    with tempfile.TemporaryDirectory() as target:
        command = ["dcm2niix", "-z", "n", "-b", "n", "-f", "x", "-o", target, str(folder)]
        subprocess.run(command, check=True, capture_output=True)
        image = nib.load(next(Path(target).glob("*.nii")))
        return np.asanyarray(image.dataobj), image.affine


def _compared(ours: volume.Volume, array: np.ndarray, affine: np.ndarray) -> tuple[str, float]:
    """Whether a peer's voxels equal ours, and how far its corners lie from ours."""
    grid = volume.Grid(array.shape, affine)
    same = np.array_equal(grid.to_ras(array), ours.array)
    theirs = [_ras_corner(grid, at) for at in np.ndindex(2, 2, 2)]
    mine = [_ras_corner(ours.grid, at) for at in np.ndindex(2, 2, 2)]
    return ("equal" if same else "differ"), max(np.linalg.norm(np.subtract(theirs, mine), axis=1))


def _ras_corner(grid: volume.Grid, at: tuple[int, ...]) -> np.ndarray:
    """The position in mm of a corner of the volume, named along right, anterior and superior."""
    turned = [
        grid.to_ras(np.broadcast_to(np.arange(n).reshape(np.roll((n, 1, 1), axis)), grid.shape))
        for axis, n in enumerate(grid.shape)
    ]
    corner = tuple(-1 if end else 0 for end in at)
    return (grid.affine @ [*(float(axis[corner]) for axis in turned), 1])[:3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", type=Path)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        os.chdir(options.scans)
        convert(NAME, settings(), 1)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    scans = options.scans.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        parts = {
            "Speed": speed(scans),
            "Memory": memory(scans),
            "DICOM series beside peers": peers(scans),
        }
        os.chdir(HERE.parent)
    libraries = ("numpy", "opencv-python-headless", "pillow", "nibabel", "pydicom", "SimpleITK")
    lines = [
        "# Conversion",
        "",
        "Made by `python -m tests.benchmarks.conversion`, on two processor cores:",
        "ratios count, not absolute figures. "
        + ", ".join(f"{name} {version(name)}" for name in libraries)
        + ".",
    ]
    for title, rows in parts.items():
        lines += ["", f"## {title}", "", *rows]
    text = "\n".join(lines) + "\n"
    HERE.with_suffix(".md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
