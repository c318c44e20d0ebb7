"""A small dose of `make differential`, what it finds when a defence is out, and what the lists say was tried."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from differential.calls import Check, Function, calls_of
from differential.clauses import SETTINGS, clause_texts, setting_texts
from differential.run import Trial, functions_of, is_chosen
from differential.world import World, answered_alone, two_workspaces
from pipit.query.barriers import NO_BARRIERS
from pipit.query.limits import REPEATABLE, Limits
from pipit.query.read import Reader
from pipit.server import Server
from pipit.sql.allowed import ALLOWED_FUNCTIONS, ALLOWED_SETTINGS, read_reviewed

pytestmark = pytest.mark.anyio

SEED = 1
ALWAYS = ("CAST", "distinctJSONPaths", "toFixedString")


@pytest.fixture(scope="module")
async def world(server: Server) -> AsyncIterator[World]:
    async with two_workspaces(server, "dose") as world:
        yield world


@pytest.fixture(scope="module")
def check() -> Check:
    return answered_alone()


async def test_no_text_of_a_small_dose_differs(world: World, check: Check) -> None:
    trial = Trial(world, check)
    functions = await functions_of(world.reader._engine)
    chosen = [one for one in functions if one.name in ALWAYS or is_chosen(one.name, SEED, 0.004)]
    tried = await trial.functions(chosen)
    clauses = [text for text in (*clause_texts(), *setting_texts()) if is_chosen(text, SEED, 0.02)]
    tried["clauses"] = await trial.texts(clauses)
    assert [f"{d.mode}: {d.text}\n{d.alone.shown}\n{d.among_others.shown}" for d in trial.differences] == []
    assert sum(one.answered for one in tried.values()) > 60
    assert all(tried[name].outcome == "equal" for name in ALWAYS)


CAUGHT = {
    "WHOLE_COLUMNS": ({}, "endpoint", "SELECT distinctJSONPaths(data) AS x FROM facts"),
    "barriers_for": (lambda *_: NO_BARRIERS, "endpoint", "SELECT sum(data.num::Float64) AS x FROM facts"),
    "barriers_for, for SQL": (lambda *_: NO_BARRIERS, "sql", "SELECT sum(d::Int64) AS x FROM facts"),
    "barriers_for, of dictionaries": (lambda *_: NO_BARRIERS, "sql", "SELECT toFixedString(lc_word, 3) AS x FROM facts ORDER BY n"),
    "check_strict": (lambda _: None, "endpoint", "SELECT count() AS x FROM facts SAMPLE 10"),
    "FILTER_FIRST": ({}, "endpoint", "SELECT count() AS x FROM keyed WHERE i64 IN (1, 2, 4444) AND intDiv(1, i64 - 4444) < 9"),
    "STRICT": ({}, "endpoint", "SELECT n FROM facts ORDER BY n"),
}


@pytest.mark.parametrize("defence", CAUGHT)
async def test_it_finds_what_a_defence_held(world: World, monkeypatch: pytest.MonkeyPatch, defence: str) -> None:
    """The text is the same in both; with the defence out it differs."""
    instead, mode, text = CAUGHT[defence]
    fresh = World(Reader(world.reader._engine, Limits(steady=dict(REPEATABLE))), world.alone, world.full)
    assert (await fresh.compare(mode, text))[1] is None
    module = "read" if defence == "FILTER_FIRST" else "planner"
    monkeypatch.setattr(f"pipit.query.{module}.{defence.partition(',')[0]}", instead)
    fresh = World(Reader(world.reader._engine, Limits(steady=dict(REPEATABLE))), world.alone, world.full)
    found = (await fresh.compare(mode, text))[1]
    if defence == "STRICT":
        assert found is None and fresh.by_chance  # statistics: the time that it took is in them
    else:
        assert found is not None


async def test_what_changes_by_itself_is_no_difference(world: World) -> None:
    assert (await world.compare("endpoint", "SELECT generateUUIDv4() AS x FROM facts"))[1] is None
    assert world.by_chance


def test_calls_are_found(check: Check) -> None:
    example = "```sql\nSELECT toFixedString('foo', 8) AS s;\n```"
    texts = {call.text() for call in calls_of(Function("toFixedString", False, example), check)}
    assert {"toFixedString(s_word, 8)", "toFixedString(lc_word, 8)", "toFixedString(fs, 8)"} <= texts
    texts = {call.text() for call in calls_of(Function("quantile", True, "```sql\nSELECT quantile(0.5)(x)\n```"), check)}
    assert "quantile(0.5)(i64)" in texts


async def test_settings_of_pipes_are_tried() -> None:
    """Those that say how an answer looks, or what a text may say, are of no table."""
    looks = ("output_format", "format_", "allow_", "formatdatetime", "date_time_", "parsedatetime", "union_", "intersect_")
    looks += ("except_", "enable_positional", "joined_", "legacy_", "validate_", "splitby", "regexp_", "functions_h3", "least_")
    looks += ("prefer_", "single_join", "session_timezone", "function_json", "decimal_check", "totals_auto", "cast_ipv4")
    untried = {name for name in ALLOWED_SETTINGS - SETTINGS.keys() if not name.startswith(looks)}
    assert untried <= UNTRIED, untried - UNTRIED


# Tried by hand, or of what others already try.
UNTRIED = {
    "asterisk_include_alias_columns",
    "empty_result_for_aggregation_by_constant_keys_on_empty_set",
    "empty_result_for_aggregation_by_empty_set",
    "enable_unaligned_array_join",
    "join_any_take_last_row",
    "join_default_strictness",
    "max_joined_block_size_rows",
    "min_joined_block_size_rows",
    "optimize_if_chain_to_multiif",
    "optimize_move_to_prewhere_if_final",
    "optimize_sorting_by_input_stream_properties",
    "query_plan_convert_outer_join_to_inner_join",
}


# Allowed functions that no run has come to yet: a new version of the engine brings some. It only falls.
NOT_TRIED_YET = 0


def test_the_list_says_of_every_function_how_it_was_tried() -> None:
    """`make differential ARGS=--write` writes it. A function that the reviewed lists allow anew has to be in it."""
    tried = read_reviewed("tried")
    grammar = {"exists", "grouping", "untuple", "lambda"}
    assert ALLOWED_FUNCTIONS - tried.keys() - grammar == set()
    outcomes = [columns[0] for columns in tried.values()]
    assert not [one for one in outcomes if one.startswith("differs")]
    assert sum(one.startswith("equal") for one in outcomes) > 0.7 * len(outcomes)
    assert outcomes.count("not tried yet") <= NOT_TRIED_YET
