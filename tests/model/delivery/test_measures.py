"""What is counted of a mask: millilitres, components, their places in the world, their slices."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from datasets_spec.contract import PLANES, Label, LabelMap
from model.delivery import measures
from model.delivery.measures import COLUMNS, Row, measured
from pipeline.volumes import volume
from pipeline.volumes.volume import Grid

LABELS = LabelMap(
    (
        Label(0, "background", (0, 0, 0), "everything else"),
        Label(1, "blood", (213, 94, 0), "blood"),
        Label(2, "oedema", (86, 180, 233), "oedema"),
    )
)
AFFINES = {
    "RAS": np.diag([0.5, 0.7, 4.0, 1.0]),
    "LPS": np.array([[-0.5, 0, 0, 90], [0, -0.7, 0, 60], [0, 0, 4, -20], [0, 0, 0, 1.0]]),
    "ASR, turned": np.array(
        [[0.1, 0, 3, -40], [0.6, 0.05, 0, -30], [0, 0.8, 0.2, 7], [0, 0, 0, 1.0]]
    ),
    "tilted gantry, sheared": np.array(
        [[-0.5, 0, 0, 80], [0, -0.5, -1.6, 70], [0, 0, 4.7, -35], [0, 0, 0, 1.0]]
    ),
}


def of_kind(rows: list[Row], kind: str, name: str) -> list[dict[str, Any]]:
    return [dict(row) for row in rows if (row["kind"], row["class"]) == (kind, name)]


def noise(seed: int, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.choice(np.array([0, 1, 2], np.uint8), shape, p=[0.8, 0.1, 0.1])


def test_two_lesions_by_hand() -> None:
    """Voxels of 2 x 3 x 5 mm = 0.03 ml; x runs to the left in the file."""
    own = np.zeros((10, 8, 6), np.uint8)
    own[2:4, 1:3, 1:4] = 1  # 12 voxels
    own[7, 5, 4] = 1
    affine = np.array([[-2, 0, 0, 30], [0, 3, 0, -10], [0, 0, 5, 100], [0, 0, 0, 1.0]])
    grid = Grid((10, 8, 6), affine)
    rows = measured("a", volume.slices(grid.to_ras(own), "axial"), LABELS, grid)
    [whole] = of_kind(rows, "class", "blood")
    first, second = of_kind(rows, "component", "blood")
    assert (whole["ml"], whole["voxels"], whole["components"]) == (0.39, 13, 2)
    assert (whole["first_slice"], whole["last_slice"], whole["slices"]) == (2, 5, 4)
    assert (first["component"], first["ml"], first["voxels"]) == (1, 0.36, 12)
    assert [first[f"{axis}_mm"] for axis in "xyz"] == [30 - 2 * 2.5, -10 + 3 * 1.5, 100 + 5 * 2]
    assert (first["first_slice"], first["last_slice"], first["slices"]) == (2, 4, 3)
    assert [second[f"{axis}_mm"] for axis in "xyz"] == [30 - 2 * 7, -10 + 3 * 5, 100 + 5 * 4]
    # in the slice as shown the patient's right, where the file ends, is on the left; anterior is up
    assert (second["row"], second["column"]) == (8 - 5, 7 + 1)
    [nothing] = of_kind(rows, "class", "oedema")
    assert (nothing["ml"], nothing["voxels"], nothing["slices"], nothing["components"]) == (
        0,
        0,
        0,
        0,
    )
    assert nothing["x_mm"] is nothing["first_slice"] is None


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("name", AFFINES)
def test_places_and_sizes_are_those_that_scipy_finds_in_the_file(name: str, plane: str) -> None:
    shape = (9, 11, 7)
    own, grid = noise(3, shape), Grid(shape, AFFINES[name])
    rows = measured("a", volume.slices(grid.to_ras(own), plane), LABELS, grid, plane)
    for label in LABELS.foreground:
        numbers, count = ndimage.label(own == label.id, np.ones((3, 3, 3)))
        index = np.arange(1, count + 1)
        centres = np.array(ndimage.center_of_mass(own == label.id, numbers, index))
        places = centres @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        sizes = ndimage.sum_labels(np.ones(shape), numbers, index)
        found = of_kind(rows, "component", label.name)
        assert len(found) == count > 1
        got = sorted((row["voxels"], *(row[f"{axis}_mm"] for axis in "xyz")) for row in found)
        wanted = sorted((size, *place.round(3)) for size, place in zip(sizes, places, strict=True))
        np.testing.assert_allclose(got, wanted, atol=2e-3)
        assert [row["voxels"] for row in found] == sorted(sizes, reverse=True)
        [whole] = of_kind(rows, "class", label.name)
        assert whole["ml"] == pytest.approx((own == label.id).sum() * grid.voxel_ml, abs=1e-6)


def test_slices_are_counted_as_the_viewer_shows_them() -> None:
    own = np.zeros((4, 5, 6), np.uint8)
    own[:, :, 5] = 1  # in the file the last slice, which lies lowest
    grid = Grid((4, 5, 6), np.diag([1.0, 1.0, -2.0, 1.0]))
    stack = volume.slices(grid.to_ras(own), "axial")
    [row] = of_kind(measured("a", stack, LABELS, grid), "component", "blood")
    assert (row["first_slice"], row["last_slice"]) == (1, 1)
    assert row["z_mm"] == -10


def test_pictures_have_pixels_and_no_millilitres() -> None:
    ids = np.zeros((2, 6, 7), np.uint8)
    ids[0, 1:3, 1:3] = ids[1, 1:3, 1:3] = 1  # one above the other, and yet two
    ids[0, 3, 3] = 1  # by its corner
    rows = measured("a", ids, LABELS)
    assert [row["voxels"] for row in of_kind(rows, "component", "blood")] == [5, 4]
    for row in rows:
        assert row["ml"] is row["x_mm"] is row["y_mm"] is row["z_mm"] is None


def test_thousands_of_components_are_summed_beyond_the_largest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measures, "MOST_LISTED", 3)
    ids = np.zeros((1, 9, 40), np.uint8)
    for number in range(10):
        ids[0, : min(number + 1, 9), 4 * number] = 2
    rows = measured("a", ids, LABELS, Grid((40, 9, 1), np.eye(4)))
    assert [row["voxels"] for row in of_kind(rows, "component", "oedema")] == [9, 9, 8]
    [rest], [whole] = of_kind(rows, "rest", "oedema"), of_kind(rows, "class", "oedema")
    assert (rest["voxels"], rest["components"], rest["ml"]) == (1 + 2 + 3 + 4 + 5 + 6 + 7, 7, 0.028)
    assert (whole["voxels"], whole["components"]) == (54, 10)
    assert of_kind(rows, "rest", "blood") == []


def test_rows_survive_json_and_become_a_table(tmp_path: Path) -> None:
    grid = Grid((5, 5, 5), AFFINES["RAS"])
    rows = measured("=cmd()", noise(1, (5, 5, 5)), LABELS, grid)
    again = json.loads(json.dumps(rows, allow_nan=False))
    assert again == rows
    measures.write_csv(tmp_path / "volumes.csv", again)
    with (tmp_path / "volumes.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == len(rows) > 5
    assert list(table[0]) == list(COLUMNS)
    for read, row in zip(table, rows, strict=True):
        assert read["scan"] == "'=cmd()"  # no spreadsheet runs it
        assert read["ml"] == str(row["ml"])
        assert read["component"] == ("" if row["component"] is None else str(row["component"]))
        assert read["y_mm"] == ("" if row["y_mm"] is None else str(row["y_mm"]))
