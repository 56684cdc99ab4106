"""Which label-meaning probes are asked of a case: by what its labels name and how much is drawn.

:mod:`pipeline.labels.plausibility` asks them; the card counts them, so that silence is not
taken for an answer where nothing was asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from datasets_spec.contract import Dataset
from pipeline.labels.tables import T1_ORDER

SIGN = {"blood": 1, "oedema": -1, "infarct": -1}  # brighter or darker than what is around
FEW_VOXELS = 20
_FEW_SHARE = 0.01
_BRAIN = {"csf", "grey_matter", "white_matter"}
_Count = TypeVar("_Count", int, float)


def enough(drawn: Mapping[str, _Count]) -> dict[str, _Count]:
    """The tissues of whose voxels so many are drawn that the probes speak of them."""
    least = max(FEW_VOXELS, _FEW_SHARE * sum(drawn.values()))
    return {tissue: count for tissue, count in drawn.items() if count >= least}


def asked(dataset: Dataset, drawn: Mapping[str, float], windowed: bool) -> tuple[str, ...]:
    """The rules that are asked of a case with so many voxels of each tissue.

    A lesion's brightness counts as asked, although nothing answers where no tissue is around it.
    """
    tissues = enough(drawn).keys()
    lesions = tissues & SIGN.keys()
    ct = dataset.modality == "CT"
    by = {
        "brightness": (ct and (lesions or (not windowed and "air" in tissues)))
        or (dataset.contrast == "T1w" and len(tissues & set(T1_ORDER)) > 1),
        "contact": {"grey_matter", "white_matter"} <= tissues or {"oedema", "blood"} <= tissues,
        "place": ct and tissues - {"air", "bone", "soft_tissue"},
        "amount": lesions or tissues >= _BRAIN,
    }
    return tuple(rule for rule, tissues_of in by.items() if tissues_of)
