"""The page for library users loads a model and predicts, as it states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102  # the page's own
    px = settings.convert.image_px
    assert names["ids"].shape == names["image"].shape == (px, px)
    assert names["probabilities"].shape[-1] == cohort.CLASSES
    assert np.allclose(names["probabilities"].sum(axis=-1), 1, atol=1e-3)
    assert names["ids"].max() < cohort.CLASSES
