"""A small project that was converted, split, trained (not at all) and scored, as seeds.

Made once for a campaign by a process of its own, since it takes TensorFlow some seconds:
``python -m tests.fuzz.workplace FOLDER``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import filelock

from pipeline import paths
from tests.conftest import PROJECT
from tests.fuzz.trees import Input, of_folder
from tests.support import cohort

VARIABLE = "FUZZ_WORKPLACE"
"""The environment's name of the folder; the campaign sets it for its workers."""


def folder() -> Path:
    """The workplace; whoever asks first makes it."""
    place = Path(os.environ[VARIABLE])
    with filelock.FileLock(place.with_suffix(".lock")):
        if not (place / "made").exists():
            command = [sys.executable, "-m", "tests.fuzz.workplace", str(place)]
            subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
            (place / "made").touch()
    return place


def report_seed() -> list[Input]:
    """All that the report reads."""
    place = folder()
    patterns = ("params.yaml", "data/dataset/**/*", "runs/**/*")
    tree = {
        name: entry
        for name, entry in of_folder(place, *patterns).items()
        if not name.endswith((".keras", ".nii", ".nii.gz", ".lock"))
    }
    return [Input("a scored run", dict(tree))]


def model_seed() -> list[Input]:
    """The model file."""
    file = paths.run(cohort.DATASET) / paths.MODEL
    content = (folder() / file).read_bytes()
    return [Input("an untrained model", {file.as_posix(): content}, (file.as_posix(),))]


def make(place: Path) -> None:
    """Fill ``place``."""
    place.mkdir(parents=True, exist_ok=True)
    os.chdir(place)
    settings = cohort.prepare()
    from model.evaluate import evaluate
    from tests.support.models import save_untrained

    save_untrained(cohort.DATASET, settings)
    evaluate(cohort.DATASET, settings)
    run = paths.run(cohort.DATASET)
    history = "epoch,loss,val_loss,foreground_dice,val_foreground_dice\n0,1,1,0,0\n1,0.5,0.6,1,1\n"
    (run / paths.HISTORY).write_text(history)
    for epoch in (1, 2):
        there = run / paths.EPOCH_CHANGE / f"epoch_{epoch:03d}"
        there.mkdir(parents=True)
        for mask in (run / paths.PREDICTIONS / paths.MINI_TEST).glob("*.png"):
            (there / mask.name).write_bytes(mask.read_bytes())


if __name__ == "__main__":
    make(Path(sys.argv[1]))
