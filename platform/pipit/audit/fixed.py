"""What parameters that a token fixes do for each endpoint: `--fixed customer_id`, and a pipe's FIXED_PARAMS.

Every text is resolved with a marker as the parameter's value (`confinement.py`). Then it is tried to switch the
condition off: by other parameters, by leaving the fixed one out, by an empty value. Tables with a row policy are
confined by that, and are not looked at here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipit.audit import findings as say
from pipit.audit import tenancy
from pipit.audit.branches import Inputs, Rendering, Renderings, render_all
from pipit.audit.column_lineage import Carry, carry, fillers
from pipit.audit.confinement import JudgedRead, reads_of, sees
from pipit.audit.report import Finding, Severity, Verdict
from pipit.catalog.snapshot import CompiledPipe, Snapshot, Table
from pipit.engine.client import Engine
from pipit.errors import DatafileError, PipitError, Unavailable
from pipit.query.compose import Composer
from pipit.query.examine import Examined
from pipit.query.limits import EXAMINE_SETTINGS
from pipit.query.secure import filter_setting
from pipit.sql.tree import EXPLAIN_RAW, EXPLAIN_RESOLVED
from pipit.templates import Parameter, RequestValue
from pipit.templates.state import Branch

Statement = Callable[[CompiledPipe, Inputs, Rendering], Awaitable[tuple[Examined, Rendering] | PipitError]]

# A value that stands nowhere else, per type; a text may have to be a number, a UUID or a date where it is compared.
_TEXTS = ("PipitMarker7Qx", "1987654329", "5f0c9d1e-7a3b-4c2d-9e8f-1a2b3c4d5e6f", "2031-07-19")
_NUMBERS = {"8": "113", "16": "23917", "32": "1987654329", "64": "1987654329012345", "128": "1987654329012345"}


@dataclass(frozen=True, slots=True)
class Fixed:
    """For one endpoint: the parameters that it takes; its tables with tenants' rows, and what confines each."""

    names: tuple[str, ...]
    tables: frozenset[str]  # physical names
    confined: Mapping[str, tuple[str, ...]]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class _Seen:
    """One text with its two trees; `missing` says why there are none."""

    rendering: Rendering
    tables: frozenset[str] = frozenset()
    resolved: str = ""
    raw: str = ""
    missing: str = ""


@dataclass(slots=True)
class _Endpoint:
    pipe: CompiledPipe
    inputs: Inputs
    names: tuple[str, ...]  # the fixed parameters that it takes
    given: Mapping[str, str]  # with their markers
    renderings: Renderings
    seen: list[_Seen] = field(default_factory=list)
    missed: tuple[Branch, ...] = ()  # that nothing reaches; those that a fixed parameter rules out do not count


