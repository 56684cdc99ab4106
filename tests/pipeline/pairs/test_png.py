"""Pictures on disk: one file holds colours and class ids, and a stray colour is an error."""

import hashlib
import os
import re
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets_spec.contract import IGNORED, IGNORED_COLOUR, Label, LabelMap
from pipeline.labels import colours
from pipeline.pairs import png
from pipeline.params.limits import Limits
from pipeline.volumes import picture_files
from tests.conftest import PROJECT, png_of
from tests.support.every import every


def classes(count):
    """A label map of ``count`` classes with colours of their own."""
    return LabelMap(
        tuple(
            Label(n, f"c{n}" if n else "background", (n, n * 7 % 256, 255 - n), "a class")
            for n in range(count)
        )
    )


def ids_of(count, shape=(24, 37)):
    return np.random.default_rng(count).integers(0, count, shape).astype(np.uint8)


def names(folder):
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 16, 17, 255])
def test_class_ids_come_back_from_the_file(tmp_path, count):
    ids = ids_of(count)
    file = tmp_path / "mask.png"
    png.write_mask(file, ids, classes(count))
    np.testing.assert_array_equal(png.read_mask(file, classes(count)), ids)


@every("count", [2, 3, 17, 255])
@every("all_of_it", [False, True])
def test_what_nobody_annotated_comes_back_in_its_colour(tmp_path, count, all_of_it):
    ids = ids_of(count)
    ids[3 if not all_of_it else slice(None), : 9 if not all_of_it else None] = IGNORED
    file = tmp_path / "mask.png"
    png.write_mask(file, ids, classes(count))
    np.testing.assert_array_equal(png.read_mask(file, classes(count)), ids)
    with Image.open(file) as picture:
        np.testing.assert_array_equal(np.asarray(picture), ids)
        rgb = picture.convert("RGB")
    assert (np.asarray(rgb)[ids == IGNORED] == IGNORED_COLOUR).all()
    rgb.save(file)
    np.testing.assert_array_equal(png.read_mask(file, classes(count)), ids)


def test_what_nobody_annotated_excuses_no_stray_id(tmp_path, label_map, refused):
    ids = np.array([[0, IGNORED, 3, 254]], np.uint8)
    problem = refused(lambda: png.write_mask(tmp_path / "mask.png", ids, label_map))
    assert "expected class ids 0 to 2, got 254 in 2 pixels" in str(problem)


@pytest.mark.parametrize("count", [2, 3, 5, 17, 255])
def test_the_palette_is_the_label_maps_colours(tmp_path, count):
    ids, label_map = ids_of(count), classes(count)
    file = tmp_path / "mask.png"
    png.write_mask(file, ids, label_map)
    with Image.open(file) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), ids)
        seen = np.asarray(picture.convert("RGB"))
    expected = np.array([label.colour for label in label_map], np.uint8)[ids]
    np.testing.assert_array_equal(seen, expected)
    np.testing.assert_array_equal(colours.colourise(ids, label_map), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (512, 512)])
def test_a_mask_of_background_alone_comes_back(tmp_path, label_map, shape):
    png.write_mask(tmp_path / "mask.png", np.zeros(shape, np.uint8), label_map)
    read = png.read_mask(tmp_path / "mask.png", label_map)
    np.testing.assert_array_equal(read, np.zeros(shape))


def test_a_mask_that_is_a_view_comes_back(tmp_path, label_map):
    ids = ids_of(3)[::-1, ::2].T
    png.write_mask(tmp_path / "mask.png", ids, label_map)
    np.testing.assert_array_equal(png.read_mask(tmp_path / "mask.png", label_map), ids)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 255), seed=st.integers(0, 99))
def test_ids_survive_the_way_to_colours_and_back(count, seed):
    label_map = classes(count)
    ids = np.random.default_rng(seed).integers(0, count, (9, 11)).astype(np.uint8)
    rgb = colours.colourise(ids, label_map)
    np.testing.assert_array_equal(colours.ids_of_colours(rgb, label_map, "mask.png"), ids)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_reads_a_mask_that_another_program_drew_in_colour(tmp_path, label_map, mode):
    ids = ids_of(3)
    picture = Image.fromarray(colours.colourise(ids, label_map)).convert(mode)
    picture.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(png.read_mask(tmp_path / "mask.png", label_map), ids)


def test_an_indexed_mask_with_another_palette_is_read_by_its_colours(tmp_path, label_map):
    ids = ids_of(3)
    picture = Image.frombytes("P", ids.shape[::-1], (2 - ids).tobytes())
    picture.putpalette([channel for label in reversed(list(label_map)) for channel in label.colour])
    picture.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(png.read_mask(tmp_path / "mask.png", label_map), ids)


