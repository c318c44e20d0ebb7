"""`pipit workspace settings`, with the real command against a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import PROJECT, Serving, Shell, write


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shell, Serving]]:
    shell = Shell(tmp_path_factory.mktemp("settings"))
    bare = PROJECT["datasources/sales.datasource"].split("\nROW_POLICY")[0]
    write(shell.folder, PROJECT | {"datasources/sales.datasource": bare})
    with shell.serving() as serving:
        yield shell, serving


def test_settings_are_shown_and_changed(served: tuple[Shell, Serving]) -> None:
    shell, _ = served
    before = shell.ok("workspace", "settings").splitlines()
    assert {"require_policies=false", "tenant_sql=false"} <= set(before)
    after = shell.ok("workspace", "settings", "tenant_sql=true").splitlines()
    assert {"require_policies=false", "tenant_sql=true"} <= set(after)
    assert shell.ok("workspace", "settings", "tenant_sql=off").splitlines() == before


def test_a_setting_that_is_none_is_refused(served: tuple[Shell, Serving]) -> None:
    shell, _ = served
    for wrong in ("tenant_sql", "tenant_sql=perhaps", "no_such=true", "=true"):
        assert shell("workspace", "settings", wrong).returncode == 1, wrong


def test_requiring_policies_names_each_table_without(served: tuple[Shell, Serving]) -> None:
    shell, _ = served
    done = shell("workspace", "settings", "require_policies=true")
    assert done.returncode == 1 and "'sales' has no ROW_POLICY" in done.stderr + done.stdout
