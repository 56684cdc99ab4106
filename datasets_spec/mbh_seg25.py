"""MBH-Seg25: five kinds of intracranial haemorrhage in non-contrast CT, several raters.

MBH_Train_2025_voxel-label/
    <ID_x_ID_y>/
        image.nii.gz               about 512 x 512 x 27..32 voxels of .49 x .49 x 5 mm, HU
        label_annot_<k>.nii.gz     rater k; which raters there are differs from case to case

The older release (BHSD) has the same patients and one label each:

label_192/
    images/<ID_x_ID_y>.nii.gz
    ground truths/<ID_x_ID_y>.nii.gz

Where both are unpacked, the newer one is used. The patient is the first of the two ids.
"""

from collections.abc import Iterator
from pathlib import Path

from datasets_spec.contract import (
    Case,
    Dataset,
    Label,
    LabelMap,
    Licence,
    Source,
    Window,
    folders_in,
    names_in,
)

DATASET = Dataset(
    title="MBH-Seg25: multi-class brain haemorrhage",
    modality="CT",
    anonymous=True,
    window=Window(level=40, width=100),
    label_map=LabelMap(
        (
            Label(0, "background", (0, 0, 0), "everything else"),
            Label(1, "edh", (255, 0, 0), "epidural haemorrhage", tissue="blood"),
            Label(2, "iph", (0, 0, 255), "intraparenchymal haemorrhage", tissue="blood"),
            Label(3, "ivh", (255, 255, 0), "intraventricular haemorrhage", tissue="blood"),
            Label(4, "sah", (0, 255, 255), "subarachnoid haemorrhage", tissue="blood"),
            Label(5, "sdh", (0, 255, 0), "subdural haemorrhage", tissue="blood"),
        )
    ),
    source=Source(
        homepage="https://huggingface.co/datasets/mbhseg/mbhseg25",
        licence=Licence(
            "MIT (MBH-Seg25)",
            redistribute=True,
            commercial=True,
            note="the older release, BHSD, is now under a no-derivatives licence: derived"
            " pictures of it may not be passed on",
        ),
        citation="MBH-Seg25 challenge, MICCAI 2025; Wu et al., BHSD: A 3D Multi-Class Brain"
        " Hemorrhage Segmentation Dataset, MLMI 2023",
        instructions="Download MBH_Train_2025_voxel-label.zip from the homepage.",
        cases=192,
    ),
)

_SUFFIX = ".nii.gz"
_LABEL = "label_annot_"


def cases(raw: Path) -> Iterator[Case]:
    """One case per volume; ``raw`` holds one of the two releases."""
    older = raw / "label_192"
    newer = raw / "MBH_Train_2025_voxel-label"
    if older.is_dir() and not newer.is_dir():
        images, labels = older / "images", older / "ground truths"
        for file in names_in(images, labels, suffix=_SUFFIX):
            yield _case(file.removesuffix(_SUFFIX), images / file, {"": labels / file})
        return
    for name in folders_in(newer):
        folder = newer / name
        raters = {
            file.removeprefix(_LABEL).removesuffix(_SUFFIX): folder / file
            for file in names_in(folder, suffix=_SUFFIX, optional=True)
            if file.startswith(_LABEL)
        }
        yield _case(name, folder / "image.nii.gz", raters or {"1": folder / f"{_LABEL}1{_SUFFIX}"})


def _case(name: str, image: Path, labels: dict[str, Path]) -> Case:
    return Case(name, "_".join(name.split("_")[:2]), image, labels)
