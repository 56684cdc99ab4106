"""Virtual head CT without contrast, with or without a haemorrhage, as two DICOM series.

A haemorrhage is an ellipsoid with an irregular border; its oedema is a ring that extends further
in white matter. Most series have slices of 5 mm; four have the uneven spacing of :data:`UNEVEN`.
:func:`plan` fixes all parameters of a patient before a voxel is made, so the truth
is known exactly. Lengths are in mm, intensities in Hounsfield units.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.spatial.transform import Rotation

from pipeline.runtime import keys
from pipeline.virtual import anatomy, dicom_writer
from pipeline.virtual import head as virtual_head
from pipeline.virtual.anatomy import Head, Intensities
from pipeline.virtual.dicom_writer import Frame, Vector, WrittenSeries
from pipeline.virtual.head import Floats

HAEMORRHAGE, OEDEMA = 1, 2  # class ids

_PX = 256
_SLICE_MM = 5.0
_DEFORMATION_MM = 2.2  # standard deviation of the displacement along each axis
_MIDDLE = np.array([0.0, -18.0, 14.0])  # of the scan, in the template
_KERNEL_PX = 0.7  # sigma of the reconstruction kernel: the correlation length of noise
_SCATTER_MM = 9.0  # reach of the bright rim around bone
_SHADOW_MM = 30.0  # reach of the dark bands beside bone, left to right


@dataclass(frozen=True)
class Slices:
    """Slices without one spacing, lowest first: places in steps of 5 mm, thicknesses in mm."""

    at: tuple[float, ...]
    thicknesses: tuple[float, ...]

    @classmethod
    def stacked(cls, *parts: tuple[int, float, float], gap: float = 0.0) -> Slices:
        """Parts of so many slices of a spacing and a thickness, ``gap`` mm apart from edge to edge.

        The edge of a slice is half a spacing from its centre.
        """
        depths: list[float] = []
        thicknesses: list[float] = []
        edge = 0.0
        for count, spacing, thickness in parts:
            depths += [edge + spacing * (number + 0.5) for number in range(count)]
            thicknesses += [thickness] * count
            edge += spacing * count + gap
        return cls(tuple((one - depths[0]) / _SLICE_MM for one in depths), tuple(thicknesses))


_TWO_THICKNESSES = Slices.stacked((34, 2.5, 2.5), (13, 5.0, 5.0))
UNEVEN = {
    25: _TWO_THICKNESSES,  # thin ones from the base of the skull on: a usual protocol
    26: Slices.stacked((26, 3.0, 5.0), (14, 5.0, 5.0)),  # its lower slices overlap
    27: Slices.stacked((12, 5.0, 5.0), (16, 5.0, 5.0), gap=7.0),  # a part was not scanned
    28: _TWO_THICKNESSES,  # with a tilted gantry
}
"""The slices of the patients whose series have no one spacing, by their number."""


@dataclass(frozen=True)
class Bleed:
    """An intraparenchymal haemorrhage, its centre in the template, and its oedema."""

    centre: Vector
    radii: Vector
    turn: Vector
    hu: float
    oedema_hu: float
    oedema_mm: float


@dataclass(frozen=True)
class Plan:
    """All parameters of a patient, fixed before a voxel is made. Angles are in degrees."""

    patient: str
    slices: int
    pixel_mm: float
    table: Vector
    tilt: float
    pose: Vector
    intercept: int
    compressed: bool
    descending: bool
    brain: Intensities
    noise: float
    bleed: Bleed | None
    uneven: Slices | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns."""
        return self.slices, _PX, _PX

    @property
    def frame(self) -> Frame:
        """Where the slices lie in the scanner."""
        at = self.uneven.at if self.uneven else ()
        return Frame.around(self.table, self.shape, self.pixel_mm, _SLICE_MM, self.tilt, at)


def make(patient: str, folder: Path) -> None:
    """Write the series ``ct`` and ``label`` of one virtual patient."""
    drawn = plan(patient)
    hu, ids = scan(drawn)
    for number, (kind, values) in enumerate((("ct", hu), ("label", ids)), start=1):
        series = WrittenSeries(
            name=f"{patient} {kind}",
            patient=patient,
            number=number,
            drawn=kind == "label",
            intercept=drawn.intercept if kind == "ct" else 0,
            compressed=drawn.compressed,
            descending=drawn.descending,
            thicknesses=drawn.uneven.thicknesses if drawn.uneven else (),
        )
        dicom_writer.write(folder / kind, series, drawn.frame, values)


