"""The static tokens that datafiles name: made with the deployment that first names them, gone with the last one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pipit.access.tokens import make_token, token_id
from pipit.catalog.state import TokenRow
from pipit.datafiles.resources import Project


def datafile_tokens(workspace_id: str, project: Project, have: Iterable[TokenRow]) -> tuple[TokenRow, ...]:
    """In order of name, with the scopes that all files together give them. Those that are there keep their text."""
    scopes: dict[str, list[str]] = {}
    for datasource in project.datasources.values():
        for grant in datasource.tokens:
            scopes.setdefault(grant.name, []).append(f"DATASOURCES:{grant.permission.upper()}:{datasource.name}")
    for pipe in project.pipes.values():
        for grant in pipe.tokens:
            scopes.setdefault(grant.name, []).append(f"PIPES:READ:{pipe.name}")
    known = {t.name: t for t in have}

    def row(name: str) -> TokenRow:
        if name in known:
            return known[name]
        token = make_token(owner=workspace_id)
        return TokenRow(token_id(token), name, token)

    return tuple(replace(row(name), scopes=tuple(dict.fromkeys(scopes[name]))) for name in sorted(scopes))
