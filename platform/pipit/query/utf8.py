"""Answers that claim to be UTF-8 are: half a character, such as `substring('é', 1, 1)`, is U+FFFD in every text format.

The engine does so itself in its JSON formats (`output_format_json_validate_utf8`). In CSV, TSV and the like it writes
texts as they are, so their bytes are looked at here: whole chunks, and only those with other than ASCII are decoded.
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator

from pipit.query.formats import Format


def repaired(format: Format, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks of an answer in this format."""
    is_left_to_us = not format.binary and not format.name.startswith("JSON")
    return _as_utf8(chunks) if is_left_to_us else chunks


async def _as_utf8(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    whole = True  # no character is cut by the end of the last chunk
    async for chunk in chunks:
        if whole and chunk.isascii():
            yield chunk
            continue
        if text := decoder.decode(chunk):
            yield text.encode()
        whole = not decoder.getstate()[0]
    if rest := decoder.decode(b"", final=True):
        yield rest.encode()
