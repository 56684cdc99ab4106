"""A run's folder is filled by one process at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from model import params
from model.evaluate import evaluate
from model.train import train
from pipeline import paths
from pipeline.runtime import locks
from tests.conftest import Refused
from tests.support import cohort

pytestmark = pytest.mark.slow
RUN = paths.run(cohort.DATASET)


@pytest.mark.parametrize("fill", [train, evaluate])
def test_a_run_that_another_fills_is_refused(
    fill: Callable[[str, params.Params], None], workplace: Path, refused: Refused
) -> None:
    settings = cohort.write_params()
    with locks.alone(RUN):
        problem = refused(lambda: fill(cohort.DATASET, settings))
    assert problem.where == str(RUN)
    assert "expected no other run" in problem.what
