"""What the page shows of a run: scores, plots of them, and pictures of what was predicted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets_spec import Adapter
from datasets_spec.contract import LESIONS, LabelMap
from pipeline import paths
from pipeline.pages import cases, of_audits, plots, tiles
from pipeline.pages.contents import json_of, reading, table_of
from pipeline.pages.tiles import Tile
from pipeline.pairs import png

_LARGE_PX, _TILE_PX, _FRAME_PX, _THUMB_PX = 448, 256, 128, 112
_FILM_STRIPS, _FILM_FRAMES = 3, 8
_FIRST_CURVES = ("loss", "foreground_dice")  # the others are folded
_NUMBERS = ("dice", "expected_dice", "nsd", "hd95_mm", "lesion_f1", "truth_ml", "predicted_ml")
_ANATOMY = 1.1  # regions a case
_ROWS = 200  # of a table of cases; the rest is in per_case.csv
_NETWORKS = {"all": "all together", "alone": "only", "without": "all but"}
_NOT_SCORED: Mapping[str, Any] = {
    "scores": None,
    "rows": [],
    "dots": "",
    "reliability": "",
    "confusion": {},
    "worst": [],
    "lesions": [],
    "examples": [],
    "thumb": None,
    "cases": "",
}


def of_run(adapter: Adapter, mini_test: Sequence[str]) -> dict[str, Any]:
    """What the template shows of the dataset's run, and of the pairs ``mini_test``.

    Scores are shown only where all of them are there: else they are of an earlier model. Raises
    :class:`Problem` for a file of nonsense.
    """
    run, label_map = paths.run(adapter.name), adapter.dataset.label_map
    folder = paths.dataset(adapter.name) / paths.MINI_TEST
    with reading(run / paths.HISTORY):
        curves = list(_curves(run / paths.HISTORY))
    return {
        **(_scored(adapter, run) or _NOT_SCORED),
        "ensemble": _ensemble(paths.ensemble(adapter.name)),
        "folds": of_folds(adapter),
        **of_audits.of_audits(adapter.name),
        "curves": curves,
        "mini_test": list(_mini_test(folder, run, mini_test, label_map)),
        "film": list(_film(folder, run, mini_test, label_map)),
    }


def of_folds(adapter: Adapter) -> dict[str, Any]:
    """The dataset's own network, or the ensemble -> its pooled scores over all folds."""
    found = {}
    for name, part in (("", Path()), (paths.ENSEMBLE, Path(paths.ENSEMBLE))):
        place = paths.folds(adapter.name) / part
        if pooled := _scored(adapter, place):
            with reading(place / paths.SCORES):
                found[name] = pooled | {"networks": _networks(pooled["scores"])}
    return found


def _scored(adapter: Adapter, run: Path) -> dict[str, Any]:
    """What is shown of an evaluation in ``run``; empty unless all of it is there."""
    if not all((run / name).is_file() for name in paths.SHOWN):
        return {}
    found = cases.links(run)
    with reading(run / paths.SCORES):
        scores = json_of(run / paths.SCORES)
        examples, worst = [], []
        if (run / paths.PREDICTIONS / "test").is_dir():  # else of an earlier version's evaluation
            examples = list(_examples(run, scores, adapter.dataset.label_map, found))
            worst = list(_worst(run, scores, adapter.dataset.label_map, found))
        reliability = _reliability(scores)
    with reading(run / paths.PER_CASE):
        rows = _rows(run / paths.PER_CASE, found)
        dots = _dots(scores, rows)
    with reading(run / paths.CONFUSION):
        confusion = _confusion(run / paths.CONFUSION)
    return {
        "scores": scores,
        "rows": rows[:_ROWS],
        "dots": dots,
        "reliability": reliability,
        "confusion": confusion,
        "worst": worst,
        "lesions": lesions(scores, adapter.dataset.label_map),
        "examples": examples,
        "thumb": _thumb(run, scores, adapter.dataset.label_map) if examples else None,
        "cases": next(iter(found.values()), "").partition("#")[0],
    }