class FixedExaminer:
    def __init__(
        self, engine: Engine, snapshot: Snapshot, composer: Composer, slots: asyncio.Semaphore, fixed: tuple[str, ...]
    ) -> None:
        self.engine = engine
        self.snapshot = snapshot
        self.composer = composer
        self.slots = slots
        self.fixed = fixed
        self.found: list[Finding] = []
        self.columns: dict[str, frozenset[str]] = {}
        self.names: tuple[str, ...] = ()  # of all parameters that are fixed somewhere

    async def examine(
        self, endpoints: Iterable[tuple[CompiledPipe, Inputs, tuple[Branch, ...]]], statement: Statement
    ) -> Mapping[str, Fixed]:
        """Endpoint -> what its fixed parameters do; those to which no fixed parameter applies are not in it."""
        names = {*self.fixed, *(n for pipe in self.snapshot.pipes.values() for n in pipe.fixed_params)}
        if not names:
            return {}
        self.names = tuple(sorted(names))
        looked_at = [
            await self.look_at(pipe, inputs, frozenset(missed), statement)
            for pipe, inputs, missed in endpoints
            if self.fixed or pipe.fixed_params
        ]
        self.learn(self.names, looked_at)
        results = {one.pipe.name: await self.judge(one, statement) for one in looked_at}
        merged = self.check_engines(results.values()) | self.check_fillers(tuple(results.values()))
        return {
            name: replace(one, verdict=Verdict.NOT_CONFINED) if one.tables & merged else one
            for name, one in results.items()
        }

    async def look_at(
        self, pipe: CompiledPipe, inputs: Inputs, missed: frozenset[Branch], statement: Statement
    ) -> _Endpoint:
        """All texts with the fixed parameters at their markers, with the first markers that the engine takes."""
        wanted = tuple(dict.fromkeys((*self.fixed, *pipe.fixed_params)))
        names = tuple(name for name in wanted if name in inputs.parameters)
        one: _Endpoint | None = None
        for text in _TEXTS:
            given = {name: _marker(inputs.parameters[name], text) for name in names}
            renderings = render_all(self.snapshot, pipe, inputs, self.composer, fixed=given)
            one = _Endpoint(pipe, inputs, names, given, renderings)
            first = await self.trees(one, renderings.texts[:1], statement)
            if any(not seen.missing for seen in first) or not renderings.texts or not names:
                break
        assert one is not None
        one.seen = await self.trees(one, one.renderings.texts, statement)
        one.missed = tuple(branch for branch in one.renderings.missed if branch in missed)
        return one

    async def trees(self, one: _Endpoint, texts: Iterable[Rendering], statement: Statement) -> list[_Seen]:
        async def see(rendering: Rendering) -> _Seen:
            examined = await statement(one.pipe, one.inputs, rendering)
            if isinstance(examined, PipitError):
                return _Seen(rendering, rendering.composed.tables, missing=examined.message)
            tables, able = examined[0].tables, examined[1]
            async with self.slots:
                try:
                    raw = await self.tree(EXPLAIN_RAW, able)
                    resolved = await self.tree(EXPLAIN_RESOLVED, able)
                except Unavailable:
                    raise
                except PipitError as error:
                    return _Seen(rendering, tables, missing=error.message)
            return _Seen(rendering, tables, resolved, raw)

        return list(await asyncio.gather(*(see(rendering) for rendering in texts)))

    async def tree(self, explain: str, rendering: Rendering) -> str:
        nothing = filter_setting(dict.fromkeys(self.snapshot.physical_tables, "0"))
        settings = {**rendering.composed.settings, **EXAMINE_SETTINGS, "additional_table_filters": nothing}
        reply = await self.engine.query(
            explain + rendering.composed.sql,
            rendering.params,
            settings=settings,
            database=self.snapshot.workspace.database,
            format="TSVRaw",
        )
        return reply.decode("utf-8", "surrogateescape")

    def learn(self, names: Sequence[str], endpoints: Iterable[_Endpoint]) -> None:
        """Which columns of which tables hold the tenant: as the project's text says, and as the trees show."""
        found: dict[str, set[str]] = {}
        known = self.snapshot.physical_tables
        read = tenancy.of_params(self.snapshot, names)
        for name, keys in read.columns.items():
            table = self.snapshot.tables[name]
            chains = {".".join(chain) for chains in keys.values() for chain in chains}
            found[f"{table.database}.{table.physical}"] = chains
        for one in endpoints:
            for seen in one.seen:
                for marker in one.given.values():
                    for table_name, column in sees(seen.resolved, marker):
                        if table_name in known:
                            found.setdefault(table_name, set()).add(column)
        tenants = {known[physical].table.name for physical in found}
        for physical, target in known.items():
            if target.table.sources & tenants and physical not in found and not target.quarantine:
                found[physical] = set()  # made of tenants' rows, and nothing in it says whose they are
        self.columns = {
            physical: frozenset(columns)
            for physical, columns in found.items()
            if known[physical].table.datasource.row_policy is None
        }

    async def judge(self, one: _Endpoint, statement: Statement) -> Fixed:
        tables = frozenset().union(*(seen.tables for seen in one.seen)) & self.columns.keys()
        if not tables:
            nothing = Verdict.NOTHING if one.seen else Verdict.NOT_SHOWN
            return Fixed(one.names, tables, {}, nothing)
        confined, open_in = self.confined(one, one.seen, one.given, tables)
        verdict = self.verdict(one, confined, open_in, tables)
        if one.names and verdict is not Verdict.NOT_CONFINED:
            switched = await self.left_out(one, tables, statement)
            if switched and verdict in (Verdict.CONFINED, Verdict.NOT_SHOWN):
                verdict = Verdict.SWITCHABLE
        return Fixed(one.names, tables, confined, verdict)

    def confined(
        self, one: _Endpoint, texts: Sequence[_Seen], markers: Mapping[str, object], tables: frozenset[str]
    ) -> tuple[dict[str, tuple[str, ...]], dict[str, list[tuple[_Seen, str]]]]:
        """Table -> the parameters that confine it in every text; table -> the texts in which nothing does, and why."""
        columns = {table: self.columns[table] for table in tables}
        by: dict[str, set[str]] = {}
        open_in: dict[str, list[tuple[_Seen, str]]] = {table: [] for table in tables}
        for seen in texts:
            here = seen.tables & tables
            verdicts: dict[str, set[str]] = {table: set() for table in here}
            why = dict.fromkeys(here, seen.missing)
            for name, marker in markers.items() if not seen.missing else ():
                reads = reads_of(seen.resolved, seen.raw, marker, columns, here)
                for table in here:
                    of_table = [read for read in reads if read.table == table]
                    if of_table and all(read.confined for read in of_table):
                        verdicts[table].add(name)
                    else:
                        why[table] = _why(of_table)
            for table, names in verdicts.items():
                by[table] = by[table] & names if table in by else names
                if not names:
                    open_in[table].append((seen, why[table] or "no parameter of it is fixed"))
        return {table: tuple(sorted(names)) for table, names in by.items() if names}, open_in

    def verdict(
        self,
        one: _Endpoint,
        confined: Mapping[str, tuple[str, ...]],
        open_in: Mapping[str, list[tuple[_Seen, str]]],
        tables: frozenset[str],
    ) -> Verdict:
        result = Verdict.CONFINED
        for table in sorted(tables):
            texts = open_in[table]
            name = self.snapshot.physical_tables[table].table.name
            if not texts:
                continue
            read_in = [seen for seen in one.seen if table in seen.tables]
            undecided = [seen for seen, _ in texts if seen.missing]
            if len(undecided) == len(texts):
                result = Verdict.NOT_SHOWN if result is Verdict.CONFINED else result
                self.tell_not_shown(one, name, undecided[0].missing)
            elif len(texts) < len(read_in) and one.names:
                result = Verdict.SWITCHABLE if result is not Verdict.NOT_CONFINED else result
                self.tell_switched(one, name, [seen for seen, _ in texts if not seen.missing], read_in)
            else:
                result = Verdict.NOT_CONFINED
                self.tell_not_confined(one, name, texts[0][1], self.columns[table])
        incomplete = one.renderings.paired or not one.renderings.complete
        if result is Verdict.CONFINED and (one.missed or incomplete):
            what = "not all branches could be reached" if one.missed else "there are too many combinations"
            self.tell_not_shown(one, "", what)
            return Verdict.NOT_SHOWN
        return result

    async def left_out(self, one: _Endpoint, tables: frozenset[str], statement: Statement) -> bool:
        """Tries each fixed parameter absent and empty, with the others fixed. True: the condition is gone then."""
        gone = False
        for name in one.names:
            parameter = one.inputs.parameters[name]
            rest = {other: marker for other, marker in one.given.items() if other != name}
            for value in (None, ""):
                renderings = render_all(
                    self.snapshot, one.pipe, one.inputs, self.composer, fixed=rest, left_out={name: value}
                )
                seen = await self.trees(one, renderings.texts, statement)
                able = [text for text in seen if not text.missing]
                if not able:
                    continue
                markers: dict[str, object] = {**rest, name: value if value is not None else _default(parameter)}
                _, open_in = self.confined(one, able, markers, tables)
                open_tables = sorted(table for table in tables if open_in[table])
                if open_tables:
                    self.tell_guarded(one, name, value, open_tables)
                    gone = True
                    break
                if value is None and not self.all_by(one, able, rest, tables):
                    self.tell_default(one, name, parameter)
                    gone = gone or _default(parameter) == ""
        return gone

    def all_by(
        self, one: _Endpoint, texts: Sequence[_Seen], markers: Mapping[str, object], tables: frozenset[str]
    ) -> bool:
        """Whether the other fixed parameters confine everything alone."""
        _, open_in = self.confined(one, texts, markers, tables)
        return not any(open_in.values())

    def check_engines(self, results: Iterable[Fixed]) -> frozenset[str]:
        """Tables that a fixed parameter confines, and whose engine merges tenants' rows before any condition."""
        known = self.snapshot.physical_tables
        found: set[str] = set()
        for physical in sorted({table for one in results for table in one.confined}):
            source = known[physical].table.datasource
            finding = say.merges_tenants(source.file, source.name, source.engine, self.columns[physical])
            if finding is not None:
                self.found.append(finding)
                found.add(physical)
        return frozenset(found)

    def check_fillers(self, results: Sequence[Fixed]) -> frozenset[str]:
        """Tables that a fixed parameter confines, and whose rows a view or copy makes of several tenants': by itself,
        or of a table that is made so."""
        known = self.snapshot.physical_tables
        mixed: dict[str, Finding] = {}
        for physical, columns in self.columns.items():
            table = known[physical].table
            for pipe, node in fillers(self.snapshot, table, self.of_tenants):
                for column in sorted(columns):
                    if carry(self.snapshot, table, pipe, node, column) is Carry.MIXED:
                        by = f"the condition on {_listed(self.names)}"
                        mixed[table.name] = say.filler(table.name, pipe, node, column, by, mixed=True)
        found: set[str] = set()
        told: set[str] = set()
        for physical in {table for one in results for table in one.confined}:
            table = known[physical].table
            made_so = mixed.keys() & {table.name, *table.sources}
            if made_so:
                found.add(physical)
                told |= made_so
        self.found += [mixed[name] for name in sorted(told)]
        return frozenset(found)

    def of_tenants(self, table: Table) -> bool:
        return f"{table.database}.{table.physical}" in self.columns

    def tell_guarded(self, one: _Endpoint, name: str, value: str | None, tables: Sequence[str]) -> None:
        table = self.snapshot.physical_tables[tables[0]].table.name
        how = "left out" if value is None else "empty"
        self.add(
            "guarded_filter",
            Severity.ERROR,
            one,
            f"The condition on '{name}' can be switched off: with '{name}' {how}, '{one.pipe.name}' reads all of "
            f"'{table}'",
            f"Let it stand without a condition around it: `... = {{{{String({name})}}}}`. A request without '{name}' "
            "is then an error.",
            say.use_of_parameter(one.inputs.nodes, name, guards=True)
            or say.use_of_parameter(one.inputs.nodes, name, guards=False),
        )

    def tell_default(self, one: _Endpoint, name: str, parameter: Parameter) -> None:
        default = _default(parameter)
        self.add(
            "fixed_default",
            Severity.ERROR if default == "" else Severity.WARNING,
            one,
            f"'{name}' has the default '{default}': a token that does not fix it reads the rows of '{default}'",
            f"Leave the default out: a request without '{name}' is then an error.",
            say.use_of_parameter(one.inputs.nodes, name, guards=False),
        )

    def tell_switched(self, one: _Endpoint, table: str, texts: Sequence[_Seen], read_in: Sequence[_Seen]) -> None:
        shortest = min(texts, key=lambda seen: (len(seen.rendering.values), str(sorted(seen.rendering.values))))
        closed = [seen.rendering for seen in read_in if seen not in texts]
        shown = _difference(shortest.rendering.values, [rendering.values for rendering in closed], one.names)
        new = shortest.rendering.visited.difference(*(rendering.visited for rendering in closed))
        branch = min(new, key=lambda b: (b.template, b.line, b.column), default=None)
        where = say.of_branch(one.inputs.nodes, branch) if branch else None
        message = (
            f"The condition on {_listed(one.names)} can be switched off: with {shown}, '{one.pipe.name}' reads all of "
            f"'{table}'"
        )
        hint = f"Give every read of '{table}' the condition, in every branch."
        if where is None:
            self.add("switched_off", Severity.ERROR, one, message, hint, None)
        else:
            self.found.append(
                Finding(
                    "switched_off",
                    Severity.ERROR,
                    where.file,
                    where.line,
                    where.column,
                    message,
                    hint,
                    one.pipe.name,
                )
            )

    def tell_not_confined(self, one: _Endpoint, table: str, why: str, columns: frozenset[str]) -> None:
        names = one.names or tuple(self.fixed)
        whose = "" if columns else ", which has no column that says whose a row is"
        message = f"{_listed(names)} does not confine the reads of '{table}'{whose}: {why}"
        if not one.names:
            message = f"The endpoint does not take {_listed(names)}: it reads all tenants' rows of '{table}'"
        self.add(
            "not_confined",
            Severity.ERROR,
            one,
            message,
            f"Add `{min(columns, default='tenant')} = {{{{String({names[0]})}}}}` to every query that reads '{table}', "
            "or give no tenant's token this endpoint.",
            None,
        )

    def tell_not_shown(self, one: _Endpoint, table: str, why: str) -> None:
        what = f" of '{table}'" if table else ""
        self.add(
            "not_shown",
            Severity.WARNING,
            one,
            f"It could not be shown that {_listed(one.names)} confines the reads{what}: {why}",
            "`pipit audit --prove` tries it with rows.",
            None,
        )

    def add(
        self, code: str, severity: Severity, one: _Endpoint, message: str, hint: str, place: DatafileError | None
    ) -> None:
        self.found.append(say.endpoint_finding(code, severity, place, message, hint, one.pipe))


