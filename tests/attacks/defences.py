"""Every defence that keeps tenants apart, and how to take it out. `neuter.py` does so and lists which tests notice.

A defence that no test notices is a defence that a later change can lose. So whoever adds a check adds an entry here:
the function that it is in, what it is there (a name that its condition uses, the reason that it raises, a function that
it calls), and the tests that must go red without it. `removal.py` says what can be named, and how. The entry is run by
`make neuter NAMES="its name"`; `test_defences.py` keeps the list from rotting.
"""

from __future__ import annotations

from typing import Protocol

from attacks.removal import Defence, Way


class _Entry(Protocol):
    def __call__(
        self, name: str, at: str, what: str, tests: tuple[str, ...], *, new: str = "", together_with: tuple[str, ...] = ()
    ) -> Defence: ...


def _by(way: Way) -> _Entry:
    """`at`: the file and, after a colon, the function or constant in it. `what`: see `Way`."""

    def entry(
        name: str, at: str, what: str, tests: tuple[str, ...], *, new: str = "", together_with: tuple[str, ...] = ()
    ) -> Defence:
        file, _, where = at.partition(":")
        if way in (Way.BODY, Way.VALUE):
            what, new = "", what
        return Defence(name, file, what, new, tests, together_with, where, way)

    return entry


_check, _operand, _loop, _statement = _by(Way.CHECK), _by(Way.OPERAND), _by(Way.LOOP), _by(Way.STATEMENT)
_call, _entry, _expression = _by(Way.CALL), _by(Way.ENTRY), _by(Way.EXPRESSION)
_body, _value = _by(Way.BODY), _by(Way.VALUE)

_DEMO = "tests/attacks/test_demo.py"
_CHECKS = "tests/attacks/test_checks.py"
_LINEAGE = "tests/attacks/test_lineage.py"
_PARAMETERS = "tests/attacks/test_parameters.py"
_TOKENS = "tests/attacks/test_tokens.py"
_TEMPLATES = "tests/attacks/test_templates.py"
_PYTHON = "tests/templates/test_python.py"
_OUTPUTS = "tests/attacks/test_outputs.py"
_CONTROL = "tests/attacks/test_control.py"
_HTTP = "tests/attacks/test_http.py"
_SECRETS = "tests/attacks/test_secrets.py"
_MEMORY = "tests/attacks/test_memory.py"
_ENVIRONMENTS = "tests/attacks/test_environments.py"
_CACHE = "tests/attacks/test_cache.py"
_KEY = "tests/query/test_cache.py"
_LOG = "tests/query/test_log.py"
_PLANS = "tests/query/test_plan_memory.py"
_SERVER = "tests/engine/test_server.py"
_NEIGHBOURS = "tests/ingest/test_neighbours.py"
_CLASSIC = "tests/deploy/test_classic.py"
_BUCKETS = "tests/attacks/test_buckets.py"
_WRITTEN = "tests/attacks/test_written_through.py"

# Settings that stop the same oracles as others; keys, skip indexes and partitions are noticed alone.
_OTHERS = ("use_primary_key", "use_skip_indexes", "use_partition_pruning")
_REDUNDANT = {
    "query_plan_enable_optimizations": tuple(f"filter first: {n}" for n in (*_OTHERS, "optimize_move_to_prewhere")),
    "optimize_move_to_prewhere": tuple(f"filter first: {n}" for n in (*_OTHERS, "query_plan_enable_optimizations")),
}
_FILTER_FIRST = (
    "query_plan_enable_optimizations",
    "optimize_move_to_prewhere",
    "use_primary_key",
    "use_skip_indexes",
    "use_partition_pruning",
)

_DEPLOYMENTS = "tests/attacks/test_deployments.py"
_FILES = "tests/attacks/test_files.py"
_URLS = "tests/attacks/test_urls.py"
_QUARANTINE = "tests/ingest/test_quarantine.py"
_SQL = "tests/attacks/test_sql.py"
_WRITES = "tests/attacks/test_writes.py"
_ISOLATE = "tests/ingest/test_isolate.py"
_POLICY_CHECKS = "tests/catalog/test_policy_checks.py"
_MIXED = "tests/attacks/test_mixed.py"

