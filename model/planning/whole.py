"""A whole plan: every decision in its order, each with what was decided before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from model.params import Params, Train
from model.planning import rules, tradeoff, work
from model.planning.ceilings import ceiling
from model.planning.cohort import Cohort
from model.planning.machine import Machine, Speed
from model.planning.rules import Choice
from model.planning.tradeoff import Budget, Candidate, Wanted

Path = tuple[str, ...]
_CLOSE = 0.1  # a step that was foretold so well is not foretold again
_ROUNDS = 5
_MOST = 9  # networks
_RECIPE = "of the measured recipe (docs/decisions/planning.md)"
_ENTRY_OF = {
    "planes": ("train", "plane"),
    "neighbours": ("train", "network", "neighbours"),
}


@dataclass(frozen=True)
class Plan:
    """What is to stand in params.yaml, by the path below a dataset's, a member's or an ensemble's
    name, and how many minutes each network takes. ``notes`` are for people to decide."""

    entry: Mapping[Path, Choice]
    members: Mapping[str, Mapping[Path, Choice]]
    ensemble: Choice | None
    minutes: float
    notes: tuple[str, ...] = ()


@dataclass
class _Decided:
    """The choices so far; what is stated wins."""

    stated: Mapping[Path, Any]
    choices: dict[Path, Choice] = field(default_factory=dict)

    def take(self, key: str, choice: Choice) -> Any:
        """The value of a parameter such as "train.plane": the stated one, or else the chosen."""
        path = tuple(key.split("."))
        if path in self.stated:
            ours, value = choice.value, self.stated[path]
            reason = "stated" if ours == value else f"stated; planned was {ours}"
            choice = Choice(value, reason, stated=True)
        self.choices[path] = choice
        return choice.value

    def fixed(self, key: str) -> Any:
        """What is stated of a parameter, or None."""
        return self.stated.get(tuple(key.split(".")))


def made(
    dataset: str,
    cohort: Cohort,
    settings: Params,
    machine: Machine,
    minutes: float,
    stated: Mapping[Path, Any],
    most: int = _MOST,
) -> Plan:
    """The plan of a dataset for a machine that has so many minutes for all its networks.

    ``stated``: the values that people have written, by their path below the dataset's name.
    ``most``: networks that there may be.
    """
    decided = _Decided(stated)
    mode = decided.take("augment.mode", Choice("online", "drawn anew whenever a picture is shown"))
    source = decided.take("train.source", rules.source(cohort, mode))
    planes = _planes(cohort, source, decided)
    near = decided.fixed("train.network.neighbours")
    neighbours = rules.neighbours(cohort, source, planes.value[0])
    wanted = Wanted(
        planes=planes.value,
        neighbours=neighbours.value if near is None else near,
        scans=source == "scans",
        image_px=decided.fixed("train.network.image_px") or 0,
        picture_px=decided.fixed("train.network.picture_px"),
        num_layers=decided.fixed("train.network.num_layers") or 0,
        base_filters=decided.fixed("train.network.base_filters") or 0,
        batch=decided.fixed("train.batch_pairs") or 0,
        epochs=decided.fixed("train.epochs") or 0,
        per_epoch=decided.fixed("train.steps_per_epoch") or 0,
        most=most,
    )
    best, seconds = _searched(cohort, settings, machine, minutes, wanted, source)
    decided.take("train.plane", _own(cohort, planes, best, most))
    _write_network(cohort, decided, best, neighbours)
    _write_pictures(cohort, decided, best)
    _write_training(decided, best, machine, seconds)
    members = _members(dataset, cohort, decided, best, settings.train.seed)
    seen = rules.listed([*dict.fromkeys(best.planes)])
    together = Choice({}, f"what {seen} slices show, as one") if members else None
    notes = [*rules.advice(cohort, settings.convert.windows), *_late(best, wanted, minutes)]
    return Plan(decided.choices, members, together, best.minutes, tuple(notes))


def _late(best: Candidate, wanted: Wanted, minutes: float) -> list[str]:
    """That there is too little time, if there is."""
    total = best.minutes * len(best.planes)
    if total <= minutes:
        return []
    stated = [
        name
        for name, value in (("epochs", wanted.epochs), ("steps_per_epoch", wanted.per_epoch))
        if value
    ]
    why = f"{' and '.join(stated)} {'is' if stated == ['steps_per_epoch'] else 'are'} stated"
    return [
        f"this takes {total:.0f} minutes, more than the {minutes:g} that there are"
        + (f": {why}" if stated else ": no network is trained in less")
    ]


def _planes(cohort: Cohort, source: str, decided: _Decided) -> Choice:
    """The planes that a network may have, the stated one first."""
    planes = rules.planes(cohort, source)
    stated = decided.fixed("train.plane")
    if not stated:
        return planes
    first = cohort.plane if stated == "own" else stated
    others = tuple(one for one in planes.value if one != first)
    return Choice((first, *(others if len(planes.value) > 1 else ())), planes.reason)


def _own(cohort: Cohort, planes: Choice, best: Candidate, most: int) -> Choice:
    """The plane of the dataset's own network."""
    first, left_out = best.planes[0], len(planes.value) - len(set(best.planes))
    reason = planes.reason
    if left_out and len(best.planes) < most:
        reason += "; in this time steps are worth more than other planes"
    return Choice("own" if first == cohort.plane else first, reason)


