"""PNG and JPEG pictures of any size and depth -> masks at their own size."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.delivery import picture
from model.delivery.wish import Wish
from pipeline.pairs import png
from pipeline.params.limits import Limits
from tests.conftest import Refused
from tests.support.members import LABELS, by_brightness, member, predictor

PLAIN = Wish(view=False)


def draw(file: Path, shape: tuple[int, int], mode: str = "L") -> None:
    values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    if mode == "I;16":
        Image.fromarray(values.astype(np.uint16) * 257).save(file)
    else:
        Image.fromarray(values).convert(mode).save(file)


def grey(height: int, width: int) -> NDArray[np.uint8]:
    """Dark on the left, bright on the right, with a bright disc."""
    rows, columns = np.indices((height, width))
    disc = np.hypot(rows - height / 2, columns - width / 4) < min(height, width) / 5
    return np.where(disc | (columns > width * 0.6), 230, 20).astype(np.uint8)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_pictures_of_any_depth_are_read_as_grey(mode: str, tmp_path: Path) -> None:
    draw(tmp_path / "p.png", (20, 30), mode)
    read = picture.read(tmp_path / "p.png", Limits())
    assert (read.picture.shape, read.picture.dtype, read.dark) == ((20, 30), np.uint8, False)
    wanted = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    if mode not in ("1", "P"):
        assert np.abs(read.picture.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize(
    ("value", "kind", "dark"),
    [(4095, np.uint16, True), (4096, np.uint16, False), (9, np.uint8, False)],
)
def test_a_deep_picture_that_is_almost_black_is_noticed(
    value: int, kind: type, dark: bool, tmp_path: Path
) -> None:
    Image.fromarray(np.full((20, 20), value, kind)).save(tmp_path / "p.png")
    assert picture.read(tmp_path / "p.png", Limits()).dark == dark


@pytest.mark.parametrize(
    ("shape", "message"),
    [((90, 60), "at most 2,000 pixels, got 90 x 60"), ((2, 900), "at most 44 pixels a side")],
)
def test_a_picture_that_is_too_large_is_refused(
    shape: tuple[int, int], message: str, tmp_path: Path, refused: Refused
) -> None:
    """A long one would become a large square."""
    draw(tmp_path / "huge.png", shape)
    problem = refused(lambda: picture.read(tmp_path / "huge.png", Limits(pixels=2000)))
    assert message in problem.what


@pytest.mark.parametrize("shape", [(64, 64), (40, 30), (17, 90), (300, 200)])
def test_a_mask_has_the_pictures_own_size_and_content(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    wish = Wish(view=False, probabilities=True, overlays=True)
    one = predictor(member(px=64))
    made, content = picture.deliver(tmp_path, "p", grey(*shape), one, wish, Path("p.png"))
    assert {file.relative_to(tmp_path).as_posix() for file in made} == {
        "p.png", "p.npz", "overlays/p.png",
    }  # fmt: skip
    ids = png.read_mask(tmp_path / "p.png", LABELS)
    assert ids.shape == shape
    wanted = np.where(grey(*shape) > 128, 2, 1)
    assert (ids == wanted).mean() > 0.93
    with np.load(tmp_path / "p.npz") as archive:
        [probability] = archive.values()
    assert (probability.shape, probability.dtype) == ((*shape, 3), np.float16)
    np.testing.assert_array_equal(probability.argmax(axis=-1), ids)
    with Image.open(tmp_path / "overlays" / "p.png") as overlay:
        assert (overlay.mode, overlay.size) == ("RGB", shape[::-1])
    assert content["view"] is None
    areas = {row["class"]: row["voxels"] for row in content["measures"] if row["kind"] == "class"}
    assert areas == {"dark": (ids == 1).sum(), "bright": (ids == 2).sum()}


@pytest.mark.parametrize("shape", [(40, 30), (17, 90)])
def test_strips_are_what_is_made_at_once(
    shape: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for size in (1, 1 << 24):
        monkeypatch.setattr(picture, "_STRIP_BYTES", size)
        wish = Wish(view=False, probabilities=True)
        made, _ = picture.deliver(tmp_path, "p", grey(*shape), predictor(), wish, Path())
        with np.load(made[1]) as archive:
            results.append((made[0].read_bytes(), archive["arr_0"]))
    assert results[0][0] == results[1][0]
    np.testing.assert_allclose(results[0][1], results[1][1], atol=2e-3)


def test_the_members_of_an_ensemble_answer_as_one(tmp_path: Path) -> None:
    opposite = member(run=lambda pictures: by_brightness(255 - pictures))
    wish = Wish(view=False, probabilities=True)
    found = {}
    for name, members in {"a": [member()], "b": [opposite], "ab": [member(), opposite]}.items():
        picture.deliver(tmp_path, name, grey(40, 40), predictor(*members), wish, Path())
        with np.load(tmp_path / f"{name}.npz") as archive:
            found[name] = archive["arr_0"].astype(np.float32)
    both = np.sqrt(found["a"] * found["b"])
    both /= both.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found["ab"], both, atol=1e-3)
    np.testing.assert_allclose(found["ab"][..., 1], found["ab"][..., 2], atol=1e-3)
    assert np.abs(found["a"][..., 1] - found["a"][..., 2]).max() > 0.1


def test_the_same_picture_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        wish = Wish(probabilities=True, overlays=True)
        made, _ = picture.deliver(tmp_path / name, "p", grey(50, 40), predictor(), wish, Path())
        contents.append([file.read_bytes() for file in made])
        assert len(made) > 3
    assert contents[0] == contents[1]


def test_a_large_picture_takes_a_few_bytes_a_pixel(tmp_path: Path) -> None:
    shape = (2500, 2000)
    large = grey(*shape)
    tracemalloc.start()
    try:
        picture.deliver(tmp_path, "p", large, predictor(), PLAIN, Path())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / large.size < 14
