"""The documents: every link leads somewhere, every command exists, nothing generated is stale."""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import re
import shlex
import tomllib
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from distributed.cli import dask_scheduler, dask_worker
from dvc.cli.parser import get_main_parser

import model.__main__
import model.cli
import pipeline.__main__
from docs import generate
from pipeline.pairs import manifest
from pipeline.warps.steps import OURS
from tests.conftest import PROJECT
from tests.support import markdown
from tests.support.walkthrough import SAVED

PAGES = markdown.pages()
LINKS = [(page, link) for page in PAGES for link in markdown.links(markdown.read(page))]
COMMANDS = [(page, one) for page in PAGES for one in markdown.commands(markdown.read(page))]
PROGRAMS = {
    "pipeline": pipeline.__main__._parser,
    "model": model.__main__._parser,
    "flexunet": model.cli._parser,
}
LANGUAGES = {"sh", "text", "python", "yaml"}
OF_THE_SHELL = {
    *("cat", "cd", "cp", "export", "for", "git", "grep", "head", "ls", "mkdir", "mv", "nvidia-smi"),
    *("done", "pip", "pre-commit", "source"),
}  # fmt: skip
FLOORS = ("datasets_spec", "pipeline", "model", "tests", "docs")


def ids(value: object) -> str:
    return str(value)


def test_there_are_pages_links_and_commands() -> None:
    assert len(PAGES) > 20
    assert len(LINKS) > 100
    assert len(COMMANDS) > 40


# --- links -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    """Within the repository to a file and a heading; elsewhere by https, and nobody asks there."""
    assert not [link for other, link in LINKS if other == page and not _leads(page, link)]


def _leads(page: Path, link: str) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        known = re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}", parts.netloc)
        return parts.scheme == "https" and bool(known)
    target = (PROJECT / page).resolve()
    if parts.path:
        target = (target.parent / unquote(parts.path)).resolve()
    if not target.exists() or not target.is_relative_to(PROJECT.resolve()):
        return False
    return not parts.fragment or parts.fragment in markdown.anchors(target.read_text("utf-8"))


@pytest.mark.parametrize("page", [one for one in PAGES if one.parts[0] == "docs"], ids=ids)
def test_every_page_is_reached_from_another(page: Path) -> None:
    reached = {
        (PROJECT / other.parent / urlsplit(link).path).resolve()
        for other, link in LINKS
        if other != page and not urlsplit(link).scheme
    }
    assert (PROJECT / page).resolve() in reached


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_files_that_a_page_names_exist(page: Path) -> None:
    """Placeholders (<name>, *, ...) are left out, and what the reader is to write."""
    if page.name == "CHANGELOG.md" or "decisions" in page.parts:  # they name what was
        return
    text = markdown.read(page)
    written = {found[1] for one in markdown.blocks(text) if (found := SAVED.search(one.before))}
    for one in set(markdown.code(text)) - written:
        if re.fullmatch(rf"({'|'.join(FLOORS)})/[\w./-]+", one):
            assert (PROJECT / one).exists(), one


# --- commands --------------------------------------------------------------------------------


@pytest.mark.parametrize("page", sorted({page for page, _ in COMMANDS}), ids=ids)
def test_commands_exist(page: Path) -> None:
    """Each is parsed by the program that would run it; nothing is run."""
    for line in (line for other, line in COMMANDS if other == page):
        for words in _single(line):
            if words[0] not in OF_THE_SHELL:
                _parse(words)


def _single(line: str) -> Iterator[list[str]]:
    """The single commands of a line, without the variables that are set in front of them."""
    shell = shlex.shlex(line, posix=True, punctuation_chars=True)
    shell.whitespace_split = True
    for between, words in itertools.groupby(shell, lambda word: word in ("&&", ";", "|", "do")):
        wanted = list(itertools.dropwhile(re.compile(r"[A-Z_]+=").match, words))
        if wanted and not between:
            yield wanted


