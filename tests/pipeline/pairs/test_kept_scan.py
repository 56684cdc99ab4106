"""convert keeps the scan of a case in 8 bits on its source's grid: slices of any plane follow."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import datasets_spec
from datasets_spec.contract import PLANES, Window
from pipeline import paths
from pipeline.convert import convert
from pipeline.pairs import channels, kept_scan, manifest, png, scan_record
from pipeline.pairs.channels import Images, Views
from pipeline.pairs.manifest import Pair
from pipeline.volumes import reader, volume
from tests.conftest import Refused
from tests.pipeline.pairs import test_uneven_cases
from tests.pipeline.pairs.test_truth import (
    CONVERTED,
    Made,
    content,
    cut,
    made,  # noqa: F401  # a fixture
    of_each_kind,
    of_one_kind,
    pairs_of,
)
from tests.pipeline.pairs.test_uneven_cases import converted  # noqa: F401  # a fixture
from tests.support import channelled, cohort

pytestmark = pytest.mark.slow  # whole conversions

PX = 40


def drawn(views: Views) -> list[bytes]:
    return [views.picture(index).tobytes() for index in range(len(views))]


def of_raw(images: Images, plane: str, own_grey: bool = False, **how: Any) -> Views:
    """The scan itself as a network sees it that learns from kept scans."""
    facts = datasets_spec.load(cohort.DATASET).dataset
    wanted = channels.of(facts, how.pop("windows", {}))
    bounds = facts.window.bounds if facts.window else None
    return Views.of(images, wanted, plane, bounds, (0.5, 99.5), PX, own_grey, in_8_bits=True, **how)


@of_each_kind
@pytest.mark.parametrize(("neighbours", "field_mm"), [(0, 0.0), (2, 30.0)])
def test_a_kept_scan_shows_what_the_scan_shows_in_every_plane(
    made: Made,  # noqa: F811
    neighbours: int,
    field_mm: float,
) -> None:
    cases, settings = made
    how = {"neighbours": neighbours, "field_mm": field_mm}
    seen = set()
    for case in cases:
        scan = reader.read_image(case.first, settings.limits)
        kept = kept_scan.images(CONVERTED, pairs_of(case)[0], settings.limits)
        for plane in PLANES:
            own = drawn(of_raw(scan, plane, reader.has_own_grey(case.first), **how))
            again = of_raw(kept, plane, own_grey=True, **how)
            assert drawn(again) == own
            assert again.picture(0).shape == ((PX, PX, 5) if neighbours else (PX, PX))
            seen |= set(own)
    assert len(seen) > 30


@of_each_kind
def test_it_is_stored_as_its_source_and_differs_from_the_pairs_by_one_grey_at_most(
    made: Made,  # noqa: F811
) -> None:
    """Read by nibabel alone; where a slice is not resized nothing differs."""
    cases, settings = made
    for case in cases:
        pairs = pairs_of(case)
        file = nib.load((CONVERTED / pairs[0].scan).parent / "scan.nii.gz")
        scan = reader.read_image(case.first, settings.limits)
        greys = np.asanyarray(file.dataobj)
        assert greys.dtype == np.uint8
        exact = np.rint(volume.to_8_bit(scan.grid.from_ras(scan.array), pairs[0].window))
        assert np.array_equal(greys, exact)
        kept = kept_scan.images(CONVERTED, pairs[0], settings.limits)
        px = settings.convert.image_px
        views = Views.of(kept, (), pairs[0].plane, None, (0, 100), px, True, in_8_bits=True)
        for pair in pairs:
            ours = views.picture(pair.slice_index).astype(int)
            apart = np.abs(ours - png.read_image(CONVERTED / pair.image)).max()
            assert apart <= (0 if isinstance(case.first, tuple) else 1)
        assert views.canvas.values() == pairs[0].canvas


def rows_of(name: str) -> list[Pair]:
    return [pair for pair in manifest.read(CONVERTED) if pair.case == name]


def test_every_sequence_that_a_case_has_is_kept(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channelled.sequences(monkeypatch, 2, patients=3)
    settings = cohort.write_params()
    convert(cohort.DATASET, settings, 1)
    for patient, names in (("sub-01", ("t1w", "flair")), (channelled.LACKING, ("t1w",))):
        kept = kept_scan.images(CONVERTED, rows_of(patient)[0])
        raw = {name: reader.read_image(channelled.raw(patient, name)) for name in names}
        assert isinstance(kept, Mapping)
        assert tuple(kept) == names
        for plane in PLANES:
            pictures = drawn(of_raw(raw, plane, neighbours=1))
            assert drawn(of_raw(kept, plane, own_grey=True, neighbours=1)) == pictures
        files = {scan_record.volume_name(name, uneven=False) for name in names}
        there = {file.name for file in (CONVERTED / paths.SCANS / patient).iterdir()}
        assert there == {*files, "scan.json"}


def test_every_window_of_a_ct_is_kept(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channelled.ct(monkeypatch, patients=3)
    settings = cohort.write_params(**{"convert.windows": {"brain": [40, 80], "bone": [700, 3200]}})
    convert(cohort.DATASET, settings, 1)
    [first, *_] = rows_of("sub-01")
    kept = kept_scan.images(CONVERTED, first)
    scan = reader.read_image(channelled.raw("sub-01", "T1w"))
    assert isinstance(kept, Mapping)
    assert list(kept) == ["brain", "bone"]
    for name, (level, width) in settings.convert.in_hu.items():
        greys = np.rint(volume.to_8_bit(scan.array, Window(level, width).bounds))
        assert np.array_equal(kept[name].array, greys)
    how: dict[str, Any] = {"windows": settings.convert.in_hu, "neighbours": 1}
    for plane in PLANES:
        assert drawn(of_raw(kept, plane, own_grey=True, **how)) == drawn(of_raw(scan, plane, **how))


def test_slices_of_uneven_spacing_keep_their_places(
    converted: test_uneven_cases.Converted,  # noqa: F811
) -> None:
    case = test_uneven_cases.case_of(1, tilt=0.3)
    even = [test_uneven_cases.case_of(number, test_uneven_cases.EVEN) for number in (2, 3)]
    pairs = converted(case, *even)["sub-01"]
    scan = reader.read_image(case.first)
    kept = channels.first(kept_scan.images(CONVERTED, pairs[0]))
    assert scan.uneven
    assert kept.uneven
    assert np.array_equal(kept.uneven.places, scan.uneven.places)
    assert np.array_equal(kept.uneven.normal, scan.uneven.normal)
    assert drawn(of_raw(kept, "axial", own_grey=True)) == drawn(of_raw(scan, "axial"))
    there = sorted(file.name for file in (CONVERTED / paths.SCANS / "sub-01").iterdir())
    assert there == ["scan.json", "scan.npz"]


@of_one_kind
@pytest.mark.parametrize("damage", [Path.unlink, cut])
@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.json"])
def test_a_case_whose_scan_is_damaged_is_made_again(
    made: Made,  # noqa: F811
    name: str,
    damage: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, settings = made
    before = content(CONVERTED)
    damage(CONVERTED / paths.SCANS / "sub-02" / name)
    capsys.readouterr()
    convert(cohort.DATASET, settings, 1)
    assert "2 kept, 1 to make" in capsys.readouterr().out
    assert content(CONVERTED) == before


@of_one_kind
def test_scans_are_removed_with_their_case(made: Made) -> None:  # noqa: F811
    cases, settings = made
    cases.pop()
    stray = CONVERTED / paths.SCANS / "sub-01" / "scan_t1w.nii.gz"
    stray.touch()
    (CONVERTED / paths.SCANS / "sub-01" / "scan.json").unlink()
    convert(cohort.DATASET, settings, 1)
    assert sorted(file.name for file in (CONVERTED / paths.SCANS).iterdir()) == ["sub-01", "sub-02"]
    assert not stray.exists()


@of_one_kind
@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.json"])
def test_scans_of_another_conversion_are_refused(
    made: Made,  # noqa: F811
    name: str,
    refused: Refused,
) -> None:
    cases, _ = made
    pair, *_ = pairs_of(cases[0])
    here = CONVERTED / paths.SCANS
    shutil.copy(here / "sub-02" / name, here / "sub-01" / name)
    problem = refused(lambda: kept_scan.images(CONVERTED, pair))
    assert problem.where == str(here / "sub-01" / name)
    assert f"python -m pipeline convert {cohort.DATASET}" in problem.remedy
