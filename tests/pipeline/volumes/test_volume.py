"""Volumes keep their geometry: a voxel's place in the world decides where it is seen."""

import bz2
import gzip
import os
import tracemalloc
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from datasets_spec.contract import Label, LabelMap, OneVolume, Problem
from pipeline.labels import decode, resample
from pipeline.pairs.canvas import Canvas
from pipeline.params.limits import Limits
from pipeline.volumes import nifti, reader, search, volume
from pipeline.volumes.findings import text
from pipeline.volumes.volume import Grid, Volume
from tests.support.every import every

QUICK = settings(max_examples=30, deadline=None)
# every way to store a head: the world axis that each voxel axis runs along, and its direction
ORDERS = [
    (order, flips) for order in permutations(range(3)) for flips in product((1, -1), repeat=3)
]
STRAIGHT = ORDERS[0]
SIDES = (1.0, 1.5, 4.0)  # mm along x, y, z
HEAD = (5, 6, 7)  # voxels along x, y, z
PLANES = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}  # slice, row, column
any_order = every(("order", "flips"), ORDERS)
any_plane = pytest.mark.parametrize("plane", PLANES)
tilted = every("degrees", [0, 6])


def grid_of(order, flips, degrees=0, head=HEAD, sides=SIDES, shear=0.0):
    """The grid of a head of ``head`` voxels along x, y, z, stored in the given way."""
    steps = np.zeros((3, 3))
    steps[list(order), range(3)] = np.array(flips) * np.array(sides)[list(order)]
    leant = np.eye(3)
    leant[1, 2] = shear  # as gantry tilt leans the slices: y grows with z
    angles = np.broadcast_to(degrees, 3)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ leant @ steps
    affine[:3, 3] = (-31, 17, 4)
    return Grid(tuple(head[axis] for axis in order), affine)


def world(grid):
    """The position in mm of every voxel: (3, i, j, k)."""
    index = np.indices(grid.shape)
    return np.tensordot(grid.affine[:3, :3], index, 1) + grid.affine[:3, 3].reshape(3, 1, 1, 1)


def noise(shape, dtype=np.int16):
    return np.random.default_rng(1).integers(0, 200, shape).astype(dtype)


def save(file, array, affine=None, kind=nib.Nifti1Image, header=None):
    nib.save(kind(array, np.eye(4) if affine is None else affine, header), file)
    return file


# --- axis orders ---------------------------------------------------------------------------


@tilted
@any_order
def test_the_way_to_ras_and_back_is_the_identity(order, flips, degrees):
    grid = grid_of(order, flips, degrees)
    array = noise(grid.shape)
    np.testing.assert_array_equal(grid.from_ras(grid.to_ras(array)), array)
    turned = noise(HEAD)
    np.testing.assert_array_equal(grid.to_ras(grid.from_ras(turned)), turned)


@tilted
@any_order
def test_axes_of_ras_run_right_anterior_and_superior(order, flips, degrees):
    grid = grid_of(order, flips, degrees)
    for axis, millimetres in enumerate(world(grid)):
        turned = grid.to_ras(millimetres)
        assert turned.shape == HEAD
        assert (np.diff(turned, axis=axis) > 0).all()


@tilted
@any_order
def test_spacing_follows_the_axes(order, flips, degrees):
    grid = grid_of(order, flips, degrees)
    assert grid.spacing == pytest.approx(SIDES)
    assert volume.slice_spacing(grid, "axial") == pytest.approx((1.5, 1.0))
    assert volume.slice_spacing(grid, "coronal") == pytest.approx((4.0, 1.0))
    assert volume.slice_spacing(grid, "sagittal") == pytest.approx((4.0, 1.5))


@any_order
def test_one_head_stored_in_any_order_reads_the_same(tmp_path, order, flips):
    head = noise(HEAD)
    grid = grid_of(order, flips)
    stored = head.transpose(order)[tuple(slice(None, None, flip) for flip in flips)]
    read = nifti.read(save(tmp_path / "head.nii", stored, grid.affine))
    np.testing.assert_array_equal(read.array, head)
    assert read.grid.shape == grid.shape
    np.testing.assert_array_equal(read.grid.affine, grid.affine)


# --- slices --------------------------------------------------------------------------------


@any_plane
def test_slices_and_unslice_are_inverse(plane):
    array = noise(HEAD)
    np.testing.assert_array_equal(volume.unslice(volume.slices(array, plane), plane), array)
    stack = noise(tuple(HEAD[axis] for axis in PLANES[plane]))
    np.testing.assert_array_equal(volume.slices(volume.unslice(stack, plane), plane), stack)


@every(
    ("plane", "seen_at"),
    [
        pytest.param("axial", (2, 2, 1), id="axial: anterior up, right on the left"),
        pytest.param("coronal", (3, 4, 1), id="coronal: superior up, right on the left"),
        pytest.param("sagittal", (3, 4, 2), id="sagittal: superior up, anterior on the left"),
    ],
)
@any_order
def test_slices_are_seen_as_a_radiologist_sees_them(order, flips, plane, seen_at):
    # one marked voxel, counted from the rightmost, the most anterior and the topmost one
    from_right, from_front, from_top = steps = (1, 2, 4)
    grid = grid_of(order, flips)
    array = np.zeros(grid.shape, np.uint8)
    place = tuple(
        HEAD[axis] - 1 - steps[axis] if flip > 0 else steps[axis]
        for axis, flip in zip(order, flips, strict=True)
    )
    array[place] = 1
    here = grid.affine[:3, :3] @ place + grid.affine[:3, 3]
    extreme = world(grid).max(axis=(1, 2, 3))
    np.testing.assert_allclose(
        extreme - here, np.multiply(SIDES, (from_right, from_front, from_top))
    )
    seen = np.argwhere(volume.slices(grid.to_ras(array), plane))
    assert seen.tolist() == [list(seen_at)]


# --- native -> picture -> native -----------------------------------------------------------


