"""Our side of :mod:`head_to_head`: a working folder for each of our systems.

The steps of ``preset`` are fitted to the time by three short trainings before, of which follow the
seconds of a step, of judging valid after an epoch, and of start and end. ``planned`` is asked for
its minutes by ``python -m model plan``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from model import params
from model.folds.workplace import environment
from pipeline import paths
from pipeline.pairs import manifest
from pipeline.splits import placement
from tests.conftest import PROJECT

DATASET, FOLDS = "msd_hippocampus", 5
_SYSTEMS = ("preset", "planned")
_TRIALS = ((1, 20), (1, 100), (3, 20))  # epochs, and steps in each


@dataclass(frozen=True)
class Done:
    """A fold of a system: a folder of label maps, what it took, and the network in words."""

    masks: Path
    train_s: float
    predict_s: float
    words: str


def choose_patients(work: Path, raw: Path, count: int) -> None:
    """``work/raw``: links to the first ``count`` patients, or to all."""
    for part in ("imagesTr", "labelsTr"):
        source = raw / "Task04_Hippocampus" / part
        target = work / "raw" / "Task04_Hippocampus" / part
        target.mkdir(parents=True, exist_ok=True)
        chosen = sorted(source.glob("hippocampus_*.nii.gz"))[: count or None]
        if sorted(one.name for one in target.iterdir()) == [one.name for one in chosen]:
            continue
        for old in target.iterdir():
            old.unlink()
        for file in chosen:
            (target / file.name).symlink_to(file)


def prepare(work: Path, system: str, minutes: float) -> None:
    """Convert and augment, plan or fit the steps; once."""
    place = work / system
    if (place / "prepared.json").is_file():
        return
    (place / paths.raw(DATASET)).parent.mkdir(parents=True, exist_ok=True)
    (place / paths.raw(DATASET)).unlink(missing_ok=True)
    (place / paths.raw(DATASET)).symlink_to(work / "raw")
    content = yaml.safe_load((PROJECT / paths.PARAMS).read_text("utf-8"))
    entry = content.pop("presets")[DATASET]
    content |= {"datasets": {DATASET: entry if system == "preset" else None}}
    content |= {"members": {}, "ensembles": {}}
    _keep(place, content)
    start = time.monotonic()
    _run(place, "pipeline", "convert", DATASET)
    if system == "planned":
        _run(place, "model", "plan", DATASET, "--minutes", f"{minutes:g}")
        _run(place, "pipeline", "convert", DATASET)
    _run(place, "pipeline", "augment", DATASET)
    seconds = time.monotonic() - start
    if system == "preset":
        train = content["datasets"][DATASET]["train"]
        train |= _fitted(place, content, train["epochs"], 60 * minutes)
        _keep(place, content)
    (place / "prepared.json").write_text(json.dumps({"seconds": seconds}), "utf-8")


def _fitted(place: Path, content: dict[str, Any], epochs: int, limit: float) -> dict[str, int]:
    """Epochs and steps with which a training takes ``limit`` seconds."""
    _run(place, "pipeline", "split", DATASET)
    took = []
    for of, steps in _TRIALS:
        trial = json.loads(json.dumps(content))
        trial["datasets"][DATASET]["train"] |= {"epochs": of, "steps_per_epoch": steps}
        (place / "trial.yaml").write_text(yaml.safe_dump(trial), "utf-8")
        start = time.monotonic()
        _run(place, "model", "train", DATASET, "--params", "trial.yaml")
        took.append(time.monotonic() - start)
        shutil.rmtree(place / paths.run(DATASET))
    step = max((took[1] - took[0]) / 80, 1e-3)
    judged = max((took[2] - took[0] - 40 * step) / 2, 0.0)
    once = took[0] - 20 * step - judged
    while epochs > 1 and epochs * judged > (limit - once) / 4:
        epochs -= 1
    steps = int((limit - once - epochs * judged) / step / epochs)
    return {
        "epochs": epochs,
        "steps_per_epoch": max(steps, 10),
        "early_stopping_patience": epochs,
    }


def train(work: Path, system: str, fold: int, splits: list[dict[str, list[str]]]) -> None:
    """One fold, which must test the patients that ``splits`` state."""
    place = work / system
    numbers = ("--folds", str(FOLDS), "--fold", str(fold))
    _run(place, "model", "crossvalidate", DATASET, *numbers)
    pairs = manifest.read(place / paths.fold(DATASET, fold) / paths.dataset(DATASET))
    tested = sorted({pair.patient for pair in pairs if pair.split == "test"})
    if tested != splits[fold]["val"]:
        raise RuntimeError(f"{system} tested other patients in fold {fold} than stated")


def splits(work: Path) -> list[dict[str, list[str]]]:
    """Our folds as nnU-Net's ``splits_final.json`` states them; those of the first of ours."""
    kept = work / "splits_final.json"
    if not kept.is_file():
        place = next(work / one for one in _SYSTEMS if (work / one / "prepared.json").is_file())
        pairs = manifest.read(place / paths.converted(DATASET))
        wanted = params.load(DATASET, place / paths.PARAMS).split
        found = []
        for fold in range(FOLDS):
            settings = replace(wanted, folds=FOLDS, fold=fold)
            where = placement.assign(DATASET, pairs, settings)
            found.append(
                {
                    "train": sorted(one for one, split in where.items() if split != "test"),
                    "val": sorted(one for one, split in where.items() if split == "test"),
                }
            )
        kept.write_text(json.dumps(found, indent=1), "utf-8")
    stated: list[dict[str, list[str]]] = json.loads(kept.read_text("utf-8"))
    return stated


