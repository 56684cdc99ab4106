"""AISD: acute ischaemic stroke in non-contrast CT, 397 patients, 5 mm slices.

image/<7-digit patient>/<NNN>.png    8-bit slices
mask/<patient>/<NNN>.png             drawn values, see below; also seen as mask/mask/<patient>
dicom/<patient>/**/*.dcm             the series; taken instead of image/ where it is unpacked,
                                     for its HU and geometry. Mask n belongs to instance n.

Values: 0 nothing, 1 remote infarct, 2 clear acute, 3 blurred acute, 4 invisible acute,
5 infarct. The authors count {1, 2, 3, 5} as the lesion and leave 4 out. Some copies hold
256 - value (252..255) instead; both are understood.

The published test list of 52 patients is the test split; the other 345 are shared between
train and valid.
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
    title="AISD: acute ischaemic stroke dataset",
    modality="CT",
    anonymous=True,
    window=Window(level=40, width=80),
    label_map=LabelMap(
        (
            Label(
                0,
                "background",
                (0, 0, 0),
                "everything else, invisible acute lesions included",
                values=(0, 4, 256 - 4),
            ),
            Label(
                1,
                "lesion",
                (255, 255, 255),
                "ischaemic lesion: remote, clear acute, blurred acute, infarct",
                values=(1, 2, 3, 5, 256 - 1, 256 - 2, 256 - 3, 256 - 5),
                tissue="infarct",
            ),
        )
    ),
    source=Source(
        homepage="https://github.com/GriffinLiang/AISD",
        licence=Licence(
            "free for non-commercial research",
            redistribute=False,
            commercial=False,
            note="its terms do not mention derived pictures, so they are not passed on",
        ),
        citation="Liang et al., Symmetry-Enhanced Attention Network for Acute Ischemic Infarct"
        " Segmentation with Non-Contrast CT Images, MICCAI 2021",
        instructions="Follow the download links on the homepage for the images and the masks.",
        cases=397,
    ),
)

_TEST = frozenset(
    """
    0073410 0072723 0226290 0537908 0538058 0091415 0538780 0073540 0226188 0226258 0226314
    0091507 0226298 0538975 0226257 0226142 0072681 0091538 0538983 0537961 0091646 0072765
    0226137 0091621 0091458 0021822 0538319 0226133 0091657 0537925 0073489 0538502 0091476
    0226136 0538532 0073312 0539025 0226309 0226307 0091383 0021092 0537990 0226299 0073060
    0538505 0073424 0091534 0226125 0072691 0538425 0226199 0226261
    """.split()
)


def cases(raw: Path) -> Iterator[Case]:
    """One case per patient; ``raw`` holds ``mask`` and ``dicom`` or ``image``."""
    nested = raw / "mask" / "mask"
    masks = nested if nested.is_dir() else raw / "mask"
    series = raw / "dicom"
    images = series if series.is_dir() else raw / "image"
    for patient in folders_in(images, masks):
        shown = images / patient
        beside = [] if images == series else [shown]
        slices = names_in(masks / patient, *beside, suffix=".png", optional=True)
        yield Case(
            id=patient,
            patient=patient,
            image=shown if images == series else tuple(shown / name for name in slices),
            labels={"": tuple(masks / patient / name for name in slices)},
            split="test" if patient in _TEST else "train",
        )
