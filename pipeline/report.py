"""report: manifests and runs -> ``report/index.html``, one self-contained page, and a summary.

It reads files only: what is not there yet is said, not guessed. The same files give
the same bytes.
"""

from __future__ import annotations

import base64
import csv
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
import yaml
from numpy.typing import NDArray

import datasets_spec
from datasets_spec import Adapter
from datasets_spec.contract import LabelMap
from pipeline import colors, draw, manifest, params, paths
from pipeline.manifest import Pair

_TILE_PX = 256
_EXAMPLES = 4
_WORST = 8
_FILM_FRAMES = 8


@dataclass(frozen=True)
class Tile:
    """One picture of the page: its caption and its bytes as a data URL."""

    caption: str
    url: str


def report(datasets: Sequence[str], params_file: Path) -> None:
    """Write ``report/index.html`` and ``report/summary.txt`` for the enabled datasets."""
    sections = [_section(datasets_spec.load(name), params_file) for name in datasets]
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("report.html")
    unfinished = paths.REPORT.with_name(f".unfinished-{paths.REPORT.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    page = template.render(sections=sections)
    (unfinished / "index.html").write_text(page, "utf-8")
    (unfinished / "summary.txt").write_text(_summary(sections), "utf-8")
    shutil.rmtree(paths.REPORT, ignore_errors=True)
    os.replace(unfinished, paths.REPORT)
    print(f"report: {paths.REPORT / 'index.html'}, {len(page) / 1e6:.1f} MB")


def _section(adapter: Adapter, params_file: Path) -> dict[str, Any]:
    """Everything that the template shows of one dataset."""
    folder, run = paths.dataset(adapter.name), paths.run(adapter.name)
    label_map = adapter.dataset.label_map
    pairs = manifest.read(folder)
    card = json.loads((folder / paths.CARD).read_text("utf-8"))
    settings = asdict(params.load(adapter.name, params_file))
    del settings["convert"]["id_salt"]  # a secret: with it, hashed ids could be tried
    return {
        "name": adapter.name,
        "facts": adapter.dataset,
        "virtual": bool(adapter.dataset.source.recipe),
        "labels": label_map,
        "splits": card["splits"],
        "agreement": card["rater_agreement"],
        "tables": card["label_tables"],
        "evidence": _evidence(pairs),
        "snapped": card["snapped_pixels"],
        "suspicious": card["suspicious_labels"],
        "suspicions": _told_of_cases(pairs, "suspicion"),
        "findings": _told_of_cases(pairs, "findings"),
        "mini_test": list(_mini_test(folder, run, card["mini_test"], label_map)),
        "augmented": list(_augmented(folder, pairs, label_map)),
        "metrics": _json(run / paths.METRICS),
        "worst": _worst(run / paths.PER_CASE),
        "curves": _data_url(run / paths.CURVES),
        "film": list(_film(folder, run, card["mini_test"], label_map)),
        "params": yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=88),
    }


