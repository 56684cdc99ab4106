"""The page of scans as a reader meets it, in a real headless Chromium: scrolled, drawn, narrow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.delivery.measures import measured, with_expected
from pipeline.pages import viewer
from pipeline.pages.viewer import PART_SLICES, Slice
from pipeline.volumes.volume import Grid
from tests.model.delivery.test_measures import LABELS
from tests.support.browser import PROGRAM, Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAM, reason="no Chromium is installed"),
]

SLICES = 2 * PART_SLICES + 8
ROWS, COLUMNS = 30, 40
TALL, WIDE = 2.0, 1.0  # mm: a slice is 60 mm high and 40 mm wide
LESION = {18: 4, 19: 9, 20: 6, 30: 3}  # slice from 0 -> columns of the lesion
TOP, LEFT, HIGH = 10, 5, 6  # rows and columns from 0
NAMES = ("first", 'it\'s 100 % "ü" #2?', "no mask")
KEYS = {
    "ArrowUp": 38, "ArrowDown": 40, "ArrowLeft": 37, "ArrowRight": 39, "PageUp": 33,
    "PageDown": 34, "Home": 36, "End": 35, "n": 78, "p": 80, "m": 77, "o": 79, "1": 49,
    "[": 219, "]": 221, "d": 68, "t": 84, "w": 87,
}  # fmt: skip
COLOUR = list(LABELS.labels[1].colour)

COPY = """const copied = (id) => {
  const { width, height } = document.getElementById(id);
  const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  pen.drawImage(document.getElementById(id), 0, 0);
  return pen.getImageData(0, 0, width, height);
};"""
MASK = f"""(() => {{
  {COPY}
  const {{ data, width, height }} = copied("lines");
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  let pixels = 0;
  for (let row = 0; row < height; row++) for (let column = 0; column < width; column++) {{
    const at = 4 * (row * width + column);
    if (data[at + 3] < 250 || {COLOUR}.some((one, c) => data[at + c] !== one)) continue;
    pixels++;
    box[0] = Math.min(box[0], column); box[1] = Math.min(box[1], row);
    box[2] = Math.max(box[2], column + 1); box[3] = Math.max(box[3], row + 1);
  }}
  return {{ pixels, box: pixels ? box : null, width, height }};
}})()"""
GREY = f"""((x, y) => {{
  {COPY}
  const {{ data, width, height }} = copied("grey");
  return data[4 * (Math.round(y * height) * width + Math.round(x * width))];
}})"""
STRAY = """((ids, rows, columns) => {
  const pen = new OffscreenCanvas(1, 1).getContext("2d");
  const paths = outlines(Uint8Array.from(ids), rows, columns);
  const stray = ids.filter((id, at) => {
    const x = at % columns + 0.5, y = Math.floor(at / columns) + 0.5;
    return [1, 2, 3].some((one) =>
      (paths.has(one) && pen.isPointInPath(paths.get(one), x, y, "evenodd")) !== (one === id));
  });
  return [stray.length, [...paths.keys()].sort()];
})"""
NAMELESS = """[...document.querySelectorAll("button, input, select, a, summary")].filter((one) =>
  !(one.textContent.trim() || one.getAttribute("aria-label") || one.labels?.length)
).map((one) => one.outerHTML)"""


def slices(of_lesion: dict[int, int]) -> Iterator[Slice]:
    """Dark slices with a bright upper left quarter; a lesion in some."""
    for number in range(SLICES):
        grey = np.full((ROWS, COLUMNS), 20, np.uint8)
        grey[: ROWS // 2, : COLUMNS // 2] = 220
        ids = np.zeros((ROWS, COLUMNS), np.uint8)
        ids[TOP : TOP + HIGH, LEFT : LEFT + of_lesion.get(number, 0)] = 1
        yield grey, ids


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scans, one with a name that would break out of anything, one without a lesion."""
    folder = tmp_path_factory.mktemp("predicted")
    grid = Grid((COLUMNS, ROWS, SLICES), np.diag([WIDE, TALL, 3.0, 1.0]))
    records = []
    for name in NAMES:
        lesion = {} if name == NAMES[-1] else LESION
        if name == NAMES[1]:
            lesion = {**LESION, 21: 6}
        ids = np.stack([one for _, one in slices(lesion)])
        rows = measured(name, ids, LABELS, grid)
        sure = 0.7 if name == NAMES[1] else 0.9
        with_expected(rows, LABELS, [sure] * len(LABELS.foreground))
        facts: viewer.Facts = {
            "modality": "CT", "plane": "axial", "step_mm": 3.0, "seconds": 1.5,
            "window": (0.0, 80.0), "unit": "HU", "warnings": ["thick slices: 3 mm"],
            "world": grid.world("axial").tolist(),
            "files": {"NIfTI": f"{name}.nii.gz"},
            "measures": rows,
        }  # fmt: skip
        record = viewer.write_scan(folder, name, slices(lesion), (TALL, WIDE), LABELS, facts)
        records.append(json.loads(json.dumps(record)))
    viewer.write_index(folder, records, {"title": "Scans", "model": "a model", "notes": ["a"]})
    return folder / viewer.INDEX


