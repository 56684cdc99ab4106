"""Every class is counted by the cases and patients that show it, in every coding of labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import datasets_spec
from datasets_spec.contract import Case, Dataset, Label, LabelMap, LabelTable, Problem
from pipeline.labels import decode, fusion
from pipeline.sources import tally
from pipeline.volumes import reader
from tests.conftest import FIXTURES

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture
def dataset() -> Dataset:
    """Two classes; the second has two raw values."""
    rim = Label(2, "rim", BLUE, "the outer part", values=(2, 5))
    core = Label(1, "core", RED, "the inner part")
    background = Label(0, "background", (0, 0, 0), "everything else")
    return replace(
        datasets_spec.load("msd_hippocampus").dataset,
        label_map=LabelMap((background, core, rim)),
    )


def volume(file: Path, *values: float, dtype: type = np.float32) -> Path:
    array = np.zeros((4, 3, 5), dtype)
    array.flat[: len(values)] = values
    nib.save(nib.Nifti1Image(array, np.eye(4)), file)
    return file


def drawing(file: Path, *colours: tuple[int, int, int]) -> tuple[Path, ...]:
    array = np.zeros((4, 3, 3), np.uint8)
    for number, colour in enumerate(colours):
        array[number, 0] = colour
    Image.fromarray(array).save(file)
    return (file,)


def case(number: int, split: str | None = None) -> Case:
    return Case(f"c{number}", f"p{number // 2}", Path("i.nii"), {"": Path("l.nii")}, split)


@pytest.mark.parametrize(
    ("values", "shown"),
    [((), set()), ((1,), {"core"}), ((2,), {"rim"}), ((5, 1), {"core", "rim"})],
)
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int16])
def test_raw_values_are_counted_as_their_class(
    tmp_path: Path, dataset: Dataset, values: tuple[int, ...], shown: set[str], dtype: type
) -> None:
    seen = tally.read(dataset, volume(tmp_path / "l.nii.gz", *values, dtype=dtype))
    assert seen.shown == shown
    assert seen.doubt == ""


@pytest.mark.parametrize("strange", [7, 0.5])
def test_what_is_not_declared_is_doubtful_and_the_rest_is_counted(
    tmp_path: Path, dataset: Dataset, strange: float
) -> None:
    seen = tally.read(dataset, volume(tmp_path / "l.nii.gz", 1, strange))
    assert seen.shown == {"core"}
    assert seen.doubt.endswith(f"does not declare: {strange:g}")


def test_drawn_colours_are_counted_as_their_class(tmp_path: Path, dataset: Dataset) -> None:
    dataset = replace(dataset, coding="colours")
    assert tally.read(dataset, drawing(tmp_path / "a.png", RED)).shown == {"core"}
    stray = tally.read(dataset, drawing(tmp_path / "b.png", RED, (1, 2, 3)))
    assert stray.shown == frozenset()
    assert "1 other colours" in stray.doubt


def test_any_value_of_a_binary_label_is_the_class(tmp_path: Path, dataset: Dataset) -> None:
    two = LabelMap(dataset.label_map.labels[:2])
    dataset = replace(dataset, coding="binary", label_map=two)
    seen = tally.read(dataset, volume(tmp_path / "l.nii.gz", 255))
    assert seen.shown == {"core"}


def test_values_of_contradicting_tables_are_counted_themselves(
    tmp_path: Path, dataset: Dataset
) -> None:
    one = LabelTable("one", {0: 0, 3: 1, 4: 2}, "someone")
    other = LabelTable("other", {0: 0, 3: 2, 4: 2}, "someone else")
    dataset = replace(dataset, tables=(one, other), probe="t1_tissues")
    assert tally.read(dataset, volume(tmp_path / "a.nii.gz", 3)).shown == {"core or rim (3)"}
    assert tally.read(dataset, volume(tmp_path / "b.nii.gz", 4)).shown == {"rim (4)"}


def test_what_nobody_annotated_is_no_class_and_no_doubt(tmp_path: Path, dataset: Dataset) -> None:
    label = volume(tmp_path / "a.nii.gz", 1, 99)
    assert tally.read(dataset, label).doubt.endswith("does not declare: 99")
    ignoring = replace(dataset, ignored_values=(99,))
    assert tally.read(ignoring, label) == tally.Seen((), frozenset({"core"}))
    drawn = drawing(tmp_path / "a.png", RED, (255, 0, 255))
    coloured = replace(dataset, coding="colours", ignored_values=(0xFF00FF,))
    assert tally.read(coloured, drawn).shown == {"core"}


def test_what_cannot_be_read_at_all_is_an_error(tmp_path: Path, dataset: Dataset) -> None:
    (tmp_path / "l.nii.gz").write_bytes(b"not a scan")
    with pytest.raises(Problem, match="NIfTI"):
        tally.read(dataset, tmp_path / "l.nii.gz")


@pytest.mark.parametrize("name", datasets_spec.names())
def test_a_label_shows_what_convert_makes_of_it(name: str) -> None:
    """Of every dataset's fixture; where tables contradict each other, as many classes."""
    adapter = datasets_spec.load(name)
    names = [label.name for label in adapter.dataset.label_map]
    judged = 0
    for one in adapter.cases(FIXTURES / name / "raw"):
        for rater, label in one.labels.items():
            seen = tally.read(adapter.dataset, label)
            assert seen.doubt == ""
            if adapter.dataset.tables:
                assert bool(seen.shown) == bool(
                    decode.read_raw(adapter.dataset, label)[0].array.any()
                )
            else:
                image = reader.read_image(one.image)
                truth = fusion.truth(adapter.dataset, image, {rater: label}, "majority")
                [ids] = truth.ids.values()
                assert seen.shown == {names[n] for n in np.unique(ids) if n}
            judged += 1
    assert judged


def test_cases_and_patients_are_counted_apart(dataset: Dataset) -> None:
    count = tally.Tally(dataset)
    for number in range(6):
        count.add(case(number), frozenset({"core"} if number < 4 else ()))
    rows = [line.split() for line in count.table()]
    assert rows == [
        ["class", "cases", "patients"],
        ["core", "4", "2"],
        ["rim", "0", "0"],
        ["no", "class", "2", "1"],
    ]
    warnings = list(count.warnings())
    assert len(warnings) == 2
    assert "too few patients show core for one in each of train, valid, test: 2" in warnings[0]
    assert "nobody shows rim" in warnings[1]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_an_official_list_without_foreground_is_a_warning(dataset: Dataset, split: str) -> None:
    count = tally.Tally(dataset)
    for number in range(20):
        count.add(case(number, split if number < 6 else "train"), frozenset({"core", "rim"}))
    assert list(count.warnings()) == []
    count = tally.Tally(dataset)
    for number in range(20):
        shown = frozenset[str]() if number < 6 else frozenset({"core", "rim"})
        count.add(case(number, split if number < 6 else "train"), shown)
    assert list(count.warnings()) == [
        f"the official {split} list shows no class at all: it scores nothing"
    ]
