"""A server's error behind the data of a result never becomes data, however the bytes are cut."""

from __future__ import annotations

import pytest

from pipit.engine.failures import code_of
from pipit.engine.tail import Tail

TAG = "rnywyenbyhxxmqdg"
MESSAGE = b"Code: 395. DB::Exception: no. (FUNCTION_THROW_IF_VALUE_IS_NON_ZERO) (version 25.11)"
LINES = b'{"n":1}\n__exception__\r\nnot the tag\n{"n":2}\n'
ENDING = (
    b"\r\n__exception__\r\n" + TAG.encode() + b"\r\n" + MESSAGE + b"\n83 " + TAG.encode() + b"\r\n__exception__\r\n"
)


CUTS = [(LINES, size) for size in (1, 2, 3, 7, 16, 64, 1000)]
CUTS += [(LINES * 3000, size) for size in (1000, 32_767, 32_768, 32_769, 100_000, 1_000_000)]


@pytest.mark.parametrize(("data", "size"), CUTS)
def test_the_error_is_split_off(data: bytes, size: int) -> None:
    tail = Tail(TAG)
    whole = data + ENDING
    seen = b"".join(part for at in range(0, len(whole), size) for part in tail.feed(whole[at : at + size])) + tail.end()
    assert seen == data
    assert code_of(tail.message) == 395


@pytest.mark.parametrize(("data", "size"), CUTS)
def test_without_an_error_all_is_data(data: bytes, size: int) -> None:
    tail = Tail(TAG)
    seen = b"".join(part for at in range(0, len(data), size) for part in tail.feed(data[at : at + size])) + tail.end()
    assert seen == data
    assert tail.message == ""