class _Reader(Browser):
    """A browser on the page, with what a reader does and sees."""

    def shown(self, number: int) -> None:
        """Wait until slice ``number``, from 1, is drawn."""
        self.until(f"document.getElementById('stage').dataset.shown === '{number}'")
        assert self.value("document.getElementById('place').textContent").startswith(
            f"Slice {number} of {SLICES}"
        )

    def key(self, name: str) -> None:
        self.press(name, KEYS[name])

    def mouse(self, kind: str, x: float, y: float, **more: object) -> None:
        left = self.value("document.getElementById('stage').getBoundingClientRect().toJSON()")
        place = {"x": left["x"] + x * left["width"], "y": left["y"] + y * left["height"]}
        self.ask("Input.dispatchMouseEvent", type=kind, **place, **more)

    def choose(self, name: str) -> None:
        """Click a scan in the list."""
        self.value(
            f"[...document.querySelectorAll('#scans a')].find((one) =>"
            f" one.querySelector('b').textContent === {json.dumps(name)}).click()"
        )
        self.until(f"document.getElementById('name').textContent === {json.dumps(name)}")

    def mask(self) -> Any:
        return self.value(MASK)


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Reader]:
    with _Reader(page, tmp_path_factory.mktemp("desk"), 1400) as reader:
        yield reader


@pytest.fixture
def reader(browser: _Reader) -> Iterator[_Reader]:
    """The page on its first scan as it opens; its console has to stay silent."""
    browser.choose(NAMES[1])
    browser.choose(NAMES[0])
    browser.shown(20)
    yield browser
    assert browser.events == []


def test_a_scan_opens_at_the_largest_section_of_its_lesion(reader: _Reader) -> None:
    assert reader.value("document.getElementById('slice').getAttribute('aria-valuetext')") == (
        f"Slice 20 of {SLICES}: blood"
    )


def test_keys_scroll(reader: _Reader) -> None:
    for key, number in (
        ("ArrowUp", 21), ("ArrowRight", 22), ("ArrowDown", 21), ("ArrowLeft", 20), ("PageUp", 30),
        ("PageDown", 20), ("Home", 1), ("ArrowDown", 1), ("End", SLICES), ("ArrowUp", SLICES),
        ("p", 31), ("p", 21), ("n", 31), ("n", 31), ("m", 20),
    ):  # fmt: skip
        reader.key(key)
        reader.shown(number)


def test_the_wheel_scrolls_and_the_page_stays(reader: _Reader) -> None:
    for delta, number in ((-120, 21), (-120, 22), (120, 21)):
        reader.mouse("mouseWheel", 0.5, 0.5, deltaX=0, deltaY=delta)
        reader.shown(number)
    assert reader.value("window.scrollY") == 0


def test_the_slider_scrolls_by_hand_and_by_key(reader: _Reader) -> None:
    slider = "document.getElementById('slice')"
    reader.value(f"{slider}.value = 4; {slider}.dispatchEvent(new Event('input'))")
    reader.shown(5)
    reader.value(f"{slider}.focus()")
    reader.key("ArrowUp")
    reader.shown(6)
    assert reader.value(f"[{slider}.min, {slider}.max]") == ["0", str(SLICES - 1)]


