"""The page as a reader meets it, in a real headless Chromium: drawn, moved, sorted, narrow.

A script is added to a copy of the page; it acts as a reader does and writes what it saw into
the document, which ``--dump-dom`` prints.
"""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from model.evaluate import evaluate
from model.flexunet import flexunet
from pipeline import paths
from pipeline.report import report
from tests import cohort

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER, reason="no Chromium is installed"),
]

LISTEN = """<script>
window.seen = { errors: [] };
window.onerror = (message) => { window.seen.errors.push(String(message)); };
for (const kind of ["error", "warn"])
  console[kind] = (...words) => window.seen.errors.push(words.join(" "));
</script>"""

ACT = """<script>
const seen = window.seen;
const cells = (table, column) => [...table.tBodies[0].rows].map((row) =>
  row.cells[column].dataset.v ?? row.cells[column].textContent.trim());
const pictures = [...document.images];
Promise.all(pictures.map((one) => one.decode().then(() => one.naturalWidth > 0, () => false)))
  .then((loaded) => {
    seen.pictures = loaded.length;
    seen.broken = loaded.filter((well) => !well).length;
    seen.without_alt = pictures.filter((one) => !one.alt).length;
    seen.width = document.documentElement.clientWidth;
    seen.wide = document.documentElement.scrollWidth;
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
    const result = document.createElement("pre");
    result.id = "seen";
    result.textContent = JSON.stringify(seen);
    document.body.append(result);
  });
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a small cohort with a network that was never trained."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = cohort.prepare()
        run = paths.run(cohort.DATASET)
        run.mkdir(parents=True)
        flexunet(settings.train.network, cohort.CLASSES).save(run / paths.MODEL)
        evaluate(cohort.DATASET, settings)
        (run / paths.HISTORY).write_text("epoch,loss,val_loss\n0,1.0,1.2\n1,0.5,0.8\n")
        report([cohort.DATASET], paths.PARAMS)
    return folder / paths.REPORT / "index.html"


def _browse(page: Path, *options: str) -> tuple[str, str]:
    """What the browser drew, as text, and what it said on its console."""
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
            *(f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=10000"),
            *(*options, "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    return done.stdout, done.stderr


def _seen(page: Path, tmp_path: Path, *options: str) -> dict[str, Any]:
    text = page.read_text("utf-8")
    text = text.replace("<head>", f"<head>{LISTEN}", 1).replace("</body>", f"{ACT}</body>", 1)
    copy = tmp_path / "index.html"
    copy.write_text(text, "utf-8")
    drawn, console = _browse(copy, *options)
    assert "CONSOLE" not in console
    found = re.search(r'<pre id="seen">(.*?)</pre>', drawn, re.DOTALL)
    assert found, drawn[-2000:]
    seen: dict[str, Any] = json.loads(html.unescape(found[1]))
    return seen


@pytest.fixture(scope="module")
def seen(page: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a reader at a desk saw and did."""
    return _seen(page, tmp_path_factory.mktemp("desk"), "--window-size=1280,900")


def test_the_console_stays_silent(seen: dict[str, Any]) -> None:
    assert seen["errors"] == []


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
    """A headless window has a least width, so the page stands in a frame of the phone's."""
    text = page.read_text("utf-8")
    inside = text.replace("<head>", f"<head>{LISTEN}", 1).replace("</body>", f"{ACT}</body>", 1)
    tell = "<script>addEventListener('message',(e)=>{document.title=e.data})</script>"
    frame = f'<iframe src="inside.html" style="width:{width}px;height:800px;border:0"></iframe>'
    say = "parent.postMessage(`wide ${seen.wide} of ${seen.width}`, '*');"
    (tmp_path / "inside.html").write_text(
        inside.replace("document.body.append(result);", f"document.body.append(result);{say}"),
        "utf-8",
    )
    outside = tmp_path / "index.html"
    outside.write_text(f"<!doctype html><title>none</title>{tell}{frame}", "utf-8")
    drawn, _ = _browse(outside, "--window-size=1400,900")
    found = re.search(r"<title>wide (\d+) of (\d+)</title>", drawn)
    assert found, drawn
    wide, window = int(found[1]), int(found[2])
    assert width - 20 <= window <= width  # less a scroll bar
    assert wide <= window


class _Keyboard:
    """A browser at the end of a pipe, which takes real keys (the DevTools protocol)."""

    def __init__(self, page: Path, profile: Path) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        options = (
            f"--headless --no-sandbox --disable-gpu --user-data-dir={shlex.quote(str(profile))}"
        )
        command = f"exec {shlex.quote(BROWSER)} {options} --remote-debugging-pipe about:blank"
        self._process = subprocess.Popen(
            ["bash", "-c", f"{command} 3<&{theirs_in} 4>&{theirs_out}"],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._read, self._write = os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb")
        self._number, self._rest, self._session = 0, b"", ""
        target = self._ask("Target.createTarget", url=page.as_uri())["targetId"]
        session = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = session["sessionId"]

    def _ask(self, method: str, **arguments: object) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": arguments}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while True:
            while b"\0" not in self._rest:
                more = os.read(self._read.fileno(), 1 << 16)
                assert more, "the browser ended"
                self._rest += more
            one, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(one)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def value(self, script: str) -> Any:
        """What an expression is worth in the page."""
        asked = self._ask("Runtime.evaluate", expression=script, returnByValue=True)
        return asked["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """One key, down and up."""
        for kind in ("rawKeyDown", "keyUp"):
            self._ask(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
            )

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(30)
        self._read.close()
        self._write.close()


def test_the_slider_and_the_tables_obey_the_keyboard(page: Path, tmp_path: Path) -> None:
    keyboard = _Keyboard(page, tmp_path / "profile")
    try:
        deadline = time.monotonic() + 60
        while keyboard.value("document.querySelector('th button') !== null") is not True:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        slider = "document.querySelector('input[type=range]')"
        keyboard.value(f"{slider}.focus()")
        told = []
        for key, code in (("ArrowLeft", 37), ("Home", 36), ("End", 35)):
            keyboard.press(key, code)
            told.append(keyboard.value(f"{slider}.getAttribute('aria-valuetext')"))
        assert told == ["image with truth", "the image alone", "image with prediction"]
        button = "document.querySelectorAll('section.dataset th button')[1]"
        keyboard.value(f"{button}.focus()")
        assert keyboard.value(f"{button}.matches(':focus')")
        keyboard.press(" ", 32)
        assert keyboard.value(f"{button}.parentElement.getAttribute('aria-sort')") == "ascending"
    finally:
        keyboard.close()
