"""split: patients -> train, valid, test and mini_test; the gate; hard links; the dataset card."""

from __future__ import annotations

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import datasets_spec
from datasets_spec.contract import SPLITS, Case, Problem
from pipeline import paths
from pipeline.pages import card
from pipeline.pairs import identities, manifest, pseudonyms
from pipeline.pairs.manifest import Pair
from pipeline.pairs.pseudonyms import Pseudonyms
from pipeline.params import reader as params
from pipeline.params.split import Split
from pipeline.runtime import files, keys, locks
from pipeline.sources import listing
from pipeline.splits import leaks, outliers, placement
from pipeline.volumes import findings
from pipeline.volumes.findings import Finding

_FAR = 1 << 20  # slices; more than any volume has


def split(dataset: str, settings: params.Params) -> None:
    """Fill ``data/dataset/<dataset>``, whole or not at all.

    Raises :class:`Problem` if there are too few patients, the gate finds a leak, or the manifests
    are not of the present raw data as the adapter describes it; what was there before then
    stays; and at once if another run fills the folder.
    """
    with locks.alone(paths.dataset(dataset)), identities.explaining(dataset) as known:
        files.restore_folder(paths.dataset(dataset))
        _split(dataset, settings, known)


def _split(dataset: str, settings: params.Params, known: dict[str, str]) -> None:
    adapter = datasets_spec.load(dataset)
    converted = manifest.read(paths.converted(dataset))
    augmented = manifest.read(paths.augmented(dataset))
    names, cases = pseudonyms.load(adapter), listing.cases(adapter)
    known |= identities.known(names, cases)
    _require_as_stated(names, cases, converted, settings.convert.raters)
    _require_present_parents(dataset, converted, augmented)
    where = placement.assign(dataset, converted, settings.split)
    unlike = outliers.outliers(converted, adapter.dataset.label_map)
    placed = [
        _placed(pair, where[pair.patient], unlike)
        for pair in converted
        if _kept(dataset, pair, where[pair.patient], settings.split)
    ]
    kept = {pair.id for pair in placed}
    grown = [
        _placed(pair, "train", unlike)
        for pair in augmented
        if where[pair.patient] == "train" and pair.parent in kept
    ]
    del converted, augmented  # every row would stand in memory twice
    mini = mini_test([pair for pair in placed if pair.split == "test"], settings.split.mini_test)

    with files.replacing_folder(paths.dataset(dataset)) as unfinished:
        _link(paths.converted(dataset), unfinished, placed)
        _link(paths.augmented(dataset), unfinished, grown)
        _link(paths.converted(dataset), unfinished, mini, paths.MINI_TEST)
        pairs = placed + grown
        leaks.require(leaks.judge(unfinished, pairs), f"split {dataset}")
        manifest.write(unfinished, pairs)
        card.write(unfinished, adapter, settings, pairs, mini)
    counts = Counter(pair.split for pair in pairs)
    told = ", ".join(f"{counts[name]} {name}" for name in SPLITS)
    print(f"split {dataset}: {len(where)} patients; pairs: {told}, {len(mini)} {paths.MINI_TEST}")
    for gap in placement.gaps(pairs, adapter.dataset.label_map):
        print(f"split {dataset}: warning: {gap}")


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


_STATED = ("patient", "official split", "number of raters", "rater")


def _require_as_stated(
    names: Pseudonyms, cases: Sequence[Case], converted: Sequence[Pair], raters: str
) -> None:
    """Raises :class:`Problem` unless the manifest says of every case what the adapter says now.

    The raw data may hold a table of patients that was corrected since, say, and then one patient
    would be in two splits.
    """
    wanted = {
        names.of("case", case.id): {
            (
                names.of("patient", case.patient),
                case.split or "",
                len(case.labels),
                names.of("rater", rater),
            )
            for rater in listing.kept_raters(raters, case)
        }
        for case in listing.labelled_by(raters, cases, names.dataset)
    }
    found: dict[str, set[tuple[str, str, int, str]]] = {}
    for pair in converted:
        row = (pair.patient, pair.official_split, pair.raters, pair.rater)
        found.setdefault(pair.case, set()).add(row)
    for case in sorted(wanted.keys() | found.keys()):
        if wanted.get(case) == found.get(case):
            continue
        if case not in found:
            told = f"expected a conversion of all cases of the raw data, got none of {case}"
        elif case not in wanted:
            told = f"expected cases of the present raw data, got {case}, which it does not have"
        else:
            now, then = (
                list(zip(*sorted(rows), strict=True)) for rows in (wanted[case], found[case])
            )
            what = next((at for at in range(len(_STATED)) if set(now[at]) != set(then[at])), 0)
            told = (
                f"expected {case} to have the {_STATED[what]} that the raw data give it,"
                f" {_listed(now[what])}, got {_listed(then[what])}"
            )
        salt = "" if names.anonymous or wanted.keys() & found.keys() else pseudonyms.SALT_HINT
        raise Problem(
            told,
            where=paths.converted(names.dataset),
            remedy=f"{salt}Run: python -m pipeline convert {names.dataset}",
        )


def _listed(values: Iterable[object]) -> str:
    return " and ".join(sorted({repr(value) for value in values}))


def _require_present_parents(
    dataset: str, converted: Sequence[Pair], augmented: Sequence[Pair]
) -> None:
    """Raises :class:`Problem` if augmented pairs were made of an earlier conversion."""
    parents = {pair.id: pair for pair in converted}
    old = [
        pair
        for pair in augmented
        if (parent := parents.get(pair.parent)) is None
        or not _same(pair, manifest.inherited(pair, parent))
    ]
    if old:
        raise Problem(
            f"expected augmented pairs of the present conversion, got {len(old)} of"
            f" {len(augmented)} of an earlier one, such as {old[0].id}",
            where=paths.augmented(dataset),
            remedy=f"Run: python -m pipeline augment {dataset}",
        )


def _same(one: Pair, other: Pair) -> bool:
    """Whether all columns are equal; a NaN is equal to another."""
    return one == other or repr(one) == repr(other)


def _kept(dataset: str, pair: Pair, split: str, settings: Split) -> bool:
    """Of the slices without foreground, every split keeps its share; it keeps all others."""
    if not pair.empty:
        return True
    share: float = getattr(settings.empty_slices, split)
    return keys.key(settings.seed, dataset, pair.id, "empty") < share * 2**63


def _placed(pair: Pair, split: str, unlike: Mapping[tuple[str, str], Sequence[Finding]]) -> Pair:
    """The pair in its split, with what is suspicious in its case beside the other cases."""
    more = unlike.get((pair.case, pair.rater), [])
    suspicion = (
        findings.to_json([*findings.from_json(pair.suspicion), *more]) if more else pair.suspicion
    )
    return replace(pair, split=split, suspicion=suspicion)


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
