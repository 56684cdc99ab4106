"""The five datasets that this project began with, planned from what is published of them.

Nobody may pass these data on, so their planned presets in params.yaml follow from their papers and
from the sample pairs that the reference projects publish. What neither states is assumed, and said
here: how many slices there are where only patients are counted (28 a head), and the size of a whole
head. A plan of the data themselves, once they are converted, knows more.
"""

from __future__ import annotations

import datasets_spec
from datasets_spec.contract import LESIONS
from model.params import Params, Train
from model.planning import whole
from model.planning.cohort import Class, Cohort
from model.planning.machine import Machine, Speed
from pipeline.params import editing
from pipeline.params.editing import Leaf, Path

SUFFIX = "_planned"
MINUTES = 480
"""A night."""
SPEED = Speed(per_gflop=0.0, per_million=0.0083)
"""Of two processor cores: the hippocampus preset's network takes 141 ms a step of 32 pictures of 64
pixels there (tests/benchmarks/recipes.md), and that of the section ``train`` 170 to 192 ms of 16
pictures of 128 (tests/benchmarks/training.md)."""


def _timed(wanted: Train, classes: int) -> dict[str, float]:
    return {"auto": SPEED.step(wanted.network, wanted.batch_pairs, classes)}


MACHINE = Machine(2, 16.0, False, _timed, lambda seconds: next(iter(seconds)))


def _classes(dataset: str, patients: int) -> tuple[Class, ...]:
    labels = datasets_spec.load(dataset).dataset.label_map.foreground
    return tuple(Class(one.name, one.tissue in LESIONS, patients, None) for one in labels)


def cohorts() -> dict[str, Cohort]:
    """Each dataset in numbers. Ceilings are those of the masks of the published sample pairs."""
    return {
        # 397 patients, slices of 5 mm; as pictures of 512 x 512, whose pixels have no stated size
        "aisd": Cohort(
            "CT", "axial", 1, 397, 397, 397 * 28, 0.5, (512, 512, 28), _classes("aisd", 397),
            kept=True,
            ceilings={1.0: 1.0, 1.25: 1.0, 1.5: 0.998, 2.0: 0.992, 3.0: 0.988, 4.0: 0.979},
        ),
        # 120 patients, 512 x 512 x 32 voxels of .508 x .508 x 5 mm
        "phe_sich_ct_ids": Cohort(
            "CT", "axial", 1, 120, 120, 120 * 32, 0.5, (512, 512, 32),
            _classes("phe_sich_ct_ids", 120),
            spacing=(0.508, 0.508, 5.0), extent=(260.096, 260.096, 160.0), kept=True,
            ceilings={1.0: 1.0, 1.25: 0.991, 1.5: 0.986, 2.0: 0.97, 3.0: 0.935, 4.0: 0.888},
        ),
        # 2,394 slices with stroke of 6,951, each a case; ceilings of AISD, the other infarcts
        "teknofest_2021_stroke": Cohort(
            "CT", "axial", 1, 2394, 2394, 2394, 1.0, (512, 512, 1),
            _classes("teknofest_2021_stroke", 2394),
            kept=True,
            ceilings={1.0: 1.0, 1.25: 1.0, 1.5: 0.998, 2.0: 0.992, 3.0: 0.988, 4.0: 0.979},
        ),
        # 192 volumes of about 512 x 512 x 27..32 voxels of .49 x .49 x 5 mm, several raters
        "mbh_seg25": Cohort(
            "CT", "axial", 1, 192, 192, 192 * 30, 0.5, (512, 512, 30), _classes("mbh_seg25", 192),
            spacing=(0.49, 0.49, 5.0), extent=(250.88, 250.88, 150.0), kept=True, raters=5,
            ceilings={1.0: 1.0, 1.25: 0.999, 1.5: 0.997, 2.0: 0.977, 3.0: 0.955, 4.0: 0.89},
        ),
        # whole heads at 1 mm, assumed 192 x 256 x 256 voxels, and 50 of them; the sample pairs are
        # of half of a mm, so ceilings are relative to theirs with pixels twice as large
        "full_head_t1w": Cohort(
            "MR", "axial", 1, 50, 50, 50 * 256, 1.0, (192, 256, 256), _classes("full_head_t1w", 50),
            spacing=(1.0, 1.0, 1.0), extent=(192.0, 256.0, 256.0), kept=True,
            ceilings={1.0: 1.0, 1.5: 0.939, 2.0: 0.913},
        ),
    }  # fmt: skip


def presets(settings: Params) -> str:
    """The planned presets as lines of params.yaml; ``settings`` holds what a plan leaves as it is.

    An entry is one network: members are for a plan of the data.
    """
    found = []
    for dataset, cohort in cohorts().items():
        name = f"{dataset}{SUFFIX}"
        plan = whole.made(dataset, cohort, settings, MACHINE, MINUTES, {}, most=1)
        leaves: dict[Path, Leaf | None] = {
            ("presets", name, *path): Leaf(choice.value, choice.reason)
            for path, choice in plan.entry.items()
        }
        text = editing.written("presets:\n", leaves).removeprefix("presets:\n")
        found.append(text.replace(f"  {name}:\n", f"  {name}: &{name}\n", 1))
    return "".join(found)
