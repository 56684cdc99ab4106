"""Markdown as the documents of this project use it: fenced blocks, links, headings and code."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import PROJECT

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]+)\)")
_SOURCE = re.compile(r"(?:src|srcset|href)=\"([^\"]+)\"")
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the paragraph in front of it, on one line."""

    language: str
    text: str
    before: str


def pages() -> list[Path]:
    """Every document, relative to the project's root, sorted."""
    found = [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")]
    found += (PROJECT / "tests").rglob("*.md")
    return sorted(file.relative_to(PROJECT) for file in found if "fixtures" not in file.parts)


def read(page: Path) -> str:
    return (PROJECT / page).read_text("utf-8")


def blocks(text: str) -> list[Block]:
    """The fenced blocks in order."""
    return [
        Block(one[1], one[2], " ".join(text[: one.start()].strip().split("\n\n")[-1].split()))
        for one in _FENCE.finditer(text)
    ]


def sections(text: str) -> dict[str, str]:
    """Heading of the second level -> what stands below it."""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return _FENCE.sub("", text)


def links(text: str) -> list[str]:
    """The targets of all links and pictures, code left out."""
    plain = prose(text)
    return [*_LINK.findall(_CODE.sub("", plain)), *_SOURCE.findall(plain)]


def code(text: str) -> list[str]:
    """What stands between single backticks."""
    return _CODE.findall(prose(text))


def anchors(text: str) -> set[str]:
    """The anchors that a page's headings get where it is shown."""
    seen: Counter[str] = Counter()
    made = set()
    for heading in re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")
        made.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return made


def commands(text: str) -> Iterator[str]:
    """The commands of the ``sh`` blocks, one by one; a line that ends in a backslash continues."""
    for block in blocks(text):
        if block.language == "sh":
            for line in block.text.replace("\\\n", " ").splitlines():
                if command := re.sub(r"(^|\s)#.*", "", line).strip():
                    yield command
