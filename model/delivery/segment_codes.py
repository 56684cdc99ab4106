"""What a class is, as codes of SNOMED CT: its category and its type in a DICOM segment.

The pairs of value and meaning are those of the dictionaries of pydicom and of the standard's
context groups (PS3.16: CID 7150 for categories, CID 7151 for types), which a test compares. The
context groups lack air and infarct; SNOMED CT itself has both.
"""

from __future__ import annotations

from dataclasses import dataclass

from datasets_spec.contract import Label


@dataclass(frozen=True)
class Concept:
    """A concept of SNOMED CT."""

    value: str
    meaning: str


TISSUE = Concept("85756007", "Tissue")
STRUCTURE = Concept("91723000", "Anatomical Structure")
ABNORMAL = Concept("49755003", "Morphologically Abnormal Structure")
SUBSTANCE = Concept("105590001", "Substance")

CONCEPTS = {
    "air": (SUBSTANCE, Concept("15158005", "Air")),
    "csf": (STRUCTURE, Concept("65216001", "Cerebrospinal Fluid")),
    "grey_matter": (STRUCTURE, Concept("389081007", "Gray Matter")),
    "white_matter": (STRUCTURE, Concept("389080008", "White Matter")),
    "bone": (TISSUE, Concept("3138006", "Bone")),
    "soft_tissue": (TISSUE, Concept("87784001", "Soft tissue")),
    "blood": (ABNORMAL, Concept("50960005", "Hemorrhage")),
    "oedema": (ABNORMAL, Concept("79654002", "Edema")),
    "infarct": (ABNORMAL, Concept("55641003", "Infarct")),
}
"""Tissue of :data:`~datasets_spec.contract.TISSUES` -> (category, type)."""
GENERAL = (TISSUE, TISSUE)
"""For a class without a stated tissue; its name and meaning stand beside the code as text."""


def concepts_of(label: Label) -> tuple[Concept, Concept]:
    """The category and the type of a class."""
    return CONCEPTS.get(label.tissue, GENERAL)
