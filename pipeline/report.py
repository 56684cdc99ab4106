"""report: manifests and runs -> ``report/index.html``, one self-contained page, and a summary.

It reads files only: what is not there yet is said, not guessed. The same files give
the same bytes.
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml

import datasets_spec
from datasets_spec import Adapter
from datasets_spec.contract import SPLITS, LabelMap
from pipeline import colors, doubts, manifest, params, paths, plots, tiles
from pipeline.manifest import Pair
from pipeline.tiles import Tile

_TILE_PX, _SMALL_PX, _FRAME_PX = 256, 160, 128
_PER_SPLIT = 6
_AUGMENTED = 3
_FILM_STRIPS, _FILM_FRAMES = 3, 8
_ROWS = 200  # of a table of cases; the rest is in per_case.csv


def report(datasets: Sequence[str], params_file: Path) -> None:
    """Write ``report/index.html`` and ``report/summary.txt`` for the enabled datasets."""
    sections = [_section(datasets_spec.load(name), params_file) for name in datasets]
    here = Path(__file__).parent
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("report.html")
    unfinished = paths.REPORT.with_name(f".unfinished-{paths.REPORT.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    css, js = ((here / f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    page_mb = "0.0"
    for _ in range(2):  # the page states its own size
        page = template.render(sections=sections, css=css, js=js, page_mb=page_mb)
        page_mb = f"{len(page.encode()) / 1e6:.1f}"
    (unfinished / "index.html").write_text(page, "utf-8")
    (unfinished / "summary.txt").write_text(_summary(sections), "utf-8")
    shutil.rmtree(paths.REPORT, ignore_errors=True)
    os.replace(unfinished, paths.REPORT)
    print(f"report: {paths.REPORT / 'index.html'}, {page_mb} MB")


def _section(adapter: Adapter, params_file: Path) -> dict[str, Any]:
    """Everything that the template shows of one dataset."""
    folder, run = paths.dataset(adapter.name), paths.run(adapter.name)
    label_map = adapter.dataset.label_map
    pairs = manifest.read(folder)
    card = json.loads((folder / paths.CARD).read_text("utf-8"))
    settings = asdict(params.load(adapter.name, params_file))
    del settings["convert"]["id_salt"]  # a secret: with it, hashed ids could be tried
    scored = all((run / name).is_file() for name in paths.SCORED)  # else of an earlier model
    scores = _json(run / paths.SCORES) if scored else None
    rows = _rows(run / paths.PER_CASE) if scores else []
    originals = [pair for pair in pairs if not pair.parent]
    virtual = ["Virtual patients: these scores show that the machine works, not how well it would"
               " do in a clinic"] * bool(adapter.dataset.source.recipe)  # fmt: skip
    return {
        "name": adapter.name,
        "facts": adapter.dataset,
        "warnings": [*virtual, *adapter.dataset.warnings],
        "labels": label_map,
        "totals": {**_counts(pairs, label_map), "slices": len(originals)},
        "splits": {
            name: _counts([pair for pair in pairs if pair.split == name], label_map)
            for name in SPLITS
        },
        "sheets": dict(_sheets(folder, originals, label_map)),
        "agreement": card["rater_agreement"],
        "tables": card["label_tables"],
        "evidence": _evidence(pairs),
        "snapped": card["snapped_pixels"],
        "suspicious": card["suspicious_labels"],
        "suspicions": _told_of_cases(pairs, "suspicion"),
        "findings": _told_of_cases(pairs, "findings", doubts.of_case),
        "handled": _told_of_cases(pairs, "findings", doubts.handled),
        "scores": scores,
        "rows": rows[:_ROWS],
        "dots": _dots(scores, rows) if scores else "",
        "reliability": _reliability(scores) if scores else "",
        "confusion": _confusion(run / paths.CONFUSION) if scores else {},
        "worst": list(_worst(folder, run, scores, label_map)) if scores else [],
        "mini_test": list(_mini_test(folder, run, card[paths.MINI_TEST], label_map)),
        "augmented": list(_augmented(folder, pairs, label_map)),
        "curves": list(_curves(run / paths.HISTORY)),
        "film": list(_film(folder, run, card[paths.MINI_TEST], label_map)),
        "params": yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=88),
    }


def _counts(pairs: Sequence[Pair], label_map: LabelMap) -> dict[str, Any]:
    originals = [pair for pair in pairs if not pair.parent]
    return {
        "patients": len({pair.patient for pair in pairs}),
        "cases": len({pair.case for pair in pairs}),
        "slices": len(originals),
        "empty": sum(pair.empty for pair in originals),
        "augmented": len(pairs) - len(originals),
        "class_pixels": [sum(pair.class_pixels[label.id] for pair in pairs) for label in label_map],
    }


def _evidence(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """Case and the reason for its label table, for cases that had to decide."""
    reasons = {pair.case: pair.label_evidence for pair in pairs if pair.label_table}
    return sorted(reasons.items())


def _told_of_cases(
    pairs: Sequence[Pair], column: str, of: Callable[[str], str] = str
) -> list[tuple[str, str]]:
    """Case (and rater) and what ``of`` leaves of ``column``, where it leaves something."""
    told = {(pair.case, pair.rater): of(getattr(pair, column)) for pair in pairs}
    return [
        (f"{case} · rater {rater}" if rater else case, words)
        for (case, rater), words in sorted(told.items())
        if words
    ]


def _sheets(
    folder: Path, originals: Sequence[Pair], label_map: LabelMap
) -> Iterator[tuple[str, list[Tile]]]:
    """Per split, the richest slice of some patients with its truth."""
    for split in SPLITS:
        chosen = _richest([pair for pair in originals if pair.split == split])[:_PER_SPLIT]
        yield split, [_of_pair(folder / split, pair, label_map) for pair in chosen]


def _augmented(folder: Path, pairs: Sequence[Pair], label_map: LabelMap) -> Iterator[list[Tile]]:
    """The richest train slices of some patients, each with its augmented variants."""
    variants: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair.parent:
            variants.setdefault(pair.parent, []).append(pair)
    for parent in _richest([pair for pair in pairs if pair.id in variants])[:_AUGMENTED]:
        yield [
            _of_pair(folder / "train", pair, label_map) for pair in [parent, *variants[parent.id]]
        ]


def _richest(pairs: Sequence[Pair]) -> list[Pair]:
    """The slice with most foreground of each patient, in the patients' order."""
    best: dict[str, Pair] = {}
    for pair in pairs:
        rival = best.setdefault(pair.patient, pair)
        if sum(pair.class_pixels[1:]) > sum(rival.class_pixels[1:]):
            best[pair.patient] = pair
    return [best[patient] for patient in sorted(best)]