def test_a_drag_scrolls_with_mouse_and_finger(reader: _Reader) -> None:
    reader.mouse("mousePressed", 0.5, 0.5, button="left", clickCount=1)
    reader.mouse("mouseMoved", 0.5, 0.4, button="left")
    reader.mouse("mouseReleased", 0.5, 0.4, button="left", clickCount=1)
    reader.until("Number(document.getElementById('stage').dataset.shown) > 21")
    reader.key("Home")
    reader.shown(1)
    reader.ask("Emulation.setTouchEmulationEnabled", enabled=True)
    points = [[{"x": x, "y": 400}] for x in (500, 540, 600, 700)]
    reader.ask("Input.dispatchTouchEvent", type="touchStart", touchPoints=points[0])
    for point in points[1:]:
        reader.ask("Input.dispatchTouchEvent", type="touchMove", touchPoints=point)
    reader.ask("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    reader.ask("Emulation.setTouchEmulationEnabled", enabled=False)
    reader.until("Number(document.getElementById('stage').dataset.shown) > 5")


def test_outlines_lie_around_the_lesion_in_its_colour(reader: _Reader) -> None:
    """In mm, not in pixels: the slice is higher than wide although it has fewer rows."""
    mask = reader.mask()
    scale = min(mask["height"] / (ROWS * TALL), mask["width"] / (COLUMNS * WIDE))
    x = (mask["width"] - COLUMNS * WIDE * scale) / 2 + LEFT * WIDE * scale
    y = (mask["height"] - ROWS * TALL * scale) / 2 + TOP * TALL * scale
    wanted = [x, y, x + LESION[19] * WIDE * scale, y + HIGH * TALL * scale]
    assert np.abs(np.subtract(mask["box"], wanted)).max() < 2.5
    inside = (wanted[2] - wanted[0]) * (wanted[3] - wanted[1])
    assert 0 < mask["pixels"] < inside / 4  # a line, not an area


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (17, 23)])
@pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
def test_outlines_enclose_the_mask_and_nothing_else(
    share: float, shape: tuple[int, int], reader: _Reader
) -> None:
    """Rings, islands, single pixels that touch by a corner, and masks up to the border."""
    rng = np.random.default_rng(7)
    ids = rng.integers(1, 4, shape) * (rng.random(shape) < share)
    stray, classes = reader.value(f"{STRAY}({ids.reshape(-1).tolist()}, {shape[0]}, {shape[1]})")
    assert stray == 0
    assert classes == sorted(set(ids.reshape(-1).tolist()) - {0})


def test_slices_without_a_lesion_have_no_outline(reader: _Reader) -> None:
    reader.key("Home")
    reader.shown(1)
    assert reader.mask()["pixels"] == 0


def test_anterior_is_up_and_the_patients_right_on_the_left(reader: _Reader) -> None:
    box = reader.mask()
    assert (
        reader.value(
            "['top', 'bottom', 'left', 'right'].map((one) =>"
            " document.querySelector(`.letters .at-${one}`).textContent).join('')"
        )
        == "APRL"
    )
    half = box["height"] * WIDE * COLUMNS / (TALL * ROWS) / box["width"] / 2
    bright, dark = (reader.value(f"{GREY}({x}, 0.2)") for x in (0.5 - half / 2, 0.5 + half / 2))
    assert (bright, dark) == (pytest.approx(220, abs=12), pytest.approx(20, abs=12))


def test_the_pointer_shows_class_and_place(reader: _Reader) -> None:
    """In mm of the world: x to the patient's right, which is on the left."""
    texts = []
    mask = reader.mask()
    half = 0.5 - mask["height"] * COLUMNS * WIDE / (ROWS * TALL) / mask["width"] / 2
    for x, y in ((0.5, 0.5), (half + (1 - 2 * half) * 6.5 / COLUMNS, 10.5 / ROWS), (half / 2, 0.5)):
        reader.mouse("mouseMoved", x, y)
        texts.append(reader.value("document.querySelector('.under').textContent"))
    middle = f"R {WIDE * (COLUMNS - 1) / 2:.1f}  A {TALL * (ROWS - 1) / 2:.1f}  S {3 * 19:.1f} mm"
    lesion = f"bloodR {WIDE * (COLUMNS - 7):.1f}  A {TALL * (ROWS - 11):.1f}  S {3 * 19:.1f} mm"
    assert texts == [middle, lesion, ""]
    reader.mouse("mouseMoved", 0.5, 0.5)
    reader.key("ArrowUp")  # the slice moves below the pointer
    reader.shown(21)
    text = reader.value("document.querySelector('.under').textContent")
    assert text == middle.replace(f"S {3 * 19:.1f}", f"S {3 * 20:.1f}")