def test_refuses_stray_colours_with_count_and_example(tmp_path, label_map, refused):
    rgb = colours.colourise(ids_of(3), label_map)
    rgb[4, 6], rgb[7, 8], rgb[7, 9] = (1, 2, 3), (230, 159, 1), (230, 159, 1)
    file = tmp_path / "mask.png"
    Image.fromarray(rgb).save(file)
    problem = str(refused(lambda: png.read_mask(file, label_map)))
    assert str(file) in problem
    assert "3 pixels of 2 other colours" in problem
    assert "(1, 2, 3) at row 4, column 6" in problem


def test_refuses_a_grey_picture_of_ids_as_a_mask(tmp_path, label_map, refused):
    Image.fromarray(ids_of(2)).save(tmp_path / "mask.png")
    assert "(1, 1, 1)" in str(refused(lambda: png.read_mask(tmp_path / "mask.png", label_map)))


def test_refuses_a_mask_of_a_larger_label_map(tmp_path, label_map, refused):
    png.write_mask(tmp_path / "mask.png", ids_of(5), classes(5))
    assert "colours" in str(refused(lambda: png.read_mask(tmp_path / "mask.png", label_map)))


def test_refuses_an_id_outside_the_map_with_its_count(tmp_path, label_map, refused):
    ids = ids_of(3)
    ids[0, :4] = 3
    file = tmp_path / "mask.png"
    problem = str(refused(lambda: png.write_mask(file, ids, label_map)))
    assert str(file) in problem
    assert "got 3 in 4 pixels" in problem
    assert not file.exists()


def test_an_image_comes_back_as_it_was(tmp_path):
    picture = ids_of(256)
    png.write_image(tmp_path / "image.png", picture)
    np.testing.assert_array_equal(png.read_image(tmp_path / "image.png"), picture)
    with Image.open(tmp_path / "image.png") as opened:
        assert opened.mode == "L"


def image_writer(file, value=0):
    return png.write_image(file, ids_of(3) + np.uint8(value))


def mask_writer(file, value=0):
    return png.write_mask(file, (ids_of(3) + np.uint8(value)) % 3, classes(3))


both = pytest.mark.parametrize("write", [image_writer, mask_writer])


@both
def test_the_same_picture_gives_the_same_bytes(tmp_path, write):
    first, second = tmp_path / "a.png", tmp_path / "new" / "b.png"
    digests = {write(first), write(first), write(second)}
    assert first.read_bytes() == second.read_bytes()
    assert digests == {hashlib.sha256(first.read_bytes()).hexdigest()}


@both
def test_another_picture_gives_another_digest(tmp_path, write):
    assert write(tmp_path / "a.png") != write(tmp_path / "a.png", 1)


@both
def test_writing_over_a_hard_link_leaves_the_other_name_alone(tmp_path, write):
    ours, theirs = tmp_path / "ours.png", tmp_path / "theirs.png"
    write(ours)
    os.link(ours, theirs)
    before = theirs.read_bytes()
    write(ours, 1)
    assert theirs.read_bytes() == before
    assert ours.read_bytes() != before


