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
)

__all__ = ["DEFENCES", "Defence"]
