"""The page of scans: whole, exact in its masks, deaf to what names contain, the same every time."""

from __future__ import annotations

import base64
import io
import json
import re
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from datasets_spec.contract import IGNORED
from model.delivery.measures import measured
from pipeline.pages import viewer
from pipeline.pages.viewer import PART_SLICES, Facts, Slice
from pipeline.runtime import files
from tests.model.delivery.test_measures import LABELS

HOSTILE = "\"><script>alert('1')</script> & {{ 7*7 }} ü%20#?\\ </script>.nii"
# a file system allows all but the slash in a name
HOSTILE_NAME = HOSTILE.replace("/", "∕")


def stack(count: int, shape: tuple[int, int] = (20, 30)) -> tuple[NDArray[np.uint8], ...]:
    """Grey (N, rows, columns), a gradient, and class ids with a lesion that wanders."""
    grey = np.broadcast_to(np.linspace(10, 240, shape[1]), (count, *shape)).astype(np.uint8)
    ids = np.zeros((count, *shape), np.uint8)
    for number in range(count // 4, count // 2):
        ids[number, 5:9, number % 10 : number % 10 + 6] = 1
    ids[-1, 2, 3] = 2
    return grey, ids


def content(file: Path) -> Any:
    """What a script passes to the page."""
    text = file.read_text("utf-8")
    assert text.startswith("viewerPart(")
    return json.loads(text.removeprefix("viewerPart(").removesuffix(");\n"))


def ids_of(packed: str, shape: tuple[int, int]) -> NDArray[np.uint8]:
    if not packed:
        return np.zeros(shape, np.uint8)
    return np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8).reshape(shape)


def test_masks_come_back_exactly_and_slices_nearly(tmp_path: Path) -> None:
    grey, ids = stack(2 * PART_SLICES + 3)
    record = viewer.write_scan(tmp_path, "a", zip(grey, ids, strict=True), (1, 2), LABELS, {})
    folder = tmp_path / "view" / "a"
    assert sorted(file.name for file in folder.iterdir()) == [
        "0000.js", "0001.js", "0002.js", "scan.js",
    ]  # fmt: skip
    parts = [content(folder / f"{number:04d}.js") for number in range(3)]
    assert [len(part["grey"]) for part in parts] == [PART_SLICES, PART_SLICES, 3]
    packed = [one for part in parts for one in part["ids"]]
    assert (np.stack([ids_of(one, (20, 30)) for one in packed]) == ids).all()
    first = np.asarray(Image.open(io.BytesIO(base64.b64decode(parts[0]["grey"][0]))).convert("L"))
    assert np.abs(first.astype(int) - grey[0]).max() < 12
    counts = content(folder / "scan.js")["counts"]
    assert counts == {str(k): (ids == k).sum(axis=(1, 2)).tolist() for k in (1, 2)}
    assert (record["slices"], record["grid"], record["pixel_mm"]) == (35, [20, 30], [1, 2])


def test_the_truth_stands_beside_the_prediction(tmp_path: Path) -> None:
    grey, ids = stack(PART_SLICES + 2)
    truth = np.roll(ids, 1, axis=2)
    truth[:, :, -2:] = IGNORED
    record = viewer.write_scan(tmp_path, "a", zip(grey, ids, truth, strict=True), None, LABELS, {})
    folder = tmp_path / "view" / "a"
    packed = [one for number in (0, 1) for one in content(folder / f"000{number}.js")["truth"]]
    assert (np.stack([ids_of(one, (20, 30)) for one in packed]) == truth).all()
    about = content(folder / "scan.js")
    known = truth != IGNORED
    assert about["wrong"] == ((ids != truth) & known).sum(axis=(1, 2)).tolist()
    either = [np.maximum(*((one == 1).sum(axis=(1, 2)) for one in (ids, truth)))]
    assert about["counts"]["1"] == either[0].tolist()
    assert record["truth"]


def test_without_a_truth_there_is_none(tmp_path: Path) -> None:
    grey, ids = stack(2)
    record = viewer.write_scan(tmp_path, "a", zip(grey, ids, strict=True), None, LABELS, {})
    assert not record["truth"]
    assert set(content(tmp_path / "view" / "a" / "0000.js")) == {"grey", "ids"}


def test_large_slices_are_shrunk(tmp_path: Path) -> None:
    grey = np.zeros((600, 2100), np.uint8)
    ids = np.zeros((600, 2100), np.uint8)
    ids[:300, :1050] = 1
    record = viewer.write_scan(tmp_path, "a", [(grey, ids)], None, LABELS, {})
    assert (record["shape"], record["grid"]) == ([600, 2100], [200, 700])
    part = content(tmp_path / "view" / "a" / "0000.js")
    picture = Image.open(io.BytesIO(base64.b64decode(part["grey"][0])))
    assert picture.size == (512, 146)
    shown = ids_of(part["ids"][0], (200, 700))
    assert shown[:100, :350].all()
    assert shown.sum() == 100 * 350


def test_slices_are_written_while_they_come(tmp_path: Path) -> None:
    held = []

    def slices() -> Iterator[Slice]:
        for number, one in enumerate(zip(*stack(3 * PART_SLICES), strict=True)):
            written = len(list(tmp_path.rglob("0*.js")))
            held.append(number - PART_SLICES * written)
            yield one[0], one[1]

    viewer.write_scan(tmp_path, "a", slices(), None, LABELS, {})
    assert len(held) == 3 * PART_SLICES
    assert max(held) < PART_SLICES


