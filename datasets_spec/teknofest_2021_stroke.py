"""TEKNOFEST-2021 stroke: non-contrast CT slices with haemorrhage and ischaemia drawn in colour.

<session>/
    PNG/<number>.png        8-bit slices
    MASKS/<number>.png      green and blue drawings
    OVERLAY/, DICOM/        not read

A session is any folder, at any depth, that holds PNG and MASKS, such as
YarısmaVeriSeti_2_Oturum (its Turkish letters composed or decomposed) or the renamed
YARISMA-VERI-SETI_2_OTURUM. Training folders without MASKS are left out.

Which colour is which is published in contradicting ways. By appearance green is haemorrhage
and blue ischaemia; the pictures decide (blood is brighter, an infarct darker than the tissue
around it), and convert.label_table overrides them.
"""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from datasets_spec.contract import (
    Case,
    Dataset,
    Label,
    LabelMap,
    LabelTable,
    Licence,
    Problem,
    Source,
    Window,
    names_in,
)

_GREEN, _BLUE = 0x00FF00, 0x0000FF

DATASET = Dataset(
    title="TEKNOFEST-2021 stroke",
    modality="CT",
    anonymous=True,
    window=Window(level=40, width=80),
    coding="colours",
    label_map=LabelMap(
        (
            Label(0, "background", (0, 0, 0), "everything else"),
            Label(
                1,
                "haemorrhage",
                (0, 255, 0),
                "haemorrhagic stroke: brighter than the brain",
                tissue="blood",
            ),
            Label(
                2,
                "ischaemia",
                (0, 0, 255),
                "ischaemic stroke: darker than the brain",
                tissue="infarct",
            ),
        )
    ),
    tables=(
        LabelTable("green_haemorrhage", {0: 0, _GREEN: 1, _BLUE: 2}, "by appearance"),
        LabelTable("blue_haemorrhage", {0: 0, _BLUE: 1, _GREEN: 2}, "a reference project"),
    ),
    probe="ct_stroke",
    patients_unknown=True,
    warnings=(
        "no patient ids are published: slices that look like those of one scan count as one"
        " patient, and slices of one patient that do not may lie in train and in test",
    ),
    source=Source(
        homepage="https://acikveri.saglik.gov.tr",
        licence=Licence(
            "open data portal of the Turkish Ministry of Health",
            redistribute=False,
            commercial=False,
            note="derived pictures may not be passed on",
        ),
        citation="Koç et al., Artificial Intelligence in Healthcare Competition (TEKNOFEST-2021):"
        " Stroke Data Set, Eurasian J. Med. 2022",
        instructions="Register at the homepage and download the stroke dataset.",
    ),
)


def cases(raw: Path) -> Iterator[Case]:
    """One case per slice, whose patient is unknown."""
    sessions = sorted(
        folder.parent
        for folder in raw.rglob("MASKS")
        if folder.is_dir() and "__MACOSX" not in folder.parts
    )
    if not sessions:
        raise Problem(
            "expected a folder that holds PNG and MASKS, found none",
            where=raw,
            remedy="Is the download unpacked completely, and in the layout that"
            " datasets_spec/teknofest_2021_stroke.py shows?",
        )
    found = []
    for session in sessions:
        for file in names_in(session / "PNG", session / "MASKS", suffix=".png"):
            case = f"{_plain(session.name)}_{_plain(file.removesuffix('.png'))}"
            mask = session / "MASKS" / file
            found.append(Case(case, case, (session / "PNG" / file,), {"": (mask,)}))
    yield from sorted(found, key=lambda case: case.id)


def _plain(name: str) -> str:
    """A name in lower-case ASCII letters and digits: the same for every known spelling."""
    plain = unicodedata.normalize("NFKD", name.replace("ı", "i"))
    return re.sub(r"[^a-z0-9]+", "", plain.encode("ascii", "ignore").decode().lower())
