"""The card of a generated dataset: what it is, in words, numbers and pictures.

``dataset.json`` is for programs and for the report, ``README.md`` for people;
``statistics.png`` and ``samples.png`` stand in it. The same pairs give the same bytes.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from datasets_spec import Adapter
from datasets_spec.contract import SPLITS, Dataset
from pipeline import paths
from pipeline.labels import rules as labels_rules
from pipeline.pages import draw, rendering, statistics
from pipeline.pairs import manifest, pictures
from pipeline.pairs.manifest import Pair
from pipeline.params import reader as params
from pipeline.splits import outliers, placement
from pipeline.splits.grouping import ALONE, GROUPED_BY_NAMES
from pipeline.structure.probe import LEAST_PATIENTS, Evidence, Probed
from pipeline.volumes import findings
from pipeline.volumes.arrays import Rgb8
from pipeline.volumes.findings import DOUBT, HANDLED, Severity

_TEMPLATES = Path(__file__).parent / "templates"
_TILE_PX = 192
_SAMPLES = 6  # slices of each split


def write(
    folder: Path,
    adapter: Adapter,
    settings: params.Params,
    pairs: Sequence[Pair],
    mini: Sequence[Pair],
    obeyed: Probed,
) -> None:
    """Write the card of ``pairs``, whose pictures lie in ``folder``, beside them.

    ``obeyed``: what the labels of train obey.
    """
    facts = _facts(adapter, settings, pairs, mini)
    facts["label_rules"] = _label_rules(obeyed, adapter.dataset)
    content = json.dumps(facts, indent=2)
    facts = json.loads(content)
    (folder / paths.CARD).write_text(content + "\n", "utf-8")
    statistics.draw(folder / paths.STATISTICS, adapter.dataset, pairs)
    _draw_samples(folder, adapter.dataset, pairs)
    template = rendering.environment(_TEMPLATES, escape=False).get_template("card.md")
    made_by = yaml.safe_dump(facts["made_by"], sort_keys=False, default_flow_style=None, width=100)
    text = template.render(**facts, paths=paths, recipe=made_by)
    (folder / "README.md").write_text(text.rstrip() + "\n", "utf-8")


def _facts(
    adapter: Adapter, settings: params.Params, pairs: Sequence[Pair], mini: Sequence[Pair]
) -> dict[str, Any]:
    dataset = adapter.dataset
    cases = _by_case(pairs)
    made_by = {name: asdict(getattr(settings, name)) for name in ("convert", "augment", "split")}
    members = {split: [pair for pair in pairs if pair.split == split] for split in SPLITS}
    return {
        "dataset": adapter.name,
        "title": dataset.title,
        "modality": dataset.modality,
        "channels": _channels(cases.values()),
        "virtual": bool(dataset.source.recipe),
        "homepage": dataset.source.homepage,
        "citation": dataset.source.citation,
        "licence": vars(dataset.source.licence),
        "labels": [vars(label) for label in dataset.label_map],
        "splits": {split: _counts(members[split], dataset) for split in SPLITS},
        "warnings": list(dataset.warnings),
        "strata": _strata(pairs),
        "grouping": _grouping(pairs),
        "gaps": placement.gaps(pairs, dataset.label_map),
        "rater_agreement": _agreement(dataset, cases),
        "label_tables": dict(Counter(p.label_table for p in cases.values() if p.label_table)),
        "suspicious_labels": _suspicious(pairs, len(cases)),
        "probed_labels": _probed(pairs, dataset),
        "doubtful_headers": _having(cases, DOUBT),
        "handled_headers": _having(cases, HANDLED),
        "uneven_cases": sum(bool(pair.place) for pair in cases.values()),
        "snapped_pixels": sum(pair.snapped_pixels for pair in cases.values()),
        "unlabelled": {
            label.name: count
            for label in dataset.label_map.foreground
            if (count := sum(label.id in pair.unlabelled for pair in cases.values()))
        },
        paths.MINI_TEST: [pair.id for pair in mini],
        "made_by": made_by,
    }


def _channels(cases: Collection[Pair]) -> list[dict[str, Any]]:
    """Of pictures of several channels each name, and how many cases lack it; none of grey ones."""
    lacking = Counter(name for pair in cases for name in pair.absent.split(","))
    names = next(iter(cases)).channel_names if cases else ()
    return [{"name": name, "lacking_cases": lacking[name]} for name in names]


def _counts(pairs: Sequence[Pair], dataset: Dataset) -> dict[str, Any]:
    """Of one split: patients, cases, pairs, and pixels and patients per class."""
    labels = dataset.label_map
    return {
        "patients": len({pair.patient for pair in pairs}),
        "cases": len({pair.case for pair in pairs}),
        "pairs": len(pairs),
        "augmented": sum(bool(pair.parent) for pair in pairs),
        "empty": sum(pair.empty for pair in pairs),
        "unannotated": sum(pair.unannotated for pair in pairs),
        "ignored_pixels": sum(pair.ignored_pixels for pair in pairs),
        "class_pixels": {
            label.name: sum(pair.class_pixels[label.id] for pair in pairs) for label in labels
        },
        "class_patients": {
            label.name: len({pair.patient for pair in pairs if pair.class_pixels[label.id]})
            for label in labels
        },
    }


def _strata(pairs: Sequence[Pair]) -> dict[str, dict[str, dict[str, int]]]:
    """Stratum -> value -> the patients of each split."""
    counts: dict[str, dict[str, dict[str, set[str]]]] = {}
    for text, split, patient in {(pair.strata, pair.split, pair.patient) for pair in pairs}:
        for name, value in json.loads(text or "{}").items():
            places = counts.setdefault(name, {}).setdefault(value, {one: set() for one in SPLITS})
            places[split].add(patient)
    return {
        name: {
            value: {split: len(patients) for split, patients in places.items()}
            for value, places in sorted(values.items())
        }
        for name, values in sorted(counts.items())
    }


def _grouping(pairs: Sequence[Pair]) -> dict[str, Any] | None:
    """How the patients were determined where no id is published, and the groups' sizes in cases."""
    cases: dict[str, set[str]] = {}
    basis = {pair.patient: pair.patient_basis for pair in pairs if pair.patient_basis}
    for pair in pairs:
        if basis.get(pair.patient, ALONE) != ALONE:
            cases.setdefault(pair.patient, set()).add(pair.case)
    if not basis:
        return None
    sizes = sorted(map(len, cases.values()))
    return {
        "groups": len(sizes),
        "alone": len(basis) - len(sizes),
        "cases_median": sizes[len(sizes) // 2] if sizes else 0,
        "cases_largest": max(sizes, default=0),
        "basis": sorted(set(basis.values())),
        "by_names": GROUPED_BY_NAMES in basis.values(),
        "listed_in": paths.LIKENESS,
    }


def _by_case(pairs: Sequence[Pair]) -> Mapping[str, Pair]:
    """One pair of each case: what is recorded of a case stands in every row of it."""
    return {group[0].case: group[0] for group in manifest.grouped(pairs, "case")}


def _having(cases: Mapping[str, Pair], severity: Severity) -> int:
    """How many cases have a finding of ``severity``."""
    by_case = (findings.from_json(pair.findings) for pair in cases.values())
    return sum(any(one.severity == severity for one in each) for each in by_case)


def _label_rules(obeyed: Probed, dataset: Dataset) -> dict[str, Any]:
    """What the labels of train obey, for programs and in words."""
    names = [label.name for label in dataset.label_map]
    return {
        "patients": obeyed.patients,
        "least_patients": LEAST_PATIENTS,
        "rules": [
            {**asdict(one.rule), **_numbers(one), "sentence": one.sentence(names)}
            for one in obeyed.rules
        ],
    }


def _numbers(one: Evidence) -> dict[str, Any]:
    return {name: getattr(one, name) for name in ("patients", "holds", "exact", "dice")}


def _agreement(dataset: Dataset, cases: Mapping[str, Pair]) -> dict[str, object] | None:
    """Mean Dice between raters per class over the cases that have several: the human ceiling."""
    several = [pair for pair in cases.values() if pair.agreement]
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
    suspicions = {pair.case: pair.suspicion for pair in pairs if pair.suspicion}
    rules = Counter(
        rule
        for suspicion in suspicions.values()
        for rule in {one.heading for one in findings.from_json(suspicion)}
    )
    return {"cases": len(suspicions), "of": cases, "rules": dict(sorted(rules.items()))}


def _probed(pairs: Sequence[Pair], dataset: Dataset) -> dict[str, object]:
    """In how many cases it was checked whether labels look like what they name, and by what.

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


def _draw_samples(folder: Path, dataset: Dataset, pairs: Sequence[Pair]) -> None:
    """A row of slices per split, of as many patients as fit, with the classes' outlines."""
    rows: dict[str, list[Rgb8]] = {}
    for split in SPLITS:
        members = [pair for pair in pairs if pair.split == split and not pair.parent]
        rows[split] = []
        for pair in _samples(members):
            image = pictures.shown(folder, pair)
            ids = pictures.mask(folder, pair, dataset.label_map)
            rows[split].append(draw.outlined(image, ids, dataset.label_map))
    Image.fromarray(draw.sheet(rows, _TILE_PX)).save(folder / paths.SAMPLES)


def _samples(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """The richest slice of some patients; of few patients, slices spread over their foreground."""
    patients = manifest.grouped(pairs, "patient")
    chosen = patients[:: -(-len(patients) // _SAMPLES)]
    for number, slices in enumerate(chosen):
        count = _SAMPLES // len(chosen) + (number < _SAMPLES % len(chosen))
        shown = [pair for pair in slices if any(pair.class_pixels[1:])]
        if len(shown) < count:
            shown = slices
        if count == 1:
            yield max(shown, key=lambda pair: sum(pair.class_pixels[1:]))
        else:
            places = {len(shown) * (at + 1) // (count + 1) for at in range(count)}
            yield from (shown[place] for place in sorted(places))
