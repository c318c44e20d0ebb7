"""What a reader sees of an engine's error: what is wrong, and nothing of the query, the machine or the rows."""

from __future__ import annotations

import pytest

from pipit.engine import Engine, without_values
from pipit.engine.failures import END, HUNG, engine_error, scrub
from pipit.errors import PipitError, QueryTimeout, SqlError, TooLarge, Unavailable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Received ClickHouse exception, code: 47, server response: Code: 47. DB::Exception: Unknown expression"
            " identifier `n`. Maybe you meant: ['nn']. In scope SELECT n FROM secret. (UNKNOWN_IDENTIFIER)",
            "Unknown expression identifier `n`. Maybe you meant: ['nn'] (UNKNOWN_IDENTIFIER)",
        ),
        (
            "Code: 62. DB::Exception: Syntax error: failed at position 20 (x) (line 2, col 3): x FROM secret."
            " Expected one of: token, Dot. (SYNTAX_ERROR) (version 26.9.2.1 (official build))",
            "Syntax error: failed at position 20 (line 2, col 3) (SYNTAX_ERROR)",
        ),
        (
            "Code: 62. DB::Exception: Syntax error: failed at position 11 (end of query): . Expected one of: OR",
            "Syntax error: failed at position 11",
        ),
        (
            "Code: 107. DB::Exception: File /var/lib/pipit/engine/x.csv doesn't exist: While executing File."
            " (FILE_DOESNT_EXIST)",
            "File <path> doesn't exist (FILE_DOESNT_EXIST)",
        ),
        (
            "Code: 215. DB::Exception: Column 'a' is not under aggregate function and not in GROUP BY keys. In query"
            " SELECT a, count() FROM secret. (NOT_AN_AGGREGATE)",
            "Column 'a' is not under aggregate function and not in GROUP BY keys (NOT_AN_AGGREGATE)",
        ),
        (
            "Code: 60. DB::Exception: Unknown table expression identifier 'a'. Maybe you meant pipit_other.d1_a?"
            " In scope SELECT 1 FROM a. (UNKNOWN_TABLE)",
            "Unknown table expression identifier 'a' (UNKNOWN_TABLE)",
        ),
        (
            "Code: 73. DB::Exception: Code: 73. DB::Exception: Unknown format Nope. (UNKNOWN_FORMAT)"
            " (version 26.9.2.1). (UNKNOWN_FORMAT)",
            "Unknown format Nope (UNKNOWN_FORMAT)",
        ),
        (
            "Code: 198. DB::Exception: Not found: http://user:pw@host/x?token=abc. (DNS_ERROR)",
            "Not found: <url> (DNS_ERROR)",
        ),
        (
            "Code: 395. DB::Exception: no: while executing 'FUNCTION throwIf(secret)'. (FUNCTION_THROW_IF)",
            "no (FUNCTION_THROW_IF)",
        ),
    ],
)
def test_a_message_says_what_is_wrong_and_no_more(text: str, expected: str) -> None:
    assert scrub(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Cannot parse string 'other tenant' as UInt8 (CANNOT_PARSE_TEXT)",
            "The query failed on its data (CANNOT_PARSE_TEXT)",
        ),
        ("Unknown data type family: other tenant (UNKNOWN_TYPE)", "The query failed on its data (UNKNOWN_TYPE)"),
        ("other tenant", "The query failed on its data"),
        (
            "Unknown identifier `n`. Maybe you meant: ['nn'] (UNKNOWN_IDENTIFIER)",
            "Unknown identifier `n` (UNKNOWN_IDENTIFIER)",
        ),
        ("Unknown table 'a\\'b' (UNKNOWN_TABLE)", "Unknown table '...' (UNKNOWN_TABLE)"),
    ],
)
def test_values_are_taken_out_for_those_who_must_not_see_them(text: str, expected: str) -> None:
    error = engine_error(6, f"Code: 6. DB::Exception: {text}")
    assert isinstance(error, SqlError)
    assert without_values(error) == expected


def test_what_the_engine_says_is_read_once() -> None:
    """Into fields: what a value of a query says later is not taken for the engine's word."""
    unread = engine_error(62, "Code: 62. DB::Exception: Syntax error: failed at position 20 (x) (line 2, col 3): x")
    assert isinstance(unread, SqlError) and unread.unread_at == 19
    ended = engine_error(62, "Code: 62. DB::Exception: Syntax error: failed at end of query. Expected one of: OR")
    assert isinstance(ended, SqlError) and ended.unread_at == END
    other = engine_error(36, "Code: 36. DB::Exception: Bad value 'failed at position 7'. (BAD_ARGUMENTS)")
    assert isinstance(other, SqlError)
    assert (other.unread_at, other.engine_name, other.names) == (None, "BAD_ARGUMENTS", ("failed at position 7",))
    unknown = engine_error(46, "Code: 46. DB::Exception: Function with name `summ` does not exist. (UNKNOWN_FUNCTION)")
    assert unknown.subject == "summ"


def test_only_the_engines_own_words_say_that_it_hangs() -> None:
    """They end its process. A query may hold them as a value, which the engine repeats."""
    hung = engine_error(159, f"Code: 159. DB::Exception: {HUNG}. (TIMEOUT_EXCEEDED)")
    assert isinstance(hung, QueryTimeout) and hung.hung
    said = f"Code: 159. DB::Exception: Timeout exceeded: elapsed 5 s: While executing '{HUNG}'. (TIMEOUT_EXCEEDED)"
    slow = engine_error(159, said)
    assert isinstance(slow, QueryTimeout) and not slow.hung


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (159, QueryTimeout),
        (160, QueryTimeout),
        (209, QueryTimeout),
        (396, TooLarge),
        (158, TooLarge),
        (307, TooLarge),
        (202, Unavailable),
        (516, Unavailable),
        (None, Unavailable),
        (241, SqlError),
        (47, SqlError),
    ],
)
def test_codes(code: int | None, kind: type[PipitError]) -> None:
    assert type(engine_error(code, "Code: 1. DB::Exception: x")) is kind


def test_its_own_bugs_are_not_told() -> None:
    told = engine_error(1001, "Code: 1001. DB::Exception: std::exception /build/src/x.cpp SELECT 1. (STD_EXCEPTION)")
    assert told.message == "The engine failed on this statement"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT nope, 'my secret' FROM system.one",
        "SELECT * FROM nope WHERE x = 'my secret'",
        "SELECT 'my secret' FROM FROM x",
        "SELECT 1 WHERE 'my secret'",
        "SELECT number, count(), 'my secret' FROM numbers(3)",
        "SELECT throwIf(number = 1, 'no') FROM numbers(3) WHERE 'my secret' != ''",
        "SELECT 'my secret' +",
        "SELECT sum('my secret')",
        "SELECT 1 FORMAT Nope /* my secret */",
        "SELECT 1 SETTINGS max_threads = 'x', log_comment = 'my secret'",
        "SELECT 'my secret', nofunc(1)",
        "SELECT 'my secret', dictGet('a', 'b', 1)",
        "SELECT 'my secret",
    ],
)
async def test_no_message_of_the_engine_echoes_the_query(engine: Engine, sql: str) -> None:
    with pytest.raises(SqlError) as caught:
        await engine.query(sql)
    message = caught.value.message
    assert message and caught.value.engine_code
    for leak in ("secret", "SELECT", "version", "DB::", "127.0.0.1", "Received", "  "):
        assert leak not in message
