"""split: patients -> train, valid, test and mini_test, behind the leak gate, with a card."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import datasets_spec
from datasets_spec.contract import SPLITS, Case, LabelMap, Problem
from pipeline import paths
from pipeline.pages import card
from pipeline.pairs import identities, manifest, pictures, pseudonyms
from pipeline.pairs.manifest import Pair
from pipeline.pairs.pseudonyms import Pseudonyms
from pipeline.params import reader as params
from pipeline.params.split import Split
from pipeline.runtime import files, locks
from pipeline.runtime.executor import Workers
from pipeline.runtime.shards import is_url
from pipeline.sources import listing, places
from pipeline.splits import grouping, leaks, outliers, placement, thinning
from pipeline.splits.grouping import Groups
from pipeline.structure import drawings, probe
from pipeline.structure.probe import Probed
from pipeline.volumes import findings
from pipeline.volumes.findings import Finding

_LOG = logging.getLogger(__name__)
_EARLIER = '"earlier-conversion"'  # as findings name it
_FEW = 64
"""Fewer drawings than this are looked at in this process: starting others would take longer."""
_FAR = 1 << 20  # slices; more than any volume has


def split(dataset: str, settings: params.Params, workers: Workers = 1) -> None:
    """Fill ``data/dataset/<dataset>``, completely or not at all.

    Raises :class:`Problem` if there are too few patients, the gate detects a leak, or the
    manifests do not match the raw data as the adapter lists it now; the folder then stays as it
    was. Also raises it at once if another run fills the folder.
    """
    with locks.alone(paths.dataset(dataset)), identities.explaining(dataset) as known:
        files.restore_folder(paths.dataset(dataset))
        _split(dataset, settings, workers, known)


def _split(dataset: str, settings: params.Params, workers: Workers, known: dict[str, str]) -> None:
    adapter = datasets_spec.load(dataset)
    converted = manifest.read(paths.converted(dataset))
    augmented = manifest.read(paths.augmented(dataset))
    names, cases = pseudonyms.load(adapter), listing.cases(adapter)
    known |= identities.known(names, cases)
    _require_as_stated(names, cases, converted, settings.convert.raters)
    _require_present_parents(dataset, converted, augmented)
    _warn_of_earlier(dataset, converted)
    groups = None
    if adapter.dataset.patients_unknown:
        groups = _grouped(names, cases, converted, settings.split)
        converted, augmented = (
            grouping.regrouped(pairs, groups) for pairs in (converted, augmented)
        )
    annotated = [pair for pair in converted if not pair.unannotated]
    where = placement.assign(dataset, annotated, settings.split)
    unlike = outliers.outliers(converted, adapter.dataset.label_map)
    judged = {(one.case, one.rater) for one in annotated if where[one.patient] != "train"}
    placed = [
        _placed(pair, where[pair.patient], unlike)
        for pair in converted
        if (not pair.unannotated or (pair.case, pair.rater) in judged)
        and thinning.kept(dataset, pair, where[pair.patient], settings.split)
    ]
    _report_unannotated(dataset, converted, placed)
    kept = {pair.id for pair in placed}
    grown = [
        _placed(pair, "train", unlike)
        for pair in augmented
        if where[pair.patient] == "train" and pair.parent in kept
    ]
    del converted, annotated, augmented  # to not keep every row in memory twice
    shown = [pair for pair in placed if pair.split == "test" and not pair.unannotated]
    mini = mini_test(shown, settings.split.mini_test)

    with files.replacing_folder(paths.dataset(dataset)) as unfinished:
        _link(paths.converted(dataset), unfinished, placed)
        _link(paths.augmented(dataset), unfinished, grown)
        _link(paths.converted(dataset), unfinished, mini, paths.MINI_TEST)
        pairs = placed + grown
        _require_no_leak(dataset, unfinished, pairs)
        if groups is not None:
            groups.write(unfinished / paths.LIKENESS)
        manifest.write(unfinished, pairs)
        obeyed = _label_rules(dataset, pairs, settings, workers, adapter.dataset.label_map)
        card.write(unfinished, adapter, settings, pairs, mini, obeyed)
    _report(dataset, len(where), pairs, mini, adapter.dataset.label_map)


def _grouped(
    names: Pseudonyms, cases: Sequence[Case], converted: Sequence[Pair], settings: Split
) -> Groups:
    """The groups by likeness that stand for the patients, whose ids are unknown."""
    dataset = names.dataset
    order = {names.of("case", c.id): places.relative(c.first, dataset, 0) for c in cases}
    groups = grouping.groups(converted, partial(leaks.shown, paths.converted(dataset)), order)
    grouping.require_small(dataset, groups, settings)
    sizes = groups.sizes()
    _LOG.info(
        "split %s: no patients are known: %d pictures in %d groups of like ones, the largest of"
        " %d, and %d on their own",
        dataset,
        len(groups.pictures),
        len(sizes),
        max(sizes, default=0),
        len(groups.pictures) - sum(sizes),
    )
    if not groups.by_names:
        _LOG.warning("split %s: warning: %s", dataset, grouping.NO_ORDER)
    return groups


def _label_rules(
    dataset: str,
    pairs: Sequence[Pair],
    settings: params.Params,
    workers: Workers,
    label_map: LabelMap,
) -> Probed:
    """What the labels of train obey, by their shapes in the source's own grid."""
    drawn = drawings.of_train(pairs, paths.converted(dataset), settings.limits)
    few = 1 if len(drawn) < _FEW else workers
    obeyed = probe.probe(drawn, len(label_map), dataset, few)
    for one in obeyed.rules:
        _LOG.info("split %s: %s", dataset, one.sentence([label.name for label in label_map]))
    return obeyed


