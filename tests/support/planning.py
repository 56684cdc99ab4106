"""Cohorts of many kinds in numbers, and a machine whose steps take what a formula says."""

from __future__ import annotations

from dataclasses import replace

from model.params import Train
from model.planning.cohort import Class, Cohort
from model.planning.machine import Machine, Speed

SPEED = Speed(per_gflop=0.005, per_million=0.004)
LEFT = {1.0: 1.0, 1.25: 0.99, 1.5: 0.985, 2.0: 0.965, 3.0: 0.93, 4.0: 0.885}
"""What coarser pixels leave of the labels' Dice, about as measured on hippocampi."""


def timed(wanted: Train, classes: int) -> dict[str, float]:
    """Seconds of a step: what :data:`SPEED` says, and a fifth less in bfloat16."""
    seconds = SPEED.step(wanted.network, wanted.batch_pairs, classes)
    return {"float32": seconds, "bfloat16": 0.8 * seconds}


def fastest(seconds: dict[str, float]) -> str:
    return min(seconds, key=lambda name: seconds[name])


MACHINE = Machine(2, 16.0, False, timed, fastest)

HIPPOCAMPUS = Cohort(
    modality="MR",
    plane="axial",
    channels=1,
    patients=160,
    cases=160,
    slices=5691,
    shown=0.72,
    shape=(35, 50, 35),
    classes=(Class("anterior", False, 160, 0.4, 1.7), Class("posterior", False, 160, 0.56, 1.6)),
    spacing=(1.0, 1.0, 1.0),
    extent=(38.0, 55.0, 42.0),
    kept=True,
    ceilings=LEFT,
)
CT = Cohort(
    modality="CT",
    plane="axial",
    channels=1,
    patients=120,
    cases=120,
    slices=3600,
    shown=0.25,
    shape=(512, 512, 30),
    classes=(Class("oedema", True, 120, 0.25, 20.0),),
    spacing=(0.5, 0.5, 5.0),
    extent=(256.0, 256.0, 160.0),
    kept=True,
    ceilings=LEFT,
)
COHORTS = {
    "hippocampus": HIPPOCAMPUS,
    "head CT of 5 mm": CT,
    "head CT of 10 mm": replace(CT, spacing=(0.5, 0.5, 10.0)),
    "CT of uneven slices": replace(CT, uneven=True, spacing=(1.0, 1.0, 1.0)),
    "whole heads of 1 mm": replace(
        HIPPOCAMPUS, shape=(181, 217, 181), extent=(181.0, 217.0, 181.0), patients=40, cases=40,
        slices=40 * 181,
    ),
    "one whole head": replace(
        HIPPOCAMPUS, shape=(181, 217, 181), extent=(181.0, 217.0, 181.0), patients=1, cases=1,
        slices=181,
    ),
    "sagittal scans sliced axially": replace(
        HIPPOCAMPUS, spacing=(4.0, 1.0, 1.0), extent=(160.0, 220.0, 200.0)
    ),
    "FLAIR of two raters": replace(
        HIPPOCAMPUS, patients=2, cases=2, slices=105, raters=2, spacing=(0.83, 0.83, 3.3),
        shape=(256, 256, 52), extent=(212.0, 212.0, 154.0),
    ),
    "pictures in stacks": replace(CT, spacing=None, extent=None),
    "single pictures": replace(CT, spacing=None, extent=None, slices=120, shape=(512, 512, 1)),
    "pairs without scans": replace(HIPPOCAMPUS, kept=False),
}  # fmt: skip