def done(work: Path) -> dict[str, dict[int, Done]]:
    """What is done of ours, an ensemble apart from the network that it contains."""
    found: dict[str, dict[int, Done]] = {}
    for system in _SYSTEMS:
        for fold in range(FOLDS):
            place = work / system / paths.fold(DATASET, fold)
            if not (place / "done.json").is_file():
                continue
            seconds = json.loads((place / "done.json").read_text("utf-8"))["seconds"]
            train = params.load(DATASET, place / paths.PARAMS).train
            words = f"{train.epochs} epochs of {train.steps_per_epoch or 'all'} steps"
            for name, part in ((system, Path()), (f"{system}_ensemble", Path(paths.ENSEMBLE))):
                masks = place / paths.run(DATASET) / part / paths.PREDICTIONS / paths.NATIVE
                if masks.is_dir():
                    took = dict(_took(seconds, ensemble=bool(part.parts)))
                    one = Done(masks, took["train"], took["test"], words)
                    found.setdefault(name, {})[fold] = one
    return found


def _took(seconds: dict[str, float], ensemble: bool) -> Iterator[tuple[str, float]]:
    """Seconds of training and of testing; an ensemble takes all its members' training."""
    steps = [(words.split()[1], words.split()[2], spent) for words, spent in seconds.items()]
    tested = "ensemble" if ensemble else "evaluate"
    yield (
        "train",
        sum(spent for verb, of, spent in steps if verb == "train" and (ensemble or of == DATASET)),
    )
    yield "test", sum(spent for verb, _, spent in steps if verb == tested)


def once(work: Path) -> list[str]:
    """What our systems took once for all folds, a line each."""
    files = {one: work / one / "prepared.json" for one in _SYSTEMS}
    return [
        f"- Ours, {one}: conversion and variants, once for all folds:"
        f" {json.loads(file.read_text('utf-8'))['seconds']:.0f} s."
        for one, file in files.items()
        if file.is_file()
    ]


def _keep(place: Path, content: dict[str, Any]) -> None:
    (place / paths.PARAMS).write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")


def _run(place: Path, floor: str, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", floor, *arguments], cwd=place, env=environment(), check=True
    )
