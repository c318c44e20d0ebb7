"""An error of the engine on its way to the client, as ClickHouse's HTTP interface reports it."""

from __future__ import annotations

import re

from pipit.engine.codes import Code

_CODE = re.compile(r"Code: (\d+)\. ")
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]+)\)(?: \(version [^)]*\))?\s*$")
_STATUS: dict[int, int] = {
    **dict.fromkeys((Code.AUTHENTICATION_FAILED, Code.REQUIRED_PASSWORD), 401),
    **dict.fromkeys((Code.UNKNOWN_USER, Code.WRONG_PASSWORD, Code.ACCESS_DENIED), 403),
    **dict.fromkeys(
        (
            Code.CANNOT_PARSE_TEXT,
            Code.CANNOT_PARSE_QUOTED_STRING,
            Code.CANNOT_PARSE_INPUT_ASSERTION_FAILED,
            Code.BAD_ARGUMENTS,
            Code.CANNOT_PARSE_DATE,
            Code.CANNOT_PARSE_DATETIME,
            Code.NUMBER_OF_ARGUMENTS_DOESNT_MATCH,
            Code.ILLEGAL_TYPE_OF_ARGUMENT,
            Code.ILLEGAL_COLUMN,
            Code.TYPE_MISMATCH,
            Code.TABLE_ALREADY_EXISTS,
            Code.SYNTAX_ERROR,
            Code.ARGUMENT_OUT_OF_BOUND,
            Code.CANNOT_CONVERT_TYPE,
            Code.CANNOT_PARSE_NUMBER,
            Code.INCORRECT_DATA,
            Code.TOO_LARGE_ARRAY_SIZE,
            Code.CANNOT_READ_ARRAY_FROM_TEXT,
            Code.TOO_LARGE_STRING_SIZE,
            Code.CANNOT_COMPILE_REGEXP,
            Code.UNKNOWN_QUERY_PARAMETER,
            Code.BAD_QUERY_PARAMETER,
            Code.CANNOT_PARSE_BOOL,
        ),
        400,
    ),
    **dict.fromkeys(
        (
            Code.UNKNOWN_FUNCTION,
            Code.UNKNOWN_IDENTIFIER,
            Code.UNKNOWN_TYPE,
            Code.UNKNOWN_STORAGE,
            Code.UNKNOWN_TABLE,
            Code.UNKNOWN_AGGREGATE_FUNCTION,
            Code.UNKNOWN_FORMAT,
            Code.UNKNOWN_TYPE_OF_QUERY,
            Code.UNKNOWN_DATABASE,
            Code.NO_DATA_TO_INSERT,
            Code.UNKNOWN_SETTING,
            Code.UNKNOWN_DIRECTION_OF_SORTING,
        ),
        404,
    ),
    **dict.fromkeys((Code.TIMEOUT_EXCEEDED, Code.SOCKET_TIMEOUT, Code.TOO_SLOW), 408),
    Code.READONLY: 500,
    Code.HTTP_LENGTH_REQUIRED: 411,
    Code.TOO_BIG_AST: 413,
    Code.NOT_IMPLEMENTED: 501,
}


_NAMES: dict[int, str] = {code.value: code.name for code in Code}


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
        failure = cls(int(found[1]) if found else Code.STD_EXCEPTION, "")
        if found:
            failure.args = (text[found.start() :],)
        else:
            failure.args = (f"Code: {Code.STD_EXCEPTION:d}. DB::Exception: {text}. (STD_EXCEPTION)",)
        return failure

    @property
    def status(self) -> int:
        return _STATUS.get(self.code, 500)

    def body(self, version: str) -> bytes:
        text = str(self)
        if not text.rstrip().endswith(f"(version {version})"):
            text = f"{text} (version {version})"
        return f"{text}\n".encode("utf-8", "surrogateescape")
