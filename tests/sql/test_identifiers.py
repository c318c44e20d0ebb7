from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipit.engine import Engine
from pipit.sql.identifiers import is_resource_name, quote
from pipit.sql.lexer import LexerKind, identifier_name, tokenize


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_quoted_name_is_one_token_with_that_name(name: str) -> None:
    (token,) = tokenize(quote(name))
    assert token.kind is LexerKind.QUOTED_IDENTIFIER
    assert identifier_name(token) == name


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["a`b", "a\\b", "a\nb\tc", "select", "“x”", "a'b\"c", "日本", "\\N", "a\x7f"])
async def test_the_engine_reads_back_the_quoted_name(engine: Engine, name: str) -> None:
    (row,) = await engine.rows(f"SELECT 1 AS {quote(name)}")
    assert list(row) == [name]


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(ValueError):
        quote("")


@pytest.mark.parametrize("name", ["events", "_x", "A1_b", "top_pages"])
def test_resource_names(name: str) -> None:
    assert is_resource_name(name)


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "é", "a\n", "select", "FROM", "system", "pipit", "live"])
def test_not_resource_names(name: str) -> None:
    assert not is_resource_name(name)
