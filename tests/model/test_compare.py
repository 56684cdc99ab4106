"""Two runs side by side: what is reported, and what is refused."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from model.__main__ import main
from model.compare import compare, over_trainings
from pipeline import paths
from tests.conftest import Refused
from tests.support.every import every

HEAD = ("patient", "case", "rater", "class", "dice", "nsd", "lesion_f1", "truth")
Rows = list[tuple[str, str, str, str, object, object, object, int]]


def _write(run: Path, rows: Rows) -> Path:
    run.mkdir()
    with (run / paths.PER_CASE).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerows([HEAD, *rows])
    return run


def _rows(gain: float = 0.0, count: int = 12, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    rows: Rows = []
    for number in range(count):
        for name in ("core", "rim"):
            dice = 0.7 + 0.1 * rng.random() + gain * (name == "core")
            row = (f"p{number}", f"c{number}", "", name, round(dice, 6), dice, dice, 100 + number)
            rows.append(row)
    return rows


@pytest.fixture
def two(workplace: Path) -> tuple[Path, Path]:
    """A run, and one whose core is better by .05 in every case."""
    return _write(workplace / "a", _rows()), _write(workplace / "b", _rows(0.05))


def _lines(capsys: pytest.CaptureFixture[str], score: str) -> dict[str, str]:
    lines = capsys.readouterr().out.splitlines()
    return {line[:24].strip(): line for line in lines if f" {score} " in line[:36]}


def test_a_gain_in_every_case_is_clear(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    compare(*two)
    lines = _lines(capsys, "dice")
    assert "+0.0500 [+0.0500, +0.0500]  12 of 12" in lines["core"]
    assert "no clear difference" in lines["rim"]
    assert "+0.0250 [+0.0250, +0.0250]" in lines["mean of classes"]


def test_a_run_beside_itself_is_no_different(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    compare(two[0], two[0])
    out = capsys.readouterr().out
    assert out.count("no clear difference") == 9
    assert "12 test cases of 12 patients" in out


def test_noise_is_reported_as_no_clear_difference(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(_write(workplace / "a", _rows()), _write(workplace / "b", _rows(seed=5)))
    assert "no clear difference" in _lines(capsys, "dice")["mean of classes"]


def test_inventing_a_class_costs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    negative: Rows = [(f"p{n}", f"c{n}", "", "core", "", "", "", 0) for n in range(3)]
    marked: Rows = [(*row[:4], 0, 0, 0, 0) for row in negative]
    compare(_write(workplace / "a", negative), _write(workplace / "b", marked))
    lines = _lines(capsys, "dice")
    assert "-1.0000 [-1.0000, -1.0000]" in lines["core"]
    assert "mean of classes" not in lines


@pytest.mark.parametrize("uneven", [4, 12])
def test_slices_of_uneven_spacing_have_no_nsd_to_compare(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str], uneven: int
) -> None:
    """Nor do they count as the 1 of a class that is nowhere."""
    for run in two:
        file = run / paths.PER_CASE
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        for row in rows:
            row["spacing"] = "uneven" if int(row["case"][1:]) < uneven else "even"
            row["nsd"] = "" if row["spacing"] == "uneven" else row["nsd"]
        with file.open("w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    compare(*two)
    out = capsys.readouterr().out
    [nsd] = [line for line in out.splitlines() if "core" in line and " nsd " in line] or [""]
    assert ("+0.0500 [+0.0500, +0.0500]  8 of 8" in nsd) == (uneven == 4)
    assert (nsd == "") == (uneven == 12)
    assert "12 of 12" in out


@pytest.mark.parametrize("lacking", [4, 12])
def test_a_class_that_nobody_annotated_is_no_score_of_1(
    workplace: Path, capsys: pytest.CaptureFixture[str], lacking: int
) -> None:
    runs = []
    for name, gain in (("a", 0.0), ("b", 0.05)):
        run = _write(workplace / name, [])
        with (run / paths.PER_CASE).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow((*HEAD, "ignored_share"))
            for row in _rows(gain):
                unknown = row[3] == "core" and int(row[1][1:]) < lacking
                scores = ("", "", "", 0) if unknown else row[4:]
                writer.writerow((*row[:4], *scores, f"{float(unknown):.6f}"))
        runs.append(run)
    compare(*runs)
    lines = _lines(capsys, "dice")
    assert ("+0.0500 [+0.0500, +0.0500]  8 of 8" in lines.get("core", "")) == (lacking == 4)
    assert ("core" in lines) == (lacking == 4)
    assert "of 12" in lines["rim"]
    assert "of 12" in lines["mean of classes"]


def test_cases_of_one_run_only_are_left_out_and_reported(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(_write(workplace / "a", _rows(count=5)), _write(workplace / "b", _rows(count=7)))
    out = capsys.readouterr().out
    assert "2 cases are in one run only" in out
    assert "too few patients" in out


def test_runs_without_a_common_case_are_refused(workplace: Path, refused: Refused) -> None:
    other: Rows = [(row[0], f"x{row[1]}", *row[2:]) for row in _rows()]
    runs = _write(workplace / "a", _rows()), _write(workplace / "b", other)
    assert "none in common" in refused(lambda: compare(*runs)).what


def test_another_truth_is_refused_with_its_case(workplace: Path, refused: Refused) -> None:
    other: Rows = [(*row[:7], row[7] + 1) for row in _rows()]
    runs = _write(workplace / "a", _rows()), _write(workplace / "b", other)
    assert "100 and 101 voxels of core in c0" in refused(lambda: compare(*runs)).what


HEAD_LINE = ",".join(HEAD) + "\n"
NONSENSE = [
    None,
    "",
    "\0",
    "case,class,rater,dice\n1,core,,0.5\n",
    "case,class\n",
    HEAD_LINE,
    HEAD_LINE + "p0,c0\n",
    HEAD_LINE + "p0,c0,,core,nan,1,1,9\n",
    HEAD_LINE + "p0,c0,,core,high,1,1,9\n",
    HEAD_LINE + "p0,c0,,core,0.5,inf,1,9\n",
    HEAD_LINE + "p0,c0,,core,0.5,1,1,many\n",
    HEAD_LINE + "p0,c0,,core,.5,1,1,9\np0,c0,,rim,.5,1,1,9\np1,c1,,rim,.5,1,1,9\n",
    HEAD_LINE + "p0,c0,,core,.5,1,1,9\np0,c0,,core,.6,1,1,9\n",
]


@pytest.mark.parametrize("content", NONSENSE)
def test_a_run_without_scores_is_one_line_and_exit_status_2(
    content: str | None, two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = two[1] / paths.PER_CASE
    file.unlink() if content is None else file.write_text(content)
    assert main(["compare", *map(str, two)]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert str(file) in line
    assert "valuate" in line


def _folded(run: Path, rows: Rows, fold_of: Callable[[Rows], list[int]] | None = None) -> Path:
    """A cross-validation's table: three folds, dealt by the patient's number."""
    run.mkdir()
    numbers = fold_of(rows) if fold_of else [int(row[0][1:]) % 3 for row in rows]
    with (run / paths.PER_CASE).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow((*HEAD, "fold"))
        writer.writerows((*row, number) for row, number in zip(rows, numbers, strict=True))
    return run


def test_cross_validations_are_compared_pooled_and_fold_by_fold(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(_folded(workplace / "a", _rows()), _folded(workplace / "b", _rows(0.05)))
    lines = _lines(capsys, "dice")
    assert "+0.0500 [+0.0500, +0.0500]  12 of 12" in lines["core"]
    for fold in range(3):
        assert "+0.0250 [+0.0250, +0.0250]  4 of 4" in lines[f"fold {fold}"]


def test_folds_dealt_differently_are_compared_pooled_alone(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = _folded(workplace / "b", _rows(), lambda rows: [int(row[0][1:]) // 4 for row in rows])
    compare(_folded(workplace / "a", _rows()), other)
    out = capsys.readouterr().out
    assert "6 of 12 cases were tested in another fold" in out
    assert "fold 0" not in out


def test_folds_as_folders_are_pooled(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = _rows(0.05)
    parts = [
        _write(workplace / f"fold_{fold}", [row for row in rows if int(row[0][1:]) % 3 == fold])
        for fold in range(3)
    ]
    compare([_write(workplace / "a", _rows())], parts)
    assert "+0.0500 [+0.0500, +0.0500]  12 of 12" in _lines(capsys, "dice")["core"]


def test_of_several_seeds_a_case_counts_with_its_mean(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = [_write(workplace / f"b{gain}", _rows(gain)) for gain in (0.01, 0.03, 0.08)]
    compare([_write(workplace / "a", _rows())], seeds)
    out = capsys.readouterr().out
    assert "+0.0400 [+0.0400, +0.0400]  12 of 12" in out
    [line] = [line for line in out.splitlines() if line.startswith("B is 3 folders")]
    means = [_mean(_rows(gain)) for gain in (0.01, 0.03, 0.08)]
    assert line.endswith(f"{min(means):.4f} to {max(means):.4f}")


def _trained(place: Path, name: str, gains: Sequence[float]) -> list[Path]:
    """Trainings of one recipe that scatter so."""
    return [_write(place / f"{name}{number}", _rows(gain)) for number, gain in enumerate(gains)]


@every(
    ("gains", "verdict"),
    [((0.09, 0.10, 0.11), "more than chance"), ((0.0, 0.02, 0.01), "chance in training explains")],
)
def test_several_trainings_tell_a_change_from_another_seed(
    gains: Sequence[float], verdict: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each change is clear over the patients: they are the same in all trainings."""
    place = workplace / verdict
    place.mkdir()
    compare(_trained(place, "a", (0.0, 0.01, 0.015)), _trained(place, "b", gains))
    lines = capsys.readouterr().out.splitlines()
    [first] = [line for line in lines if line.startswith("mean of classes") and " dice " in line]
    assert "no clear difference" not in first
    [line] = [line for line in lines if line.startswith("Over 3 and 3 trainings")]
    assert verdict in line


