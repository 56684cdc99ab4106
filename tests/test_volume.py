"""Volumes keep their geometry: a voxel's place in the world decides where it is seen."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from datasets_spec.contract import Label, LabelMap
from pipeline import volume
from pipeline.canvas import Canvas
from pipeline.volume import Grid, Volume

QUICK = settings(max_examples=30, deadline=None)
# every way to store a head: the world axis that each voxel axis runs along, and its direction
ORDERS = [
    (order, flips) for order in permutations(range(3)) for flips in product((1, -1), repeat=3)
]
STRAIGHT = ORDERS[0]
SIDES = (1.0, 1.5, 4.0)  # mm along x, y, z
HEAD = (5, 6, 7)  # voxels along x, y, z
PLANES = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}  # slice, row, column
any_order = pytest.mark.parametrize(("order", "flips"), ORDERS)
any_plane = pytest.mark.parametrize("plane", PLANES)
tilted = pytest.mark.parametrize("degrees", [0, 6])


def grid_of(order, flips, degrees=0, head=HEAD, sides=SIDES):
    """The grid of a head of ``head`` voxels along x, y, z, stored in the given way."""
    steps = np.zeros((3, 3))
    steps[list(order), range(3)] = np.array(flips) * np.array(sides)[list(order)]
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [degrees] * 3, degrees=True).as_matrix() @ steps
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
    read = volume.read(save(tmp_path / "head.nii", stored, grid.affine))
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


@pytest.mark.parametrize(
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


# --- reading -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_reads_nifti_plain_and_compressed(tmp_path, name, kind):
    array = noise(HEAD)
    read = volume.read(save(tmp_path / name, array, kind=kind))
    np.testing.assert_array_equal(read.array, array)
    assert read.grid.shape == HEAD


def test_reads_big_endian_files(tmp_path):
    array = noise(HEAD)
    file = save(tmp_path / "a.nii", array, header=nib.Nifti1Header(endianness=">"))
    assert file.read_bytes()[:4] == (348).to_bytes(4, "big")
    np.testing.assert_array_equal(volume.read(file).array, array)


@pytest.mark.parametrize("more", [(1,), (1, 1)])
def test_reads_a_file_of_more_axes_that_holds_one_volume(tmp_path, more):
    array = noise(HEAD)
    read = volume.read(save(tmp_path / "a.nii.gz", array.reshape(HEAD + more)))
    np.testing.assert_array_equal(read.array, array)


def test_reads_scaled_values(tmp_path):
    array = np.linspace(-1000, 1000.5, np.prod(HEAD)).reshape(HEAD)
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    file = save(tmp_path / "a.nii", array, header=header)
    assert nib.load(file).dataobj.slope != 1
    np.testing.assert_allclose(volume.read(file).array, array, atol=0.05)


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
    assert str(file) in str(refused(lambda: volume.read(file)))


def test_refuses_slices_as_a_volume(tmp_path, refused):
    slices = (tmp_path / "1.png", tmp_path / "2.png")
    assert "1.png" in str(refused(lambda: volume.read(slices)))


def test_says_how_many_voxels_are_not_finite(tmp_path, refused):
    array = infinite(np.nan)
    array[0, 0, :2] = np.inf
    file = save(tmp_path / "a.nii", array)
    assert "3 voxels" in str(refused(lambda: volume.read(file)))


# --- labels --------------------------------------------------------------------------------


def labelled(values, dtype):
    return Volume(np.array(values, dtype).reshape(1, 1, -1), grid_of(*STRAIGHT))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, np.float64])
def test_labels_of_any_number_type_become_class_ids(label_map, dtype):
    found = volume.class_ids(labelled([0, 2, 1, 2], dtype), label_map.class_of, "a.nii")
    assert found.array.dtype == np.uint8
    assert found.array.ravel().tolist() == [0, 2, 1, 2]


def test_floats_that_are_integers_but_for_rounding_are_accepted(label_map):
    found = volume.class_ids(
        labelled([1e-7, 1 - 1e-7, 2 + 1e-7], float), label_map.class_of, "a.nii"
    )
    assert found.array.ravel().tolist() == [0, 1, 2]


def test_raw_values_become_the_class_that_declares_them():
    lesion = Label(1, "lesion", (255, 255, 255), "infarct", values=(1, 2, -5, 252))
    label_map = LabelMap((Label(0, "background", (0, 0, 0), "all else", values=(0, 4)), lesion))
    found = volume.class_ids(labelled([0, 4, 1, 2, -5, 252], np.int16), label_map.class_of, "a.nii")
    assert found.array.ravel().tolist() == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_refuses_an_undeclared_value_with_its_count(label_map, refused, dtype):
    label = labelled([0, 7, 1, 7, 7], dtype)
    problem = refused(lambda: volume.class_ids(label, label_map.class_of, "case7.nii"))
    assert "case7.nii" in str(problem)
    assert "got 7 in 3 voxels" in str(problem)


def test_refuses_a_label_between_two_classes_with_its_count(label_map, refused):
    label = labelled([0, 0.5, 1, 0.5], np.float32)
    problem = refused(lambda: volume.class_ids(label, label_map.class_of, "case7.nii"))
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
    assert all(told in str(problem) for told in ("label.nii", "(5, 6, 7)", "(5, 6, 8)"))


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
    volume.save_like(tmp_path / "new" / "prediction.nii.gz", ids, grid, source)
    saved, like = nib.load(tmp_path / "new" / "prediction.nii.gz"), nib.load(source)
    assert saved.shape == grid.shape
    assert saved.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asanyarray(saved.dataobj), ids)
    np.testing.assert_allclose(saved.affine, like.affine, atol=1e-4)
    np.testing.assert_allclose(saved.header.get_zooms()[:3], like.header.get_zooms()[:3], atol=1e-5)


def test_source_with_a_slope_is_one(tmp_path):
    source = SOURCES["scl_slope"](tmp_path / "source.nii.gz", grid_of(*STRAIGHT))
    assert nib.load(source).dataobj.slope != 1


def test_a_saved_prediction_lies_on_the_image_it_was_made_for(tmp_path):
    grid = grid_of(*ORDERS[29], degrees=6)
    source = save(tmp_path / "source.nii.gz", noise(grid.shape), grid.affine)
    image = volume.read(source)
    ids = (image.array > 100).astype(np.uint8)
    volume.save_like(tmp_path / "prediction.nii.gz", image.grid.from_ras(ids), image.grid, source)
    prediction = volume.read(tmp_path / "prediction.nii.gz")
    volume.require_same_grid(image.grid, prediction.grid, "prediction.nii.gz")
    np.testing.assert_array_equal(prediction.array, ids)