@QUICK
@given(
    way=st.sampled_from(ORDERS),
    plane=st.sampled_from(sorted(PLANES)),
    extent=st.tuples(st.integers(1, 2), st.integers(1, 512), st.integers(1, 512)),
    side=st.floats(0.2, 3),
    thickness=st.floats(0.3, 8),
    seed=st.integers(0, 9),
)
def test_labels_survive_the_way_to_512_and_back(way, plane, extent, side, thickness, seed):
    head, sides = [0, 0, 0], [0.0, 0.0, 0.0]
    for axis, voxels, length in zip(PLANES[plane], extent, (thickness, side, side), strict=True):
        head[axis], sides[axis] = voxels, length
    grid = grid_of(*way, head=head, sides=sides)
    ids = np.random.default_rng(seed).integers(0, 6, grid.shape).astype(np.uint8)
    stack = volume.slices(grid.to_ras(ids), plane)
    canvas = Canvas.fit(stack.shape[1:], volume.slice_spacing(grid, plane), 512)
    assert canvas.exact
    back = np.stack([canvas.native(canvas.labels(native)) for native in stack])
    np.testing.assert_array_equal(grid.from_ras(volume.unslice(back, plane)), ids)


GEOMETRY = (
    "qform_code",
    "sform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "srow_x",
    "srow_y",
    "srow_z",
    "pixdim",
    "xyzt_units",
)


def stored(file, array, grid, codes, kind=nib.Nifti1Image):
    """Save an array as NIfTI with its affine in the forms whose codes are above 0."""
    image = kind(array, grid.affine)
    sform, qform = codes
    image.set_sform(grid.affine, sform)
    image.set_qform(grid.affine, qform)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, file)
    return file


@settings(QUICK, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    way=st.sampled_from(ORDERS),
    plane=st.sampled_from(sorted(PLANES)),
    extent=st.tuples(st.integers(1, 2), st.integers(1, 512), st.integers(1, 512)),
    side=st.floats(0.2, 3),
    thickness=st.floats(0.3, 8),
    degrees=st.tuples(*[st.floats(-25, 25)] * 3),
    shear=st.floats(-0.3, 0.3),
    form=st.sampled_from([(1, 0), (2, 0), (0, 1), (4, 1)]),
    kind=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
    seed=st.integers(0, 9),
)
def test_oblique_labels_come_back_as_a_file_in_the_source_s_geometry(
    tmp_path, way, plane, extent, side, thickness, degrees, shear, form, kind, seed
):
    head, sides = [0, 0, 0], [0.0, 0.0, 0.0]
    for axis, voxels, length in zip(PLANES[plane], extent, (thickness, side, side), strict=True):
        head[axis], sides[axis] = voxels, length
    grid = grid_of(*way, degrees, head, sides, shear if form[1] == 0 else 0)  # a qform has none
    ids = np.random.default_rng(seed).integers(0, 6, grid.shape).astype(np.uint8)
    source = stored(tmp_path / "source.nii", ids, grid, form, kind)
    label = nifti.read(source)
    stack = volume.slices(label.array, plane)
    canvas = Canvas.fit(stack.shape[1:], volume.slice_spacing(label.grid, plane), 512)
    assume(canvas.exact)  # steep angles can turn the thick axis into the slice
    back = np.stack([canvas.native(canvas.labels(native)) for native in stack])
    native = label.grid.from_ras(volume.unslice(back, plane))
    nifti.save_like(tmp_path / "back.nii", native, label.grid, source)
    saved, like = nib.load(tmp_path / "back.nii"), nib.load(source)
    np.testing.assert_array_equal(np.asanyarray(saved.dataobj), ids)
    assert type(saved) is type(like)
    for field in GEOMETRY:
        np.testing.assert_array_equal(saved.header[field], like.header[field], field)


# --- reading -------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [".hdr", ".img"])
@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
def test_reads_a_pair_by_either_half_and_counts_both_as_its_files(tmp_path, kind, half):
    array = noise(HEAD)
    save(tmp_path / "a.img", array, kind=kind)
    np.testing.assert_array_equal(nifti.read(tmp_path / f"a{half}").array, array)
    files = nifti.files(tmp_path / f"a{half}")
    assert sorted(file.name for file in files) == ["a.hdr", "a.img"]


def test_a_single_file_is_its_only_one(tmp_path):
    for name in ("a.nii", "a.nii.gz", "a.mgz", "lonely.hdr", "lonely.img.gz"):
        assert nifti.files(tmp_path / name) == (tmp_path / name,)


def sloped(file, slope, inter):
    """A NIfTI file that states this slope and intercept for its voxels."""
    header = nib.Nifti1Header()
    header.set_data_shape(HEAD)
    header.set_data_dtype(np.int16)
    header["scl_slope"], header["scl_inter"], header["vox_offset"] = slope, inter, 352
    header.set_sform(np.eye(4), 1)
    return holding(file, header.binaryblock + bytes(4) + noise(HEAD).tobytes(order="F"))


@pytest.mark.parametrize(
    ("slope", "inter", "factor", "offset"),
    [
        pytest.param(0, 7, 1, 0, id="a slope of 0 means none"),
        pytest.param(np.nan, 7, 1, 0, id="a slope of NaN means none"),
        pytest.param(2, 0, 2, 0, id="slope"),
        pytest.param(1, -1024, 1, -1024, id="intercept"),
    ],
)
def test_slope_and_intercept_scale_as_the_standard_states(tmp_path, slope, inter, factor, offset):
    read = nifti.read(sloped(tmp_path / "a.nii", slope, inter))
    np.testing.assert_array_equal(read.array, noise(HEAD) * factor + offset)


def test_refuses_an_intercept_that_is_no_number(tmp_path, refused):
    file = sloped(tmp_path / "a.nii", 2, np.nan)
    assert "intercept" in str(refused(lambda: nifti.read(file)))


# --- doubtful headers ------------------------------------------------------------------------


def with_forms(file, sform, qform, codes=(1, 1)):
    image = nib.Nifti1Image(noise(HEAD), np.eye(4))
    image.set_sform(sform, codes[0])
    image.set_qform(qform, codes[1])
    nib.save(image, file)
    return file


def moved(millimetres):
    affine = np.diag([*SIDES, 1.0])
    affine[0, 3] = millimetres
    return affine


@pytest.mark.parametrize(
    ("codes", "taken"),
    [((1, 0), 0), ((4, 0), 0), ((0, 1), 3), ((0, 2), 3), ((1, 1), 0), ((4, 1), 0)],
)
def test_the_sform_wins_where_its_code_is_above_0(tmp_path, codes, taken):
    read = nifti.read(with_forms(tmp_path / "a.nii", moved(0), moved(3), codes))
    assert read.grid.affine[0, 3] == taken