def test_a_scan_that_breaks_off_leaves_the_earlier_one(tmp_path: Path) -> None:
    grey, ids = stack(20)
    viewer.write_scan(tmp_path, "a", zip(grey, ids, strict=True), None, LABELS, {})
    before = {file.name: file.read_bytes() for file in (tmp_path / "view" / "a").iterdir()}

    def broken() -> Iterator[Slice]:
        yield grey[0], ids[0]
        raise OSError("the scan ends here")

    with pytest.raises(OSError, match="ends here"):
        viewer.write_scan(tmp_path, "a", broken(), None, LABELS, {})
    after = {file.name: file.read_bytes() for file in (tmp_path / "view" / "a").iterdir()}
    assert after == before
    assert [file.name for file in (tmp_path / "view").iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["../a", "a/b", "/a", "..", ".", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="that of a folder"):
        viewer.write_scan(tmp_path, name, [], None, LABELS, {})
    assert list(tmp_path.iterdir()) == []


class _Page(HTMLParser):
    """Tags and the text of the list of scans."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page_of(folder: Path, facts: Facts, name: str) -> str:
    grey, ids = stack(4)
    record = viewer.write_scan(folder, name, zip(grey, ids, strict=True), (1, 1), LABELS, facts)
    viewer.write_index(
        folder, [json.loads(json.dumps(record))], {"title": HOSTILE, "model": HOSTILE}
    )
    return (folder / "index.html").read_text("utf-8")


def test_text_of_strangers_is_text(tmp_path: Path) -> None:
    facts: Facts = {
        "source": HOSTILE,
        "modality": HOSTILE,
        "warnings": [HOSTILE],
        "files": {HOSTILE: HOSTILE},
        "measures": measured(HOSTILE_NAME, stack(4)[1], LABELS),
    }
    hostile, tame = _Page(), _Page()
    hostile.feed(page_of(tmp_path / "one", facts, HOSTILE_NAME))
    plain: Facts = {**facts, "source": "s", "modality": "m", "warnings": ["w"], "files": {"f": "f"}}
    tame.feed(page_of(tmp_path / "two", plain, "name"))
    assert hostile.tags == tame.tags
    assert hostile.tags.count("script") == 2
    assert hostile.handlers == []
    assert HOSTILE_NAME in hostile.text
    assert HOSTILE in hostile.text
    data = next(one for one in hostile.text if one.startswith("[{"))
    assert json.loads(data)[0]["facts"]["warnings"] == [HOSTILE]


def test_the_page_states_volumes_warnings_and_time(tmp_path: Path) -> None:
    facts: Facts = {
        "modality": "CT",
        "seconds": 3.21,
        "warnings": ["a", "b"],
        "measures": [
            {"class": "blood", "kind": "class", "ml": 12.345, "voxels": 9},
            {"class": "oedema", "kind": "class", "ml": 0.0, "voxels": 0},
        ],
    }
    page = _Page()
    page.feed(page_of(tmp_path, facts, "name"))
    text = " ".join(" ".join(page.text).partition("[{")[0].split())
    assert "CT · 4 slices · 3.2 s" in text
    assert "blood 12.3 ml" in text
    assert "2 warnings" in text
    assert "oedema" not in text


def test_the_page_lists_the_largest_components_alone(tmp_path: Path) -> None:
    ids = np.zeros((3, 9, 40), np.uint8)
    ids[1, 1::2, 1::2] = 1
    rows = measured("a", ids, LABELS)
    assert len(rows) > 50
    slices = zip(ids, ids, strict=True)
    record = viewer.write_scan(tmp_path, "a", slices, None, LABELS, {"measures": rows})
    assert [row["kind"] for row in record["facts"]["measures"]] == ["class", "class"]
    listed = content(tmp_path / "view" / "a" / "scan.js")["components"]
    assert [one["component"] for one in listed] == [1, 2, 3, 4, 5, 6]


def test_the_same_scans_make_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for run in ("one", "two"):
        page_of(tmp_path / run, {"seconds": 1.0}, "a b")
        files = sorted(file for file in (tmp_path / run).rglob("*") if file.is_file())
        made.append({file.relative_to(tmp_path / run): file.read_bytes() for file in files})
    assert len(made[0]) == 3
    assert made[0] == made[1]


def test_numbers_that_json_does_not_have_break_no_page(tmp_path: Path) -> None:
    page_of(tmp_path, {"seconds": 1.0}, "a")
    before = (tmp_path / "index.html").read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        page_of(tmp_path, {"seconds": float("nan")}, "a")
    assert (tmp_path / "index.html").read_bytes() == before


def test_files_are_linked_in_the_order_given(tmp_path: Path) -> None:
    page = _Page()
    page.feed(page_of(tmp_path, {"files": {"NIfTI": "n", "DICOM SEG": "d"}}, "a"))
    data = next(one for one in page.text if one.startswith("[{"))
    assert list(json.loads(data)[0]["facts"]["files"]) == ["NIfTI", "DICOM SEG"]


def test_no_scan_is_a_page_too(tmp_path: Path) -> None:
    viewer.write_index(tmp_path, [], {})
    assert "No scan is done yet." in (tmp_path / "index.html").read_text("utf-8")


def test_the_vendored_viewer_is_the_one_that_is_stated() -> None:
    folder = Path(viewer.__file__).parent / "templates" / "viewer"
    stated = re.search(r"sha256: (\w{64})", (folder / "niivue.md").read_text("utf-8"))
    assert stated
    assert files.sha256(folder / "niivue.umd.js") == stated[1]
