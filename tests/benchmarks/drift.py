"""How often ``drift`` finds a planted change of scanner, and how often one that is not there.

    python -m tests.benchmarks.drift WORK --raw RAW

Writes drift.md beside this. RAW holds ``Task04_Hippocampus``. The scans of ``--changed`` patients
are changed in one way, as another scanner would, and converted by the pipeline itself; these
patients and the unchanged others are the two groups. Without a change, ``--splits`` groups of that
size are drawn at random. What is converted in WORK is not converted again. Not a part of the tests.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import nibabel as nib
import numpy as np
import yaml
from numpy.typing import NDArray
from scipy import ndimage

import datasets_spec
from model.folds.workplace import environment
from pipeline import paths
from pipeline.audits import features, two_sample
from pipeline.audits.two_sample import Verdict
from pipeline.pairs import manifest
from pipeline.params.limits import Limits
from tests.conftest import PROJECT

TABLE = Path(__file__).with_suffix(".md")
DATASET, _TASK = "msd_hippocampus", "Task04_Hippocampus"
Values = NDArray[np.float64]
Change = Callable[[Values, np.random.Generator], Values]


def _noisier(part: float) -> Change:
    """Of a magnitude image: noise in two channels (Rician)."""

    def change(values: Values, rng: np.random.Generator) -> Values:
        real, imaginary = rng.normal(0, part * np.percentile(values, 99), (2, *values.shape))
        return np.asarray(np.hypot(values + real, imaginary), np.float64)

    return change


def _softer(sigma_px: float) -> Change:
    return lambda values, _: np.asarray(ndimage.gaussian_filter(values, sigma_px), np.float64)


def _gamma(power: float) -> Change:
    def change(values: Values, rng: np.random.Generator) -> Values:
        top = values.max()
        return np.asarray(top * (values.clip(0) / top) ** power, np.float64)

    return change


CHANGES: Mapping[str, Change] = {
    "noise of 1 %": _noisier(0.01),
    "noise of 2 %": _noisier(0.02),
    "noise of 4 %": _noisier(0.04),
    "blur of .3 px": _softer(0.3),
    "blur of .5 px": _softer(0.5),
    "gamma .9": _gamma(0.9),
    "gamma .75": _gamma(0.75),
    "values times 3": lambda values, _: 3 * values,
}


def numbers(
    place: Path, raw: Path, names: Sequence[str], change: Change | None
) -> dict[str, dict[str, float]]:
    """The features of these patients, converted once with their scans changed."""
    if not (place / paths.converted(DATASET) / paths.MANIFEST).is_file():
        folder = place / paths.raw(DATASET) / _TASK
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names):
            (folder / "labelsTr" / name).unlink(missing_ok=True)
            (folder / "labelsTr" / name).symlink_to((raw / _TASK / "labelsTr" / name).resolve())
            scan = nib.load(raw / _TASK / "imagesTr" / name)
            values = np.asarray(scan.dataobj, np.float64)
            if change:
                values = np.rint(change(values, np.random.default_rng(number)))
            changed = nib.Nifti1Image(values.astype(np.float32), scan.affine)
            nib.save(changed, folder / "imagesTr" / name)
        content = yaml.safe_load((PROJECT / paths.PARAMS).read_text("utf-8"))
        entry = content.pop("presets")[DATASET]
        content |= {"datasets": {DATASET: entry}, "members": {}, "ensembles": {}}
        (place / paths.PARAMS).write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
        command = [sys.executable, "-m", "pipeline", "convert", DATASET]
        subprocess.run(command, cwd=place, env=environment(), check=True)
    label_map = datasets_spec.load(DATASET).dataset.label_map
    converted = place / paths.converted(DATASET)
    return {
        slices[0].patient: features.of_case(
            features.Job(converted, tuple(slices), label_map, Limits())
        )
        for slices in manifest.grouped(manifest.read(converted), "case")
    }


def compared(
    one: Mapping[str, Mapping[str, float]], other: Mapping[str, Mapping[str, float]], seed: int
) -> Verdict:
    patients = [*one.values(), *other.values()]
    names = sorted({name for patient in patients for name in patient})
    table = [[features.value(patient, name) for name in names] for patient in patients]
    return two_sample.told_apart(np.array(table), names, np.arange(len(patients)) < len(one), seed)


def table(work: Path, raw: Path, count: int, splits: int) -> str:
    names = [file.name for file in sorted((raw / _TASK / "labelsTr").glob("hippo*.nii.gz"))]
    rng = np.random.default_rng(1)
    chosen = sorted(rng.choice(names, count, replace=False))
    clean = numbers(work / "unchanged", raw, names, None)
    start = time.monotonic()
    flagged = []
    for seed in range(splits):
        first = set(rng.choice(sorted(clean), count, replace=False))
        one = {patient: found for patient, found in clean.items() if patient in first}
        other = {patient: found for patient, found in clean.items() if patient not in first}
        flagged.append(compared(one, other, seed).p < two_sample.SIGNIFICANT)
    seconds = (time.monotonic() - start) / splits
    lines = [
        "# Planted changes of scanner, found",
        "",
        f"Made {datetime.now(UTC):%Y-%m-%d} on {os.cpu_count()} cores of {platform.machine()} by"
        f" `python -m tests.benchmarks.drift`: {count} of {len(names)} hippocampus patients against"
        " the others.",
        "",
        f"- Of {splits} random groups, {sum(flagged)} are told apart at p < .05; of the first 20,"
        f" {sum(flagged[:20])}. {seconds:.1f} s each.",
        "",
        "| change in these patients' scans | AUC | p | strongest features |",
        "|---|---|---|---|",
    ]
    for words, change in CHANGES.items():
        place = work / words.replace(" ", "_").replace("%", "percent")
        changed = numbers(place, raw, chosen, change)
        others = {patient: found for patient, found in clean.items() if patient not in changed}
        found = compared(changed, others, 1)
        strongest = ", ".join(one.name for one in found.features[:3]) or "none by itself"
        lines.append(f"| {words} | {found.auc:.3f} | {found.p:.4f} | {strongest} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--raw", type=Path, required=True)
    parser.add_argument("--changed", type=int, default=24)
    parser.add_argument("--splits", type=int, default=100)
    options = parser.parse_args()
    text = table(options.work, options.raw, options.changed, options.splits)
    TABLE.write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
