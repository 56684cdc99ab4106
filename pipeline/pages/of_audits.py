"""What the page shows of the questions that decide a dataset.

Which labels are in doubt, whether its splits come from one world, and what more patients would
give: each where its verb has been run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline import paths
from pipeline.audits import doubted, worklist
from pipeline.pages import cases, plots
from pipeline.pages.contents import json_of, reading
from pipeline.runtime import files

_AUDITED = 20  # slices in doubt; the rest is in audit.csv


def of_audits(dataset: str) -> dict[str, Any]:
    """What the template shows. Raises :class:`Problem` for a file of nonsense."""
    return {"audit": _audit(dataset), "drift": _drift(dataset), "growth": _growth(dataset)}


def _audit(dataset: str) -> list[dict[str, str]]:
    """The first rows of an audit, each with a link to its slice; none without an audit."""
    file = paths.run(dataset) / paths.AUDIT
    if not file.is_file():
        return []
    links = cases.links(doubted.evaluation(dataset))
    rows = [row for row in worklist.read(file) if row["reason"] != worklist.SETTLED][:_AUDITED]
    with reading(file):
        for row in rows:
            link = links.get(paths.of_case(row["case"], row["rater"]), "")
            row["link"] = f"{link}:{row['slice']}" if link else ""
            row["doubt"] = f"{float(row['doubt']):.2f}"
    return rows


def _drift(dataset: str) -> dict[str, Any] | None:
    """What drift found, and whether that was in the split that is there; None without it."""
    file = paths.run(dataset) / paths.DRIFT
    if not file.is_file():
        return None
    with reading(file):
        found = json_of(file)
        rows = [row | {"words": _drifted(row)} for row in found["comparisons"]]
        current = files.sha256(paths.dataset(dataset) / paths.MANIFEST) == found["manifest"]
    return {"rows": rows, "current": current}


def _drifted(row: Mapping[str, Any]) -> str:
    """What tells two groups apart, in words."""
    if row["told_apart"] is None:
        return "too few patients to tell"
    if not row["told_apart"]:
        return "nothing tells them apart"
    each = [
        f"{one['name']} {one['first']:.4g} against {one['second']:.4g}" for one in row["features"]
    ]
    return "; ".join(each) or "many features, none by itself"


def _growth(dataset: str) -> dict[str, Any] | None:
    """The curve over the number of patients, and what it foretells; None without it."""
    file = paths.learning_curve(dataset) / paths.CURVE
    if not file.is_file():
        return None
    with reading(file):
        found = json_of(file)
        trainings = [(one["patients"], one["dice"]) for one in found["trainings"]]
        most = max(patients for patients, _ in trainings)
        curve = [
            tuple(one[key] for key in ("patients", "low", "dice", "high")) for one in found["curve"]
        ]
        foretold = [
            f"with {one['patients'] - most} more, {one['low']:.3f} to {one['high']:.3f}"
            for one in found["expected"]
        ]
        caption = (
            f"Mean foreground Dice of {found['test_patients']} test patients after trainings on"
            f" fewer patients (circles), the curve through them and its 95 % interval:"
            f" {'; '.join(foretold)}."
        )
        svg = plots.growth("mean foreground Dice by patients", trainings, curve, caption)
    return {"svg": svg, "caption": caption}
