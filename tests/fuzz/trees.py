"""Inputs in memory: what lies in a folder, as bytes or as something that is no regular file."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class Special:
    """No regular file: a ``pipe``, a ``folder``, a ``link`` to ``target``, or a ``locked`` file."""

    kind: str
    target: str = ""


Entry = bytes | Special
Tree = dict[str, Entry]
"""Path below the input's folder, with "/" between its parts -> what lies there."""


@dataclass(frozen=True)
class Input:
    """One input of a reader.

    ``main`` names the paths that the reader is called with ("" is the folder), ``origin`` the seed
    that it was made from, ``recipe`` what was done to it, in order, and ``packed`` the files
    in an archive. A seed that ``may_be_refused`` as it stands is another program's.
    """

    origin: str
    tree: Tree
    main: tuple[str, ...] = ("",)
    recipe: tuple[str, ...] = ()
    packed: dict[str, bytes] = field(default_factory=dict)
    may_be_refused: bool = False

    @property
    def byte_count(self) -> int:
        """How large it is on the disk."""
        return sum(len(entry) for entry in self.tree.values() if isinstance(entry, bytes))

    def files(self) -> list[str]:
        """The paths of its regular files, in order."""
        return sorted(path for path, entry in self.tree.items() if isinstance(entry, bytes))

    def content(self, path: str) -> bytes:
        """The bytes of a regular file."""
        entry = self.tree[path]
        assert isinstance(entry, bytes)
        return entry

    def with_entry(self, path: str, entry: Entry, recipe: str) -> Input:
        """The same with something else at ``path``."""
        return replace(
            self, tree={**self.tree, path: entry}, recipe=(*self.recipe, f"{path!r}: {recipe}")
        )

    def without(self, path: str) -> Input:
        """The same without the file at ``path``."""
        tree = {name: entry for name, entry in self.tree.items() if name != path}
        return replace(self, tree=tree, recipe=(*self.recipe, f"{path!r}: removed"))

    def renamed(self, path: str, name: str) -> Input:
        """The same with another name for ``path``; ``main`` follows."""
        tree = {name if old == path else old: entry for old, entry in self.tree.items()}
        main = tuple(name if old == path else old for old in self.main)
        recipe = (*self.recipe, f"{path!r}: renamed to {name!r}")
        return replace(self, tree=tree, main=main, recipe=recipe)

    def paths(self, folder: Path) -> tuple[Path, ...]:
        """Where the paths of ``main`` lie once the tree is written to ``folder``."""
        return tuple(folder / name if name else folder for name in self.main)


def of_folder(folder: Path, *patterns: str) -> Tree:
    """The regular files below ``folder`` that fit a pattern (all, if none is given)."""
    files = {file for pattern in patterns or ("**/*",) for file in folder.glob(pattern)}
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(files)
        if file.is_file()
    }


def write(tree: Tree, folder: Path) -> None:
    """Write ``tree`` below ``folder``, which is emptied first. "{folder}" in a link is that."""
    remove(folder)
    folder.mkdir(parents=True)
    for name, entry in tree.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(entry, bytes):
            file.write_bytes(entry)
        elif entry.kind == "pipe":
            os.mkfifo(file)
        elif entry.kind == "folder":
            file.mkdir()
        elif entry.kind == "link":
            file.symlink_to(entry.target.replace("{folder}", str(folder)))
        else:
            file.write_bytes(b"locked")
            file.chmod(0)


def remove(folder: Path) -> None:
    """Remove what a reader or :func:`write` left at ``folder``, whatever its modes."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
        return
    for here, folders, _ in os.walk(folder):
        for name in folders:
            if not Path(here, name).is_symlink():
                Path(here, name).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