def _of_pair(folder: Path, pair: Pair, label_map: LabelMap) -> Tile:
    image = colors.read_image(folder / pair.image)
    ids = colors.read_mask(folder / pair.mask, label_map)
    caption = json.loads(pair.warp)["variant"] if pair.warp else pair.id
    return tiles.tile(caption, image, label_map, ids, px=_SMALL_PX)


def _mini_test(folder: Path, run: Path, ids: Sequence[str], label_map: LabelMap) -> Iterator[Tile]:
    """The pictures of mini_test with truth and, where there is one, prediction."""
    for pair_id in ids:
        file = run / paths.PREDICTIONS / paths.MINI_TEST / f"{pair_id}.png"
        yield _judged(folder / paths.MINI_TEST, pair_id, file, label_map)


def _worst(
    folder: Path, run: Path, scores: Mapping[str, Any], label_map: LabelMap
) -> Iterator[Tile]:
    """The test cases of lowest Dice, lowest first."""
    for one in scores["worst"]:
        file = run / paths.PREDICTIONS / paths.WORST / f"{one['picture']}.png"
        rater = f", rater {one['rater']}" if one["rater"] else ""
        told = f"mean foreground Dice of the case{rater}: {one['dice']:.3f}"
        yield _judged(folder / "test", one["picture"], file, label_map, told)


def _judged(
    folder: Path, pair_id: str, prediction: Path, label_map: LabelMap, told: str = ""
) -> Tile:
    image = colors.read_image(folder / paths.IMAGES / f"{pair_id}.png")
    truth = colors.read_mask(folder / paths.MASKS / f"{pair_id}.png", label_map)
    predicted = colors.read_mask(prediction, label_map) if prediction.is_file() else None
    return tiles.tile(pair_id, image, label_map, truth, predicted, _TILE_PX, told)


