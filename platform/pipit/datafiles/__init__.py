"""Datafiles: the text of `.datasource`, `.pipe` and `.connection` files -> typed, frozen resources.

Nothing here reads a database, renders a template or knows a token. All errors of a project are told at once, each
with `file:line:column`, an excerpt and a hint (`ProjectError.errors`). Everything is linear in the size of the text.

At deploy: `parse_project(read_project(folder))`, then `with_secrets(project, secrets)`.
"""

from pipit.datafiles.describe import (
    column_object,
    column_text,
    datasource_type,
    engine_object,
    index_object,
    print_datasource,
    sql_schema,
)
from pipit.datafiles.engines import MERGING, key_items
from pipit.datafiles.format import format_text
from pipit.datafiles.jsonpaths import EACH, Step, parse_jsonpath
from pipit.datafiles.layout import read_project
from pipit.datafiles.project import parse_connection, parse_datasource, parse_pipe, parse_project
from pipit.datafiles.secrets import render_secrets, secret_names, with_secrets
from pipit.datafiles.source import ParseReport

__all__ = [
    "EACH",
    "MERGING",
    "ParseReport",
    "Step",
    "column_object",
    "column_text",
    "datasource_type",
    "engine_object",
    "format_text",
    "index_object",
    "key_items",
    "parse_connection",
    "parse_datasource",
    "parse_jsonpath",
    "parse_pipe",
    "parse_project",
    "print_datasource",
    "read_project",
    "render_secrets",
    "secret_names",
    "sql_schema",
    "with_secrets",
]
