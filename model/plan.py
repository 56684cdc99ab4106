"""plan: look at a dataset and at this machine, and write the dataset's part of params.yaml.

Whatever is stated there stays, and every line that is written says why. The file is replaced once
its new text has been read back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import datasets_spec
from datasets_spec.contract import Problem
from model import params
from model.params import Params
from model.planning import ceilings, cohort, entry, whole
from model.planning.cohort import Cohort
from model.planning.machine import Machine
from model.planning.rules import Choice
from model.planning.whole import Plan
from pipeline import paths
from pipeline.pairs import manifest
from pipeline.params import editing
from pipeline.runtime import files

_LOG = logging.getLogger(__name__)
_WIDEST = 34  # of a value in the table


def plan(dataset: str, file: Path, minutes: float, machine: Machine, show: bool = False) -> Plan:
    """Plan the training of ``dataset`` and write it into the parameter file.

    ``minutes``: of ``machine``, for all networks of the dataset. With ``show`` the file stays as it
    is, and the plan is printed alone. Raises :class:`Problem` for a dataset that is not converted,
    and where the file cannot be changed line by line.
    """
    settings = params.load(dataset, file)
    text = file.read_bytes().decode("utf-8")
    known = examined(dataset, settings)
    _describe(dataset, known, machine, minutes)
    stated = entry.stated(text, ("datasets", dataset))
    made = whole.made(dataset, known, settings, machine, minutes, stated)
    _tell(dataset, made)
    changes = entry.changes(text, dataset, made)
    changed = editing.written(text, changes)
    editing.require_same(text, changed, changes, file)
    if show:
        _LOG.info("%s stays as it is", file)
        return made
    with files.replacing(file) as unfinished:
        unfinished.write_bytes(changed.encode("utf-8"))
        _require_sound(dataset, unfinished)
    _LOG.info("plan %s: written to %s; it is yours from here on", dataset, file)
    return made


def examined(dataset: str, settings: Params) -> Cohort:
    """What the conversion of a dataset says about it. Raises :class:`Problem` if there is none."""
    folder, facts = paths.converted(dataset), datasets_spec.load(dataset).dataset
    if not (folder / paths.MANIFEST).is_file():
        raise Problem(
            "expected a converted dataset, which a plan is made from, found none",
            where=folder,
            remedy=f"Run: python -m pipeline convert {dataset}",
        )
    pairs = manifest.read(folder)
    left = ceilings.measured(folder, pairs, len(facts.label_map), settings.limits)
    return cohort.of(facts, pairs, left)


def _require_sound(dataset: str, file: Path) -> None:
    """Raises :class:`Problem` unless the dataset, its members and its ensemble can be read."""
    params.load(dataset, file)
    params.ensemble(dataset, file)
    for name in params.members(dataset, file):
        params.load_member(name, file)


def _describe(dataset: str, known: Cohort, machine: Machine, minutes: float) -> None:
    """Print what the plan is made from."""
    of_grid = "pictures without a size"
    if known.spacing and known.extent:
        sides = " x ".join(f"{one:.3g}" for one in known.spacing)
        of_grid = f"{sides} mm, up to {' x '.join(f'{one:.0f}' for one in known.extent)} mm"
    _LOG.info(
        "plan %s: %d patients, %d cases of %s, %s slices, %.0f%% with foreground",
        *(dataset, known.patients, known.cases, of_grid, f"{known.slices:,}", 100 * known.shown),
    )
    for one in known.classes:
        size = f", {one.ml:.3g} ml" if one.ml else ""
        share = f"{one.slices or 0:.0%} of the slices"
        _LOG.info("  %s: %d patients, %s%s", one.name, one.patients, share, size)
    left = ", ".join(f"{100 * part:.1f}% at {by:g}" for by, part in known.ceilings.items())
    if left:
        _LOG.info("  Dice that pixels so many times as large leave of the labels: %s", left)
    if known.channels > 1:
        _LOG.info("  %d channels", known.channels)
    _LOG.info(
        "  %g min of %s; planning times some steps, which takes a minute or two beside",
        minutes,
        machine,
    )


def _tell(dataset: str, made: Plan) -> None:
    """Print every value with its reason, and how long it takes."""
    rows = [*_rows("", made.entry)]
    for name, own in made.members.items():
        rows += _rows(f"members.{name}.", own)
    if made.ensemble:
        rows.append((f"ensembles.{dataset}", made.ensemble))
    for name, choice in rows:
        value = editing.scalar(choice.value)
        value = value if len(value) <= _WIDEST else f"{value[: _WIDEST - 3]}..."
        _LOG.info(f"  {name:<34} {value:<{_WIDEST}} {choice.reason}")
    count = 1 + len(made.members)
    total = f"{made.minutes:.0f} min each, {count * made.minutes:.0f} in all"
    _LOG.info("plan %s: %d network%s, %s", dataset, count, "s" if count > 1 else "", total)
    for note in made.notes:
        _LOG.info("  note: %s", note)


def _rows(above: str, choices: Mapping[whole.Path, Choice]) -> Iterable[tuple[str, Choice]]:
    return ((above + ".".join(path), choice) for path, choice in choices.items())
