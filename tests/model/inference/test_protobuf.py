"""Bytes of Protocol Buffers: written as their specification says, read from anyone."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inference.protobuf import contents, field, key, varint


def texts(message: bytes, number: int, longest: int = 1000) -> list[bytes]:
    return list(contents(io.BytesIO(message), len(message), number, longest))


@pytest.mark.parametrize(
    ("message", "digits"),
    [
        (field(1, 150), "089601"),  # the examples of the specification
        (field(2, "testing"), "120774657374696e67"),
        (field(3, field(1, 150)), "1a03089601"),
        (field(16, 1.0), "85010000803f"),
        (field(3, 2**64 - 1), "18ffffffffffffffffff01"),
        (key(5, 300), "2aac02"),
    ],
)
def test_fields_are_those_of_the_specification(message: bytes, digits: str) -> None:
    assert message.hex() == digits


PARTS = st.tuples(
    st.integers(1, 30), st.one_of(st.integers(0, 2**64 - 1), st.floats(width=32), st.binary())
)


@settings(deadline=None)
@given(st.lists(PARTS, max_size=20), st.integers(1, 30))
def test_what_is_written_is_read(parts: list[tuple[int, int | float | bytes]], number: int) -> None:
    message = b"".join(field(one, value) for one, value in parts)
    wanted = [value for one, value in parts if one == number and isinstance(value, bytes)]
    assert texts(message, number) == wanted


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(message: bytes) -> None:
    try:
        found = texts(message, 1)
    except ValueError:
        return
    assert sum(map(len, found)) <= len(message)


@settings(deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=5), st.data())
def test_a_message_that_ends_early_is_no_other_message(
    parts: list[tuple[int, int | float | bytes]], data: st.DataObject
) -> None:
    whole = [field(one, value) for one, value in parts]
    message = b"".join(whole)
    end = data.draw(st.integers(0, len(message) - 1))
    ends = {len(b"".join(whole[:count])) for count in range(len(whole) + 1)}
    if end not in ends:
        with pytest.raises(ValueError, match=r"end within|beyond"):
            texts(message[:end], 1)


@pytest.mark.parametrize(
    ("message", "match"),
    [
        (b"\xff" * 11, "more than 10 bytes"),
        (b"\x0b\x0c", "wire type 3"),  # a group, which nothing writes today
        (key(1, 2**40), "beyond its message"),
        (field(1, b"x" * 1001), "1000 are the most"),
        (field(2, 1) * 65, "more than 64 fields"),
    ],
)
def test_hostile_bytes_are_refused(message: bytes, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        texts(message, 1)


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1))
def test_a_number_takes_seven_bits_a_byte(value: int) -> None:
    assert len(varint(value)) == max(1, -(-value.bit_length() // 7))