def _require_no_leak(dataset: str, folder: Path, pairs: Sequence[Pair]) -> None:
    """Raises :class:`Problem` for a leak; all near-duplicates are then listed in a file."""
    violations, file = leaks.judge(folder, pairs), paths.suggested(dataset)
    file.unlink(missing_ok=True)
    remedy = (
        "Where the named cases are of one person, give them one patient in"
        f" datasets_spec/{dataset}.py; where one is a copy of the other, leave it out."
    )
    if leaks.of_like_pictures(violations):
        grouping.groups(pairs, partial(leaks.shown, folder)).write(file)
        remedy += f" {file} lists all pairs, grouped into patients."
    leaks.require(violations, f"split {dataset}", remedy)


def _report(
    dataset: str, patients: int, pairs: Sequence[Pair], mini: Sequence[Pair], label_map: LabelMap
) -> None:
    """Log the size of each split, and the classes that a split lacks."""
    counts = Counter(pair.split for pair in pairs)
    _LOG.info(
        "split %s: %d patients; pairs: %s, %d %s",
        dataset,
        patients,
        ", ".join(f"{counts[name]} {name}" for name in SPLITS),
        len(mini),
        paths.MINI_TEST,
    )
    for gap in placement.gaps(pairs, label_map):
        _LOG.info("split %s: warning: %s", dataset, gap)


def _report_unannotated(dataset: str, converted: Sequence[Pair], placed: Sequence[Pair]) -> None:
    """Log what becomes of the pairs that nobody annotated, if there are any."""
    unannotated = sum(pair.unannotated for pair in converted)
    kept = sum(pair.unannotated for pair in placed)
    if unannotated:
        _LOG.info(
            "split %s: nobody annotated %d of %d pairs: %d are left out, %d are in valid and test,"
            " where they are predicted with their cases and not scored",
            dataset,
            unannotated,
            len(converted),
            unannotated - kept,
            kept,
        )


