"""A cohort of which nobody annotated some slices and a class: trained on, scored and shown."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import datasets_spec
from datasets_spec.contract import IGNORED, Case
from model import params
from model.evaluate import evaluate
from model.train import train
from pipeline import paths
from pipeline.pairs import manifest
from pipeline.pairs.truth import KeptTruth
from pipeline.report import report
from tests.support import cohort

pytestmark = pytest.mark.slow

RAW, RUN = paths.raw(cohort.DATASET), paths.run(cohort.DATASET)
SCATTERED, LACKING = ("sub-01", "sub-02", "sub-03"), ("sub-03", "sub-06")
CLASS = "white_matter"


@pytest.fixture
def settings(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> params.Params:
    """Half of the patients with some slices annotated, two without a class."""
    adapter = datasets_spec.load(cohort.DATASET)
    cohort.write_raw()
    for number in (3, 6):
        shutil.rmtree(RAW / f"sub-{number:02d}")
        cohort.write_patient(RAW / f"sub-{number:02d}", number, classes=3)

    def cases(raw: Path) -> Iterator[Case]:
        for case in adapter.cases(raw):
            assert isinstance(case, Case)
            slices = tuple(range(1, 20, 2)) if case.id in SCATTERED else None
            depth = nib.load(case.image).shape[2]
            yield replace(
                case,
                annotated_slices=slices and tuple(one for one in slices if one < depth),
                unlabelled=(CLASS,) if case.id in LACKING else (),
            )

    monkeypatch.setattr(datasets_spec, "load", lambda _: replace(adapter, cases=cases))
    settings = cohort.write_params(
        **{"train.epochs": 1, "split.shares": {"train": 0.2, "valid": 0.2, "test": 0.6}}
    )
    cohort.make_pairs(settings)
    return settings


def test_what_nobody_annotated_goes_all_the_way(settings: params.Params) -> None:
    train(cohort.DATASET, settings)
    evaluate(cohort.DATASET, settings)
    pairs = [pair for pair in manifest.read(paths.dataset(cohort.DATASET)) if not pair.parent]
    of_test = {pair.case: pair for pair in pairs if pair.split == "test"}
    assert of_test.keys() & set(SCATTERED)
    assert of_test.keys() & set(LACKING)
    with (RUN / paths.PER_CASE).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    names = [label.name for label in datasets_spec.load(cohort.DATASET).dataset.label_map]
    assert {row["case"] for row in rows} == of_test.keys()
    whole = 0
    for row in rows:
        case, label = row["case"], names.index(row["class"])
        kept = KeptTruth.of(paths.converted(cohort.DATASET), of_test[case])
        truth = np.asarray(nib.load(kept.file("")).dataobj)
        guess = np.asarray(nib.load(RUN / paths.PREDICTIONS / "native" / f"{case}.nii.gz").dataobj)
        if case in LACKING and row["class"] == CLASS:
            assert (row["dice"], row["hd95_mm"], row["ignored_share"]) == ("", "", "1.000000")
            continue
        known = truth != IGNORED
        assert float(row["ignored_share"]) == pytest.approx(1 - known.mean(), abs=1e-6)
        both = ((truth == label) & (guess == label)).sum()
        total = (truth == label).sum() + (guess == label)[known].sum()
        assert int(row["both"]) == both
        assert (float(row["dice"]) if row["dice"] else None) == (
            pytest.approx(2 * both / total, abs=1e-6) if total else None
        )
        whole += case not in SCATTERED and bool(row["nsd"])
    assert whole
    found = json.loads((RUN / paths.SCORES).read_text("utf-8"))
    lacking = len(of_test.keys() & set(LACKING))
    assert found["model"]["classes"][CLASS]["not_annotated"] == lacking
    assert "which nobody annotated, are left out" in found["definitions"]["annotation"]
    assert found["slices_left_out"] == 0
    with (RUN / paths.HISTORY).open(newline="", encoding="utf-8") as stream:
        [epoch] = csv.DictReader(stream)
    assert all(math.isfinite(float(value)) for value in epoch.values() if value)
    report([cohort.DATASET], paths.PARAMS)
    page = (paths.REPORT / "index.html").read_text("utf-8")
    assert f"Nobody annotated {CLASS} in 2 cases" in page
    assert "they are hatched, and neither trained on nor scored" in page
