"""split: patients -> train, valid, test and mini_test; the gate; hard links; the dataset card."""

from __future__ import annotations

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import datasets_spec
from datasets_spec.contract import SPLITS, Problem
from pipeline import card, files, gate, locks, manifest, outliers, params, paths, placement, warps
from pipeline.manifest import Pair

_FAR = 1 << 20  # slices; more than any volume has


def split(dataset: str, settings: params.Params, workers: int) -> None:
    """Fill ``data/dataset/<dataset>``, whole or not at all.

    Raises :class:`Problem` if there are too few patients or the gate finds a leak;
    what was there before then stays; and at once if another run fills the folder.
    """
    del workers  # linking is bound by the disk
    with locks.alone(paths.dataset(dataset)):
        files.restore_folder(paths.dataset(dataset))
        _split(dataset, settings)


def _split(dataset: str, settings: params.Params) -> None:
    adapter = datasets_spec.load(dataset)
    converted = manifest.read(paths.converted(dataset))
    augmented = manifest.read(paths.augmented(dataset))
    _require_present_parents(dataset, converted, augmented)
    where = placement.assign(dataset, converted, settings.split)
    unlike = outliers.outliers(converted, adapter.dataset.label_map)
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
        _link(paths.converted(dataset), unfinished, placed)
        _link(paths.augmented(dataset), unfinished, grown)
        _link(paths.converted(dataset), unfinished, mini, paths.MINI_TEST)
        pairs = [_suspected(pair, unlike) for pair in placed + grown]
        gate.require(gate.judge(unfinished, pairs), f"split {dataset}")
        manifest.write(unfinished, pairs)
        card.write(unfinished, adapter, settings, pairs, mini)
        files.replace_folder(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    counts = Counter(pair.split for pair in pairs)
    told = ", ".join(f"{counts[name]} {name}" for name in SPLITS)
    print(f"split {dataset}: {len(where)} patients; pairs: {told}, {len(mini)} {paths.MINI_TEST}")


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
    """Of the slices without foreground, every split keeps its share; it keeps all others."""
    if not pair.empty:
        return True
    share: float = getattr(settings.empty_slices, pair.split)
    return warps.key(settings.seed, dataset, pair.id, "empty") < share * 2**63


def _suspected(pair: Pair, unlike: Mapping[tuple[str, str], Sequence[str]]) -> Pair:
    """The pair with what is suspicious in its case beside the other cases."""
    more = unlike.get((pair.case, pair.rater), [])
    return replace(pair, suspicion="; ".join([*filter(None, [pair.suspicion]), *more]))


def _link(source: Path, target: Path, pairs: Iterable[Pair], name: str = "") -> None:
    """Hard links of all pictures, each in the folder of its split or in ``name``."""
    for split in (name,) if name else SPLITS:
        for part in (paths.IMAGES, paths.MASKS):
            (target / split / part).mkdir(parents=True, exist_ok=True)
    for pair in pairs:
        for file in (pair.image, pair.mask):
            here, there = f"{source}/{file}", f"{target}/{name or pair.split}/{file}"
            try:
                os.link(here, there)
            except OSError:  # another disk, or a file system without hard links
                shutil.copyfile(here, there)