def plan(patient: str) -> Plan:
    """The plan of ``sub-<number>``.

    Two of three patients have a haemorrhage, one of four was scanned with a tilted gantry, two of
    five have compressed series, and every second one is stored with an intercept. The slices of
    those in :data:`UNEVEN` have no one spacing.
    """
    number = int(patient.removeprefix("sub-"))
    rng = np.random.default_rng(keys.key("mni152_ncct", patient, "plan"))

    def within(low: float, high: float) -> float:
        return round(float(rng.uniform(low, high)), 3)

    def thrice(low: float, high: float) -> Vector:
        return within(low, high), within(low, high), within(low, high)

    uneven = UNEVEN.get(number)
    even = int(rng.integers(28, 33))
    return Plan(
        patient=patient,
        slices=len(uneven.at) if uneven else even,
        pixel_mm=within(0.88, 0.96),
        table=(within(-6, 6), within(-6, 6), within(-400, 400)),
        tilt=within(8, 18) if number % 4 == 0 else 0.0,
        pose=thrice(-6, 6),
        intercept=-1024 if number % 2 else 0,
        compressed=number % 5 in (1, 4),
        descending=bool(rng.integers(2)),
        brain=Intensities(csf=within(5, 12), grey=within(35, 40), white=within(26, 30)),
        noise=within(2.5, 4.0),
        bleed=None
        if number % 3 == 0
        else Bleed(
            centre=_centre(rng),
            radii=thrice(9, 20),
            turn=thrice(-180, 180),
            hu=within(58, 78),
            oedema_hu=within(15, 22),
            oedema_mm=within(4, 10),
        ),
        uneven=uneven,
    )


def scan(drawn: Plan) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """HU and class ids, both (slices, rows, columns), of a patient."""
    rng = np.random.default_rng(keys.key("mni152_ncct", drawn.patient, "scan"))
    scanner = drawn.frame.points(drawn.shape) - np.array(drawn.table)[:, None, None, None]
    scanner[:2] *= -1  # LPS to RAS
    # written out, since a matrix product may round differently on another processor
    x, y, z = scanner
    pose = Rotation.from_rotvec(np.deg2rad(drawn.pose)).as_matrix()
    local = np.stack([row[0] * x + row[1] * y + row[2] * z for row in pose])
    points = local * rng.uniform(0.95, 1.05, 3)[:, None, None, None]
    points += _MIDDLE[:, None, None, None]
    for axis in range(3):
        points[axis] += _DEFORMATION_MM * virtual_head.smooth(rng, local)
    head = anatomy.healthy(rng, points, local, drawn.brain)
    hu, ids = head.hu, np.zeros(drawn.shape, np.int16)
    if drawn.bleed is not None:
        hu, ids = _bled(drawn.bleed, rng, head, points, local)
    hu = hu + _beam_hardening(head.bone, drawn.pixel_mm) + drawn.noise * _noise(rng, drawn.shape)
    return np.rint(np.clip(hu, -1024, 3071)).astype(np.int16), ids


def _centre(rng: np.random.Generator) -> Vector:
    candidates = anatomy.deep_tissue()
    voxel = candidates[rng.integers(len(candidates))]
    x, y, z = anatomy.millimetres(voxel[:, None, None, None].astype(np.float64)).ravel()
    return float(x), float(y), float(z)


def _bled(
    bleed: Bleed, rng: np.random.Generator, head: Head, points: Floats, local: Floats
) -> tuple[Floats, NDArray[np.int16]]:
    """HU and class ids of a head with a haemorrhage."""
    turn = Rotation.from_rotvec(np.deg2rad(bleed.turn)).as_matrix()
    x, y, z = points - np.array(bleed.centre)[:, None, None, None]
    parts = [
        (row[0] * x + row[1] * y + row[2] * z) / radius
        for row, radius in zip(turn, bleed.radii, strict=True)
    ]
    mean_radius = sum(bleed.radii) / 3
    reach = np.sqrt(sum(part**2 for part in parts)) - 1  # 0 on the ellipsoid
    outside = reach * mean_radius
    outside += 2.6 * virtual_head.smooth(rng, local * 2) + virtual_head.grains(rng, local, 7)
    spread = bleed.oedema_mm * (0.4 + head.white)
    spread *= np.clip(1 + 0.35 * virtual_head.smooth(rng, local * 1.5), 0.3, 2)
    room = (anatomy.depth(points) > 3) & (head.tissue > 0.6)
    blood = room & (outside < 0)
    ring = room & ~blood & (outside < spread)
    ids = np.where(blood, HAEMORRHAGE, np.where(ring, OEDEMA, 0)).astype(np.int16)

    hu = np.where(room, _mixed(head.hu, bleed.oedema_hu, spread - outside), head.hu)
    clot = bleed.hu + 2.5 * virtual_head.grains(rng, local, 6)
    return np.where(room, _mixed(hu, clot, -outside), hu), ids


def _mixed(hu: Floats, other: Floats | float, inside_mm: Floats) -> Floats:
    return hu + (other - hu) * np.clip(inside_mm + 0.5, 0, 1)


def _beam_hardening(bone: Floats, pixel_mm: float) -> Floats:
    """A bright rim below the skull (cupping), and dark bands from side to side between bones."""
    around = gaussian_filter(bone, (0, _SCATTER_MM / pixel_mm, _SCATTER_MM / pixel_mm))
    beside = gaussian_filter1d(bone, _SHADOW_MM / pixel_mm, axis=2)
    change: Floats = (1 - bone) * (8 * around - 14 * np.clip(beside - 0.12, 0, None))
    return change


def _noise(rng: np.random.Generator, shape: tuple[int, int, int]) -> Floats:
    """Noise of standard deviation 1, correlated within each slice."""
    white = rng.standard_normal(shape)
    # white noise under a 2-D Gaussian of sigma s keeps 1 / (2 s sqrt(pi)) of its deviation
    blurred = gaussian_filter(white, (0, _KERNEL_PX, _KERNEL_PX))
    noise: Floats = blurred * (2 * _KERNEL_PX * np.sqrt(np.pi))
    return noise