def _ensemble(folder: Path) -> dict[str, Any] | None:
    """The scores of a dataset's networks as one, with what each adds; None where there are none."""
    if not all((folder / name).is_file() for name in (*paths.SHOWN, paths.MEMBERS_TABLE)):
        return None
    with reading(folder / paths.SCORES):
        scores = json_of(folder / paths.SCORES)
        weighed = scores["weights"]["of_plane"] if scores["weights"]["kept"] else {}
        return {"scores": scores, "rows": _networks(scores), "weighed": weighed}


def lesions(scores: Mapping[str, Any], label_map: LabelMap) -> list[str]:
    """The classes whose separate regions are worth counting.

    Those that name the tissue of a lesion, and those that name none, unless every case has it, and
    nearly all of them in one region: that is a part of the anatomy, with a stray voxel here and
    there.
    """
    found = []
    for label in label_map.foreground:
        of_class, cases = scores["model"]["classes"][label.name], scores["test_cases"]
        once = (
            of_class["lesions"]["truth"] <= _ANATOMY * cases and not of_class["negative"]["cases"]
        )
        if label.tissue in LESIONS or not (label.tissue or once):
            found.append(label.name)
    return found


def _networks(scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each network of an ensemble adds; nothing of a network alone."""
    return [
        {
            "name": f"{_NETWORKS[one['networks']]} {one['member']}".strip(),
            "alone": one["networks"] == "alone",
            "dice": one["dice"],
            "gain": one["all_gain"],
        }
        for one in scores.get("members", [])
    ]


def spread(one: Mapping[str, Any]) -> str:
    """A mean and its interval as "0.812 [0.790, 0.834]"; "none" where there is no mean."""
    if one["mean"] is None:
        return "none"
    return "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**one)


def _mini_test(folder: Path, run: Path, ids: Sequence[str], label_map: LabelMap) -> Iterator[Tile]:
    """The pictures of mini_test with truth and, where there is one, prediction."""
    for pair_id in ids:
        file = run / paths.PREDICTIONS / paths.MINI_TEST / f"{pair_id}.png"
        yield _judged(folder, pair_id, file, label_map)


def _examples(
    run: Path, scores: Mapping[str, Any], label_map: LabelMap, links: Mapping[str, str]
) -> Iterator[Tile]:
    """Best, median and worst test case, each once and large."""
    named = {"best": scores.get("best"), "median": scores.get("median")}
    named["worst"] = next(iter(scores["worst"]), None)
    seen = set()
    for name, one in named.items():
        if one and one["picture"] not in seen:
            seen.add(one["picture"])
            yield _of_case(run, one, label_map, links, _LARGE_PX, f"{name} test case: ")


def _thumb(run: Path, scores: Mapping[str, Any], label_map: LabelMap) -> Tile | None:
    """The median test case with its truth, small, for the overview."""
    one = scores.get("median")
    return _of_case(run, one, label_map, {}, _THUMB_PX) if one else None


def _worst(
    run: Path, scores: Mapping[str, Any], label_map: LabelMap, links: Mapping[str, str]
) -> Iterator[Tile]:
    """The test cases of lowest Dice, lowest first."""
    for one in scores["worst"]:
        yield _of_case(run, one, label_map, links, _TILE_PX)


def _of_case(
    run: Path,
    one: Mapping[str, Any],
    label_map: LabelMap,
    links: Mapping[str, str],
    px: int,
    what: str = "",
) -> Tile:
    file = run / paths.PREDICTIONS / paths.EXAMPLES / f"{one['picture']}.png"
    rater = f", rater {one['rater']}" if one["rater"] else ""
    note = f"{what}mean foreground Dice of the case{rater} {one['dice']:.3f}"
    link = links.get(paths.of_case(one["case"], one["rater"]), "")
    folder = run / paths.PREDICTIONS / "test"
    return _judged(folder, one["picture"], file, label_map, note, px, link)


def _judged(
    folder: Path,
    pair_id: str,
    prediction: Path,
    label_map: LabelMap,
    note: str = "",
    px: int = _TILE_PX,
    link: str = "",
) -> Tile:
    image = png.read_shown(folder / paths.IMAGES / f"{pair_id}.png")
    truth = png.read_mask(folder / paths.MASKS / f"{pair_id}.png", label_map)
    predicted = png.read_mask(prediction, label_map) if prediction.is_file() else None
    return tiles.tile(pair_id, image, label_map, truth, predicted, px, note, link)


def _film(folder: Path, run: Path, ids: Sequence[str], label_map: LabelMap) -> Iterator[list[Tile]]:
    """Per picture of mini_test: the prediction after some epochs, first and last among them.

    Pictures in which nothing is to be found are left out, unless there are no others.
    """
    epochs = sorted((run / paths.EPOCH_CHANGE).glob("epoch_*"))
    if not epochs:
        return
    chosen = np.unique(np.linspace(0, len(epochs) - 1, _FILM_FRAMES).round().astype(int))
    shown = [pair_id for pair_id in ids if (epochs[0] / f"{pair_id}.png").is_file()]
    found = [pair_id for pair_id in shown if _shows_any(folder, pair_id, label_map)]
    for pair_id in (found or shown)[:_FILM_STRIPS]:
        image = png.read_shown(folder / paths.IMAGES / f"{pair_id}.png")
        frames = []
        for epoch in (epochs[index] for index in chosen):
            file = epoch / f"{pair_id}.png"
            if file.is_file():
                ids_here = png.read_mask(file, label_map)
                caption = f"epoch {int(epoch.name.removeprefix('epoch_'))}"
                frame = tiles.tile(caption, image, label_map, predicted=ids_here, px=_FRAME_PX)
                frames.append(frame)
        yield frames


def _shows_any(folder: Path, pair_id: str, label_map: LabelMap) -> bool:
    """Whether the truth of a picture has any foreground."""
    mask = png.read_mask(folder / paths.MASKS / f"{pair_id}.png", label_map)
    return bool(np.isin(mask, [label.id for label in label_map.foreground]).any())


def _curves(file: Path) -> Iterator[dict[str, Any]]:
    """A plot for every column of history.csv that valid has too, and whether it is shown first."""
    if not file.is_file():
        return
    rows = table_of(file, "epoch")
    for name in rows[0]:
        if f"val_{name}" not in rows[0]:
            continue
        title = name.replace("_", " ")
        series = {
            split: [float(row[column]) for row in rows if row[column]]
            for split, column in (("train", name), ("valid", f"val_{name}"))
        }
        if not all(values and np.isfinite(values).all() for values in series.values()):
            continue
        last = ", ".join(f"{split} {values[-1]:.3f}" for split, values in series.items())
        caption = f"{title[0].upper()}{title[1:]}; after epoch {len(rows)}: {last}."
        svg = plots.lines(title, series, caption)
        yield {"svg": svg, "caption": caption, "first": name in _FIRST_CURVES}


def _rows(file: Path, links: Mapping[str, str]) -> list[dict[str, str]]:
    """The rows of ``per_case.csv``, lowest Dice first, those without Dice last."""
    rows = table_of(file, "case", "rater", "class", *_NUMBERS)
    for row in rows:
        for name in _NUMBERS:
            if row[name] and not math.isfinite(float(row[name])):
                raise ValueError(f"{name} {row[name]} of the case {row['case']}")
        row["link"] = links.get(paths.of_case(row["case"], row["rater"]), "")
    return sorted(rows, key=lambda row: (float(row["dice"] or math.inf), row["case"]))


def _dots(scores: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> str:
    classes = scores["model"]["classes"]
    raters = scores["raters"]["classes"] if scores["raters"] else {}
    words = "; ".join(
        f"{name} {spread(one['dice'])} in {one['dice']['cases']} cases"
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
        f"Dice per class, mean and 95 % interval: {words}",
        {name: one["between_raters"]["mean"] for name, one in raters.items()},
    )


def _reliability(scores: Mapping[str, Any]) -> str:
    near, before = scores["calibration"]["near"], scores["calibration"]["before"]
    words = (
        f"Confidence and share of right answers; expected calibration error {spread(near['ece'])}"
    )
    if before:
        words += f", before calibration {spread(before['near']['ece'])}"
    old = before["near"]["bins"] if before else ()
    return plots.reliability("Calibration", near["bins"], words, old)


def _confusion(file: Path) -> dict[str, list[float | None]]:
    """True class -> the share of its voxels that each class was given; none without voxels."""
    voxels: dict[str, list[int]] = {}
    for row in table_of(file, "truth", "predicted", "voxels"):
        voxels.setdefault(row["truth"], []).append(int(row["voxels"]))
    return {
        name: [count / sum(counts) if sum(counts) else None for count in counts]
        for name, counts in voxels.items()
    }
