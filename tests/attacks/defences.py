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
_TEMPLATES = "tests/attacks/test_templates.py"
_OUTPUTS = "tests/attacks/test_outputs.py"
_CONTROL = "tests/attacks/test_control.py"
_HTTP = "tests/attacks/test_http.py"
_ENVIRONMENTS = "tests/attacks/test_environments.py"
_CACHE = "tests/attacks/test_cache.py"
_KEY = "tests/query/test_cache.py"
_LOG = "tests/query/test_log.py"

_FILTER_FIRST = (
    "query_plan_enable_optimizations",
    "optimize_move_to_prewhere",
    "use_primary_key",
    "use_skip_indexes",
    "use_partition_pruning",
)

_SQL = "tests/attacks/test_sql.py"
_REQUIRED = "tests/query/test_required.py"

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
        "lineage is remembered",
        "catalog/lineage.py",
        "    direct = {name: set(remembered.get(table.physical, ())) for name, table in snapshot.tables.items()}",
        "    direct = {name: set[str]() for name in snapshot.tables}",
        (_LINEAGE,),
    ),
    Defence(
        "lineage of computed names",
        "catalog/lineage.py",
        "if current.template is not None and _PRINTS_NAMES.search(current.node.sql):",
        "if False:",
        (_LINEAGE,),
    ),
    Defence(
        "lineage of copies",
        "catalog/lineage.py",
        "            elif node.node.type is NodeType.COPY:\n                target = node.node.target_datasource",
        "",
        (f"{_CHECKS}::test_a_covers_copies_before_they_run",),
    ),
    Defence(
        "quarantine refusal",
        "query/secure.py",
        "    if target.quarantine:",
        "    if False:",
        (f"{_CHECKS}::test_a_quarantine_is_for_its_owner",),
    ),
    Defence(
        "a token's filter is added to the policy",
        "query/secure.py",
        "    if table.policy is not None:\n        conditions.append(",
        "    if table.policy is not None and not conditions:\n        conditions.append(",
        (f"{_CHECKS}::test_a_filter_of_the_token_only_narrows",),
    ),
    Defence(
        "filters in brackets",
        "access/policy.py",
        'return " AND ".join(f"({one})" for one in listed)',
        'return " AND ".join(listed)',
        (f"{_CHECKS}::test_a_filter_of_the_token_only_narrows",),
    ),
    Defence(
        "filters of unknown data sources",
        "query/read.py",
        "        check_scopes(snapshot, security)\n        binder",
        "        binder",
        (f"{_CHECKS}::test_a_filter_on_nothing_is_not_no_filter",),
    ),
    Defence(
        "a filter is one condition",
        "access/filters.py",
        "        check_condition(text)\n    except",
        "        pass\n    except",
        ("tests/access/test_conditions.py", f"{_CHECKS}::test_a_filter_of_the_token_only_narrows"),
    ),
    # --- query/read.py: the order of a read
    Defence(
        "filters",
        "query/read.py",
        '            check_strict(examined)\n            settings["additional_table_filters"] = filter_setting(filters)',
        "            check_strict(examined)",
        (f"{_CHECKS}::test_a_target_with_a_policy_is_filtered", _PARAMETERS),
    ),
    Defence(
        "filter map check",
        "query/read.py",
        "        filters = filters_for(snapshot, security, reads)\n        check_filters(snapshot, security, reads, filters)",
        "        filters = filters_for(snapshot, security, reads)",
        (f"{_CHECKS}::test_b_a_lost_filter_stops_the_query",),
    ),
    Defence(
        "filter map by full name",
        "query/secure.py",
        "and not filters.get(physical):",
        "and not filters:",
        (f"{_CHECKS}::test_b_a_filter_on_another_table_is_no_filter",),
    ),
    Defence(
        "readonly",
        "query/read.py",
        '        settings["readonly"] = 1\n',
        "",
        (f"{_CHECKS}::test_readonly_holds_where_everything_before_it_failed",),
    ),
    Defence(
        "other workspace",
        "query/read.py",
        "if security.workspace_id != snapshot.workspace.id:",
        "if False:",
        (f"{_CHECKS}::test_a_token_of_another_workspace",),
    ),
    Defence(
        "uniform errors",
        "query/read.py",
        "    if not isinstance(error, SqlError):\n        return error",
        "    if error:\n        return error",
        (f"{_CHECKS}::test_a_tenant_gets_one_text_for_every_failure",),
    ),
    Defence(
        "strict settings",
        "query/read.py",
        "            settings |= STRICT\n",
        "            pass\n",
        (f"{_CHECKS}::test_statistics_are_not_for_tenants",),
    ),
    Defence(
        "strict under fixed parameters",
        "query/read.py",
        "if filters or self._is_confined(security, query):",
        "if filters:",
        ("tests/query/test_scopes.py::test_fixed_params_are_strict_too",),
    ),
    Defence(
        "strict: no statistics",
        "query/limits.py",
        '    "output_format_write_statistics": 0,\n',
        "",
        (f"{_CHECKS}::test_statistics_are_not_for_tenants",),
    ),
    Defence(
        "strict: rows before the limit are counted",
        "query/limits.py",
        '    "exact_rows_before_limit": 1,\n',
        "",
        (
            f"{_CHECKS}::test_rows_before_limit_counts_own_rows",
            f"{_CHECKS}::test_rows_before_limit_of_several_parts",
        ),
        together_with=("strict: no reading in order",),
    ),
    Defence(
        "strict: no reading in order",
        "query/limits.py",
        '    "optimize_read_in_order": 0,\n',
        "",
        (
            f"{_CHECKS}::test_rows_before_limit_counts_own_rows",
            f"{_CHECKS}::test_rows_before_limit_of_several_parts",
        ),
        together_with=("strict: rows before the limit are counted",),
    ),
    Defence(
        "retry under filter first",
        "query/read.py",
        "slow = plan.settings | FILTER_FIRST",
        "slow = plan.settings",
        (f"{_CHECKS}::test_no_status_asks_for_hidden_values", f"{_CHECKS}::test_another_tenants_bad_row_breaks_nobody"),
    ),
    *(
        Defence(
            f"filter first: {setting}",
            "query/limits.py",
            f'    "{setting}": 0,\n',
            "",
            (
                f"{_CHECKS}::test_no_layout_of_a_table_asks_for_hidden_values",
                f"{_CHECKS}::test_no_status_asks_for_hidden_values",
            ),
            # Each stops some of the oracles by itself.
            together_with=tuple(f"filter first: {other}" for other in _FILTER_FIRST if other != setting),
        )
        for setting in _FILTER_FIRST
    ),
    Defence(
        "secrets are for admins",
        "query/read.py",
        "secrets = snapshot.secrets if security.manages_workspace else {}",
        "secrets = snapshot.secrets",
        (f"{_CHECKS}::test_secrets_are_for_admins",),
    ),
    Defence(
        "no q for tenants",
        "query/read.py",
        "            if security.is_tenant:\n                raise Forbidden(\"A JWT cannot use 'q'",
        "            if False:\n                raise Forbidden(\"A JWT cannot use 'q'",
        (f"{_PARAMETERS}::test_a_tenant_sends_no_sql_with_a_pipe",),
    ),
    Defence(
        "q and SQL read what the scopes name",
        "access/grants.py",
        "        if not (may_read_datasource(security, name) or may_read_pipe(security, name)):",
        "        if False:",
        ("tests/query/test_scopes.py", _CONTROL),
    ),
    Defence(
        "the bytes of an answer are counted",
        "query/read.py",
        "            if size > most:\n",
        "            if False:\n",
        ("tests/api/test_limits.py::test_the_bytes_of_the_answer_count_and_not_those_in_the_engines_memory",),
    ),
    Defence(
        "time of a read",
        "query/limits.py",
        '"max_execution_time": limits.seconds, "max_result_bytes"',
        '"max_execution_time": 0, "max_result_bytes"',
        (f"{_OUTPUTS}::test_the_engine_has_a_bound_for_each_read",),
    ),
    Defence(
        "reads at once of one token",
        "query/slots.py",
        "and self._running.get(name, 0) < self._of_one",
        "",
        ("tests/query/test_slots.py::test_a_token_has_its_own_bound",),
    ),
    # --- query/examine.py, sql/: what a statement may be
    Defence(
        "precheck",
        "query/examine.py",
        "-> Examined:\n        check_text(composed.sql)\n",
        "-> Examined:\n",
        (
            f"{_CHECKS}::test_c_hostile_sql_does_not_deploy_and_does_not_run",
            f"{_OUTPUTS}::test_a_columns_name_holds_no_control_character",
        ),
    ),
    Defence(
        "examination of the RAW tree",
        "query/examine.py",
        "        _check(raw, composed)\n",
        "",
        (f"{_CHECKS}::test_c_hostile_sql_does_not_deploy_and_does_not_run",),
    ),
    Defence(
        "examination of the RESOLVED tree",
        "query/examine.py",
        "        _check(resolved, composed)\n",
        "",
        (f"{_CHECKS}::test_c_the_engines_tree_decides_not_our_reading_of_the_text",),
    ),
    Defence(
        "no rows during examination",
        "query/examine.py",
        '"additional_table_filters": nothing}',
        '"additional_table_filters": "{}"}',
        (f"{_CHECKS}::test_c_scalar_subqueries_of_the_examination_see_no_rows",),
    ),
    Defence(
        "telling functions",
        "query/examine.py",
        "for function in sorted(functions & TELLING):",
        "for function in ():",
        (
            f"{_CHECKS}::test_raising_functions_are_not_for_policed_tables",
            f"{_CHECKS}::test_what_tells_of_other_rows",
        ),
    ),
    Defence(
        "PREWHERE refusal",
        "query/examine.py",
        'token.text.upper() == "PREWHERE"',
        "not token.text",
        (f"{_CHECKS}::test_what_tells_of_other_rows",),
    ),
    Defence(
        "virtual columns",
        "query/examine.py",
        "and _VIRTUAL.fullmatch(identifier_name(token)):",
        "and not token.text:",
        (f"{_CHECKS}::test_what_tells_of_other_rows",),
    ),
    Defence(
        "tables of the statement only",
        "sql/tree.py",
        'for table in sorted(reads.tables - allowed_tables - {"system.one"}):',
        "for table in ():",
        (f"{_CHECKS}::test_c_the_engines_tree_decides_not_our_reading_of_the_text", "tests/sql/test_tree.py"),
    ),
    Defence(
        "table functions by list",
        "sql/tree.py",
        "for name in sorted(reads.table_functions):",
        "for name in ():",
        (f"{_CHECKS}::test_c_hostile_sql_does_not_deploy_and_does_not_run", "tests/sql/test_tree.py"),
    ),
    Defence(
        "functions by list",
        "sql/tree.py",
        "for name in sorted(reads.functions):",
        "for name in ():",
        (f"{_CHECKS}::test_c_hostile_sql_does_not_deploy_and_does_not_run",),
    ),
    Defence(
        "bare names after IN",
        "sql/tree.py",
        "for name in sorted(reads.bare_members):",
        "for name in ():",
        ("tests/sql/test_tree.py",),
    ),
    Defence(
        "an unknown tree is refused",
        "sql/tree.py",
        "    if reads.unknown:\n",
        "    if False:\n",
        ("tests/sql/test_tree.py",),
    ),
    Defence(
        "settings of a statement, by text",
        "sql/precheck.py",
        "if setting.name not in ALLOWED_SETTINGS:",
        "if False:",
        ("tests/sql/test_tree.py",),
    ),
    Defence(
        "no FORMAT, no OUTFILE",
        "sql/precheck.py",
        'if clause.kind != "settings":',
        "if False:",
        ("tests/sql/test_tree.py",),
    ),
    Defence(
        "objects are named literally",
        "sql/precheck.py",
        "    if not object_arguments_are_literal(shape):",
        "    if False:",
        ("tests/sql/test_tree.py",),
    ),
    Defence(
        "no hidden lines",
        "sql/precheck.py",
        "    if hidden_line(shape) is not None:",
        "    if False:",
        ("tests/sql/test_tree.py", f"{_OUTPUTS}::test_a_columns_name_holds_no_control_character"),
    ),
    Defence(
        "formats by list",
        "query/formats.py",
        "if clause.value.lower() not in SQL_FORMATS:",
        "if False:",
        (f"{_OUTPUTS}::test_a_format_that_is_not_on_the_list",),
    ),
    # --- access/: parameters, scopes, policies
    Defence(
        "fixed parameters win",
        "access/params.py",
        "    values.update(fixed)\n",
        "    values = {**fixed, **values}\n",
        (_PARAMETERS, "tests/access/test_params.py"),
        together_with=("requests cannot send fixed parameters",),
    ),
    Defence(
        "requests cannot send fixed parameters",
        "access/params.py",
        "        if name in fixed:\n            continue\n",
        "",
        (_PARAMETERS, "tests/access/test_params.py"),
    ),
    Defence(
        "duplicate parameter",
        "access/params.py",
        "if name in seen and security.is_tenant:",
        "if False:",
        (f"{_PARAMETERS}::test_a_scalar_that_is_sent_twice",),
    ),
    Defence(
        "number of parameters",
        "access/params.py",
        "    if len(request.sent) > MAX_PARAMETERS:",
        "    if False:",
        ("tests/access/test_params.py",),
    ),
    Defence(
        "size of a value",
        "access/params.py",
        "    if size > MAX_VALUE_BYTES:",
        "    if False:",
        ("tests/access/test_params.py",),
    ),
    Defence(
        "empty fixed parameter",
        "access/grants.py",
        'if fixed.get(name, "") == "":',
        "if name not in fixed:",
        (f"{_PARAMETERS}::test_an_empty_fixed_parameter_fixes_nothing",),
    ),
    Defence(
        "declared fixed parameters",
        "access/grants.py",
        'if fixed.get(name, "") == "":',
        'if fixed.get(name) == "":',
        (f"{_PARAMETERS}::test_fixed_params_must_be_fixed",),
    ),
    Defence(
        "two scopes that differ, by name",
        "access/claims.py",
        "        if not _same(first.fixed_params, scope.fixed_params) or not _same(",
        "        if False and not _same(",
        (f"{_PARAMETERS}::test_two_scopes_for_one_pipe_never_add_up",),
    ),
    Defence(
        "two scopes that differ, once they have names",
        "access/grants.py",
        "            if name in found and (type(found[name]), found[name]) != (type(value), value):",
        "            if False:",
        (f"{_PARAMETERS}::test_two_scopes_for_one_pipe_never_add_up",),
    ),
    Defence(
        "scope before existence",
        "access/grants.py",
        '    if not may_read_pipe(security, pipe):\n        raise _missing(security, "PIPES:READ", pipe)\n    if not exists:',
        '    if exists and not may_read_pipe(security, pipe):\n        raise _missing(security, "PIPES:READ", pipe)\n    if not exists:',
        (f"{_PARAMETERS}::test_pipes_of_the_token_only",),
    ),
    Defence(
        "scope of a pipe",
        "access/grants.py",
        '    return _reads_all(security) or bool(security.scopes_for("PIPES:READ", pipe))',
        "    return True",
        (f"{_PARAMETERS}::test_pipes_of_the_token_only", _CONTROL),
    ),
    Defence(
        "context key missing",
        "access/policy.py",
        "    if value.key not in context:\n        raise MissingContextKey(value.key)\n    given = context[value.key]",
        '    given = context.get(value.key, "")',
        (f"{_PARAMETERS}::test_a_token_without_the_key_is_refused",),
    ),
    Defence(
        "empty context value",
        "access/claims.py",
        '    if not values or any(value == "" for value in values):',
        "    if not values:",
        ("tests/access/test_claims.py",),
    ),
    Defence(
        "types of context values",
        "access/policy.py",
        '    if isinstance(given, bool) or given == "" or ((type == "String" or type in _DATES) and not text):',
        "    if False and text:",
        (f"{_PARAMETERS}::test_hostile_context_values", "tests/access/test_policy.py"),
    ),
    Defence(
        "quotes are escaped",
        "sql/literals.py",
        '    "\'": "\\\\\'",\n',
        '    "\'": "\'",\n',
        (f"{_PARAMETERS}::test_claim_injection", "tests/sql/test_literals.py"),
    ),
    Defence(
        "backslashes are escaped",
        "sql/literals.py",
        '    "\\\\": "\\\\\\\\",\n',
        '    "\\\\": "\\\\",\n',
        (f"{_PARAMETERS}::test_claim_injection", "tests/sql/test_literals.py"),
    ),
    Defence(
        "tenants append with fixed values",
        "api/events.py",
        "    if missing or not fixed:",
        "    if False:",
        ("tests/api/test_routes.py::test_a_tenant_appends_to_a_policed_table_only_with_fixed_values",),
    ),
    # --- templates/
    Defence(
        "template functions by list",
        "templates/expressions.py",
        '            raise self.fail(f"Invalid function name: {name}")',
        '            return nodes.Call(nodes.Name(name, "load"), [], [], None, None)',
        ("tests/templates/test_dialect.py",),
    ),
    Defence(
        "no expression in quotes",
        "templates/template.py",
        "        _check_places(parts)\n",
        "",
        (f"{_TEMPLATES}::test_a_template_that_would_go_too_far_does_not_deploy",),
    ),
    Defence(
        "a secret's name is the author's",
        "templates/expressions.py",
        "            if not isinstance(secret, str):",
        "            if False:",
        (f"{_TEMPLATES}::test_a_template_that_would_go_too_far_does_not_deploy",),
    ),
    Defence(
        "a table is the author's",
        "catalog/build.py",
        "                if found[1] in chosen:",
        "                if False:",
        (f"{_TEMPLATES}::test_a_template_that_would_go_too_far_does_not_deploy",),
    ),
    Defence(
        "values are bound",
        "templates/runtime.py",
        "    text = state.binder.bind(value, key)\n",
        "    text = f\"'{value}'\"\n",
        (f"{_TEMPLATES}::test_a_text_is_a_text_wherever_it_stands",),
    ),
    Defence(
        "numbers in digits",
        "templates/types.py",
        '_INTEGER = re.compile(r"[+-]?[0-9]{1,80}\\Z")',
        '_INTEGER = re.compile(r"\\s*[+-]?[\\w]{1,80}\\s*\\Z")',
        (f"{_TEMPLATES}::test_what_is_no_number_is_refused",),
    ),
    Defence(
        "numbers in their range",
        "templates/types.py",
        "        if not low <= number <= high:",
        "        if False:",
        (f"{_TEMPLATES}::test_what_is_no_number_is_refused",),
    ),
    Defence(
        "column names are quoted",
        "templates/functions.py",
        "    return Sql(quote(text))",
        "    return Sql(text)",
        (f"{_TEMPLATES}::test_a_column_to_sort_by_is_a_name",),
    ),
    # --- catalog/build.py, deploy/: what does not deploy
    Defence(
        "merging engines keep tenants apart",
        "catalog/build.py",
        "        for column in sorted(policy.columns - key)",
        "        for column in ()",
        ("tests/deploy/test_deploy.py",),
    ),
    Defence(
        "a definition's tree",
        "deploy/gate.py",
        "    _check_tree(tree)\n    return statement",
        "    return statement",
        ("tests/attacks/test_ddl.py",),
    ),
    Defence(
        "a definition's tokens",
        "deploy/gate.py",
        "    _check_tokens(statement)\n",
        "",
        ("tests/attacks/test_ddl.py",),
    ),
    # --- api/: what a request may be, what it may see
    Defence(
        "length of a URL",
        "api/app.py",
        "        if url_bytes > MAX_URL_BYTES:",
        "        if False:",
        (f"{_PARAMETERS}::test_too_many_and_too_long",),
    ),
    Defence(
        "size of a body",
        "api/requests.py",
        "        if size > limit:\n            raise refusal",
        "        if False:\n            raise refusal",
        ("tests/api/test_bodies.py::test_a_multipart_body_is_bounded_as_a_whole",),
    ),
    Defence(
        "two tokens",
        "access/authenticate.py",
        "    if len(tokens) > 1:",
        "    if False:",
        ("tests/access/test_authenticate.py", "tests/attacks/test_tokens.py"),
    ),
    Defence(
        "two Authorization headers",
        "access/authenticate.py",
        "    if len(headers) > 1:",
        "    if False:",
        ("tests/access/test_authenticate.py", "tests/attacks/test_tokens.py"),
    ),
    Defence(
        "pipes that a token may list",
        "api/pipes.py",
        "        if grants.may_read_pipe(security, pipe.name)\n    ]",
        "    ]",
        (f"{_OUTPUTS}::test_a_tenants_document_lists_what_it_may_call",),
    ),
    Defence(
        "pipes that a token may look at",
        "api/pipes.py",
        "    if found is None or not grants.may_read_pipe(security, name):",
        "    if found is None:",
        (f"{_OUTPUTS}::test_a_tenants_document_lists_what_it_may_call",),
    ),
    Defence(
        "endpoints in a token's document",
        "api/pipes.py",
        "if p.endpoint is not None and grants.may_read_pipe(security, p.name)]",
        "if p.endpoint is not None]",
        (f"{_OUTPUTS}::test_a_tenants_document_lists_what_it_may_call",),
    ),
    Defence(
        "a tenant sees no SQL",
        "api/pipes.py",
        "    if security.is_tenant:\n        return tenant_pipe_object",
        "    if False:\n        return tenant_pipe_object",
        (f"{_OUTPUTS}::test_no_route_shows_a_tenant_anything_of_another",),
    ),
    Defence(
        "a tenant sees no counts of a table",
        "api/datasources.py",
        '        raise Forbidden("A JWT cannot list data sources: their counts are of all tenants")',
        "        pass",
        (f"{_OUTPUTS}::test_no_route_shows_a_tenant_anything_of_another", _CONTROL),
    ),
    Defence(
        "SQL is explained to admins",
        "api/explain.py",
        "    grants.require_admin(security)\n",
        "",
        ("tests/api/test_explain.py::test_nobody_else_sees_one", f"{_CONTROL}::test_a_token_opens_its_own_doors_only"),
    ),
    Defence(
        "deploys need their scope",
        "api/deployments.py",
        "    grants.deploy(security)\n",
        "",
        (f"{_CONTROL}::test_a_token_opens_its_own_doors_only",),
    ),
    Defence(
        "names of a deploy's files",
        "api/deployments.py",
        'if filename.startswith("/") or ".." in parts or "\\0" in filename:',
        "if False:",
        (f"{_CONTROL}::test_a_file_name_stays_in_the_project",),
    ),
    Defence(
        "a file is sent once",
        "api/deployments.py",
        "            if file in found:",
        "            if False:",
        (f"{_CONTROL}::test_one_file_has_one_text",),
    ),
    Defence(
        "links out of a project",
        "datafiles/layout.py",
        "        if not real.is_relative_to(root):",
        "        if False:",
        ("tests/datafiles/test_project.py::test_a_link_out_of_the_project_is_refused_and_never_read",),
    ),
    Defence(
        "sniffing is off",
        "api/app.py",
        '                headers["X-Content-Type-Options"] = "nosniff"\n',
        "",
        (f"{_OUTPUTS}::test_a_cell_is_its_value_in_every_format",),
    ),
    # --- cli/listen.py: where a request begins and ends
    Defence(
        "an upgrade is no end of a request",
        "cli/listen.py",
        "        if self.parser.should_upgrade():\n",
        "        if False:\n",
        (f"{_HTTP}::test_an_upgrade_does_not_end_the_request_before_its_body",),
    ),
    Defence(
        "a trailer is no header",
        "cli/listen.py",
        "        if not self._in_head:\n            return",
        "        if False:\n            return",
        (f"{_HTTP}::test_a_trailer_is_no_header",),
    ),
    Defence(
        "number of headers",
        "cli/listen.py",
        "        if len(self.headers) >= _MAX_HEADERS:",
        "        if False:",
        (f"{_HTTP}::test_a_request_that_two_programs_could_read_differently_is_refused",),
    ),
    Defence(
        "size of the headers",
        "cli/listen.py",
        "if self._in_head and self._head_bytes > _MAX_HEAD_BYTES and",
        "if False and",
        (f"{_HTTP}::test_a_request_that_two_programs_could_read_differently_is_refused",),
    ),
    Defence(
        "one Host",
        "cli/listen.py",
        ' or hosts > 1 or (version == "1.1" and not hosts):',
        ":",
        (f"{_HTTP}::test_a_request_that_two_programs_could_read_differently_is_refused",),
    ),
    Defence(
        "no HTTP/0.9",
        "cli/listen.py",
        'if version not in ("1.0", "1.1") or',
        "if",
        (f"{_HTTP}::test_a_request_that_two_programs_could_read_differently_is_refused",),
    ),
    Defence(
        "one Transfer-Encoding",
        "cli/listen.py",
        '        if codings not in ([], [b"chunked"]):',
        "        if False:",
        (f"{_HTTP}::test_a_request_that_two_programs_could_read_differently_is_refused",),
    ),
    Defence(
        "time for the headers and the body",
        "cli/listen.py",
        "                self._give_up()\n",
        "                pass\n",
        ("tests/cli/test_listen.py::test_a_client_that_owes_its_request_is_not_waited_for",),
    ),
    Defence(
        "no trust in what a proxy says",
        "cli/listen.py",
        "                proxy_headers=False,\n",
        "                proxy_headers=True,\n",
        (f"{_HTTP}::test_the_address_of_a_request_changes_nothing",),
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
        'name = "" if context or filters or any(fixed) else security.name',
        'name = ""',
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
        'answer or time (ATTACKS E13, F11).\n    "use_query_cache": 0,\n    "use_query_condition_cache": 0,\n',
        "answer or time (ATTACKS E13, F11).\n",
        (
            f"{_CACHE}::test_f11_the_engines_query_cache_is_off",
            f"{_CACHE}::test_e13_the_query_condition_cache_carries_nothing_over",
        ),
    ),
    Defence(
        "answers are private",
        "api/app.py",
        'headers.setdefault("Cache-Control", "private, no-store")',
        "pass",
        (f"{_CACHE}::test_f09_shared_caches_on_the_way_are_told_to_keep_nothing",),
    ),
    Defence(
        "answers vary by token",
        "api/app.py",
        'headers.add_vary_header("Authorization")',
        "pass",
        (f"{_CACHE}::test_f09_shared_caches_on_the_way_are_told_to_keep_nothing",),
    ),
    Defence(
        "audit log: not for tenants",
        "query/secure.py",
        '        check_services(snapshot, security)\n        return ""',
        '        return ""',
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
        'hide = plain == "q" or _is_secret(plain)',
        "hide = False",
        (
            f"{_LOG}::test_shown_url",
            f"{_CACHE}::test_j17_no_token_no_sql_no_row_of_anybody",
        ),
    ),
    Defence(
        "audit log: parameters masked",
        "query/log.py",
        "        if _is_secret(name):\n            hidden",
        "        if False:\n            hidden",
        (
            f"{_LOG}::test_what_looks_secret_is_masked",
            f"{_CACHE}::test_j17_no_token_no_sql_no_row_of_anybody",
        ),
    ),
    Defence(
        "audit log: context masked",
        "query/log.py",
        "    if _is_secret(name):\n        return MASK",
        "    if False:\n        return MASK",
        (f"{_LOG}::test_a_tenants_read",),
    ),
    Defence(
        "audit log: tokens under other names",
        "query/log.py",
        '    if "eyJ" in text:',
        "    if False:",
        (
            f"{_LOG}::test_what_looks_secret_is_masked",
            f"{_CACHE}::test_j17_no_token_no_sql_no_row_of_anybody",
        ),
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
        "        place = (workspace_id, environment)\n"
        "        if place not in self._snapshots:\n"
        "            place = next((p for p in self._snapshots if p[1] == environment), place)\n"
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
        "environment: each table's own lineage",
        "catalog/build.py",
        "sources = derived(moved)  #",
        "sources = {name: table.sources for name, table in snapshot.tables.items()} if not any(names.views) else "
        "derived(moved)  #",
        (f"{_ENVIRONMENTS}::test_each_place_remembers_where_its_own_rows_are_from",),
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
        '        while (name := wanted if number == 1 else f"{wanted}__{number}") in taken:',
        '        while (name := wanted if number == 1 else f"{wanted}__{number}") in ():',
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
    # --- tenant SQL: what a tenant may write itself
    Defence(
        "tenant SQL is off",
        "query/tenant_sql.py",
        "if not snapshot.workspace.settings.tenant_sql:",
        "if False:",
        (f"{_SQL}::test_off_unless_the_workspace_turns_it_on",),
    ),
    Defence(
        "tenant SQL reads what scopes name",
        "access/grants.py",
        '    if not security.scopes_for("DATASOURCES:READ", name):\n        raise _missing(security, "DATASOURCES:READ", name)\n'
        "    if not exists:",
        "    if not exists:",
        (f"{_SQL}::test_d01_to_d32_what_a_text_may_not_be",),
    ),
    Defence(
        "tenant SQL reads what is guarded",
        "query/tenant_sql.py",
        "if table.datasource.row_policy is None and not _filters(security, table):",
        "if False:",
        (f"{_SQL}::test_d01_to_d32_what_a_text_may_not_be",),
    ),
    Defence(
        "tenant SQL after the filter",
        "query/limits.py",
        "settings = _BASE | STRICT | FILTER_FIRST | _TENANT_SQL",
        "settings = _BASE | STRICT | _TENANT_SQL",
        (f"{_SQL}::test_e01_e02_d27_no_answer_depends_on_others",),
    ),
    Defence(
        "one answer to a tenant's text",
        "query/read.py",
        "return error if told else QueryRefused(request_id)",
        "return error",
        (f"{_SQL}::test_e04_e05_nothing_beside_the_rows",),
    ),
    Defence(
        "functions for tenants by list",
        "sql/tenant.py",
        "if why := function_verdict(name, tenant=True):",
        "if why := function_verdict(name):",
        (f"{_SQL}::test_d13_every_function_of_the_engine",),
    ),
    Defence(
        "table functions for tenants by list",
        "sql/tenant.py",
        "for name in sorted(both.table_functions - TENANT_TABLE_FUNCTIONS):",
        "for name in ():",
        (f"{_SQL}::test_d13_every_table_function_of_the_engine",),
    ),
    Defence(
        "formats for tenants by list",
        "query/tenant_sql.py",
        "if format.name not in TENANT_FORMATS:",
        "if False:",
        (f"{_SQL}::test_d13_d17_every_setting_and_format_of_the_engine",),
    ),
    Defence(
        "tenants read declared columns",
        "sql/tenant.py",
        "and not _declared(found[1], columns[table])",
        "and False",
        (f"{_SQL}::test_d01_to_d32_what_a_text_may_not_be",),
    ),
    Defence(
        "FINAL only by the filter's key",
        "query/tenant_sql.py",
        "    if used - key:",
        "    if False:",
        (f"{_SQL}::test_d27_final_would_merge_before_the_filter",),
    ),
    Defence(
        "memory of a tenant's text",
        "query/limits.py",
        '        "max_memory_usage": limits.memory_bytes,\n',
        "",
        (f"{_SQL}::test_d30_costs_are_bounded",),
    ),
    # --- tables that say nothing about tenants
    Defence(
        "required policies at a read",
        "query/secure.py",
        "if snapshot.workspace.settings.require_policies and table.datasource.row_policy is None:",
        "if False:",
        (f"{_REQUIRED}::test_a_read_is_refused_where_a_deploy_was_not",),
    ),
    Defence(
        "required policies at a deploy",
        "deploy/validate.py",
        "        if workspace.settings.require_policies:",
        "        if False:",
        (f"{_REQUIRED}::test_a_deploy_names_each_table_that_says_nothing",),
    ),
    Defence(
        "required policies over what is deployed",
        "catalog/catalog.py",
        "            if settings.require_policies:",
        "            if False:",
        (f"{_REQUIRED}::test_it_cannot_be_turned_on_over_what_is_deployed",),
    ),
    Defence(
        "no text beside a number in a policy",
        "access/policy.py",
        "if token.text in texts and (number := self._number_beside(tokens, index)):",
        "if False and (number := self._number_beside(tokens, index)):",
        ("tests/access/test_policy.py::test_a_number_is_not_compared_with_a_text",),
    ),
)

__all__ = ["DEFENCES", "Defence"]
