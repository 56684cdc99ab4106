"""The page and its summary: sections of datasets, rendered by templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from datasets_spec import Adapter
from pipeline import paths
from pipeline.labels import colours
from pipeline.pages import of_pairs, of_run, parameters, rendering
from pipeline.pages.contents import json_of, reading
from pipeline.pages.parameters import Recorded
from pipeline.pairs import manifest
from pipeline.params import reader as params
from pipeline.runtime import files, modelfile

_TEMPLATES = Path(__file__).parent / "templates" / "page"
_VIRTUAL = (
    "Virtual patients: these scores show that the machine works, not how well it would do in a"
    " clinic"
)
_OTHER_PAIRS = "The model was trained on other pairs than those on this page"


def section(adapter: Adapter, params_file: Path) -> dict[str, Any]:
    """Everything that the templates show of one dataset."""
    folder = paths.dataset(adapter.name)
    with reading(folder / paths.CARD):
        card = json_of(folder / paths.CARD)
        pairs = of_pairs.of_pairs(adapter, manifest.read(folder), card)
        records = [parameters.of_pairs(card)]
        run = of_run.of_run(adapter, card[paths.MINI_TEST])
    provenance = _provenance(adapter.name)
    if provenance:
        records.insert(0, parameters.of_model(provenance))
    if run["scores"]:
        with reading(paths.run(adapter.name) / paths.SCORES):
            records.append(parameters.of_scores(run["scores"]))
    now = params.stated(adapter.name, params_file)
    changed = [one for record in records for one in parameters.changed(record, now)]
    return {
        "name": adapter.name,
        "facts": adapter.dataset,
        "labels": colours.visible(adapter.dataset.label_map),
        "warnings": list(_warnings(adapter, provenance, changed, pairs["gaps"])),
        "changed": changed,
        "parameters": _yaml(records),
        **pairs,
        **run,
    }


def _provenance(dataset: str) -> Mapping[str, Any]:
    """What the run's model records of itself; nothing where there is no model."""
    file = paths.run(dataset) / paths.MODEL
    return modelfile.read(file) if file.exists() else {}


def _warnings(
    adapter: Adapter,
    provenance: Mapping[str, Any],
    changed: Sequence[tuple[str, ...]],
    gaps: Sequence[str],
) -> Iterator[str]:
    """What has to be known before the scores are read."""
    if adapter.dataset.source.recipe:
        yield _VIRTUAL
    pairs = files.sha256(paths.dataset(adapter.name) / paths.MANIFEST)
    if provenance and provenance["dataset_digest"] != pairs:
        yield _OTHER_PAIRS
    if changed:
        of = ", ".join(sorted({f"the {what}" for what, *_ in changed}))
        yield f"The parameter file is no longer that of {of}: see Parameters"
    yield from adapter.dataset.warnings
    yield from gaps


def _yaml(records: Sequence[Recorded]) -> str:
    """All recorded parameters as YAML."""
    sections = parameters.together(*records)
    return yaml.safe_dump(sections, sort_keys=False, default_flow_style=None, width=88)


def render(sections: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The whole page, and its size in MB, which it states."""
    templates = rendering.environment(_TEMPLATES)
    rows, bodies = [], []
    for one in sections:
        with reading(paths.run(one["name"]) / paths.SCORES):
            rows.append(templates.get_template("row.html").render(s=one))
            bodies.append(templates.get_template("section.html").render(s=one))
    css, js = ((_TEMPLATES / f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    frame = {"names": [one["name"] for one in sections], "css": css, "js": js}
    page = templates.get_template("report.html")
    empty = len(page.render(**frame, rows="", bodies="", page_mb="").encode())
    size = empty + sum(len(part.encode()) for part in (*rows, *bodies))
    page_mb = _megabytes(size + 2 * len(_megabytes(size)))  # the page states it twice
    return page.render(
        **frame, rows="".join(rows), bodies="".join(bodies), page_mb=page_mb
    ), page_mb


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


def summary(sections: Sequence[Mapping[str, Any]]) -> str:
    """The scores in a few lines of text."""
    lines = [f"Report: {paths.REPORT / 'index.html'}"]
    for one in sections:
        lines += _summary_of(one)
    return "\n".join(lines) + "\n"


def _summary_of(section: Mapping[str, Any]) -> Iterator[str]:
    virtual = " (virtual patients)" if section["facts"].source.recipe else ""
    yield f"{section['name']}{virtual}:"
    suspicious = section["suspicious"]
    if suspicious["cases"]:
        yield f"  labels look suspicious in {suspicious['cases']} of {suspicious['of']} cases"
    for part, pooled in section["folds"].items():
        yield (
            f"  cross-validation{f', {part}' if part else ''}:"
            f" {pooled['scores']['test_patients']} patients in"
            f" {len(pooled['scores']['folds']['each'])} folds, mean foreground Dice"
            f" {of_run.spread(pooled['scores']['model']['mean_foreground']['dice'])}"
        )
    scores = section["scores"]
    if scores is None:
        yield "  not evaluated yet"
        return
    yield (
        f"  {scores['test_cases']} test cases of {scores['test_patients']} patients,"
        " Dice per case in the source's grid, mean [95 % interval over patients]:"
    )
    for name, one in scores["model"]["classes"].items():
        yield f"    {name:16} {of_run.spread(one['dice'])}"
    for row, words in (("model", "model"), ("all_background", "all-background mask")):
        one = scores[row]
        yield (
            f"  {words}: mean foreground Dice {of_run.spread(one['mean_foreground']['dice'])};"
            " the reference projects' dice_coef_multiclass"
            f" {one['reference']['dice_coef_multiclass']:.3f}"
        )
    if section["ensemble"]:
        dice = section["ensemble"]["scores"]["model"]["mean_foreground"]["dice"]
        yield f"  ensemble: mean foreground Dice {of_run.spread(dice)}"
