"""Virtual head CT: what was planned is what the DICOM series hold, voxel by voxel."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, RLELossless
from scipy.ndimage import binary_dilation

import datasets_spec
from pipeline.labels import plausibility
from pipeline.virtual import anatomy, cohorts, ct, dicom_writer
from pipeline.virtual.ct import HAEMORRHAGE, OEDEMA, Plan
from pipeline.virtual.dicom_writer import WrittenSeries
from pipeline.volumes import volume
from pipeline.volumes.dicom import assemble
from pipeline.volumes.volume import Volume

pytestmark = pytest.mark.slow

COMPRESSED, HEALTHY, TILTED = "sub-01", "sub-03", "sub-08"


@dataclass(frozen=True)
class Patient:
    """A plan, the arrays (slices, rows, columns) that follow from it, and the folder written."""

    plan: Plan
    hu: np.ndarray
    ids: np.ndarray
    folder: Path

    def read(self, kind: str) -> Volume:
        return assemble.read_series(self.folder / kind)

    def headers(self, kind: str) -> list[pydicom.Dataset]:
        """Of all files, from the first slice to the last."""
        files = (file for file in (self.folder / kind).rglob("*") if file.is_file())
        headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
        return sorted(headers, key=lambda header: header.ImagePositionPatient[2])


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Patient]:
    made = {}
    for name in (COMPRESSED, HEALTHY, TILTED):
        folder = tmp_path_factory.mktemp(name)
        ct.make(name, folder)
        plan = ct.plan(name)
        made[name] = Patient(plan, *ct.scan(plan), folder)
    return made


@pytest.fixture(params=[COMPRESSED, HEALTHY, TILTED])
def patient(request: pytest.FixtureRequest, patients: dict[str, Patient]) -> Patient:
    return patients[request.param]


def test_two_thirds_bleed_and_some_are_tilted_or_compressed() -> None:
    count = cohorts.RECIPES["mni152_ncct"].patients
    plans = [ct.plan(f"sub-{number:02d}") for number in range(1, count + 1)]
    assert sum(plan.bleed is not None for plan in plans) == round(count * 2 / 3)
    assert 0 < sum(plan.tilt != 0 for plan in plans) < count / 2
    assert 0 < sum(plan.compressed for plan in plans) < count / 2
    assert {plan.intercept for plan in plans} == {0, -1024}
    assert len({plan.pixel_mm for plan in plans}) > count / 2


def test_a_series_reads_as_the_values_that_were_made(patient: Patient) -> None:
    for kind, made in (("ct", patient.hu), ("label", patient.ids)):
        read = patient.read(kind)
        assert np.array_equal(read.grid.from_ras(read.array).transpose(2, 1, 0), made)


def test_the_label_lies_on_the_grid_of_its_image(patient: Patient) -> None:
    volume.require_same_grid(patient.read("ct").grid, patient.read("label").grid, patient.folder)


def test_lesions_have_the_intensities_that_were_planned(patients: dict[str, Patient]) -> None:
    for name in (COMPRESSED, TILTED):
        patient = patients[name]
        bleed = patient.plan.bleed
        assert bleed is not None
        for class_id, planned in ((HAEMORRHAGE, bleed.hu), (OEDEMA, bleed.oedema_hu)):
            inside = patient.hu[patient.ids == class_id]
            assert len(inside) > 500
            assert np.median(inside) == pytest.approx(planned, abs=2)


def test_the_probes_find_nothing_suspicious(patient: Patient) -> None:
    dataset = datasets_spec.load("virtual_ncct").dataset
    image, label = patient.read("ct"), patient.read("label")
    assert plausibility.of_case(dataset, image, label.array.astype(np.uint8), False) == ()


def test_oedema_is_a_ring_about_the_haemorrhage(patients: dict[str, Patient]) -> None:
    ids = patients[COMPRESSED].ids
    blood = ids == HAEMORRHAGE
    border = binary_dilation(blood, iterations=2) & ~blood
    assert (ids[border] == OEDEMA).mean() > 0.5


def test_a_patient_without_haemorrhage_has_no_label(patients: dict[str, Patient]) -> None:
    assert patients[HEALTHY].plan.bleed is None
    assert not patients[HEALTHY].ids.any()


def test_brain_fluid_bone_and_air_are_as_dense_as_in_people(patients: dict[str, Patient]) -> None:
    patient = patients[HEALTHY]
    brain, middle = patient.plan.brain, patient.hu[len(patient.hu) // 2]
    soft = patient.hu[(patient.hu > -20) & (patient.hu < 90)]
    assert brain.white - 5 < np.percentile(soft, 25) < np.percentile(soft, 75) < brain.grey + 10
    assert np.median(middle[:10]) == pytest.approx(-1000, abs=3)
    bone = middle[middle > 400]
    assert 0.05 < bone.size / middle.size < 0.2
    assert 700 < np.median(bone) < 1500


def test_deep_tissue_lies_inside_the_hull() -> None:
    deep = anatomy.deep_tissue()[::500]
    points = anatomy.millimetres(deep.T[:, :, None, None].astype(float))
    assert len(deep) > 100
    assert (anatomy.depth(points) > 20).all()


def test_noise_hangs_together_within_a_slice(patients: dict[str, Patient]) -> None:
    air = patients[HEALTHY].hu[5:, :12, :].astype(float)
    air -= air.mean()
    sd = air.std()
    assert sd == pytest.approx(patients[HEALTHY].plan.noise, rel=0.1)
    assert (air[:, :, 1:] * air[:, :, :-1]).mean() / sd**2 > 0.4
    assert abs((air[1:] * air[:-1]).mean()) / sd**2 < 0.1


def test_a_tilted_patient_keeps_the_place_of_every_slice(patients: dict[str, Patient]) -> None:
    patient = patients[TILTED]
    affine = patient.read("ct").grid.affine
    for kind in ("ct", "label"):
        headers = patient.headers(kind)
        assert len(headers) == patient.plan.slices
        for number, header in enumerate(headers):
            x, y, z = header.ImagePositionPatient
            assert (x, y, z) == patient.plan.frame.position(number)
            assert (affine @ [0, 0, number, 1])[:3] == pytest.approx([-x, -y, z])
    step, down = np.array(patient.plan.frame.step), np.array(patient.plan.frame.down)
    assert abs(step @ down) > 0.5
    assert step[0] == step[1] == 0


@pytest.mark.parametrize("number", ct.UNEVEN)
def test_slices_of_uneven_spacing_are_read_at_the_places_that_were_planned(
    number: int, tmp_path: Path
) -> None:
    drawn = ct.plan(f"sub-{number}")
    assert drawn.uneven is not None
    values = np.random.default_rng(number).integers(0, 99, (drawn.slices, 8, 9)).astype(np.int16)
    series = WrittenSeries(
        drawn.patient, drawn.patient, 1, drawn=True, thicknesses=drawn.uneven.thicknesses
    )
    dicom_writer.write(tmp_path / "ct", series, drawn.frame, values)
    read = assemble.read_series(tmp_path / "ct")
    assert np.array_equal(read.grid.from_ras(read.array).transpose(2, 1, 0), values)
    assert read.uneven is not None
    places = [drawn.frame.position(index) for index in range(drawn.slices)]
    assert read.uneven.places == pytest.approx(np.array(places) * [-1, -1, 1])
    upright = np.cos(np.deg2rad(drawn.tilt))
    height = 5 * upright * (drawn.uneven.at[-1] - drawn.uneven.at[0])
    assert read.uneven.steps.sum() == pytest.approx(height, abs=1e-3)
    points = drawn.frame.points(drawn.shape)
    assert points.mean(axis=(2, 3))[:, [0, -1]].mean(axis=1) == pytest.approx(drawn.table, abs=1e-3)
    headers = Patient(drawn, values, values, tmp_path).headers("ct")
    assert [header.SliceThickness for header in headers] == list(drawn.uneven.thicknesses)


@pytest.mark.parametrize(
    ("number", "codes", "steps"),
    [
        (25, ["uneven-spacing"], {2.5: 33, 3.75: 1, 5.0: 12}),
        (26, ["uneven-spacing"], {3.0: 25, 4.0: 1, 5.0: 13}),
        (27, ["uneven-spacing", "uneven-gap"], {5.0: 26, 12.0: 1}),
    ],
)
def test_uneven_series_are_of_two_thicknesses_overlap_or_have_a_gap(
    number: int, codes: list[str], steps: dict[float, int], tmp_path: Path
) -> None:
    drawn = ct.plan(f"sub-{number}")
    assert drawn.uneven is not None
    series = WrittenSeries(
        drawn.patient, drawn.patient, 1, drawn=True, thicknesses=drawn.uneven.thicknesses
    )
    values = np.ones((drawn.slices, 8, 9), np.int16)
    values[:, 0, 0] = np.arange(drawn.slices)  # else slices would repeat each other
    dicom_writer.write(tmp_path, series, drawn.frame, values)
    read = assemble.read_series(tmp_path)
    assert read.uneven is not None
    assert [one.code for one in read.findings if one.code.startswith("uneven")] == codes
    assert Counter(np.round(read.uneven.steps, 3).tolist()) == steps


def test_two_thicknesses_come_with_a_tilted_gantry_too() -> None:
    one, other = (ct.plan(f"sub-{number}") for number in (25, 28))
    assert one.uneven == other.uneven
    assert not one.tilt
    assert other.tilt
    assert one.bleed
    assert other.bleed


def test_headers_are_valid_and_say_nothing_but_the_scan(patient: Patient) -> None:
    for kind in ("ct", "label"):
        headers = patient.headers(kind)
        assert len({header.SOPInstanceUID for header in headers}) == len(headers)
        assert len({header.SeriesInstanceUID for header in headers}) == 1
        for header in headers:
            assert header.SOPClassUID == CTImageStorage
            assert header.PatientID == patient.plan.patient
            assert header.PatientIdentityRemoved == "YES"
            assert not any(header[tag].value for tag in ("PatientName", "StudyDate", "StudyTime"))
            assert all(uid.is_valid for uid in (header.SOPInstanceUID, header.StudyInstanceUID))


def test_file_names_do_not_reveal_the_order(patient: Patient) -> None:
    files = [Path(str(header.filename)) for header in patient.headers("ct")]
    assert len({file.parent for file in files}) > 1
    assert files != sorted(files)


def test_compressed_means_rle(patient: Patient) -> None:
    syntaxes = {header.file_meta.TransferSyntaxUID for header in patient.headers("ct")}
    assert (syntaxes == {RLELossless}) == patient.plan.compressed


def test_it_is_marked_as_virtual() -> None:
    dataset = datasets_spec.load("virtual_ncct").dataset
    assert "Virtual" in dataset.title
    assert any("virtual" in warning for warning in dataset.warnings)