def _marker(parameter: Parameter, text: str) -> str:
    kind = parameter.type[len("Array(") : -1] if parameter.type.startswith("Array(") else parameter.type
    if kind in ("Int", "Integer"):
        return _NUMBERS["64"]
    if "Int" in kind:
        return _NUMBERS.get(kind.lstrip("UInt"), _NUMBERS["128"])
    if kind == "Date":
        return _TEXTS[3]
    if kind.startswith("DateTime"):
        return f"{_TEXTS[3]} 01:02:03"
    return text


def _default(parameter: Parameter) -> str:
    return "" if parameter.default is None else str(parameter.default)


def _why(reads: Sequence[JudgedRead]) -> str:
    return next((read.why for read in reads if not read.confined), "it is read where no filter can be seen")


def _difference(
    values: Mapping[str, RequestValue], others: Sequence[Mapping[str, RequestValue]], fixed: Sequence[str]
) -> str:
    """What of a request matters: what no request that is confined has."""
    found = [
        f"{name}={value}"
        for name, value in sorted(values.items())
        if name not in fixed and not any(other.get(name) == value for other in others)
    ]
    if found:
        return " and ".join(found)
    absent = sorted({n for other in others for n in other} - values.keys() - set(fixed))
    given = [f"{name}={value}" for name, value in sorted(values.items()) if name not in fixed]
    missing = [f"without {absent[0]}"] if absent and all(absent[0] in other for other in others) else []
    return " and ".join([*given, *missing]) or "nothing else"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)