def test_one_training_of_a_side_tells_nothing_of_another_seed(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = _trained(workplace, "a", (0.0,)), _trained(workplace, "b", (0.05, 0.1, 0.15))
    compare(a, b)
    assert "How much another seed would change is not in" in capsys.readouterr().out


def test_over_trainings_is_welchs_interval() -> None:
    a, b = [0.80, 0.83, 0.81, 0.82], [0.84, 0.90]
    mean, low, high = over_trainings(a, b)
    known = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((0.055, known.low, known.high))
    assert over_trainings([0.5, 0.5], [0.6, 0.6]) == pytest.approx((0.1, 0.1, 0.1))


def _mean(rows: Rows) -> float:
    return float(np.mean([float(str(row[4])) for row in rows]))


def test_the_same_official_test_list_in_every_fold_is_no_damaged_table(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row for gain in (0.0, 0.02, 0.04) for row in _rows(gain)]
    folds = [number for number in range(3) for _ in _rows()]
    compare(_write(workplace / "a", _rows()), _folded(workplace / "b", rows, lambda _: folds))
    out = capsys.readouterr().out
    assert "+0.0200 [+0.0200, +0.0200]  12 of 12" in out
    assert "fold 0" not in out


@pytest.mark.parametrize("runs", [["a"], ["a", "b", "a"]])
def test_other_than_two_runs_take_a_word_on_the_sides(
    runs: list[str], two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *runs]) == 2
    assert "--against" in capsys.readouterr().err
    assert main(["compare", *runs, "--against", "b"]) == 0
