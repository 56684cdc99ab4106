"""A dataset's pairs opened as a library user opens them, by an explicit path from any folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import datasets_spec
from datasets_spec.contract import SPLITS
from pipeline import paths
from pipeline.api import open_pairs
from pipeline.pairs import manifest, png
from tests.conftest import Refused
from tests.support import cohort


@pytest.fixture
def folder(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset's folder, seen from a folder outside of the project."""
    cohort.prepare()
    elsewhere = workplace / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return Path("..") / paths.dataset(cohort.DATASET)


def test_the_samples_are_the_rows_with_their_pictures(folder: Path) -> None:
    samples = open_pairs(str(folder))
    assert list(samples.rows) == manifest.read(folder)
    label_map = datasets_spec.load(cohort.DATASET).dataset.label_map
    assert [label.colour for label in samples.label_map] == [label.colour for label in label_map]
    assert {sample.row.split for sample in samples} == set(SPLITS)
    for row, image, mask in samples:
        assert np.array_equal(image, png.read_image(folder / row.split / row.image))
        assert np.bincount(mask.ravel(), minlength=len(label_map)).tolist() == [*row.class_pixels]


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_has_its_rows_alone(folder: Path, split: str) -> None:
    samples = open_pairs(folder, split)
    assert {row.split for row in samples.rows} == {split}
    assert [one.row.id for one in samples[1:3]] == [row.id for row in samples.rows[1:3]]
    assert samples[-1].row == samples.rows[-1]


def test_pictures_are_read_when_they_are_asked_for(folder: Path, refused: Refused) -> None:
    samples = open_pairs(folder, "test")
    (folder / "test" / samples.rows[1].mask).unlink()
    assert samples[0].mask.any() == (not samples.rows[0].empty)
    assert samples.rows[1].mask in str(refused(lambda: samples[1]).where)


def test_another_folder_is_refused(folder: Path, refused: Refused) -> None:
    assert "'mini'" in refused(lambda: open_pairs(folder, "mini")).what
    (folder / paths.CARD).write_text('{"labels": [1]}')
    assert "a dataset card with a label map" in refused(lambda: open_pairs(folder)).what
    (folder / paths.MANIFEST).unlink()
    assert "expected a manifest" in refused(lambda: open_pairs(folder)).what
