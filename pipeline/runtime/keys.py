"""Seeds: every random number is drawn from a key that names its purpose, not global state."""

from __future__ import annotations

import hashlib


def key(*parts: object) -> int:
    """A 63-bit seed that stands for ``parts``; independent of the machine and the order of work."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
