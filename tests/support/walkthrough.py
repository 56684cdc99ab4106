"""Follow a page of the documents as a reader would, in a folder of the reader's own.

Its fenced blocks are carried out in order:

- ``sh``: run by bash from the project's root; a command that fails ends the walk;
- ``python`` behind a paragraph that says "Save ... as `file`": written to that file;
- ``python`` or ``yaml`` behind "In `file`, below `line`, add": inserted below that line;
- ``yaml`` behind "In `file`, let the section `name` read": takes that section's place;
- ``text`` behind a command: what the command printed, where ``...`` stands for anything. In front
  of the first command it is a drawing, which nothing is done with.

Any other block is an error, so that nothing on the page goes untried.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import PROJECT
from tests.support.markdown import Block, blocks

_COPIED = (
    "datasets_spec",
    "pipeline",
    "model",
    "tests",
    "params.yaml",
    "dvc.yaml",
    "pyproject.toml",
)
_SAVE = re.compile(r"Save\b[^`]*\bas `([^`]+)`:$")
_ADD = re.compile(r"[Ii]n `([^`]+)`,[^`]*\bbelow `([^`]+)`, add:$")
_SECTION = re.compile(r"[Ii]n `([^`]+)`,[^`]*\bsection `([^`]+)` read:$")


class Reader:
    """Somebody with a copy of the project, a home folder, and nothing but the page."""

    def __init__(self, folder: Path) -> None:
        self.project, self.home = folder / "project", folder / "home"
        self.home.mkdir()
        self.project.mkdir()
        for name in _COPIED:
            source, target = PROJECT / name, self.project / name
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        self.printed = ""
        self.tried: list[str] = []

    def follow(self, text: str) -> None:
        """Carry out every block of a page; raises AssertionError at the first that fails."""
        for block in blocks(text):
            self._carry_out(block)

    def _carry_out(self, block: Block) -> None:
        if block.language == "sh":
            self._run(block.text)
        elif block.language == "text":
            self._compare(block.text)
        elif saved := _SAVE.search(block.before):
            (self.project / saved[1]).write_text(block.text, "utf-8")
        elif added := _ADD.search(block.before):
            self._insert(self.project / added[1], added[2], block.text)
        elif section := _SECTION.search(block.before):
            self._replace(self.project / section[1], section[2], block.text)
        else:
            raise AssertionError(f"nobody knows what to do with this block: {block}")

    def _run(self, script: str) -> None:
        places = [str(Path(sys.executable).parent), os.environ["PATH"]]
        own = {"HOME": str(self.home), "PATH": os.pathsep.join(places), "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd=self.project,
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{script}{done.stdout}"
        self.printed = done.stdout
        self.tried.append(script)

    def _compare(self, shown: str) -> None:
        if not self.tried:
            return
        for line in filter(None, map(str.strip, shown.splitlines())):
            wanted = ".*".join(re.escape(part) for part in line.split("..."))
            assert re.search(wanted, self.printed), (
                f"{line!r} is not in what was printed: {self.printed}"
            )

    def _insert(self, file: Path, line: str, text: str) -> None:
        content = file.read_text("utf-8")
        at = re.search(rf"^\s*{re.escape(line)}.*\n", content, re.MULTILINE)
        assert at, f"{file.name} has no line {line}"
        file.write_text(content[: at.end()] + text + content[at.end() :], "utf-8")

    def _replace(self, file: Path, section: str, text: str) -> None:
        content = file.read_text("utf-8")
        at = re.search(rf"^{section}:\n(?:[ #].*\n|\n)*", content, re.MULTILINE)
        assert at, f"{file.name} has no section {section}"
        file.write_text(content[: at.start()] + text + "\n" + content[at.end() :], "utf-8")