def test_forms_that_disagree_are_recorded_and_the_sform_taken(tmp_path):
    [found] = nifti.read(with_forms(tmp_path / "a.nii", moved(0), moved(3), (4, 1))).findings
    assert text(found) == (
        "sform (code 4) and qform (code 1) place the corners up to 3 mm apart: the sform is taken"
    )


def test_a_qform_cannot_follow_a_sheared_sform_and_that_is_recorded(tmp_path):
    grid = grid_of(*STRAIGHT, shear=0.3)
    [found] = nifti.read(with_forms(tmp_path / "a.nii", grid.affine, moved(0))).findings
    assert found.code == "forms-disagree"
    assert "the sform is taken" in text(found)


@pytest.mark.parametrize(
    "codes", [pytest.param((1, 0), id="one form"), pytest.param((1, 1), id="rounding apart")]
)
def test_forms_that_agree_are_not_recorded(tmp_path, codes):
    file = with_forms(tmp_path / "a.nii", moved(0), moved(0.05 * min(SIDES)), codes)
    assert nifti.read(file).findings == ()


def test_a_qform_that_is_none_is_recorded_where_the_sform_is_taken(tmp_path):
    file = with_forms(tmp_path / "a.nii", moved(0), moved(0))
    content = bytearray(file.read_bytes())
    content[256:268] = np.array([2, 2, 2], "<f4").tobytes()  # no quaternion is that long
    [found] = nifti.read(holding(file, bytes(content))).findings
    assert text(found) == "the qform (code 1) gives no affine: the sform (code 1) is taken"


def test_a_header_without_orientation_is_read_as_left_anterior_superior_and_recorded(tmp_path):
    file = with_forms(tmp_path / "a.nii", None, None, (0, 0))
    read = nifti.read(file)
    assert nib.aff2axcodes(read.grid.affine) == ("L", "A", "S")
    [found] = read.findings
    assert "left and right may be exchanged" in text(found)


def test_an_mgh_header_without_orientation_is_recorded(tmp_path):
    file = save(tmp_path / "a.mgz", noise(HEAD), np.diag([*SIDES, 1.0]), nib.MGHImage)
    assert nifti.read(file).findings == ()
    content = bytearray(gzip.decompress(file.read_bytes()))
    content[28:30] = bytes(2)
    [found] = nifti.read(holding(file, gzip.compress(content))).findings
    assert "goodRASFlag" in text(found)


@pytest.mark.parametrize("unit", ["meter", "micron"])
def test_lengths_that_are_no_millimetres_are_recorded(tmp_path, unit):
    image = nib.Nifti1Image(noise(HEAD), np.eye(4))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    [found] = nifti.read(tmp_path / "a.nii").findings
    assert "taken as millimetres" in text(found)


def stating(file, sides, codes, kind=nib.Nifti1Image):
    """A NIfTI file whose header states these voxel sides, whatever its forms say."""
    stored(file, noise(HEAD), grid_of(*STRAIGHT), codes, kind)
    content = bytearray(file.read_bytes())
    at, form = (80, "<f4") if kind is nib.Nifti1Image else (112, "<f8")
    packed = np.array(sides, form).tobytes()
    content[at : at + len(packed)] = packed
    return holding(file, bytes(content))


NO_SIDES = [(0, 1, 1), (1, 1, -0.0), (np.nan, 1, 1), (1, np.inf, 1), (1, 1, -np.inf)]
either_kind = pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])


@either_kind
@pytest.mark.parametrize("codes", [(0, 0), (0, 1)])
@pytest.mark.parametrize("sides", NO_SIDES)
def test_sides_that_would_be_made_up_are_refused(tmp_path, refused, sides, codes, kind):
    problem = refused(lambda: nifti.read(stating(tmp_path / "a.nii", sides, codes, kind)))
    assert "expected voxel sides in mm" in str(problem)
    assert "Set the true voxel sides" in problem.remedy


@either_kind
@pytest.mark.parametrize("sides", [*NO_SIDES, (1, 1, 4)])
def test_sides_that_are_not_the_sform_s_are_recorded_where_it_is_taken(tmp_path, sides, kind):
    read = nifti.read(stating(tmp_path / "a.nii", sides, (1, 0), kind))
    assert read.grid.spacing == pytest.approx(SIDES)
    [found] = read.findings
    assert text(found).endswith("the sform 1x1.5x4 mm: the sform is taken")


@either_kind
@pytest.mark.parametrize("codes", [(0, 1), (1, 0), (1, 1)])
def test_negative_sides_are_taken_as_positive_and_recorded(tmp_path, codes, kind):
    read = nifti.read(stating(tmp_path / "a.nii", (-1.0, 1.5, 4.0), codes, kind))
    assert read.grid.spacing == pytest.approx(SIDES)
    assert any("negative voxel sides, -1x1.5x4 mm" in text(one) for one in read.findings)


@pytest.mark.parametrize(
    ("sides", "right"),
    [
        ((2000, 1, 1), False),
        ((1, 1, 30.1), False),
        ((1, 1, 30), True),
        ((0.02, 0.02, 0.02), True),
        ((0.009, 1, 1), False),
        ((1e-3, 1e-3, 1e-3), False),
        ((1e20, 1e20, 1e20), False),
    ],
)
@pytest.mark.parametrize("codes", [(0, 0), (0, 1), (1, 0)])
def test_sides_of_no_brain_scan_are_refused(tmp_path, refused, sides, right, codes):
    grid = grid_of(*STRAIGHT, sides=sides)
    image = nib.Nifti1Image(noise(HEAD), grid.affine)
    image.set_sform(grid.affine, codes[0])
    image.set_qform(grid.affine, codes[1])
    nib.save(image, tmp_path / "a.nii")
    if right:
        assert nifti.read(tmp_path / "a.nii").grid.spacing == pytest.approx(sides)
        return
    assert "expected voxel sides of 0.01 to 30 mm" in str(
        refused(lambda: nifti.read(tmp_path / "a.nii"))
    )


def test_sides_in_another_unit_are_refused_with_that_unit(tmp_path, refused):
    image = nib.Nifti1Image(noise(HEAD), np.diag([1e-3, 1e-3, 5e-3, 1]))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "a.nii")
    assert "lengths in metres" in str(refused(lambda: nifti.read(tmp_path / "a.nii")))


