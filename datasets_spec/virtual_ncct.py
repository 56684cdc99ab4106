"""Virtual head CT patients derived from the MNI152 template: the embedded default for CT and DICOM.

sub-01/
    ct/<xx>/<name>.dcm       one slice a file, HU; names do not reveal the order
    label/<xx>/<name>.dcm    the same slices: 0 background, 1 haemorrhage, 2 oedema
sub-02/ ...

Two of three patients have an intraparenchymal haemorrhage with its oedema, the others have
nothing. Slices are 5 mm; sub-25 to sub-28 have no one spacing: two thicknesses (25 and 28, as heads
are usually scanned), slices that overlap (26), a gap (27). Some series come from a tilted gantry,
some are compressed (RLE).
``python -m pipeline fetch virtual_ncct`` makes them (see pipeline/virtual/ct.py).
They are virtual: a score on them shows that the software works, and nothing about clinical use.
"""

from collections.abc import Iterator
from pathlib import Path

from datasets_spec.contract import Case, Dataset, Label, LabelMap, Licence, Problem, Source, Window

DATASET = Dataset(
    title="Virtual head CT cohort (haemorrhage and oedema, from MNI152)",
    modality="CT",
    anonymous=True,
    window=Window(level=40, width=80),
    label_map=LabelMap(
        (
            Label(0, "background", (0, 0, 0), "everything else"),
            Label(1, "haemorrhage", (213, 94, 0), "intraparenchymal haemorrhage", tissue="blood"),
            Label(2, "oedema", (86, 180, 233), "perihaematomal oedema", tissue="oedema"),
        )
    ),
    source=Source(
        homepage="https://nist.mni.mcgill.ca/icbm-152-nonlinear-atlases-2009/",
        licence=Licence(
            "MNI permissive (ICBM 152, 2009)",
            redistribute=True,
            commercial=True,
            note="keep the copyright notice of the Montreal Neurological Institute",
        ),
        citation="Fonov et al., NeuroImage 54, 2011; template as shipped by nilearn",
        recipe="mni152_ncct",
        cases=28,
    ),
    warnings=(
        "virtual patients: no person was scanned, and bleeding and skull are drawn by formula",
    ),
)


def cases(raw: Path) -> Iterator[Case]:
    """One case per virtual patient; ``raw`` holds the ``sub-*`` folders."""
    folders = sorted(path for path in raw.glob("sub-*") if path.is_dir())
    if not folders:
        raise Problem(
            "expected folders sub-01, sub-02, ..., found none",
            where=raw,
            remedy="Run: python -m pipeline fetch virtual_ncct",
        )
    for folder in folders:
        yield Case(folder.name, folder.name, folder / "ct", {"": folder / "label"})
