"""Fill a raw folder completely or not at all: in a hidden staging folder, then by renaming.

The staging folder is inside the raw folder, so that both are on one disk even if the raw folder is
a link or a mount. DVC, adapters and :func:`pipeline.sources.listing.filled` ignore it. If a run
is killed between two of several renames, :data:`pipeline.paths.MOVING` remains, and the next run
moves the rest; until then the folder does not count as filled.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pipeline import paths
from pipeline.runtime import files

_OLD = ".unfinished-old"


def begin(folder: Path, name: str, resume: bool) -> Path:
    """The staging folder ``name`` in ``folder``: empty, or with ``resume`` as it was left.

    Staging folders of other names are removed.
    """
    finish(folder)
    place = folder / f".unfinished-{name}"
    for other in folder.glob(".unfinished-*/"):
        if other != place or not resume:
            shutil.rmtree(other)
    place.mkdir(parents=True, exist_ok=True)
    return place


def deliver(place: Path) -> None:
    """Move the complete content of the staging folder ``place`` into the folder around it.

    Entries of the same name there are replaced.
    """
    files.sync_disk(place)
    os.replace(place, place.with_name(paths.MOVING))
    finish(place.parent)


def finish(folder: Path) -> None:
    """Finish a delivery that was stopped between two renames."""
    place = folder / paths.MOVING
    if not place.is_dir():
        return
    old = folder / _OLD
    shutil.rmtree(old, ignore_errors=True)
    old.mkdir()
    for entry in sorted(place.iterdir()):
        target = folder / entry.name
        if os.path.lexists(target):
            os.replace(target, old / entry.name)
        os.replace(entry, target)
    files.sync(folder)
    place.rmdir()
    shutil.rmtree(old)
