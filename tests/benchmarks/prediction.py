"""Seconds and memory of a scan: ours by Keras and by ONNX beside nnU-Net v2's predictor.

    python -m tests.benchmarks.prediction SCRATCH --raw data/raw --ct MODEL --mr MODEL --peer PYTHON

CT and MR are trained ``model.keras`` files of 128 px, 5 levels and 8 filters. PYTHON is that of an
environment of its own (requirements-prediction.txt), where an untrained network of the same size is
made (:mod:`tests.benchmarks.prediction_peer`). RAW holds the virtual cohorts (``python -m pipeline
fetch virtual_ncct`` and ``virtual_mni152``). The table goes to ``prediction.md`` beside this file.

Every run is a program of its own, from files to files, and runs of all programs alternate, round by
round. *Start* is a run with one tiny slice; what a scan takes is a run with some copies of it, less
the start of the same round, by their number. Memory is the sum of all processes of a run
(proportional set size), sampled five times a second.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import generate_uid

from model.export import export
from pipeline.api import read_scan
from tests.benchmarks.processes import Run, run

PX, ROUNDS = 128, 3
LARGE = (512, 512, 300)
THEIRS, KERAS, ONNX = "nnU-Net v2", "ours, Keras", "ours, ONNX"
ALL = "ours, ONNX, DICOM, with all"
PROGRAMS = (THEIRS, KERAS, ONNX, ALL)
START = ""
_MR = "sub-10"  # stored in axial slices, as nnU-Net takes a scan's last axis to be
_CLASSES = {"CT": 3, "MR": 4}
_PEER = Path(__file__).with_name("prediction_peer.py")
_PACKAGES = """
from importlib.metadata import version
print(", ".join(f"{name} {version(name)}" for name in ("nnunetv2", "torch")))
"""


@dataclass(frozen=True)
class Kind:
    """Scans of one kind: a NIfTI file, how many copies a run has, and a DICOM series if any."""

    name: str
    modality: str
    file: Path
    copies: int = 1
    dicom: Path | None = None

    @property
    def title(self) -> str:
        """Its name and shape."""
        return f"{self.name}, {' x '.join(map(str, nib.load(self.file).shape))}"

    @property
    def pixel_mm(self) -> float:
        """The longer side of a slice in mm by :data:`PX`."""
        image = nib.load(self.file)
        return float(np.multiply(image.shape[:2], image.header.get_zooms()[:2]).max()) / PX


def main() -> None:
    """Measure, and write the table down after every round."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scratch", type=Path)
    for name in ("--raw", "--ct", "--mr", "--peer"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    scratch = options.scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    models = {(KERAS, "CT"): options.ct.resolve(), (KERAS, "MR"): options.mr.resolve()}
    for modality in _CLASSES:
        models[ONNX, modality] = scratch / f"{modality}.onnx"
        if not models[ONNX, modality].exists():
            export(str(models[KERAS, modality]), "onnx", models[ONNX, modality])
    kinds = _kinds(scratch / "scans", options.raw.resolve())
    weights = [_build_peer(scratch, kind, options.peer) for kind in kinds]
    _prepare(scratch / "in", kinds)
    found = subprocess.run(
        [options.peer, "-c", _PACKAGES], check=True, capture_output=True, text=True
    )
    rounds: list[dict[tuple[str, str], Run]] = []
    for _ in range(options.rounds):
        rounds.append(dict(_round(scratch, kinds, models, options.peer)))
        _write(kinds, rounds, weights[0], found.stdout.strip())


def _kinds(folder: Path, raw: Path) -> list[Kind]:
    folder.mkdir(exist_ok=True)
    series = raw / "virtual_ncct" / "sub-01" / "ct"
    scan = read_scan(series)
    ct = _saved(folder / "ct.nii.gz", scan.grid.from_ras(scan.array), scan.grid.affine)
    image = nib.load(raw / "virtual_mni152" / _MR / f"{_MR}_T1w.nii")
    mr = _saved(folder / "mr.nii.gz", np.asanyarray(image.dataobj), image.affine)
    large = folder / "large.nii.gz"
    if not large.exists():
        _saved(large, _head(LARGE), np.diag([-0.45, -0.45, 0.6, 1.0]))
    return [
        Kind("Virtual CT", "CT", ct, 12, series),
        Kind("Virtual MR", "MR", mr, 4),
        Kind("Synthetic CT", "CT", large),
    ]


def _saved(file: Path, values: NDArray[np.generic], affine: NDArray[np.float64]) -> Path:
    """``values`` as int16, all of which they are."""
    nib.save(nib.Nifti1Image(np.rint(values).astype(np.int16), affine), file)
    return file


def _head(shape: tuple[int, int, int]) -> NDArray[np.int16]:
    """HU of a skull, a brain and a haemorrhage with its oedema, as ellipsoids in noise."""
    columns, rows, slices = shape
    random = np.random.default_rng(1)
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j].astype(np.float32)
    stack = np.empty((slices, rows, columns), np.int16)
    for index, z in enumerate(np.linspace(-1, 1, slices)):
        skull = (x / 0.68) ** 2 + (y / 0.82) ** 2 + (z / 0.95) ** 2
        values = np.where(skull < 0.86, 35.0, np.where(skull < 1, 900.0, -1000.0))
        bleeding = ((x - 0.2) / 0.18) ** 2 + ((y - 0.1) / 0.2) ** 2 + ((z - 0.1) / 0.3) ** 2
        values[bleeding < 2] = 24
        values[bleeding < 1] = 68
        stack[index] = np.rint(values + random.normal(0, 6, values.shape))
    return stack.T


