"""Near-duplicates: a copy is known again, mirrored, moved or re-encoded; a stranger is not."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.pairs.likeness import perceptual_hash
from pipeline.splits import near_duplicates as likeness
from pipeline.splits.near_duplicates import Likeness, Look, candidates, correlation, near_duplicates

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


def test_correlation_in_place_is_numpys_and_knows_no_shift() -> None:
    one, other = (likeness.thumbnail(head(number)) for number in (1, 2))
    wanted = np.corrcoef(one.ravel(), other.ravel())[0, 1]
    assert likeness.in_place(one, other) == pytest.approx(wanted, abs=1e-12)
    assert likeness.in_place(one, one) == 1
    assert likeness.in_place(one, np.zeros_like(one)) == 0
    aside = np.roll(one, 6, 1)
    assert likeness.in_place(one, aside) < 0.98 < likeness.moved(one, aside)


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
        [Look(perceptual_hash(p), "one", f"here {at}") for at, p in enumerate(first)],
        [Look(perceptual_hash(p), "other", f"there {at}") for at, p in enumerate(second)],
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


@pytest.mark.parametrize(
    ("patients", "digests"),
    [
        pytest.param(lambda _: "p", lambda n: str(n), id="one patient"),
        pytest.param(lambda n: str(n), lambda _: "d", id="one picture"),
        pytest.param(lambda n: f"p{n % 2}", lambda n: f"d{n % 2}", id="copies or one patient"),
    ],
)
def test_copies_and_pictures_of_one_patient_are_not_compared(
    patients: Callable[[int], str], digests: Callable[[int], str]
) -> None:
    text = perceptual_hash(head(0))
    here = [Look(text, patients(n), digests(n)) for n in range(20)]
    there = [Look(text, patients(n + 100), digests(n + 100)) for n in range(20)]
    expected = {
        (one, other)
        for one in range(20)
        for other in range(20)
        if here[one].patient != there[other].patient and here[one].digest != there[other].digest
    }
    read: list[int] = []

    def picture(at: int) -> Picture:
        read.append(at)
        return head(0)

    alike = near_duplicates(here, there, (picture, picture))
    assert {(one.first, one.second) for one in alike} == expected
    assert len(read) <= 4


def test_pictures_of_one_hash_are_read_once_for_each_digest() -> None:
    """Forty patients show one picture in train and a re-encoded one in test."""
    text = perceptual_hash(head(0))
    read: list[int] = []

    def picture(at: int) -> Picture:
        read.append(at)
        return head(0)

    here = [Look(text, f"p{n}", "png") for n in range(20)]
    there = [Look(text, f"p{n}", "jpeg") for n in range(20)]
    alike = near_duplicates(here, there, (picture, picture))
    assert len(alike) == 20 * 19
    assert len(read) == 2


def test_the_search_ends_when_there_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "ENOUGH", 7)
    assert len(found([head(0)] * 5, [head(0)] * 5)) == 7


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 90))
def test_candidates_are_the_hashes_that_differ_in_few_bits_or_are_mirrored(
    seed: int, most: int
) -> None:
    """By the definition, bit by bit."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 2, (6, 255), np.uint8)
    second = first[rng.integers(0, 6, 8)] ^ (rng.random((8, 255)) < most / 255)
    frequency = np.arange(1, 256)
    odd_x, odd_y = frequency % 16 % 2, frequency // 16 % 2
    mirrors = [odd_x * 0, odd_x, odd_y, odd_x ^ odd_y]
    for at in range(len(second)):
        second[at] ^= mirrors[rng.integers(4)].astype(np.uint8)
    expected = [
        (one, other)
        for one in range(len(first))
        for other in range(len(second))
        if min(np.count_nonzero(first[one] ^ second[other] ^ turn) for turn in mirrors)
        <= likeness.CANDIDATE_BITS
    ]
    texts = [[np.packbits(bits).tobytes().hex() for bits in group] for group in (first, second)]
    assert list(candidates(*texts)) == expected


@pytest.mark.parametrize("block", [1, 7, 100])
def test_candidates_do_not_depend_on_how_many_are_compared_at_once(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    hashes = [perceptual_hash(head(number // 2)) for number in range(20)]
    at_once = list(candidates(hashes, hashes))
    monkeypatch.setattr(likeness, "_BLOCK", block)
    assert list(candidates(hashes, hashes)) == at_once
    assert len(at_once) >= 40
