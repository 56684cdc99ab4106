"""Full-Head T1w: six tissues of the whole head, stroke patients and controls, 1 mm.

Data/
    Anonymized_Subjects/
        T1-Weighted MRI/<sid>_deface.nii
        Full-Head Segmentation/<sid>_label_deface.nii
    Control_Subjects/
        T1-Weighted MRI/<sid>.nii
        Full-Head Segmentation/<sid>_label.nii

Three public sources number the tissues in three ways, and the ids of the controls may be shifted
by one. The T1 image decides for each case (white matter > grey matter > CSF > air), and
convert.label_table overrides it.
"""

from collections.abc import Iterator
from pathlib import Path

from datasets_spec.contract import (
    Case,
    Dataset,
    Label,
    LabelMap,
    LabelTable,
    Licence,
    Source,
    names_in,
)

_AIR, _WHITE, _GREY, _CSF, _BONE, _SOFT = range(1, 7)
_ORDERS = {
    "white_grey_csf": ((_AIR, _WHITE, _GREY, _CSF, _BONE, _SOFT), "a reference project's table"),
    "csf_grey_white": ((_AIR, _CSF, _GREY, _WHITE, _BONE, _SOFT), "a second published table"),
    "grey_white_csf": ((_AIR, _GREY, _WHITE, _CSF, _BONE, _SOFT), "intensities of samples"),
}


def _tables() -> Iterator[LabelTable]:
    for name, (order, evidence) in _ORDERS.items():
        plain = {0: 0, **dict(enumerate(order, start=1))}
        yield LabelTable(name, plain, evidence)
    for name, (order, evidence) in _ORDERS.items():
        shifted = {0: 0, 1: 0, **dict(enumerate(order, start=2))}
        yield LabelTable(f"{name}_shifted", shifted, f"{evidence}, ids shifted by one")


DATASET = Dataset(
    title="Full-Head MRI (T1w)",
    modality="MR",
    contrast="T1w",
    anonymous=True,
    label_map=LabelMap(
        (
            Label(0, "background", (0, 0, 0), "outside the head"),
            Label(_AIR, "air", (10, 180, 10), "air cavities inside the head", tissue="air"),
            Label(_WHITE, "white_matter", (255, 255, 255), "white matter", tissue="white_matter"),
            Label(_GREY, "grey_matter", (128, 128, 128), "grey matter", tissue="grey_matter"),
            Label(_CSF, "csf", (0, 128, 255), "cerebrospinal fluid", tissue="csf"),
            Label(_BONE, "bone", (255, 255, 0), "skull", tissue="bone"),
            Label(
                _SOFT,
                "soft_tissue",
                (180, 100, 100),
                "scalp and other soft tissue",
                tissue="soft_tissue",
            ),
        )
    ),
    tables=tuple(_tables()),
    probe="t1_tissues",
    source=Source(
        homepage="https://www.kaggle.com/datasets/andrewbirnbaum/"
        "full-head-mri-and-segmentation-of-stroke-patients",
        licence=Licence(
            "CC BY-NC-SA 4.0",
            redistribute=True,
            commercial=False,
            note="derived pictures carry the same licence and the attribution",
        ),
        citation="Birnbaum et al., Full-Head Segmentation of MRI with Abnormal Brain Anatomy,"
        " arXiv 2501.18716",
        instructions="Log in at the homepage (Kaggle) and download the archive.",
    ),
)


def cases(raw: Path) -> Iterator[Case]:
    """One case per subject, patients and controls; ``raw`` holds ``Data``."""
    found = []
    for group, end in (("Anonymized_Subjects", "_deface.nii"), ("Control_Subjects", ".nii")):
        images, labels = (
            raw / "Data" / group / part for part in ("T1-Weighted MRI", "Full-Head Segmentation")
        )
        subjects = {name.removesuffix(end) for name in names_in(images, suffix=end)}
        subjects |= {
            name.removesuffix(f"_label{end}") for name in names_in(labels, suffix=f"_label{end}")
        }
        found += [
            Case(sid, sid, images / f"{sid}{end}", {"": labels / f"{sid}_label{end}"})
            for sid in subjects
        ]
    yield from sorted(found, key=lambda case: case.id)
