"""The page for library users loads a model and predicts, as it states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import pytest

from pipeline import paths
from tests.conftest import PROJECT
from tests.support import cohort
from tests.support.models import save_untrained

pytestmark = pytest.mark.slow  # it imports Keras

PAGE = PROJECT / "docs" / "how-to" / "use-as-a-library.md"


def test_the_code_of_the_page_predicts_class_ids(workplace: Path) -> None:
    section = PAGE.read_text("utf-8").partition("## Load a model and predict\n")[2]
    code = section.split("```")[1].removeprefix("python")
    settings = cohort.prepare()
    save_untrained(cohort.DATASET, settings)
    raw = next(paths.raw(cohort.DATASET).rglob("*_T1w.nii"))
    own = nib.load(raw)
    nib.save(own, "scan.nii.gz")
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102  # the page's own
    assert names["ids"].shape == names["scan"].array.shape
    assert names["in_the_files_own_axes"].shape == own.shape
    assert names["ids"].max() < cohort.CLASSES
