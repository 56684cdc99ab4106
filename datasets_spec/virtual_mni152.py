"""Virtual T1w patients derived from the MNI152 template: the embedded default.

sub-01/
    sub-01_T1w.nii     int16, an axis order and flips of its own, a tilted affine
    sub-01_dseg.nii    uint8: 0 outside the brain, 1 CSF and other, 2 grey, 3 white matter
sub-02/ ...

``python -m pipeline fetch virtual_mni152`` makes them (see pipeline/virtual/cohorts.py).
They are virtual: a score on them shows that the software works, and nothing about clinical use.
"""

from collections.abc import Iterator
from pathlib import Path

from datasets_spec.contract import Case, Dataset, Label, LabelMap, Licence, Problem, Source

DATASET = Dataset(
    title="Virtual MNI152 cohort (T1w)",
    modality="MR",
    contrast="T1w",
    anonymous=True,
    label_map=LabelMap(
        (
            Label(0, "background", (0, 0, 0), "outside the brain"),
            Label(
                1,
                "csf",
                (0, 114, 178),
                "cerebrospinal fluid and other tissue inside the brain",
                tissue="csf",
            ),
            Label(
                2,
                "grey_matter",
                (148, 148, 148),
                "cortical and deep grey matter",
                tissue="grey_matter",
            ),
            Label(3, "white_matter", (240, 228, 66), "white matter", tissue="white_matter"),
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
        recipe="mni152_t1w",
        cases=12,
    ),
)


def cases(raw: Path) -> Iterator[Case]:
    """One case per virtual patient; ``raw`` holds the ``sub-*`` folders."""
    folders = sorted(path for path in raw.glob("sub-*") if path.is_dir())
    if not folders:
        raise Problem(
            "expected folders sub-01, sub-02, ..., found none",
            where=raw,
            remedy="Run: python -m pipeline fetch virtual_mni152",
        )
    for folder in folders:
        patient = folder.name
        label = folder / f"{patient}_dseg.nii"
        yield Case(patient, patient, folder / f"{patient}_T1w.nii", {"": label})
