"""PHE-SICH-CT-IDS: perihaematomal oedema in spontaneous intracerebral haemorrhage, 120 patients.

SubdatasetC_PNG/
    set/image<N>/<NNNN>_<SS>.png       8-bit slices; N is the patient without leading zeros
    label/label<N>/<NNNN>_<SS>.png     one value above 0 is the oedema, not the haemorrhage
    annotation/annotation<N>/*.xml     boxes; not read
SubdatasetA*/
    set/<NNNN>.nii.gz                  volumes, 512 x 512 x 32 voxels of .508 x .508 x 5 mm
    label/<NNNN>.nii.gz

Patient numbers run to 167 with gaps, and some files of patient 13 are misnamed 013_SS: slices
are paired by their number SS. Where both are unpacked, the volumes (SubdatasetA) are used,
because they have a geometry.
"""

from collections.abc import Iterator
from pathlib import Path

from datasets_spec.contract import (
    Case,
    Dataset,
    Label,
    LabelMap,
    Licence,
    Problem,
    Source,
    Window,
    folders_in,
    names_in,
)

DATASET = Dataset(
    title="PHE-SICH-CT-IDS: perihaematomal oedema",
    modality="CT",
    anonymous=True,
    window=Window(level=40, width=80),
    coding="binary",
    label_map=LabelMap(
        (
            Label(0, "background", (0, 0, 0), "everything else, the haemorrhage included"),
            Label(
                1,
                "oedema",
                (255, 255, 255),
                "perihaematomal oedema around the haemorrhage",
                tissue="oedema",
            ),
        )
    ),
    source=Source(
        homepage="https://doi.org/10.6084/m9.figshare.23957937",
        licence=Licence(
            "CC BY 4.0 (figshare), CC BY-SA 4.0 (Kaggle)",
            redistribute=True,
            commercial=True,
            note="the two publications name different licences; share alike to be safe",
        ),
        citation="Ma et al., PHE-SICH-CT-IDS, Comput. Biol. Med. 2024; arXiv 2308.10521",
        instructions="Download the archives from the homepage (figshare).",
        cases=120,
    ),
)


def cases(raw: Path) -> Iterator[Case | Problem]:
    """One case per patient; ``raw`` holds ``SubdatasetC_PNG`` or ``SubdatasetA*``."""
    volumes = sorted(folder for folder in raw.glob("SubdatasetA*") if folder.is_dir())
    if volumes:
        images, labels = volumes[0] / "set", volumes[0] / "label"
        for file in names_in(images, labels, suffix=".nii.gz"):
            digits = file.removesuffix(".nii.gz")
            if not digits.isdecimal():
                yield _stray("volumes <number>.nii.gz", file, images)
                continue
            patient = f"{int(digits):04d}"
            yield Case(patient, patient, images / file, {"": labels / file})
        return
    images, labels = (raw / "SubdatasetC_PNG" / part for part in ("set", "label"))
    numbers: set[int] = set()
    for parent, prefix in ((images, "image"), (labels, "label")):
        for name in folders_in(parent):
            digits = name.removeprefix(prefix)
            if name.startswith(prefix) and digits.isdecimal():
                numbers.add(int(digits))
            else:
                yield _stray(f"folders {prefix}<number>", name, parent)
    for number in sorted(numbers):
        patient = f"{number:04d}"
        shown = _by_slice(images / f"image{number}")
        drawn = _by_slice(labels / f"label{number}")
        slices = sorted(shown.keys() | drawn.keys())
        yield Case(
            id=patient,
            patient=patient,
            image=tuple(
                shown.get(key, images / f"image{number}" / f"{patient}_{key}.png") for key in slices
            ),
            labels={
                "": tuple(
                    drawn.get(key, labels / f"label{number}" / f"{patient}_{key}.png")
                    for key in slices
                )
            },
        )


def _stray(expected: str, name: str, parent: Path) -> Problem:
    return Problem(
        f"expected {expected}, got {name!r}",
        where=parent / name,
        remedy="Rename it, or remove what the download did not bring.",
    )


def _by_slice(folder: Path) -> dict[str, Path]:
    """Slice number -> file: what follows the last underscore of a file's name."""
    return {
        name.removesuffix(".png").rsplit("_", 1)[-1]: folder / name
        for name in names_in(folder, suffix=".png", optional=True)
    }
