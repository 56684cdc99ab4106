"""Scaled voxels are those of nibabel, in no larger a type than they need."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.volumes import nifti, scaling
from tests.support.every import every

SHAPE = (7, 6, 5)


def stored(dtype: str) -> np.ndarray:
    """Voxels that use the whole range of small types."""
    kind = np.dtype(dtype)
    rng = np.random.default_rng(3)
    if kind.kind == "f":
        return rng.normal(0, 300, SHAPE).astype(kind)
    ends = np.iinfo(kind)
    low, high = max(ends.min, -40_000), min(ends.max, 70_000)
    return rng.integers(low, high, SHAPE, endpoint=True).astype(kind)


def expected(array: np.ndarray, slope: float, inter: float) -> np.ndarray:
    return array.astype(np.float64) * slope + inter


TYPES = ["|u1", "|i1", "<i2", ">i2", "<u2", ">u2", "<i4", ">i4", "<f4", ">f4", "<f8", "<i8"]


@every("dtype", TYPES)
def test_values_are_those_of_the_formula_exactly(dtype: str) -> None:
    array = stored(dtype)
    for slope, inter in ((1, 0), (1, -1024), (2, 5), (0.5, 0), (0.7324, -1024.3), (-1, 3)):
        content = io.BytesIO(array.tobytes("F"))
        read = scaling.read(content, array.dtype, SHAPE, slope, inter)
        assert read.shape == SHAPE
        assert np.array_equal(read.astype(np.float64), expected(array, slope, inter))


@every(
    ("dtype", "slope", "inter", "kept"),
    [
        ("<i2", 1, 0, "<i2"),
        (">i2", 1, 0, ">i2"),
        ("|u1", 2, -1024, "<i2"),
        ("<i2", 1, -1024, "<i4"),
        ("<u2", 1, -1024, "<i4"),
        ("<i2", 0.5, 0, "<f8"),
        ("<i2", 0.7324, 0, "<f8"),
        ("<f4", 2, 0, "<f8"),
    ],
)
def test_whole_numbers_stay_whole(dtype: str, slope: float, inter: float, kept: str) -> None:
    content = io.BytesIO(stored(dtype).tobytes("F"))
    assert scaling.read(content, np.dtype(dtype), SHAPE, slope, inter).dtype.str == kept


@every("dtype", ["<i2", "<i4", "<f4", "<f8"])
def test_large_scans_are_rounded_to_single_precision(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "MOST_DOUBLES", 100)
    array, slope = stored(dtype), 1.0 if dtype == "<f8" else 0.7324
    content = io.BytesIO(array.tobytes("F"))
    read = scaling.read(content, array.dtype, SHAPE, slope, 0.0)
    assert read.dtype == np.float32
    assert np.array_equal(read, expected(array, slope, 0).astype(np.float32))


def test_content_that_ends_early_is_an_error() -> None:
    for dtype, slope in (("<i2", 1.0), ("<i2", 2.5), ("<f4", 2.5)):
        content = io.BytesIO(stored(dtype).tobytes("F")[:-1])
        with pytest.raises(EOFError):
            scaling.read(content, np.dtype(dtype), SHAPE, slope, 0.0)


@every(("slope", "bytes_a_voxel"), [(1.0, 2.6), (0.5, 7.0)])
def test_reading_a_scaled_scan_takes_no_second_copy(
    slope: float, bytes_a_voxel: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "MOST_DOUBLES", 1000)
    monkeypatch.setattr(scaling, "_PIECE", 1 << 14)
    array = np.random.default_rng(0).integers(0, 3000, (128, 128, 200)).astype(np.int16)
    image = nib.Nifti1Image(array, np.eye(4))
    image.header.set_slope_inter(slope, -1024)
    image.header["vox_offset"] = 352
    block = image.header.binaryblock
    for file, opener in ((tmp_path / "scan.nii", open), (tmp_path / "scan.nii.gz", gzip.open)):
        with opener(file, "wb") as target:
            target.write(block + bytes(352 - len(block)) + array.tobytes("F"))
        tracemalloc.start()
        read = nifti.read(file)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert np.array_equal(read.array, expected(array, slope, -1024))
        assert peak < bytes_a_voxel * array.size + 3e6
