"""A real headless Chromium with one window on a page, led by the DevTools protocol.

Each answer is waited for: no test rests on how fast the machine is.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import axe_core_python

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
"""Where it is; "" where none is installed."""

PATIENCE_S = 120
_AXE = Path(axe_core_python.__file__).with_name("axe.min.js")
EVENTS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")


class Browser:
    """A browser at the end of a pipe, with one window on a page."""

    def __init__(self, page: Path, profile: Path, width: int = 1280) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        drawing = "--disable-gpu --enable-unsafe-swiftshader"  # WebGL by the processor
        options = f"--headless --no-sandbox {drawing} --user-data-dir={shlex.quote(str(profile))}"
        command = f"exec {shlex.quote(PROGRAM)} {options} --remote-debugging-pipe about:blank"
        self._process = subprocess.Popen(
            ["bash", "-c", f"{command} 3<&{theirs_in} 4>&{theirs_out}"],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._read, self._write = os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb")
        self._number, self._rest, self._session = 0, b"", ""
        self.events: list[dict[str, Any]] = []
        try:
            self._open(page, width)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, page: Path, width: int) -> None:
        target = self.ask("Target.createTarget", url=page.as_uri())["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = session["sessionId"]
        self.until("location.protocol === 'file:' && document.readyState === 'complete'")
        self.widen(width)
        for domain in ("Runtime", "Log"):  # each repeats its earlier events first
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **arguments: object) -> dict[str, Any]:
        """The answer to one command of the DevTools protocol."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": arguments}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while True:
            answer = self._hear()
            if answer.get("method") in EVENTS:
                self.events.append(answer)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _hear(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], PATIENCE_S)
            assert ready, f"the browser was silent for {PATIENCE_S} s"
            more = os.read(self._read.fileno(), 1 << 16)
            assert more, "the browser ended"
            self._rest += more
        one, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(one)
        return message

    def value(self, script: str) -> Any:
        """What an expression, or the promise that it makes, is worth in the page."""
        asked = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in asked, asked
        return asked["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression is true in the page."""
        deadline = time.monotonic() + PATIENCE_S
        while self.value(script) is not True:
            assert time.monotonic() < deadline, f"not true in {PATIENCE_S} s: {script}"
            time.sleep(0.05)

    def press(self, key: str, code: int) -> None:
        """One key, down and up."""
        for kind in ("rawKeyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
            )

    def widen(self, width: int, height: int = 900) -> None:
        """Give the window another size, in CSS pixels."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def in_the_dark(self, dark: bool) -> None:
        """Let the reader prefer dark pages, or not."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def open_all(self) -> None:
        """Unfold whatever is folded."""
        self.value("document.querySelectorAll('details').forEach((one) => { one.open = true; })")

    def violations(self) -> list[str]:
        """What axe finds on the page as it is: the rule, and the first element that breaks it."""
        self.value(f"{_AXE.read_text('utf-8')}; 0")
        found: list[str] = self.value(
            "axe.run().then((seen) => seen.violations.map((one) => `${one.id}: ${one.help}:"
            " ${one.nodes[0].html} ${one.nodes[0].failureSummary}`))"
        )
        return found

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self._read.close()
        self._write.close()
