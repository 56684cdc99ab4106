"""Oddities: how a scan is unlike those of a model's training, and nothing where it is like them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from model.inference import familiarity
from model.inference.familiarity import REFUSE, WARN, Oddity
from pipeline.volumes import profile
from pipeline.volumes.volume import Grid, Volume
from tests.pipeline.volumes.test_hounsfield import HEAD
from tests.support.every import every

CT_WINDOW = (0.0, 80.0)
Sides = tuple[float, float, float]


def ct(patient: int = 0, array: np.ndarray = HEAD, sides: Sides = (3, 3, 10)) -> Volume:
    """The CT of a head of about 150 mm; patients differ in size and noise."""
    rng = np.random.default_rng(patient)
    sides = (sides[0] * rng.uniform(0.95, 1.05), sides[1] * rng.uniform(0.95, 1.05), sides[2])
    noisy = array + rng.normal(0, 3, array.shape).astype(np.float32)
    return Volume(noisy, Grid(array.shape, np.diag([*sides, 1.0])), modality="CT")


def mr(patient: int = 0) -> Volume:
    """The same head as an MR: dark air and bone, bright brain and fat."""
    bright = np.select([HEAD < -500, HEAD < -30, HEAD < 20, HEAD < 80], [5, 900, 300, 600], 40)
    noise = np.random.default_rng(100 + patient).rayleigh(15, HEAD.shape)
    return replace(ct(patient), array=(bright + noise).astype(np.float32), modality="MR")


def profile_of(volume: Volume, modality: str) -> profile.Profile:
    low, high = np.percentile(volume.array, (0.5, 99.5))
    return profile.of(volume, CT_WINDOW if modality == "CT" else (float(low), float(high)))


def trained_on(modality: str, patients: int = 8) -> dict[str, Any]:
    make = ct if modality == "CT" else mr
    scans = [(str(one), profile_of(make(one), modality).to_json()) for one in range(patients)]
    return json.loads(json.dumps(familiarity.known(scans)))


KNOWN = {modality: trained_on(modality) for modality in ("CT", "MR")}


def odd(volume: Volume, modality: str) -> dict[str, Oddity]:
    found = familiarity.oddities(profile_of(volume, modality), KNOWN[modality], modality)
    assert len({one.code for one in found}) == len(found)
    return {one.code: one for one in found}


def with_array(volume: Volume, array: np.ndarray, modality: str | None = None) -> Volume:
    given = volume.modality if modality is None else modality
    return Volume(array, Grid(array.shape, volume.grid.affine), modality=given)


@pytest.mark.parametrize("modality", KNOWN)
def test_a_scan_of_another_patient_is_not_odd(modality: str) -> None:
    make = ct if modality == "CT" else mr
    for patient in range(8, 30):
        assert odd(make(patient), modality) == {}
        assert odd(replace(make(patient), modality=""), modality) == {}


@pytest.mark.parametrize("patients", [1, 2, 3])
def test_few_patients_raise_no_false_alarm(patients: int) -> None:
    for modality, make in (("CT", ct), ("MR", mr)):
        known = trained_on(modality, patients)
        for other in range(8, 20):
            assert familiarity.oddities(profile_of(make(other), modality), known, modality) == ()


def chest() -> Volume:
    """350 mm of body with lungs, in 5 mm slices."""
    x, y = np.meshgrid(np.arange(-200, 200, 4.0), np.arange(-200, 200, 4.0), indexing="ij")
    flat = np.where((x / 175) ** 2 + (y / 110) ** 2 < 1, 40.0, -1000.0)
    for side in (-80, 80):
        flat[((x - side) / 60) ** 2 + (y / 75) ** 2 < 1] = -850
    array = np.repeat(flat[..., None], 40, 2) + np.random.default_rng(0).normal(
        0, 9, (100, 100, 40)
    )
    return Volume(array.astype(np.float32), Grid(array.shape, np.diag([4, 4, 10, 1.0])))


TILTED = np.array([[3, 0, 0, 0], [0, 3, 10, 0], [0, 0, 10, 0], [0, 0, 0, 1.0]])
CORONAL = np.array([[3, 0, 0, 0], [0, 0, 10, 0], [0, 3, 0, 0], [0, 0, 0, 1.0]])


@every(
    ("modality", "volume", "codes"),
    [
        ("CT", with_array(ct(), HEAD + 1024), {"shifted": REFUSE}),
        ("CT", with_array(ct(), HEAD + 1024, ""), {"shifted": REFUSE}),
        ("CT", mr(), {"modality": REFUSE}),
        ("CT", replace(with_array(ct(), HEAD / 3), unscaled=True), {"unscaled": REFUSE}),
        ("CT", with_array(ct(), HEAD / 3), {"hu-in-doubt": WARN}),
        ("CT", replace(mr(), modality=""), {"no-air": WARN, "greys": WARN}),
        ("MR", ct(), {"modality": REFUSE, "ct-values": REFUSE}),
        ("MR", replace(ct(), modality=""), {"ct-values": REFUSE}),
        ("MR", replace(ct(), modality="MR"), {"ct-values": WARN}),
        ("MR", with_array(ct(), HEAD + 1024, ""), {"ct-values": WARN}),
        ("CT", chest(), {"extent-x": WARN, "extent-y": WARN, "extent-z": WARN, "greys": WARN}),
        ("CT", with_array(ct(), 80 - ct().array, ""), {"inverted": WARN}),
        ("MR", with_array(mr(), mr().array.max() - mr().array), {"inverted": WARN}),
        ("CT", with_array(ct(), (HEAD > 0).astype(np.uint8)), {"label-map": WARN}),
        ("MR", with_array(mr(), np.full(HEAD.shape, 3)), {"constant": REFUSE}),
        ("CT", with_array(ct(), ct().array[:, :, 5:7]), {"extent-z": WARN}),
        ("CT", ct(sides=(3, 3, 1)), {"thickness": WARN, "extent-z": WARN}),
        ("CT", ct(sides=(1, 1, 10)), {"pixel": WARN, "extent-x": WARN, "extent-y": WARN}),
        (
            "CT",
            Volume(HEAD.transpose(0, 2, 1), Grid(HEAD.shape, CORONAL), modality="CT"),
            {"plane": WARN, "extent-y": WARN},
        ),
        ("CT", with_array(ct(), ct().array.clip(0, 80)), {"no-air": WARN}),
        (
            "CT",
            Volume(HEAD, Grid(HEAD.shape, TILTED)),
            {"shear": WARN, "oblique": WARN},
        ),
    ],
)  # fmt: skip
def test_what_is_unlike_the_training_is_named(
    modality: str, volume: Volume, codes: dict[str, str]
) -> None:
    found = odd(volume, modality)
    assert {code: found[code].severity for code in codes if code in found} == codes
    unexpected = {code for code, one in found.items() if one.severity == REFUSE} - codes.keys()
    assert not unexpected


def test_an_oddity_states_its_number_and_that_of_the_training() -> None:
    thick = profile_of(ct(sides=(3, 3, 5)), "CT")
    sentences = {one.code: one.sentence for one in familiarity.oddities(thick, KNOWN["CT"], "CT")}
    assert sentences["thickness"] == "slice thickness 5 mm; the training scans have 10 mm"
    known = KNOWN["CT"] | {"ranges": KNOWN["CT"]["ranges"] | {"thickness": [0.9, 1.1]}}
    sentences = {one.code: one.sentence for one in familiarity.oddities(thick, known, "CT")}
    assert sentences["thickness"] == "slice thickness 5 mm; the training scans have 0.9 to 1.1 mm"


def test_padding_below_air_is_not_odd() -> None:
    x, y, _ = np.ogrid[-1:1:64j, -1:1:60j, :12]
    padded = np.where(x**2 + y**2 > 1, -3024, HEAD)
    assert (padded < -2000).mean() > 0.2
    assert odd(with_array(ct(), padded), "CT") == {}


def test_a_ct_without_rescale_passes_if_its_values_are_hu() -> None:
    assert odd(replace(ct(), unscaled=True), "CT") == {}


def test_pictures_are_judged_without_geometry_and_hu() -> None:
    grey = np.clip(ct().array, 0, 80) * (255 / 80)
    pictures = [
        (str(one), profile.of(with_array(ct(), grey + one), (0, 255), pictures=True).to_json())
        for one in range(4)
    ]
    known = familiarity.known(pictures)
    for text in [one for _, one in pictures] + [profile_of(ct(9), "CT").to_json()]:
        assert familiarity.oddities(profile.from_json(text), known, "CT") == ()
    scan = profile.of(with_array(ct(), grey), (0, 255), pictures=True)
    assert familiarity.oddities(scan, KNOWN["CT"], "CT") == ()


def test_the_pairs_of_a_case_count_once() -> None:
    scans = [(str(one), profile_of(ct(one), "CT").to_json()) for one in range(3)]
    assert familiarity.known([*scans, *scans, ("9", "")]) == familiarity.known(reversed(scans))
    assert familiarity.known(scans)["patients"] == 3


def test_without_profiles_only_what_cannot_be_right_is_refused() -> None:
    assert familiarity.known([("p", "")]) == {}
    for volume, codes in ((ct(), []), (mr(), ["modality"]), (chest(), [])):
        found = familiarity.oddities(profile_of(volume, "CT"), {}, "CT")
        assert [one.code for one in found] == codes


@every(
    "content",
    [
        None,
        [],
        {"patients": 3},
        KNOWN["CT"] | {"greys": [1.0]},
        KNOWN["CT"] | {"greys": "x" * profile.BINS},
        KNOWN["CT"] | {"ranges": {"thickness": [1.0]}},
        KNOWN["CT"] | {"ranges": {"thickness": [1.0, float("nan")]}},
        KNOWN["CT"] | {"least": None},
        KNOWN["CT"] | {"patients": "many"},
    ],
)
def test_a_strangers_description_is_refused(content: object) -> None:
    with pytest.raises(ValueError, match="no description of training scans"):
        familiarity.checked(content)
