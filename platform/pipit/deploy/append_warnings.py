"""The warning of a deploy while the workspace lets JWTs append without fixed values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipit.catalog.snapshot import Snapshot
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.datafiles.resources import WarningKind
from pipit.deploy.append_needs import Need


def unfixed_appends(snapshot: Snapshot, needs: Mapping[str, Sequence[Need]]) -> list[ProjectWarning]:
    """One for each data source and each table with a policy that is filled from it."""
    found: dict[ProjectWarning, None] = {}
    for name, listed in needs.items():
        for need in listed:
            warning = ProjectWarning(
                snapshot.tables[name].datasource.file,
                f"The workspace's setting unfixed_appends is on: through {need.through}, JWTs that append to '{name}' "
                f"can write rows of any tenant into '{need.target}'",
                1,
                1,
                hint="Let them set 'fixed_values' as `pipit audit` says, then turn the setting off.",
                kind=WarningKind.UNFIXED_APPENDS,
            )
            found[warning] = None
    return list(found)
