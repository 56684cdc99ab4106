"""``records/<scan>.json``: what was made of a scan, from what, so that it is made only once.

A record is written after all that it names, so a scan that a stopped run left halfway has none.
The table of volumes and the page are made of all records.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.runtime import files

RECORDS = "records"


def write(
    folder: Path, name: str, fingerprint: str, outputs: Iterable[Path], content: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the record of a scan, and return it. ``outputs``: files below ``folder``."""
    digests = {file.relative_to(folder).as_posix(): files.sha256(file) for file in sorted(outputs)}
    record = {**content, "name": name, "fingerprint": fingerprint, "outputs": digests}
    with files.replacing(folder / RECORDS / f"{name}.json") as unfinished:
        unfinished.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", "utf-8")
    return record


def current(folder: Path, name: str, fingerprint: str) -> dict[str, Any] | None:
    """The record of a scan, if it is of this fingerprint and all that it names is as it was."""
    try:
        record = json.loads((folder / RECORDS / f"{name}.json").read_text("utf-8"))
        outputs = dict(record["outputs"])
        if record["fingerprint"] != fingerprint or record["name"] != name:
            return None
    except (OSError, ValueError, LookupError, TypeError):
        return None
    whole = all(files.holds(folder / place, digest) for place, digest in outputs.items())
    return dict(record) if whole else None


def every(folder: Path) -> list[dict[str, Any]]:
    """All records of a folder that can be read, by name."""
    found = []
    for file in sorted((folder / RECORDS).glob("*.json")):
        try:
            found.append(dict(json.loads(file.read_text("utf-8"))))
        except (OSError, ValueError, TypeError):
            continue
    return found