def _film(folder: Path, run: Path, ids: Sequence[str], label_map: LabelMap) -> Iterator[list[Tile]]:
    """Per picture of mini_test: the prediction after some epochs, first and last among them."""
    epochs = sorted((run / paths.EPOCH_CHANGE).glob("epoch_*"))
    if not epochs:
        return
    chosen = np.unique(np.linspace(0, len(epochs) - 1, _FILM_FRAMES).round().astype(int))
    shown = [pair_id for pair_id in ids if (epochs[0] / f"{pair_id}.png").is_file()]
    for pair_id in shown[:_FILM_STRIPS]:
        image = colors.read_image(folder / paths.MINI_TEST / paths.IMAGES / f"{pair_id}.png")
        frames = []
        for epoch in (epochs[index] for index in chosen):
            file = epoch / f"{pair_id}.png"
            if file.is_file():
                ids_here = colors.read_mask(file, label_map)
                caption = f"epoch {int(epoch.name.removeprefix('epoch_'))}"
                frame = tiles.tile(caption, image, label_map, predicted=ids_here, px=_FRAME_PX)
                frames.append(frame)
        yield frames


def _curves(file: Path) -> Iterator[dict[str, str]]:
    """A plot for every column of history.csv that valid has too."""
    if not file.is_file():
        return
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for name in rows[0] if rows else ():
        if f"val_{name}" not in rows[0]:
            continue
        told = name.replace("_", " ")
        series = {
            split: [float(row[column]) for row in rows if row[column]]
            for split, column in (("train", name), ("valid", f"val_{name}"))
        }
        if not all(values and np.isfinite(values).all() for values in series.values()):
            continue
        last = ", ".join(f"{split} {values[-1]:.3f}" for split, values in series.items())
        caption = f"{told[0].upper()}{told[1:]}; after epoch {len(rows)}: {last}."
        yield {"svg": plots.lines(told, series, caption), "caption": caption}


def _rows(file: Path) -> list[dict[str, str]]:
    """The rows of ``per_case.csv``, lowest Dice first, those without Dice last."""
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return sorted(rows, key=lambda row: (float(row["dice"] or math.inf), row["case"]))


def _dots(scores: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> str:
    classes = scores["model"]["classes"]
    raters = scores["raters"]["classes"] if scores["raters"] else {}
    told = "; ".join(
        f"{name} {_told(one['dice'])} in {one['dice']['cases']} cases"
        for name, one in classes.items()
    )
    return plots.dots(
        "Dice per class",
        {
            name: (
                [float(row["dice"]) for row in rows if row["class"] == name and row["dice"]],
                [one["dice"][part] for part in ("mean", "low", "high")],
            )
            for name, one in classes.items()
        },
        f"Dice per class, mean and 95 % interval: {told}",
        {name: one["between_raters"]["mean"] for name, one in raters.items()},
    )


def _reliability(scores: Mapping[str, Any]) -> str:
    found = scores["calibration"]
    told = (
        f"Confidence and share of right answers; expected calibration error {_told(found['ece'])}"
    )
    return plots.reliability("Calibration", found["bins"], told)


def _confusion(file: Path) -> dict[str, list[float | None]]:
    """True class -> the share of its voxels that each class was given; none without voxels."""
    voxels: dict[str, list[int]] = {}
    with file.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            voxels.setdefault(row["truth"], []).append(int(row["voxels"]))
    return {
        name: [count / sum(counts) if sum(counts) else None for count in counts]
        for name, counts in voxels.items()
    }


def _json(file: Path) -> Any:
    return json.loads(file.read_text("utf-8"))


def _summary(sections: Sequence[dict[str, Any]]) -> str:
    lines = [f"Report: {paths.REPORT / 'index.html'}"]
    for section in sections:
        virtual = " (virtual patients)" if section["facts"].source.recipe else ""
        lines.append(f"{section['name']}{virtual}:")
        suspicious = section["suspicious"]
        if suspicious["cases"]:
            lines.append(
                f"  labels look suspicious in {suspicious['cases']} of {suspicious['of']} cases"
            )
        scores = section["scores"]
        if scores is None:
            lines.append("  not evaluated yet")
            continue
        lines.append(
            f"  {scores['test_cases']} test cases of {scores['test_patients']} patients,"
            " Dice per case in the source's grid, mean [95 % interval over patients]:"
        )
        for name, one in scores["model"]["classes"].items():
            lines.append(f"    {name:16} {_told(one['dice'])}")
        for row, told in (("model", "model"), ("all_background", "all-background mask")):
            one = scores[row]
            lines.append(
                f"  {told}: mean foreground Dice {_told(one['mean_foreground']['dice'])};"
                f" the ancestors' dice_coef_multiclass"
                f" {one['ancestors']['dice_coef_multiclass']:.3f}"
            )
    return "\n".join(lines) + "\n"


def _told(spread: Mapping[str, Any]) -> str:
    if spread["mean"] is None:
        return "none"
    return "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**spread)