def _build_peer(scratch: Path, kind: Kind, python: Path) -> int:
    """A model's folder of nnU-Net for scans of this kind; returns its number of weights."""
    facts = (f"{kind.pixel_mm:.6f}", str(_CLASSES[kind.modality]), kind.modality)
    command = [python, _PEER, scratch / "peer" / kind.name, *facts]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def _prepare(folder: Path, kinds: Sequence[Kind]) -> None:
    """The folders that are predicted: copies of each scan, and one of a tiny scan."""
    shutil.rmtree(folder, ignore_errors=True)
    for kind in kinds:
        nifti = folder / kind.name / "nifti"
        nifti.mkdir(parents=True)
        for number in range(kind.copies):
            os.link(kind.file, nifti / f"scan{number}_0000.nii.gz")
            if kind.dicom is not None:
                _copy_series(kind.dicom, folder / kind.name / "dicom" / f"scan{number}", number)
    image = nib.load(kinds[0].file)
    slice_ = np.asanyarray(image.dataobj)[::8, ::8, image.shape[2] // 2][..., None]
    (folder / "tiny").mkdir()
    _saved(folder / "tiny" / "tiny_0000.nii.gz", slice_, image.affine @ np.diag([8, 8, 1, 1]))


def _copy_series(series: Path, folder: Path, number: int) -> None:
    """A DICOM series under UIDs of its own, as that of another scan."""
    folder.mkdir(parents=True)
    for file in series.rglob("*.dcm"):
        header = pydicom.dcmread(file)
        for name in ("SeriesInstanceUID", "SOPInstanceUID"):
            setattr(header, name, generate_uid(entropy_srcs=[header[name].value, str(number)]))
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.save_as(folder / file.name)


def _round(
    scratch: Path, kinds: Sequence[Kind], models: dict[tuple[str, str], Path], peer: Path
) -> Iterator[tuple[tuple[str, str], Run]]:
    """Every program once for its start, and once for each kind."""
    for kind, is_start in ((kinds[0], True), *((one, False) for one in kinds)):
        for program in PROGRAMS if is_start or kind.dicom else PROGRAMS[:3]:
            source = scratch / "in" / kind.name / ("dicom" if program == ALL else "nifti")
            if is_start:
                source = scratch / "in" / "tiny"
            model = models.get((KERAS if program == KERAS else ONNX, kind.modality))
            if program == THEIRS:
                model = scratch / "peer" / kind.name
            target = scratch / "out"
            shutil.rmtree(target, ignore_errors=True)
            one = run(_command(program, model, source, target, peer))
            if one.status or not any(target.glob("*.nii.gz")):
                raise RuntimeError(f"{program} of {source} ended with {one.status}")
            print(START if is_start else kind.name, program, one, flush=True)
            yield (START if is_start else kind.name, program), one


def _command(
    program: str, model: Path | None, source: Path, target: Path, peer: Path
) -> list[str | Path]:
    assert model is not None
    if program == THEIRS:
        tool = peer.with_name("nnUNetv2_predict_from_modelfolder")
        places: list[str | Path] = ["-i", source, "-o", target, "-m", model, "-f", "0"]
        processes = ["-npp", "1", "-nps", "1"]
        return [tool, *places, *processes, "-device", "cpu", "--disable_tta"]
    ours: list[str | Path] = [sys.executable, "-m", "model", "predict", model, source]
    least = [] if program == ALL else ["--no-page", "--seg", "none"]
    return [*ours, "--output", target, "--mirrors", "never", *least]


def _write(
    kinds: Sequence[Kind],
    rounds: Sequence[dict[tuple[str, str], Run]],
    weights: int,
    packages: str,
) -> None:
    own = (f"{name} {version(name)}" for name in ("keras", "tensorflow-cpu", "onnxruntime"))
    lines = [
        "# Prediction",
        "",
        f"Made by `python -m tests.benchmarks.prediction`: {len(rounds)} alternating rounds on"
        f" {os.cpu_count()} processor cores shared with other work (load average"
        f" {os.getloadavg()[0]:.0f} at the end): ratios and seconds of processors count."
        f" Python {platform.python_version()}, {', '.join(own)}; {packages}.",
        "",
        f"Both networks are U-Nets of 5 levels, 8 filters at the first and {PX} px; nnU-Net's, a"
        f" PlainConvUNet, has {weights:,} weights. 2-D, one fold, no mirror images, no GPU."
        f" Its plan has pixels of the size that makes a slice {PX} px wide, so each program asks"
        " its network once a slice; all else is `nnUNetv2_predict_from_modelfolder`'s default"
        " but for `-npp 1 -nps 1`, one process that prepares and one that exports instead of three,"
        " which starts faster and takes less memory. Ours writes the label map and the"
        " table of volumes (`--no-page --seg none`); *with all*: also the page and, of DICOM,"
        " PNG per instance and SEG.",
        "",
        "*Start*: a run with one tiny slice, in seconds by the clock (of processors).",
        "",
        "| program | start | memory, MiB |",
        "|---|---|---|",
    ]
    for program in PROGRAMS:
        starts = [one[START, program] for one in rounds]
        clock, cpu, memory = _medians(starts)
        lines.append(f"| {program} | {clock:.1f} ({cpu:.1f}) | {memory:.0f} |")
    for kind in kinds:
        lines += ["", f"## {kind.title}", "", *_table(kind, rounds)]
    text = "\n".join(lines) + "\n"
    Path(__file__).with_suffix(".md").write_text(text, "utf-8")
    print(text)


def _table(kind: Kind, rounds: Sequence[dict[tuple[str, str], Run]]) -> Iterator[str]:
    yield f"{kind.copies} in a run. Medians, with quartiles; start is taken off the seconds."
    yield ""
    yield (
        "| program | a scan, s | of processors, s | nnU-Net's of processors by this | memory, MiB |"
    )
    yield "|---|---|---|---|---|"
    theirs = _less_start(kind, THEIRS, rounds)
    for program in PROGRAMS if kind.dicom else PROGRAMS[:3]:
        each = _less_start(kind, program, rounds)
        ratios = [peer[1] / own[1] for peer, own in zip(theirs, each, strict=True)]
        memory = _medians([one[kind.name, program] for one in rounds])[2]
        clock, cpu = ([one[index] for one in each] for index in (0, 1))
        yield (
            f"| {program} | {_spread(clock)} | {_spread(cpu)} | {_spread(ratios)} | {memory:.0f} |"
        )


def _less_start(
    kind: Kind, program: str, rounds: Sequence[dict[tuple[str, str], Run]]
) -> list[tuple[float, float]]:
    """Of each round the seconds of a scan, by the clock and of processors."""
    found = []
    for one in rounds:
        start, whole = one[START, program], one[kind.name, program]
        clock, cpu = whole.clock - start.clock, whole.processors - start.processors
        found.append((clock / kind.copies, cpu / kind.copies))
    return found


def _medians(runs: Sequence[Run]) -> list[float]:
    names = ("clock", "processors", "memory")
    return [statistics.median(getattr(one, name) for one in runs) for name in names]


def _spread(values: Sequence[float]) -> str:
    """The median and the quartiles."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.2f} ({low:.2f} - {high:.2f})"


if __name__ == "__main__":
    main()
