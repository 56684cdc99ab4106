"""The wire format of Protocol Buffers, as much of it as an ONNX file needs.

A message is a row of fields: a key (the field's number and wire type), and then a varint, four
bytes, or a length and that many bytes. Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_LONGEST = 10  # bytes of a varint of 64 bits
_MOST = 64  # fields of a message that are looked through; a model has five
_FIXED = {_EIGHT: 8, _FOUR: 4}


def varint(value: int) -> bytes:
    """A number of at least 0 in groups of seven bits, the lowest first.

    >>> varint(300).hex()
    'ac02'
    """
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def key(number: int, length: int) -> bytes:
    """What stands before the content, of ``length`` bytes, of field ``number``."""
    return varint(number << 3 | _BYTES) + varint(length)


def field(number: int, value: int | float | str | bytes) -> bytes:
    """A whole field: a number of at least 0, a float32, or a text or message by its bytes."""
    if isinstance(value, int):
        return varint(number << 3 | _VARINT) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | _FOUR) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return key(number, len(content)) + content


def contents(stream: BinaryIO, end: int, wanted: int, longest: int) -> Iterator[bytes]:
    """The contents of the fields ``wanted`` in a message that ends at byte ``end`` of ``stream``.

    Other fields are passed over without being read. Raises ValueError for bytes that are no
    message, for more fields than a model has, and for a wanted one of more than ``longest`` bytes.
    """
    for _ in range(_MOST):
        if stream.tell() == end:
            return
        number, kind = divmod(_varint(stream), 8)
        if kind == _VARINT:
            _varint(stream)
            continue
        if kind != _BYTES and kind not in _FIXED:
            raise ValueError(f"a field of wire type {kind}")
        length = _varint(stream) if kind == _BYTES else _FIXED[kind]
        if stream.tell() + length > end:
            raise ValueError("a field that goes beyond its message")
        if number == wanted and kind == _BYTES:
            if length > longest:
                raise ValueError(f"a field of {length} bytes, where {longest} are the most")
            yield stream.read(length)
        else:
            stream.seek(length, 1)
    raise ValueError(f"a message of more than {_MOST} fields")


def _varint(stream: BinaryIO) -> int:
    value = 0
    for place in range(_LONGEST):
        byte = stream.read(1)
        if not byte:
            raise ValueError("bytes that end within a number")
        value |= (byte[0] & 127) << 7 * place
        if byte[0] < 128:
            return value
    raise ValueError(f"a number of more than {_LONGEST} bytes")
