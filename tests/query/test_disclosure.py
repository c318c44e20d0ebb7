"""What of an error reaches who asked, decided by its type and by who asks, and by no word of it."""

from __future__ import annotations

import pytest

from pipit.access.context import SecurityContext, TokenKind
from pipit.access.params import RequestParams
from pipit.errors import (
    Forbidden,
    NotFound,
    PipitError,
    QueryRefused,
    QueryTimeout,
    RateLimited,
    ReadRefused,
    SqlError,
    TooLarge,
    Unavailable,
)
from pipit.query.disclosure import for_reader
from pipit.query.formats import JSON
from pipit.query.queries import PipeQuery, Query, Read, SqlQuery
from projects import snapshot_of

SNAPSHOT = snapshot_of()
ENDPOINT = PipeQuery("latest", RequestParams(), JSON)
TEXT = SqlQuery("SELECT 1", RequestParams(), JSON)
ENGINES = SqlError("Cannot parse 'a row of globex' in pipit_shop.d1_events", engine_code=6)


def read(kind: TokenKind, query: Query) -> Read:
    return Read(SNAPSHOT, SecurityContext("id", kind, "t"), query, "r1")


@pytest.mark.parametrize("error", [ENGINES, SqlError("The setting 'x' is not allowed in SQL"), ReadRefused("of another one")])
def test_a_tenant_gets_one_text_for_what_an_endpoint_s_sql_does(error: SqlError) -> None:
    told = for_reader(error, read(TokenKind.JWT, ENDPOINT))
    if isinstance(error, ReadRefused):  # about the token, in Pipit's words
        assert told is error
    else:
        assert told.message == "The query of this endpoint failed" and "r1" in told.hint
        assert "globex" not in str(told.body())


@pytest.mark.parametrize(
    "error", [ENGINES, ReadRefused("of another one"), TooLarge("10 rows of others"), QueryTimeout("too long")]
)
def test_a_tenant_s_own_text_is_told_nothing_of_the_data(error: PipitError) -> None:
    told = for_reader(error, read(TokenKind.JWT, TEXT))
    assert isinstance(told, QueryRefused)
    assert error.message not in str(told.body())


@pytest.mark.parametrize("error", [Forbidden("no scope"), NotFound("no table"), Unavailable("away"), RateLimited("slowly")])
def test_a_tenant_s_own_text_is_told_what_its_token_lacks(error: PipitError) -> None:
    assert for_reader(error, read(TokenKind.JWT, TEXT)) is error


@pytest.mark.parametrize("query", [ENDPOINT, TEXT])
def test_the_workspace_is_told_all_by_the_names_that_it_wrote(query: Query) -> None:
    told = for_reader(ENGINES, read(TokenKind.ADMIN, query))
    assert "a row of globex" in told.message and "pipit_shop" not in told.message and "events" in told.message
    refused = ReadRefused("not on the lists")
    assert for_reader(refused, read(TokenKind.STATIC, query)) is refused
