"""What an audit finds, as data: no text is made here, and no decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from pipit.audit.certificate import Certificate
from pipit.datafiles.resources import Project


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should change or know, with its place. `code` is stable (docs/audit.md lists all)."""

    code: str
    severity: Severity
    file: str
    line: int
    column: int
    message: str
    hint: str = ""
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class TableRead:
    """One data source that an endpoint's rows come from.

    `filter` is `certificate.TableFilter.filter`; `confined_by` are the fixed parameters that stand over every read of
    it in every rendering; `from_tables` are the data sources that it is filled from, all the way up.
    """

    table: str
    filter: str
    keys: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    reason: str = ""
    from_tables: tuple[str, ...] = ()
    has_tenant_rows: bool = False
    confined_by: tuple[str, ...] = ()
    quarantine: bool = False


@dataclass(frozen=True, slots=True)
class Decider:
    """A parameter that decides: which rows (it is compared with a column), or which text (it chooses a branch)."""

    name: str
    rows: bool
    branch: bool


@dataclass(frozen=True, slots=True)
class Unreached:
    """A branch of a template that no try could reach, so nothing is known of it."""

    file: str
    line: int
    column: int
    branch: str


class Verdict(StrEnum):
    """What fixed parameters do for an endpoint.

    CONFINED: every read of a tenant's table has its condition, in every branch. SWITCHABLE: only while nothing else
    is asked for (another value, the parameter left out). NOT_CONFINED: some read never has it. NOT_SHOWN: it could
    not be decided. NOTHING: it reads no table with tenants' rows.
    """

    CONFINED = "confined"
    SWITCHABLE = "can be switched off"
    NOT_CONFINED = "not confined"
    NOT_SHOWN = "not shown"
    NOTHING = "no tenant's rows"


@dataclass(frozen=True, slots=True)
class EndpointReport:
    """`fixed`: the parameters that were taken as fixed by the token; `verdict` is about them, and None without any.

    `renderings`: how many different statements were examined. `complete` is false where there were more than that.
    """

    name: str
    file: str
    tables: tuple[TableRead, ...] = ()
    deciders: tuple[Decider, ...] = ()
    fixed: tuple[str, ...] = ()
    verdict: Verdict | None = None
    renderings: int = 0
    complete: bool = True
    unreached: tuple[Unreached, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditReport:
    endpoints: tuple[EndpointReport, ...]
    findings: tuple[Finding, ...]
    certificate: Certificate
    policies: bool  # whether the project has any row policy
    project: Project  # what of it was examined
    fixed: tuple[str, ...] = field(default=())

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity is Severity.WARNING)
