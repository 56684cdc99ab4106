"""A case whose classes differ in volume from those of the other cases is reported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.splits.outliers import outliers
from pipeline.volumes.findings import text, texts
from tests.support import cohort

CANVAS = (64.0, 24.0, 20.0, 2.0, 2.0, 8.0, 12.0)


def rows(volumes, label_map, affine=None, rater=""):
    """One case of two slices per entry: picture pixels of the classes above background."""
    rows = []
    for number, pixels in enumerate(volumes):
        for index in range(2):
            changes = {} if affine is None else {"affine": tuple(np.ravel(affine[number]))}
            rows.append(
                cohort.pair(
                    f"case{number:02d}_{index:04d}",
                    slice_index=index,
                    rater=rater,
                    canvas=CANVAS,
                    class_pixels=(4096 - sum(pixels), *pixels),
                    **changes,
                )
            )
    return rows


def like_organs(count, seed=0):
    rng = np.random.default_rng(seed)
    return [tuple(np.rint(rng.normal((900, 400), (90, 40))).astype(int)) for _ in range(count)]


def test_cases_like_each_other_are_not_reported(label_map):
    assert outliers(rows(like_organs(40), label_map), label_map) == {}


@pytest.mark.parametrize(("times", "expected"), [(3, "2."), (0.2, "0.")])
def test_an_organ_of_another_size_is_reported(label_map, times, expected):
    volumes = like_organs(20)
    volumes[7] = (int(900 * times), 400)
    [(case, [found])] = outliers(rows(volumes, label_map), label_map).items()
    words = text(found)
    assert case == ("case07", "")
    assert words.startswith(f"amount: {expected}") or words.startswith("amount: 3")
    assert words.endswith("times the dataset's median volume of core")


def test_lesions_vary_a_hundredfold_and_are_excused(label_map):
    rng = np.random.default_rng(0)
    volumes = [(int(size), 1) for size in np.exp(rng.normal(4, 1.5, 60)) + 1]
    assert outliers(rows(volumes, label_map), label_map) == {}


def test_a_class_that_nearly_all_cases_have_is_missed(label_map):
    volumes = like_organs(40)
    volumes[3] = (900, 0)
    [(case, found)] = outliers(rows(volumes, label_map), label_map).items()
    assert case == ("case03", "")
    assert texts(found) == "amount: no rim, which 39 of 40 cases have"


def test_a_class_that_some_cases_have_is_not_missed(label_map):
    volumes = [(900, 400 if number % 4 else 0) for number in range(40)]
    assert outliers(rows(volumes, label_map), label_map) == {}


def test_few_cases_say_nothing(label_map):
    volumes = [*like_organs(8), (4000, 90)]
    assert outliers(rows(volumes, label_map), label_map) == {}


def test_what_counts_is_the_volume_and_not_the_pixels(label_map):
    affine = np.tile(np.eye(4), (12, 1, 1))
    affine[5] = np.diag([1, 1, 0.25, 1])
    volumes = [(900, 400)] * 12
    volumes[5] = (3600, 400)
    [(case, found)] = outliers(rows(volumes, label_map, affine), label_map).items()
    assert case == ("case05", "")
    assert texts(found) == "amount: 0.25 times the dataset's median volume of rim"


def test_slices_of_uneven_spacing_count_with_their_own_thickness(label_map):
    """Whatever the mean of their spacing is, which a gap may have made a hundred times as large."""
    affine = np.tile(np.eye(4), (12, 1, 1))
    affine[5] = np.diag([1, 1, 100, 1])
    volumes = [(900, 400)] * 12
    found = rows(volumes, label_map, affine)
    thick = [replace(pair, thickness_mm=1.0) if pair.case == "case05" else pair for pair in found]
    assert outliers(thick, label_map) == {}
    thicker = [
        replace(pair, thickness_mm=4.0 if pair.slice_index else 2.0)
        if pair.case == "case05"
        else pair
        for pair in found
    ]
    [(case, [one, _])] = outliers(thicker, label_map).items()
    assert case == ("case05", "")
    assert text(one) == "amount: 3 times the dataset's median volume of core"
