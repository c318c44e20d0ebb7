"""How `make docs` builds the site: the Markdown pages as they stand, with Sphinx, MyST and the theme Furo.

The pages stay plain Markdown that reads well without a build. `index.md` is the list of them, and the navigation is
made from it: each of its sections is a group, each link in a section an entry. Nothing is asked of the network, and
what would be a dead link on the site is an error of the build (-W).
"""

from __future__ import annotations

import re
from typing import Any

from pygments.lexer import RegexLexer, bygroups, using
from pygments.lexers.python import PythonLexer
from pygments.lexers.sql import SqlLexer
from pygments.token import Comment, Keyword, Literal, Name, Punctuation, Text
from sphinx.application import Sphinx

project = "Pipit"
author = "the Pipit authors"
extensions = ["myst_parser", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_site"]
root_doc = "index"

html_theme = "furo"
html_title = "Pipit"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["_site"]
html_css_files = ["pipit.css"]
pygments_style = "friendly"
pygments_dark_style = "github-dark"

myst_heading_anchors = 4
nitpicky = True

_DATAFILES = ("datasource", "pipe", "connection", "incl", "schema")
# What a copy button takes along: no prompts, and none of what a command prints.
copybutton_exclude = ".linenos, .gp, .go"


class Datafile(RegexLexer):
    """Directives at the start of a line, templates, JSON paths, and SQL for all else."""

    name = "Datafile"
    _SQL = r"[^`{}#$\n']+|'(?:[^'\\]|\\.)*'"
    tokens = {  # noqa: RUF012 (the lexers of Pygments are written so)
        "root": [
            (r"^[ \t]*(?:#|--).*$", Comment),
            (r"[ \t]#.*$", Comment),
            (r"^([A-Z][A-Z_]+)([ \t]*>)", bygroups(Keyword.Declaration, Punctuation)),
            (r"^[A-Z][A-Z_]+\b", Keyword.Declaration),
            (r"(\{%)(.*?)(%\})", bygroups(Comment.Preproc, using(PythonLexer), Comment.Preproc)),
            (r"(\{\{)(.*?)(\}\})", bygroups(Comment.Preproc, using(PythonLexer), Comment.Preproc)),
            (r"`json:[^`]*`", Literal.String.Other),
            (r"`[^`\n]*`", Name.Variable),
            (r"\n", Text),
            (_SQL, using(SqlLexer)),
            (r".", Text),
        ],
    }


_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_LINK = re.compile(r"^- \[(.+?)\]\(([^)#:]+)\.md\)", re.MULTILINE)


def _navigation(app: Sphinx, docname: str, source: list[str]) -> None:
    """The sections of index.md become the groups of the navigation, in their order."""
    if docname != root_doc:
        return
    parts = _SECTION.split(source[0])
    for title, text in zip(parts[1::2], parts[2::2], strict=True):
        pages = "\n".join(f"{shown} <{page}>" for shown, page in _LINK.findall(text))
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n```\n"


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", _navigation)
    for language in _DATAFILES:
        app.add_lexer(language, Datafile)
    return {"parallel_read_safe": True}
