"""Templated SQL and request values become SQL text and bound parameters (rule 2).

`Template.compile(source, name=...)` once, `template.render(values, binder, secrets=...)` for each request.
"""

from pipit.templates.binder import Binder
from pipit.templates.failures import InvalidContextKey, MissingContextKey
from pipit.templates.parameters import Parameter, is_reserved
from pipit.templates.patterns import patterns
from pipit.templates.template import Template
from pipit.templates.values import ParamValue, RequestValue
from pipit.templates.variants import variants

__all__ = [
    "Binder",
    "InvalidContextKey",
    "MissingContextKey",
    "ParamValue",
    "Parameter",
    "RequestValue",
    "Template",
    "is_reserved",
    "patterns",
    "variants",
]
