"""Check (c): a text runs only after that very text was examined on the engine's own tree.

The engine prints two trees of the statement. The RESOLVED one tells the real tables; the RAW one, of the text as
parsed, tells what any branch could call (`sql/tree.py` says what each shows). Every table must be one that the composer
put there, every function, table function and setting on the reviewed lists. The engine runs scalar subqueries while
it resolves, so that run is read-only, limited, and sees no row of any table of the workspace.

Values are bound, so texts are few: what passed is remembered, per deployment, in a bounded cache. This holds for
tenants and for workspace tokens alike: it is also what keeps workspaces apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cachetools import LRUCache

from pipit.catalog.snapshot import Snapshot
from pipit.engine.client import Engine
from pipit.engine.syntax_errors import unread
from pipit.errors import ReadRefused, Reason, SqlError
from pipit.query.barriers import Used
from pipit.query.compose import CACHE_CHARACTERS, SYSTEM_TABLES, Composed, remember
from pipit.query.limits import EXAMINE_SETTINGS, SettingsDict
from pipit.query.secure import filter_setting
from pipit.sql.barrier import BARRIER_FUNCTIONS
from pipit.sql.columns import columns_read
from pipit.sql.lexer import LexerKind, identifier_name, tokenize
from pipit.sql.precheck import check_text
from pipit.sql.samples import counted_sample
from pipit.sql.scanner import outline
from pipit.sql.tenant import check_tenant_trees
from pipit.sql.tree import EXPLAIN_RAW, EXPLAIN_RESOLVED, Reads, check_reads, parse_query_tree
from pipit.templates import Binder

# What the analyzer itself puts into the RESOLVED tree. A text that calls it shows it in the RAW one, and is refused.
_REWRITTEN = frozenset({"__getScalar"})
# Functions that raise by value or show how rows are stored: for authors, not under a policy (`check_strict`).
TELLING = frozenset({"throwIf", "byteSize", "isDynamicElementInSharedData"}) | {
    f"JSON{stored}Paths{types}" for stored in ("Dynamic", "SharedData") for types in ("", "WithTypes")
}
# These tell aggregate states apart by their addresses, which hang on the rows that were read before them (measured:
# `contingency(state, state)` of the same rows differs with others in the part). With any combinator.
_BY_ADDRESS = ("contingency", "cramersV", "cramersVBiasCorrected", "theilsU")
TELLING |= frozenset(_BY_ADDRESS)
# What these give hangs on the rows before, on where a block ends or on when it is read: where some rows are hidden, on
# those. Not for a token with fixed parameters either: its condition hides rows as a filter does.
OF_BLOCKS = frozenset(
    {"neighbor", "runningAccumulate", "runningConcurrency"}
    | {"runningDifference", "runningDifferenceStartingWithFirstValue"}
    | {"blockNumber", "blockSize", "nowInBlock", "nowInBlock64", "rowNumberInAllBlocks", "rowNumberInBlock"}
)
TELLING |= OF_BLOCKS
# MergeTree's virtual columns: places and counts of all rows, not of the tenant's.
_VIRTUAL = re.compile(
    r"_(part|part_.*|partition_.*|sample_factor|block_.*|row_exists|disk_name|table|database|distance|projection.*)"
)


@dataclass(frozen=True, slots=True)
class Examined:
    """The tables that a statement reads, and what in it is not for a read under filters."""

    tables: frozenset[str]
    tells_of_others: str = ""
    of_blocks: str = ""  # a function of OF_BLOCKS that it calls
    characters: int = 0  # of the text
    columns: Used | None = None  # what it reads of each table; None: it cannot be told


class Examiner:
    """Examines texts and remembers those that passed. A refusal is not remembered: it costs its author, no one else."""

    def __init__(self, engine: Engine, *, rows: bool = True) -> None:
        """`rows`: whether there may be some in the tables. With none of them nothing has to be hidden meanwhile."""
        self._engine = engine
        self._rows = rows
        self._passed: LRUCache[tuple[object, ...], Examined] = LRUCache(CACHE_CHARACTERS, lambda one: one.characters)

    async def examine(self, snapshot: Snapshot, composed: Composed, binder: Binder) -> Examined:
        """What the engine says of the statement, which is not run. Raises ReadRefused or SqlError."""
        settings = tuple(sorted(composed.settings.items()))  # they can change what a text means
        key = (snapshot.workspace.database_id, snapshot.edition, settings, composed.sql)
        found = self._passed.get(key)
        if found is None:
            found = await self._ask_engine(snapshot, composed, binder)
            remember(self._passed, key, found)
        return found

    async def examine_tenants(
        self,
        snapshot: Snapshot,
        composed: Composed,
        columns: Mapping[str, frozenset[str]],
        limits: SettingsDict,
        *,
        behind_barrier: bool = False,
    ) -> Examined:
        """What a tenant's own SQL reads, by stricter rules (`sql/tenant.py`). Raises as `examine` does.

        Neither remembered nor looked up: how long it takes must not tell who asked the same before.
        """
        check_text(composed.sql)
        raw = await self._tree(EXPLAIN_RAW, snapshot, composed, Binder(), limits)
        resolved = await self._tree(EXPLAIN_RESOLVED, snapshot, composed, Binder(), limits)
        reads = parse_query_tree(resolved)
        _check(parse_query_tree(raw), composed)
        _check(reads, composed)
        check_tenant_trees(raw, resolved, columns, BARRIER_FUNCTIONS if behind_barrier else frozenset())
        return Examined(reads.tables, columns=columns_read(raw, resolved))

    async def resolved(self, snapshot: Snapshot, composed: Composed, binder: Binder) -> str:
        """The RESOLVED tree of a statement that passes the examination. Raises as `examine` does."""
        await self.examine(snapshot, composed, binder)
        return await self._tree(EXPLAIN_RESOLVED, snapshot, composed, binder)

    async def describe(self, snapshot: Snapshot, composed: Composed, binder: Binder) -> None:
        """What the tree does not tell: whether the queries that a UNION joins go together. Of a statement that has
        passed. Raises SqlError."""
        if len(outline(composed.sql).union.parts) > 1:
            await self._tree("DESCRIBE TABLE (", snapshot, composed, binder, after="\n)")

    async def _ask_engine(self, snapshot: Snapshot, composed: Composed, binder: Binder) -> Examined:
        check_text(composed.sql)
        written = await self._tree(EXPLAIN_RAW, snapshot, composed, binder)
        raw = parse_query_tree(written)
        _check(raw, composed)
        tree = await self._tree(EXPLAIN_RESOLVED, snapshot, composed, binder)
        resolved = parse_query_tree(tree)
        resolved = replace(resolved, functions=resolved.functions - _REWRITTEN)
        _check(resolved, composed)
        functions = raw.merged(resolved).functions
        telling = _tells_of_others(composed.sql, functions)
        mixed = not composed.tables.isdisjoint(snapshot.mixed_columns)
        columns = columns_read(written, tree) if mixed else None
        of_blocks = min(functions & OF_BLOCKS, default="")
        return Examined(resolved.tables, telling, of_blocks, len(composed.sql), columns)

    async def _tree(
        self,
        explain: str,
        snapshot: Snapshot,
        composed: Composed,
        binder: Binder,
        limits: SettingsDict | None = None,
        after: str = "",
    ) -> str:
        # One filter per table of the workspace: '0' lets no row through, whichever of them a scalar subquery reads.
        nothing = filter_setting(dict.fromkeys(snapshot.physical_tables if self._rows else (), "0"))
        settings = {**composed.settings, **(limits or {}), **EXAMINE_SETTINGS, "additional_table_filters": nothing}
        text = explain + composed.sql + after
        try:
            reply = await self._engine.query(
                text, binder.params, settings=settings, database=snapshot.workspace.database, format="TSVRaw"
            )
        except SqlError as error:
            raise unread(error, text, len(explain)) from None
        return reply.decode("utf-8", "surrogateescape")


def _check(reads: Reads, composed: Composed) -> None:
    check_reads(replace(reads, functions=reads.functions - TELLING), allowed_tables=composed.tables | SYSTEM_TABLES)


def check_strict(examined: Examined) -> None:
    """For a read under filters. Not for authors, who read all rows anyway."""
    if examined.tells_of_others:
        what = examined.tells_of_others
        raise ReadRefused(
            f"{what} cannot be used on a table with a row policy: it tells of other rows",
            reason=Reason.TELLS_OF_OTHERS,
            subject=what,
        )


def check_confined(examined: Examined) -> None:
    """For a read whose parameters the token fixes."""
    if examined.of_blocks:
        raise ReadRefused(
            f"The function {examined.of_blocks} is not for a token with fixed parameters: it tells of other rows",
            hint="row_number() OVER (ORDER BY ...), lagInFrame and leadInFrame see only the rows that are left.",
            reason=Reason.TELLS_OF_OTHERS,
            subject=examined.of_blocks,
        )


def _tells_of_others(sql: str, functions: frozenset[str]) -> str:
    """What in a text would tell of rows that a filter hides; empty: nothing."""
    for function in sorted(functions):
        if function in TELLING or function.startswith(_BY_ADDRESS):
            return f"The function {function}"
    for token in tokenize(sql):
        if token.kind is LexerKind.WORD and token.text.upper() == "PREWHERE":
            return "PREWHERE (WHERE is as fast)"
        if token.kind in (LexerKind.WORD, LexerKind.QUOTED_IDENTIFIER) and _VIRTUAL.fullmatch(identifier_name(token)):
            return f"The virtual column {identifier_name(token)}"
    return counted_sample(sql)
