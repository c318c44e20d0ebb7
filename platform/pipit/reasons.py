"""Why something was refused or failed: one stable value per cause, with what it means and what to do.

A client decides by these and never by the words of a message, and so does all code of Pipit. A reason tells a reader no
more than the message beside it: where two causes must look the same from outside, they have one reason.
docs/reference/errors.md lists them all, in this order.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Its value is what stands in the JSON of an error, as `reason`."""

    cause: str
    remedy: str

    def __new__(cls, value: str, cause: str, remedy: str) -> Reason:
        member = str.__new__(cls, value)
        member._value_ = value
        member.cause = cause
        member.remedy = remedy
        return member

    # Tokens
    TOKEN_MISSING = (
        "token_missing",
        "The request carries no token",
        "Send it as `Authorization: Bearer <token>` or as `?token=<token>`",
    )
    TOKEN_AMBIGUOUS = ("token_ambiguous", "The request carries more than one token", "Send one")
    TOKEN_INVALID = (
        "token_invalid",
        "The token is unknown or deleted, cannot be read, or its signature does not hold. It is not told which",
        "Use a token of this server, or a JWT signed with the workspace's key",
    )
    TOKEN_TOO_LONG = ("token_too_long", "The token is longer than a token may be", "Put fewer scopes into it")
    TOKEN_EXPIRED = ("token_expired", "The token's `exp` is past", "Make a new one")
    TOKEN_NOT_YET_VALID = ("token_not_yet_valid", "The token's `nbf` is in the future", "Compare the two clocks")
    TOKEN_ELSEWHERE = (
        "token_elsewhere",
        "The token belongs to another workspace or environment",
        "Use a token of this one",
    )
    CLAIM_INVALID = (
        "claim_invalid",
        "A claim of the JWT is missing, or is not of its form",
        "Correct it where the token is signed ([tokens](../tokens.md))",
    )
    SCOPE_MISSING = (
        "scope_missing",
        "The token has no scope for this",
        "Use a token with the scope that the message names",
    )
    SCOPE_INVALID = ("scope_invalid", "A scope is not one that there is", "Write it as `TYPE:resource`")
    ADMIN_REQUIRED = ("admin_required", "Only an admin token may do this", "Use the workspace's admin token")
    WORKSPACE_TOKEN_REQUIRED = (
        "workspace_token_required",
        "A JWT may not ask this: the answer counts rows of all tenants",
        "Use a static token of the workspace",
    )
    SQL_NOT_FOR_TENANTS = (
        "sql_not_for_tenants",
        "A JWT may not send SQL of its own here",
        "Read an endpoint, or use a static token of the workspace",
    )
    TENANT_SQL_REFUSED = (
        "tenant_sql_refused",
        "A data source that a JWT's own SQL reads says nothing about tenants",
        "Its owner adds a `ROW_POLICY` to it",
    )
    FIXED_PARAM_MISSING = (
        "fixed_param_missing",
        "The token does not fix a parameter of the pipe's `FIXED_PARAMS`",
        "Sign the token with it in `fixed_params`",
    )
    FIXED_PARAM_AMBIGUOUS = (
        "fixed_param_ambiguous",
        "Two scopes of the token fix one name to two values",
        "Fix it once",
    )
    FIXED_VALUE_INVALID = (
        "fixed_value_invalid",
        "The token fixes a column that the data source does not have, or to a value that it does not take",
        "Correct the token's `fixed_values`",
    )
    FIXED_VALUES_MISSING = (
        "fixed_values_missing",
        "A JWT that appends must fix the columns that row policies compare",
        "Sign the token with them in `fixed_values`",
    )
    APPEND_NOT_CONFINED = (
        "append_not_confined",
        "No JWT may append here: nothing that it fixes decides whose rows a view makes of them",
        "Append with a token of the workspace",
    )
    CONTEXT_KEY_MISSING = (
        "context_key_missing",
        "The token's `context` lacks a key that a row policy needs",
        "Sign the token with it",
    )
    CONTEXT_KEY_INVALID = (
        "context_key_invalid",
        "A key of the token's `context` is not of the type that the row policy declares",
        "Sign the token with a value of that type",
    )
    FILTER_INVALID = (
        "filter_invalid",
        "The token's row `filter` cannot be applied",
        "Write one condition over the columns of a data source that is deployed",
    )
    TOKEN_NOT_FOUND = ("token_not_found", "There is no such token any more", "List the tokens")
    TOKEN_PROTECTED = (
        "token_protected",
        "The admin token cannot be changed or deleted in this way",
        "The hint says how it is replaced",
    )
    TOKEN_SECRET_UNFIT = (
        "token_secret_unfit",
        "A token's secret is too short, is a key, or is another token's too",
        "Take a random text of at least 32 bytes",
    )
    KEY_INVALID = (
        "key_invalid",
        "A key for JWTs, or its registration, cannot be used",
        "The message says why ([tokens](../tokens.md))",
    )
    KEY_UNREACHABLE = ("key_unreachable", "The `jwks_url` gives no keys", "Open it from the server's machine")
    KEY_CONFLICT = (
        "key_conflict",
        "Two registrations of keys would take the same tokens",
        "Give each an `issuer`, `audience` or `kid` of its own",
    )
    KEY_NOT_FOUND = ("key_not_found", "There is no such key", "List the keys")
    # Requests
    REQUEST_INVALID = ("request_invalid", "The request cannot be used as it is", "The message says what is wrong")
    REQUEST_NOT_HTTP = ("request_not_http", "What came is not an HTTP request", "Look at the client or the proxy")
    REQUEST_TOO_SLOW = ("request_too_slow", "The request did not come in time", "Send it faster, or in parts")
    PATH_NOT_FOUND = ("path_not_found", "There is no such path", "See [HTTP](http.md)")
    METHOD_NOT_ALLOWED = ("method_not_allowed", "The path is there, but not with this method", "See [HTTP](http.md)")
    URL_TOO_LONG = ("url_too_long", "The URL is longer than 8 KB", "Send the parameters in a POST body")
    HEADERS_TOO_LARGE = ("headers_too_large", "The request's headers are larger than they may be", "Send fewer")
    BODY_INVALID = (
        "body_invalid",
        "The body is not what its type says, or not of the form that the route takes",
        "The message says where it cannot be read",
    )
    BODY_EMPTY = ("body_empty", "The body holds no events", "Send one JSON object a line")
    BODY_TYPE_UNSUPPORTED = (
        "body_type_unsupported",
        "The route takes no body of this `Content-Type`",
        "Send one that the hint names",
    )
    ENCODING_UNSUPPORTED = (
        "encoding_unsupported",
        "The `Content-Encoding` is not one that is read here",
        "Use gzip or zstd, once",
    )
    BODY_TOO_LARGE = ("body_too_large", "The body, or a row of it, is larger than it may be", "Send it in parts")
    BODY_TOO_SLOW = (
        "body_too_slow",
        "The body came in so slowly that it kept a place from others",
        "Send it from a better connection, packed or in parts",
    )
    PARAMETER_MISSING = ("parameter_missing", "A parameter is needed and not sent", "Send it")
    PARAMETER_INVALID = (
        "parameter_invalid",
        "A parameter's name or value does not do",
        "Send one that the message describes",
    )
    PARAMETER_REPEATED = ("parameter_repeated", "A parameter is sent more than once", "Send it once")
    PARAMETER_TOO_LARGE = ("parameter_too_large", "A parameter's value is larger than it may be", "Send less")
    TOO_MANY_PARAMETERS = ("too_many_parameters", "The request has more parameters than it may", "Send fewer")
    FORMAT_UNSUPPORTED = ("format_unsupported", "There is no such format here", "Use one that the hint names")
    CONFIRMATION_MISSING = (
        "confirmation_missing",
        "The request deletes rows and does not say that this is wanted",
        "Confirm it as the hint says",
    )
    RATE_LIMITED = (
        "rate_limited",
        "The token's `limits.rps` is reached",
        "Wait for the seconds in `Retry-After`",
    )
    TOO_MUCH_AT_ONCE = (
        "too_much_at_once",
        "The token has as many queries, jobs or unread answers at one time as it may",
        "Wait until one is done",
    )
    # What is not there, or in the way
    NOT_FOUND = ("not_found", "What the request names is not there", "Look at the name")
    PIPE_NOT_FOUND = (
        "pipe_not_found",
        "There is no such pipe, for who may read it",
        "Look at the name, and whether it is deployed",
    )
    ENDPOINT_NOT_FOUND = ("endpoint_not_found", "The pipe has no endpoint", "Give a node of it `TYPE endpoint`")
    NODE_NOT_FOUND = ("node_not_found", "The pipe has no such node, or none of this type", "Look at the pipe's file")
    DATASOURCE_NOT_FOUND = (
        "datasource_not_found",
        "There is no such data source, for who may use it",
        "Look at the name, and whether it is deployed",
    )
    CONNECTION_NOT_FOUND = ("connection_not_found", "There is no such connection", "`pipit connection ls`")
    CONNECTION_FAILED = (
        "connection_failed",
        "Nothing can be read through the connection",
        "The message says why; correct the `.connection` file or its secrets, and deploy",
    )
    JOB_NOT_FOUND = ("job_not_found", "There is no such job", "List the jobs")
    DEPLOYMENT_NOT_FOUND = ("deployment_not_found", "There is no such deployment", "List the deployments")
    WORKSPACE_NOT_FOUND = ("workspace_not_found", "There is no such workspace", "Look at the name")
    ENVIRONMENT_NOT_FOUND = ("environment_not_found", "There is no such environment", "`pipit environment ls`")
    SECRET_NOT_FOUND = ("secret_not_found", "There is no such secret", "`pipit secret ls`")
    NAME_INVALID = ("name_invalid", "It cannot have this name", "The hint says which characters it takes")
    NAME_TAKEN = ("name_taken", "There is one of this name already", "Choose another name")
    LIMIT_REACHED = ("limit_reached", "There are as many of these as there may be", "Delete one that is not used")
    FOLLOWS_FILES = (
        "follows_files",
        "It is named by the project's files, so a request does not change it",
        "Change the files and deploy",
    )
    WORKSPACE_PROTECTED = ("workspace_protected", "The default workspace cannot be deleted", "Delete its resources")
    DEPLOY_IN_PROGRESS = (
        "deploy_in_progress",
        "Another deployment of the workspace is in progress",
        "Try again when it is done",
    )
    TABLE_CHANGED = (
        "table_changed",
        "Deployments changed the table while its rows were prepared",
        "Run it again when they are done",
    )
    JOB_IN_PROGRESS = ("job_in_progress", "Such a job is under way", "Wait for it, or cancel it")
    URL_REFUSED = (
        "url_refused",
        "The server does not fetch files from this URL: its host is not allowed, or its address is not public",
        "Send the file itself, or let the operator allow the host (`PIPIT_URL_HOSTS`)",
    )
    URL_UNREACHABLE = (
        "url_unreachable",
        "What is at the URL could not be fetched to its end",
        "See whether it can be fetched from where the server runs",
    )
    JOB_ENDED = ("job_ended", "The job has ended, so it cannot be cancelled", "Nothing")
    JOB_FAILED = ("job_failed", "The job failed", "The message says why")
    SCHEDULE_MISSING = ("schedule_missing", "The pipe has no schedule", "Run it on demand")
    IDEMPOTENCY_KEY_INVALID = (
        "idempotency_key_invalid",
        "The `Idempotency-Key` is too short or too long",
        "Shorten it",
    )
    IDEMPOTENCY_KEY_REUSED = (
        "idempotency_key_reused",
        "The `Idempotency-Key` was used for other events. Nothing was stored",
        "Use a new key for each request, and the same one only to repeat it",
    )
    NOT_CONNECTED = (
        "not_connected",
        "The data source reads no topic and loads no bucket, or is stopped",
        "Give it KAFKA_* or IMPORT_* settings; `pipit datasource start`",
    )
    NOT_APPENDABLE = (
        "not_appendable",
        "The data source takes no events: a materialized view fills it",
        "Append to the data source that the view reads",
    )
    VIEW_FAILED = (
        "view_failed",
        "The rows are in the table, and a materialized view takes none of them",
        "Do not send them again. Correct the view; the server tries it again by itself",
    )
    SERVER_CONFLICT = (
        "server_conflict",
        "Another Pipit process has the data directory or the ClickHouse server",
        "Stop that one, or choose another directory",
    )
    SECRETS_UNREADABLE = (
        "secrets_unreadable",
        "The secrets are encrypted with another key than the server has",
        "Set `PIPIT_SECRETS_KEY` to the key that they were written with",
    )
    # SQL and templates
    TEMPLATE_INVALID = ("template_invalid", "The template cannot be read", "Correct it at its place")
    TEMPLATE_FAILED = (
        "template_failed",
        "The template does not do with these values",
        "Send other values, or tell the pipe's author",
    )
    TEMPLATE_VALUE_MISSING = (
        "template_value_missing",
        "An expression of the template has no value",
        "Send the parameter, or tell the pipe's author",
    )
    TEMPLATE_TOO_LARGE = (
        "template_too_large",
        "The template runs too long, or makes too much text",
        "Send less, or tell the pipe's author",
    )
    CUSTOM_ERROR = (
        "custom_error",
        "The pipe's author ended the request with `error()` or `custom_error()`. The body is the author's own, without "
        "`reason`",
        "Ask them",
    )
    SQL_INVALID = ("sql_invalid", "The SQL text cannot be read", "Correct it where the message says")
    SQL_TOO_LONG = ("sql_too_long", "The SQL text is longer than it may be", "Put it into a pipe")
    NOT_ONE_SELECT = ("not_one_select", "The SQL text is not one `SELECT`", "Send one statement")
    RESOURCE_NOT_FOUND = (
        "resource_not_found",
        "The SQL names what is no data source, pipe or node here",
        "Look at the name, and whether it is deployed",
    )
    RECURSIVE_REFERENCE = ("recursive_reference", "A node reads itself", "Break the circle")
    QUERY_TOO_COMPLEX = ("query_too_complex", "The query reads more nodes than it may", "Make it simpler")
    STATEMENT_REFUSED = (
        "statement_refused",
        "The engine refused the statement or failed on it. A tenant is told no more",
        "Correct the SQL; on an endpoint, tell its author",
    )
    QUERY_REFUSED = (
        "query_refused",
        "A tenant's own SQL does not run, or failed. It is not told why: that could tell of rows that it may not see",
        "Write a plain `SELECT` over the token's data sources. The workspace's owner finds more under the request id",
    )
    # Reads that do not run
    ACCESS_DENIED = ("access_denied", "The token may not do this", "The message says what it lacks")
    READ_REFUSED = ("read_refused", "A row filter cannot be applied to what the query reads", "Ask for something else")
    POLICY_MISSING = (
        "policy_missing",
        "A table is made from one with a row policy, and has none of its own",
        "Add a `ROW_POLICY` ([policies](../policies.md))",
    )
    POLICY_REQUIRED = (
        "policy_required",
        "The workspace requires a `ROW_POLICY` of every table, and this one has none",
        "Add one, or `ROW_POLICY none REASON '...'`",
    )
    POLICY_INVALID = ("policy_invalid", "A `ROW_POLICY` cannot be used", "Correct it ([policies](../policies.md))")
    MERGES_TENANTS = (
        "merges_tenants",
        "The table's engine would merge rows of different tenants",
        "Put the policy's column into the sorting key",
    )
    NOT_EXAMINABLE = ("not_examinable", "The query cannot be examined, so it does not run", "Write it more simply")
    FUNCTION_REFUSED = ("function_refused", "The query uses a function that is not allowed", "Use another one")
    TABLE_FUNCTION_REFUSED = (
        "table_function_refused",
        "The query uses a table function that is not allowed",
        "Read a data source",
    )
    OBJECT_REFUSED = (
        "object_refused",
        "The query reads something that row filters do not reach, such as a dictionary or a table of the engine",
        "Read a data source",
    )
    SETTING_REFUSED = ("setting_refused", "The query has a setting that is not allowed", "Remove it from `SETTINGS`")
    CLAUSE_REFUSED = (
        "clause_refused",
        "The query has a clause that is not allowed here, such as `INTO OUTFILE` or `FORMAT`",
        "Leave it out",
    )
    ENGINE_REFUSED = (
        "engine_refused",
        "A table's engine, or a function in its definition, reads or stores rows where row filters do not reach",
        "Use an engine of the MergeTree family",
    )
    TELLS_OF_OTHERS = (
        "tells_of_others",
        "The query uses something that tells of rows which a row filter hides",
        "Use the form that the hint names",
    )
    TABLE_CHOSEN = (
        "table_chosen",
        "A parameter of the request chooses a table, in a project with row policies",
        "The pipe's author names the tables: `{% if x == 'a' %} a {% else %} b {% end %}`",
    )
    SERVICE_TABLE_REFUSED = (
        "service_table_refused",
        "A tenant's token cannot read the workspace's log (`tinybird.*`)",
        "Use a token of the workspace",
    )
    QUARANTINE_REFUSED = (
        "quarantine_refused",
        "A quarantine holds rows of a table with a row policy; tenants cannot read it",
        "Use a token of the workspace",
    )
    # Projects
    DATAFILE_INVALID = ("datafile_invalid", "Something is wrong in a file of a project", "Correct it at its place")
    FILE_UNREADABLE = (
        "file_unreadable",
        "A file or folder of a project cannot be read, or is too large",
        "Look at the file itself: its name, its encoding, its size",
    )
    INCLUDE_INVALID = ("include_invalid", "An `INCLUDE` cannot be followed", "Correct its path or its values")
    DIRECTIVE_MISSING = ("directive_missing", "A file lacks a directive or an option that it needs", "Add it")
    DIRECTIVE_INVALID = (
        "directive_invalid",
        "A directive has a value that it does not take",
        "The message says what it takes",
    )
    SCHEDULE_INVALID = ("schedule_invalid", "A schedule is not one", "Write a cron expression, or `@on-demand`")
    TYPE_UNSUPPORTED = ("type_unsupported", "A column or an index has a type that is not supported", "Use another one")
    JSONPATH_INVALID = (
        "jsonpath_invalid",
        "A column's JSON path cannot be read, or does not fit the column",
        "Correct it, such as `json:$.user.id`",
    )
    DIRECTIVE_UNKNOWN = ("directive_unknown", "A file has a directive that there is not", "Look at its spelling")
    PROJECT_INVALID = ("project_invalid", "All that is wrong in a project at once, in `errors`", "Correct them")
    DEPLOYMENT_WAITS = (
        "deployment_waits",
        "Another deployment waits to be live, or one is being made that has a new table for the data source",
        "Promote it, or discard it (`pipit deployment`); then ask again",
    )
    ALTERS_LIVE_TABLE = (
        "alters_live_table",
        "A deployment that is to wait needs a change of a table that is live",
        "Deploy without `--no-promote`",
    )
    DEPLOYMENT_DISCARDED = (
        "deployment_discarded",
        "Somebody discarded the deployment while it was made",
        "Nothing was changed; deploy again when you want it",
    )
    DEPLOYMENT_LIVE = ("deployment_live", "The deployment is live", "Roll back first, or leave it")
    NO_PREVIOUS = ("no_previous", "No earlier deployment is kept", "Deploy the earlier commit of the project")
    KEPT_DEPLOYMENT_REFUSES = (
        "kept_deployment_refuses",
        "A load or a delete is not possible in the table of another deployment that is kept",
        "Discard that deployment (`pipit deployment discard`), or ask for what both tables take",
    )
    DEPLOYMENT_INCOMPLETE = (
        "deployment_incomplete",
        "A deployment is to be live that lacks what a job wrote, which failed in it",
        "Run the job again, or say `--force`",
    )
    EVENTS_BEHIND = (
        "events_behind",
        "The deployment that is to be live has not yet all events that the live one has",
        "Try again; nothing was changed",
    )
    EVENTS_BEING_SORTED = (
        "events_being_sorted",
        "A deploy makes a table anew, and events that it refuses in part are still being sorted, or records of a topic "
        "may be in it whose position is not written down yet",
        "Deploy again when they are done; where a topic cannot be read, when it can",
    )
    VIEW_FAILS = (
        "view_fails",
        "A deploy fills a view from a table that has events which another view of it does not take",
        "Delete the view that fails in a deploy of its own, and add it again in the next",
    )
    VALUES_DO_NOT_FIT = (
        "values_do_not_fit",
        "A table is made anew, and rows that are there hold values that its new columns cannot",
        "Say in a `FORWARD_QUERY` what becomes of them",
    )
    LOSES_HISTORY = (
        "loses_history",
        "A table would be made anew from rows that are not all there any more",
        "Write a `FORWARD_QUERY`, or `BACKFILL skip`, or allow destructive operations",
    )
    NO_VALUE_FOR_ROWS = (
        "no_value_for_rows",
        "A new column has no value for the rows that are there",
        "Make it Nullable, or give it a DEFAULT",
    )
    DELETES_ROWS = (
        "deletes_rows",
        "The deploy would delete a data source with its rows, or rows by a shorter TTL",
        "Put the file back, or deploy with `--allow-destructive-operations`",
    )
    DELETES_COLUMN = (
        "deletes_column",
        "The deploy would remove a column with its values",
        "Put it back, or deploy with `--allow-destructive-operations`",
    )
    DELETES_VIEW = (
        "deletes_view",
        "The deploy would remove a materialized view: its target would no longer be filled",
        "Put it back, or deploy with `--allow-destructive-operations`",
    )
    REMOVES_POLICY = (
        "removes_policy",
        "The deploy would remove a row policy: every tenant would see all rows of the table",
        "Put it back, or deploy with `--allow-weaker`",
    )
    CONFINES_LESS = (
        "confines_less",
        "Tenants would see more than they do",
        "Put back what confined them, or deploy with `--allow-weaker`",
    )
    LOSES_POLICY = (
        "loses_policy",
        "A table holds rows of a deleted data source that had a row policy, and has none",
        "Give it a `ROW_POLICY` of its own, or delete it too",
    )
    # The server and its engine
    QUERY_TIMEOUT = (
        "query_timeout",
        "The query ran longer than 10 seconds (a tenant's own SQL: 5)",
        "Ask for less, or make the pipe cheaper",
    )
    QUERY_HUNG = (
        "query_hung",
        "The query made the engine hang before, so it is not run again for now",
        "Look for a constant that takes long to compute",
    )
    RESULT_TOO_LARGE = ("result_too_large", "The query reads or returns more than it may", "Ask for less")
    MEMORY_EXCEEDED = ("memory_exceeded", "The query needs more memory than it may use", "Ask for less")
    TOO_LARGE = ("too_large", "Something is larger than it may be", "Send it in parts, or ask for less")
    CONFLICT = ("conflict", "Something else is in the way", "The message says what")
    UNAVAILABLE = ("unavailable", "The server cannot do this now", "Try again after the seconds in `Retry-After`")
    ENGINE_UNAVAILABLE = (
        "engine_unavailable",
        "The engine is away. Events are still taken in",
        "Try again after the seconds in `Retry-After`",
    )
    ENGINE_BUSY = (
        "engine_busy",
        "The engine takes no more for now",
        "Try again after the seconds in `Retry-After`",
    )
    ENGINE_START_FAILED = (
        "engine_start_failed",
        "The engine cannot start, or the server at `PIPIT_CLICKHOUSE_URL` cannot be used",
        "The message is for who starts Pipit",
    )
    SERVER_BUSY = (
        "server_busy",
        "The server has as much to do as it can",
        "Try again after the seconds in `Retry-After`",
    )
    SERVER_STOPPING = ("server_stopping", "The server is stopping", "Try again after the seconds in `Retry-After`")
    SERVER_UNREACHABLE = ("server_unreachable", "No Pipit server answers", "Start one: `pipit serve`")
    PORT_UNUSABLE = ("port_unusable", "The server cannot listen there", "Choose another `--port` or `--host`")
    DISK_FULL = ("disk_full", "The disk has no room, or refuses to be written", "Make room on it; reads go on")
    DEPLOY_UNSETTLED = (
        "deploy_unsettled",
        "The engine went away while a deployment was written; whether it is live is not known yet",
        "Deploy again when the engine answers",
    )
    INTERNAL_ERROR = (
        "internal_error",
        "A fault of Pipit",
        "Report it with the request id; the server's log has more",
    )


__all__ = ["Reason"]
