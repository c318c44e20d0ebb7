"""What the engine process refuses under all settings, because the engine would do it even with `readonly=1`.

- More than one statement in a request (the engine's own parser decides).
- OUTFILE and INFILE.
- `Python()`.
- `file`, as a function, a table function or an engine, unless its path is a literal without patterns below the folders
  that were given at the start. With `readonly` it is always refused: the scalar function would read any file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipit.engine.codes import Code
from pipit.engine.embedded.failure import Failure
from pipit.engine.embedded.statement import code_tokens, first_word

_SUSPECTS = (b"file", b"python", b"apply")
_FILE_WORDS = frozenset({b"file", b"filecluster"})
_ESCAPE = re.compile(rb"\\([\\'])")
_OTHER_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\[^\\']")
_KEPT = 2000
_KEPT_BYTES = 16_384
# What must be free for a change of definitions. Each writes some kilobytes; others write meanwhile.
ROOM_BYTES = 8 << 20
_ROOM_FILES = 100
_DEFINING = frozenset({b"alter", b"create", b"replace", b"rename", b"exchange", b"attach", b"detach"})


class Guard:
    def __init__(self, roots: Sequence[Path], folder: Path | None = None) -> None:
        """`folder`: where the engine keeps its files."""
        self._folder = folder
        self._roots = tuple(os.path.realpath(root) + os.sep for root in roots)
        self._passed: dict[tuple[bytes, bool], bool] = {}

    def check(self, connection: Any, text: bytes, *, readonly: bool) -> bool:
        """Whether the statement only reads, cached for each text. Raises Failure if it may not run."""
        key = (text, readonly)
        reads = self._passed.get(key)
        if reads is None:
            self._check_outside(text, readonly=readonly)
            reads = self._check_statement(connection, text, readonly=readonly)
            # Paths of files are looked at each time: a link may have changed.
            if len(text) <= _KEPT_BYTES and b"file" not in text.lower():
                if len(self._passed) >= _KEPT:
                    self._passed.clear()
                self._passed[key] = reads
        return reads

    def check_room(self, text: bytes) -> None:
        """Raises Failure if the disk is nearly full and the statement would write a table's definition.

        The engine puts a new file of a definition in the old one's place also when the disk had no room for what is in
        it: the table is lost, and the database does not open again. (DROP makes room and is not stopped.)
        """
        if self._folder is None or first_word(text) not in _DEFINING:
            return
        found = os.statvfs(self._folder)
        if found.f_bavail * found.f_frsize < ROOM_BYTES or (found.f_files and found.f_favail < _ROOM_FILES):
            raise Failure(Code.NOT_ENOUGH_SPACE, "The disk has too little room for changes")

    def _check_statement(self, connection: Any, text: bytes, *, readonly: bool) -> bool:
        """One statement, by the engine's own parser; a reading one with `readonly`. True: it only reads."""
        facts = connection.classify_query(text)
        count = facts["statement_count"]
        kind = facts["query_class"].name
        if count > 1:
            raise Failure(Code.SYNTAX_ERROR, "Multi-statements are not allowed")
        if count == 0:
            _raise_syntax_error(connection, text)
        if readonly and kind != "READ_ONLY":
            raise Failure(Code.READONLY, "Cannot execute query in readonly mode")
        return bool(kind == "READ_ONLY")

    def _check_outside(self, text: bytes, *, readonly: bool) -> None:
        """Raises Failure if the text reaches outside the engine."""
        lowered = text.lower()
        if not any(word in lowered for word in _SUSPECTS):
            return
        tokens = code_tokens(text)
        words = [word for word, _ in tokens]
        if b"outfile" in words and b"into" in words:
            raise Failure(Code.DATABASE_ACCESS_DENIED, "INTO OUTFILE is not allowed")
        if b"infile" in words and b"from" in words:
            raise Failure(Code.DATABASE_ACCESS_DENIED, "FROM INFILE is not allowed")
        for at, word in enumerate(words):
            following = words[at + 1] if at + 1 < len(words) else b""
            if word == b"python" and following == b"(":
                raise Failure(Code.DATABASE_ACCESS_DENIED, "The table function Python is not allowed")
            if word in _FILE_WORDS and following == b"(":
                path = tokens[at + 2][1] if at + 2 < len(tokens) else b""
                if readonly or not self._is_inside(path):
                    raise Failure(Code.DATABASE_ACCESS_DENIED, "Reading local files is not allowed")
            # `* APPLY(file)` calls the function without a bracket of its own.
            if word in _FILE_WORDS and b"apply" in words:
                raise Failure(Code.DATABASE_ACCESS_DENIED, "Reading local files is not allowed")

    def _is_inside(self, literal: bytes) -> bool:
        if len(literal) < 3 or not (literal.startswith(b"'") and literal.endswith(b"'")):
            return False
        path = _ESCAPE.sub(rb"\1", literal[1:-1]).decode("utf-8", "surrogateescape")
        # An escape of another kind may stand for anything, and a pattern for many paths.
        if _OTHER_ESCAPE.search(literal) or any(mark in path for mark in "*?{}") or not os.path.isabs(path):
            return False
        return os.path.realpath(path).startswith(self._roots)


def _raise_syntax_error(connection: Any, text: bytes) -> None:
    """Raises the engine's syntax error. The statement is only parsed, not run."""
    quoted = text.replace(b"\\", b"\\\\").replace(b"'", b"\\'")
    try:
        connection.query(b"SELECT formatQuery('" + quoted + b"') FORMAT Null", "Null")
    except RuntimeError as error:
        raise Failure.of(error) from None
    raise Failure(Code.SYNTAX_ERROR, "Syntax error: the text is not one statement")
