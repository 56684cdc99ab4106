"""Without SimpleITK, pydicom gives the same bits, or a file is refused by its syntax's name."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid as uids

from datasets_spec.contract import Problem
from pipeline.volumes.dicom import assemble, decoders, header, pixels
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.dicom.pixel_data import READABLE
from tests.conftest import Refused
from tests.pipeline.volumes.dicom.test_assemble import real, write_series
from tests.support.every import every

__all__ = ["real"]  # a fixture
SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
NEED_SIMPLEITK = {uids.JPEGLossless, uids.JPEGLosslessSV1, uids.JPEGExtended12Bit}
STORED = [(16, 12, 0), (16, 12, 1), (16, 15, 1), (16, 16, 0), (16, 16, 1), (8, 8, 0), (32, 32, 1)]
RESCALES = [(None, None), (1, -1024), ("2.35", "-7.1"), ("0.0007", "0.3"), ("-1", "0"), (100000, 1)]
LOSSLESS = [uids.ExplicitVRLittleEndian, uids.RLELossless, uids.JPEGLSLossless]


def by_simpleitk(one: Instance, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.setattr(decoders, "find_spec", find_spec)
    return pixels.pixels(one)


def by_pydicom(one: Instance, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """As where SimpleITK is not installed."""
    monkeypatch.setattr(decoders, "find_spec", lambda _: None)
    return pixels.pixels(one)


def pictures(folder: Path) -> list[Instance]:
    """The single grey pictures below a folder that SimpleITK decodes."""
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            one = header.read(file)
            if isinstance(one, Instance) and one.photometric == "MONOCHROME2" and one.frames == 1:
                pixels.pixels(one)
                found.append(one)
        except Problem:
            continue
    return found


def same_or_refused(ones: list[Instance], monkeypatch: pytest.MonkeyPatch) -> set[uids.UID]:
    """The syntaxes of pictures that both decoders read alike; the others are refused by name."""
    alike = set()
    for one in ones:
        wanted = by_simpleitk(one, monkeypatch)
        if one.syntax in NEED_SIMPLEITK:
            with pytest.raises(Problem) as caught:
                by_pydicom(one, monkeypatch)
            assert f"expected a decoder of {one.syntax.name}, found none" in caught.value.what
            assert "pip install SimpleITK" in caught.value.remedy
            continue
        got = by_pydicom(one, monkeypatch)
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        assert got.tobytes() == wanted.tobytes(), one.file
        alike.add(one.syntax)
    return alike


def test_pydicoms_files_are_alike_in_every_syntax(monkeypatch: pytest.MonkeyPatch) -> None:
    ones = pictures(SHIPPED)
    assert len(ones) > 20
    assert same_or_refused(ones, monkeypatch) == READABLE - NEED_SIMPLEITK - {uids.JPEGBaseline8Bit}


def test_real_scans_are_alike_in_every_syntax(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head CT in six syntaxes, and an MR of nine files, whose pictures are mosaics."""
    ones = [one for file in real.glob("CT2_*") if isinstance(one := header.read(file), Instance)]
    ones += [
        one
        for file in next(real.rglob("dcm_qa_ts")).glob("*.dcm")
        if isinstance(one := header.read(file), Instance)
    ]
    assert len(ones) == 7 + 9
    needed = {uids.JPEGLosslessSV1, uids.ExplicitVRBigEndian, uids.ImplicitVRLittleEndian}
    assert needed <= {one.syntax for one in ones}
    assert len(same_or_refused(ones, monkeypatch)) == 8


@every(("bits", "rescale"), product(STORED, RESCALES))
def test_bits_and_rescale_are_taken_alike(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, bits: tuple[int, int, int], rescale: tuple
) -> None:
    """Overlays may lie in the bits above those stored."""
    allocated, stored, signed = bits

    def change(one: pydicom.Dataset, number: int) -> None:
        one.BitsAllocated, one.BitsStored, one.HighBit = allocated, stored, stored - 1
        one.PixelRepresentation = signed
        one.RescaleSlope, one.RescaleIntercept = rescale
        if rescale[0] is None:
            del one.RescaleSlope, one.RescaleIntercept
        one.PixelData = np.random.default_rng(stored).bytes(120 * allocated // 8)
        one["PixelData"].VR = "OW"

    folder = Path(f"series {bits} {rescale}")
    write_series(folder, 1, change)
    [one] = pictures(folder)
    assert same_or_refused([one], monkeypatch) == {uids.ExplicitVRLittleEndian}


@every(("syntax", "bits"), product(LOSSLESS, [(16, 12, 0), (16, 16, 1), (8, 8, 0)]))
def test_compressed_pixels_come_back_as_they_were(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, syntax: uids.UID, bits: tuple[int, int, int]
) -> None:
    allocated, stored, signed = bits
    least = -(1 << stored - 1) if signed else 0
    drawn = np.random.default_rng(1).integers(least, least + (1 << stored), (12, 10))

    def change(one: pydicom.Dataset, number: int) -> None:
        one.BitsAllocated, one.BitsStored, one.HighBit = allocated, stored, stored - 1
        one.PixelRepresentation = signed
        one.PixelData = drawn.astype(f"<{'i' if signed else 'u'}{allocated // 8}").tobytes()
        one["PixelData"].VR = "OW"
        if syntax != uids.ExplicitVRLittleEndian:
            one.compress(syntax, generate_instance_uid=False)

    folder = Path(f"series {syntax.name} {bits}")
    write_series(folder, 1, change)
    [one] = pictures(folder)
    assert same_or_refused([one], monkeypatch) == {syntax}
    np.testing.assert_array_equal(by_pydicom(one, monkeypatch), drawn * 2.0 - 100)


def test_a_series_is_read_alike(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(Path("series"))
    wanted = assemble.read_series(Path("series"))
    monkeypatch.setattr(decoders, "find_spec", lambda _: None)
    got = assemble.read_series(Path("series"))
    np.testing.assert_array_equal(got.array, wanted.array)
    assert got.findings == wanted.findings


def test_damaged_pixels_are_refused_in_one_line(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    def damaged(one: pydicom.Dataset, number: int) -> None:
        one.compress(uids.RLELossless, generate_instance_uid=False)
        one.PixelData = one.PixelData[:90] + bytes(len(one.PixelData) - 98) + one.PixelData[-8:]

    write_series(Path("series"), 1, damaged)
    monkeypatch.setattr(decoders, "find_spec", lambda _: None)
    [file] = Path("series").iterdir()
    one = header.read(file)
    assert isinstance(one, Instance)
    problem = refused(lambda: pixels.pixels(one))
    assert "the decoder's error" in problem.what
    assert "\n" not in problem.what
