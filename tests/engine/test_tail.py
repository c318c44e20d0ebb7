"""A server's error behind the data of a result never becomes data, however the bytes are cut."""

from __future__ import annotations

import pytest

from pipit.engine.failures import code_of
from pipit.engine.tail import Tail

TAG = "rnywyenbyhxxmqdg"
MESSAGE = b"Code: 395. DB::Exception: no. (FUNCTION_THROW_IF_VALUE_IS_NON_ZERO) (version 25.11)"
DATA = b'{"n":1}\n__exception__\r\nnot the tag\n{"n":2}\n'
ENDING = (
    b"\r\n__exception__\r\n" + TAG.encode() + b"\r\n" + MESSAGE + b"\n83 " + TAG.encode() + b"\r\n__exception__\r\n"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 64, 1000])
def test_the_error_is_split_off(size: int) -> None:
    tail = Tail(TAG)
    whole = DATA + ENDING
    seen = b"".join(tail.feed(whole[at : at + size]) for at in range(0, len(whole), size)) + tail.end()
    assert seen == DATA
    assert code_of(tail.message) == 395


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_without_an_error_all_is_data(size: int) -> None:
    tail = Tail(TAG)
    seen = b"".join(tail.feed(DATA[at : at + size]) for at in range(0, len(DATA), size)) + tail.end()
    assert seen == DATA
    assert tail.message == ""
