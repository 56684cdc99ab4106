"""Who shows what: the cases and patients of each class, counted while ``fetch`` reads the labels.

Only what can be read off a label alone is counted. Where published tables contradict each other,
the class of a value depends on the picture, so the values are counted, with the classes that they
may be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from datasets_spec.contract import SPLITS, Case, Dataset, Picture, Problem
from pipeline.labels import decode, drawings, pictures
from pipeline.labels.decode import INTEGER
from pipeline.params.limits import Limits
from pipeline.volumes import reader
from pipeline.volumes.dicom import objects
from pipeline.volumes.dicom.objects import Drawing
from pipeline.volumes.findings import LABEL, Finding
from pipeline.volumes.volume import Volume

NOTHING = "no class"
_MANY = 3  # values that a message names


@dataclass(frozen=True)
class Seen:
    """What reading a label brings: its findings, the classes that it shows, and doubts.

    ``doubt``: why convert will refuse it, "" where nothing speaks against it.
    """

    findings: tuple[Finding, ...]
    shown: frozenset[str]
    doubt: str = ""


def read(dataset: Dataset, picture: Picture, limits: Limits = Limits()) -> Seen:
    """Read a label once. Raises :class:`Problem` only where it cannot be read at all."""
    drawing = objects.drawing(picture)
    if drawing is not None:
        return _of_drawing(dataset, drawing, limits)
    try:
        raw, _ = decode.read_raw(dataset, picture, limits)
    except Problem as problem:
        return Seen(_of_label(reader.read_image(picture, limits)), frozenset(), str(problem))
    named = _names(dataset)
    values = _values(raw)
    strange = sorted(value for value in values if value not in named)
    doubt = ""
    if strange:
        some = ", ".join(f"{value:g}" for value in strange[:_MANY])
        doubt = f"values that the adapter does not declare: {some}"
    return Seen(_of_label(raw), frozenset(named[v] for v in values if named.get(v)), doubt)


def _of_drawing(dataset: Dataset, drawing: Drawing, limits: Limits) -> Seen:
    """What a DICOM SEG or RTSTRUCT shows; which names are its classes' is part of the doubt."""
    try:
        shown = drawings.classes(dataset, drawing, limits)
    except Problem as problem:
        return Seen((), frozenset(), str(problem))
    names = [label.name for label in dataset.label_map]
    return Seen((), frozenset(names[class_id] for class_id in shown))


def _of_label(raw: Volume) -> tuple[Finding, ...]:
    return tuple(replace(one, about=LABEL) for one in raw.findings)


def _values(raw: Volume) -> set[float]:
    """The distinct values of a label, slice by slice, so that memory does not grow."""
    distinct: set[float] = set()
    for index in range(raw.array.shape[-1]):
        values = raw.array[..., index]
        drawn = values[values != 0]
        if drawn.size < values.size:
            distinct.add(0)
        distinct.update(np.unique(drawn).tolist())
    return {round(value) if abs(value - round(value)) <= INTEGER else value for value in distinct}


def _names(dataset: Dataset) -> Mapping[float, str]:
    """Raw value -> the row that counts it, "" for the background and what is ignored."""
    ignored: dict[float, str] = dict.fromkeys(dataset.ignored_values, "")
    if dataset.tables:
        classes: dict[int, set[int]] = defaultdict(set)
        for table in dataset.tables:
            for value, class_id in table.class_of.items():
                classes[value].add(class_id)
        names = [label.name for label in dataset.label_map]
        return {
            value: f"{' or '.join(names[one] for one in sorted(ids))} ({value})" if any(ids) else ""
            for value, ids in sorted(classes.items())
        } | ignored
    class_of = dataset.label_map.class_of
    if dataset.coding == "colours":
        class_of = pictures.packed_colours({label.id: label.colour for label in dataset.label_map})
    shown = {label.id: label.name for label in dataset.label_map.foreground}
    named = {value: shown.get(class_id, "") for value, class_id in class_of.items()}
    return named | ignored


@dataclass
class Tally:
    """Per class: how many cases show it, and which patients. Patients grow with the dataset."""

    dataset: Dataset
    cases: dict[str, int] = field(default_factory=dict)
    patients: dict[str, set[str]] = field(default_factory=dict)
    splits: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in dict.fromkeys([*filter(None, _names(self.dataset).values()), NOTHING]):
            self.cases[name], self.patients[name] = 0, set()

    def add(self, case: Case, shown: frozenset[str]) -> None:
        """Count what all raters of a case show together."""
        for name in shown or {NOTHING}:
            self.cases[name] += 1
            self.patients[name].add(case.patient)
        if case.split:
            self.splits[case.split] = self.splits.get(case.split, False) or bool(shown)

    def table(self) -> Iterator[str]:
        """Lines: a class, the cases and the patients that show it."""
        width = max(map(len, [*self.cases, "class"]))
        yield f"{'class':{width}}  {'cases':>6}  {'patients':>8}"
        for name, count in self.cases.items():
            yield f"{name:{width}}  {count:6}  {len(self.patients[name]):8}"

    def warnings(self) -> Iterator[str]:
        """What makes a class impossible to train or to score, whatever ``split`` does."""
        for name, theirs in self.patients.items():
            if name == NOTHING:
                continue
            if not theirs:
                yield f"nobody shows {name}: it cannot be learnt or scored"
            elif len(theirs) < len(SPLITS):
                yield (
                    f"too few patients show {name} for one in each of {', '.join(SPLITS)}:"
                    f" {len(theirs)}"
                )
        for split, foreground in sorted(self.splits.items()):
            if not foreground:
                yield f"the official {split} list shows no class at all: it scores nothing"
