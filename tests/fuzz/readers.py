"""Every reader of the project, called as its verbs call it.

To add one, write its seeds, its call and its fault in one of the modules ``read_*`` and list it in
that module's ``READERS``.
"""

from __future__ import annotations

import importlib

from tests.fuzz import read_cohorts, read_drawings, read_files, read_pictures, read_scans
from tests.fuzz.reader import Reader

READERS = (
    *read_scans.READERS,
    *read_drawings.READERS,
    *read_pictures.READERS,
    *read_cohorts.READERS,
    *read_files.READERS,
)
"""All of them, in the order of the table."""


def find(name: str) -> Reader:
    """The reader of that name; "module:NAME" for one that a test planted."""
    module, _, variable = name.partition(":")
    if variable:
        found: Reader = getattr(importlib.import_module(module), variable)
        return found
    return {reader.name: reader for reader in READERS}[name]
