"""The rows of the recipes' benchmark, which takes hours: each is one that can be trained."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import yaml

from model import params
from tests.benchmarks import recipe_rows
from tests.benchmarks.recipe_rows import DATASET
from tests.conftest import PROJECT

ROWS = {row.name: row for row in (*recipe_rows.path(), *recipe_rows.levers())}


@pytest.fixture(scope="module")
def stated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The parameters of each row, as the stages would read them."""
    content = yaml.safe_load((PROJECT / "params.yaml").read_text("utf-8"))
    file = tmp_path_factory.mktemp("rows") / "row.yaml"
    found = {}
    for name, row in ROWS.items():
        content["presets"], content["datasets"] = {}, {DATASET: row.entry}
        file.write_text(yaml.safe_dump(content), "utf-8")
        found[name] = asdict(params.load(DATASET, file))
    return found


def test_no_two_rows_have_one_name() -> None:
    assert len(ROWS) == len([*recipe_rows.path(), *recipe_rows.levers()])
    assert len(ROWS) > 20


@pytest.mark.parametrize("name", ROWS)
def test_a_row_changes_something_of_an_earlier_one(
    name: str, stated: dict[str, dict[str, Any]]
) -> None:
    row = ROWS[name]
    if not row.against:
        assert name in ("size", recipe_rows.BASE)
        return
    assert list(ROWS).index(row.against) < list(ROWS).index(name)
    before, after = stated[row.against], stated[name]
    assert (after != before) != row.unfused
    assert after["split"] == before["split"]
