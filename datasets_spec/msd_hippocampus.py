"""Medical Segmentation Decathlon, Task04: hippocampus, T1-weighted MR crops.

Task04_Hippocampus/
    imagesTr/hippocampus_NNN.nii.gz    about 36 x 50 x 35 voxels of 1 mm, float32
    labelsTr/hippocampus_NNN.nii.gz    uint8: 0 background, 1 anterior, 2 posterior
    imagesTs/hippocampus_NNN.nii.gz    test images without labels; not read
    dataset.json                       not read

260 labelled volumes, one per patient. The archive also holds macOS ``._*``
files, which are skipped.
"""

from collections.abc import Iterator
from pathlib import Path

from datasets_spec.contract import (
    Case,
    Dataset,
    Label,
    LabelMap,
    Licence,
    RemoteFile,
    Source,
    names_in,
)

DATASET = Dataset(
    title="MSD Task04 Hippocampus",
    modality="MR",
    contrast="T1w",
    anonymous=True,
    label_map=LabelMap(
        (
            Label(0, "background", (0, 0, 0), "everything else in the crop"),
            Label(1, "anterior", (230, 159, 0), "hippocampal head"),
            Label(2, "posterior", (86, 180, 233), "hippocampal body and tail"),
        )
    ),
    source=Source(
        homepage="https://medicaldecathlon.com",
        licence=Licence(
            "CC BY-SA 4.0",
            redistribute=True,
            commercial=True,
            note="derived pictures carry the same licence and the attribution",
        ),
        citation="Antonelli et al., The Medical Segmentation Decathlon, Nat. Commun. 13, 2022;"
        " Simpson et al., arXiv 1902.09063",
        files=(
            RemoteFile(
                "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",
                "md5:9d24dba78a72977dbd1d2e110310f31b",
                unpack=True,
            ),
        ),
        cases=260,
    ),
)

_SUFFIX = ".nii.gz"


def cases(raw: Path) -> Iterator[Case]:
    """One case per patient; ``raw`` holds ``Task04_Hippocampus``."""
    images, labels = (raw / "Task04_Hippocampus" / part for part in ("imagesTr", "labelsTr"))
    for file in names_in(images, labels, suffix=_SUFFIX):
        patient = file.removesuffix(_SUFFIX)
        yield Case(patient, patient, images / file, {"": labels / file})
