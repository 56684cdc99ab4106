"""The JSON record beside what convert keeps of a case: which volumes, and if they are whole.

The manifest names the record with its sha256, and the record each volume with its own: so one
column stands for all of them. :mod:`pipeline.pairs.truth_record` and
:mod:`pipeline.pairs.scan_record` say what the records of labels and of scans hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_spec.contract import Problem
from pipeline.runtime import files


@dataclass(frozen=True)
class Kept:
    """Records of one kind: ``<place>/<case>/<record>`` beside the volumes that they name.

    ``what`` is kept, for people. A record is a mapping whose ``digests`` are the sha256 of each
    volume by its file's name.
    """

    place: str
    record: str
    what: str

    def of_case(self, case: str) -> str:
        """The folder of a case, relative to the manifest's."""
        return f"{self.place}/{case}"

    def write(self, folder: Path, case: str, record: Mapping[str, Any]) -> tuple[str, str]:
        """Write the record of a case, and remove volumes that it does not name.

        Returns its name relative to ``folder``, and its sha256.
        """
        name = f"{self.of_case(case)}/{self.record}"
        content = json.dumps(record, indent=1, sort_keys=True) + "\n"
        with files.replacing(folder / name, durable=False) as unfinished:
            unfinished.write_text(content, "utf-8")
        for file in (folder / name).parent.iterdir():
            if file.name not in (self.record, *record["digests"]):
                file.unlink()
        return name, hashlib.sha256(content.encode()).hexdigest()

    def read(self, folder: Path, name: str, digest: str) -> dict[str, Any]:
        """The record that a manifest names.

        Raises :class:`Problem` if its sha256 is not ``digest``.
        """
        file = folder / name
        if not name or not files.holds(file, digest):
            raise self.changed(file, folder.name)
        content: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return content

    def changed(self, file: Path, dataset: str) -> Problem:
        """The :class:`Problem` of a file that is not the one that the manifest stands for."""
        found = "another content" if file.is_file() else "none"
        return Problem(
            f"expected {self.what} that convert kept for the pairs, got {found}",
            where=file,
            remedy=f"Run: python -m pipeline convert {dataset}, then: dvc repro",
        )

    def is_whole(self, folder: Path, name: str, digest: str) -> bool:
        """Whether the record that a manifest names is there, and every volume that it names."""
        try:
            digests = self.read(folder, name, digest)["digests"]
        except Problem:
            return False
        here = (folder / name).parent
        return all(files.holds(here / volume, wanted) for volume, wanted in digests.items())
