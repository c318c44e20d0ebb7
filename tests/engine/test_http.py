from __future__ import annotations

import pytest

from pipit.engine import Engine
from pipit.errors import SqlError

pytestmark = pytest.mark.anyio


async def test_query_gives_the_bytes_of_the_format(engine: Engine) -> None:
    assert await engine.query("SELECT {n:Int32} AS n", {"n": 5}, format="JSONEachRow") == b'{"n":5}\n'


async def test_an_error_before_the_first_byte_raises_on_entering(engine: Engine) -> None:
    with pytest.raises(SqlError) as caught:
        async with engine.stream("SELECT nope"):
            pass
    assert caught.value.engine_code == 47
