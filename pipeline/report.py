"""report: manifests and runs -> ``report/index.html``, one self-contained page, and a summary.

It reads files only: what is not there yet is said, not guessed. The same files give
the same bytes.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml

import datasets_spec
from datasets_spec import Adapter
from datasets_spec.contract import SPLITS, LabelMap, Problem
from pipeline import paths
from pipeline.pages import doubts, plots, tiles
from pipeline.pages.tiles import Tile
from pipeline.pairs import manifest, png
from pipeline.pairs.manifest import Pair
from pipeline.params import reader as params
from pipeline.runtime import files, modelfile

_TILE_PX, _SMALL_PX, _FRAME_PX = 256, 160, 128
_PER_SPLIT = 6
_AUGMENTED = 3
_FILM_STRIPS, _FILM_FRAMES = 3, 8
_NUMBERS = ("dice", "nsd", "hd95_mm", "lesion_f1", "truth_ml", "predicted_ml")
_NONSENSE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    csv.Error,
    jinja2.TemplateError,
)
_ROWS = 200  # of a table of cases; the rest is in per_case.csv


def report(datasets: Sequence[str], params_file: Path) -> None:
    """Write ``report/index.html`` and ``report/summary.txt`` for the enabled datasets."""
    sections = [_section(datasets_spec.load(name), params_file) for name in datasets]
    here = Path(__file__).parent / "pages" / "templates"
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("report.html")
    css, js = ((here / f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    for section in sections:
        with _reading(paths.run(section["name"]) / paths.SCORES):
            template.render(sections=[section], css=css, js=js, page_mb="")
    page_mb = "0.0"
    for _ in range(2):  # the page states its own size
        page = template.render(sections=sections, css=css, js=js, page_mb=page_mb)
        page_mb = f"{len(page.encode()) / 1e6:.1f}"
    with files.replacing_folder(paths.REPORT) as unfinished:
        (unfinished / "index.html").write_text(page, "utf-8")
        (unfinished / "summary.txt").write_text(_summary(sections), "utf-8")
    print(f"report: {paths.REPORT / 'index.html'}, {page_mb} MB")


def _section(adapter: Adapter, params_file: Path) -> dict[str, Any]:
    """Everything that the template shows of one dataset."""
    folder, run = paths.dataset(adapter.name), paths.run(adapter.name)
    label_map = adapter.dataset.label_map
    pairs = manifest.read(folder)
    settings = params.stated(adapter.name, params_file)
    with _reading(folder / paths.CARD):
        card = _json(folder / paths.CARD)
        of_card = {
            "agreement": card["rater_agreement"],
            "tables": card["label_tables"],
            "snapped": card["snapped_pixels"],
            "suspicious": card["suspicious_labels"],
            "probed": card["probed_labels"],
            "mini_test": list(_mini_test(folder, run, card[paths.MINI_TEST], label_map)),
            "film": list(_film(folder, run, card[paths.MINI_TEST], label_map)),
        }
        changed = list(_changed("pairs", card["made_by"], settings))
        gaps = card["gaps"]
    scores = None
    if all((run / name).is_file() for name in paths.SCORED):  # else of an earlier model
        with _reading(run / paths.SCORES):
            scores = _json(run / paths.SCORES)
            worst = list(_worst(folder, run, scores, label_map))
            reliability = _reliability(scores)
            scored_with = scores.get("parameters", {})  # an earlier version did not say
        with _reading(run / paths.PER_CASE):
            rows = _rows(run / paths.PER_CASE)
            dots = _dots(scores, rows)
        with _reading(run / paths.CONFUSION):
            confusion = _confusion(run / paths.CONFUSION)
    with _reading(run / paths.HISTORY):
        curves = list(_curves(run / paths.HISTORY))
    stale = []
    if (run / paths.MODEL).exists():
        model = modelfile.read(run / paths.MODEL)
        offline = model["augment"].get("mode") == "offline"  # then its variants are pairs
        kept = ("train",) if offline else ("train", "augment")
        changed += _changed("model", {name: model[name] for name in kept}, settings)
        if model["dataset_digest"] != files.sha256(folder / paths.MANIFEST):
            stale.append("The model was trained on other pairs than those on this page")
    if scores:
        changed += _changed("scores", scored_with, settings)
    if changed:
        told = ", ".join(sorted({f"the {what}" for what, *_ in changed}))
        stale.append(f"The parameter file is no longer that of {told}: see Parameters")
    originals = [pair for pair in pairs if not pair.parent]
    virtual = ["Virtual patients: these scores show that the machine works, not how well it would"
               " do in a clinic"] * bool(adapter.dataset.source.recipe)  # fmt: skip
    return {
        "name": adapter.name,
        "facts": adapter.dataset,
        "warnings": [*virtual, *stale, *adapter.dataset.warnings, *gaps],
        "changed": changed,
        "labels": label_map,
        "totals": {**_counts(pairs, label_map), "slices": len(originals)},
        "splits": {
            name: _counts([pair for pair in pairs if pair.split == name], label_map)
            for name in SPLITS
        },
        "sheets": dict(_sheets(folder, originals, label_map)),
        "evidence": _evidence(pairs),
        "suspicions": _told_of_cases(pairs, "suspicion"),
        "findings": _told_of_cases(pairs, "findings", doubts.of_case),
        "handled": _told_of_cases(pairs, "findings", doubts.handled),
        "scores": scores,
        "rows": rows[:_ROWS] if scores else [],
        "dots": dots if scores else "",
        "reliability": reliability if scores else "",
        "confusion": confusion if scores else {},
        "worst": worst if scores else [],
        "augmented": list(_augmented(folder, pairs, label_map)),
        "curves": curves,
        **of_card,
        "params": yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=88),
    }


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """What a file of nonsense leads to, as a :class:`Problem` that names the file."""
    try:
        yield
    except _NONSENSE as error:
        told = f"{type(error).__name__}: {str(error)[:200]}"
        raise Problem(
            f"expected what the stage before wrote, got content that leads to {told}",
            where=file,
            remedy="Was it changed by hand, or is it of another version? Run: dvc repro",
        ) from error


def _changed(
    what: str, then: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[tuple[str, str, str, str]]:
    """Every parameter that is another today: of what, its name, its value then and now."""
    today = {name: now[name] for name in then if name in now}
    values = [dict(_leaves("", json.loads(json.dumps(one)))) for one in (then, today)]
    partly = what == "scores"  # they say the few parameters that they follow from
    for name in sorted(values[0] if partly else values[0] | values[1]):
        before, after = (one.get(name, "not there") for one in values)
        if before != after:
            yield what, name, str(before), str(after)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested mappings."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _leaves(f"{name}.{key}".lstrip("."), part)
    else:
        yield name, value


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
    image = png.read_image(folder / pair.image)
    ids = png.read_mask(folder / pair.mask, label_map)
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
    image = png.read_image(folder / paths.IMAGES / f"{pair_id}.png")
    truth = png.read_mask(folder / paths.MASKS / f"{pair_id}.png", label_map)
    predicted = png.read_mask(prediction, label_map) if prediction.is_file() else None
    return tiles.tile(pair_id, image, label_map, truth, predicted, _TILE_PX, told)


def _film(folder: Path, run: Path, ids: Sequence[str], label_map: LabelMap) -> Iterator[list[Tile]]:
    """Per picture of mini_test: the prediction after some epochs, first and last among them."""
    epochs = sorted((run / paths.EPOCH_CHANGE).glob("epoch_*"))
    if not epochs:
        return
    chosen = np.unique(np.linspace(0, len(epochs) - 1, _FILM_FRAMES).round().astype(int))
    shown = [pair_id for pair_id in ids if (epochs[0] / f"{pair_id}.png").is_file()]
    for pair_id in shown[:_FILM_STRIPS]:
        image = png.read_image(folder / paths.MINI_TEST / paths.IMAGES / f"{pair_id}.png")
        frames = []
        for epoch in (epochs[index] for index in chosen):
            file = epoch / f"{pair_id}.png"
            if file.is_file():
                ids_here = png.read_mask(file, label_map)
                caption = f"epoch {int(epoch.name.removeprefix('epoch_'))}"
                frame = tiles.tile(caption, image, label_map, predicted=ids_here, px=_FRAME_PX)
                frames.append(frame)
        yield frames


def _curves(file: Path) -> Iterator[dict[str, str]]:
    """A plot for every column of history.csv that valid has too."""
    if not file.is_file():
        return
    rows = _table(file, "epoch")
    for name in rows[0]:
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
    rows = _table(file, "case", "rater", "class", *_NUMBERS)
    for row in rows:
        for name in _NUMBERS:
            if row[name] and not math.isfinite(float(row[name])):
                raise ValueError(f"{name} {row[name]} of the case {row['case']}")
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
    for row in _table(file, "truth", "predicted", "voxels"):
        voxels.setdefault(row["truth"], []).append(int(row["voxels"]))
    return {
        name: [count / sum(counts) if sum(counts) else None for count in counts]
        for name, counts in voxels.items()
    }


def _json(file: Path) -> Any:
    """The content of a JSON file. Raises ValueError for numbers that JSON does not have."""

    def refuse(word: str) -> float:
        raise ValueError(f"{word}, which is no number")

    return json.loads(file.read_text("utf-8"), parse_constant=refuse)


def _table(file: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of a CSV file. Raises ValueError if it has none, or not these columns."""
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    missing = [name for name in columns if not rows or rows[0].get(name) is None]
    if missing:
        raise ValueError(f"no row with {missing[0]}")
    return rows


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
