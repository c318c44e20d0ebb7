"""What a deploy changes, as people read it. Made from the server's answer, whichever server it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipit.cli.output import count, err, line, show_warnings

if TYPE_CHECKING:
    from pipit.datafiles.resources import Warning as ProjectWarning

_KINDS = (("datasource", "data source"), ("pipe", "pipe"), ("data_connector", "connection"))
_SIGNS = (("new", "+", "green"), ("changed", "~", "yellow"), ("deleted", "-", "red"))


def show_changes(found: Mapping[str, Any]) -> None:
    """One line for each resource that is new, changed or gone, with what changes in it; then the warnings."""
    details: dict[str, list[str]] = {}
    for item in found.get("changes") or []:
        details.setdefault(str(item["resource"]), []).append(str(item["change"]))
    for kind, noun in _KINDS:
        for what, sign, style in _SIGNS:
            for name in found.get(f"{what}_{kind}_names") or []:
                line(err, (f"  {sign} {name}", style), (f"  {noun}", "dim"))
                for detail in details.get(name, []):
                    line(err, (f"      {detail}", "dim"))
    show_warnings(_warning(item) for item in found.get("feedback") or [] if item.get("level") == "WARNING")


def show_costs(found: Mapping[str, Any]) -> None:
    """Of each operation that somebody notices: how much it is about, a rough guess of its time, and what is noticed."""
    for item in found.get("operations") or []:
        notice = str(item.get("notice") or "")
        if not notice:
            continue
        what = f"{str(item['operation']).replace('_', ' ')} {item.get('column') or item.get('index') or ''}".strip()
        parts = [count(int(item["rows"]), "row")] if item.get("rows") else []
        parts += [f"{int(item['bytes']) / 1e6:,.1f} MB"] if item.get("bytes") else []
        parts += [f"about {item['seconds']} s"] if item.get("seconds") else []
        line(err, (f"  {item['resource']}: {what}: {', '.join([*parts, notice])}", "dim"))


def show_environments(found: Mapping[str, Any], *, check: bool = False) -> bool:
    """What a deploy did to each environment that had not what is live; with `check`, what it would do. False: one
    failed."""
    listed = list(found.get("environments") or [])
    failed = [one for one in listed if one["result"] == "failed"]
    done = sum(one["result"] == "success" for one in listed)
    if done:
        line(err, (f"  {count(done, 'environment')} {'would get' if check else 'got'} the same", "dim"))
    for one in failed:
        show_environment(one)
    if failed and not check:
        line(err, "What failed is served as it was. The next deploy tries again, also one that changes nothing.")
    return not failed


def show_environment(one: Mapping[str, Any]) -> None:
    """One that failed."""
    line(err, (f"  ! {one['name']}", "red"), f" stays on deployment {one['deployment']}: {one.get('error') or ''}")


def summary(found: Mapping[str, Any]) -> str:
    """`2 data sources and 3 pipes`; empty when nothing changes."""
    parts = []
    for kind, noun in _KINDS:
        number = sum(len(found.get(f"{what}_{kind}_names") or []) for what, _, _ in _SIGNS)
        if number:
            parts.append(count(number, noun))
    return " and ".join(parts) if len(parts) < 3 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def live(found: Mapping[str, Any]) -> str:
    return f"Deployment {found['id']} is live: {summary(found) or 'tokens'} ({found['seconds']:.1f} s)."


def _warning(item: Mapping[str, Any]) -> ProjectWarning:
    from pipit.datafiles.resources import Warning as ProjectWarning
    from pipit.datafiles.resources import WarningKind

    return ProjectWarning(
        file=str(item.get("filename") or item.get("resource") or ""),
        message=str(item.get("text") or item.get("message") or ""),
        line=int(item.get("line") or 0),
        column=int(item.get("column") or 0),
        hint=str(item.get("hint") or ""),
        kind=next((kind for kind in WarningKind if kind.value == item.get("kind")), None),
    )