@pytest.mark.parametrize(("place", "taken"), [(254, 3), (252, 0)])
def test_a_form_whose_code_the_standard_does_not_have_is_left_out_and_recorded(
    tmp_path, place, taken
):
    file = with_forms(tmp_path / "a.nii", moved(0), moved(3))
    content = bytearray(file.read_bytes())
    content[place : place + 2] = (9).to_bytes(2, "little")
    read = nifti.read(holding(file, bytes(content)))
    assert read.grid.affine[0, 3] == taken
    [found] = read.findings
    assert "is 9, which the standard does not have" in text(found)


@pytest.mark.parametrize("value", [1e302, -1e302, 1e13])
def test_values_of_no_scanner_are_refused(tmp_path, refused, value):
    array = noise(HEAD, np.float64)
    array[1, 2, 3] = value
    problem = refused(lambda: nifti.read(save(tmp_path / "a.nii", array)))
    assert "expected values up to 1e+12" in str(problem)


@pytest.mark.parametrize(("slope", "inter"), [(1e30, 0), (1, 1e30), (-1e30, 5)])
def test_a_slope_or_intercept_of_no_scanner_is_refused(tmp_path, refused, slope, inter):
    file = sloped(tmp_path / "a.nii", slope, inter)
    assert "slope or intercept" in str(refused(lambda: nifti.read(file)))


def test_reading_leaves_no_word_of_a_library_on_the_screen(tmp_path, capfd):
    assert nifti.read(stating(tmp_path / "a.nii", (0, 1, -1), (1, 0))).findings
    assert capfd.readouterr() == ("", "")


def test_refuses_analyze_because_it_states_no_orientation(tmp_path, refused):
    file = save(tmp_path / "a.img", noise(HEAD), kind=nib.AnalyzeImage)
    problem = refused(lambda: nifti.read(file))
    assert "which side is left" in problem.what
    assert "Convert it to NIfTI" in problem.remedy


# --- another grid ----------------------------------------------------------------------------


@any_order
def test_a_label_of_the_same_head_stored_otherwise_is_resampled_exactly(order, flips):
    head = noise(HEAD)
    label_grid = grid_of(order, flips)
    image = Grid(HEAD, grid_of(*STRAIGHT).affine)
    offset = world(label_grid).min(axis=(1, 2, 3)) - world(image).min(axis=(1, 2, 3))
    label = Volume(head, shifted(label_grid, -offset))
    found = resample.resampled(label, image)
    np.testing.assert_array_equal(found.array, head)
    assert found.grid is image