def mini_test(test: Sequence[Pair], count: int) -> list[Pair]:
    """Up to ``count`` pairs of the test split that are as informative as possible.

    First, for every class, the slice with most of it; then a slice without foreground (the one
    nearest to foreground in its case, so that it shows tissue); then the slices with most
    foreground of the patients that have the fewest pairs so far.
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


_COMPARED = ("patient", "official split", "strata", "number of raters", "rater")
_Row = tuple[str, str, str, int, str]  # the values of _COMPARED


def _require_as_stated(
    names: Pseudonyms, cases: Sequence[Case], converted: Sequence[Pair], raters: str
) -> None:
    """Raises :class:`Problem` unless manifest and adapter agree on every case.

    The patients table may have been corrected since the conversion, for example; one patient could
    then be in two splits.
    """
    wanted = {
        names.of("case", case.id): {
            (
                names.of("patient", case.patient),
                case.split or "",
                manifest.strata_text(case.strata),
                len(case.labels),
                names.of("rater", rater),
            )
            for rater in listing.kept_raters(raters, case)
        }
        for case in listing.labelled_by(raters, cases, names.dataset)
    }
    stored: dict[str, set[_Row]] = {}
    for pair in converted:
        row = (pair.patient, pair.official_split, pair.strata, pair.raters, pair.rater)
        stored.setdefault(pair.case, set()).add(row)
    for case in sorted(wanted.keys() | stored.keys()):
        if wanted.get(case) == stored.get(case):
            continue
        salt = "" if names.anonymous or wanted.keys() & stored.keys() else pseudonyms.SALT_HINT
        raise Problem(
            _difference(case, wanted.get(case), stored.get(case)),
            where=paths.converted(names.dataset),
            remedy=f"{salt}Run: python -m pipeline convert {names.dataset}",
        )


def _difference(case: str, wanted: set[_Row] | None, stored: set[_Row] | None) -> str:
    """How the rows of a case in the manifest differ from those that the raw data give."""
    if stored is None:
        return f"expected all cases of the raw data in the manifest, got none of {case}"
    if wanted is None:
        return f"expected cases of the raw data only, got {case}, which is not among them"
    now, then = (list(zip(*sorted(rows), strict=True)) for rows in (wanted, stored))
    at = next((at for at in range(len(_COMPARED)) if set(now[at]) != set(then[at])), 0)
    return (
        f"expected {case} to have the {_COMPARED[at]} of the raw data, {_listed(now[at])},"
        f" got {_listed(then[at])}"
    )


def _listed(values: Iterable[object]) -> str:
    return " and ".join(sorted({repr(value) for value in values}))


def _require_present_parents(
    dataset: str, converted: Sequence[Pair], augmented: Sequence[Pair]
) -> None:
    """Raises :class:`Problem` if augmented pairs were made from an earlier conversion."""
    parents = {pair.id: pair for pair in converted}
    old = [
        pair
        for pair in augmented
        if (parent := parents.get(pair.parent)) is None
        or not _same(pair, manifest.inherited(pair, parent))
    ]
    if old:
        raise Problem(
            f"expected augmented pairs of the current conversion, got {len(old)} of"
            f" {len(augmented)} of an earlier one, such as {old[0].id}",
            where=paths.augmented(dataset),
            remedy=f"Run: python -m pipeline augment {dataset}",
        )


def _warn_of_earlier(dataset: str, converted: Sequence[Pair]) -> None:
    """Say how many cases could not be converted again, whose pairs of an earlier run stand in."""
    earlier = {pair.case for pair in converted if _EARLIER in pair.findings}
    if earlier:
        _LOG.warning(
            "split %s: warning: %d of %d cases failed in the last conversion, such as %s: their"
            " pairs are those of an earlier one",
            dataset,
            len(earlier),
            len({pair.case for pair in converted}),
            min(earlier),
        )


def _same(one: Pair, other: Pair) -> bool:
    """Whether all columns are equal, NaN and NaN included."""
    return one == other or repr(one) == repr(other)


def _placed(pair: Pair, split: str, unlike: Mapping[tuple[str, str], Sequence[Finding]]) -> Pair:
    """The pair with its split, and with the suspicions that come from comparing cases."""
    more = unlike.get((pair.case, pair.rater), [])
    suspicion = (
        findings.to_json([*findings.from_json(pair.suspicion), *more]) if more else pair.suspicion
    )
    return replace(pair, split=split, suspicion=suspicion)


def _link(source: Path, target: Path, pairs: Sequence[Pair], name: str = "") -> None:
    """Hard-link all pictures into the folders of their splits, or into the folder ``name``.

    Of pairs in shards the shards themselves are linked; pictures in the folder ``name`` are files
    of their own.
    """
    loose = [pair for pair in pairs if name or not pair.shard]
    for split in (name,) if name else SPLITS * bool(loose):
        for part in (paths.IMAGES, paths.MASKS):
            (target / split / part).mkdir(parents=True, exist_ok=True)
    for pair in loose:
        pictures.place(source, replace(pair, split=""), target / (name or pair.split))
    named = {pair.shard for pair in pairs if pair.shard and not name}
    for shard in sorted(one for one in named if not is_url(one)):
        (target / shard).parent.mkdir(exist_ok=True)
        pictures.link(source / shard, target / shard)