DEFENCES: tuple[Defence, ...] = (
    # --- query/secure.py: which filter stands on which table
    _loop(
        "lineage check",
        "query/secure.py:_has_policed_source",
        "sources",
        (f"{_CHECKS}::test_a_target_without_a_policy_is_refused", _LINEAGE),
    ),
    _call(
        "lineage is remembered",
        "catalog/lineage.py:derived",
        "remembered.get",
        (_LINEAGE,),
        new="()",
    ),
    _check(
        "lineage of computed names",
        "catalog/lineage.py:tables_read",
        "_PRINTS_NAMES.search",
        (_LINEAGE,),
    ),
    _statement(
        "lineage of copies",
        "catalog/lineage.py:derived",
        "node.node.target_datasource",
        (f"{_CHECKS}::test_a_covers_copies_before_they_run",),
    ),
    _check(
        "quarantine refusal",
        "query/secure.py:_filter_of",
        "quarantine",
        (f"{_CHECKS}::test_a_quarantine_is_for_its_owner",),
    ),
    _check(
        "a token's filter is added to the policy",
        "query/secure.py:_filter_of",
        "table.policy",
        (f"{_CHECKS}::test_a_filter_of_the_token_only_narrows",),
        new="table.policy is not None and not conditions",
    ),
    _call(
        "filters in brackets",
        "access/policy.py:combine",
        "join",
        (f"{_CHECKS}::test_a_filter_of_the_token_only_narrows",),
        new="' AND '.join(listed)",
    ),
    _statement(
        "filters of unknown data sources",
        "query/planner.py:Planner.draft",
        "check_scopes",
        (f"{_CHECKS}::test_a_filter_on_nothing_is_not_no_filter",),
    ),
    _statement(
        "a filter is one condition",
        "access/filters.py:jwt_filter",
        "check_condition",
        ("tests/access/test_conditions.py", f"{_CHECKS}::test_a_filter_of_the_token_only_narrows"),
    ),
    # --- query/read.py: the order of a read
    _statement(
        "filters",
        "query/planner.py:Planner._secured",
        "filter_setting",
        (f"{_CHECKS}::test_a_target_with_a_policy_is_filtered", _PARAMETERS),
    ),
    _call(
        "filters while rows are replaced",
        "query/secure.py:filter_setting",
        "_names",
        ("tests/attacks/test_replacements.py",),
        new="_call[:1]",
    ),
    _statement(
        "filter map check",
        "query/planner.py:Planner._secured",
        "check_filters",
        (f"{_CHECKS}::test_b_a_lost_filter_stops_the_query",),
    ),
    _call(
        "filter map by full name",
        "query/secure.py:check_filters",
        "filters.get",
        (f"{_CHECKS}::test_b_a_filter_on_another_table_is_no_filter",),
        new="filters",
    ),
    _statement(
        "readonly",
        "query/planner.py:Planner._secured",
        "readonly",
        (f"{_CHECKS}::test_readonly_holds_where_everything_before_it_failed",),
    ),
    _check(
        "other workspace",
        "query/planner.py:Planner.draft",
        "workspace_id",
        (f"{_CHECKS}::test_a_token_of_another_workspace",),
    ),
    _call(
        "uniform errors",
        "query/disclosure.py:for_reader",
        "SqlError",
        (f"{_CHECKS}::test_a_tenant_gets_one_text_for_every_failure",),
        new="error",
    ),
    _statement(
        "strict settings",
        "query/planner.py:Planner._secured",
        "STRICT",
        (f"{_CHECKS}::test_statistics_are_not_for_tenants",),
    ),
    _operand(
        "strict under fixed parameters",
        "query/planner.py:Planner._secured",
        "confined",
        ("tests/query/test_scopes.py::test_fixed_params_are_strict_too",),
    ),
    _entry(
        "strict: no statistics",
        "query/limits.py:STRICT",
        "output_format_write_statistics",
        (f"{_CHECKS}::test_statistics_are_not_for_tenants",),
    ),
    _entry(
        "strict: rows before the limit are counted",
        "query/limits.py:STRICT",
        "exact_rows_before_limit",
        (f"{_CHECKS}::test_rows_before_limit_of_many_rows",),
    ),
    _entry(
        "strict: no reading in order",
        "query/limits.py:STRICT",
        "optimize_read_in_order",
        (f"{_CHECKS}::test_rows_before_limit_of_many_rows",),
    ),
    _expression(
        "retry under filter first",
        "query/read.py:Reader._run_filtered",
        "FILTER_FIRST",
        (f"{_CHECKS}::test_no_status_asks_for_hidden_values", f"{_CHECKS}::test_another_tenants_bad_row_breaks_nobody"),
        new="{}",
    ),
    *(
        _entry(
            f"filter first: {setting}",
            "query/limits.py:FILTER_FIRST",
            setting,
            (
                f"{_CHECKS}::test_no_layout_of_a_table_asks_for_hidden_values",
                f"{_CHECKS}::test_no_status_asks_for_hidden_values",
                f"{_CHECKS}::test_the_primary_key_tells_no_tenant",
            ),
            together_with=_REDUNDANT.get(setting, ()),
        )
        for setting in _FILTER_FIRST
    ),
    _check(
        "secrets are for admins",
        "query/queries.py:SqlQuery.compose",
        "manages_workspace",
        (f"{_CHECKS}::test_secrets_are_for_admins",),
        new="True",
    ),
    _check(
        "no q for tenants",
        "query/queries.py:PipeQuery.compose",
        "SQL_NOT_FOR_TENANTS",
        (f"{_PARAMETERS}::test_a_tenant_sends_no_sql_with_a_pipe",),
        together_with=("no SQL for tenants",),
    ),
    _check("files by URL: addresses are judged", "ingest/files/remote.py:_Judging.resolve", "self._private", (_URLS,)),
    _check("files by URL: literal addresses are judged", "ingest/files/remote.py:AllowedHosts.judge", "literal", (_URLS,)),
    _statement("files by URL: redirects are judged", "ingest/files/remote.py:_once", "allowed.judge", (_URLS,)),
    _statement("buckets: endpoints are judged", "connectors/buckets/store.py:Store.opened", "allowed.judge", (_BUCKETS,)),
    _check("buckets: a store leads to no other name", "connectors/buckets/store.py:_Guard.resolve", "mine", (_BUCKETS,)),
    _check("buckets: each connection is judged", "connectors/buckets/store.py:_Guard.socket", "self._known", (_BUCKETS,)),
    _check("files by URL: not for a JWT", "api/loads.py:_remember", "WORKSPACE_TOKEN_REQUIRED", (_URLS,)),
    _statement(
        "conditions of deletes and replacements are one expression",
        "jobs/conditions.py:checked",
        "check_condition",
        ("tests/ingest/test_files_deletes.py", "tests/ingest/test_files_replace.py"),
    ),
    _check("the quarantine: not for a JWT", "api/quarantine.py:_reader", "WORKSPACE_TOKEN_REQUIRED", (_QUARANTINE,)),
    _body("a replay: what a token fixed wins over the line", "ingest/replay.py:_Kept.differs", "return 'false'", (_QUARANTINE,)),
    _value("a replay: rows that their token may not put there stay", "ingest/replay.py:STAYS", "('-',)", (_QUARANTINE,)),
    _check("files by URL: no way from https to http", "ingest/files/remote.py:_next", "scheme", (_URLS,)),
    _call("files by URL: what may be shown of one", "ingest/files/remote.py:checked", "with_query", (_URLS,), new="place"),
    _loop("files by URL: addresses that lead to others", "ingest/files/remote.py:_meant", "_NAT64", (_URLS,)),
    _check("a load's error is not for tenants", "api/jobs.py:for_reader", "is_tenant", (_FILES,)),
    _check("a load's error is not for tenants who wait for it", "api/loads.py:load", "JOB_ENDED", (_FILES,)),
    _check("size of a file, unpacked", "ingest/files/arrive.py:_bounded", "limit", (_FILES,)),
    _check("a file leaves room on the disk", "ingest/files/arrive.py:_with_room", "ROOM_BYTES", (_FILES,)),
    _check("number of a form's parts", "api/uploads.py:_Form.on_part_begin", "_FIELDS", (_FILES,)),
    _check("size of a part's headers", "api/uploads.py:_Form._check_header", "_FIELD_BYTES", (_FILES,)),
    *(
        _statement(f"doors: {name}", f"api/{place}", call, (f"{_CONTROL}::test_a_token_opens_its_own_doors_only",))
        for name, place, call in (
            ("connections", "connectors.py:connectors", "require_admin"),
            ("one connection", "connectors.py:connector", "require_admin"),
            ("a connection's file", "connectors.py:datafile", "require_admin"),
            ("records of a topic", "connectors.py:preview", "require_admin"),
            ("a connection's test", "connectors.py:test", "require_admin"),
            ("stopping a topic", "connectors.py:_set_stopped", "require_admin"),
            ("environments", "environments.py:environments", "require_admin"),
            ("keys of others", "keys.py:list_keys", "require_admin"),
            ("jobs", "jobs.py:jobs", "run_jobs"),
            ("ending a job", "jobs.py:cancel_job", "run_jobs"),
            ("copies", "jobs.py:run_copy", "run_jobs"),
            ("populates", "jobs.py:run_population", "run_jobs"),
            ("rollbacks", "deployments.py:rollback", "grants.deploy"),
            ("promotions", "deployments.py:set_live", "grants.deploy"),
            ("giving a deployment up", "deployments.py:discard", "grants.deploy"),
            ("deletes", "deletes.py:_delete", "rewrite"),
            ("truncates", "deletes.py:truncate", "rewrite"),
            ("replays of a quarantine", "quarantine.py:replay", "rewrite"),
            ("analysis of a file", "loads.py:analyze", "may_load"),
        )
    ),
    _operand(
        "staging: a JWT that says so",
        "api/requests.py:authenticate",
        "may_read_staging",
        (f"{_DEPLOYMENTS}::test_a_jwt_reads_what_waits_only_if_it_says_so",),
    ),
    _operand(
        "staging: what is written is the live one's",
        "api/requests.py:authenticate",
        "reads",
        (f"{_DEPLOYMENTS}::test_what_is_written_goes_by_what_is_live",),
    ),
    _check(
        "staging: the claim is one of two words",
        "access/claims.py:read_deployment",
        "value",
        (f"{_DEPLOYMENTS}::test_a_jwt_reads_what_waits_only_if_it_says_so",),
    ),
    _statement(
        "FORWARD_QUERY: examined as a pipe's SQL",
        "deploy/carry.py:_carry",
        "examine",
        (f"{_DEPLOYMENTS}::test_a_forward_query_reads_what_pipes_may_read",),
    ),
    _check(
        "events that wait for another policy",
        "ingest/load.py:_by_line",
        "needs",
        ("tests/deploy/test_meanwhile.py::test_what_a_token_fixed_for_the_old_policy_says_nothing_under_the_new_one",),
    ),
    _operand("a load is its sender's alone", "api/jobs.py:job", "owner_of", (_FILES,)),
    _entry("a file's rows have the values that the token fixes", "api/loads.py:_receive", "fixed", (_FILES,)),
    _statement("a file is appended by lineage's rule", "api/loads.py:_allowed", "server.deployer.appends.check", (_FILES,)),
    _check(
        "no JWT replaces or deletes rows",
        "access/grants.py:rewrite",
        "WORKSPACE_TOKEN_REQUIRED",
        ("tests/ingest/test_files_deletes.py::test_only_the_workspaces_own_tokens_that_may",),
    ),
    _check(
        "no SQL for tenants",
        "access/grants.py:read_sql",
        "SQL_NOT_FOR_TENANTS",
        ("tests/access/test_grants.py::test_sql_of_a_static_token_reads_what_its_scopes_name",),
    ),
    _check(
        "q and SQL read what the scopes name",
        "access/grants.py:read_sql",
        "SCOPE_MISSING",
        ("tests/query/test_scopes.py", _CONTROL),
    ),
    _check(
        "the bytes of an answer are counted",
        "query/read.py:_Counted.__anext__",
        "_left",
        ("tests/api/test_broken_answers.py::test_what_is_too_large_is_never_half_an_answer",),
    ),
    _operand(
        "time of a read",
        "query/limits.py:settings_for",
        "purpose.seconds limits.seconds",
        (f"{_OUTPUTS}::test_the_engine_has_a_bound_for_each_read",),
        new="0",
    ),
    _operand(
        "reads at once of one token",
        "query/admission.py:Admission._is_free",
        "self._running.get",
        ("tests/query/test_admission.py::test_a_token_has_its_own_bound",),
    ),
    # --- query/examine.py, sql/: what a statement may be
    _statement(
        "precheck",
        "query/examine.py:Examiner._ask_engine",
        "check_text",
        (
            f"{_CHECKS}::test_c_hostile_sql_does_not_deploy_and_does_not_run",
            f"{_OUTPUTS}::test_a_columns_name_holds_no_control_character",
        ),
    ),
    _statement(
        "examination of the RAW tree",
        "query/examine.py:Examiner._ask_engine",
        "_check raw",
        (f"{_CHECKS}::test_c_hostile_sql_does_not_deploy_and_does_not_run",),
    ),
    _statement(
        "examination of the RESOLVED tree",
        "query/examine.py:Examiner._ask_engine",
        "_check resolved",
        (f"{_CHECKS}::test_c_the_engines_tree_decides_not_our_reading_of_the_text",),
        together_with=("examination of the RAW tree",),
    ),
    _entry(
        "no rows during examination",
        "query/examine.py:Examiner._tree",
        "additional_table_filters",
        (f"{_CHECKS}::test_c_scalar_subqueries_of_the_examination_see_no_rows",),
        new="'{}'",
    ),
    _loop(
        "telling functions",
        "query/examine.py:_tells_of_others",
        "functions",
        (
            f"{_CHECKS}::test_raising_functions_are_not_for_policed_tables",
            f"{_CHECKS}::test_what_tells_of_other_rows",
        ),
    ),
    _check(
        "functions of blocks behind fixed parameters",
        "query/examine.py:check_confined",
        "TELLS_OF_OTHERS",
        (f"{_CHECKS}::test_functions_of_blocks_are_for_those_who_read_all_rows",),
    ),
    _check(
        "PREWHERE refusal",
        "query/examine.py:_tells_of_others",
        "PREWHERE",
        (f"{_CHECKS}::test_what_tells_of_other_rows",),
    ),
    _check(
        "virtual columns",
        "query/examine.py:_tells_of_others",
        "_VIRTUAL",
        (f"{_CHECKS}::test_what_tells_of_other_rows",),
    ),
    _loop(
        "tables of the statement only",
        "sql/tree.py:check_reads",
        "tables",
        (f"{_CHECKS}::test_c_the_engines_tree_decides_not_our_reading_of_the_text", "tests/sql/test_tree.py"),
    ),
    _loop(
        "table functions by list",
        "sql/tree.py:check_reads",
        "table_functions",
        (f"{_CHECKS}::test_c_hostile_sql_does_not_deploy_and_does_not_run", "tests/sql/test_tree.py"),
    ),
    _loop(
        "functions by list",
        "sql/tree.py:check_reads",
        "functions",
        (f"{_CHECKS}::test_c_hostile_sql_does_not_deploy_and_does_not_run",),
    ),
    _loop(
        "bare names after IN",
        "sql/tree.py:check_reads",
        "bare_members",
        (f"{_CHECKS}::test_a_bare_name_after_in_is_no_table_of_ours",),
    ),
    _check(
        "an unknown tree is refused",
        "sql/tree.py:check_reads",
        "NOT_EXAMINABLE",
        ("tests/sql/test_tree.py",),
    ),
    _check(
        "settings of a statement, by text",
        "sql/precheck.py:check_text",
        "SETTING_REFUSED",
        ("tests/sql/test_tree.py",),
    ),
    _check(
        "no FORMAT, no OUTFILE",
        "sql/precheck.py:check_text",
        "CLAUSE_REFUSED",
        ("tests/sql/test_tree.py",),
    ),
    _check(
        "objects are named literally",
        "sql/precheck.py:check_text",
        "OBJECT_REFUSED",
        (f"{_CHECKS}::test_an_object_is_named_literally",),
    ),
    _call(
        "no hidden lines",
        "sql/precheck.py:check_text",
        "hidden_line",
        ("tests/sql/test_tree.py", f"{_OUTPUTS}::test_a_columns_name_holds_no_control_character"),
        new="None",
    ),
    _check(
        "formats by list",
        "query/formats.py:split_format",
        "FORMAT_UNSUPPORTED",
        (f"{_OUTPUTS}::test_a_format_that_is_not_on_the_list",),
    ),
    # --- access/: parameters, scopes, policies
    _call(
        "fixed parameters win",
        "access/params.py:merge",
        "values.update",
        (_PARAMETERS, "tests/access/test_params.py"),
        new="[values.setdefault(name, value) for name, value in fixed.items()]",
        together_with=("requests cannot send fixed parameters",),
    ),
    _check(
        "requests cannot send fixed parameters",
        "access/params.py:merge",
        "fixed",
        (_PARAMETERS, "tests/access/test_params.py"),
    ),
    _check(
        "duplicate parameter",
        "access/params.py:merge",
        "PARAMETER_REPEATED",
        (f"{_PARAMETERS}::test_a_scalar_that_is_sent_twice",),
    ),
    _check(
        "number of parameters",
        "access/params.py:merge",
        "TOO_MANY_PARAMETERS",
        ("tests/access/test_params.py",),
    ),
    _check(
        "size of a value",
        "access/params.py:_check_text",
        "MAX_VALUE_BYTES",
        ("tests/access/test_params.py",),
    ),
    _check(
        "empty fixed parameter",
        "access/grants.py:fixes",
        "fixed.get",
        (f"{_PARAMETERS}::test_an_empty_fixed_parameter_fixes_nothing",),
        new="name not in fixed",
    ),
    _check(
        "declared fixed parameters",
        "access/grants.py:fixes",
        "fixed.get",
        (f"{_PARAMETERS}::test_fixed_params_must_be_fixed",),
        new="fixed.get(name) == ''",
    ),
    _statement(
        "FIXED_PARAMS of pipes that a template names",
        "query/queries.py:PipeQuery.compose",
        "fixes",
        (f"{_PARAMETERS}::test_fixed_params_must_be_fixed_by_who_reads_through_another_pipe",),
    ),
    _check(
        "two scopes that differ, by name",
        "access/claims.py:read_scopes",
        "_same",
        (f"{_PARAMETERS}::test_two_scopes_for_one_pipe_never_add_up",),
    ),
    _check(
        "two scopes that differ, once they have names",
        "access/grants.py:_fixed",
        "FIXED_PARAM_AMBIGUOUS",
        (f"{_PARAMETERS}::test_two_scopes_for_one_pipe_never_add_up",),
    ),
    _check(
        "scope before existence",
        "access/grants.py:read_pipe",
        "may_read_pipe",
        (f"{_PARAMETERS}::test_pipes_of_the_token_only",),
        new="exists and not may_read_pipe(security, pipe)",
    ),
    _body(
        "a removed column is seen by no text",
        "sql/hidden.py:may_see",
        "return False",
        ("tests/deploy/test_changes.py::test_a_removed_column_is_seen_by_nobody_and_comes_back_with_its_values",),
    ),
    _body(
        "a column gets its words when its barrier is known",
        "deploy/alterations.py:ModifyColumn.late",
        "return False",
        ("tests/deploy/test_late_alterations.py",),
    ),
    _body(
        "scope of a pipe",
        "access/grants.py:may_read_pipe",
        "return True",
        (f"{_PARAMETERS}::test_pipes_of_the_token_only", _CONTROL),
    ),
    _body(
        "context key missing",
        "access/policy.py:_given",
        "return context.get(key, 'a')",
        (f"{_PARAMETERS}::test_a_token_without_the_key_is_refused",),
    ),
    _operand(
        "empty context value",
        "access/claims.py:_read_context_value",
        "value",
        ("tests/access/test_claims.py",),
    ),
    _check(
        "types of context values",
        "access/values.py:typed",
        "String",
        (f"{_PARAMETERS}::test_hostile_context_values", "tests/access/test_policy.py"),
    ),
    _entry(
        "quotes are escaped",
        "sql/literals.py:_ESCAPES",
        "'",
        ("tests/sql/test_literals.py",),
        new="\"'\"",
    ),
    _entry(
        "backslashes are escaped",
        "sql/literals.py:_ESCAPES",
        "\\",
        ("tests/sql/test_literals.py",),
        new='"\\\\"',
    ),
    _check(
        "tenants append with fixed values",
        "deploy/append_check.py:_check_own",
        "FIXED_VALUES_MISSING",
        ("tests/api/test_routes.py::test_a_tenant_appends_to_a_policed_table_only_with_fixed_values",),
        together_with=("appends follow lineage",),
    ),
    _loop(
        "appends follow lineage",
        "deploy/append_check.py:AppendCheck.check",
        "needs",
        (f"{_WRITTEN}::test_k20_the_columns_that_a_view_makes_a_policys_column_of_are_fixed",),
    ),
    _call(
        "a JWT's idempotency keys are its own",
        "api/events.py:sender_of",
        "hex",
        (f"{_WRITTEN}::test_k27_g07_jwts_of_one_name_do_not_share_idempotency_keys",),
        new="''",
    ),
    _operand(
        "environments differ by more than case",
        "catalog/state.py:State.add_environment.free",
        "lower",
        (f"{_WRITTEN}::test_k27_environments_whose_names_differ_by_case_only",),
        new="name == row.name",
    ),
    _check(
        "what no token can fix is refused",
        "deploy/append_check.py:_check_need",
        "APPEND_NOT_CONFINED",
        (f"{_WRITTEN}::test_k21_what_no_token_can_fix_is_not_appended_to",),
    ),
    _check(
        "a column of other rows is no tenant's",
        "sql/origins.py:_Walk.expression",
        "_ROWS_OF_ITS_ARGUMENT",
        (f"{_WRITTEN}::test_k21_what_no_token_can_fix_is_not_appended_to",),
    ),
    _check(
        "copies hand on what was appended",
        "deploy/fillers.py:_target",
        "COPY",
        (f"{_WRITTEN}::test_k23_a_copy_hands_on_what_was_appended",),
    ),
    _call(
        "every text of a copy counts",
        "deploy/fillers.py:_origins",
        "_texts",
        (f"{_WRITTEN}::test_k28_every_text_that_a_copy_may_have_counts",),
        new="None if computes_names(_1, _2, _3) else [_1]",
    ),
    _body(
        "a copy that computes its text is refused",
        "templates/variants.py:_Choices.other_directive",
        "self.at += 1",
        (f"{_WRITTEN}::test_k28_a_copy_that_computes_its_text_lets_no_jwt_append",),
    ),
    _statement(
        "a quarantine's rows were not parsed",
        "deploy/append_needs.py:_Graph.needs",
        "dict.fromkeys",
        (f"{_WRITTEN}::test_k22_a_view_of_the_quarantine",),
    ),
    _operand(
        "a joined table may say whose a row is",
        "deploy/append_needs.py:_Graph.made",
        "here",
        (f"{_WRITTEN}::test_k23_a_table_that_is_joined_for_the_tenants_name",),
    ),
    # --- templates/
    _body(
        "template functions by list",
        "templates/expressions.py:_Translator.unknown_function",
        "return nodes.Call(nodes.Name(name, 'load'), [], [], None, None)",
        ("tests/templates/test_dialect.py",),
    ),
    _statement(
        "no expression in quotes",
        "templates/template.py:Template.compile",
        "_check_places",
        (f"{_TEMPLATES}::test_a_template_that_would_go_too_far_does_not_deploy",),
    ),
    _check(
        "a secret's name is the author's",
        "templates/expressions.py:_Translator.function",
        "secret",
        (f"{_TEMPLATES}::test_a_template_that_would_go_too_far_does_not_deploy",),
    ),
    _check(
        "a table is the author's",
        "catalog/build.py:_tables_by_request",
        "chosen",
        (f"{_TEMPLATES}::test_a_template_that_would_go_too_far_does_not_deploy",),
    ),
    _call(
        "values are bound",
        "templates/runtime.py:emit",
        "bind",
        ("tests/templates/test_dialect.py::test_a_value_is_never_rendered_again",),
        new="f\"'{_1}'\"",
    ),
    _value(
        "numbers in digits",
        "templates/types.py:_INTEGER",
        "re.compile('\\\\s*[+-]?[\\\\w]{1,80}\\\\s*\\\\Z')",
        (f"{_TEMPLATES}::test_what_is_no_number_is_refused",),
    ),
    _check(
        "numbers in their range",
        "templates/types.py:_sized.parse",
        "number",
        (f"{_TEMPLATES}::test_what_is_no_number_is_refused",),
    ),
    _call(
        "column names are quoted",
        "templates/functions.py:_name",
        "quote",
        (f"{_TEMPLATES}::test_a_column_to_sort_by_is_a_name",),
        new="_1",
    ),
    # --- catalog/build.py, deploy/: what does not deploy
    _loop(
        "merging engines keep tenants apart",
        "catalog/build.py:_merged_away",
        "columns",
        ("tests/deploy/test_deploy.py",),
    ),
    _statement(
        "a definition's tree",
        "tables/ddl_check.py:checked",
        "_check_tree",
        ("tests/attacks/test_ddl.py",),
    ),
    _statement(
        "a definition's tokens",
        "tables/ddl_check.py:checked",
        "_check_tokens",
        ("tests/attacks/test_ddl.py",),
    ),
    # --- api/: what a request may be, what it may see
    _check(
        "length of a URL",
        "api/app.py:RequestFrame.__call__",
        "MAX_URL_BYTES",
        (f"{_PARAMETERS}::test_too_many_and_too_long",),
    ),
    _check(
        "size of a body",
        "api/requests.py:bounded.receive",
        "limit",
        ("tests/api/test_bodies.py::test_a_multipart_body_is_bounded_as_a_whole",),
    ),
    _check(
        "two tokens",
        "access/authenticate.py:one_token",
        "TOKEN_AMBIGUOUS",
        ("tests/access/test_authenticate.py", "tests/attacks/test_tokens.py"),
    ),
    _check(
        "two Authorization headers",
        "access/authenticate.py:bearer_tokens",
        "TOKEN_AMBIGUOUS",
        ("tests/access/test_authenticate.py", "tests/attacks/test_tokens.py"),
    ),
    # --- access/: what is a token (attacks A)
    _check(
        "header fields of a JWT",
        "access/jwt.py:verify",
        "typ.upper",
        ("tests/access/test_jwt.py",),
    ),
    _operand(
        "header fields of a signed JWT",
        "access/jwt.py:signed_header",
        "header.keys",
        (f"{_TOKENS}::test_refused",),
    ),
    _check(
        "one text for one token",
        "access/jwt.py:_decoded",
        "rstrip",
        ("tests/access/test_jwt.py::test_a21_no_segment_has_a_second_text",),
    ),
    _body(
        "an unknown kid is no key",
        "access/jwks.py:KeySet.find",
        "return self.keys.get((kid, algorithm), next(iter(self.keys.values()), None))",
        ("tests/access/test_jwks.py", f"{_TOKENS}::test_refused"),
    ),
    _check(
        "no private key is taken",
        "access/jwks.py:_read_key",
        "item.keys",
        ("tests/access/test_jwks.py",),
    ),
    _operand(
        "size of an RSA key",
        "access/jwks.py:_read_key",
        "RSA",
        ("tests/access/test_jwks.py",),
        new="False",
    ),
    _check(
        "where keys are fetched",
        "access/jwks.py:check_url",
        "scheme",
        ("tests/access/test_jwks.py",),
    ),
    _statement(
        "audience of a provider's token",
        "access/keyring.py:Keyring.issuers_for",
        "accepts_audience",
        ("tests/access/test_issuers.py",),
    ),
    _check(
        "a token for two registrations is for none",
        "access/keyring.py:Keyring.issuers_for",
        "found",
        (f"{_TOKENS}::test_a15_another_workspace_cannot_register_the_same_tokens",),
        new="True",
    ),
    _check(
        "registrations that can be told apart",
        "access/issuers.py:check_unambiguous",
        "KEY_CONFLICT",
        ("tests/access/test_issuers.py",),
    ),
    _call(
        "a provider's token says no scopes",
        "access/jwt.py:_verify_signed",
        "translated",
        ("tests/access/test_issuers.py",),
        new="meaning",
    ),
    _check(
        "a provider's token of another workspace",
        "access/jwt.py:_verify_signed",
        "claims.get",
        ("tests/access/test_issuers.py",),
    ),
    _check(
        "a mapped claim has a value",
        "access/issuers.py:_claim",
        "_ABSENT",
        ("tests/access/test_issuers.py",),
        new="value is _ABSENT",
    ),
    _check(
        "keys that are too old, remembered",
        "access/jwt.py:Verified.check_time",
        "keys_until",
        ("tests/access/test_issuers.py::test_keys_that_are_too_old_count_for_nothing",),
    ),
    _check(
        "memory of one keyring",
        "access/authenticate.py:Authenticator.check",
        "self._keyring",
        ("tests/access/test_authenticate.py", "tests/access/test_issuers.py"),
        new="self._keyring is None",
    ),
    _entry(
        "redirects of a key server",
        "access/fetch.py:fetch_json",
        "allow_redirects",
        ("tests/access/test_fetch.py",),
        new="True",
    ),
    _check(
        "size of a key set",
        "access/fetch.py:fetch_json",
        "MAX_BYTES",
        ("tests/access/test_fetch.py",),
    ),
    _operand(
        "how often a key server is asked",
        "access/fetch.py:FetchedKeys.learn",
        "self._tried.get",
        ("tests/access/test_fetch.py",),
    ),
    _entry(
        "patience with a key server",
        "access/fetch.py:FetchedKeys.learn",
        "timeout",
        ("tests/access/test_fetch.py",),
        new="None",
    ),
    _call(
        "only registered key servers",
        "access/fetch.py:FetchedKeys.learn",
        "intersection",
        ("tests/access/test_fetch.py",),
        new="_1",
    ),
    _operand(
        "an empty environment is none",
        "access/claims.py:read_environment",
        "MAX_ENVIRONMENT is_resource_name",
        (f"{_TOKENS}::test_refused",),
    ),
    _check(
        "an admin's token is an admin's to make",
        "api/tokens.py:_check_scopes",
        "ADMIN_REQUIRED",
        ("tests/api/test_tokens.py::test_who_may_manage_tokens_cannot_become_an_admin",),
    ),
    _operand(
        "an admin's token is an admin's to see",
        "api/tokens.py:_may_manage",
        "_makes_an_admin",
        ("tests/api/test_tokens.py::test_who_may_manage_tokens_cannot_become_an_admin",),
    ),
    _call(
        "the values of a token stand in each line",
        "ingest/segment.py:Segment.with_values",
        "replace",
        ("tests/attacks/test_fixed_values.py::test_g03_tenants_in_one_segment_keep_their_own_values",),
        new="payload[:-1]",
    ),
    _expression(
        "a line's values are those before its row",
        "ingest/values.py:ByLine.lines",
        "len(self.mark) + 1",
        ("tests/attacks/test_fixed_values.py::test_g03_g04_the_token_wins_over_the_body",),
        new="1",
    ),
    _check(
        "a fixed value that fits its column",
        "ingest/field.py:fixed_field",
        "settable is_list",
        ("tests/attacks/test_fixed_values.py::test_what_a_column_cannot_be_fixed_to_is_refused_and_stops_nobody",),
    ),
    _operand(
        "pipes that a token may list",
        "api/pipes.py:pipes",
        "may_read_pipe",
        (f"{_OUTPUTS}::test_a_tenants_document_lists_what_it_may_call",),
    ),
    _operand(
        "pipes that a token may look at",
        "api/pipes.py:pipe",
        "may_read_pipe",
        (f"{_OUTPUTS}::test_a_tenants_document_lists_what_it_may_call",),
    ),
    _operand(
        "endpoints in a token's document",
        "api/pipes.py:openapi",
        "may_read_pipe",
        (f"{_OUTPUTS}::test_a_tenants_document_lists_what_it_may_call",),
    ),
    _check(
        "a tenant sees no SQL",
        "api/pipes.py:_shown",
        "is_tenant",
        (f"{_OUTPUTS}::test_no_route_shows_a_tenant_anything_of_another",),
    ),
    _check(
        "a tenant sees no counts of a table",
        "api/datasources.py:datasources",
        "is_tenant",
        (f"{_OUTPUTS}::test_a_tenants_document_lists_what_it_may_call",),
    ),
    _statement(
        "SQL is explained to admins",
        "api/explain.py:explain",
        "require_admin",
        ("tests/api/test_explain.py::test_nobody_else_sees_one", f"{_CONTROL}::test_a_token_opens_its_own_doors_only"),
    ),
    _statement(
        "deploys need their scope",
        "api/deployments.py:_deploy",
        "grants.deploy",
        (f"{_CONTROL}::test_a_token_opens_its_own_doors_only",),
    ),
    _check(
        "names of a deploy's files",
        "api/deployments.py:_relative",
        "BODY_INVALID",
        (f"{_CONTROL}::test_a_file_name_stays_in_the_project",),
    ),
    _check(
        "a file is sent once",
        "api/deployments.py:_files",
        "BODY_INVALID",
        (f"{_CONTROL}::test_one_file_has_one_text",),
    ),
    _check(
        "links out of a project",
        "datafiles/layout.py:_read",
        "outside",
        ("tests/datafiles/test_project.py::test_a_link_out_of_the_project_is_refused_and_never_read",),
    ),
    _expression(
        "sniffing is off",
        "api/app.py:RequestFrame.__call__.framed",
        'put(headers, b"x-content-type-options", b"nosniff")',
        (f"{_OUTPUTS}::test_a_cell_is_its_value_in_every_format",),
        new="None",
    ),
    # --- api/listen.py: where a request begins and ends
    _check(
        "an upgrade is no end of a request",
        "api/listen.py:_BoundedProtocol.on_headers_complete",
        "should_upgrade",
        (f"{_HTTP}::test_an_upgrade_does_not_end_the_request_before_its_body",),
    ),
    _check(
        "a trailer is no header",
        "api/listen.py:_BoundedProtocol.on_header",
        "_in_head",
        (f"{_HTTP}::test_a_trailer_is_no_header",),
    ),
    _check(
        "number of headers",
        "api/listen.py:_BoundedProtocol.on_header",
        "_MAX_HEADERS",
        (f"{_HTTP}::test_a_request_that_two_programs_could_read_differently_is_refused",),
    ),
    _check(
        "size of the headers",
        "api/listen.py:_BoundedProtocol._take",
        "_MAX_HEAD_BYTES",
        (f"{_HTTP}::test_a_request_that_two_programs_could_read_differently_is_refused",),
    ),
    _check(
        "one Host",
        "api/listen.py:_BoundedProtocol._check_head",
        "hosts",
        (f"{_HTTP}::test_a_request_that_two_programs_could_read_differently_is_refused",),
        new="version not in ('1.0', '1.1')",
    ),
    _operand(
        "no HTTP/0.9",
        "api/listen.py:_BoundedProtocol._check_head",
        "1.0",
        (f"{_HTTP}::test_a_request_that_two_programs_could_read_differently_is_refused",),
    ),
    _check(
        "one Transfer-Encoding",
        "api/listen.py:_BoundedProtocol._check_head",
        "codings",
        (f"{_HTTP}::test_a_request_that_two_programs_could_read_differently_is_refused",),
    ),
    _statement(
        "time for the headers and the body",
        "api/listen.py:_BoundedProtocol._look",
        "_give_up",
        ("tests/api/test_listen.py::test_a_client_that_owes_its_request_is_not_waited_for",),
    ),
    _body(
        "one pipelined request at a time",
        "api/listen.py:_BoundedProtocol._is_busy",
        "return False",
        ("tests/api/test_listen.py::test_pipelined_requests_are_answered_one_after_the_other", f"{_MEMORY}"),
    ),
    _check(
        "pipelined bytes are bounded in all",
        "api/listen.py:_BoundedProtocol._hold",
        "_MAX_HELD_BYTES",
        ("tests/api/test_listen.py::test_what_is_pipelined_is_bounded_in_all",),
    ),
    _statement(
        "who takes nothing of an answer is cut off",
        "api/listen.py:_BoundedProtocol.cut_if_unread",
        "abort",
        ("tests/api/test_listen.py::test_who_takes_nothing_of_an_answer_is_cut_off",),
    ),
    _statement(
        "no body is asked for that nobody reads",
        "api/listen.py:_BoundedProtocol.on_headers_complete",
        "waiting_for_100_continue",
        (f"{_HTTP}::test_a_read_does_not_ask_for_a_body",),
    ),
    _call(
        "the length of events is looked at first",
        "api/events.py:events",
        "bounded",
        (f"{_HTTP}::test_nobody_is_told_to_send_a_body_that_will_be_refused",),
        new="_1",
    ),
    _check(
        "memory of answers that wait is bounded",
        "query/held.py:Store.reserve_memory",
        "in_memory",
        (f"{_MEMORY}::test_answers_under_a_policy_that_nobody_reads", "tests/query/test_held.py"),
    ),
    _check(
        "files of answers that wait are bounded for one token",
        "query/held.py:Store.reserve_file",
        "TOO_MUCH_AT_ONCE",
        ("tests/query/test_held.py",),
    ),
    _check(
        "files of answers that wait are bounded in all",
        "query/held.py:Store.reserve_file",
        "sum",
        ("tests/query/test_held.py",),
    ),
    _statement(
        "an answer is counted until its last byte",
        "query/read.py:Reader.open",
        "held",
        ("tests/query/test_held.py",),
    ),
    _entry(
        "no trust in what a proxy says",
        "api/listen.py:Listener.__init__",
        "proxy_headers",
        (f"{_HTTP}::test_the_address_of_a_request_changes_nothing",),
        new="True",
    ),
    # --- demo: the look inside of `pipit serve --demo`
    _operand(
        "demo: not through a proxy",
        "demo/guard.py:check_local",
        "straight",
        (f"{_DEMO}::test_i14_another_site_is_refused_even_with_the_admin_token",),
    ),
    _check(
        "an error does not quote a secret",
        "query/disclosure.py:quietly",
        "holds_secret",
        (f"{_SECRETS}::test_an_error_does_not_quote_a_secret",),
    ),
    _statement(
        "a job's error does not quote a secret",
        "query/read.py:Reader.write",
        "quietly",
        (f"{_SECRETS}::test_a_jobs_error_does_not_quote_a_secret",),
    ),
    _statement(
        "what a job reads is for who may run jobs",
        "query/queries.py:NodeQuery.compose",
        "run_jobs",
        ("tests/query/test_planner.py::test_a_tenant_reads_nothing_as_a_job",),
    ),
    _call(
        "a job's condition narrows",
        "query/secure.py:narrowed",
        "combine",
        ("tests/query/test_secure.py::test_a_condition_of_a_job_never_widens_a_filter",),
        new="text",
    ),
    _entry(
        "filters of what a job reads",
        "query/read.py:Reader.write",
        "settings",
        ("tests/jobs/test_one_way_to_read.py::test_a_job_reads_through_the_place_where_filters_are_applied",),
        new="{**plan.settings, **into.settings, 'additional_table_filters': '{}'}",
    ),
    _statement(
        "an open data directory is closed",
        "cli/instance.py:_close",
        "chmod",
        (f"{_SECRETS}::test_a_folder_is_closed_when_it_is_held",),
    ),
    _statement(
        "the server's files are its owner's",
        "cli/instance.py:hold",
        "umask",
        (f"{_SECRETS}::test_a_data_directory_that_is_open_is_closed",),
    ),
    _statement(
        "the engine's files are its owner's",
        "engine/embedded/child.py:main",
        "umask",
        (f"{_SECRETS}::test_the_engine_closes_its_files_itself",),
    ),
    _statement(
        "a part of an admin token is no token",
        "cli/instance.py:server_token",
        "_check_whole",
        (f"{_SECRETS}::test_a_part_of_an_admin_token_is_no_token",),
    ),
    _call(
        "secrets are encrypted at rest",
        "catalog/state.py:State._sealed",
        "seal",
        (f"{_SECRETS}::test_secrets_are_encrypted_at_rest",),
        new="(_1, '')",
    ),
    _check(
        "what was kept plainly is encrypted",
        "catalog/state.py:State.prepare",
        "stale",
        (f"{_SECRETS}::test_what_was_kept_plainly_is_encrypted_at_the_start",),
    ),
    _body(
        "an encrypted secret is its row's",
        "catalog/state.py:_row_key",
        "return [table, '']",
        ("tests/catalog/test_sealing.py::test_rows_that_are_exchanged_are_no_secrets",),
    ),
    _entry(
        "the engine's process gets no key",
        "engine/embedded/supervisor.py:Supervisor._start_child",
        "env",
        (f"{_SECRETS}::test_secrets_are_encrypted_at_rest",),
        new="dict(os.environ)",
    ),
    _check(
        "demo: loopback only",
        "demo/page.py:demo_routes",
        "looks_inside",
        (f"{_DEMO}::test_j05_it_is_not_there_without_the_flag_or_on_another_address",),
        new="True",
    ),
    _statement(
        "demo: admin only",
        "demo/inspect.py:inspect",
        "require_admin",
        (f"{_DEMO}::test_j07_nobody_but_the_admin",),
    ),
    _check(
        "demo: Host",
        "demo/guard.py:check_site",
        "_is_address",
        ("tests/demo/test_page.py::test_a_name_that_points_here_gets_no_tokens",),
    ),
    _operand(
        "demo: Origin",
        "demo/guard.py:check_site",
        "origins",
        (f"{_DEMO}::test_i14_another_site_is_refused_even_with_the_admin_token",),
        new="False",
    ),
    _check(
        "demo: this machine only",
        "demo/guard.py:check_local",
        "local",
        (f"{_DEMO}::test_j07_another_machine_is_refused",),
        new="not straight",
    ),
    # --- query/plan.py, query/queries.py: plans that are remembered
    _entry(
        "remembered plans: whose",
        "query/plan.py:_key",
        "security",
        (f"{_PLANS}::test_each_token_has_plans_of_its_own", f"{_PLANS}::test_who_may_not_read_is_refused_whoever_asked_before"),
    ),
    _entry(
        "remembered plans: of which snapshot",
        "query/plan.py:_key",
        "snapshot",
        (f"{_PLANS}::test_a_deployment_is_planned_anew", f"{_PLANS}::test_a_secret_is_this_moments"),
    ),
    _expression(
        "remembered plans: of which values",
        "query/queries.py:PipeQuery.key",
        "tuple(sent)",
        (f"{_PLANS}::test_every_read_gets_what_it_asked_for",),
        new="()",
    ),
    _check(
        "remembered plans: of texts only",
        "query/queries.py:PipeQuery.key",
        "type",
        (f"{_PLANS}::test_values_that_are_no_texts_are_not_remembered",),
    ),
    # --- engine/embedded/connections.py: settings that a connection starts with
    _operand(
        "a connection starts with values that its URL carries",
        "engine/embedded/connections.py:Connections._split_anew",
        "_IN_URL",
        (f"{_SERVER}::test_a_setting_is_what_was_sent", f"{_SERVER}::test_a_filter_is_what_was_sent"),
    ),
    _operand(
        "a connection starts with settings only",
        "engine/embedded/connections.py:Connections._split_anew",
        "_in_url",
        (f"{_SERVER}::test_a_name_that_is_no_setting_is_refused",),
    ),
    # --- query/cache.py, query/log.py: what is kept of reads
    _entry(
        "cache key: workspace",
        "query/cache.py:_everything_of",
        "id",
        (f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",),
    ),
    _entry(
        "cache key: environment",
        "query/cache.py:_everything_of",
        "database_id",
        (f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",),
    ),
    _entry(
        "cache key: database",
        "query/cache.py:_everything_of",
        "database",
        (f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",),
    ),
    _entry(
        "cache key: deployment",
        "query/cache.py:_everything_of",
        "edition",
        (f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",),
    ),
    _entry(
        "cache key: statement",
        "query/cache.py:_everything_of",
        "sql",
        (
            f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",
            f"{_CACHE}::test_f05_a_request_changes_no_other_requests_template",
        ),
    ),
    _entry(
        "cache key: bound values",
        "query/cache.py:_everything_of",
        "bind",
        (
            f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",
            f"{_KEY}::test_a_new_secret_keeps_no_old_answer",
        ),
    ),
    _entry(
        "cache key: filters",
        "query/cache.py:_everything_of",
        "plan.filters.items",
        (f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",),
    ),
    _entry(
        "cache key: settings",
        "query/cache.py:_everything_of",
        "plan.settings.items",
        (f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",),
    ),
    _entry(
        "cache key: format",
        "query/cache.py:_everything_of",
        "format",
        (
            f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",
            f"{_KEY}::test_an_endpoint_with_a_ttl_answers_as_it_did",
        ),
    ),
    _entry(
        "cache key: whose it is",
        "query/cache.py:_everything_of",
        "_reader",
        (
            f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",
            f"{_CACHE}::test_e10_no_tenant_can_tell_what_another_asked",
        ),
    ),
    _check(
        "cache key: a token without claims",
        "query/cache.py:_reader",
        "context",
        (
            f"{_KEY}::test_whatever_reaches_the_engine_is_in_the_key",
            f"{_CACHE}::test_e10_no_tenant_can_tell_what_another_asked",
        ),
        new="True",
    ),
    _value(
        "cache: errors about the leader",
        "query/cache.py:_OF_THE_STATEMENT",
        "(PipitError,)",
        (f"{_KEY}::test_an_error_about_the_leader_is_the_leaders_alone",),
    ),
    _check(
        "cache: one answer's size",
        "query/cache.py:Cache._lead",
        "_max_answer",
        (f"{_KEY}::test_a_larger_answer_passes_through_whole_and_is_not_kept",),
    ),
    _entry(
        "engine's own caches off",
        "query/limits.py:_BASE",
        "use_query_cache use_query_condition_cache",
        (
            f"{_CACHE}::test_f11_the_engines_query_cache_is_off",
            f"{_CACHE}::test_e13_the_query_condition_cache_carries_nothing_over",
        ),
    ),
    _expression(
        "answers are private",
        "api/app.py:RequestFrame.__call__.framed",
        'headers.append((b"cache-control", b"private, no-store"))',
        (f"{_CACHE}::test_f09_shared_caches_on_the_way_are_told_to_keep_nothing",),
        new="None",
    ),
    _statement(
        "answers vary by token",
        "api/app.py:RequestFrame.__call__.framed",
        "vary",
        (f"{_CACHE}::test_f09_shared_caches_on_the_way_are_told_to_keep_nothing",),
    ),
    _body(
        "audit log: not for tenants",
        "query/secure.py:check_services",
        "return",
        (
            f"{_CACHE}::test_j17_a_tenant_does_not_read_it",
            f"{_CACHE}::test_j17_without_policies_a_tenants_claims_are_enough_to_refuse",
        ),
    ),
    _check(
        "audit log: what is copied from it",
        "query/secure.py:_filter_of",
        "SERVICES.keys",
        (f"{_LOG}::test_what_a_copy_makes_of_it_is_no_tenants",),
    ),
    _statement(
        "audit log: templates that name it",
        "catalog/lineage.py:tables_read",
        "found.update",
        (f"{_CLASSIC}::test_policies_of_shared_data_sources_confine_like_others",),
    ),
    _operand(
        "shared data sources: no other workspace's name means an own table",
        "catalog/snapshot.py:Snapshot.resolve",
        "workspace",
        (f"{_CLASSIC}::test_a_name_with_a_dot_never_means_another_workspace",),
    ),
    _statement(
        "Classic's targets: examined before they are described",
        "deploy/targets.py:_Making._columns",
        "examine",
        (f"{_CLASSIC}::test_a_target_that_cannot_be_made_is_an_error_of_its_node",),
    ),
    _check(
        "audit log: no views of it",
        "deploy/views.py:views_of",
        "tables",
        (f"{_LOG}::test_no_view_is_fed_by_it",),
    ),
    _operand(
        "audit log: URL masked",
        "query/log.py:shown_url",
        "q _is_secret",
        (
            f"{_LOG}::test_shown_url",
            f"{_CACHE}::test_j17_no_token_no_sql_no_row_of_anybody",
        ),
        new="False",
    ),
    _check(
        "audit log: parameters masked",
        "query/log.py:_parameters",
        "_is_secret",
        (
            f"{_LOG}::test_what_looks_secret_is_masked",
            f"{_CACHE}::test_j17_no_token_no_sql_no_row_of_anybody",
        ),
    ),
    _check(
        "audit log: context masked",
        "query/log.py:_masked",
        "_is_secret",
        (f"{_LOG}::test_a_tenants_read",),
    ),
    _statement(
        "audit log: tokens under other names",
        "query/log.py:_shown",
        "_TOKEN.sub",
        (
            f"{_LOG}::test_what_looks_secret_is_masked",
            f"{_CACHE}::test_j17_no_token_no_sql_no_row_of_anybody",
        ),
    ),
    _check(
        "audit log: not the engine's text",
        "query/log.py:_message",
        "is_engines",
        (f"{_CACHE}::test_j17_no_token_no_sql_no_row_of_anybody",),
    ),
    _statement(
        "audit log: masked values in messages",
        "query/log.py:_message",
        "text.replace",
        (f"{_LOG}::test_what_looks_secret_is_masked",),
    ),
    # --- environments: one token, one database
    _call(
        "environment: the token's",
        "api/requests.py:viewer_of",
        "server.catalog.snapshot",
        (f"{_ENVIRONMENTS}::test_appends_land_in_the_token_s_environment",),
        new="server.catalog.snapshot(_1)",
    ),
    _call(
        "environment: one that is there",
        "catalog/catalog.py:Catalog.snapshot",
        "self._snapshots.get",
        (f"{_ENVIRONMENTS}::test_there_is_one_answer_for_every_unknown_environment",),
        new="_call or self._snapshots.get((workspace_id, ''))",
    ),
    _call(
        "environment: of the token's workspace",
        "catalog/catalog.py:Catalog.snapshot",
        "self._snapshots.get",
        (f"{_ENVIRONMENTS}::test_there_is_one_answer_for_every_unknown_environment",),
        new="_call or next((found for key, found in self._snapshots.items() if key[1] == environment), None)",
    ),
    _check(
        "environment: token and snapshot agree",
        "query/planner.py:Planner.draft",
        "environment",
        (f"{_ENVIRONMENTS}::test_a_read_refuses_a_snapshot_of_another_environment",),
    ),
    _entry(
        "environment: statements are remembered for their place",
        "query/compose.py:Composer._prepare",
        "snapshot.workspace.database_id",
        (f"{_ENVIRONMENTS}::test_a_token_reads_its_own_environment",),
        new="snapshot.workspace.id",
    ),
    _statement(
        "environment: tables of the snapshot only",
        "query/secure.py:filters_for",
        "check_database",
        (f"{_ENVIRONMENTS}::test_a_statement_of_another_place_does_not_run",),
    ),
    _call(
        "environment: each table's own lineage",
        "catalog/build.py:in_database",
        "derived",
        (f"{_ENVIRONMENTS}::test_each_place_remembers_where_its_own_rows_are_from",),
        new="_call if any(names.views) else {name: table.sources for name, table in snapshot.tables.items()}",
    ),
    _entry(
        "environment: idempotency keys",
        "ingest/keys.py:key_hash",
        "database",
        (f"{_ENVIRONMENTS}::test_an_idempotency_key_means_something_in_one_environment_only",),
    ),
    _operand(
        "environment: its admin manages nothing",
        "access/context.py:SecurityContext.manages_workspace",
        "environment",
        (f"{_ENVIRONMENTS}::test_an_admin_of_an_environment_manages_nothing",),
    ),
    _operand(
        "environment: its scopes manage nothing",
        "access/grants.py:_manages",
        "environment",
        (f"{_ENVIRONMENTS}::test_an_admin_of_an_environment_manages_nothing",),
    ),
    _check(
        "environment: the workspace's secrets",
        "query/queries.py:SqlQuery.compose",
        "manages_workspace",
        (f"{_ENVIRONMENTS}::test_an_admin_of_an_environment_manages_nothing",),
        new="True",
    ),
    _check(
        "environment: its tokens stay its own",
        "api/tokens.py:_may_manage",
        "environment",
        (f"{_ENVIRONMENTS}::test_an_admin_of_an_environment_manages_nothing",),
    ),
    _expression(
        "environment: a database's name is used once",
        "catalog/catalog.py:Catalog._free_database",
        "taken",
        (
            f"{_ENVIRONMENTS}::test_two_names_never_make_one_database",
            f"{_ENVIRONMENTS}::test_the_name_of_a_deleted_environment_finds_nothing_of_it",
        ),
        new="()",
    ),
    _entry(
        "environment: limits",
        "access/limits.py:RateLimiter._count",
        "security.environment",
        (f"{_ENVIRONMENTS}::test_a_limit_tells_nothing_of_another_environment",),
        new="''",
    ),
    # --- tenant SQL: what a tenant may write itself
    _check(
        "tenant SQL is off",
        "query/tenant_sql.py:require",
        "SQL_NOT_FOR_TENANTS",
        (f"{_SQL}::test_off_unless_the_workspace_turns_it_on",),
    ),
    _check(
        "tenant SQL reads what scopes name",
        "access/grants.py:read_named",
        "scopes_for",
        (f"{_SQL}::test_d01_to_d32_what_a_text_may_not_be",),
    ),
    _check(
        "tenant SQL reads what is guarded",
        "query/tenant_sql.py:_check_guarded",
        "TENANT_SQL_REFUSED",
        (f"{_SQL}::test_d01_to_d32_what_a_text_may_not_be",),
    ),
    _operand(
        "tenant SQL after the filter",
        "query/limits.py:tenant_sql_settings",
        "FILTER_FIRST",
        (f"{_SQL}::test_e01_e02_d27_no_answer_depends_on_others",),
    ),
    _check(
        "one answer to a tenant's text",
        "query/disclosure.py:for_reader",
        "told",
        (f"{_SQL}::test_e04_e05_nothing_beside_the_rows",),
        new="True",
    ),
    _entry(
        "functions for tenants by list",
        "sql/tenant.py:check_tenant_trees",
        "tenant",
        (f"{_SQL}::test_d13_every_function_of_the_engine",),
    ),
    _loop(
        "table functions for tenants by list",
        "sql/tenant.py:check_tenant_trees",
        "TENANT_TABLE_FUNCTIONS",
        (f"{_SQL}::test_d13_every_table_function_of_the_engine",),
    ),
    _check(
        "formats for tenants by list",
        "query/tenant_sql.py:compose",
        "TENANT_FORMATS",
        (f"{_SQL}::test_d13_d17_every_setting_and_format_of_the_engine",),
    ),
    _check(
        "tenants read declared columns",
        "sql/tenant.py:_check_nodes",
        "_declared",
        (f"{_SQL}::test_d01_to_d32_what_a_text_may_not_be",),
        together_with=("tables behind a barrier",),
    ),
    _check(
        "FINAL only by the filter's key",
        "query/tenant_sql.py:_check_final",
        "used",
        (f"{_SQL}::test_d27_final_would_merge_before_the_filter",),
    ),
    _entry(
        "memory of a tenant's text",
        "query/limits.py:tenant_sql_settings",
        "max_memory_usage",
        (f"{_SQL}::test_d30_memory_is_bounded_where_nothing_else_is_used_up",),
    ),
    # --- tables that say nothing about tenants
    _check(
        "required policies at a read",
        "query/secure.py:_check_stated",
        "POLICY_REQUIRED",
        (f"{_POLICY_CHECKS}::test_a_read_is_refused_where_a_deploy_was_not",),
    ),
    _check(
        "required policies at a deploy",
        "deploy/validate.py:validate",
        "require_policies",
        (f"{_POLICY_CHECKS}::test_a_deploy_names_each_table_that_says_nothing",),
    ),
    _check(
        "required policies over what is deployed",
        "catalog/catalog.py:Catalog.put_settings",
        "require_policies",
        (f"{_POLICY_CHECKS}::test_it_cannot_be_turned_on_over_what_is_deployed",),
    ),
    _entry(
        "joins not swapped by the sizes of tables",
        "engine/defaults.py:DEFAULTS",
        "query_plan_join_swap_table",
        ("tests/audit/test_prove.py::test_the_sizes_of_tables_do_not_move_rows",),
    ),
    _entry(
        "joins not reordered by the sizes of tables",
        "engine/defaults.py:DEFAULTS",
        "query_plan_optimize_join_order_limit",
        ("tests/audit/test_prove.py::test_the_sizes_of_tables_do_not_move_rows",),
    ),
    _check(
        "no text beside a number in a policy",
        "access/policy_types.py:check_policy_types",
        "_number_beside",
        ("tests/access/test_policy.py::test_a_number_is_not_compared_with_a_text",),
    ),
    _check(
        "a policy's value stands beside comparisons only",
        "access/policy_types.py:_check_place",
        "_AFTER",
        ("tests/access/test_policy_types.py::test_a_value_stands_where_it_is_compared_as_what_it_is",),
    ),
    _check(
        "a policy's value in reviewed functions only",
        "access/policy_types.py:_check_place",
        "FUNCTIONS",
        ("tests/access/test_policy_types.py::test_a_value_stands_where_it_is_compared_as_what_it_is",),
    ),
    _check(
        "no text beside an Enum in a policy",
        "access/policy_types.py:check_policy_types",
        "_is_text",
        ("tests/access/test_policy_types.py::test_a_value_stands_where_it_is_compared_as_what_it_is",),
    ),
    _check(
        "a policy's dates in the engine's range",
        "access/values.py:_date",
        "fromisoformat",
        ("tests/access/test_policy_types.py::test_a_value_that_would_become_another_one_is_refused",),
    ),
    _check(
        "a policy's fractions of a second",
        "access/values.py:_date",
        "_FIRST_64",
        ("tests/access/test_policy_types.py::test_a_value_that_would_become_another_one_is_refused",),
    ),
    _check(
        "a policy's whole numbers as floats",
        "access/values.py:_check_exact",
        "exact",
        ("tests/access/test_policy_types.py::test_a_value_that_would_become_another_one_is_refused",),
    ),
    _check(
        "a policy's dates beside their own columns",
        "access/policy.py:_Compiler._dated",
        "digits",
        ("tests/access/test_policy_types.py::test_a_date_stands_beside_a_column_that_holds_it",),
    ),
    _check(
        "policies are tried with texts that are not converted",
        "deploy/policies.py:_converts",
        "_CONVERTED",
        ("tests/access/test_policy_types.py::test_a_text_that_the_engine_converts_is_found_at_deploy",),
    ),
    # --- the audit, and deploys that it stops
    _check(
        "weaker deploys",
        "api/deployments.py:_deploy",
        "allow_weaker",
        ("tests/audit/test_audit_certificate.py::test_a_weaker_project_is_deployed_only_where_that_is_said",),
        new="True",
    ),
    _check(
        "weaker rollbacks",
        "deploy/deployer.py:Deployer.rollback",
        "weaker",
        (f"{_DEPLOYMENTS}::test_no_rollback_past_a_row_policy",),
    ),
    _body(
        "no token comes back",
        "deploy/execute.py:Executor._with_tokens",
        "return row",
        (f"{_DEPLOYMENTS}::test_a_rollback_brings_no_token_back",),
    ),
    _body(
        "words go before a rollback",
        "deploy/execute.py:_without_words",
        "return []",
        (f"{_DEPLOYMENTS}::test_a_rollback_leaves_no_words_of_other_tenants",),
    ),
    _check(
        "weaker than what is live then",
        "deploy/deployer.py:Deployer.deploy",
        "regressions",
        ("tests/audit/test_audit_certificate.py::test_a_weaker_project_is_deployed_only_where_that_is_said",),
    ),
    _check(
        "a policy's columns are filled as before",
        "audit/certificate.py:_compare_filling",
        "column",
        ("tests/audit/test_audit_certificate.py",),
    ),
    _check(
        "views fill policed tables as before",
        "audit/certificate.py:_compare_filling",
        "was.filled_by.get",
        ("tests/audit/test_audit_certificate.py",),
    ),
    _call(
        "views that mix tenants",
        "audit/examination.py:examine",
        "of_fillers",
        ("tests/audit/test_audit_findings.py::test_found_where_it_is",),
        new="()",
    ),
    _call(
        "conditions around a fixed parameter, together",
        "audit/branches.py:_try_all",
        "_try_together around",
        ("tests/audit/test_audit_findings.py::test_found_where_it_is",),
        new="True",
    ),
    _entry(
        "constants that conditions name, together",
        "audit/branches.py:_try_all",
        "inputs.literals.get",
        ("tests/audit/test_audit_findings.py::test_found_where_it_is",),
    ),
    _statement(
        "stuck statements end with their process",
        "engine/embedded/running.py:Threads._end",
        "call_at",
        ("tests/engine/test_supervisor.py::"
         "test_a_statement_that_cannot_be_interrupted_does_not_outlive_its_limit_for_long",),
    ),
    _statement(
        "what hung is not asked again at once",
        "query/read.py:_Observed.__enter__",
        "check",
        ("tests/query/test_hang_breaker.py",),
    ),
    _check(
        "a scope is what it means",
        "access/tokens.py:parse_scope",
        "SCOPE_INVALID",
        ("tests/attacks/test_control.py::test_no_token_makes_itself_a_greater_one",),
    ),
    _check(
        "tables behind a barrier",
        "query/barriers.py:barriers_for",
        "all_of_it",
        ("tests/attacks/test_dictionaries.py", f"{_MIXED}::test_no_key_and_no_type_of_a_hidden_value_shows"),
    ),
    _operand(
        "values of several types are made anew",
        "sql/barrier.py:is_mixed",
        "_MIXED.search",
        (f"{_MIXED}::test_no_key_and_no_type_of_a_hidden_value_shows",),
        new="False",
    ),
    _statement(
        "no answer from what a part knows of a column, for endpoints",
        "query/planner.py:Planner._secured",
        "WHOLE_COLUMNS",
        (f"{_MIXED}::test_no_key_and_no_type_of_a_hidden_value_shows",),
    ),
    _check(
        "a filter's mixed columns are converted",
        "query/secure.py:filters_for",
        "mixed",
        (f"{_MIXED}::test_a_policy_on_a_json_key_or_a_dynamic_column", f"{_MIXED}::test_a_tokens_filter_on_a_json_key"),
    ),
    _call(
        "no SAMPLE by a number of rows",
        "query/examine.py:_tells_of_others",
        "counted_sample",
        (f"{_MIXED}::test_sample_by_a_number_of_rows_would_count_the_others",),
        new="''",
    ),
    _expression(
        "tenants do not call what barriers call",
        "sql/tenant.py:check_tenant_text",
        "BARRIER_FUNCTIONS",
        (f"{_MIXED}::test_a_tenant_does_not_call_what_barriers_call",),
        new="()",
    ),
    _statement(
        "a parameter that is fixed cannot be switched off",
        "deploy/validate.py:validate",
        "removable_conditions",
        ("tests/attacks/test_parameters.py::test_a_filter_that_a_request_could_switch_off",),
    ),
    _operand(
        "conditions that the engine folds by value",
        "audit/confinement.py:reads_of",
        "_folds",
        ("tests/audit/test_audit_confinement.py::test_not_confined",),
    ),
    _operand(
        "rows that were mixed before the condition",
        "audit/confinement.py:_Walk.query",
        "_passes",
        ("tests/audit/test_audit_confinement.py::test_not_confined",),
    ),
    _call(
        "the side that an outer join keeps whole",
        "audit/confinement.py:_Walk.spread",
        "get frozenset",
        ("tests/audit/test_audit_confinement.py::test_not_confined",),
        new="left | right",
    ),
    # --- ingest/, access/: what a write says, and whom it stops
    _entry(
        "a view's error is a detail",
        "ingest/load.py:ViewFailed.__init__",
        "hint",
        (f"{_WRITES}::test_k32_a_refused_write_tells_the_engines_words_to_who_may_read_all_rows",),
        new="failure.message[:300]",
    ),
    _operand(
        "details are for who may read all rows",
        "access/refusals.py:_without_detail",
        "is_admin",
        (f"{_WRITES}::test_k32_a_refused_write_tells_the_engines_words_to_who_may_read_all_rows",),
    ),
    _check(
        "the engine's own message is not for tenants",
        "access/refusals.py:shown_to",
        "hides",
        (f"{_WRITES}::test_k33_an_engines_text_that_comes_through_any_door_is_not_shown_to_a_tenant",),
    ),
    _loop(
        "rows that a view refuses are looked for",
        "ingest/probe.py:Probe.views",
        "_views",
        (
            f"{_ISOLATE}::test_a_row_that_a_view_refuses_keeps_nobody_elses_rows_out_of_it",
            f"{_WRITES}::test_k32_a_good_event_beside_anothers_bad_one_is_told_nothing_of_it",
        ),
    ),
    _expression(
        "requests are asked about before they are stored",
        "ingest/load.py:_from_copy",
        "first_time and bool(suspects or len(segment.frames) > 1)",
        (f"{_ISOLATE}::test_the_first_bad_rows_of_anybody_keep_nobody_waiting_until_single_rows_are_found",),
        new="False",
    ),
    _expression(
        "rows that the engine lost are not taken for stored",
        "ingest/probe.py:Probe.insert",
        "_between(0, self.segment.rows) + without + there",
        (f"{_ISOLATE}::test_rows_that_the_engine_lost_from_memory_are_not_taken_for_stored",),
        new="_between(0, self.segment.rows) + without",
    ),
    _statement(
        "a lone bad row is told from a broken view",
        "ingest/isolate.py:_Search._takes_some",
        "works",
        (f"{_ISOLATE}::test_a_lone_bad_row_is_isolated_if_the_view_takes_what_the_table_has",),
    ),
    # --- templates/: what a value may be
    _check(
        "a Boolean that a token fixes is plain",
        "templates/functions.py:_typed.call",
        "fixed",
        (f"{_TEMPLATES}::test_a_boolean_that_a_token_fixes_is_plain_or_nothing_is_read",),
    ),
    _check(
        "an element of a list is a scalar",
        "templates/types.py:parse_list",
        "JSON",
        ("tests/templates/test_request_values.py",),
    ),
    _check(
        "what is printed keeps its list of methods",
        "templates/expressions.py:_Translator.method",
        "wide",
        (f"{_PYTHON}::test_what_is_printed_keeps_the_list",),
        new="True",
    ),
    _check(
        "methods are looked up in a list",
        "templates/expressions.py:_Translator.wide_method",
        "METHODS",
        (f"{_PYTHON}::test_hints", f"{_PYTHON}::test_a_branch_that_is_not_taken_may_be_bad"),
    ),
    _check(
        "a field of format() is a number or a name",
        "templates/python.py:_format",
        "_FIELD.match",
        (f"{_PYTHON}::test_a_field_of_a_format_is_a_number_or_a_name",),
    ),
    _check(
        "a format of a text takes no width from a value",
        "templates/python.py:_percent",
        "_PERCENT.sub",
        (f"{_PYTHON}::test_formats_read_nothing_and_stay_small",),
    ),
    _check(
        "a format of a value is short",
        "templates/python.py:shaped",
        "_SPEC.match",
        (f"{_PYTHON}::test_formats_read_nothing_and_stay_small",),
    ),
    _check(
        "large numbers in a set are few",
        "templates/python.py:_keys",
        "_FEW",
        (f"{_PYTHON}::test_what_makes_hashes_equal_is_few",),
    ),
    _statement(
        "a width is bounded before the text is made",
        "templates/python.py:_text_method",
        "max",
        (f"{_PYTHON}::test_a_width_is_refused_before_the_text_is_made",),
    ),
    _check(
        "comprehensions and formats only in directives",
        "templates/expressions.py:_Translator.visit",
        "_WIDE",
        (f"{_PYTHON}::test_what_is_printed_keeps_the_list",),
        new="method is None",
    ),
    _check(
        "a request's value names no table on any way",
        "query/secure.py:check_chosen",
        "TABLE_CHOSEN",
        ("tests/attacks/test_chosen.py::test_no_way_leads_from_a_value_to_a_table",),
    ),
    _entry(
        "a text in a JSON column stays a text",
        "ingest/limits.py:JSON_SETTINGS",
        "input_format_try_infer_dates input_format_try_infer_datetimes",
        (f"{_NEIGHBOURS}::test_a_json_value_does_not_hang_on_its_neighbours[without_lists]",),
    ),
    _entry(
        "each JSON value has a type of its own",
        "ingest/limits.py:JSON_LIST_SETTINGS",
        "max_dynamic_subcolumns_in_json_type_parsing",
        (f"{_NEIGHBOURS}::test_a_json_value_does_not_hang_on_its_neighbours[lists]",),
    ),
    _value(
        "lists are seen in texts that a view parses",
        "ingest/segment.py:_LIST_BEGINS",
        "(b'[',)",
        (f"{_NEIGHBOURS}::test_a_json_value_does_not_hang_on_its_neighbours[escaped]",),
    ),
    _expression(
        "each Dynamic value has a type of its own",
        "ingest/cast.py:wide",
        "'Dynamic(max_types=0)'",
        (f"{_NEIGHBOURS}::test_variant_and_dynamic_values_do_not_hang_on_their_neighbours",),
        new="'Dynamic'",
    ),
)

__all__ = ["DEFENCES", "Defence"]
