"""What is wanted of a prediction beside its masks."""

from __future__ import annotations

from dataclasses import dataclass

SEG_KINDS = ("auto", "binary", "labelmap", "none")


@dataclass(frozen=True)
class Wish:
    """Which files are written of each scan, and under which names.

    ``seg``: the kind of DICOM SEG of DICOM series (:mod:`model.delivery.seg`); ``auto`` is
    binary where it can be written and a note where not. ``anonymous``: no file holds anything of a
    header or of a file's name, and no DICOM SEG is written, since the standard demands the patient
    in it.
    """

    seg: str = "auto"
    view: bool = True
    overlays: bool = False
    film: bool = False
    probabilities: bool = False
    uncertainty: bool = False
    anonymous: bool = False
