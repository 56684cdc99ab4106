"""What is too large is refused by its header, in words that say which parameter to raise."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.params import reader as params
from pipeline.params.limits import Limits
from pipeline.volumes import limits
from tests.conftest import PROJECT, Refused

SMALL = Limits(voxels=1000, pixels=100)


def test_what_fits_exactly_is_read() -> None:
    limits.require_voxels((10, 10, 10), SMALL, "scan")
    limits.require_pixels((10, 10), SMALL, "picture")


def test_too_many_voxels_name_the_parameter(refused: Refused) -> None:
    problem = refused(lambda: limits.require_voxels((10, 10, 11), SMALL, "scan.nii"))
    assert "at most 1,000 voxels, got 10 x 10 x 11 = 1,100" in str(problem)
    assert "limits.voxels" in problem.remedy


def test_too_many_pixels_name_the_parameter(refused: Refused) -> None:
    problem = refused(lambda: limits.require_pixels((10, 11), SMALL, "slice.png"))
    assert "at most 100 pixels, got 10 x 11 = 110" in str(problem)
    assert "limits.pixels" in problem.remedy


def test_sides_that_overflow_a_machine_word_are_counted(refused: Refused) -> None:
    refused(lambda: limits.require_voxels((2**31, 2**31, 2**31), SMALL, "scan.nii"))


def test_the_parameter_file_states_the_defaults() -> None:
    assert params.limits(PROJECT / "params.yaml") == Limits()


def test_a_folder_without_parameters_has_the_defaults(workplace: Path) -> None:
    assert params.limits() == Limits()


def test_a_file_that_is_named_must_be_there(workplace: Path, refused: Refused) -> None:
    refused(lambda: params.limits(Path("other.yaml")))


@pytest.mark.parametrize("name", ["voxels", "pixels"])
def test_limits_are_checked(tmp_path: Path, refused: Refused, name: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("limits: " + repr({"voxels": 9, "pixels": 9} | {name: 0}))
    problem = refused(lambda: params.limits(file))
    assert problem.where == f"{file}: limits: {name}"
