"""What different choices of pixels make of a calibration error, with and without temperatures.

``python -m tests.benchmarks.calibration DATASET ...`` asks the trained networks of these datasets
about their valid, from which temperatures follow (however few patients it has), and about their
test, and writes ``calibration.md`` beside this file. Each error stands beside that of truths which
were drawn from the very probabilities: these are perfect, so what is left is the measure's own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from model import params
from model.inference.member import Member
from model.inference.sampling import Probabilities, class_ids
from model.inference.temperature import NONE, calibrated
from model.scoring import answers, temperature
from model.scoring.answers import Drawings, Look
from model.scoring.scores import Calibration, Mask, Stack
from model.scoring.voxels import Sample
from pipeline import paths
from pipeline.pairs import manifest

MARGINS = (0, 1, 2, 3, 10)
TOUCHED, WHOLE = "truth or prediction is foreground", "all"
CHOICES = (TOUCHED, *(f"prediction and {px} px around it" for px in MARGINS), WHOLE)


def main() -> None:
    """Measure every dataset that is named, print the tables and write them down."""
    lines = [
        "# Errors of calibration by the choice of pixels",
        "",
        "On the source's own grid, over the test split: expected calibration error of a network's",
        "own probabilities and of calibrated ones, and in brackets that of truths drawn from these",
        "very probabilities, which are perfect (`python -m tests.benchmarks.calibration`).",
    ]
    for dataset in sys.argv[1:]:
        lines += ["", *_measured(dataset)]
    text = "\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_suffix(".md").write_text(text, "utf-8")


@dataclass
class _Tally:
    """The sums of every choice of pixels, of real truths and of drawn ones."""

    real: dict[str, Calibration] = field(default_factory=dict)
    drawn: dict[str, Calibration] = field(default_factory=dict)

    def add(self, truth: Stack, drawn: Stack, probability: Probabilities) -> None:
        """One slice (rows, columns), and p (classes, rows, columns)."""
        guess, confidence = class_ids(probability), probability.max(axis=0)
        for sums, true in ((self.real, truth), (self.drawn, drawn)):
            for name, chosen in _chosen(true, guess).items():
                here = Calibration.counted(confidence[chosen], (guess == true)[chosen])
                sums[name] = sums.get(name, Calibration.none()) + here


def _chosen(truth: Stack, guess: Stack) -> dict[str, Mask]:
    foreground: NDArray[np.bool_] = guess > 0
    steps = ndimage.generate_binary_structure(2, 1)
    near = [ndimage.binary_dilation(foreground, steps, px) if px else foreground for px in MARGINS]
    whole = np.ones_like(foreground)
    return dict(zip(CHOICES, (foreground | (truth > 0), *near, whole), strict=True))


def _measured(dataset: str) -> list[str]:
    settings = params.load(dataset)
    member = replace(Member.of(paths.run(dataset) / paths.MODEL), temperatures=NONE)
    sample, tallies = Sample(), (_Tally(), _Tally())
    for drawings in _cases(dataset, "valid"):
        sample.begin(drawings[0][0].patient)
        _ask(member, drawings, settings, _sampling(sample, len(drawings[0])))
    chosen = temperature.choose(sample, settings.train.seed)
    rng = np.random.default_rng(0)

    def judge(truths: Sequence[Stack], own: Probabilities, _: Probabilities) -> None:
        for tally, p in zip(tallies, (own, calibrated(own, chosen["of_class"])), strict=True):
            drawn = rng.random(p.shape[1:]) > np.cumsum(p, axis=0)[:-1] / p.sum(axis=0)
            tally.add(truths[0], drawn.sum(axis=0).astype(np.uint8), p)

    cases = _cases(dataset, "test")
    for drawings in cases:
        _ask(member, drawings, settings, judge)
    temperatures = ", ".join(f"{one:.2f}" for one in chosen["of_class"])
    tested, of_valid = len({one[0][0].patient for one in cases}), chosen["patients"]
    return [
        f"## {dataset}",
        "",
        f"{tested} patients of test; temperatures {temperatures} from {of_valid} of valid.",
        "",
        "| pixels | own | calibrated |",
        "|---|---|---|",
        *(
            f"| {name} | "
            + " | ".join(f"{one.real[name].ece:.4f} ({one.drawn[name].ece:.4f})" for one in tallies)
            + " |"
            for name in CHOICES
        ),
    ]


def _cases(dataset: str, split: str) -> list[Drawings]:
    return list(answers.cases(manifest.read(paths.dataset(dataset)), split, dataset))


def _ask(member: Member, drawings: Drawings, settings: params.Params, look: Look) -> None:
    answers.answer(member, drawings, member.facts.label_map, settings.limits, look)


def _sampling(sample: Sample, slices: int) -> Look:
    def look(truths: Sequence[Stack], own: Probabilities, _: Probabilities) -> None:
        sample.add(truths[0], [own], slices)

    return look


if __name__ == "__main__":
    main()
