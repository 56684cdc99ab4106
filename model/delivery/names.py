"""What the outputs of a prediction are called: as their scans, or so that nobody can tell.

Anonymous names are keyed hashes (:mod:`pipeline.pairs.pseudonyms`). Their salt is the value of
``FLEXUNET_ID_SALT`` or, without it, of a file that the first such run puts *beside* the folder of
results, so that it does not travel with them: whoever has it can try names until one fits.
"""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path

from pipeline.pairs import pseudonyms
from pipeline.pairs.pseudonyms import Pseudonyms

_LOG = logging.getLogger(__name__)
_OF = "predict"


def names(output: Path, anonymous: bool) -> Pseudonyms:
    """The names of what is written into ``output``: ``of("scan", name)`` and ``uid(uid)``."""
    return Pseudonyms(_OF, not anonymous, _salt(output) if anonymous else "")


def _salt(output: Path) -> str:
    salt = os.environ.get(pseudonyms.SALT_VARIABLE, "").strip()
    if salt:
        return salt
    whole = output.resolve()
    file = whole.with_name(f".{whole.name}.salt")
    if not file.exists():
        pseudonyms.write_guarded(file, secrets.token_hex(32) + "\n")
        _LOG.info(
            "  names are hashed with a new salt, in %s: keep it for further runs, and pass it to"
            " nobody who gets the results",
            file,
        )
    return file.read_text("utf-8").strip()