def _parse(words: list[str]) -> None:
    program = Path(words[0]).name
    if program == "make":
        targets = [word for word in words[1:] if "=" not in word]
        assert set(targets) <= _targets(), words
    elif program == "flexunet":
        _accepted(PROGRAMS[program](), words[1:])
    elif program == "dvc":
        _accepted(get_main_parser(), words[1:])
    elif program == "python" and words[1] == "-m":
        _module(words[2], words[3:])
    elif program == "python":
        compile(words[2], words[1], "exec")
    elif program == "dask":
        command = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}[words[1]]
        command.make_context(words[1], words[2:])
    elif program in ("ruff", "mypy", "pytest"):
        _tested(words[1:])
    else:
        pytest.fail(f"{words[0]}: nobody knows this program")


def _module(name: str, words: list[str]) -> None:
    if name in PROGRAMS:
        _accepted(PROGRAMS[name](), words)
    elif name == "pytest":
        _tested(words)
    else:
        assert name == "venv" or importlib.util.find_spec(name), name


def _accepted(parser: argparse.ArgumentParser, words: list[str]) -> None:
    """Whether the parser takes the words; --help ends it with 0, and a mistake with 2."""
    with suppress(SystemExit) if "--help" in words else nullcontext():
        parser.parse_args(words)


def _tested(words: list[str]) -> None:
    for word in words:
        if word.startswith("tests/"):
            assert (PROJECT / word.partition("::")[0]).exists(), word


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z.][\w./-]*):", (PROJECT / "Makefile").read_text("utf-8"), re.M))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_fenced_blocks_say_what_they_are(page: Path) -> None:
    if page.parts[0] != "tests":
        assert {block.language for block in markdown.blocks(markdown.read(page))} <= LANGUAGES


# --- what the code states --------------------------------------------------------------------


@pytest.mark.parametrize("page", generate.PAGES, ids=ids)
def test_generated_pages_are_up_to_date(page: Path) -> None:
    """``make docs`` writes them anew."""
    assert markdown.read(page) == generate.PAGES[page]()


def test_every_parameter_is_described() -> None:
    text = markdown.read(generate.REFERENCE / "parameters.md")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert not [row for row in rows if row.endswith("|  |")]


def test_every_column_of_the_manifest_is_described() -> None:
    text = markdown.read(generate.REFERENCE / "file-formats.md")
    table = text[text.index("## The manifest") : text.index("## per_case.csv")]
    assert set(manifest.SCHEMA.names) == set(re.findall(r"`(\w+)`", "".join(_first_cells(table))))


def _first_cells(table: str) -> list[str]:
    return re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)


@pytest.mark.parametrize("step", OURS)
def test_every_step_is_described(step: str) -> None:
    text = markdown.read(generate.REFERENCE / "augmentation.md")
    assert re.search(rf"^\|[^|]*`{step}`", text, re.MULTILINE)


def test_messages_that_are_explained_are_those_of_the_code() -> None:
    files = [
        PROJECT / "Makefile",
        *(f for one in FLOORS[:3] for f in (PROJECT / one).rglob("*.py")),
    ]
    source = re.sub(r"\"\s*\n\s*f?\"", "", "".join(file.read_text("utf-8") for file in files))
    text = markdown.read(Path("docs/how-to/troubleshooting.md"))
    messages = re.findall(r"^\| `([^`]+ [^`]+)` (?:in `\w+` )?\|", text, re.MULTILINE)
    assert len(messages) > 5
    missing = [part for one in messages for part in one.split("...") if part not in source]
    assert not missing


def test_the_gpu_build_is_that_of_the_lock() -> None:
    lock = (PROJECT / "requirements.txt").read_text("utf-8")
    (version,) = re.findall(r"^tensorflow-cpu==([\d.]+)", lock, re.MULTILINE)
    assert f'"tensorflow[and-cuda]=={version}"' in markdown.read(Path("docs/how-to/gpus.md"))


def test_the_citation_and_the_changelog_know_the_version() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert f"\n## {project['version']} (" in markdown.read(Path("CHANGELOG.md"))


def test_the_readme_is_read_in_a_minute() -> None:
    assert len(markdown.read(Path("README.md")).splitlines()) <= 120
