"""Pseudonyms for the ids in the raw data of datasets that are not published as anonymous.

A pseudonym is an HMAC-SHA256 (RFC 2104) of the id, keyed by a salt: the same in every run with
that salt, and nobody without it can find the id by trial. So the salt is a secret and not a
parameter: parameters are committed, and DVC writes them into its lock and its run cache. It is the
value of ``FLEXUNET_ID_SALT`` in the environment, or else the content of ``data/id_salt``, which the
first conversion that needs it fills with random digits; git and DVC ignore that file.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import filelock

from datasets_spec import Adapter
from datasets_spec.contract import Problem
from pipeline import paths
from pipeline.runtime.files import replacing

_LOG = logging.getLogger(__name__)
SALT_VARIABLE = "FLEXUNET_ID_SALT"
SALT_HINT = f"Was the id salt ({SALT_VARIABLE}, or {paths.ID_SALT}) changed? "
_PUBLISHED = "flexunet-pipeline"
"""The salt in the parameter file of earlier versions, which is public."""


@dataclass(frozen=True)
class Pseudonyms:
    """The pseudonyms of a dataset's ids; the ids of an anonymous dataset are kept."""

    dataset: str
    anonymous: bool
    salt: str = field(repr=False)

    def of(self, kind: str, raw_id: str) -> str:
        """The pseudonym of a patient, case, rater or source: 16 hexadecimal digits; "" stays ""."""
        return raw_id if self.anonymous or not raw_id else self._digest(kind, raw_id)[:16]

    def uid(self, raw_uid: str) -> str:
        """The pseudonym of a DICOM instance: a UID 2.25.<128 bits> (PS3.5, annex B.2)."""
        if self.anonymous or not raw_uid:
            return raw_uid
        return f"2.25.{int(self._digest('instance', raw_uid)[:32], 16)}"

    @property
    def fingerprint(self) -> str:
        """A digest of what the pseudonyms depend on beside the ids; it does not reveal the salt."""
        return "" if self.anonymous else self._digest("salt", "")

    def _digest(self, kind: str, raw_id: str) -> str:
        content = "\0".join((self.dataset, kind, raw_id))
        return hmac.new(self.salt.encode(), content.encode(), hashlib.sha256).hexdigest()


def load(adapter: Adapter, new_salt: bool = False) -> Pseudonyms:
    """The pseudonyms of a dataset; an anonymous one needs no salt.

    ``new_salt`` creates a salt if there is none. Raises :class:`Problem` if there is none
    otherwise, and for one that is empty or public.
    """
    anonymous = adapter.dataset.anonymous
    return Pseudonyms(adapter.name, anonymous, "" if anonymous else _salt(new_salt))


def _salt(new: bool) -> str:
    salt, where = os.environ.get(SALT_VARIABLE), SALT_VARIABLE
    if salt is None:
        salt, where = _salt_of_file(paths.ID_SALT, new), str(paths.ID_SALT)
    salt = salt.strip()
    if not salt or salt == _PUBLISHED:
        raise Problem(
            "expected a salt that nobody else knows, got"
            + (" the one that earlier versions published" if salt else " nothing"),
            where=where,
            remedy="Put random digits there, or remove it: convert then makes a salt in"
            f" {paths.ID_SALT}.",
        )
    return salt


def _salt_of_file(file: Path, new: bool) -> str:
    if new and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(file.with_name(f".{file.name}.lock")):
            if not file.exists():
                write_guarded(file, secrets.token_hex(32) + "\n")
                _LOG.info(
                    "convert: ids are hashed with a new salt, in %s: keep it, and keep it"
                    " secret; without it the same data get other names",
                    file,
                )
    try:
        return file.read_text("utf-8")
    except FileNotFoundError:
        raise Problem(
            "expected the salt that convert hashed the ids with, found none",
            where=file,
            remedy=f"Bring that file from where convert ran, or set {SALT_VARIABLE}.",
        ) from None


def write_guarded(file: Path, text: str) -> None:
    """Write a file that its owner alone may read (mode 0600), completely or not at all."""
    with replacing(file) as unfinished:
        unfinished.unlink(missing_ok=True)
        number = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
