"""Follow a page of the documents as a reader would, in a folder of the reader's own.

Its fenced blocks are carried out in order:

- behind a paragraph that ends in "save this as `file`:", written to that file;
- behind "in `file`, above (or below) `text`, add:", inserted there, beside the line with that text
  (definitions as ``python``, single lines as ``text``);
- behind "in `file`, let the line (or section) `text` read:", put in its place;
- ``sh``: run by bash from the project's root; a command that fails ends the walk;
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

_FOLDERS = ("datasets_spec", "pipeline", "model", "tests", "docs")
_FILES = ("*.md", "*.yaml", "*.toml", "*.cff", "Makefile", "requirements.txt")
SAVED = re.compile(r"[Ss]ave this as `([^`]+)`:$")
_ADDED = re.compile(r"[Ii]n `([^`]+)`, (above|below) `([^`]+)`, add:$")
_REPLACED = re.compile(r"[Ii]n `([^`]+)`, let the (line|section) `([^`]+)` read:$")


class Reader:
    """Somebody with a copy of the project, a home folder, and nothing but the page."""

    def __init__(self, folder: Path) -> None:
        self.project, self.home = folder / "project", folder / "home"
        self.home.mkdir()
        self.project.mkdir()
        for name in _FOLDERS:
            shutil.copytree(PROJECT / name, self.project / name)
        for file in (file for pattern in _FILES for file in PROJECT.glob(pattern)):
            shutil.copy(file, self.project)
        self.printed = ""
        self.tried: list[str] = []

    def follow(self, text: str) -> None:
        """Carry out every block of a page; raises AssertionError at the first that fails."""
        for block in blocks(text):
            self._carry_out(block)

    def _carry_out(self, block: Block) -> None:
        if saved := SAVED.search(block.before):
            (self.project / saved[1]).write_text(block.text, "utf-8")
        elif added := _ADDED.search(block.before):
            apart = "\n\n" if block.language == "python" else ""  # as between any two definitions
            file, above = self.project / added[1], added[2] == "above"
            self._add(file, above, added[3], block.text + apart)
        elif replaced := _REPLACED.search(block.before):
            self._replace(self.project / replaced[1], replaced[2], replaced[3], block.text)
        elif block.language == "sh":
            self._run(block.text)
        elif block.language == "text":
            self._compare(block.text)
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
            assert re.search(wanted, self.printed), f"{line!r} is not in: {self.printed}"

    def _add(self, file: Path, above: bool, beside: str, text: str) -> None:
        content = file.read_text("utf-8")
        line = _line_with(content, beside)
        at = line.start() if above else line.end()
        file.write_text(content[:at] + text + content[at:], "utf-8")

    def _replace(self, file: Path, what: str, name: str, text: str) -> None:
        content = file.read_text("utf-8")
        at = _line_with(content, name) if what == "line" else _section(content, name)
        file.write_text(content[: at.start()] + text + content[at.end() :], "utf-8")


def _line_with(content: str, text: str) -> re.Match[str]:
    found = re.search(rf"^.*{re.escape(text)}.*\n", content, re.MULTILINE)
    assert found, f"no line has {text!r}"
    return found


def _section(content: str, name: str) -> re.Match[str]:
    """A section of a YAML file, up to the empty line behind it."""
    found = re.search(rf"^{name}:\n(?: .*\n)+", content, re.MULTILINE)
    assert found, f"there is no section {name!r}"
    return found
