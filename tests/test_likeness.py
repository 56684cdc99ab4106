"""Near-duplicates: a copy is known again, mirrored, moved or re-encoded; a stranger is not."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline import likeness
from pipeline.likeness import Likeness, candidates, correlation, near_duplicates, perceptual_hash

Picture = NDArray[np.uint8]
PX = 512
STRANGERS = range(1, 25)


def head(number: int, px: int = PX) -> Picture:
    """A drawn head (px, px) uint8: a bright oval, tissue of its own in it, air around."""
    rng = np.random.default_rng(number)
    grain = rng.normal(0, 1, (24, 24)).astype(np.float32)
    tissue = cv2.resize(grain, (px, px), interpolation=cv2.INTER_CUBIC)
    rows, columns = np.mgrid[:px, :px] / px - 0.5
    wide, high = rng.uniform(0.28, 0.36, 2)
    inside = (rows / high) ** 2 + (columns / wide) ** 2 < 1
    return np.where(inside, np.clip(120 + 30 * tissue, 40, 230), 5).astype(np.uint8)


def moved(right: int, down: int) -> Callable[[Picture], Picture]:
    return lambda picture: np.roll(picture, (down, right), (0, 1))


def jpeg(picture: Picture) -> Picture:
    _, code = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 60])
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), np.uint8)


COPIES: dict[str, Callable[[Picture], Picture]] = {
    "the same": lambda picture: picture,
    "brighter": lambda picture: np.clip(picture.astype(int) + 25, 0, 255).astype(np.uint8),
    "darker": lambda picture: (picture * 0.7).astype(np.uint8),
    "more contrast": lambda picture: np.clip((picture - 20.0) * 1.2, 0, 255).astype(np.uint8),
    "moved a little": moved(3, -5),
    "moved far": moved(-18, 14),
    "mirrored left to right": lambda picture: picture[:, ::-1].copy(),
    "mirrored top to bottom": lambda picture: picture[::-1].copy(),
    "turned by half": lambda picture: picture[::-1, ::-1].copy(),
    "JPEG": jpeg,
    "half as large": lambda picture: cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA),
    "mirrored, moved, JPEG": lambda picture: jpeg(moved(6, 3)(picture[:, ::-1].copy())),
}


def found(first: list[Picture], second: list[Picture]) -> list[Likeness]:
    return near_duplicates(
        [perceptual_hash(picture) for picture in first],
        [perceptual_hash(picture) for picture in second],
        (first.__getitem__, second.__getitem__),
    )


@pytest.mark.parametrize("change", COPIES.values(), ids=list(COPIES))
def test_a_copy_is_found_among_strangers(change: Callable[[Picture], Picture]) -> None:
    strangers = [head(number) for number in STRANGERS]
    [alike] = found([head(0)], [*strangers, change(head(0))])
    assert alike.second == len(strangers)
    assert alike.correlation >= likeness.SAME


def test_strangers_are_not_alike() -> None:
    strangers = [head(number) for number in STRANGERS]
    assert found(strangers[::2], strangers[1::2]) == []


@pytest.mark.parametrize(
    ("turned", "bits"),
    [((slice(None), slice(None, None, -1)), 1), ((slice(None, None, -1), slice(None)), 2)],
    ids=["left to right", "top to bottom"],
)
@pytest.mark.parametrize("number", range(5))
def test_mirroring_flips_the_bits_of_odd_frequencies_and_no_others(
    number: int, turned: tuple[slice, slice], bits: int
) -> None:
    picture = head(number)
    here, there = (
        np.unpackbits(np.frombuffer(bytes.fromhex(perceptual_hash(p)), np.uint8))[:255]
        for p in (picture, picture[turned].copy())
    )
    frequency = np.arange(1, 256)
    odd = (frequency % 16 if bits == 1 else frequency // 16) % 2
    # a coefficient of exactly 0 keeps its bit; none is in these pictures
    np.testing.assert_array_equal(here ^ there, odd)


def test_a_hash_is_the_same_everywhere() -> None:
    """Fixed bits: of a picture drawn by integers alone."""
    rows, columns = np.mgrid[:PX, :PX]
    inside = (rows - 250) ** 2 + 2 * (columns - 240) ** 2 < 180**2
    picture = np.where(inside, 60 + (rows * columns // 97) % 150, 0).astype(np.uint8)
    assert perceptual_hash(picture) == (
        "363d2736e34270e06dadcf8f8c9b9c3938e031c3b38e631c7338c672ce624cce"
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(16, 700), st.integers(16, 700))
def test_every_picture_has_a_hash_or_none(seed: int, height: int, width: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    text = perceptual_hash(picture)
    assert len(text) in (0, 64)
    assert text == perceptual_hash(picture.copy())


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((PX, PX), np.uint8),
        np.full((PX, PX), 255, np.uint8),
        (np.indices((PX, PX)).sum(0) % 4).astype(np.uint8),
    ],
    ids=["black", "white", "faint noise"],
)
def test_a_picture_that_shows_nothing_says_nothing(picture: Picture) -> None:
    assert perceptual_hash(picture) == ""
    assert found([picture], [picture]) == []
    assert correlation(np.zeros((PX, PX), np.uint8), picture) == 0


def test_nothing_is_like_nothing() -> None:
    assert list(candidates([], [])) == []
    assert list(candidates([perceptual_hash(head(0))], ["", ""])) == []


def test_positions_count_pictures_that_say_nothing_too() -> None:
    blank = np.zeros((PX, PX), np.uint8)
    [alike] = found([blank, head(1)], [blank, head(2), blank, head(1)])
    assert (alike.first, alike.second) == (1, 3)


def test_only_what_is_wanted_is_read() -> None:
    hashes = [perceptual_hash(head(0))] * 3
    read: list[int] = []

    def picture(at: int) -> Picture:
        read.append(at)
        return head(0)

    alike = near_duplicates(
        hashes, hashes, (picture, picture), lambda one, other: one == other == 1
    )
    assert [(one.first, one.second) for one in alike] == [(1, 1)]
    assert set(read) == {1}


def test_the_search_ends_when_there_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "ENOUGH", 7)
    assert len(found([head(0)] * 5, [head(0)] * 5)) == 7


def test_candidates_do_not_depend_on_how_many_are_compared_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hashes = [perceptual_hash(head(number // 2)) for number in range(20)]
    at_once = list(candidates(hashes, hashes))
    monkeypatch.setattr(likeness, "_BLOCK", 1)
    assert list(candidates(hashes, hashes)) == at_once
    assert len(at_once) >= 40
