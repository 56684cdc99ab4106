"""Which patient goes where: properties over random cohorts.

Tolerance, for 12 patients and up to six classes, or more patients: with shares of patients, a
split is within one patient of its share; with shares of slices, within one and a half times the
slices of the largest patient. Smaller cohorts have at least a patient in every split.

A new patient moves few of the old: 1.5 in the mean and 8 at most over the 100 cohorts of
tests/benchmarks/placement.md, which also has scikit-learn's splitter for comparison.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datasets_spec.contract import SPLITS, Case, Label, LabelMap, Problem, unchecked
from pipeline import paths
from pipeline.pairs.manifest import Pair
from pipeline.params import reader as params
from pipeline.runtime.imports import closure
from pipeline.sources import listing
from pipeline.splits.placement import Placement, assign, gaps
from tests.conftest import PROJECT, Refused
from tests.support.cohort import pair, random_patients

pytestmark = pytest.mark.slow

DEFAULT = params.load("virtual_mni152", PROJECT / paths.PARAMS).split


@st.composite
def cohorts(draw: st.DrawFn, least: int = 3, official: bool = False) -> list[Pair]:
    """Rows of few patients: 1 to 60 slices, up to 5 classes, some shown by one patient alone."""
    patients = draw(st.integers(least, 40))
    classes = draw(st.integers(1, 5))
    rows = []
    for number in range(patients):
        shown = draw(st.integers(0, 2**classes - 1))
        shown &= draw(st.integers(0, 2**classes - 1))  # a class more often not shown than shown
        slices = draw(st.sampled_from([1, 2, 3, 10, 60]))
        listed = draw(st.sampled_from(["train", "test"])) if official and number > 2 else ""
        if official and number <= 2:
            listed = ("train", "train", "test")[number]
        drawn = tuple((shown >> k & 1) * draw(st.sampled_from([1, 2000])) for k in range(classes))
        rows += [
            pair(
                f"p{number:02d}_{index}",
                case=f"p{number:02d}{'ab'[index % 2]}",
                official_split=listed,
                class_pixels=(262144 - sum(drawn), *drawn),
            )
            for index in range(slices)
        ]
    return rows


def shown(rows: Sequence[Pair]) -> dict[str, set[int]]:
    """Patient -> the classes that it shows."""
    found: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        found[row.patient] |= {k for k, count in enumerate(row.class_pixels) if k and count}
    return found


def of(place: Placement, split: str) -> set[str]:
    return {patient for patient, where in place.items() if where == split}


def classes_of(rows: Sequence[Pair], patients: set[str]) -> set[int]:
    theirs = shown(rows)
    return {class_id for patient in patients for class_id in theirs[patient]}


@settings(max_examples=150, deadline=None)
@given(cohorts(), st.sampled_from(["patients", "slices"]))
def test_every_patient_has_one_place_and_every_split_a_patient(
    rows: list[Pair], share_of: str
) -> None:
    place = assign("any", rows, replace(DEFAULT, share_of=share_of))
    assert place.keys() == {row.patient for row in rows}
    assert set(place.values()) == set(SPLITS)


@settings(max_examples=150, deadline=None)
@given(cohorts(), st.sampled_from(["patients", "slices"]))
def test_train_shows_every_class_if_there_are_two_patients_more_than_classes(
    rows: list[Pair], share_of: str
) -> None:
    place = assign("any", rows, replace(DEFAULT, share_of=share_of))
    everything = classes_of(rows, set(place))
    assume(len(place) >= len(everything) + 2)
    assert classes_of(rows, of(place, "train")) == everything


@settings(max_examples=150, deadline=None)
@given(cohorts(official=True))
def test_official_lists_are_kept_and_train_shows_what_valid_shows(rows: list[Pair]) -> None:
    listed = {row.patient: row.official_split for row in rows}
    place = assign("any", rows, DEFAULT)
    assert of(place, "test") == {patient for patient, where in listed.items() if where == "test"}
    assert of(place, "valid")
    open_to_all = of(place, "train") | of(place, "valid")
    reachable = classes_of(rows, open_to_all)
    assume(len(open_to_all) >= len(reachable) + 1)
    assert classes_of(rows, of(place, "train")) == reachable


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(24, 120), st.sampled_from(["patients", "slices"]))
def test_shares_are_kept_within_the_tolerance(seed: int, patients: int, share_of: str) -> None:
    """Fewer patients may have to be moved further, so that each split shows the classes."""
    rows = random_patients(seed, patients)
    place = assign("any", rows, replace(DEFAULT, share_of=share_of))
    slices = Counter(row.patient for row in rows)
    weight = slices if share_of == "slices" else dict.fromkeys(slices, 1)
    for split in SPLITS:
        off = sum(weight[one] for one in of(place, split)) - (
            getattr(DEFAULT.shares, split) * sum(weight.values())
        )
        assert abs(off) <= (1.5 * max(weight.values()) if share_of == "slices" else 1 + 1e-9)


def with_sites(rows: Sequence[Pair]) -> list[Pair]:
    """The rows of random patients, of whom six in ten are of site A, three of B and one of C."""
    sites = {
        f"p{n:04d}": "AAAAAABBBC"[np.random.default_rng([1, n]).integers(10)] for n in range(500)
    }
    return [replace(row, strata=f'{{"site": "{sites[row.patient]}"}}') for row in rows]


def off(rows: Sequence[Pair], place: Placement) -> float:
    """How far the splits' shares of the sites are from the cohort's, in the mean."""
    sites = {row.patient: row.strata for row in rows}
    whole = Counter(sites.values())
    return float(
        np.mean(
            [
                abs(Counter(sites[p] for p in of(place, split))[site] / len(of(place, split))
                    - count / len(sites))
                for split in SPLITS
                for site, count in whole.items()
            ]
        )
    )  # fmt: skip


def test_strata_that_are_asked_for_have_the_same_shares_in_every_split() -> None:
    without, balanced = [], []
    for seed in range(6):
        rows = with_sites(random_patients(seed, 80 + 20 * seed))
        without.append(off(rows, assign("any", rows, DEFAULT)))
        balanced.append(off(rows, assign("any", rows, replace(DEFAULT, strata=["site"]))))
    assert np.mean(balanced) < 0.75 * np.mean(without)
    assert max(balanced) < 0.05


def test_strata_that_are_not_asked_for_change_nothing() -> None:
    rows = random_patients(3, 60)
    assert assign("any", with_sites(rows), DEFAULT) == assign("any", rows, DEFAULT)


def test_a_patient_of_two_sites_has_one_place() -> None:
    rows = with_sites(random_patients(3, 40))
    rows = [replace(r, strata='{"site": "D"}') if r.case.endswith("b") else r for r in rows]
    place = assign("any", rows, replace(DEFAULT, strata=["site"]))
    assert place.keys() == {row.patient for row in rows}


def test_an_unknown_stratum_is_refused(refused: Refused) -> None:
    rows = with_sites(random_patients(3, 40))
    problem = refused(lambda: assign("any", rows, replace(DEFAULT, strata=["scanner"])))
    assert "(site), got 'scanner'" in problem.what


@settings(max_examples=60, deadline=None)
@given(cohorts(least=5), st.integers(3, 5), st.sampled_from(["patients", "slices"]))
def test_folds_partition_the_patients(rows: list[Pair], folds: int, share_of: str) -> None:
    tested = Counter[str]()
    for fold in range(folds):
        wanted = replace(DEFAULT, folds=folds, fold=fold, share_of=share_of)
        place = assign("any", rows, wanted)
        assert set(place.values()) == set(SPLITS)
        tested.update(of(place, "test"))
        if share_of == "patients":
            assert abs(len(of(place, "test")) - len(place) / folds) < 1
    assert tested == Counter({row.patient: 1 for row in rows})


@settings(max_examples=60, deadline=None)
@given(cohorts(least=8), st.integers(3, 5), st.integers(0, 2))
def test_in_a_fold_train_shows_every_class_that_the_tested_are_not_alone_with(
    rows: list[Pair], folds: int, fold: int
) -> None:
    place = assign("any", rows, replace(DEFAULT, folds=folds, fold=fold))
    others = of(place, "train") | of(place, "valid")
    reachable = classes_of(rows, others)
    assume(len(others) >= len(reachable) + 1)
    assert classes_of(rows, of(place, "train")) == reachable


@settings(max_examples=40, deadline=None)
@given(cohorts(least=8, official=True), st.integers(3, 5))
def test_where_the_test_list_is_official_folds_partition_the_others(
    rows: list[Pair], folds: int
) -> None:
    listed = {row.patient: row.official_split for row in rows}
    others = {patient for patient, where in listed.items() if where != "test"}
    assume(len(others) >= folds)  # fewer are refused; hypothesis draws another cohort
    validated = Counter[str]()
    for fold in range(folds):
        place = assign("any", rows, replace(DEFAULT, folds=folds, fold=fold))
        assert of(place, "test") == set(listed) - others
        validated.update(of(place, "valid"))
    assert validated == Counter(dict.fromkeys(others, 1))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 80), st.randoms(use_true_random=False))
def test_the_same_seed_gives_the_same_split_in_any_order(
    seed: int, patients: int, random: object
) -> None:
    rows = random_patients(seed, patients)
    turned = list(rows)
    random.shuffle(turned)  # type: ignore[attr-defined]
    assert assign("any", turned, DEFAULT) == assign("any", rows, DEFAULT)


def test_another_seed_or_dataset_gives_another_split() -> None:
    rows = random_patients(1, 60)
    here = assign("any", rows, DEFAULT)
    assert assign("any", rows, replace(DEFAULT, seed=DEFAULT.seed + 1)) != here
    assert assign("other", rows, DEFAULT) != here


def test_a_new_patient_moves_few_of_the_old() -> None:
    moved = []
    for seed in range(40):
        count = int(np.random.default_rng(seed).integers(30, 301))
        rows = random_patients(seed, count + 1)
        new = rows[seed % len(rows)].patient
        before = assign("any", [row for row in rows if row.patient != new], DEFAULT)
        after = assign("any", rows, DEFAULT)
        moved.append(sum(after[patient] != split for patient, split in before.items()))
    assert np.mean(moved) < 2
    assert max(moved) <= 10


def test_valid_and_test_show_a_class_that_three_patients_show() -> None:
    rows = [pair(f"p{n:02d}_0", class_pixels=(90, 5, 7 * (n < 3))) for n in range(40)]
    place = assign("any", rows, DEFAULT)
    for split in SPLITS:
        assert classes_of(rows, of(place, split)) == {1, 2}
    assert [len(of(place, split)) for split in SPLITS] == [28, 6, 6]


def test_a_class_of_one_patient_is_trained_on() -> None:
    for alone in range(12):
        rows = [pair(f"p{n:02d}_0", class_pixels=(90, 5, 7 * (n == alone))) for n in range(12)]
        place = assign("any", rows, DEFAULT)
        assert place[f"p{alone:02d}"] == "train"
        assert [len(of(place, split)) for split in SPLITS] == [8, 2, 2]


def test_strata_are_shared_out_alike() -> None:
    rows = [
        pair(f"p{n:03d}_0", class_pixels=(10_000, 10 ** (n % 4), n % 2 * 50)) for n in range(400)
    ]
    place = assign("any", rows, DEFAULT)
    for kind in range(4):
        alike = Counter(place[f"p{n:03d}"] for n in range(kind, 400, 4))
        assert alike == {"train": 70, "valid": 15, "test": 15}


def test_shares_of_slices_do_not_fill_test_with_short_scans() -> None:
    slices = np.random.default_rng(0).integers(1, 61, 300)
    rows = [
        pair(f"p{n:03d}_{k}", class_pixels=(9, 1)) for n in range(300) for k in range(slices[n])
    ]
    place = assign("any", rows, replace(DEFAULT, share_of="slices"))
    in_test = [slices[int(patient[1:])] for patient in of(place, "test")]
    assert abs(np.mean(in_test) - slices.mean()) < 0.15 * slices.mean()


def official(*lists: str) -> list[Pair]:
    return [
        pair(f"p{n:02d}_0", official_split=name, class_pixels=(9, 1))
        for n, name in enumerate(lists)
    ]


def test_an_official_valid_list_is_kept_and_nobody_joins_it() -> None:
    place = assign("any", official("valid", "valid", "test", *["train"] * 9), DEFAULT)
    assert of(place, "valid") == {"p00", "p01"}
    assert of(place, "test") == {"p02"}


def test_an_official_train_list_alone_is_split_like_any_other() -> None:
    place = assign("any", official(*["train"] * 20), DEFAULT)
    assert place == assign("any", official(*[""] * 20), DEFAULT)


def test_patients_beside_an_official_test_list_are_not_tested() -> None:
    place = assign("any", official("test", "test", *[""] * 10), DEFAULT)
    assert of(place, "test") == {"p00", "p01"}


@pytest.mark.parametrize("patients", [1, 2])
def test_too_few_patients_are_refused(patients: int, refused: Refused) -> None:
    message = str(refused(lambda: assign("any", official(*[""] * patients), DEFAULT)))
    assert f"{patients} patients" in message
    assert "at least three are needed" in message


def test_two_official_splits_of_one_patient_are_refused(refused: Refused) -> None:
    rows = official("train", "test", "train")
    rows.append(replace(rows[0], id="p00_1", official_split="test"))
    assert "for p00" in str(refused(lambda: assign("any", rows, DEFAULT)))


def test_more_folds_than_patients_are_refused(refused: Refused) -> None:
    wanted = replace(DEFAULT, folds=9)
    message = str(refused(lambda: assign("any", official(*[""] * 8), wanted)))
    assert "at least 9 patients" in message


def test_folds_of_an_official_valid_list_are_refused(refused: Refused) -> None:
    rows = official("valid", "test", *["train"] * 9)
    message = str(refused(lambda: assign("any", rows, replace(DEFAULT, folds=3))))
    assert "split.folds" in message


def test_any_two_folds_differ() -> None:
    rows = random_patients(3, 50)
    folds = [of(assign("any", rows, replace(DEFAULT, folds=5, fold=k)), "test") for k in range(5)]
    assert all(not one & other for one, other in combinations(folds, 2))


# --- what is reported before and after -------------------------------------------------------

LABELS = LabelMap(
    (
        Label(0, "background", (0, 0, 0), "all else"),
        Label(1, "core", (255, 0, 0), "the inner part"),
        Label(2, "rim", (0, 255, 0), "the outer part"),
    )
)


@given(
    st.lists(st.sampled_from(["", "train", "valid", "test"]), min_size=1, max_size=8),
    st.sampled_from([0, 3, 4, 5]),
)
@settings(deadline=None)
def test_what_convert_says_of_the_patients_is_what_split_will_say(
    official: list[str], folds: int
) -> None:
    asked = replace(DEFAULT, folds=folds)
    with unchecked():
        cases = [Case(f"c{n}", f"p{n}", paths.DATA, {}, one) for n, one in enumerate(official)]
    rows = [
        pair(f"p{n}_0", official_split=one, class_pixels=(9, 1)) for n, one in enumerate(official)
    ]
    outcomes = []
    for judge in (
        lambda: listing.require_patients("some", cases, asked),
        lambda: assign("some", rows, asked),
    ):
        try:
            judge()
            outcomes.append(False)
        except Problem:
            outcomes.append(True)
    assert outcomes[0] == outcomes[1]


def shows(split: str, core: int, rim: int) -> Pair:
    return pair(f"{split}_0", split=split, class_pixels=(9, core, rim))


@pytest.mark.parametrize(
    ("placed", "expected"),
    [
        ([shows(split, 1, 1) for split in SPLITS], []),
        ([shows(split, 1, 0) for split in SPLITS], ["no patient shows rim"]),
        (
            [shows("train", 1, 1), shows("valid", 1, 1), shows("test", 0, 0)],
            ["no patient of test shows any foreground"],
        ),
        (
            [shows("train", 1, 1), shows("valid", 1, 0), shows("test", 0, 2)],
            [
                "no patient of valid shows rim, which 2 of other splits show",
                "no patient of test shows core, which 2 of other splits show",
            ],
        ),
        (
            [shows(split, 0, 0) for split in SPLITS],
            ["no patient shows core", "no patient shows rim"]
            + [f"no patient of {split} shows any foreground" for split in SPLITS],
        ),
    ],
)  # fmt: skip
def test_what_the_splits_cannot_teach_or_test_is_reported(
    placed: list[Pair], expected: list[str]
) -> None:
    assert gaps(placed, LABELS) == expected


@pytest.mark.parametrize(
    "module", ["placement", "coverage", "patients", "leaks", "folders", "outliers"]
)
def test_splits_know_nothing_of_warps(module: str) -> None:
    """A new transform changes no split, and DVC runs no split again for it."""
    needed = {file.as_posix() for file in closure(f"pipeline.splits.{module}")}
    assert f"pipeline/splits/{module}.py" in needed
    assert not [name for name in needed if name.startswith("pipeline/warps/")]
