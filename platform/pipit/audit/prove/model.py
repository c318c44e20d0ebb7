"""What a proof is asked for and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pipit.audit.prove.answers import TenantAnswer
from pipit.audit.prove.appends import Append
from pipit.audit.prove.cases import ProofCase
from pipit.audit.prove.rows import Row
from pipit.audit.prove.tenants import TenantView
from pipit.datafiles.resources import DataSource

EXIT_PROVED, EXIT_LEAK, EXIT_UNPROVED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class ProofOptions:
    """`fixed`: the parameters that tokens fix, for a project without policies. `endpoints`: only these."""

    fixed: tuple[str, ...] = ()
    rounds: int = 2
    seed: int = 1
    endpoints: tuple[str, ...] = ()
    cases: int = 12  # requests for each endpoint, scope and round
    search: int = 40  # more requests, where none of them has met a row
    probes: int = 80  # steps of a search for a small example
    appends: bool = True  # also what comes in as events, with tokens
    plain: bool = True  # values of an example that play no part become plain ones
    patience: float = 1.0  # times what a search may take by the clock; infinite: only its steps are counted
    folder: Path | None = None  # of the project: its fixtures shape the data


class ProofVerdict(StrEnum):
    PROVED = "proved"
    LEAK = "leak"
    UNPROVED = "unproved"
    SHARED = "shared"  # it reads no tenant's rows at all


@dataclass(frozen=True, slots=True)
class CounterExample:
    """`own` and `others` are rows of the tenant and of others; `shared` are nobody's. `kind` as in `answers`."""

    pipe: str
    kind: str
    view: TenantView
    case: ProofCase
    own: tuple[Row, ...]
    others: tuple[Row, ...]
    shared: tuple[Row, ...]
    with_others: TenantAnswer
    alone: TenantAnswer
    other: TenantView | None = None  # who asked the same first, where the leak needs that
    sent: tuple[Append, ...] = ()  # what was appended at one moment, where the leak needs that: the tenant's own first

    @property
    def after_others_asked(self) -> bool:
        return self.other is not None


@dataclass(frozen=True, slots=True)
class EndpointResult:
    """One endpoint. `requests`: how many answers were compared; `held`: how many of them held the tenant's rows."""

    endpoint: str
    verdict: ProofVerdict
    reason: str = ""
    tables: tuple[str, ...] = ()
    requests: int = 0
    held: int = 0
    counter_example: CounterExample | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    policies: bool
    keys: tuple[str, ...]
    scopes: tuple[str, ...]
    shared: tuple[str, ...]  # data sources that are nobody's
    results: tuple[EndpointResult, ...]
    refused: Mapping[str, str] = field(default_factory=dict)  # file -> why it does not deploy
    datasources: Mapping[str, DataSource] = field(default_factory=dict, repr=False)
    seed: int = 1
    rounds: int = 0
    seconds: float = 0.0

    def of(self, verdict: ProofVerdict) -> tuple[EndpointResult, ...]:
        return tuple(result for result in self.results if result.verdict is verdict)

    @property
    def exit_code(self) -> int:
        if self.of(ProofVerdict.LEAK):
            return EXIT_LEAK
        return EXIT_UNPROVED if self.of(ProofVerdict.UNPROVED) or not self.results else EXIT_PROVED
