"""What predict writes as NIfTI lies in the source's grid, whatever order its voxels have."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from model.delivery import niftis
from pipeline.volumes import nifti
from pipeline.volumes.volume import Grid
from tests.conftest import PROJECT
from tests.support.every import every

HEAD = (5, 6, 7)  # voxels along x, y, z
SIDES = np.array((1.0, 1.5, 4.0))  # mm
ORDERS = [
    (order, flips) for order in permutations(range(3)) for flips in product((1, -1), repeat=3)
]
STEP = 1 / 65535


def grid_of(order: tuple[int, ...], flips: tuple[int, ...]) -> Grid:
    """A head stored so that its voxel axes run along the world axes ``order``, or against them."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    affine[list(order), range(3)] = np.array(flips) * SIDES[list(order)]
    affine[:3, 3] = (-31, 17, 4)
    a, b, c = (HEAD[axis] for axis in order)
    return Grid((a, b, c), affine)


def values() -> np.ndarray:
    """A map (X, Y, Z) of which no two voxels are alike, from 0 to 1."""
    return np.linspace(0, 1, int(np.prod(HEAD)), dtype=np.float32).reshape(HEAD)


def write_map(file: Path, grid: Grid, source: Path | None, axis: int, step: int = 3) -> None:
    with niftis.MapWriter(file, grid, source, axis) as writer:
        for start in reversed(range(0, HEAD[axis], step)):
            slab = np.take(values(), range(start, min(start + step, HEAD[axis])), axis)
            writer.put(start, slab)


@every(("order", "flips"), ORDERS)
def test_class_ids_and_maps_lie_where_the_source_does(tmp_path: Path, order, flips) -> None:
    grid = grid_of(order, flips)
    ids = np.random.default_rng(1).integers(0, 5, HEAD).astype(np.uint8)
    niftis.write_ids(tmp_path / "ids.nii.gz", ids, grid, None)
    read = nifti.read(tmp_path / "ids.nii.gz")
    np.testing.assert_array_equal(read.array, ids)
    np.testing.assert_allclose(read.grid.affine, grid.affine)
    assert read.grid.shape == grid.shape
    for axis in range(3):
        file = tmp_path / f"map{axis}.nii.gz"
        write_map(file, grid, None, axis)
        read = nifti.read(file)
        np.testing.assert_allclose(read.array, values(), rtol=0, atol=0.51 * STEP)
        np.testing.assert_allclose(read.grid.affine, grid.affine)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_a_map_keeps_the_geometry_of_the_source_and_no_text_of_it(
    tmp_path: Path, kind, endianness
) -> None:
    grid = grid_of((1, 0, 2), (-1, 1, -1))
    header = kind.header_class(endianness=endianness)
    header["descrip"] = b"Jane Doe"
    scan = kind(np.zeros(grid.shape, np.int16), grid.affine, header)
    scan.set_qform(grid.affine, 1)
    scan.set_sform(grid.affine, 2)
    scan.header.set_xyzt_units("mm", "sec")
    scan.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    nib.save(scan, tmp_path / "scan.nii")
    write_map(tmp_path / "map.nii.gz", grid, tmp_path / "scan.nii", 2)
    made = nib.load(tmp_path / "map.nii.gz")
    assert type(made) is kind
    assert made.header.endianness == endianness
    assert (int(made.header["qform_code"]), int(made.header["sform_code"])) == (1, 2)
    assert made.header.get_xyzt_units() == ("mm", "sec")
    np.testing.assert_array_equal(made.affine, scan.affine)
    assert len(made.header.extensions) == 0
    assert not made.header["descrip"].item()
    read = nifti.read(tmp_path / "map.nii.gz")
    np.testing.assert_allclose(read.array, values(), rtol=0, atol=0.51 * STEP)


def test_the_same_map_has_the_same_bytes_in_slabs_of_any_size(tmp_path: Path) -> None:
    grid = grid_of((2, 0, 1), (1, -1, 1))
    made = []
    for name, step in (("a", 3), ("b", 1), ("c", 7)):
        write_map(tmp_path / name / "map.nii.gz", grid, None, 2, step)
        made.append((tmp_path / name / "map.nii.gz").read_bytes())
    assert made[0] == made[1] == made[2]
    ids = np.ones(HEAD, np.uint8)
    niftis.write_ids(tmp_path / "one.nii.gz", ids, grid, None)
    niftis.write_ids(tmp_path / "other" / "two.nii.gz", ids, grid, None)
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "other/two.nii.gz").read_bytes()


def test_a_map_of_larger_values_is_as_fine_in_its_own_range(tmp_path: Path) -> None:
    grid = grid_of((0, 1, 2), (1, 1, 1))
    with niftis.MapWriter(tmp_path / "map.nii.gz", grid, None, 0, highest=3) as writer:
        writer.put(0, 3 * values())
    read = nifti.read(tmp_path / "map.nii.gz")
    np.testing.assert_allclose(read.array, 3 * values(), rtol=0, atol=1.6 * STEP)


@pytest.mark.parametrize("wrong", [1.1, -0.5, np.nan])
def test_values_outside_the_range_are_a_mistake_of_the_caller(tmp_path: Path, wrong) -> None:
    with (
        pytest.raises(ValueError, match="values of a map"),
        niftis.MapWriter(tmp_path / "map.nii.gz", grid_of((0, 1, 2), (1, 1, 1)), None, 2) as writer,
    ):
        writer.put(0, np.full(HEAD, wrong, np.float32))
    assert not list(tmp_path.iterdir())


def test_a_map_that_is_not_complete_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "map.nii.gz"
    file.write_bytes(b"the map before")
    grid = grid_of((0, 1, 2), (1, 1, 1))
    with (
        pytest.raises(ValueError, match=r"4 slices of map\.nii\.gz are missing"),
        niftis.MapWriter(file, grid, None, 2) as writer,
    ):
        writer.put(0, values()[..., :3])
    with pytest.raises(KeyboardInterrupt):
        interrupted(niftis.MapWriter(file, grid, None, 2))
    assert file.read_bytes() == b"the map before"
    assert list(tmp_path.iterdir()) == [file]


def interrupted(map_writer: niftis.MapWriter) -> None:
    with map_writer as writer:
        writer.put(0, values())
        raise KeyboardInterrupt


LARGE = """
import resource, sys
from pathlib import Path
import numpy as np
from model.delivery import niftis
from pipeline.volumes.volume import Grid
slices = int(sys.argv[2])
grid = Grid((256, 256, slices), np.diag([-1.0, -1, 1, 1]))
with niftis.MapWriter(Path(sys.argv[1]), grid, None, 2) as writer:
    for start in range(0, slices, 8):
        writer.put(start, np.full((256, 256, 8), 0.5, np.float32))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_slices(tmp_path: Path) -> None:
    def peak(slices: int) -> int:
        run = [sys.executable, "-c", LARGE, tmp_path / f"{slices}.nii.gz", str(slices)]
        return int(subprocess.run(run, check=True, capture_output=True, cwd=PROJECT).stdout)

    few, many = peak(16), peak(800)
    assert many - few < 20_000, "KB, where the 100 MB of the map would be too much"