def test_classes_and_modes_are_switched(reader: _Reader) -> None:
    box = "document.querySelector('#classes input')"
    line = reader.mask()["pixels"]
    reader.key("1")
    assert reader.value(f"{box}.checked") is False
    assert reader.mask()["pixels"] == 0
    reader.value(f"{box}.click()")
    assert reader.mask()["pixels"] == line
    seen = {}
    for _ in range(4):
        reader.key("o")
        mode = reader.value("document.querySelector('input[name=mode]:checked').value")
        seen[mode] = reader.mask()["pixels"]
    assert list(seen) == ["fill", "both", "none", "outline"]
    assert (seen["fill"], seen["none"]) == (0, 0)  # filled see-through: nowhere the full colour
    assert seen["outline"] == line
    assert seen["both"] >= line


def test_a_zoomed_slice_shows_the_lesion_larger(reader: _Reader) -> None:
    before = reader.mask()["box"]
    reader.value("document.getElementById('closer').click()")
    after = reader.mask()["box"]
    assert (after[3] - after[1]) / (before[3] - before[1]) == pytest.approx(1.5, rel=0.05)
    reader.value("document.getElementById('whole').click()")
    assert reader.mask()["box"] == before


def test_a_component_leads_to_its_slice(reader: _Reader) -> None:
    buttons = "document.querySelectorAll('.components button')"
    assert reader.value(f"{buttons}.length") == 2
    reader.value(f"{buttons}[1].click()")
    reader.shown(31)


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"window": [0, 80], "unit": "HU"}, "Black 20 HU, white 60 HU"),
        ({"window": [100, 1300], "unit": ""}, "Black 400, white 1,000"),
        ({}, "Black 25 %, white 75 %"),
    ],
)
def test_brightness_is_stated_in_the_scans_unit(
    facts: dict[str, Any], text: str, reader: _Reader
) -> None:
    width = "document.getElementById('width')"
    own = reader.value("JSON.stringify(scan.facts)")
    reader.value(f"scan.facts = {json.dumps(facts)}")
    reader.value(f"{width}.value = 50; {width}.dispatchEvent(new Event('input'))")
    stated = reader.value("document.getElementById('window').textContent")
    reader.value(f"scan.facts = {own}; document.getElementById('reset').click()")
    assert stated == text


