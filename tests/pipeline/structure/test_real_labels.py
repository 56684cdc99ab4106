"""The rules of real hippocampi, and that their shuffled labels have none."""

from __future__ import annotations

from itertools import product

import nibabel as nib
import numpy as np
import pytest

from pipeline.structure.label_rules import DIVIDED, ONCE, LabelRule
from pipeline.structure.probe import Drawing, probe
from pipeline.volumes.volume import Grid, slices
from tests.conftest import PROJECT
from tests.support.anatomy import Ids
from tests.support.every import every
from tests.support.shuffles import SHUFFLES

FOLDER = PROJECT.parent / "shared" / "data" / "Task04_Hippocampus" / "labelsTr"
FILES = sorted(FOLDER.glob("hippocampus_*.nii.gz"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FILES, reason="the scans beside the project are not here"),
]
Known = list[tuple[str, Ids, np.ndarray]]


@pytest.fixture(scope="module")
def hippocampi() -> Known:
    known = []
    for file in FILES:
        label = nib.load(file)
        grid = Grid(label.shape, label.affine)
        ids = grid.to_ras(np.asanyarray(label.dataobj).astype(np.uint8))
        known.append((file.name, slices(ids, "axial"), grid.world("axial")))
    return known


def test_a_coronal_plane_divides_them(hippocampi: Known) -> None:
    drawn = [Drawing(name, lambda ids=ids, at=at: (ids, at)) for name, ids, at in hippocampi]
    divided, *others = probe(drawn, 3).rules
    assert divided.rule == LabelRule(DIVIDED, (1, 2), (0.0, 1.0, 0.0))
    assert (divided.patients, divided.exact) == (160, 125)
    assert divided.dice == pytest.approx(0.998, abs=0.0005)
    assert [one.rule for one in others] == [LabelRule(ONCE, (1,)), LabelRule(ONCE, (2,))]


@every(["way", "seed"], product(SHUFFLES, range(5)))
def test_their_shuffled_labels_obey_nothing(hippocampi: Known, way: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shuffled = [(name, SHUFFLES[way](ids, rng), at) for name, ids, at in hippocampi[seed::4]]
    drawn = [Drawing(name, lambda ids=ids, at=at: (ids, at)) for name, ids, at in shuffled]
    assert probe(drawn, 3).rules == ()
