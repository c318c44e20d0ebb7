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
_ENVIRONMENTS = "tests/attacks/test_environments.py"
_CACHE = "tests/attacks/test_cache.py"
_KEY = "tests/query/test_cache.py"
_LOG = "tests/query/test_log.py"

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
        '*([Route("/demo/inspect", inspect, methods=["POST"])] if looks_inside else []),',
        'Route("/demo/inspect", inspect, methods=["POST"]),',
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
        'if not (host and (host in ("localhost", name) or _is_address(host))):',
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
    # --- query/cache.py, query/log.py: what is kept of reads
    Defence(
        "cache key: workspace",
        "query/cache.py",
        "        workspace.id,\n",
        "",
        (f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",),
    ),
    Defence(
        "cache key: environment",
        "query/cache.py",
        "        workspace.place,\n",
        "",
        (f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",),
    ),
    Defence(
        "cache key: database",
        "query/cache.py",
        "        workspace.database,\n",
        "",
        (f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",),
    ),
    Defence(
        "cache key: deployment",
        "query/cache.py",
        "        snapshot.deployment,\n",
        "",
        (f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",),
    ),
    Defence(
        "cache key: statement",
        "query/cache.py",
        "        plan.composed.sql,\n",
        "",
        (
            f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",
            f"{_CACHE}::test_f05_a_request_changes_no_other_requests_template",
        ),
    ),
    Defence(
        "cache key: bound values",
        "query/cache.py",
        "        sorted(bind(plan.params).items()),\n",
        "",
        (
            f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",
            f"{_KEY}::test_a_new_secret_keeps_no_old_answer",
        ),
    ),
    Defence(
        "cache key: filters",
        "query/cache.py",
        "        sorted(plan.filters.items()),\n",
        "",
        (f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",),
    ),
    Defence(
        "cache key: settings",
        "query/cache.py",
        "        sorted((name, str(value)) for name, value in plan.settings.items()),\n",
        "",
        (f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",),
    ),
    Defence(
        "cache key: format",
        "query/cache.py",
        "        plan.format.name,\n",
        "",
        (
            f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",
            f"{_KEY}::test_an_endpoint_with_a_ttl_answers_as_it_did",
        ),
    ),
    Defence(
        "cache key: whose it is",
        "query/cache.py",
        "        _reader(security, pipe),\n",
        "",
        (
            f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",
            f"{_CACHE}::test_e10_no_tenant_can_tell_what_another_asked",
        ),
    ),
    Defence(
        "cache key: a token without claims",
        "query/cache.py",
        "name = \"\" if context or filters or any(fixed) else security.name",
        "name = \"\"",
        (
            f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",
            f"{_CACHE}::test_e10_no_tenant_can_tell_what_another_asked",
        ),
    ),
    Defence(
        "cache: errors about the leader",
        "query/cache.py",
        "_OF_THE_STATEMENT = (SqlError, QueryTimeout, TooLarge)",
        "_OF_THE_STATEMENT = (PipitError,)",
        (f"{_KEY}::test_an_error_about_the_leader_is_the_leaders_alone",),
    ),
    Defence(
        "cache: one answer's size",
        "query/cache.py",
        "                    if size > self._max_answer:",
        "                    if False:",
        (f"{_KEY}::test_a_larger_answer_passes_through_whole_and_is_not_kept",),
    ),
    Defence(
        "engine's own caches off",
        "query/limits.py",
        "answer or time (ATTACKS E13, F11).\n    \"use_query_cache\": 0,\n    \"use_query_condition_cache\": 0,\n",
        "answer or time (ATTACKS E13, F11).\n",
        (
            f"{_CACHE}::test_f11_the_engines_query_cache_is_off",
            f"{_CACHE}::test_e13_the_query_condition_cache_carries_nothing_over",
        ),
    ),
    Defence(
        "answers are private",
        "api/app.py",
        "headers.setdefault(\"Cache-Control\", \"private, no-store\")",
        "pass",
        (f"{_CACHE}::test_f09_shared_caches_on_the_way_are_told_to_keep_nothing",),
    ),
    Defence(
        "answers vary by token",
        "api/app.py",
        "headers.add_vary_header(\"Authorization\")",
        "pass",
        (f"{_CACHE}::test_f09_shared_caches_on_the_way_are_told_to_keep_nothing",),
    ),
    Defence(
        "audit log: not for tenants",
        "query/secure.py",
        "        check_services(snapshot, security)\n        return \"\"",
        "        return \"\"",
        (
            f"{_CACHE}::test_j17_a_tenant_does_not_read_it",
            f"{_CACHE}::test_j17_without_policies_a_tenants_claims_are_enough_to_refuse",
        ),
    ),
    Defence(
        "audit log: what is copied from it",
        "query/secure.py",
        "    if table.sources & SERVICES.keys():",
        "    if False:",
        (f"{_LOG}::test_what_a_copy_makes_of_it_is_no_tenants",),
    ),
    Defence(
        "audit log: templates that name it",
        "catalog/lineage.py",
        "if current.template is not None and reference.name == services.DATABASE:",
        "if False:",
        (f"{_LOG}::test_what_a_copy_makes_of_it_is_no_tenants",),
    ),
    Defence(
        "audit log: no views of it",
        "deploy/views.py",
        "            if composed.tables & snapshot.service_tables:",
        "            if False:",
        (f"{_LOG}::test_no_view_is_fed_by_it",),
    ),
    Defence(
        "audit log: URL masked",
        "query/log.py",
        "hide = plain in (\"q\", \"token\") or _SECRET_NAME.search(plain)",
        "hide = False",
        (f"{_LOG}::test_shown_url", f"{_CACHE}::test_j17_no_token_no_sql_no_row_of_anybody",),
    ),
    Defence(
        "audit log: parameters masked",
        "query/log.py",
        "        if _SECRET_NAME.search(name):\n            hidden",
        "        if False:\n            hidden",
        (f"{_LOG}::test_what_looks_secret_is_masked", f"{_CACHE}::test_j17_no_token_no_sql_no_row_of_anybody",),
    ),
    Defence(
        "audit log: context masked",
        "query/log.py",
        "    if _SECRET_NAME.search(name):\n        return MASK",
        "    if False:\n        return MASK",
        (f"{_LOG}::test_a_tenants_read",),
    ),
    Defence(
        "audit log: tokens under other names",
        "query/log.py",
        "    if \"eyJ\" in text:",
        "    if False:",
        (f"{_LOG}::test_what_looks_secret_is_masked", f"{_CACHE}::test_j17_no_token_no_sql_no_row_of_anybody",),
    ),
    Defence(
        "audit log: not the engine's text",
        "query/log.py",
        "    if isinstance(error, SqlError) and error.engine_code:",
        "    if False:",
        (f"{_CACHE}::test_j17_no_token_no_sql_no_row_of_anybody",),
    ),
    Defence(
        "audit log: masked values in messages",
        "query/log.py",
        "            text = text.replace(value, MASK)",
        "            pass",
        (f"{_LOG}::test_what_looks_secret_is_masked",),
    ),
    # --- environments: one token, one database
    Defence(
        "environment: the token's",
        "api/requests.py",
        "server.catalog.snapshot(security.workspace_id, security.environment)",
        "server.catalog.snapshot(security.workspace_id)",
        (f"{_ENVIRONMENTS}::test_appends_land_in_the_token_s_environment",),
    ),
    Defence(
        "environment: one that is there",
        "catalog/catalog.py",
        "found = self._snapshots.get(place)",
        'found = self._snapshots.get(place) or self._snapshots.get((workspace_id, ""))',
        (f"{_ENVIRONMENTS}::test_there_is_one_answer_for_every_unknown_environment",),
    ),
    Defence(
        "environment: of the token's workspace",
        "catalog/catalog.py",
        "        place = (workspace_id, environment)\n        found",
        "        place = max((p for p in self._snapshots if p[1] == environment), default=(workspace_id, environment))\n"
        "        found",
        (f"{_ENVIRONMENTS}::test_there_is_one_answer_for_every_unknown_environment",),
    ),
    Defence(
        "environment: token and snapshot agree",
        "query/read.py",
        "if security.environment != snapshot.workspace.environment:",
        "if False:",
        (f"{_ENVIRONMENTS}::test_a_read_refuses_a_snapshot_of_another_environment",),
    ),
    Defence(
        "environment: statements are remembered for their place",
        "query/compose.py",
        "key = (snapshot.workspace.place, snapshot.deployment, scope, text)",
        "key = (snapshot.workspace.id, snapshot.deployment, scope, text)",
        (f"{_ENVIRONMENTS}::test_a_token_reads_its_own_environment",),
    ),
    Defence(
        "environment: tables of the snapshot only",
        "query/secure.py",
        "    check_place(snapshot, tables)\n",
        "",
        (f"{_ENVIRONMENTS}::test_a_statement_of_another_place_does_not_run",),
    ),
    Defence(
        "environment: idempotency keys",
        "ingest/keys.py",
        "for part in (scope, database, table, key))",
        "for part in (scope, table, key))",
        (f"{_ENVIRONMENTS}::test_an_idempotency_key_means_something_in_one_environment_only",),
    ),
    Defence(
        "environment: its admin manages nothing",
        "access/context.py",
        "return self.is_admin and not self.environment",
        "return self.is_admin",
        (f"{_ENVIRONMENTS}::test_an_admin_of_an_environment_manages_nothing",),
    ),
    Defence(
        "environment: its scopes manage nothing",
        "access/grants.py",
        "return _has(security, type) and not security.environment",
        "return _has(security, type)",
        (f"{_ENVIRONMENTS}::test_an_admin_of_an_environment_manages_nothing",),
    ),
    Defence(
        "environment: the workspace's secrets",
        "query/read.py",
        "secrets = snapshot.secrets if security.manages_workspace else {}",
        "secrets = snapshot.secrets",
        (f"{_ENVIRONMENTS}::test_an_admin_of_an_environment_manages_nothing",),
    ),
    Defence(
        "environment: its tokens stay its own",
        "api/tokens.py",
        "    if security.environment:  # it could",
        "    if False:  # it could",
        (f"{_ENVIRONMENTS}::test_an_admin_of_an_environment_manages_nothing",),
    ),
    Defence(
        "environment: a database's name is used once",
        "catalog/catalog.py",
        "        while (name := wanted if number == 1 else f\"{wanted}__{number}\") in taken:",
        "        while (name := wanted if number == 1 else f\"{wanted}__{number}\") in ():",
        (
            f"{_ENVIRONMENTS}::test_two_names_never_make_one_database",
            f"{_ENVIRONMENTS}::test_the_name_of_a_deleted_environment_finds_nothing_of_it",
        ),
    ),
    Defence(
        "environment: limits",
        "access/limits.py",
        "key = (security.workspace_id, security.environment, security.name)",
        'key = (security.workspace_id, "", security.name)',
        (f"{_ENVIRONMENTS}::test_a_limit_tells_nothing_of_another_environment",),
    ),
)

__all__ = ["DEFENCES", "Defence"]
