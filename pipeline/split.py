"""split: patients -> train, valid, test and mini_test; the gate; hard links; the dataset card.

A patient's place depends on the seed, the dataset and the patient alone, ranked among
the others, so that new patients move few of the old ones. Official splits are kept.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import datasets_spec
from datasets_spec.contract import SPLITS, Dataset, Problem
from pipeline import gate, manifest, outliers, params, paths, warps
from pipeline.manifest import Pair

_FAR = 1 << 20  # slices; more than any volume has


def split(dataset: str, settings: params.Params, workers: int) -> None:
    """Fill ``data/dataset/<dataset>``, whole or not at all.

    Raises :class:`Problem` if there are too few patients or the gate finds a leak;
    what was there before then stays.
    """
    del workers  # linking is bound by the disk
    facts = datasets_spec.load(dataset).dataset
    converted = manifest.read(paths.converted(dataset))
    augmented = manifest.read(paths.augmented(dataset))
    _require_present_parents(dataset, converted, augmented)
    where = assign(dataset, converted, settings.split)
    unlike = outliers.outliers(converted, facts.label_map)
    placed = [replace(pair, split=where[pair.patient]) for pair in converted]
    placed = [pair for pair in placed if _kept(dataset, pair, settings.split)]
    kept = {pair.id for pair in placed}
    grown = [
        replace(pair, split="train")
        for pair in augmented
        if where[pair.patient] == "train" and pair.parent in kept
    ]
    mini = mini_test([pair for pair in placed if pair.split == "test"], settings.split.mini_test)

    target = paths.dataset(dataset)
    unfinished = target.with_name(f".unfinished-{target.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        for pairs, source in (
            (placed, paths.converted(dataset)),
            (grown, paths.augmented(dataset)),
        ):
            for pair in pairs:
                _link(source, unfinished, pair.split, pair)
        for pair in mini:
            _link(paths.converted(dataset), unfinished, paths.MINI_TEST, pair)
        pairs = [_suspected(pair, unlike) for pair in placed + grown]
        gate.require(gate.judge(pairs, gate.blank_digests(unfinished, pairs)), f"split {dataset}")
        manifest.write(unfinished, pairs)
        _write_card(unfinished, dataset, facts, pairs, mini)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    counts = Counter(pair.split for pair in pairs)
    told = ", ".join(f"{counts[name]} {name}" for name in SPLITS)
    print(f"split {dataset}: {len(where)} patients; pairs: {told}, {len(mini)} {paths.MINI_TEST}")


def assign(dataset: str, pairs: Sequence[Pair], settings: params.Split) -> dict[str, str]:
    """Patient -> train, valid or test.

    Patients with an official split keep it (official "train" is shared between train
    and valid). Raises :class:`Problem` if a split would stay without a patient, or a
    patient has two official splits.
    """
    official: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        official[pair.patient].add(pair.official_split)
    torn = [patient for patient, splits in official.items() if len(splits) > 1]
    if torn:
        raise Problem(
            f"expected one official split per patient, got {sorted(official[torn[0]])}"
            f" for {torn[0]}",
            where=f"split {dataset}",
        )
    place = {patient: next(iter(splits)) for patient, splits in official.items()}
    fixed = {patient for patient, name in place.items() if name in ("valid", "test")}
    free = sorted(
        set(place) - fixed, key=lambda patient: warps.key(settings.seed, dataset, patient)
    )
    wanted = {"valid": settings.shares.valid, "test": settings.shares.test}
    for name, share in wanted.items():
        have = sum(place[patient] == name for patient in fixed)
        if have or (name == "test" and any(place[patient] == "train" for patient in free)):
            continue
        for patient in free[: max(1, round(len(place) * share))]:
            place[patient] = name
            free.remove(patient)
    place.update(dict.fromkeys(free, "train"))
    counts = Counter(place.values())
    empty = [name for name in SPLITS if not counts[name]]
    if empty:
        raise Problem(
            f"expected at least one patient for each of {', '.join(SPLITS)},"
            f" got {len(place)} patients and none for {empty[0]}",
            where=f"split {dataset}",
            remedy="Add patients: three are the least.",
        )
    return place


def mini_test(test: Sequence[Pair], count: int) -> list[Pair]:
    """Up to ``count`` pictures of the test split that show as much as they can.

    First a slice of every class (its richest), then a slice without foreground (the one
    nearest to foreground in its case, so that it shows tissue), then the richest slices of the
    patients that are shown least.
    """
    chosen: dict[str, Pair] = {}
    shown: Counter[str] = Counter()

    def take(candidates: Sequence[Pair], richness: Mapping[str, int]) -> None:
        left = [pair for pair in candidates if pair.id not in chosen]
        if left and len(chosen) < count:
            best = min(left, key=lambda pair: (shown[pair.patient], -richness[pair.id], pair.id))
            chosen[best.id] = best
            shown[best.patient] += 1

    classes = range(1, max((len(pair.class_pixels) for pair in test), default=1))
    for label in classes:
        having = [pair for pair in test if pair.class_pixels[label]]
        take(having, {pair.id: pair.class_pixels[label] for pair in having})
    normal = [pair for pair in test if pair.empty]
    shows = defaultdict(list)
    for pair in test:
        if not pair.empty:
            shows[pair.case].append(pair.slice_index)
    away = {
        pair.id: min((abs(pair.slice_index - at) for at in shows[pair.case]), default=_FAR)
        for pair in normal
    }
    take(normal, {name: -slices for name, slices in away.items()})
    while len(chosen) < min(count, len(test)):
        take(test, {pair.id: sum(pair.class_pixels[1:]) for pair in test})
    return sorted(chosen.values(), key=lambda pair: pair.id)


_INHERITED = ("patient", "case", "source_digest", "canvas", "window", "label_table", "rater")


def _require_present_parents(
    dataset: str, converted: Sequence[Pair], augmented: Sequence[Pair]
) -> None:
    """Raises :class:`Problem` if augmented pairs were made of an earlier conversion."""
    parents = {pair.id: pair for pair in converted}
    old = [
        pair
        for pair in augmented
        if (parent := parents.get(pair.parent)) is None
        or any(getattr(pair, name) != getattr(parent, name) for name in _INHERITED)
    ]
    if old:
        raise Problem(
            f"expected augmented pairs of the present conversion, got {len(old)} of"
            f" {len(augmented)} of an earlier one, such as {old[0].id}",
            where=paths.augmented(dataset),
            remedy=f"Run: python -m pipeline augment {dataset}",
        )


def _kept(dataset: str, pair: Pair, settings: params.Split) -> bool:
    """Test keeps every slice; elsewhere a share of the slices without foreground is kept."""
    if pair.split == "test" or not pair.empty:
        return True
    share: float = getattr(settings.empty_slices, pair.split)
    return warps.key(settings.seed, dataset, pair.id, "empty") < share * 2**63


def _suspected(pair: Pair, unlike: Mapping[tuple[str, str], Sequence[str]]) -> Pair:
    """The pair with what is suspicious in its case beside the other cases."""
    more = unlike.get((pair.case, pair.rater), [])
    return replace(pair, suspicion="; ".join([*filter(None, [pair.suspicion]), *more]))


def _link(source: Path, target: Path, name: str, pair: Pair) -> None:
    for file in (pair.image, pair.mask):
        link = target / name / file
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source / file, link)
        except OSError:  # another disk, or a file system without hard links
            shutil.copyfile(source / file, link)


def _by_case(pairs: Sequence[Pair]) -> dict[str, Pair]:
    """One pair of each case: what is told of a case stands in every row of it."""
    return {group[0].case: group[0] for group in manifest.grouped(pairs, "case")}


def _agreement(facts: Dataset, pairs: Sequence[Pair]) -> dict[str, object] | None:
    """Mean Dice between raters per class over the cases that have several: the human ceiling."""
    several = [pair for pair in _by_case(pairs).values() if pair.agreement]
    if not several:
        return None
    classes = {}
    for label in facts.label_map.foreground:
        known = [p.agreement[label.id] for p in several if not math.isnan(p.agreement[label.id])]
        classes[label.name] = {
            "dice_mean": sum(known) / len(known) if known else None,
            "cases": len(known),
        }
    return {"cases": len(several), "classes": classes}


def _suspicious(pairs: Sequence[Pair]) -> dict[str, object]:
    """How many cases look suspicious, and how many for each of the rules."""
    told = {pair.case: pair.suspicion for pair in pairs if pair.suspicion}
    rules = Counter(
        rule
        for suspicion in told.values()
        for rule in {reason.partition(":")[0] for reason in suspicion.split("; ")}
    )
    return {"cases": len(told), "of": len(_by_case(pairs)), "rules": dict(sorted(rules.items()))}


def _write_card(
    folder: Path, name: str, facts: Dataset, pairs: Sequence[Pair], mini: Sequence[Pair]
) -> None:
    licence = facts.source.licence
    card = {
        "dataset": name,
        "title": facts.title,
        "modality": facts.modality,
        "homepage": facts.source.homepage,
        "citation": facts.source.citation,
        "licence": vars(licence),
        "labels": [vars(label) for label in facts.label_map],
        "splits": {
            split_name: {
                "patients": len({pair.patient for pair in members}),
                "cases": len({pair.case for pair in members}),
                "pairs": len(members),
                "augmented": sum(bool(pair.parent) for pair in members),
                "class_pixels": {
                    label.name: sum(pair.class_pixels[label.id] for pair in members)
                    for label in facts.label_map
                },
            }
            for split_name in SPLITS
            for members in [[pair for pair in pairs if pair.split == split_name]]
        },
        "warnings": list(facts.warnings),
        "rater_agreement": _agreement(facts, pairs),
        "label_tables": dict(
            Counter(pair.label_table for pair in _by_case(pairs).values() if pair.label_table)
        ),
        "suspicious_labels": _suspicious(pairs),
        "doubtful_headers": sum(bool(pair.findings) for pair in _by_case(pairs).values()),
        "snapped_pixels": sum(pair.snapped_pixels for pair in _by_case(pairs).values()),
        paths.MINI_TEST: [pair.id for pair in mini],
    }
    (folder / paths.CARD).write_text(json.dumps(card, indent=2) + "\n", "utf-8")
