"""A raw folder gets all of its new content or none: filled in a hidden place, then renamed.

The place lies inside the folder, so that it is on the same disk even where the folder is a link
or a mount. DVC, adapters and :func:`pipeline.sources.listing.filled` do not see it.
Where several names have to move, a kill between them leaves :data:`pipeline.paths.MOVING`, and the
next run moves the rest; until then the folder does not count as filled.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pipeline import paths
from pipeline.runtime import files

_OLD = ".unfinished-old"


def begin(folder: Path, name: str, resume: bool) -> Path:
    """The hidden place ``name`` in ``folder``: empty, or with ``resume`` as a stopped run left it.

    Places of other names are removed.
    """
    finish(folder)
    place = folder / f".unfinished-{name}"
    for other in folder.glob(".unfinished-*/"):
        if other != place or not resume:
            shutil.rmtree(other)
    place.mkdir(parents=True, exist_ok=True)
    return place


def deliver(place: Path) -> None:
    """Move what is in ``place``, which is whole now, into the folder around it.

    What has the same name there is replaced.
    """
    files.sync_disk(place)
    os.replace(place, place.with_name(paths.MOVING))
    finish(place.parent)


def finish(folder: Path) -> None:
    """Move the rest, if a delivery was stopped between two names."""
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
