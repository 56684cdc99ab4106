"""Names that stand for the raw data's ids, where the source is not published as anonymous.

A name is an HMAC-SHA256 (RFC 2104) of the id, keyed by ``convert.id_salt``: the same in every
run, and nobody without the salt can try ids until one fits.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass


@dataclass(frozen=True)
class Pseudonyms:
    """What the ids of a dataset are called outside the raw data; those of anonymous ones stay."""

    dataset: str
    anonymous: bool
    salt: str

    def of(self, kind: str, raw_id: str) -> str:
        """The name of a patient, case, rater or source, 16 hexadecimal digits; "" stays ""."""
        return raw_id if self.anonymous or not raw_id else self._digest(kind, raw_id)[:16]

    def uid(self, raw_uid: str) -> str:
        """The name of a DICOM instance: a UID of the form 2.25.<128 bits> (PS3.5, annex B.2)."""
        if self.anonymous or not raw_uid:
            return raw_uid
        return f"2.25.{int(self._digest('instance', raw_uid)[:32], 16)}"

    def _digest(self, kind: str, raw_id: str) -> str:
        content = "\0".join((self.dataset, kind, raw_id))
        return hmac.new(self.salt.encode(), content.encode(), hashlib.sha256).hexdigest()
