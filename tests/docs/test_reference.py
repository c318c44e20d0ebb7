"""The pages of docs/reference and their neighbours against the code: what it knows is there, and nothing else is."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import reference
from starlette.routing import Route

from pages import DOCS, ROOT, blocks, code, same, section, tables
from pipit import errors, jobs
from pipit.access import claims, jwks, tokens
from pipit.api.app import app_with
from pipit.api.docs import error_classes
from pipit.catalog.services import SERVICES
from pipit.catalog.state import WorkspaceSettings
from pipit.deploy import plan
from pipit.ingest import limits as ingest_limits
from pipit.query import formats
from pipit.reasons import Reason
from pipit.testing import cases, clock, fixtures

HTTP = DOCS / "reference" / "http.md"
VARIABLE = re.compile(r"PIPIT_[A-Z_]+\Z")


def constants(*folders: str) -> Iterator[str]:
    """Every text that stands in the Python code of these folders."""
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text())
            yield from (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))


def test_the_commands_page_is_what_the_commands_say() -> None:
    text = reference.PAGE.read_text()
    assert text == reference.page(text), "run `make docs`, or python scripts/reference.py"


def test_every_example_of_a_command_is_one_that_it_takes() -> None:
    """Options, arguments and their values, without running anything."""
    known = dict(reference.commands())
    seen = set()
    for line in "".join(blocks(reference.PAGE, "sh")).replace("\\\n", " ").splitlines():
        for part in re.split(r" && | \| | [<>] ", line):
            words = [w for w in shlex.split(part, comments=True) if w != "..." and not re.match(r"[A-Z_]+=", w)]
            if words[:1] != ["pipit"]:
                continue
            depth = next(n for n in range(len(words), 0, -1) if " ".join(words[:n]) in known)
            name = " ".join(words[:depth])
            known[name].make_context(name, words[depth:])
            seen.add(name)
    assert seen == known.keys(), "a command without an example"


def test_every_variable_is_there() -> None:
    ours, for_work = (table.names() for table in tables(DOCS / "reference" / "environment-variables.md"))
    read = {text for text in constants("platform") if VARIABLE.match(text)}
    same(ours, read, DOCS / "reference" / "environment-variables.md")
    also = {text for text in constants("tests", "bench", "scripts") if VARIABLE.match(text)} - read
    same(for_work, also, DOCS / "reference" / "environment-variables.md")


def test_every_error_is_there_with_its_status() -> None:
    table, *_ = tables(DOCS / "reference" / "errors.md")
    documented = {code(row[0])[0]: row[1] for row in table.rows}
    known = {kind.code: "any" if kind is errors.CustomError else str(kind.status) for kind in error_classes()}
    assert documented == known, "docs/reference/errors.md: the codes and statuses are those of pipit/errors.py"
    assert all(row[2] and row[3] for row in table.rows), "each error has a cause and a remedy"


def test_every_reason_is_there_with_its_cause_and_remedy() -> None:
    _, *groups = tables(DOCS / "reference" / "errors.md")
    documented = [tuple(row[:3]) for table in groups for row in table.rows]
    written = [(f"`{reason.value}`", reason.cause, reason.remedy) for reason in Reason]
    same(map(_row, documented), map(_row, written), DOCS / "reference" / "errors.md")
    assert documented == written, "the page has the reasons in the order of pipit/reasons.py"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def routes() -> set[str]:
    found = [route for route in app_with(None, ()).routes if isinstance(route, Route)]
    return {f"{method} {route.path}" for route in found for method in (route.methods or ()) if method != "HEAD"}


def test_every_route_is_there() -> None:
    (table,) = tables(HTTP, "## All routes")
    same(table.names(), routes(), HTTP)


def test_every_operation_and_refusal_of_a_deploy_is_there() -> None:
    _, operations, refusals = tables(HTTP, "## POST /v1/deploy")
    known = [re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() for kind in get_args(plan.Operation)]
    same(operations.names(), known, HTTP)
    names = ("compare.py", "planner.py", "removals.py", "carry.py", "generations.py")
    texts = [(ROOT / "platform" / "pipit" / "deploy" / name).read_text() for name in names]
    given = re.findall(r"(?:Refusal\(|refusals_of\(\w+, )Reason\.(\w+)", "".join(texts))
    same(refusals.names(), (Reason[name].value for name in set(given)), HTTP)
    assert set(plan.Cause) <= set(code(section(HTTP, "## POST /v1/deploy")))


def test_every_format_and_setting_is_there() -> None:
    endings = next(t for t in tables(HTTP, "## GET /v0/pipes/name.json") if t.header[0] == "ending")
    same(endings.names(), formats.EXTENSIONS, HTTP)
    (listed,) = re.findall(r"chooses between (.+?)\. ", section(HTTP, "## GET /v0/sql"), re.DOTALL)
    same(code(listed), (f.name for f in formats.SQL_FORMATS.values()), HTTP)
    (settings,) = tables(HTTP, "## Settings of a workspace")
    same(settings.names(), WorkspaceSettings.__struct_fields__, HTTP)
    assert {name for name in code(section(HTTP, "## GET /v0/sql")) if name in SERVICES} == set(SERVICES)


def test_numbers_of_events_are_those_of_the_code() -> None:
    text = section(HTTP, "## POST /v0/events")
    assert f"{ingest_limits.SEAL_ROWS:,} events" in text and ingest_limits.MAX_PENDING_BYTES == 1 << 30


TOKENS = DOCS / "tokens.md"


def test_every_scope_and_claim_is_there() -> None:
    (scopes,) = tables(TOKENS, "## Scopes of static tokens")
    documented = {text.removesuffix(":<name>"): text.endswith(":<name>") for text in scopes.names()}
    assert documented == tokens.SCOPE_TYPES
    of_jwts, listed = tables(TOKENS, "## What a JWT says")
    assert {code(row[0])[0]: code(row[1])[0] for row in of_jwts.rows} == dict(claims.SCOPE_FIELDS)
    source = Path(claims.__file__).read_text() + Path(jwks.__file__).with_name("jwt.py").read_text()
    read = set(re.findall(r"""(?:claims(?:\.get\(|\[)|_seconds\(claims, )"(\w+)\"""", source))
    (parties,) = re.findall(r"for claim in \((.+?)\):", source)
    same(listed.names(), read | set(re.findall(r"\w+", parties)), TOKENS)
    assert set(jwks.ALGORITHMS) <= set(re.findall(r"\w+", section(TOKENS, "## Keys of your own, and identity providers")))


TESTING = DOCS / "testing.md"


def test_every_key_of_a_test_is_there() -> None:
    source = Path(cases.__file__).read_text()
    (table,) = tables(TESTING, "## Cases")
    keys = set(re.findall(r"""value(?:\.get\(|\[)"(\w+)\"""", source))
    assert set(table.names()) == keys | {"description"}  # what nobody reads but people
    text = section(TESTING, "## Queries that must find nothing")
    words = set(re.findall(r"\w+", text))
    assert set(re.findall(r"""(?:body|pipe)(?:\.get\(|\[)"(\w+)\"""", source)) <= words


def test_every_fixture_and_clock_is_there() -> None:
    (endings,) = tables(TESTING, "## Fixtures")
    same(endings.names(), (f".{ending}" for ending in fixtures.ENDINGS), TESTING)
    assert all(f"`{folder}/<name>`" in section(TESTING, "## Fixtures") for folder in fixtures.FOLDERS)
    (calls,) = re.findall(r"deployed: (.+?)\. It tells", section(TESTING, "## A clock that stands still"), re.DOTALL)
    same((name.upper() for name in code(calls)), clock._PLAIN, TESTING)


COPIES = DOCS / "copies-and-jobs.md"


def test_every_key_and_status_of_a_job_is_there() -> None:
    (table,) = tables(COPIES, "## A job")
    job = jobs.Job("i", "copy", "error", "now", scheduled_for="then", error="why")
    same(table.names(), job.shown("http://x", waiting_for="this"), COPIES)
    rows = {name: row[1] for row in table.rows for name in code(row[0])}
    assert set(code(rows["status"])) == set(jobs.STATUSES) and set(code(rows["kind"])) == set(jobs.KINDS)


def test_the_routes_of_copies_are_routes() -> None:
    (table,) = tables(COPIES, "## Over HTTP")
    shown = {name.replace("<pipe>", "{name}").replace("<id>", "{id}").replace("<node>", "{node}") for name in table.names()}
    assert shown == {route for route in routes() if re.search("/copy|/copies|/jobs|/population", route)}


def test_every_page_is_in_the_list_of_pages() -> None:
    listed = set(re.findall(r"\]\(([^)]+\.md)\)", (DOCS / "index.md").read_text()))
    assert listed == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - {"index.md"}


