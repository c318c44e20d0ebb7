"""How `make docs` builds the site: the Markdown pages as they stand, with Sphinx, MyST and the theme Furo.

The pages stay plain Markdown that reads well without a build. `index.md` is the list of them, and the navigation is
made from it: each of its sections is a group, each link in a section an entry. Nothing is asked of the network, and
what would be a dead link on the site is an error of the build (-W).
"""

from __future__ import annotations

import re
from typing import Any

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "Pipit"
author = "the Pipit authors"
extensions = ["myst_parser"]
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
        app.add_lexer(language, TextLexer)
    return {"parallel_read_safe": True}
