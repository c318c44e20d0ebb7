"""Check (c): a text runs only after that very text was examined on the engine's own resolved tree.

The engine prints the tree of the statement (`EXPLAIN QUERY TREE`); every table in it must be one that the composer
put there, every function and table function on the reviewed lists. What the tree does not show is covered otherwise:
a constant `if` drops its other branch from the tree, so function names are also read from the text; views' own
objects have no name that project SQL can resolve. The engine runs scalar subqueries while it makes the tree, so that
run is read-only, limited, and sees no row of any table of the workspace.

Values are bound, so texts are few: what was examined is remembered, per deployment, in a bounded cache.
"""

from __future__ import annotations

from itertools import pairwise

from cachetools import LRUCache

from pipit.catalog.snapshot import Snapshot
from pipit.engine.client import Engine
from pipit.errors import ReadRefused, SqlError
from pipit.query.compose import Composed
from pipit.query.limits import EXAMINE_SETTINGS
from pipit.query.secure import filter_setting
from pipit.sql.allowed import is_allowed_function
from pipit.sql.lexer import TokenKind, tokenize
from pipit.sql.tree import parse_query_tree
from pipit.templates import Binder

_EXAMINED_TEXTS = 8192


class Examiner:
    """Examines texts and remembers those that passed. A refusal is not remembered: it costs its author, no one else."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._passed: LRUCache[tuple[str, int, str], frozenset[str]] = LRUCache(_EXAMINED_TEXTS)
        self._no_rows: tuple[int, dict[str, str]] = (0, {})

    async def tables(self, snapshot: Snapshot, composed: Composed, binder: Binder) -> frozenset[str]:
        """The tables that the engine says the statement reads. Raises ReadRefused or SqlError; never runs the query."""
        key = (snapshot.workspace.id, snapshot.deployment, composed.sql)
        found = self._passed.get(key)
        if found is None:
            check_text(composed.sql)
            found = await self._engine_tables(snapshot, composed, binder)
            self._passed[key] = found
        return found

    async def _engine_tables(self, snapshot: Snapshot, composed: Composed, binder: Binder) -> frozenset[str]:
        # One filter per table of the workspace: '0' lets no row through, whichever of them a scalar subquery reads.
        nothing = dict.fromkeys(snapshot.physical_tables(), "0")
        reply = await self._engine.query(
            f"EXPLAIN QUERY TREE {composed.sql}",
            binder.params,
            settings=EXAMINE_SETTINGS | {"additional_table_filters": filter_setting(nothing)},
            database=snapshot.workspace.database,
            format="TSVRaw",
        )
        reads = parse_query_tree(reply.decode("utf-8", "surrogateescape"))
        if reads.unknown:
            raise ReadRefused("The engine's plan of this query has a part that Pipit does not know, so it does not run")
        extra = reads.tables - composed.tables
        if extra:
            raise ReadRefused("The query reads a table that is not a resource of the workspace")
        for function in sorted(reads.functions):
            if not is_allowed_function(function):
                raise ReadRefused(f"The function '{function}' is not allowed in queries")
        if reads.object_arguments:
            raise ReadRefused("Functions that name dictionaries or tables are not allowed in queries")
        return reads.tables


def check_text(sql: str) -> None:
    """Refuses by the text alone: functions off the list (also where the engine folds them away), {x:Identifier}."""
    tokens = [t for t in tokenize(sql) if t.kind not in (TokenKind.WHITESPACE, TokenKind.COMMENT)]
    for token, following in pairwise(tokens):
        if token.kind in (TokenKind.WORD, TokenKind.QUOTED_IDENTIFIER) and following.kind is TokenKind.OPEN:
            if following.text != "(":
                continue
            name = token.text.strip('`"')
            if not is_allowed_function(name, syntax=True):
                raise ReadRefused(f"The function '{name}' is not allowed in queries")
    for token in tokens:
        if token.kind is TokenKind.PARAMETER and token.text.rstrip("} \t\n").lower().endswith("identifier"):
            raise ReadRefused("Identifiers cannot be query parameters", hint="Use column() with a list of columns.")
        if token.kind is TokenKind.SEMICOLON:
            raise SqlError("Only one statement is allowed")