def _searched(
    cohort: Cohort,
    settings: Params,
    machine: Machine,
    minutes: float,
    wanted: Wanted,
    source: str,
) -> tuple[Candidate, dict[str, float]]:
    """The best candidate, and the seconds that a step of just it takes in each number format."""
    classes, shares = len(cohort.classes) + 1, settings.split.shares
    usual = replace(settings.train, source=source, plane="own", folds=0, fold=0)
    usual = _without_scans(usual) if source == "pairs" else usual
    speed = Speed.of(machine, usual, classes)
    seconds_all = 60 * minutes * tradeoff.TRAINING
    for _ in range(_ROUNDS):
        budget = Budget(seconds_all, speed, machine.memory_gb, shares.train, shares.valid)
        best = tradeoff.best(cohort, usual.network, wanted, budget)
        train = replace(usual, network=best.network, batch_pairs=best.batch)
        seconds = machine.timed(train, classes)
        slower = seconds[machine.fastest(seconds)] / speed.step(best.network, best.batch, classes)
        speed = speed.times(slower)
        if abs(slower - 1) < _CLOSE:
            break
    budget = replace(budget, speed=speed)
    last = tradeoff.timed(cohort, best.network, best.coarser, wanted, best.planes, budget)
    return last or best, seconds


def _without_scans(usual: Train) -> Train:
    return replace(usual, network=replace(usual.network, neighbours=0, field_mm=0.0))


def _write_network(cohort: Cohort, decided: _Decided, best: Candidate, neighbours: Choice) -> None:
    network, classes = best.network, len(cohort.classes) + 1
    pixel = min(map(cohort.within, best.planes)) * best.coarser
    left = ceiling(cohort.ceilings, best.coarser)
    grid = f"{max(map(cohort.side, best.planes)):.4g} mm at {pixel:.3g} mm a pixel"
    if cohort.spacing is None:
        grid = f"pixels {best.coarser:.3g} times as large as the source's"
    grid += f", which leave {left:.1%} of the labels' Dice" if cohort.ceilings else ""
    whole = Choice(network.image_px, grid)
    if network.picture_px:
        whole = Choice(network.image_px, "parts of the pictures: finer pixels in the same time")
    decided.take("train.network.image_px", whole)
    parts = "the network sees whole pictures" if not network.picture_px else grid
    decided.take("train.network.picture_px", Choice(network.picture_px, parts))
    if network.field_mm:
        why = f"{network.whole_px} pixels of {network.field_mm / network.whole_px:.3g} mm"
        decided.take("train.network.field_mm", Choice(network.field_mm, why))
    decided.take("train.network.neighbours", neighbours)
    deep = f"{network.image_px // 2 ** (network.num_layers - 1)} pixels at the deepest level"
    decided.take("train.network.num_layers", Choice(network.num_layers, deep))
    size = f"{work.weights(network, classes):,} weights, the most with steps enough"
    decided.take("train.network.base_filters", Choice(network.base_filters, size))
    decided.take("train.network.dropout_rate", rules.dropout(network.num_layers))
    decided.take("train.network.normalization", Choice("batch", _RECIPE))


def _write_pictures(cohort: Cohort, decided: _Decided, best: Candidate) -> None:
    decided.take("augment.variants", rules.variants(cohort, best.planes[0], best.network.whole_px))
    decided.take("augment.empty_slices", Choice(True, "else what is not bent would be empty"))
    why = "healthy slices are learnt too; classes are drawn instead"
    decided.take("split.empty_slices.train", Choice(1.0, why))
    decided.take("train.foreground_oversampling", rules.oversampling(cohort))
    if dropped := rules.channel_dropout(cohort):
        decided.take("train.channel_dropout", dropped)


def _write_training(
    decided: _Decided, best: Candidate, machine: Machine, seconds: dict[str, float]
) -> None:
    format_ = machine.fastest(seconds)
    times = ", ".join(f"{name} {1000 * spent:.0f} ms" for name, spent in seconds.items())
    timed = "timed by each training" if format_ == "auto" else f"a step takes {times}"
    decided.take("train.loss", Choice("dice_ce", _RECIPE))
    decided.take("train.learning_rate", Choice(0.003, _RECIPE))
    decided.take("train.schedule", Choice("cosine", "ends when the time does"))
    decided.take("train.precision", Choice(format_, timed))
    decided.take("train.batch_pairs", Choice(best.batch, "about 131,000 pixels, or 8 pictures"))
    steps = f"{best.steps:,} steps in {best.minutes:.0f} minutes on {machine}"
    decided.take("train.epochs", Choice(best.epochs, steps))
    decided.take("train.steps_per_epoch", Choice(best.per_epoch, "steps between looks at valid"))
    epochs = decided.choices["train", "epochs"].value
    decided.take(
        "train.early_stopping_patience", Choice(epochs, "the learning rate falls to the end")
    )


def _members(
    dataset: str, cohort: Cohort, decided: _Decided, best: Candidate, seed: int
) -> dict[str, dict[Path, Choice]]:
    """A member for each plane after the first, and for each further seed of one."""
    found = {}
    first = best.planes[0]
    usual = rules.variants(cohort, first, best.network.whole_px)
    seed = decided.fixed("train.seed") or seed
    stated = ("augment", "variants") in decided.stated
    for number, plane in enumerate(best.planes[1:], 1):
        round_ = best.planes[:number].count(plane)
        one: dict[Path, Choice] = {
            ("dataset",): Choice(dataset, f"{best.minutes:.0f} minutes, as its own network")
        }
        if plane != first:
            why = f"sees what {first} slices show badly"
            one["train", "plane"] = Choice(plane, why)
        if round_:
            one["train", "seed"] = Choice(
                seed + round_, "another seed, since there is time for one"
            )
        own = rules.variants(cohort, plane, best.network.whole_px)
        if own.value != usual.value and not stated:
            one["augment", "variants"] = own
        found[f"{dataset}_{plane}" + (f"_{round_ + 1}" if round_ else "")] = one
    return found
