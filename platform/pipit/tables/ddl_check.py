"""The check of every statement that makes or changes a data source's table: the engine's own parse of it.

`ddl.problems` has judged the pieces of the statement as text. Here the whole is judged as the engine reads it:
`EXPLAIN AST` parses, executes nothing and resolves nothing. A statement passes only if its tree has the one shape
that Pipit's own DDL has (columns, indexes, engine, keys, TTL, settings), all of its nodes are of known kinds, none of
them a query or a table, and it calls only reviewed functions. The tree does not show settings, and of a TTL not what it
does with the rows: those are read from the statement's tokens.

A piece that slipped through the first layer ends here; what is refused here was not run, not even in a scratch
database.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pipit.engine.client import Engine
from pipit.errors import BadRequest, Reason
from pipit.sql.allowed import function_verdict, refused_function
from pipit.sql.expressions import (
    CODECS,
    IN_CALLS,
    TOKENIZERS,
    ExpressionError,
    check_setting,
    clause_words,
)
from pipit.sql.lexer import LexerKind, Token, identifier_name, significant, tokenize

_LINE = re.compile(r"( *)(\S.*?)(?: \(alias .*\))?(?: \(children (\d+)\))?")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENGINES = frozenset(
    {"MergeTree", "ReplacingMergeTree", "SummingMergeTree", "AggregatingMergeTree", "CollapsingMergeTree"}
    | {"VersionedCollapsingMergeTree", "Null"}
)
_INDEX_TYPES = frozenset({"minmax", "set", "bloom_filter", "ngrambf_v1", "tokenbf_v1", "text"})
_KINDS = frozenset(
    {"Identifier", "ExpressionList", "ColumnDeclaration", "DataType", "TupleDataType", "EnumDataType", "NameTypePair"}
    | {"Literal", "Index", "TTLElement", "StorageOrderByElement", "Function", "ASTObjectTypeArgument"}
    | {"ObjectTypedPath"}
)
# What the tree leaves out of a TTL, and other forms of CREATE: two words that stand together only there.
_REFUSED_PAIRS = frozenset(
    {("GROUP", "BY"), ("TO", "DISK"), ("TO", "VOLUME"), ("RECOMPRESS", "CODEC"), ("CLONE", "AS"), ("IF", "EXISTS")}
)


@dataclass(slots=True)
class _Node:
    kind: str
    name: str
    expected: int
    children: list[_Node] = field(default_factory=list)

    def walk(self) -> Iterator[_Node]:
        pending = [self]
        while pending:
            node = pending.pop()
            yield node
            pending.extend(node.children)


async def checked(engine: Engine, statement: str) -> str:
    """The statement, if it only makes a table or alters part of one. Raises BadRequest; a syntax error is SqlError."""
    _check_tokens(statement)
    tree = (await engine.query(f"EXPLAIN AST {statement}", format="TSVRaw")).decode("utf-8", "replace")
    _check_tree(tree)
    return statement


def _refuse(why: str, reason: Reason = Reason.DATAFILE_INVALID, subject: str = "") -> BadRequest:
    return BadRequest(f"The definition of the data source is refused: {why}", reason=reason, subject=subject)


def _check_tokens(statement: str) -> None:
    everything = tokenize(statement)
    for token in everything:
        if token.kind in (LexerKind.COMMENT, LexerKind.ERROR, LexerKind.SEMICOLON, LexerKind.PARAMETER):
            raise _refuse(f"it has '{token.text[:20]}'")
        if token.kind is LexerKind.QUOTED_IDENTIFIER and not identifier_name(token).isprintable():
            raise _refuse("a name holds a character that cannot be printed")
    tokens = significant(everything)
    words = [token.text.upper() if token.kind is LexerKind.WORD else "" for token in tokens]
    for index, pair in enumerate(pairwise(words)):
        if pair in _REFUSED_PAIRS and words[max(index - 2, 0) : index] != ["DROP", "INDEX"]:
            raise _refuse(f"it has {' '.join(pair)}")
    for index, pair in enumerate(pairwise(words)):
        if pair == ("MODIFY", "SETTING"):
            _check_settings(tokens[index + 2 :])
            return
    for index, word in clause_words(tokens):
        if word == "SETTINGS":
            _check_settings(tokens[index + 1 :])
            return


def _check_settings(tokens: Sequence[Token]) -> None:
    """`name = literal, ...` up to the end of the statement."""
    for start in range(0, len(tokens), 4):
        item = tokens[start : start + 4]
        if len(item) < 3 or item[0].kind is not LexerKind.WORD or item[1].text != "=":
            raise _refuse("its SETTINGS are not names and values")
        if len(item) == 4 and item[3].kind is not LexerKind.COMMA:
            raise _refuse("something stands after its SETTINGS")
        try:
            check_setting(item[0].text, item[2].text)
        except ExpressionError as error:
            raise _refuse(error.message, error.reason, error.subject) from None


def _check_tree(text: str) -> None:
    root = _parse(text)
    if root.kind == "CreateQuery":
        parts = _of_create(root)
    elif root.kind == "AlterQuery":
        parts = _of_alter(root)
    else:
        raise _refuse("it makes no table and alters none")
    for part in parts:
        codecs = {id(c) for n in part.walk() if _is_codec(n) for c in n.walk()}
        types = {id(n.children[1]) for n in part.walk() if n.kind == "Index" and len(n.children) == 2}
        tokenizers = {id(c) for n in part.walk() if id(n) in types for c in n.walk() if c.name in TOKENIZERS}
        for node in part.walk():
            if node.kind not in _KINDS:
                raise _refuse(f"it has a {node.kind}")
            if node.kind == "Function":
                _check_function(node, codec=id(node) in codecs, index=id(node) in types or id(node) in tokenizers)


def _of_create(root: _Node) -> list[_Node]:
    """The nodes to look into; the engine and the settings are done."""
    kinds = [node.kind for node in root.children]
    if kinds != ["Identifier", "Identifier", "Columns", "Storage"]:
        raise _refuse("it is more than columns, an engine and its keys")
    columns, storage = root.children[2:]
    for listed in columns.children:
        if listed.kind != "ExpressionList" or any(
            n.kind not in ("ColumnDeclaration", "Index") for n in listed.children
        ):
            raise _refuse("it declares more than columns and indexes")
    first, *rest = storage.children or [_Node("", "", 0)]
    if first.kind != "Function" or first.name not in _ENGINES:
        raise _refuse("its engine is not one that a data source may have", Reason.ENGINE_REFUSED, first.name)
    return [*columns.children, *first.children, *(node for node in rest if node.kind != "Set")]


# What may be altered, and the kinds of what is said of it. Settings are read from the tokens.
_ALTERATIONS: Mapping[str, Sequence[Sequence[str]]] = {
    "ADD_COLUMN": (["ColumnDeclaration"], ["ColumnDeclaration", "Identifier"]),
    "MODIFY_COLUMN": (["ColumnDeclaration"],),
    "MATERIALIZE_COLUMN": (["Identifier"],),
    "ADD_INDEX": (["Index"],),
    "DROP_INDEX": (["Identifier"],),
    "MATERIALIZE_INDEX": (["Identifier"],),
    "MODIFY_TTL": (["ExpressionList"],),
    "REMOVE_TTL": ([],),
    "MODIFY_SETTING": (["Set"],),
    "RESET_SETTING": (["ExpressionList"],),
}


def _of_alter(root: _Node) -> list[_Node]:
    commands = root.children[0].children if root.children else []
    kinds = [node.kind for node in root.children]
    if kinds != ["ExpressionList", "Identifier", "Identifier"] or len(commands) != 1:
        raise _refuse("it does more than one thing")
    command = commands[0]
    known = _ALTERATIONS.get(command.name) if command.kind == "AlterCommand" else None
    if known is None:
        raise _refuse("it alters more than a column, an index, the TTL or settings")
    if [n.kind for n in command.children] not in known:
        raise _refuse("it alters more than one part of the table")
    return [] if command.name == "MODIFY_SETTING" else command.children


def _is_codec(node: _Node) -> bool:
    return node.kind == "Function" and node.name == "CODEC"


def _check_function(node: _Node, *, codec: bool, index: bool) -> None:
    if not _PLAIN_NAME.fullmatch(node.name):
        raise _refuse(f"a function has the name '{node.name[:80]}'")
    if codec:
        if node.name != "CODEC" and node.name.lower() not in CODECS:
            raise _refuse(f"the codec '{node.name}' is not supported")
        return
    if index and (node.name in _INDEX_TYPES or node.name in TOKENIZERS):
        return
    if why := function_verdict(node.name):
        raise _refuse(f"the function '{node.name}' is not allowed in it: {why}", refused_function(node.name), node.name)
    if node.name.lower() in IN_CALLS:
        listed = node.children[0].children if len(node.children) == 1 else []
        values = listed[1] if len(listed) == 2 else None
        literal = values is not None and values.kind == "Literal"
        if not literal and not (values is not None and values.name in ("tuple", "array") and values.kind == "Function"):
            raise _refuse("after IN it has something else than a list of values")


def _parse(text: str) -> _Node:
    root: _Node | None = None
    path: list[_Node] = []
    for line in text.split("\n"):
        if not line.strip(" "):
            continue
        found = _LINE.fullmatch(line)
        depth = len(found[1]) if found else -1
        if found is None or depth > len(path) or (depth == 0 and root is not None):
            raise _refuse("the engine's tree of it cannot be read")
        kind, _, name = found[2].partition(" ")
        node = _Node(kind, name, int(found[3] or 0))
        if depth:
            path[depth - 1].children.append(node)
        else:
            root = node
        del path[depth:]
        path.append(node)
    if root is None or any(node.expected != len(node.children) for node in root.walk()):
        raise _refuse("the engine's tree of it cannot be read")
    return root