@pytest.mark.parametrize("name", NAMES)
def test_every_scan_opens_whatever_its_name(name: str, reader: _Reader) -> None:
    reader.choose(name)
    reader.shown(SLICES // 2 if name == NAMES[-1] else 20)
    assert (reader.mask()["pixels"] > 0) == (name != NAMES[-1])
    assert reader.value("document.querySelector('#scans [aria-current] b').textContent") == name
    link = reader.value("document.querySelector('#files a').getAttribute('href')")
    assert reader.value(f"decodeURIComponent({json.dumps(link)})") == f"{name}.nii.gz"


def test_brackets_lead_from_scan_to_scan(reader: _Reader) -> None:
    for key, name in (("]", NAMES[1]), ("]", NAMES[2]), ("]", NAMES[2]), ("[", NAMES[1])):
        reader.key(key)
        reader.until(f"document.getElementById('name').textContent === {json.dumps(name)}")


def test_a_lost_part_blanks_the_stage_and_the_others_stay(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copied"
    shutil.copytree(page.parent, folder)
    (folder / "view" / NAMES[0] / "0000.js").unlink()
    with _Reader(folder / viewer.INDEX, tmp_path / "profile") as lost:
        lost.shown(20)
        lost.key("Home")
        lost.until("!document.querySelector('.fault').hidden")
        assert lost.value("grey.width") == 0
        lost.key("m")
        lost.shown(20)
        assert lost.value("document.querySelector('.fault').hidden")


def test_a_hidden_class_is_hidden_in_the_next_scan_too(reader: _Reader) -> None:
    reader.key("1")
    reader.choose(NAMES[1])
    reader.shown(20)
    assert reader.mask()["pixels"] == 0
    assert reader.value("document.querySelector('#classes input').checked") is False
    reader.value("document.getElementById('every').click()")
    assert reader.mask()["pixels"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_an_address_leads_to_its_slice(name: str, reader: _Reader) -> None:
    reader.value(f"location.hash = encodeURIComponent({json.dumps(name)}) + ':7'")
    reader.until(f"document.getElementById('name').textContent === {json.dumps(name)}")
    reader.shown(7)


def test_the_list_is_filtered_and_ordered(reader: _Reader) -> None:
    listed = (
        "[...document.querySelectorAll('#scans li:not([hidden]) b')].map((one) => one.textContent)"
    )
    seen = []
    for field, text, event in (
        ("filter", "MASK", "input"),
        ("filter", "", "input"),
        ("order", "blood", "change"),
        ("order", "", "change"),
        ("order", "?", "change"),
        ("order", "", "change"),
    ):
        one = f"document.getElementById('{field}')"
        reader.value(f"{one}.value = '{text}'; {one}.dispatchEvent(new Event('{event}'))")
        seen.append(reader.value(listed))
    first = [NAMES[1], NAMES[0], NAMES[2]]  # has most, and is least sure
    assert seen == [[NAMES[2]], list(NAMES), first, list(NAMES), first, list(NAMES)]


def test_every_control_has_a_name_and_every_id_is_one(reader: _Reader) -> None:
    assert reader.value("document.querySelectorAll('button').length") > 8
    assert reader.value(NAMELESS) == []
    ids = reader.value("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(set(ids)) == len(ids)
    landmarks = ["header", "nav", "main", "aside", "footer"]
    assert [one for one in landmarks if reader.value(f"!!document.querySelector('{one}')")] == (
        landmarks
    )


@pytest.mark.parametrize("width", [360, 800, 2000])
def test_the_page_is_never_wider_than_its_window(width: int, reader: _Reader) -> None:
    reader.widen(width)
    reader.choose(NAMES[1])
    reader.shown(20)
    wide, window = (
        reader.value(f"document.documentElement.{name}Width") for name in ("scroll", "client")
    )
    stage = reader.value("document.getElementById('stage').getBoundingClientRect().toJSON()")
    reader.widen(1400)
    assert width - 20 <= window <= width  # less a scroll bar
    assert wide <= window
    assert 0 <= stage["left"] < stage["right"] <= window
    assert stage["top"] < 200  # the picture comes first
    assert stage["height"] > 300


def test_only_what_is_looked_at_is_loaded(page: Path, tmp_path: Path) -> None:
    with _Reader(page, tmp_path / "profile", 1400) as fresh:
        fresh.shown(20)
        loaded = fresh.value("[...parts.keys()]")
    assert loaded == ["view/first/scan.js", "view/first/0001.js"]


def test_missing_slices_are_named(page: Path, tmp_path: Path) -> None:
    alone = tmp_path / viewer.INDEX
    alone.write_bytes(page.read_bytes())
    with _Reader(alone, tmp_path / "profile") as lost:
        lost.until("!document.querySelector('.fault').hidden")
        text = lost.value("document.querySelector('.fault').textContent")
        shown = lost.value("[scan.name, document.getElementById('name').textContent, grey.width]")
    assert shown == [NAMES[0], NAMES[0], 0]
    assert text.startswith("This scan cannot be read (view/first/scan.js)")
    assert text.endswith("Is the folder view/ still beside this page?")


MISSED, INVENTED = (14, 18), (24, 26)  # columns of a lesion that is drawn there, or by the network


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test case: the network misses some columns of a lesion, and invents some elsewhere."""
    folder = tmp_path_factory.mktemp("judged")

    def every() -> Iterator[Slice]:
        for number, (grey, ids) in enumerate(slices({18: 9, 19: 9})):
            truth = ids.copy()
            if number == 19:
                truth[TOP : TOP + HIGH, slice(*MISSED)] = 1
                ids[TOP : TOP + HIGH, slice(*INVENTED)] = 1
            yield grey, ids, truth

    rows = [
        {"kind": "class", "class": one.name, "voxels": 1, "ml": 0.5, "dice": 0.75}
        | {"truth_voxels": 2, "truth_ml": 0.25}
        for one in LABELS.foreground
    ]
    grid = Grid((COLUMNS, ROWS, SLICES), np.diag([WIDE, TALL, 3.0, 1.0]))
    world = grid.world("axial").tolist()
    facts: viewer.Facts = {"plane": "axial", "measures": rows, "world": world}
    record = viewer.write_scan(folder, "case", every(), (TALL, WIDE), LABELS, facts)
    viewer.write_index(folder, [record], {"title": "Test cases"})
    return folder / viewer.INDEX


COLOURED = f"""(() => {{
  {COPY}
  const {{ data, width }} = copied("lines"), box = frame(), columns = new Set();
  for (let at = 0; at < data.length; at += 4) {{
    const column = ((at / 4 % width) + 0.5 - box.x) / box.w * scan.grid[1], inside = column % 1;
    if (data[at + 3] > 40 && inside > 0.2 && inside < 0.8) columns.add(Math.floor(column));
  }}
  return [...columns].sort((a, b) => a - b);
}})()"""


def test_a_test_case_opens_where_it_is_most_wrong_and_shows_the_errors(
    judged: Path, tmp_path: Path
) -> None:
    with _Reader(judged, tmp_path, 1400) as reader:
        reader.shown(20)
        assert reader.value("document.getElementById('layers').hidden") is False
        words = reader.value("document.getElementById('classes').textContent")
        assert "truth 0.25 ml" in words
        assert "Dice 0.750" in words
        seen = {}
        for layer in ("truth", "prediction", "errors", "both"):
            reader.key("t")
            assert reader.value("state.layer") == layer
            reader.value("choose('fill')")
            seen[layer] = reader.value(COLOURED)
        lesion = [*range(LEFT, LEFT + 9)]
        missed, invented = [*range(*MISSED)], [*range(*INVENTED)]
        assert seen["truth"] == [*lesion, *missed]
        assert seen["prediction"] == [*lesion, *invented]
        assert seen["errors"] == [*missed, *invented]
        assert seen["both"] == [*lesion, *missed, *invented]
        reader.key("Home")
        reader.shown(1)
        reader.key("w")
        reader.shown(20)
        assert reader.events == []


def test_scans_without_a_truth_offer_none(reader: _Reader) -> None:
    assert reader.value("document.getElementById('layers').hidden") is True
    assert reader.value("document.getElementById('wrongest').hidden") is True
    before = reader.value("state.layer")
    reader.key("t")
    assert reader.value("state.layer") == before


def test_three_planes_and_3d_are_drawn_from_the_same_slices(judged: Path, tmp_path: Path) -> None:
    """The lesion of two slices: what NiiVue reads at its place in mm, layer by layer."""
    with _Reader(judged, tmp_path, 1400) as reader:
        reader.shown(20)
        reader.key("d")
        drawn = "Number(document.getElementById('stage').dataset.solid)"
        reader.until(f"{drawn} === 1")
        assert reader.value("document.getElementById('solid-told').textContent") == ""
        grid = reader.value("solid.viewer.volumes.map((one) => one.hdr.dims.slice(1, 4))")
        assert grid == [[COLUMNS, ROWS, SLICES]] * 2
        sides = reader.value("solid.viewer.volumes[0].hdr.pixDims.slice(1, 4)")
        assert sides == pytest.approx([WIDE, TALL, 3.0])
        count = "solid.viewer.volumes[1].img.reduce((sum, one) => sum + Boolean(one), 0)"
        lesion, missed, invented = 2 * HIGH * 9, HIGH * 4, HIGH * 2
        assert reader.value(count) == lesion + invented
        for layer, voxels in (
            ("truth", lesion + missed), ("prediction", lesion + invented),
            ("errors", missed + invented), ("both", lesion + invented),
        ):  # fmt: skip
            before = reader.value(drawn)
            reader.key("t")
            reader.until(f"{drawn} > {before}")
            assert (layer, reader.value(count)) == (layer, voxels)
        cross = "solid.viewer.frac2mm(solid.viewer.scene.crosshairPos)[2]"
        first = reader.value(cross)
        reader.key("ArrowUp")
        reader.shown(21)
        assert reader.value(cross) - first == pytest.approx(3.0, abs=0.01)
        reader.key("d")
        reader.until("document.getElementById('solid').hidden")


def test_what_cannot_be_a_volume_offers_none(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    grey, ids = np.zeros((1, 9, 9), np.uint8), np.zeros((1, 9, 9), np.uint8)
    record = viewer.write_scan(folder, "a", zip(grey, ids, strict=True), None, LABELS, {})
    viewer.write_index(folder, [record], {})
    with _Reader(folder / viewer.INDEX, tmp_path / "profile") as flat:
        flat.until("document.getElementById('name').textContent === 'a'")
        assert flat.value("document.getElementById('planes').hidden") is True
    assert not (folder / "view" / "niivue.umd.js").exists()
    assert (page.parent / "view" / "niivue.umd.js").is_file()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing(dark: bool, judged: Path, page: Path, tmp_path: Path) -> None:
    for file in (judged, page):
        with _Reader(file, tmp_path / file.parent.name, 1400) as reader:
            reader.shown(20)
            reader.in_the_dark(dark)
            reader.value(
                "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
            )
            for width in (1400, 390):
                reader.widen(width)
                assert reader.violations() == []