def test_a_label_of_coarser_voxels_is_resampled_to_the_nearest():
    fine = Grid((8, 6, 4), np.diag([1.0, 1.0, 1.0, 1.0]))
    coarse = Grid(
        (4, 3, 2), np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 2, 0.5], [0, 0, 0, 1]])
    )
    label = noise(coarse.shape)
    found = resample.resampled(Volume(label, coarse), fine)
    np.testing.assert_array_equal(found.array, label.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    [finding] = found.findings
    assert text(finding) == (
        "resampled: by nearest neighbour from 4x3x2 voxels of 2x2x2 mm onto the image's 8x6x4"
        " voxels of 1x1x1 mm"
    )


def test_what_lies_outside_a_resampled_label_is_0():
    grid = grid_of(*STRAIGHT)
    found = resample.resampled(Volume(np.ones(HEAD, np.uint8), grid), shifted(grid, (2, 0, 0)))
    assert found.array[:-2].all()
    assert not found.array[-2:].any()


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_reads_nifti_plain_and_compressed(tmp_path, name, kind):
    array = noise(HEAD)
    read = nifti.read(save(tmp_path / name, array, kind=kind))
    np.testing.assert_array_equal(read.array, array)
    assert read.grid.shape == HEAD


def test_reads_big_endian_files(tmp_path):
    array = noise(HEAD)
    file = save(tmp_path / "a.nii", array, header=nib.Nifti1Header(endianness=">"))
    assert file.read_bytes()[:4] == (348).to_bytes(4, "big")
    np.testing.assert_array_equal(nifti.read(file).array, array)


@pytest.mark.parametrize("more", [(1,), (1, 1)])
def test_reads_a_file_of_more_axes_that_holds_one_volume(tmp_path, more):
    array = noise(HEAD)
    read = nifti.read(save(tmp_path / "a.nii.gz", array.reshape(HEAD + more)))
    np.testing.assert_array_equal(read.array, array)


def test_reads_scaled_values(tmp_path):
    array = np.linspace(-1000, 1000.5, np.prod(HEAD)).reshape(HEAD)
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    file = save(tmp_path / "a.nii", array, header=header)
    assert nib.load(file).dataobj.slope != 1
    np.testing.assert_allclose(nifti.read(file).array, array, atol=0.05)


def cut(file, share=0.5):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    return file


def holding(file, content):
    file.write_bytes(content)
    return file


def patched(file, place, value):
    """A NIfTI file with a little-endian int16 of its header replaced."""
    content = bytearray(save(file, noise(HEAD)).read_bytes())
    content[place : place + 2] = value.to_bytes(2, "little")
    return holding(file, bytes(content))


def with_affine(file, *rows):
    """A NIfTI file that states these rows, whatever they are, as its affine (sform)."""
    image = nib.Nifti1Image(noise(HEAD), np.eye(4))
    image.header["sform_code"], image.header["qform_code"] = 1, 0
    image.header["vox_offset"] = 352
    image.header["srow_x"], image.header["srow_y"], image.header["srow_z"] = rows
    holding(file, image.header.binaryblock + bytes(4) + noise(HEAD).tobytes(order="F"))
    return file


def infinite(value):
    array = noise(HEAD, np.float32)
    array[1, 2, 3] = value
    return array


BROKEN = {
    "truncated .nii.gz": lambda at: cut(save(at / "a.nii.gz", noise((20, 20, 20)))),
    "header of .nii.gz only": lambda at: cut(save(at / "a.nii.gz", noise((20, 20, 20))), 0.01),
    "truncated .nii": lambda at: cut(save(at / "a.nii", noise(HEAD)), 0.9),
    "empty": lambda at: holding(at / "a.nii.gz", b""),
    "text": lambda at: holding(at / "a.nii", b"The server is busy, try again later.\n" * 20),
    "text named .nii.gz": lambda at: holding(at / "a.nii.gz", b"<html></html>" * 50),
    "missing": lambda at: at / "a.nii.gz",
    "folder": lambda at: at,
    "unknown voxel type": lambda at: patched(at / "a.nii", 70, 9999),
    "absurd number of axes": lambda at: patched(at / "a.nii", 40, 99),
    "two volumes": lambda at: save(at / "a.nii", noise((*HEAD, 2))),
    "a single slice": lambda at: save(at / "a.nii", noise(HEAD[:2])),
    "complex voxels": lambda at: save(at / "a.nii", noise(HEAD, np.complex64)),
    "NaN": lambda at: save(at / "a.nii", infinite(np.nan)),
    "infinity": lambda at: save(at / "a.nii", infinite(-np.inf)),
    "affine of zeros": lambda at: with_affine(at / "a.nii", *np.zeros((3, 4))),
    "affine of two directions": lambda at: with_affine(
        at / "a.nii", (1, 1, 0, 0), (2, 2, 0, 0), (0, 0, 1, 0)
    ),
    "affine of all but two directions": lambda at: with_affine(
        at / "a.nii", (1, 1e20, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)
    ),
    "affine with NaN": lambda at: with_affine(
        at / "a.nii", (np.nan, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_refuses_a_broken_file_and_names_it(tmp_path, refused, how):
    file = BROKEN[how](tmp_path)
    assert str(file) in str(refused(lambda: nifti.read(file)))


# --- damaged bits ----------------------------------------------------------------------------

COMPRESSED = {
    "nii.gz": (nib.Nifti1Image, "a.nii.gz", "a.nii.gz"),
    "nii.bz2": (nib.Nifti1Image, "a.nii.bz2", "a.nii.bz2"),
    "mgz": (nib.MGHImage, "a.mgz", "a.mgz"),
    "voxels of a pair": (nib.Nifti1Pair, "a.img.gz", "a.img.gz"),
    "header of a pair": (nib.Nifti1Pair, "a.img.gz", "a.hdr.gz"),
}
ENDS = 20  # bytes at either end of a file that are damaged bit by bit
ELSEWHERE = 200  # bits of the rest
any_compression = pytest.mark.parametrize("kind", COMPRESSED)


@any_compression
def test_a_flipped_bit_of_a_compressed_file_is_refused_or_changes_nothing(tmp_path, kind):
    form, name, hit = COMPRESSED[kind]
    whole = nifti.read(save(tmp_path / name, noise(HEAD), np.diag([*SIDES, 1.0]), form))
    file = tmp_path / hit
    content = file.read_bytes()
    bits = len(content) * 8
    inner = np.random.default_rng(5).choice(np.arange(ENDS * 8, bits - ENDS * 8), ELSEWHERE, False)
    outer = [*range(ENDS * 8), *range(bits - ENDS * 8, bits)]
    refusals = 0
    for bit in [*outer, *inner.tolist()]:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            read = nifti.read(holding(file, bytes(damaged)).with_name(name))
        except Problem:
            refusals += 1
            continue
        np.testing.assert_array_equal(read.array, whole.array, str(bit))
        np.testing.assert_array_equal(read.grid.affine, whole.grid.affine, str(bit))
        assert read.findings == whole.findings
    assert refusals > (len(outer) + ELSEWHERE) // 2


@any_compression
@pytest.mark.parametrize("share", [0.2, 0.9, 0.99])
def test_a_truncated_compressed_file_is_refused(tmp_path, refused, kind, share):
    form, name, hit = COMPRESSED[kind]
    save(tmp_path / name, noise(HEAD), kind=form)
    cut(tmp_path / hit, share)
    assert refused(lambda: nifti.read(tmp_path / name)).where


def test_a_field_of_the_gzip_header_that_says_nothing_of_the_content_is_free(tmp_path):
    file = save(tmp_path / "a.nii.gz", noise(HEAD))
    content = bytearray(file.read_bytes())
    content[4:10] = b"\xde\xad\xbe\xef\x02\x0b"  # the time, the effort and the system
    np.testing.assert_array_equal(nifti.read(holding(file, bytes(content))).array, noise(HEAD))


def test_a_file_compressed_in_several_members_is_read(tmp_path):
    content = save(tmp_path / "a.nii", noise(HEAD)).read_bytes()
    packed = gzip.compress(content[:500]) + gzip.compress(content[500:])
    read = nifti.read(holding(tmp_path / "b.nii.gz", packed))
    np.testing.assert_array_equal(read.array, noise(HEAD))


SLICE = 5 * 6 * 2  # bytes of one slice of HEAD


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nii.bz2"])
@pytest.mark.parametrize(
    ("behind", "findings"),
    [
        pytest.param(b"", [], id="nothing"),
        pytest.param(bytes(4096), [], id="padding of a block"),
        pytest.param(
            b"x" * (SLICE - 1), ["59 bytes behind the last voxel"], id="less than a slice"
        ),
        pytest.param(b"x" * SLICE, None, id="a slice"),
        pytest.param(bytes(4097), None, id="slices of zeros"),
    ],
)
def test_what_lies_behind_the_voxels_is_judged(tmp_path, refused, name, behind, findings):
    content = save(tmp_path / "plain.nii", noise(HEAD)).read_bytes() + behind
    pack = {"nii": bytes, "gz": gzip.compress, "bz2": bz2.compress}[name.rsplit(".", 1)[1]]
    file = holding(tmp_path / name, pack(content))
    if findings is None:
        assert "a slice or more behind them" in str(refused(lambda: nifti.read(file)))
        return
    read = nifti.read(file)
    np.testing.assert_array_equal(read.array, noise(HEAD))
    assert len(read.findings) == len(findings)
    assert all(words in text(one) for words, one in zip(findings, read.findings, strict=True))


def test_what_lies_behind_a_compressed_stream_and_is_none_is_refused(tmp_path, refused):
    file = save(tmp_path / "a.nii.gz", noise((20, 20, 20)))
    holding(file, file.read_bytes() + b"appended by a bad download")
    assert "cannot be read" in str(refused(lambda: nifti.read(file)))


@pytest.mark.parametrize("kind", ["mgz", "mgh"])
def test_tags_behind_the_voxels_of_an_mgh_file_belong_to_it(tmp_path, kind):
    content = gzip.decompress(save(tmp_path / "a.mgz", noise(HEAD), kind=nib.MGHImage).read_bytes())
    content += b"mri_convert in.mgz out.mgz" * 400
    file = tmp_path / f"b.{kind}"
    read = nifti.read(holding(file, gzip.compress(content) if kind == "mgz" else content))
    np.testing.assert_array_equal(read.array, noise(HEAD))
    assert read.findings == ()


# --- wrong names -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "form", "pack", "right"),
    [
        ("a.nii.gz", nib.Nifti1Image, bytes, "a.nii"),
        ("a.nii.gz", nib.Nifti2Image, bytes, "a.nii"),
        ("a.nii.gz", nib.Nifti1Image, bz2.compress, "a.nii.bz2"),
        ("a.nii", nib.Nifti1Image, gzip.compress, "a.nii.gz"),
        ("a.nii", nib.Nifti1Image, bz2.compress, "a.nii.bz2"),
        ("a.nii.bz2", nib.Nifti1Image, gzip.compress, "a.nii.gz"),
        ("a.mgz", nib.MGHImage, bytes, "a.mgh"),
        ("a.mgh", nib.MGHImage, gzip.compress, "a.mgz"),
        ("a b.NII.GZ", nib.Nifti1Image, bytes, "a b.NII"),
    ],
)
def test_a_name_that_denies_the_compression_is_refused_with_the_right_one(
    tmp_path, refused, name, form, pack, right
):
    suffix = ".mgh" if form is nib.MGHImage else ".nii"
    content = save(tmp_path / f"plain{suffix}", noise(HEAD), kind=form).read_bytes()
    problem = refused(lambda: nifti.read(holding(tmp_path / name, pack(content))))
    assert problem.remedy == f"Rename it to {right}."
    (tmp_path / name).rename(tmp_path / right)
    np.testing.assert_array_equal(nifti.read(tmp_path / right).array, noise(HEAD))


def test_zstandard_is_refused_with_the_way_out(tmp_path, refused):
    file = holding(tmp_path / "a.nii.zst", b"\x28\xb5\x2f\xfd" + bytes(400))
    assert "zstd -d" in str(refused(lambda: nifti.read(file)))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.img", "a.hdr.gz"])
def test_a_pipe_is_refused_at_once(tmp_path, refused, name):
    os.mkfifo(tmp_path / name)
    assert "got a named pipe" in str(refused(lambda: nifti.read(tmp_path / name)))


def test_a_pair_with_a_pipe_for_a_half_is_refused_at_once(tmp_path, refused):
    file = save(tmp_path / "a.img", noise(HEAD), kind=nib.Nifti1Pair)
    file.unlink()
    os.mkfifo(file)
    assert "got a named pipe" in str(refused(lambda: nifti.read(tmp_path / "a.hdr")))


def test_a_link_to_a_device_is_refused(tmp_path, refused):
    (tmp_path / "a.nii").symlink_to("/dev/zero")
    assert "got a device" in str(refused(lambda: nifti.read(tmp_path / "a.nii")))


# --- limits ----------------------------------------------------------------------------------


def bomb(file, shape, dtype=np.int16):
    """A compressed file of zeros that is small, and asks for much."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(dtype)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"] = 352
    with gzip.open(file, "wb", 9) as stream:
        stream.write(header.binaryblock + bytes(4))
        for _ in range(64):
            stream.write(bytes(1 << 20))
    return file


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_more_voxels_than_the_limit_are_refused_by_the_header(tmp_path, refused, name):
    file = save(tmp_path / name, noise(HEAD))
    count = int(np.prod(HEAD))
    assert nifti.read(file, limits=Limits(voxels=count)).array.size == count
    problem = refused(lambda: nifti.read(file, limits=Limits(voxels=count - 1)))
    assert "limits.voxels" in str(problem)
    assert str(file) in str(problem)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        pytest.param((2000, 1500, 1000), "at most 300,000,000 voxels", id="too many voxels"),
        pytest.param((700, 600, 500), "cannot be read", id="more than the content has"),
        pytest.param((20, 20, 20), "a slice or more behind them", id="less than the content has"),
        pytest.param((20, 20, 20, 30000), "got 30000 volumes", id="many volumes"),
    ],
)
def test_a_small_file_that_asks_for_much_takes_little(tmp_path, refused, shape, reason):
    file = bomb(tmp_path / "a.nii.gz", shape)
    assert file.stat().st_size < 100_000
    tracemalloc.start()
    try:
        assert reason in str(refused(lambda: nifti.read(file)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    held = int(np.prod(shape)) * 2 if reason == "cannot be read" else 0  # reserved, not touched
    assert peak - held < 8 << 20


@pytest.mark.parametrize("offset", [np.inf, np.nan, -400, 1e30, 2**27])
def test_voxels_that_begin_nowhere_are_refused(tmp_path, refused, offset):
    file = save(tmp_path / "a.nii", noise(HEAD))
    content = bytearray(file.read_bytes())
    content[108:112] = np.array(offset, "<f4").tobytes()
    assert str(file) in str(refused(lambda: nifti.read(holding(file, bytes(content)))))


@pytest.mark.parametrize("side", [0, -5])
def test_an_axis_without_voxels_is_refused(tmp_path, refused, side):
    file = patched(tmp_path / "a.nii", 44, side % 65536)
    assert "got shape" in str(refused(lambda: nifti.read(file)))


def test_says_how_many_voxels_are_not_finite(tmp_path, refused):
    array = infinite(np.nan)
    array[0, 0, :2] = np.inf
    file = save(tmp_path / "a.nii", array)
    assert "3 voxels" in str(refused(lambda: nifti.read(file)))


# --- labels --------------------------------------------------------------------------------


def labelled(values, dtype):
    return Volume(np.array(values, dtype).reshape(1, 1, -1), grid_of(*STRAIGHT))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, np.float64])
def test_labels_of_any_number_type_become_class_ids(label_map, dtype):
    found = decode.class_ids(labelled([0, 2, 1, 2], dtype), label_map.class_of, "a.nii")
    assert found.array.dtype == np.uint8
    assert found.array.ravel().tolist() == [0, 2, 1, 2]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32])
def test_labels_at_the_ends_of_their_type_stay_distinct(dtype):
    ends = [np.iinfo(dtype).min, 0, np.iinfo(dtype).max]
    declared = {int(value): class_id for class_id, value in enumerate(dict.fromkeys(ends))}
    found = decode.class_ids(labelled(ends, dtype), declared, "a.nii")
    assert found.array.ravel().tolist() == [declared[int(value)] for value in ends]


def test_floats_that_are_integers_but_for_rounding_are_accepted(label_map):
    found = decode.class_ids(
        labelled([1e-7, 1 - 1e-7, 2 + 1e-7], float), label_map.class_of, "a.nii"
    )
    assert found.array.ravel().tolist() == [0, 1, 2]


def test_raw_values_become_the_class_that_declares_them():
    lesion = Label(1, "lesion", (255, 255, 255), "infarct", values=(1, 2, -5, 252))
    label_map = LabelMap((Label(0, "background", (0, 0, 0), "all else", values=(0, 4)), lesion))
    found = decode.class_ids(labelled([0, 4, 1, 2, -5, 252], np.int16), label_map.class_of, "a.nii")
    assert found.array.ravel().tolist() == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_refuses_an_undeclared_value_with_its_count(label_map, refused, dtype):
    label = labelled([0, 7, 1, 7, 7], dtype)
    problem = refused(lambda: decode.class_ids(label, label_map.class_of, "case7.nii"))
    assert "case7.nii" in str(problem)
    assert "got 7 in 3 voxels" in str(problem)


def test_refuses_a_label_between_two_classes_with_its_count(label_map, refused):
    label = labelled([0, 0.5, 1, 0.5], np.float32)
    problem = refused(lambda: decode.class_ids(label, label_map.class_of, "case7.nii"))
    assert "case7.nii" in str(problem)
    assert "0.5 in 2 voxels" in str(problem)


# --- one grid for image and label ------------------------------------------------------------


def shifted(grid, millimetres):
    affine = grid.affine.copy()
    affine[:3, 3] += millimetres
    return Grid(grid.shape, affine)


def test_distance_is_that_of_the_corners_farthest_apart():
    grid = grid_of(*STRAIGHT)
    assert grid.distance(shifted(grid, (3, 4, 12))) == pytest.approx(13)
    stretched = grid.affine @ np.diag([1, 1, 1.5, 1])
    assert grid.distance(Grid(grid.shape, stretched)) == pytest.approx(0.5 * SIDES[2] * 6)


def test_refuses_a_label_of_another_shape(refused):
    image, label = grid_of(*STRAIGHT), grid_of(*STRAIGHT, head=(5, 6, 8))
    problem = refused(lambda: volume.require_same_grid(image, label, "label.nii"))
    assert all(reason in str(problem) for reason in ("label.nii", "(5, 6, 7)", "(5, 6, 8)"))


@any_order
def test_refuses_a_label_whose_voxels_are_elsewhere(refused, order, flips):
    image = grid_of(order, flips)
    problem = refused(
        lambda: volume.require_same_grid(image, shifted(image, (0, 0.2, 0)), "label.nii")
    )
    assert "label.nii" in str(problem)
    assert "0.2 mm" in str(problem)


def test_refuses_a_label_whose_flip_differs(refused):
    image, label = grid_of((0, 1, 2), (1, 1, 1)), grid_of((0, 1, 2), (-1, 1, 1))
    assert "affine" in str(refused(lambda: volume.require_same_grid(image, label, "label.nii")))


@pytest.mark.parametrize("other", [grid_of(*STRAIGHT, head=(5, 6, 8)), grid_of(*ORDERS[1])])
def test_a_refused_grid_names_what_an_adapter_may_state(refused, other):
    image = grid_of(*STRAIGHT)
    problem = refused(lambda: volume.require_same_grid(image, other, "label.nii"))
    assert "resample_labels" in problem.remedy


def test_voxels_whose_centres_lie_outside_a_grid_are_counted_by_class():
    grid = grid_of(*STRAIGHT)
    ids = noise(HEAD, np.uint8) % 3
    counts = resample.outside(Volume(ids, grid), shifted(grid, (2 * SIDES[0], 0, 0)), 3)
    lost = ids[:2]
    assert counts.tolist() == [0, (lost == 1).sum(), (lost == 2).sum()]
    assert not resample.outside(Volume(ids, grid), grid, 3).any()
    assert not resample.outside(Volume(ids, grid), shifted(grid, (0.5, 0.75, -2)), 3).any()


def test_accepts_affines_that_differ_by_rounding():
    image = grid_of(*STRAIGHT, degrees=6)
    rounded = Grid(image.shape, image.affine.astype(np.float32).round(3).astype(float))
    assert image.distance(rounded) > 0
    volume.require_same_grid(image, rounded, "label.nii")


# --- intensities -----------------------------------------------------------------------------


@QUICK
@given(
    native=st.lists(st.floats(-3000, 3000, width=32), min_size=1, max_size=20),
    low=st.floats(-2000, 2000),
    width=st.floats(1, 4000),
)
def test_intensities_stay_within_8_bit_and_in_order(native, low, width):
    native = np.sort(np.array(native, np.float32))
    shown = volume.to_8_bit(native, (low, low + width))
    assert shown.dtype == np.float32
    assert ((shown >= 0) & (shown <= 255)).all()
    assert (np.diff(shown) >= 0).all()
    assert (shown[native <= low - 1] == 0).all()
    assert (shown[native >= low + width + 1] == 255).all()


def test_window_is_shown_from_black_to_white():
    native = np.array([-1000, 0, 20, 40, 80, 3000], np.int16)
    expected = [0, 0, 63.75, 127.5, 255, 255]
    np.testing.assert_allclose(volume.to_8_bit(native, (0, 80)), expected, atol=1e-4)


def test_a_constant_volume_is_black():
    native = np.full((2, 3, 4), 7, np.int16)
    shown = volume.to_8_bit(native, (7.0, 7.0))
    assert shown.shape == native.shape
    assert not shown.any()


@pytest.mark.parametrize("window", [(0, 1e302), (-1e302, 1e302), (0, 1e-302), (1e13, 2e13)])
def test_a_window_that_would_overflow_is_refused(refused, window):
    native = np.linspace(*window, 8)
    assert "expected a window" in str(refused(lambda: volume.to_8_bit(native, window)))


def test_the_intensities_given_are_left_as_they_were():
    native = noise(HEAD, np.float32)
    before = native.copy()
    volume.to_8_bit(native, (10.0, 20.0))
    np.testing.assert_array_equal(native, before)


# --- the way back to the scanner -------------------------------------------------------------


def scaled_header():
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    return header


SOURCES = {
    "plain": lambda file, grid: save(file, noise(grid.shape), grid.affine),
    "scl_slope": lambda file, grid: save(
        file, noise(grid.shape) * 1.7 + 0.3, grid.affine, header=scaled_header()
    ),
    "big endian": lambda file, grid: save(
        file, noise(grid.shape), grid.affine, header=nib.Nifti1Header(endianness=">")
    ),
    "four axes": lambda file, grid: save(file, noise((*grid.shape, 1)), grid.affine),
    "NIfTI-2": lambda file, grid: save(file, noise(grid.shape), grid.affine, nib.Nifti2Image),
    "pair": lambda file, grid: save(
        file.with_name("source.img"), noise(grid.shape), grid.affine, nib.Nifti1Pair
    ),
    "NIfTI-2 pair": lambda file, grid: save(
        file.with_name("source.img"), noise(grid.shape), grid.affine, nib.Nifti2Pair
    ),
    "MGH": lambda file, grid: save(
        file.with_name("source.mgz"), noise(grid.shape), grid.affine, nib.MGHImage
    ),
}


@pytest.mark.parametrize("way", [ORDERS[0], ORDERS[13], ORDERS[47]])
@pytest.mark.parametrize("kind", SOURCES)
def test_saves_class_ids_in_the_geometry_of_the_source(tmp_path, kind, way):
    grid = grid_of(*way, degrees=6)
    source = SOURCES[kind](tmp_path / "source.nii.gz", grid)
    ids = noise(grid.shape, np.uint8) % 3
    nifti.save_like(tmp_path / "new" / "prediction.nii.gz", ids, grid, source)
    saved, like = nib.load(tmp_path / "new" / "prediction.nii.gz"), nib.load(source)
    assert saved.shape == grid.shape
    assert saved.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asanyarray(saved.dataobj), ids)
    np.testing.assert_allclose(saved.affine, like.affine, atol=1e-4)
    np.testing.assert_allclose(saved.header.get_zooms()[:3], like.header.get_zooms()[:3], atol=1e-5)
    if kind != "MGH":
        for field in ("qform_code", "sform_code", "xyzt_units"):
            assert saved.header[field] == like.header[field]


@pytest.mark.parametrize("kind", [*SOURCES, "no source"])
@pytest.mark.parametrize("degrees", [0, 6, (45, 0, 45)])
@pytest.mark.parametrize("way", [STRAIGHT, ORDERS[29]])
def test_what_is_saved_like_saved_labels_is_what_is_saved_like_the_source(
    tmp_path, kind, degrees, way
):
    """So labels that were kept can stand for a source that is gone."""
    grid = grid_of(*way, degrees=degrees)
    source = SOURCES[kind](tmp_path / "source.nii.gz", grid) if kind in SOURCES else None
    ids = noise(grid.shape, np.uint8) % 3
    nifti.save_like(tmp_path / "kept.nii.gz", ids, grid, source)
    for name, like in (("one", source), ("other", tmp_path / "kept.nii.gz")):
        nifti.save_like(tmp_path / name / "prediction.nii.gz", ids // 2, grid, like)
    one, other = (tmp_path / name / "prediction.nii.gz" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_source_with_a_slope_is_one(tmp_path):
    source = SOURCES["scl_slope"](tmp_path / "source.nii.gz", grid_of(*STRAIGHT))
    assert nib.load(source).dataobj.slope != 1


def test_a_saved_prediction_lies_on_the_image_it_was_made_for(tmp_path):
    grid = grid_of(*ORDERS[29], degrees=6)
    source = save(tmp_path / "source.nii.gz", noise(grid.shape), grid.affine)
    image = nifti.read(source)
    ids = (image.array > 100).astype(np.uint8)
    nifti.save_like(tmp_path / "prediction.nii.gz", image.grid.from_ras(ids), image.grid, source)
    prediction = nifti.read(tmp_path / "prediction.nii.gz")
    volume.require_same_grid(image.grid, prediction.grid, "prediction.nii.gz")
    np.testing.assert_array_equal(prediction.array, ids)


def test_less_than_a_header_is_refused(tmp_path, refused):
    file = tmp_path / "scan.mgh"
    file.write_bytes(b"\0\0\0\x01")
    refused(lambda: nifti.read(file))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_one_volume_of_several_is_read_by_its_key(tmp_path, refused, name):
    array, file = np.arange(120, dtype=np.int16).reshape(2, 3, 4, 5), tmp_path / name
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0])), file)
    for number in (1, 3, 5):
        read = reader.read_image(OneVolume(file, f"volume {number}"))
        assert np.array_equal(read.array, array[..., number - 1])
        assert read.findings == ()
    asked = str(refused(lambda: reader.read_image(file)))
    assert "got 5 volumes: volume 1 to volume 5" in asked
    file.write_bytes(file.read_bytes()[:-1])
    assert refused(lambda: reader.read_image(OneVolume(file, "volume 1")))


@pytest.mark.parametrize("wrong", ["volume 6", "volume 0", "volume", "echo 1"])
def test_a_volume_that_is_not_there_is_refused(tmp_path, refused, wrong):
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4, 5)), np.eye(4)), tmp_path / "a.nii")
    assert wrong in str(refused(lambda: reader.read_image(OneVolume(tmp_path / "a.nii", wrong))))


def test_a_search_asks_for_the_volume_of_a_file(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 2), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / "b.nii.gz")
    inventory = search.search([tmp_path])
    assert [scan.name for scan in inventory.scans] == ["b"]
    assert "it holds volume 1 to 2; name one with --volume" in str(inventory.unread[0])
    scans = search.search([tmp_path], key="volume 2").scans
    assert [(scan.name, scan.volume) for scan in scans] == [("a_volume-2", "volume 2"), ("b", "")]
    assert all(search.read(scan).array.shape == (4, 5, 6) for scan in scans)
