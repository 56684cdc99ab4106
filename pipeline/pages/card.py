"""The card of a generated dataset: what it is, in words, numbers and pictures.

``dataset.json`` is for programs and for the report, ``README.md`` for people;
``statistics.png`` and ``samples.png`` stand in it. The same pairs give the same bytes.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import yaml
from PIL import Image

from datasets_spec import Adapter
from datasets_spec.contract import SPLITS, Dataset
from pipeline import paths
from pipeline.labels import rules as labels_rules
from pipeline.pages import doubts, draw
from pipeline.pairs import manifest, png
from pipeline.pairs.manifest import Pair
from pipeline.params import reader as params
from pipeline.splits import outliers, placement

matplotlib.use("Agg")
from matplotlib import pyplot, ticker

_TILE_PX = 192
_SAMPLES = 6  # slices of each split
_UPRIGHT = 4  # so many classes leave room for the splits' names side by side


def write(
    folder: Path,
    adapter: Adapter,
    settings: params.Params,
    pairs: Sequence[Pair],
    mini: Sequence[Pair],
) -> None:
    """Write the card of ``pairs``, whose pictures lie in ``folder``, beside them."""
    told = json.dumps(_facts(adapter, settings, pairs, mini), indent=2)
    facts = json.loads(told)
    (folder / paths.CARD).write_text(told + "\n", "utf-8")
    _draw_statistics(folder / paths.STATISTICS, adapter.dataset, pairs)
    _draw_samples(folder, adapter.dataset, pairs)
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,  # noqa: S701  # Markdown
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("card.md")
    made_by = yaml.safe_dump(facts["made_by"], sort_keys=False, default_flow_style=None, width=100)
    text = template.render(**facts, paths=paths, recipe=made_by)
    (folder / "README.md").write_text(text.rstrip() + "\n", "utf-8")


def _facts(
    adapter: Adapter, settings: params.Params, pairs: Sequence[Pair], mini: Sequence[Pair]
) -> dict[str, Any]:
    dataset = adapter.dataset
    told = _by_case(pairs)
    made_by = {name: asdict(getattr(settings, name)) for name in ("convert", "augment", "split")}
    members = {split: [pair for pair in pairs if pair.split == split] for split in SPLITS}
    return {
        "dataset": adapter.name,
        "title": dataset.title,
        "modality": dataset.modality,
        "virtual": bool(dataset.source.recipe),
        "homepage": dataset.source.homepage,
        "citation": dataset.source.citation,
        "licence": vars(dataset.source.licence),
        "labels": [vars(label) for label in dataset.label_map],
        "splits": {split: _counts(members[split], dataset) for split in SPLITS},
        "warnings": list(dataset.warnings),
        "gaps": placement.gaps(pairs, dataset.label_map),
        "rater_agreement": _agreement(dataset, told),
        "label_tables": dict(Counter(p.label_table for p in told.values() if p.label_table)),
        "suspicious_labels": _suspicious(pairs, len(told)),
        "probed_labels": _probed(pairs, dataset),
        "doubtful_headers": sum(bool(doubts.of_case(p.findings)) for p in told.values()),
        "handled_headers": sum(bool(doubts.handled(p.findings)) for p in told.values()),
        "snapped_pixels": sum(pair.snapped_pixels for pair in told.values()),
        paths.MINI_TEST: [pair.id for pair in mini],
        "made_by": made_by,
    }


def _counts(pairs: Sequence[Pair], dataset: Dataset) -> dict[str, Any]:
    """Of one split: patients, cases, pairs, and pixels and patients per class."""
    labels = dataset.label_map
    return {
        "patients": len({pair.patient for pair in pairs}),
        "cases": len({pair.case for pair in pairs}),
        "pairs": len(pairs),
        "augmented": sum(bool(pair.parent) for pair in pairs),
        "empty": sum(pair.empty for pair in pairs),
        "class_pixels": {
            label.name: sum(pair.class_pixels[label.id] for pair in pairs) for label in labels
        },
        "class_patients": {
            label.name: len({pair.patient for pair in pairs if pair.class_pixels[label.id]})
            for label in labels
        },
    }


def _by_case(pairs: Sequence[Pair]) -> Mapping[str, Pair]:
    """One pair of each case: what is told of a case stands in every row of it."""
    return {group[0].case: group[0] for group in manifest.grouped(pairs, "case")}


def _agreement(dataset: Dataset, told: Mapping[str, Pair]) -> dict[str, object] | None:
    """Mean Dice between raters per class over the cases that have several: the human ceiling."""
    several = [pair for pair in told.values() if pair.agreement]
    if not several:
        return None
    classes = {}
    for label in dataset.label_map.foreground:
        known = [p.agreement[label.id] for p in several if not math.isnan(p.agreement[label.id])]
        classes[label.name] = {
            "dice_mean": sum(known) / len(known) if known else None,
            "cases": len(known),
        }
    return {"cases": len(several), "classes": classes}


def _suspicious(pairs: Sequence[Pair], cases: int) -> dict[str, object]:
    """How many cases look suspicious, and how many for each of the rules."""
    told = {pair.case: pair.suspicion for pair in pairs if pair.suspicion}
    rules = Counter(
        rule
        for suspicion in told.values()
        for rule in {reason.partition(":")[0] for reason in suspicion.split("; ")}
    )
    return {"cases": len(told), "of": cases, "rules": dict(sorted(rules.items()))}


def _probed(pairs: Sequence[Pair], dataset: Dataset) -> dict[str, object]:
    """Of how many cases the labels were asked whether they look like what they name, and by what.

    ``tissues``: how many labels name one. ``rules``: what is asked of the case's own picture
    follows from what is drawn in it. ``compared``: cases whose volumes stand beside the others'.
    """
    named = [label for label in dataset.label_map if label.tissue]
    originals = [pair for pair in pairs if not pair.parent]
    by_rule: dict[str, set[str]] = {}
    for slices in manifest.grouped(originals, "case", "rater"):
        first = slices[0]
        _, _, _, row_scale, col_scale, _, _ = first.canvas
        drawn = dict.fromkeys((label.tissue for label in named), 0.0)
        for label in named:
            pixels = sum(pair.class_pixels[label.id] for pair in slices)
            drawn[label.tissue] += pixels / (row_scale * col_scale)
        stack = len({pair.source for pair in slices}) > 1  # its pictures have no HU
        for rule in labels_rules.asked(dataset, drawn, stack):
            by_rule.setdefault(rule, set()).add(first.case)
    return {
        "tissues": len(named),
        "cases": len(set().union(*by_rule.values())),
        "rules": {rule: len(cases) for rule, cases in sorted(by_rule.items())},
        "compared": len(outliers.compared(originals, dataset.label_map)),
        "compared_from": outliers.FEW_CASES,
    }


def _draw_statistics(file: Path, dataset: Dataset, pairs: Sequence[Pair]) -> None:
    """Patients and slices per split; and per class, how much of a patient it is."""
    originals = [pair for pair in pairs if not pair.parent]
    labels = dataset.label_map.foreground
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(10, 3.6), layout="constrained", width_ratios=[2, 3]
    )
    tops = np.zeros(len(SPLITS))
    for name, held, shade in (
        ("with foreground", lambda pair: not pair.parent and not pair.empty, "#0072b2"),
        ("without", lambda pair: not pair.parent and pair.empty, "#bbbbbb"),
        ("augmented", lambda pair: bool(pair.parent), "#e69f00"),
    ):
        heights = [sum(held(p) for p in pairs if p.split == split) for split in SPLITS]
        left.bar(SPLITS, heights, bottom=tops, label=name, color=shade)
        tops += heights
    patients = [len({p.patient for p in originals if p.split == split}) for split in SPLITS]
    for at, (top, count) in enumerate(zip(tops, patients, strict=True)):
        left.annotate(
            f"{count} patients", (at, top), (0, 3), textcoords="offset points", ha="center"
        )
    left.set(title="pairs per split", ylim=(0, max(1, *tops) * 1.12))
    left.legend(fontsize="small")
    shares = _shares(originals, len(dataset.label_map))
    crowded = len(labels) > _UPRIGHT
    places = []
    for number, label in enumerate(labels):
        start = number * (len(SPLITS) + 1)
        places += [start + at for at in range(len(SPLITS))]
        for at, split in enumerate(SPLITS):
            values = [
                100 * share[label.id] for (_, where), share in shares.items() if where == split
            ]
            shown = [value for value in values if value > 0]
            spread = np.linspace(-0.3, 0.3, len(shown)) if len(shown) > 1 else np.zeros(len(shown))
            colour = [channel / 255 for channel in label.colour]
            right.scatter(
                start + at + spread, shown, 14, [colour], edgecolors="#333333", linewidths=0.5
            )
        right.annotate(
            label.name, (start + 1, 0), (0, -48 if crowded else -26), va="top", ha="center",
            xycoords=("data", "axes fraction"), textcoords="offset points", fontsize="small",
        )  # fmt: skip
    right.set(title="share of a patient's slices with foreground", ylabel="% of pixels")
    right.set_xticks(places, SPLITS * len(labels), fontsize="small", rotation=90 * crowded)
    if shares:  # a logarithmic axis without a point has no ticks to draw
        right.set_yscale("log")
        right.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        right.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        right.yaxis.set_minor_locator(ticker.NullLocator())
    else:
        right.text(0.5, 0.5, "no slice has foreground", ha="center", transform=right.transAxes)
    right.margins(y=0.1)
    right.grid(axis="y", alpha=0.3)
    figure.savefig(file, dpi=100, metadata={"Software": None})
    pyplot.close(figure)


def _shares(pairs: Sequence[Pair], classes: int) -> dict[tuple[str, str], np.ndarray]:
    """(patient, split) -> the share of every class in the pixels of slices with foreground.

    Splits keep different shares of the others, so these would tell splits apart, not patients.
    """
    totals: dict[tuple[str, str], np.ndarray] = {}
    for pair in (pair for pair in pairs if not pair.empty):
        key = (pair.patient, pair.split)
        totals[key] = totals.get(key, np.zeros(classes)) + pair.class_pixels
    return {key: counts / counts.sum() for key, counts in totals.items()}


def _draw_samples(folder: Path, dataset: Dataset, pairs: Sequence[Pair]) -> None:
    """A row of slices per split, of as many patients as fit, with the classes' outlines."""
    rows: dict[str, list[draw.Picture]] = {}
    for split in SPLITS:
        members = [pair for pair in pairs if pair.split == split and not pair.parent]
        rows[split] = []
        for pair in _samples(members):
            image = png.read_image(folder / split / pair.image)
            ids = png.read_mask(folder / split / pair.mask, dataset.label_map)
            rows[split].append(draw.outlined(image, ids, dataset.label_map))
    Image.fromarray(draw.sheet(rows, _TILE_PX)).save(folder / paths.SAMPLES)


def _samples(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """The richest slice of some patients; of few patients, slices spread over their foreground."""
    patients = manifest.grouped(pairs, "patient")
    chosen = patients[:: -(-len(patients) // _SAMPLES)]
    for number, slices in enumerate(chosen):
        count = _SAMPLES // len(chosen) + (number < _SAMPLES % len(chosen))
        shown = [pair for pair in slices if not pair.empty]
        if len(shown) < count:
            shown = slices
        if count == 1:
            yield max(shown, key=lambda pair: sum(pair.class_pixels[1:]))
        else:
            places = {len(shown) * (at + 1) // (count + 1) for at in range(count)}
            yield from (shown[place] for place in sorted(places))