def _evidence(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """Case and the reason for its label table, for cases that had to decide."""
    reasons = {pair.case: pair.label_evidence for pair in pairs if pair.label_table}
    return sorted(reasons.items())


def _told_of_cases(pairs: Sequence[Pair], column: str) -> list[tuple[str, str]]:
    """Case (and rater) and what ``column`` tells of it, where it tells something."""
    told = {(pair.case, pair.rater): getattr(pair, column) for pair in pairs}
    return [
        (f"{case} · rater {rater}" if rater else case, words)
        for (case, rater), words in sorted(told.items())
        if words
    ]


def _mini_test(
    folder: Path, run: Path, ids: Sequence[str], label_map: LabelMap
) -> Iterator[list[Tile]]:
    """Per picture of mini_test: image, mask in colour, outlines of truth and of prediction."""
    for pair_id in ids:
        image = colors.read_image(folder / paths.MINI_TEST / paths.IMAGES / f"{pair_id}.png")
        mask = folder / paths.MINI_TEST / paths.MASKS / f"{pair_id}.png"
        truth = colors.read_mask(mask, label_map)
        tiles = [
            Tile(pair_id, _tile(image)),
            Tile("mask", _tile(colors.colourise(truth, label_map))),
            Tile("truth", _tile(draw.outlined(image, truth, label_map))),
        ]
        predicted = run / paths.PREDICTIONS / paths.MINI_TEST / f"{pair_id}.png"
        if predicted.is_file():
            ids_here = colors.read_mask(predicted, label_map)
            tiles.append(Tile("prediction", _tile(draw.outlined(image, ids_here, label_map))))
        yield tiles


def _augmented(folder: Path, pairs: Sequence[Pair], label_map: LabelMap) -> Iterator[list[Tile]]:
    """The richest train slices of some patients, each with its augmented variants."""
    train = [pair for pair in pairs if pair.split == "train"]
    variants: dict[str, list[Pair]] = {}
    for pair in train:
        if pair.parent:
            variants.setdefault(pair.parent, []).append(pair)
    best: dict[str, Pair] = {}
    for pair in train:
        if pair.id in variants:
            rival = best.setdefault(pair.patient, pair)
            if sum(pair.class_pixels[1:]) > sum(rival.class_pixels[1:]):
                best[pair.patient] = pair
    for parent in list(best.values())[:_EXAMPLES]:
        tiles = []
        for pair in [parent, *variants[parent.id]]:
            image = colors.read_image(folder / "train" / pair.image)
            ids = colors.read_mask(folder / "train" / pair.mask, label_map)
            caption = json.loads(pair.warp)["variant"] if pair.warp else pair.id
            tiles.append(Tile(caption, _tile(draw.outlined(image, ids, label_map))))
        yield tiles


def _film(folder: Path, run: Path, ids: Sequence[str], label_map: LabelMap) -> Iterator[list[Tile]]:
    """Per picture of mini_test: the prediction after some epochs, first and last among them."""
    epochs = sorted((run / paths.EPOCH_CHANGE).glob("epoch_*"))
    if not epochs:
        return
    chosen = np.unique(np.linspace(0, len(epochs) - 1, _FILM_FRAMES).round().astype(int))
    for pair_id in ids:
        image = colors.read_image(folder / paths.MINI_TEST / paths.IMAGES / f"{pair_id}.png")
        tiles = []
        for epoch in (epochs[index] for index in chosen):
            file = epoch / f"{pair_id}.png"
            if file.is_file():
                outlined = draw.outlined(image, colors.read_mask(file, label_map), label_map)
                tiles.append(Tile(epoch.name.replace("_", " "), _tile(outlined, _TILE_PX // 2)))
        if tiles:
            yield tiles


def _worst(file: Path) -> list[dict[str, str]]:
    """The rows of ``per_case.csv`` with the lowest Dice, lowest first."""
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["dice"]]
    return sorted(rows, key=lambda row: (float(row["dice"]), row["case"]))[:_WORST]


def _tile(picture: NDArray[np.uint8], px: int = _TILE_PX) -> str:
    """A grey or RGB picture as a data URL of a WebP of ``px`` x ``px``."""
    small = cv2.resize(picture, (px, px), interpolation=cv2.INTER_AREA)
    if small.ndim == 3:
        small = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    encoded, buffer = cv2.imencode(".webp", small, [cv2.IMWRITE_WEBP_QUALITY, 85])
    assert encoded
    return "data:image/webp;base64," + base64.b64encode(buffer.tobytes()).decode()


def _data_url(file: Path) -> str:
    if not file.is_file():
        return ""
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()


def _json(file: Path) -> Any:
    return json.loads(file.read_text("utf-8")) if file.is_file() else None


def _summary(sections: Sequence[dict[str, Any]]) -> str:
    lines = [f"Report: {paths.REPORT / 'index.html'}"]
    for section in sections:
        virtual = " (virtual patients)" if section["virtual"] else ""
        lines.append(f"{section['name']}{virtual}:")
        suspicious = section["suspicious"]
        if suspicious["cases"]:
            lines.append(
                f"  labels look suspicious in {suspicious['cases']} of {suspicious['of']} cases"
            )
        metrics = section["metrics"]
        if metrics is None:
            lines.append("  not evaluated yet")
            continue
        lines.append(
            f"  {metrics['test_cases']} test cases of {metrics['test_patients']} patients,"
            " Dice per case in the source's grid, mean +- sd:"
        )
        for name, scores in metrics["model"]["classes"].items():
            lines.append(
                f"    {name:16} {_number(scores['dice_mean'])} +- {_number(scores['dice_sd'])}"
            )
        for row, told in (("model", "model"), ("all_background", "all-background mask")):
            scores = metrics[row]
            lines.append(
                f"  {told}: mean foreground Dice {_number(scores['mean_foreground_dice'])};"
                f" the ancestors' dice_coef_multiclass {_number(scores['dice_coef_multiclass'])}"
            )
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
