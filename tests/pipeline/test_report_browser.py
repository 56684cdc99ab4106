"""The page as a reader meets it, in a real headless Chromium: drawn, moved, sorted, narrow.

The browser is led by the DevTools protocol, and each answer is waited for: no test rests on how
fast the machine is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from model.evaluate import evaluate
from pipeline import paths
from pipeline.report import report
from tests.support import cohort
from tests.support.browser import PROGRAM, Browser
from tests.support.models import save_untrained

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAM, reason="no Chromium is installed"),
]

ACT = """(async () => {
  const seen = {};
  const cells = (table, column) => [...table.tBodies[0].rows].map((row) =>
    row.cells[column].dataset.v ?? row.cells[column].textContent.trim());
  const pictures = [...document.images];
  const loaded = await Promise.all(
    pictures.map((one) => one.decode().then(() => one.naturalWidth > 0, () => false)));
  seen.pictures = loaded.length;
  seen.broken = loaded.filter((well) => !well).length;
  seen.without_alt = pictures.filter((one) => !one.alt).length;
  const slider = document.querySelector("input[type=range]");
  const sheet = document.getElementById(slider.dataset.blend);
  const style = getComputedStyle(sheet);
  const look = () => [style.getPropertyValue("--truth"), style.getPropertyValue("--predicted"),
    slider.getAttribute("aria-valuetext")];
  slider.focus();
  seen.focused = document.activeElement === slider;
  seen.name = document.querySelector(`label[for="${slider.id}"]`).textContent;
  seen.slider = [look()];
  for (const value of [4, 0]) {
    slider.value = value;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    seen.slider.push(look());
  }
  const table = document.querySelector("section.dataset table.sort");
  const button = table.tHead.querySelectorAll("button")[1];
  seen.before = cells(table, 1);
  for (const key of ["up", "down"]) {
    button.click();
    seen[key] = cells(table, 1);
    seen[`${key}_told`] = button.parentElement.getAttribute("aria-sort");
  }
  const landmarks = ["header", "nav", "main", "footer"];
  seen.landmarks = landmarks.filter((one) => document.querySelector(one));
  seen.ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  return seen;
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a small cohort with a network that was never trained."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = cohort.prepare()
        run = paths.run(cohort.DATASET)
        save_untrained(cohort.DATASET, settings)
        evaluate(cohort.DATASET, settings)
        (run / paths.HISTORY).write_text("epoch,loss,val_loss\n0,1.0,1.2\n1,0.5,0.8\n")
        report([cohort.DATASET], paths.PARAMS)
    return folder / paths.REPORT / "index.html"


@pytest.fixture(scope="module")
def desk(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser with the page, as wide as a desk's."""
    with Browser(page, tmp_path_factory.mktemp("desk")) as browser:
        yield browser


@pytest.fixture(scope="module")
def seen(desk: Browser) -> dict[str, Any]:
    """What a reader at a desk saw and did."""
    seen: dict[str, Any] = desk.value(ACT)
    return seen


def test_the_console_stays_silent(desk: Browser, seen: dict[str, Any]) -> None:
    assert seen
    assert desk.events == []


def test_a_console_that_speaks_is_heard(tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text("<!doctype html><script>console.warn('a'); missing();</script>", "utf-8")
    with Browser(page, tmp_path / "profile") as browser:
        assert [one["method"] for one in browser.events] == [
            "Runtime.consoleAPICalled",
            "Runtime.exceptionThrown",
        ]


def test_every_picture_loads_and_says_what_it_shows(seen: dict[str, Any]) -> None:
    assert seen["pictures"] > 15
    assert (seen["broken"], seen["without_alt"]) == (0, 0)


def test_the_slider_leads_from_image_to_truth_to_prediction(seen: dict[str, Any]) -> None:
    assert seen["focused"]
    assert seen["name"] == "Image · truth · prediction"
    assert seen["slider"] == [
        ["1", "1", "truth (solid) and prediction (dashed)"],
        ["0", "1", "image with prediction"],
        ["0", "0", "the image alone"],
    ]


def test_tables_sort_up_and_down_and_say_so(seen: dict[str, Any]) -> None:
    numbers = sorted(float(value) for value in seen["before"] if value)
    assert [float(value) for value in seen["up"] if value] == numbers
    assert [float(value) for value in seen["down"] if value] == numbers[::-1]
    assert (seen["up_told"], seen["down_told"]) == ("ascending", "descending")
    assert sorted(seen["before"]) == sorted(seen["up"])


def test_a_screen_reader_finds_its_landmarks(seen: dict[str, Any]) -> None:
    assert seen["landmarks"] == ["header", "nav", "main", "footer"]
    assert len(set(seen["ids"])) == len(seen["ids"])


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_never_wider_than_its_window(width: int, page: Path, tmp_path: Path) -> None:
    with Browser(page, tmp_path, width) as browser:
        root = "document.documentElement"
        wide, window = (browser.value(f"{root}.{name}Width") for name in ("scroll", "client"))
    assert width - 20 <= window <= width  # less a scroll bar
    assert wide <= window


def test_the_slider_and_the_tables_obey_the_keyboard(page: Path, tmp_path: Path) -> None:
    with Browser(page, tmp_path) as browser:
        slider = "document.querySelector('input[type=range]')"
        browser.value(f"{slider}.focus()")
        values = []
        for key, code in (("ArrowLeft", 37), ("Home", 36), ("End", 35)):
            browser.press(key, code)
            values.append(browser.value(f"{slider}.getAttribute('aria-valuetext')"))
        assert values == ["image with truth", "the image alone", "image with prediction"]
        button = "document.querySelectorAll('section.dataset th button')[1]"
        browser.value(f"{button}.focus()")
        assert browser.value(f"{button}.matches(':focus')")
        browser.press(" ", 32)
        assert browser.value(f"{button}.parentElement.getAttribute('aria-sort')") == "ascending"


def test_a_picture_opens_large_turns_and_closes(page: Path, tmp_path: Path) -> None:
    with Browser(page, tmp_path) as browser:
        pictures = "document.querySelectorAll('.sheet.wide .stack')"
        count = browser.value(f"{pictures}.length")
        assert count > 1
        browser.value(f"{pictures}[0].focus()")
        browser.press("Enter", 13)
        dialog = "document.querySelector('dialog')"
        seen = f"{dialog}.open && {dialog}.querySelector('img').alt"
        alts = [browser.value(f"{pictures}[{at}].querySelector('img').alt") for at in (0, 1)]
        assert browser.value(seen) == alts[0]
        before = browser.value(f"{pictures}[0].clientWidth")
        assert browser.value(f"{dialog}.querySelector('.stack').clientWidth") > before
        browser.press("ArrowRight", 39)
        assert browser.value(seen) == alts[1]
        browser.press("ArrowLeft", 37)
        assert browser.value(seen) == alts[0]
        browser.value(f"[...{dialog}.querySelectorAll('button')].at(-1).click()")
        assert browser.value(seen) == alts[1]
        browser.press("Escape", 27)
        browser.until(f"!{dialog}.open")
        browser.until(f"document.activeElement === {pictures}[1]")  # where the reader stopped
        browser.value(f"{pictures}[0].click()")
        assert browser.value(seen) == alts[0]


def _saved(browser: Browser, act: str) -> ElementTree.Element:
    """The SVG that a reader gets who does ``act``."""
    browser.value(
        "window.saved = null; URL.createObjectURL = (blob) => { window.saved = blob; return '#'; }"
    )
    browser.value(act)
    text = browser.value("window.saved.text()")
    return ElementTree.fromstring(text)  # noqa: S314  # of our own page


def test_plots_and_pictures_are_saved_as_svg(page: Path, tmp_path: Path) -> None:
    svg = "{http://www.w3.org/2000/svg}"
    with Browser(page, tmp_path) as browser:
        plots = browser.value("document.querySelectorAll('svg.plot').length")
        assert browser.value("document.querySelectorAll('.save').length") == plots > 1
        plot = _saved(browser, "document.querySelector('.save').click()")
        texts = [one.text for one in plot.iter(f"{svg}text")]
        assert "csf" in texts
        assert not [one for one in plot.iter() if "var(" in one.get("style", "")]
        browser.value("document.querySelector('.sheet.wide .stack').click()")
        browser.until("document.querySelector('dialog').open")
        picture = _saved(browser, "document.querySelectorAll('dialog button')[1].click()")
        [image] = picture.iter(f"{svg}image")
        assert str(image.get("href")).startswith("data:image/webp")
        assert [one for one in picture.iter(f"{svg}path") if "rgb(" in one.get("style", "")]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing(width: int, dark: bool, page: Path, tmp_path: Path) -> None:
    with Browser(page, tmp_path, width) as browser:
        browser.in_the_dark(dark)
        browser.open_all()
        assert browser.violations() == []
        browser.value("document.querySelector('.sheet.wide .stack').click()")
        browser.until("document.querySelector('dialog').open")
        assert browser.violations() == []


def test_axe_finds_what_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text("<!doctype html><title>a</title><main><img src='data:,'></main>", "utf-8")
    with Browser(page, tmp_path / "profile") as browser:
        rules = {one.partition(":")[0] for one in browser.violations()}
    assert rules >= {"html-has-lang", "image-alt"}
