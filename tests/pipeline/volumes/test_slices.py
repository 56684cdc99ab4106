"""Stacks of slices become volumes: every pixel in its place, every label value as it was drawn."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from pipeline.labels import pictures as labels_pictures
from pipeline.params.limits import Limits
from pipeline.volumes import slices, volume

ROWS, COLUMNS = 5, 7
GREEN, BLUE = 0x00FF00, 0x0000FF
KNOWN = (0, GREEN, BLUE)


def binary(files):
    """Values of a stack as 0 and 1, the way labels.py asks for them."""
    return labels_pictures.binary(labels_pictures.values(files), files[0].parent)


def noise(shape=(ROWS, COLUMNS), high=256, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)


def save(file: Path, picture, **settings) -> Path:
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(file, **settings)
    return file


def seen(read: volume.Volume) -> np.ndarray:
    """The slices of a volume as a radiologist sees them."""
    return volume.slices(read.array, "axial")


def coloured(*places: tuple[int, int, tuple[int, int, int]]) -> np.ndarray:
    """A black picture with some pixels (row, column, colour)."""
    picture = np.zeros((ROWS, COLUMNS, 3), np.uint8)
    for row, column, colour in places:
        picture[row, column] = colour
    return picture


def grey_palette(indices: np.ndarray) -> Image.Image:
    """An indexed picture whose palette is grey, but upside down: index 0 is white."""
    picture = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    picture.putpalette([level for level in range(255, -1, -1) for _ in range(3)])
    return picture


# --- images ----------------------------------------------------------------------------------

ALPHA = noise(seed=1)
GREY_PICTURES = {
    "grey": lambda grey: grey,
    "RGB": lambda grey: np.stack([grey] * 3, axis=-1),
    "RGBA": lambda grey: np.stack([grey, grey, grey, ALPHA], axis=-1),
    "grey with alpha": lambda grey: np.stack([grey, ALPHA], axis=-1),
    "palette": lambda grey: grey_palette(255 - grey),
}


@pytest.mark.parametrize("kind", GREY_PICTURES)
def test_grey_values_are_read_from_any_kind_of_picture(tmp_path, kind):
    grey = noise()
    file = save(tmp_path / "1.png", GREY_PICTURES[kind](grey))
    np.testing.assert_array_equal(seen(slices.images([file]))[0], grey)


def test_16_bit_pictures_keep_their_values(tmp_path):
    deep = noise(high=65536, dtype=np.uint16)
    deep[0, 0] = 65535
    file = save(tmp_path / "1.png", deep)
    np.testing.assert_array_equal(seen(slices.images([file]))[0], deep)


def test_1_bit_pictures_keep_their_shapes(tmp_path):
    shape = noise(high=2).astype(bool)
    picture = seen(slices.images([save(tmp_path / "1.png", shape)]))[0]
    assert len(np.unique(picture)) == 2
    np.testing.assert_array_equal(picture > picture.min(), shape)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_pictures_are_read_as_near_as_jpeg_keeps_them(tmp_path, mode):
    ramp = np.add.outer(np.arange(16), np.arange(24)).astype(np.uint8) * 6
    file = save(tmp_path / "1.jpg", Image.fromarray(ramp).convert(mode), quality=95)
    np.testing.assert_allclose(seen(slices.images([file]))[0], ramp, atol=4)


@pytest.mark.parametrize(
    ("colour", "luma"), [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29)]
)
def test_coloured_pictures_are_shown_by_their_luma(tmp_path, colour, luma):
    file = save(tmp_path / "1.png", coloured((2, 3, colour)))
    assert seen(slices.images([file]))[0, 2, 3] == luma


# --- places ----------------------------------------------------------------------------------

READERS = {
    "images": slices.images,
    "values": labels_pictures.values,
    "binary": binary,
    "colours": lambda files: labels_pictures.colours(files, (0, 0xFFFFFF), 0).volume,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_pixel_is_seen_where_it_was(tmp_path, reader):
    pictures = np.zeros((3, ROWS, COLUMNS), np.uint8)
    pictures[1, 3, 6] = 255
    files = [save(tmp_path / f"{n}.png", picture) for n, picture in enumerate(pictures)]
    read = READERS[reader](files)
    assert np.argwhere(seen(read)).tolist() == [[1, 3, 6]]


def test_slices_keep_the_order_in_which_they_are_given(tmp_path):
    pictures = noise((4, ROWS, COLUMNS))
    files = [save(tmp_path / f"{9 - n}.png", picture) for n, picture in enumerate(pictures)]
    np.testing.assert_array_equal(seen(slices.images(files)), pictures)


def test_the_grid_counts_columns_rows_and_slices_of_square_pixels(tmp_path):
    pictures = noise((3, ROWS, COLUMNS))
    files = [save(tmp_path / f"{n}.png", picture) for n, picture in enumerate(pictures)]
    read = slices.images(files)
    assert read.grid.shape == (COLUMNS, ROWS, 3)
    assert volume.slice_spacing(read.grid, "axial") == (1, 1)
    stored = read.grid.from_ras(read.array)
    np.testing.assert_array_equal(stored, pictures.transpose(2, 1, 0))


# --- label values ----------------------------------------------------------------------------

LABEL_PICTURES = {
    **{kind: GREY_PICTURES[kind] for kind in ("grey", "RGB", "RGBA")},
    "16 bit": lambda label: label.astype(np.uint16),
    "indices of a palette": grey_palette,
}


@pytest.mark.parametrize("kind", LABEL_PICTURES)
def test_label_values_are_read_as_they_are(tmp_path, kind):
    label = noise(high=6)
    file = save(tmp_path / "1.png", LABEL_PICTURES[kind](label))
    np.testing.assert_array_equal(seen(labels_pictures.values([file]))[0], label)


def test_refuses_label_values_in_colour_with_count_and_example(tmp_path, refused):
    file = save(tmp_path / "7.png", coloured((1, 2, (9, 8, 7)), (3, 4, (9, 8, 7))))
    problem = refused(lambda: labels_pictures.values([file]))
    assert problem.where == str(file)
    assert "2 pixels" in str(problem)
    assert "(9, 8, 7)" in str(problem)


# --- binary labels ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, 110, 255])
def test_any_one_value_above_0_is_the_class(tmp_path, value):
    shapes = noise((2, ROWS, COLUMNS), high=2)
    files = [save(tmp_path / f"{n}.png", shape * np.uint8(value)) for n, shape in enumerate(shapes)]
    read = binary(files)
    assert read.array.dtype == np.uint8
    np.testing.assert_array_equal(seen(read), shapes)


def test_a_1_bit_picture_is_a_binary_label(tmp_path):
    shape = noise(high=2)
    file = save(tmp_path / "1.png", shape.astype(bool))
    np.testing.assert_array_equal(seen(binary([file]))[0], shape)


@pytest.mark.parametrize("value", [0, 255])
def test_a_binary_label_may_be_all_one_value(tmp_path, value):
    file = save(tmp_path / "1.png", np.full((ROWS, COLUMNS), value, np.uint8))
    assert np.unique(binary([file]).array).tolist() == [value > 0]


def test_refuses_two_values_above_0_with_count_and_example(tmp_path, refused):
    first, second = np.zeros((2, ROWS, COLUMNS), np.uint8)
    first[0], second[2, :3] = 255, 110
    files = [save(tmp_path / "1.png", first), save(tmp_path / "2.png", second)]
    problem = refused(lambda: binary(files))
    assert problem.where == str(tmp_path)
    assert "got 2" in str(problem)
    assert "110 in 3 pixels" in str(problem)


# --- colours ---------------------------------------------------------------------------------


def test_colours_are_read_exactly(tmp_path):
    picture = coloured((0, 1, (0, 255, 0)), (4, 6, (0, 0, 255)))
    read = labels_pictures.colours([save(tmp_path / "1.png", picture)], KNOWN, 0)
    expected = np.zeros((ROWS, COLUMNS), int)
    expected[0, 1], expected[4, 6] = GREEN, BLUE
    np.testing.assert_array_equal(seen(read.volume)[0], expected)
    assert read.pixels == 0


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_colours_are_read_from_other_kinds_of_picture(tmp_path, mode):
    picture = Image.fromarray(coloured((0, 1, (0, 255, 0)), (4, 6, (0, 0, 255)))).convert(mode)
    read = labels_pictures.colours([save(tmp_path / "1.png", picture)], KNOWN, 0)
    assert seen(read.volume)[0, 0, 1] == GREEN
    assert seen(read.volume)[0, 4, 6] == BLUE


def test_refuses_stray_colours_with_count_and_example(tmp_path, refused):
    clean = save(tmp_path / "1.png", coloured())
    stray = coloured((1, 2, (0, 254, 0)), (1, 3, (0, 254, 0)), (4, 0, (1, 0, 0)))
    file = save(tmp_path / "2.png", stray)
    problem = refused(lambda: labels_pictures.colours([clean, file], KNOWN, 0))
    assert problem.where == str(file)
    assert "3 pixels of 2 other colours" in str(problem)
    assert "(0, 254, 0) at row 1, column 2" in str(problem)


def test_snaps_to_the_nearest_colour_and_counts_the_pixels(tmp_path):
    near = coloured((0, 0, (3, 251, 0)), (0, 1, (0, 255, 0)), (2, 2, (0, 4, 252)))
    other = coloured((4, 4, (5, 0, 0)))
    files = [save(tmp_path / "1.png", near), save(tmp_path / "2.png", other)]
    read = labels_pictures.colours(files, KNOWN, snap_distance=5)
    assert read.pixels == 3
    first, second = seen(read.volume)
    assert [first[0, 0], first[0, 1], first[2, 2]] == [GREEN, GREEN, BLUE]
    assert np.unique(first).tolist() == [0, BLUE, GREEN]
    assert not second.any()


@pytest.mark.parametrize(
    ("snap_distance", "within"), [(5.0, True), (5.1, True), (4.99, False), (0.0, False)]
)
def test_snaps_no_farther_than_the_distance_in_rgb(tmp_path, refused, snap_distance, within):
    file = save(tmp_path / "1.png", coloured((2, 3, (3, 251, 0))))  # 5 from green

    def read():
        return labels_pictures.colours([file], KNOWN, snap_distance)

    if within:
        assert seen(read().volume)[0, 2, 3] == GREEN
    else:
        assert "1 pixels of 1 other colours, such as (3, 251, 0)" in str(refused(read))


def test_counts_only_what_is_too_far_in_the_refusal(tmp_path, refused):
    picture = coloured((0, 0, (0, 254, 0)), (2, 3, (90, 90, 90)))
    file = save(tmp_path / "1.png", picture)
    problem = refused(lambda: labels_pictures.colours([file], KNOWN, snap_distance=5))
    assert "1 pixels of 1 other colours, such as (90, 90, 90) at row 2" in str(problem)


# --- damage ----------------------------------------------------------------------------------


def written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def whole(file: Path) -> bytes:
    return save(file, noise((40, 40))).read_bytes()


def enormous(file: Path) -> Path:
    """A picture whose header, checksum included, asks for more pixels than memory holds."""
    content = bytearray(whole(file))
    content[16:24] = (400_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return written(file, bytes(content))


DAMAGED = {
    "missing": lambda file: file,
    "empty": lambda file: written(file, b""),
    "text": lambda file: written(file, b"<html>Log in first</html>"),
    "truncated": lambda file: written(file, whole(file)[:900]),
    "header only": lambda file: written(file, whole(file)[:33]),
    "checksum": lambda file: written(file, whole(file).replace(b"IDAT", b"IDAU")),
    "volume": lambda file: written(file, (348).to_bytes(4, "little") + bytes(400)),
    "enormous": enormous,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("how", DAMAGED)
def test_refuses_a_damaged_picture_and_names_it(tmp_path, refused, how, reader):
    sound = save(tmp_path / "1.png", np.zeros((40, 40), np.uint8))
    file = DAMAGED[how](tmp_path / "2.png")
    assert refused(lambda: READERS[reader]([sound, file])).where == str(file)


@pytest.mark.parametrize("reader", READERS)
def test_refuses_slices_of_different_shapes_and_names_the_file(tmp_path, refused, reader):
    blank = np.zeros((ROWS, COLUMNS), np.uint8)
    pictures = {"1.png": blank, "2.png": blank, "3.png": blank.T}
    files = [save(tmp_path / name, picture) for name, picture in pictures.items()]
    problem = refused(lambda: READERS[reader](files))
    assert problem.where == str(files[2])
    assert "(5, 7), got (7, 5)" in str(problem)


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(binary, id="binary"),
        pytest.param(lambda files: labels_pictures.colours(files, (0, 0xFFFFFF), 0), id="colours"),
    ],
)
def test_refuses_a_mask_saved_as_jpeg(tmp_path, refused, read):
    mask = np.zeros((32, 32), np.uint8)
    mask[5:19, 9:26] = 255
    file = save(tmp_path / "1.jpg", mask, quality=95)
    assert "JPEG" in str(refused(lambda: read([file])))


# --- limits ------------------------------------------------------------------------------------

LIMITED = {
    "images": slices.images,
    "values": labels_pictures.values,
    "colours": lambda files, limits: (
        labels_pictures.colours(files, (0, 0xFFFFFF), 0, limits).volume
    ),
}


@pytest.mark.parametrize("reader", LIMITED)
def test_pictures_are_judged_one_by_one_and_together(tmp_path, refused, reader):
    blank = np.zeros((ROWS, COLUMNS), np.uint8)
    files = [save(tmp_path / f"{n}.png", blank) for n in range(4)]
    read, one = LIMITED[reader], ROWS * COLUMNS
    assert read(files, Limits(voxels=4 * one, pixels=one)).array.size == 4 * one
    problem = refused(lambda: read(files, Limits(voxels=4 * one - 1, pixels=one)))
    assert "limits.voxels" in problem.remedy
    assert problem.where == str(tmp_path)
    problem = refused(lambda: read(files, Limits(voxels=4 * one, pixels=one - 1)))
    assert "limits.pixels" in problem.remedy
    assert problem.where == str(files[0])


@pytest.mark.parametrize("reader", LIMITED)
def test_pictures_too_large_together_are_refused_before_one_is_decoded(
    tmp_path, monkeypatch, refused, reader
):
    blank = Image.new("L", (300, 200))
    files = [save(tmp_path / f"{n}.png", blank) for n in range(3)]
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("a picture was decoded"))
    monkeypatch.setattr(PngImageFile, "load", lambda _: pytest.fail("a picture was decoded"))
    refused(lambda: LIMITED[reader](files, Limits(voxels=3 * 300 * 200 - 1, pixels=300 * 200)))


@pytest.mark.parametrize("reader", LIMITED)
def test_a_stack_takes_four_bytes_a_pixel_and_little_more(tmp_path, reader):
    blank = Image.new("L", (500, 400))
    files = [save(tmp_path / "1.png", blank)] * 40
    LIMITED[reader](files[:1], Limits())  # what is loaded once
    tracemalloc.start()
    try:
        read = LIMITED[reader](files, Limits())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert read.array.nbytes == 40 * 500 * 400 * 4
    assert peak < read.array.nbytes + (24 << 20)  # a table of all colours, and a picture's copies


@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_among_the_slices_is_refused_at_once(tmp_path, refused, reader):
    files = [save(tmp_path / "1.png", np.zeros((ROWS, COLUMNS), np.uint8)), tmp_path / "2.png"]
    os.mkfifo(files[1])
    problem = refused(lambda: READERS[reader](files))
    assert problem.where == str(files[1])
    assert "got a named pipe" in problem.what


@pytest.mark.parametrize("reader", READERS)
def test_an_eps_among_the_slices_is_refused_by_name(tmp_path, refused, reader):
    file = tmp_path / "1.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    problem = refused(lambda: READERS[reader]([file]))
    assert problem.where == str(file)
    assert "none of these" in problem.what
