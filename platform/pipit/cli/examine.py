"""`pipit audit` without `--prove`: what stands between tenants, read from the project and the engine's own trees."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipit.cli.output import count, err, line, note, out, show_table, waiting
from pipit.cli.project import read_files
from pipit.cli.target import run
from pipit.errors import BadRequest

if TYPE_CHECKING:
    from pipit.audit.certificate import Certificate
    from pipit.audit.examination import AuditOptions
    from pipit.audit.policy_regression import LocatedWeakening
    from pipit.audit.report import AuditReport, Decider, EndpointReport, Finding, TableRead


_LEGEND = "* chooses between texts of the query; a parameter without it is only compared with a column"


def examine_project(
    folder: Path,
    *,
    fixed: tuple[str, ...],
    require_policies: bool,
    unfixed_appends: bool,
    as_json: bool,
    certificate: Path | None,
    check: Path | None,
    output: Path | None,
) -> int:
    """The exit code: 1 where the audit has errors; with `check`, where the project is weaker than that certificate."""
    from pipit.audit.examination import AuditOptions

    files = read_files(folder)
    before = _read(check) if check is not None else None
    if before is not None:
        fixed = fixed or before.fixed
        require_policies = require_policies or before.require_policies
    with waiting("Examining every endpoint..."):
        report = run(_examine(files, AuditOptions(fixed, require_policies, unfixed_appends)))
    weaker = _weaker(before, report) if before is not None else []
    if certificate is not None:
        _write(certificate, report.certificate.encode())
    text = _json(report, weaker) if as_json else None
    if text is not None and output is not None:
        _write(output, text)
    elif text is not None:
        out.file.write(text.decode())
    else:
        _show(report, weaker, check)
        if certificate is not None:
            note(f"The certificate is in {certificate}: commit it, and let CI run `pipit audit --check {certificate}`.")
    return 1 if (weaker if check is not None else report.errors) else 0


async def _examine(files: dict[str, str], options: AuditOptions) -> AuditReport:
    from pipit.audit.examination import examine
    from pipit.engine import open_engine

    with tempfile.TemporaryDirectory(prefix="pipit-audit-") as data:
        async with open_engine(Path(data)) as engine:
            return await examine(engine, files, options)


def _read(path: Path) -> Certificate:
    from pipit.audit.certificate import decode

    try:
        return decode(path.read_bytes(), name=str(path))
    except OSError as error:
        raise BadRequest(
            f"{path} cannot be read: {error.strerror}", hint=f"pipit audit --certificate {path} writes it."
        ) from None


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise BadRequest(f"{path} cannot be written: {error.strerror}") from None


def _weaker(before: Certificate, report: AuditReport) -> list[LocatedWeakening]:
    from pipit.audit.certificate import weakenings
    from pipit.audit.policy_regression import locate

    return [locate(report.project, one) for one in weakenings(before, report.certificate)]


def _json(report: AuditReport, weaker: list[LocatedWeakening]) -> bytes:
    import msgspec

    found: dict[str, Any] = {
        "endpoints": msgspec.to_builtins(report.endpoints),
        "findings": msgspec.to_builtins(report.findings),
        "weaker": [
            {"message": one.weakening.sentence, "hint": one.weakening.hint, "file": one.file}
            | {"line": one.line, "column": one.column}
            for one in weaker
        ],
        "policies": report.policies,
        "fixed": list(report.fixed),
        "errors": len(report.errors),
        "warnings": len(report.warnings),
        "certificate": msgspec.to_builtins(report.certificate),
    }
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"


def _show(report: AuditReport, weaker: list[LocatedWeakening], check: Path | None) -> None:
    from rich.table import Table

    table = Table()
    for heading in ("endpoint", "reads", "confined by", "decided by"):
        table.add_column(heading, overflow="fold")
    if any(one.verdict is not None for one in report.endpoints):
        table.add_column(f"fixed {', '.join(report.fixed)}".strip(), overflow="fold")
    for one in report.endpoints:
        for row in _rows(one, verdicts=len(table.columns) == 5):
            table.add_row(*row)
    if report.endpoints:
        show_table(table)
        if any(decider.branch for one in report.endpoints for decider in one.deciders):
            line(out, (_LEGEND, "dim"))
        line(out, "")
    for finding in report.findings:
        _show_finding(finding)
    for placed in weaker:
        where = f"{placed.file}:{placed.line}:{placed.column}: " if placed.line else f"{placed.file}: "
        line(out, (where, "bold"), ("weaker: ", "bold red"), placed.weakening.sentence)
        line(out, ("    hint: ", "bold"), placed.weakening.hint)
    texts = sum(one.renderings for one in report.endpoints)
    line(
        err,
        f"{count(len(report.endpoints), 'endpoint')}, {count(texts, 'statement')} examined: "
        f"{count(len(report.errors), 'error')}, {count(len(report.warnings), 'warning')}",
    )
    if check is not None and not weaker:
        note(f"Nothing is weaker than in {check}.")


def _rows(one: EndpointReport, *, verdicts: bool) -> list[list[str]]:
    rows: list[list[str]] = []
    for read in one.tables or (None,):
        first = not rows
        reads = "" if read is None else read.table
        if read is not None and read.from_tables:
            reads += f" (from {', '.join(read.from_tables)})"
        row = [one.name if first else "", reads, _filter(read), _deciders(one.deciders) if first else ""]
        if verdicts:
            row.append(one.verdict.value if first and one.verdict is not None else "")
        rows.append(row)
    return rows


def _filter(read: TableRead | None) -> str:
    if read is None:
        return "reads no table"
    if read.filter == "policy":
        optional = f", if given: {', '.join(read.optional)}" if read.optional else ""
        return f"policy: {', '.join(read.keys) or 'no key'}{optional}"
    if read.filter == "none":
        return f"nothing: {read.reason}"
    if read.filter == "refused":
        return "refused to tenants"
    if read.confined_by:
        return f"parameter: {', '.join(read.confined_by)}"
    return "nothing"


def _deciders(deciders: tuple[Decider, ...]) -> str:
    """`*` marks those that choose between texts."""
    return ", ".join(f"{one.name}*" if one.branch else one.name for one in deciders)


def _show_finding(finding: Finding) -> None:
    where = f"{finding.file}:{finding.line}:{finding.column}: " if finding.line else f"{finding.file}: "
    style = "bold red" if finding.severity == "error" else "bold yellow"
    line(out, (where, "bold"), (f"{finding.severity}: ", style), finding.message, (f" [{finding.code}]", "dim"))
    if finding.hint:
        line(out, ("    hint: ", "bold"), finding.hint)
