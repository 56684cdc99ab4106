"""Pictures larger than what a network sees are asked about part by part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.inference import tiles
from model.inference.facts import Tiles
from model.inference.member import Member
from model.network_input import model_input, picture_at, starts
from model.params import Network
from pipeline.pairs.canvas import Canvas
from tests.support import members
from tests.support.members import by_brightness

Pictures = NDArray[np.uint8]
SIZES = [(16, 16), (32, 16), (40, 16), (33, 16), (64, 16), (17, 16), (9, 2)]
sizes = pytest.mark.parametrize(("whole", "px"), SIZES)
overlaps = pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])


def drawn(whole: int, count: int = 2) -> Pictures:
    return np.random.default_rng(whole).integers(0, 256, (count, whole, whole, 1), np.uint8)


def shares(whole: int, px: int, overlap: float) -> NDArray[np.float32]:
    """How much each part counts at each pixel of a picture, (parts, whole, whole)."""
    corners = starts(whole, px, overlap)
    along = np.zeros((len(corners), whole), np.float32)
    for row, corner, weights in zip(
        along, corners, tiles._weights(whole, px, overlap), strict=True
    ):
        row[corner : corner + px] = weights
    return np.einsum("ay,bx->abyx", along, along).reshape(-1, whole, whole)


@sizes
@overlaps
def test_a_network_that_looks_at_each_pixel_alone_answers_as_if_there_were_no_parts(
    whole: int, px: int, overlap: float
) -> None:
    pictures = drawn(whole)
    found = tiles.asked(by_brightness, pictures, px, overlap)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_brightness(pictures), atol=1e-6)


@sizes
@overlaps
def test_what_is_the_same_everywhere_stays_so(whole: int, px: int, overlap: float) -> None:
    answer = np.array([0.2, 0.7, 0.1], np.float32)

    def constant(pictures: Pictures) -> NDArray[np.float32]:
        return np.broadcast_to(answer, (*pictures.shape[:3], 3))

    found = tiles.asked(constant, drawn(whole), px, overlap)
    np.testing.assert_allclose(found, np.broadcast_to(answer, found.shape), atol=1e-6)


@sizes
@overlaps
def test_weights_are_above_0_where_a_part_is_and_add_up_to_1(
    whole: int, px: int, overlap: float
) -> None:
    each = shares(whole, px, overlap)
    assert ((each > 0).sum(axis=(1, 2)) == px * px).all()
    np.testing.assert_allclose(each.sum(axis=0), 1, atol=1e-6)


@given(px=st.integers(1, 64), more=st.integers(0, 300), overlap=st.sampled_from([0, 0.3, 0.5, 0.9]))
def test_parts_cover_the_whole_and_neighbours_overlap_by_the_share(
    px: int, more: int, overlap: float
) -> None:
    corners = starts(px + more, px, overlap)
    assert corners[0] == 0
    assert corners[-1] == more
    steps = np.diff(corners)
    most = max(1, int(px * (1 - overlap)))
    assert (steps > 0).all()
    assert (steps <= most).all()
    assert len(corners) == max(-(-more // most), 0) + 1  # as few as can be
    assert not steps.size or steps.max() - steps.min() <= 1


def test_a_picture_of_the_networks_size_is_asked_about_as_it_is() -> None:
    pictures, answer = drawn(16), np.zeros((2, 16, 16, 3), np.float32)
    seen: list[Pictures] = []

    def run(given: Pictures) -> NDArray[np.float32]:
        seen.append(given)
        return answer

    assert tiles.asked(run, pictures, 16) is answer
    assert seen[0] is pictures


@pytest.mark.parametrize("most", [1, 3, 7, 100])
def test_how_many_are_asked_about_at_once_changes_nothing_and_is_bounded(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, counts = drawn(40, 3), []

    def centred(parts: Pictures) -> NDArray[np.float32]:
        counts.append(len(parts))
        place = np.linspace(0, 1, 16, dtype=np.float32)
        return by_brightness(parts) * (place * place[:, None])[..., None]

    whole = tiles.asked(centred, pictures, 16)
    counts.clear()
    monkeypatch.setattr(tiles, "_MOST_AT_ONCE", most)
    np.testing.assert_array_equal(tiles.asked(centred, pictures, 16), whole)
    assert max(counts) <= most
    assert sum(counts) == 3 * 4 * 4


def test_a_part_counts_most_in_its_middle() -> None:
    """A network that is wrong along its border is hardly heard there."""

    def frayed(parts: Pictures) -> NDArray[np.float32]:
        answer = np.zeros((*parts.shape[:3], 2), np.float32)
        answer[:, 2:-2, 2:-2, 1] = 1
        return answer

    inner = slice(2, -2)
    smooth, apart = (
        tiles.asked(frayed, drawn(64), 16, overlap)[:, inner, inner, 1] for overlap in (0.5, 0.0)
    )
    assert smooth.min() > 0.95
    assert apart.min() == 0


def parts_member(run: members.Run = by_brightness, **more: object) -> Member:
    """Of a network that sees 16 x 16 of pictures of 40 x 40."""
    one = members.member(run=run)
    network = replace(one.facts.network, picture_px=40)
    return replace(one, facts=replace(one.facts, network=network), **more)


def picture() -> Pictures:
    return np.random.default_rng(3).integers(0, 256, (64, 64), np.uint8)


def test_a_member_answers_at_the_size_of_its_whole_pictures() -> None:
    one = parts_member()
    found = one.of_pictures([picture()])
    assert found.shape == (1, 40, 40, 3)
    np.testing.assert_allclose(
        found, by_brightness(picture_at(picture(), 40)[None, ..., None]), atol=1e-6
    )
    sampler = one.sampler(Canvas.fit((64, 64), (1.0, 1.0), 64))
    assert sampler(found[0]).shape == (3, 64, 64)


@pytest.mark.parametrize("axes", [("horizontal",), ("horizontal", "vertical")])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_mirror_images_are_of_the_picture_and_not_of_its_parts(
    axes: tuple[str, ...], overlap: float
) -> None:
    def lopsided(parts: Pictures) -> NDArray[np.float32]:
        """One whose answer depends on where in its part a pixel is."""
        return by_brightness(parts) * np.linspace(0.2, 1, 16, dtype=np.float32)[:, None]

    one = parts_member(lopsided, axes=axes, overlap=overlap)
    seen = model_input([picture()], one.facts.network)
    wanted = tiles.asked(lopsided, seen, 16, overlap)
    for turned in [(2,), (1,), (1, 2)][: 2 ** len(axes) - 1]:
        flipped = tiles.asked(lopsided, np.flip(seen, turned), 16, overlap)
        wanted = wanted + np.flip(flipped, turned)
    np.testing.assert_allclose(one.of_pictures([picture()]), wanted / 2 ** len(axes), atol=1e-6)


@pytest.mark.parametrize(
    ("image_px", "picture_px", "count"),
    [(16, 0, 32), (128, 0, 32), (512, 0, 2), (128, 256, 8), (128, 512, 2), (128, 4096, 1)],
)
def test_so_many_pictures_at_once_as_memory_holds_whole(
    image_px: int, picture_px: int, count: int
) -> None:
    one = members.member(px=image_px)
    network = replace(one.facts.network, picture_px=picture_px)
    assert replace(one, facts=replace(one.facts, network=network)).at_once == count


@settings(max_examples=20)
@given(st.sampled_from([16, 32, 128]), st.integers(0, 300))
def test_a_network_of_whole_pictures_sees_the_same_size_as_ever(px: int, more: int) -> None:
    network = Network(px, 1, 2, 3, 2, 1, 0.0, "relu", "none")
    assert network.whole_px == px
    if more:
        assert replace(network, picture_px=px + more).whole_px == px + more


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (Tiles(), "were not measured on valid"),
        (
            Tiles(True, 0.0123, 0.002, 0.03, 7, 2.31),
            "gained +0.0123 Dice [+0.0020, +0.0300] on 7 patients of valid, at 2.3 times the",
        ),
    ],
)
def test_what_overlap_gained_is_a_sentence(measured: Tiles, words: str) -> None:
    assert words in measured.sentence
