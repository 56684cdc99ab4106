"""Which findings of a case leave something in doubt, and which were handled.

A finding is "kind: words", and a manifest joins those of a case by "; ". *Handled*: the volume is
right all the same, and it is recorded what was done. Whatever is not listed here is a doubt: what
the header says may be wrong, and a person should look.
"""

from __future__ import annotations

HANDLED = (
    "duplicate position",
    "gantry tilt",
    "left out",
    "lossy compression",
    "no rescale",
    "padding",
    "rescale per slice",
    "resampled by nearest neighbour",
    "single slice",
)
"""How findings begin that are no doubts; those of labels have "label: " in front."""


def is_doubt(finding: str) -> bool:
    """Whether a finding leaves something in doubt."""
    return not finding.removeprefix("label: ").startswith(HANDLED)


def of_case(findings: str) -> str:
    """The findings of a case that are doubts, joined as they were; "" where there are none."""
    return "; ".join(finding for finding in findings.split("; ") if finding and is_doubt(finding))


def handled(findings: str) -> str:
    """The others."""
    return "; ".join(finding for finding in findings.split("; ") if not is_doubt(finding))