@both
def test_others_may_read_what_is_written(tmp_path, write):
    write(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o644


@both
@pytest.mark.parametrize("step", ["write_bytes", "replace"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_crash_while_writing_leaves_what_was_there(tmp_path, monkeypatch, write, step, error):
    file = tmp_path / "a.png"
    write(file)
    before = file.read_bytes()

    def crash(*_):
        raise error("no space left")

    monkeypatch.setattr(os if step == "replace" else Path, step, crash)
    with pytest.raises(error):
        write(file, 1)
    monkeypatch.undo()
    assert names(tmp_path) == ["a.png"]
    assert file.read_bytes() == before


def damaged(content, place, value):
    return content[:place] + value + content[place + len(value) :]


UNREADABLE = {
    "empty": lambda _: b"",
    "text": lambda _: b"not a picture",
    "cut in half": lambda content: content[: len(content) // 2],
    "cut in its header": lambda content: content[:20],
    "short header chunk": lambda content: damaged(content, 8, bytes([0, 0, 0, 5])),
    "wrong checksum of the header": lambda content: damaged(content, 29, bytes(4)),
    "zeros for pixels": lambda content: damaged(content, len(content) - 60, bytes(40)),
}


@pytest.mark.parametrize("how", UNREADABLE)
@pytest.mark.parametrize("kind", ["image", "mask"])
def test_refuses_an_unreadable_file_and_names_it(tmp_path, refused, kind, how):
    file = tmp_path / f"{kind}.png"
    write, read = {
        "image": (image_writer, png.read_image),
        "mask": (mask_writer, lambda file: png.read_mask(file, classes(3))),
    }[kind]
    write(file)
    file.write_bytes(UNREADABLE[how](file.read_bytes()))
    assert str(file) in str(refused(lambda: read(file)))


def test_refuses_a_missing_file_and_names_it(tmp_path, label_map, refused):
    file = tmp_path / "missing.png"
    assert str(file) in str(refused(lambda: png.read_image(file)))
    assert str(file) in str(refused(lambda: png.read_mask(file, label_map)))


# --- the one door ------------------------------------------------------------------------------

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
NO_PICTURES = {
    "EPS": EPS,
    "EPS in a DOS file": struct.pack("<4B6I", 0xC5, 0xD0, 0xD3, 0xC6, 30, len(EPS), 0, 0, 0, 0)
    + EPS,
    "PDF": b"%PDF-1.4\n" + bytes(100),
    "GIF": b"GIF89a" + bytes(100),
    "text": b"no picture",
    "nothing": b"",
}


def test_no_other_code_opens_a_picture_with_pillow():
    sources = [
        file
        for floor in ("datasets_spec", "pipeline", "model")
        for file in (PROJECT / floor).rglob("*.py")
    ]
    opening = {
        file.relative_to(PROJECT).as_posix(): len(calls)
        for file in sources
        if (calls := re.findall(r"\bImage\s*\.\s*open\b|import open\b", file.read_text("utf-8")))
    }
    assert opening == {"pipeline/volumes/picture_files.py": 1}


@pytest.mark.parametrize("kind", NO_PICTURES)
@pytest.mark.parametrize("read", ["door", "image", "mask"])
def test_what_is_no_picture_is_refused_without_starting_a_program(
    tmp_path, monkeypatch, refused, label_map, kind, read
):
    def started(*arguments, **_):
        pytest.fail(f"{arguments} was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(os, "posix_spawn", started)
    monkeypatch.setattr(os, "system", started)
    file = tmp_path / "slice.png"
    file.write_bytes(NO_PICTURES[kind])

    def through_the_door():
        with picture_files.opened(file) as picture:
            picture.load()

    ways = {
        "door": through_the_door,
        "image": lambda: png.read_image(file),
        "mask": lambda: png.read_mask(file, label_map),
    }
    problem = refused(ways[read])
    assert problem.where == str(file)
    assert "none of these" in problem.what


@pytest.mark.parametrize("read", [png.read_image, lambda file: png.read_mask(file, classes(2))])
def test_a_pipe_is_no_picture(tmp_path, refused, read):
    os.mkfifo(tmp_path / "slice.png")
    assert "got a named pipe" in str(refused(lambda: read(tmp_path / "slice.png")))


@pytest.mark.parametrize("read", [png.read_image, lambda file: png.read_mask(file, classes(2))])
@pytest.mark.parametrize("sides", [(50_000, 50_000), (20_000, 10_000), (2**31 - 1, 1)])
def test_a_picture_too_large_is_refused_by_its_header(tmp_path, refused, read, sides):
    file = tmp_path / "slice.png"
    file.write_bytes(png_of(*sides))
    problem = refused(lambda: read(file))
    assert problem.where == str(file)
    assert "expected at most 100,000,000 pixels" in problem.what


def test_a_higher_limit_is_not_overruled_by_pillow(tmp_path):
    file = tmp_path / "slice.png"
    file.write_bytes(png_of(50_000, 50_000))
    with picture_files.opened(file, Limits(pixels=2_500_000_000)) as picture:
        assert picture.size == (50_000, 50_000)


def test_a_picture_that_ends_early_is_refused_where_its_pixels_are_asked_for(tmp_path, refused):
    file = tmp_path / "slice.png"
    file.write_bytes(png_of(100, 100))

    def decode():
        with picture_files.opened(file) as picture:
            picture.load()

    assert refused(decode).where == str(file)


def test_a_file_too_large_for_any_picture_is_not_read(tmp_path, refused):
    file = tmp_path / "slice.png"
    with file.open("wb") as stream:
        stream.truncate(1 << 40)  # a hole: it takes no room on the disk
    assert "limits.pixels" in str(refused(lambda: picture_files.content_of(file)))


@settings(deadline=None)
@given(st.lists(st.integers(0, (1 << 24) - 1), min_size=1, max_size=50))
def test_distinct_colours_are_those_that_occur(packed):
    assert colours.distinct(np.array(packed)).tolist() == sorted(set(packed))
