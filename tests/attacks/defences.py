"""Every defence that keeps tenants apart, and how to take it out. `neuter.py` does so and lists which tests notice.

A defence that no test notices is a defence that a later change can lose. So whoever adds a check adds an entry here:
an exact text of the file, what stands there without the check, and the tests that must go red then. The entry is run
by `make neuter NAMES="its name"`; `test_defences.py` keeps the list from rotting.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Defence:
    """`old` in `platform/pipit/<file>`, where it stands exactly once, replaced by `new`: the defence is out.

    `tests`: paths or ids (`path::test_name`) of tests that should notice, few, to keep the run short.
    `together_with`: a defence of which another one catches the same attack names the other one here. Then a test
    counts as noticing only if it fails with all of them out, and passes with only the others out.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    together_with: tuple[str, ...] = ()


_DEMO = "tests/attacks/test_demo.py"
_CHECKS = "tests/attacks/test_checks.py"
_LINEAGE = "tests/attacks/test_lineage.py"
_PARAMETERS = "tests/attacks/test_parameters.py"

DEFENCES: tuple[Defence, ...] = (
    # --- query/secure.py: which filter stands on which table
    Defence(
        "lineage check",
        "query/secure.py",
        "for name in sorted(table.sources):",
        "for name in ():",
        (f"{_CHECKS}::test_a_target_without_a_policy_is_refused", _LINEAGE),
    ),
    Defence(
        "quarantine refusal",
        "query/secure.py",
        "    if target.quarantine:",
        "    if False:",
        (f"{_CHECKS}::test_a_quarantine_is_for_its_owner",),
    ),
    # --- query/read.py: the order of a read
    Defence(
        "filters",
        "query/read.py",
        'settings["additional_table_filters"] = filter_setting(filters)',
        "pass",
        (f"{_CHECKS}::test_a_target_with_a_policy_is_filtered", _PARAMETERS),
    ),
    # --- demo: the look inside of `pipit serve --demo`
    Defence(
        "demo: loopback only",
        "demo/page.py",
        "*([Route(\"/demo/inspect\", inspect, methods=[\"POST\"])] if looks_inside else []),",
        "Route(\"/demo/inspect\", inspect, methods=[\"POST\"]),",
        (f"{_DEMO}::test_j05_it_is_not_there_without_the_flag_or_on_another_address",),
    ),
    Defence(
        "demo: admin only",
        "demo/inspect.py",
        "    grants.require_admin(security)",
        "    pass",
        (f"{_DEMO}::test_j07_nobody_but_the_admin",),
    ),
    Defence(
        "demo: Host",
        "demo/guard.py",
        "if not (host and (host in (\"localhost\", name) or _is_address(host))):",
        "if False:",
        ("tests/demo/test_page.py::test_a_name_that_points_here_gets_no_tokens",),
    ),
    Defence(
        "demo: Origin",
        "demo/guard.py",
        "any(origin != own for origin in origins)",
        "False",
        (f"{_DEMO}::test_i14_another_site_is_refused_even_with_the_admin_token",),
    ),
    Defence(
        "demo: this machine only",
        "demo/guard.py",
        "    if not local or not (host",
        "    if False and not (host",
        (f"{_DEMO}::test_j07_another_machine_is_refused",),
    ),
)

__all__ = ["DEFENCES", "Defence"]
