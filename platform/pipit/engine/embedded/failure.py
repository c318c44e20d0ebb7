"""An error of the engine on its way to the client, as ClickHouse's HTTP interface reports it."""

from __future__ import annotations

import re

_CODE = re.compile(r"Code: (\d+)\. ")
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]+)\)(?: \(version [^)]*\))?\s*$")
_STD_EXCEPTION = 1001

_STATUS = {
    **dict.fromkeys((516, 194), 401),
    **dict.fromkeys((192, 193, 497), 403),
    **dict.fromkeys(
        (6, 26, 27, 36, 38, 41, 42, 43, 44, 53, 57, 62, 69, 70, 72, 117, 128, 130, 131, 427, 456, 457, 467), 400
    ),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 78, 81, 108, 115, 152, 155), 404),
    164: 500,
    159: 408,
    209: 408,
    160: 408,
    381: 411,
    168: 413,
    48: 501,
}
_NAMES = {
    62: "SYNTAX_ERROR",
    164: "READONLY",
    291: "DATABASE_ACCESS_DENIED",
    48: "NOT_IMPLEMENTED",
    243: "NOT_ENOUGH_SPACE",
    36: "BAD_ARGUMENTS",
}
_NAMES |= {516: "AUTHENTICATION_FAILED", 394: "QUERY_WAS_CANCELLED", 115: "UNKNOWN_SETTING", 117: "INCORRECT_DATA"}


class Failure(Exception):
    """`Code: N. DB::Exception: text (NAME)`, with the HTTP status that belongs to N."""

    def __init__(self, code: int, text: str) -> None:
        name = _NAMES.get(code, "")
        super().__init__(f"Code: {code}. DB::Exception: {text}. ({name})" if name else text)
        self.code = code

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """What the engine raised, with its own text."""
        text = str(error)
        found = _CODE.search(text)
        failure = cls(int(found[1]) if found else _STD_EXCEPTION, "")
        if found:
            failure.args = (text[found.start() :],)
        else:
            failure.args = (f"Code: {_STD_EXCEPTION}. DB::Exception: {text}. (STD_EXCEPTION)",)
        return failure

    @property
    def status(self) -> int:
        return _STATUS.get(self.code, 500)

    def body(self, version: str) -> bytes:
        text = str(self)
        if not text.rstrip().endswith(f"(version {version})"):
            text = f"{text} (version {version})"
        return f"{text}\n".encode("utf-8", "surrogateescape")
