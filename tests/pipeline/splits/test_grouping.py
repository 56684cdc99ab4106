"""Groups of pictures whose patients are unknown: who is joined, by what, and who is not."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import paths
from pipeline.pairs import likeness, manifest
from pipeline.pairs.manifest import Pair
from pipeline.params import reader as params
from pipeline.splits import grouping
from pipeline.splits.grouping import COPY, NAMES, NEAR_DUPLICATE, NEIGHBOUR, Groups
from tests.conftest import PROJECT, Refused

Picture = NDArray[np.uint8]
SETTINGS = params.load("virtual_mni152", PROJECT / paths.PARAMS).split
SLICES = 8


def scan(seed: int, step: float = 1.0) -> list[Picture]:
    """Slices of a smooth body: two that follow each other are alike, ends and strangers are not."""
    rng = np.random.default_rng(seed)
    anchors = [cv2.GaussianBlur(rng.normal(size=(128, 128)), (0, 0), 6) for _ in range(9)]
    pictures = []
    for number in range(SLICES):
        at = number * step / 4
        below, share = int(at), at - int(at)
        mixed = (1 - share) * anchors[below] + share * anchors[below + 1]
        pictures.append(np.clip(128 + 60 * mixed / mixed.std(), 0, 255).astype(np.uint8))
    return pictures


def album(*scans: Sequence[Picture]) -> tuple[list[Pair], dict[str, Picture], dict[str, str]]:
    """The pairs, pictures and paths of slices that are cases of their own, in the scans' order."""
    pairs, pictures, order = [], {}, {}
    for number, picture in enumerate(one for slices in scans for one in slices):
        name = f"c{number:03d}"
        pairs.append(
            manifest.blank(
                name,
                case=name,
                patient=name,
                image_digest=str(hash(picture.tobytes())),
                likeness=likeness.perceptual_hash(picture),
            )
        )
        pictures[name], order[name] = picture, f"PNG/{number}.png"
    return pairs, pictures, order


def grouped(*scans: Sequence[Picture], names: bool = True) -> Groups:
    pairs, pictures, order = album(*scans)
    shown = order if names else {case: f"{case}/0.png" for case in order}
    return grouping.groups(pairs, lambda pair: pictures[pair.id], shown)


def brighter(picture: Picture) -> Picture:
    return np.clip(picture.astype(int) + 9, 0, 255).astype(np.uint8)


def test_slices_whose_names_follow_each_other_are_one_group() -> None:
    found = grouped(scan(1), scan(2), scan(3), scan(4))
    assert found.names == [f"group-c{SLICES * (n // SLICES):03d}" for n in range(4 * SLICES)]
    assert found.sizes() == [SLICES] * 4
    assert found.by_names
    assert found.basis == grouping.GROUPED_BY_NAMES


def test_names_in_other_folders_do_not_follow_each_other() -> None:
    found = grouped(scan(1), scan(2), names=False)
    assert NAMES not in {link.basis for link in found.links}
    assert found.basis == grouping.GROUPED


def test_nearly_equal_slices_are_joined_whatever_their_names() -> None:
    found = grouped(scan(1, step=0.1), scan(2, step=0.1), scan(3, step=0.1), names=False)
    assert found.sizes() == [SLICES] * 3
    assert {link.basis for link in found.links} <= {NEIGHBOUR, NEAR_DUPLICATE}


def test_names_without_order_tell_nothing() -> None:
    slices = [one for seed in range(6) for one in scan(seed)]
    order = np.random.default_rng(0).permutation(len(slices))
    assert not grouped([slices[at] for at in order]).by_names
    assert grouped(slices).by_names


def test_the_order_of_the_pictures_changes_nothing() -> None:
    pairs, pictures, order = album(scan(1), scan(2), scan(3))

    def of(some: Sequence[Pair]) -> dict[str, str]:
        return grouping.groups(some, lambda pair: pictures[pair.id], order).of_patient()

    mixed = [pairs[at] for at in np.random.default_rng(0).permutation(len(pairs))]
    assert of(pairs) == of(pairs[::-1]) == of(mixed)


@pytest.mark.parametrize("by_names", [True, False])
def test_copies_and_near_duplicates_are_joined_in_any_folder(by_names: bool) -> None:
    one, other = scan(1)[0], scan(2)[0]
    pictures = [one, other, one, brighter(other), np.ascontiguousarray(other[:, ::-1])]
    found = grouped(pictures, names=by_names)
    assert found.names == ["group-c000", "group-c001", "group-c000", "group-c001", "group-c001"]
    links = {(one.first, one.second): one.basis for one in found.links}
    assert links[0, 2] == COPY
    assert {links[1, 3], links[1, 4], links[3, 4]} <= {NEAR_DUPLICATE, NAMES}


def test_blank_copies_are_no_copies() -> None:
    blank = np.zeros((128, 128), np.uint8)
    faint = blank.copy()
    faint[0, 0] = 1
    found = grouped([blank, blank, faint, faint], names=False)
    assert found.names == ["c000", "c001", "group-c002", "group-c002"]


def test_slices_of_a_known_case_stay_together_and_join_others() -> None:
    pairs, pictures, order = album(scan(1)[:3], [brighter(scan(1)[2])])
    of_case = [
        replace(pair, case="stack", patient="stack", slice_index=at)
        for at, pair in enumerate(pairs[:3])
    ]
    found = grouping.groups(
        [*of_case, pairs[3]], lambda pair: pictures[pair.id], {**order, "stack": "stack/0.png"}
    )
    assert set(found.names) == {"group-c003"}


def test_regrouped_pairs_name_their_group_and_its_basis() -> None:
    pairs, pictures, order = album(scan(1), [scan(2)[0]])
    found = grouping.groups(pairs, lambda pair: pictures[pair.id], order)
    child = replace(pairs[0], id="v_c000", parent="c000")
    *slices, single, augmented = grouping.regrouped([*pairs, child], found)
    assert {pair.patient for pair in slices} == {"group-c000"}
    assert {pair.patient_basis for pair in slices} == {grouping.GROUPED_BY_NAMES}
    assert (single.patient, single.patient_basis) == ("c008", grouping.ALONE)
    assert augmented.patient == "group-c000"


def test_all_pairs_are_listed(tmp_path: Path) -> None:
    picture = scan(1)[0]
    copies = [brighter(picture) if n % 2 else picture[::-1].copy() for n in range(12)]
    found = grouped([picture, *copies], names=False)
    found.write(tmp_path / "new" / "likeness.csv")
    with (tmp_path / "new" / "likeness.csv").open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert tuple(header) == grouping.COLUMNS
    assert rows == sorted(rows)
    assert {row[4] for row in rows} == {"group-c000"}
    assert {name for row in rows for name in row[:2]} == {f"c{n:03d}" for n in range(13)}
    assert all(float(row[2]) >= 0.96 for row in rows)


def test_a_group_that_no_split_can_hold_is_refused(refused: Refused) -> None:
    grouping.require_small("name", grouped(scan(1), scan(2), scan(3)), SETTINGS)
    problem = refused(
        lambda: grouping.require_small("name", grouped(scan(1), [scan(2)[0]]), SETTINGS)
    )
    assert "8 in group-c000" in problem.what
    assert "Dataset.patients" in problem.remedy
