"""No template and no value makes a rendering run on, or grow without bound: each way to try has its limit."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pytest

from pipit.errors import TemplateError
from pipit.templates import Binder, Template
from pipit.templates.state import MAX_REQUEST_SECONDS

MILLION = "x" * 1_000_000
TEN = "{% set i = 0 %}{% while i < 40 %}{% set i += 1 %}"


@pytest.mark.parametrize(
    ("source", "values"),
    [
        # without an end
        ("{% while True %}{% end %}", {}),
        ("{% while True %}{% try %}{{[][0]}}{% except %}{% end %}{% end %}", {}),
        ("{% while True %}{% try %}{% continue %}{% finally %}{% end %}{% end %}", {}),
        ("{% try %}{% while True %}{% end %}{% except %}caught{% end %}", {}),
        ("{% try %}{% while True %}{% end %}{% finally %}{% while True %}{% end %}{% end %}", {}),
        ("{% while True %}{% while True %}{% break %}{% else %}{% end %}{% end %}", {}),
        ("{% for a in 'x' * 100000 %}{% for b in 'x' * 100000 %}{% end %}{% end %}", {}),
        ("{% for a in x %}{% for b in Array(x) %}{% end %}{% end %}", {"x": "1," * 50_000}),
        ("{% for a in Array(x) %}{% if 'nope' in Array(x) %}{% end %}{% end %}", {"x": "1," * 50_000}),
        ("{% for a in Array(x) %}{% if JSON(y) == JSON(y) %}{% end %}{% end %}",
         {"x": "1," * 5_000, "y": f"[{'1,' * 300_000}1]"}),
        ("{% set l = Array(x) %}" + "{% if l == l + [] %}{% end %}" * 2_000, {"x": "1," * 90_000}),
        ("{% set s = 'x' * 1000000 %}" + "{% if s + 'y' == s + 'z' %}{% end %}" * 2_000, {}),
        # growing
        ("{% set a = 'xx' %}{% while True %}{% set a = a + a %}{% end %}", {}),
        ("{% set a = 'xx' %}{% while True %}{% set a = a * 2 %}{% end %}", {}),
        ("{% set a = 'xx' %}{% while True %}{% set a += a %}{% end %}", {}),
        ("{% set a = 'xx' %}{% while True %}{% set a = a.join(list(a)) %}{% end %}", {}),
        ("{% set a = 'xx' %}{% while True %}{% set a = a.replace('x', 'xx') %}{% end %}", {}),
        ("{% set a = 'xx' %}{% while True %}{% set a = a.replace('', 'x') %}{% end %}", {}),
        ("{% set a = [1] %}{% while True %}{% set a = a + a %}{% end %}", {}),
        ("{% set a = (1, 2) %}{% while True %}{% set a = a + a %}{% end %}", {}),
        ("{% set a = [1] %}" + TEN + "{% set a = [a, a] %}{% end %}{{a}}", {}),
        ("{% set a = [1] %}" + TEN + "{% set a = (a, a) %}{% end %}{{a}}", {}),
        ("{% set a = [1] %}" + TEN + "{% set a = {'k': a, 'l': a} %}{% end %}{% if a == a %}{% end %}", {}),
        ("{% set a = [[1]] %}" + TEN + "{% set a = [a + a] %}{% end %}{{a}}", {}),
        ("{% set a = [1] %}" + TEN + "{% set a = [a] * 2 %}{% end %}{{a}}", {}),
        ("{% set a = [x] %}{% while True %}{% set a = a + [x] %}{% end %}", {"x": MILLION}),
        ("{% set a = [1] %}{% while True %}{% set a = [a] %}{% end %}", {}),
        ("{% set a = x %}" + "{% set a = [a] %}" * 100 + "{{a}}", {"x": "1"}),
        ("{% set a = 7 %}{% while True %}{% set a = a * a %}{% end %}", {}),
        ("{% set a = 7 %}{% while True %}{% set a = a + a %}{% end %}", {}),
        ("{{1000000 * 'x' * 1000000}}", {}),
        ("{{[1] * 1000000000}}", {}),
        ("{{x * 2}}", {"x": MILLION}),
        ("{{x.replace('x', y)}}", {"x": MILLION, "y": MILLION}),
        ("{{x.join(Array(y))}}", {"x": MILLION, "y": "1," * 50}),
        ("".join(f"{{% set a{n} = x + '{n}' %}}" for n in range(2_000)), {"x": "x" * 900_000}),
        ("".join(f"{{% set a{n} = x.split('x') %}}" for n in range(2_000)), {"x": "x" * 900_000}),
        ("".join(f"{{% set a{n} = Array(x) %}}" for n in range(4_000)), {"x": "1," * 40_000}),
        ("".join(f"{{% set a{n} = JSON(x) %}}" for n in range(4_000)), {"x": f"[{'1,' * 40_000}1]"}),
        # what `{% %}` has more of
        ("{% for i in range(10**9) %}x{% end %}", {}),
        ("{% for i in range(0, 10**9, 1) %}{% end %}", {}),
        ("{% set x = [i for i in range(100000) for j in range(100000)] %}", {}),
        ("{% set x = [[i for i in range(1000)] for j in range(1000)] %}{% set y = [x for k in range(1000)] %}", {}),
        ("{% set x = [a for i in range(90000)] %}", {"a": MILLION}),
        ("{% set l = [] %}{% while True %}{% set z = l.append(l) %}{% end %}", {}),
        ("{% set l = [] %}{% while True %}{% set z = l.append('x' * 1000) %}{% end %}", {}),
        ("{% set l = [1] %}{% while True %}{% set z = l.extend(l) %}{% end %}", {}),
        ("{% set d = {} %}{% while True %}{% set z = d.update({len(d): d}) %}{% end %}", {}),
        ("{% set d = {} %}{% while True %}{% set z = d.setdefault(len(d), 'x' * 1000) %}{% end %}", {}),
        ("{% set l = [1] %}" + TEN + "{% set l = [k for k in [l, l]] %}{% end %}{{l}}", {}),
        ("{% set l = [1] %}" + TEN + "{% set l = list(zip(l, l)) + list(zip(l, l)) %}{% end %}{{l}}", {}),
        ("{% set l = [1] %}" + TEN + "{% set l = dict(a=l, b=l) %}{% end %}{% if l == l %}{% end %}", {}),
        ("{% set a = 'x' %}{% while True %}{% set a = '{0}{0}'.format(a) %}{% end %}", {}),
        ("{% set a = 'x' %}{% while True %}{% set a = '%(a)s%(a)s' % {'a': a} %}{% end %}", {}),
        ("{% set a = 'x' %}{% while True %}{% set a = f'{a}{a}' %}{% end %}", {}),
        ("{% set f = '{0}' * 1000 %}{% set x = f.format(a) %}", {"a": MILLION}),
        ("{% set f = '%(a)s' * 1000 %}{% set x = f % {'a': a} %}", {"a": MILLION}),
        ("{% set a = 'x'.ljust(10**9) %}", {}),
        ("{% set a = 'x'.zfill(2000000) %}", {}),
        ("{% set a = 'x'.center(2000000, 'y') %}", {}),
        ("{% while True %}{% set a = x.upper() %}{% end %}", {"x": MILLION}),
        ("{% while True %}{% set a = x.split('x') %}{% end %}", {"x": "x" * 900_000}),
        ("{% while True %}{% set a = x.splitlines() %}{% end %}", {"x": "\n" * 900_000}),
        ("{% while True %}{% if x.count('x') == x.find('y') %}{% end %}{% end %}", {"x": MILLION}),
        ("{% set l = list(x) %}{% while True %}{% set a = sorted(l) %}{% end %}", {"x": "yx" * 400_000}),
        ("{% set l = list(x) %}{% while True %}{% if l.count('y') %}{% end %}{% end %}", {"x": MILLION}),
        ("{% while True %}{% set a = sum(range(90000)) %}{% end %}", {}),
        ("{% while True %}{% set a = list(enumerate(x)) %}{% end %}", {"x": "x" * 300_000}),
        ("{% set l = set(Array(x, 'Int256')) %}", {"x": ",".join(str(n * (2**61 - 1)) for n in range(1, 90_000))}),
        ("{% set l = {n: 1 for n in Array(x, 'Int256')} %}", {"x": ",".join(str(n * (2**61 - 1)) for n in range(1, 90_000))}),
        ("{% set l = set(zip(range(9000), range(9000))) %}", {}),
        # writing
        ("{% while True %}x{% end %}", {}),
        ("{% while True %}{{x}}{% end %}", {"x": "1"}),
        ("{% while True %}{% try %}x{% finally %}y{% end %}{% end %}", {}),
        ("{% try %}{% while True %}" + "x" * 1000 + "{% end %}{% except %}{% end %}", {}),
        ("{% for i in 'x' * 1000 %}{% set z = x + '' %}{{z}}{% end %}", {"x": "x" * 900_000}),
        ("WHERE 1 " + "OR {{Array(x)}} = {{[x]}} " * 2_000, {"x": MILLION}),
        ("{% set z = tb_secret('k') %}{% for i in 'x' * 1000 %}{{z}}{% end %}", {}),
        ("SELECT " + ", ".join(["{{String(x)}}"] * 2_000), {"x": MILLION}),
    ],
)  # fmt: skip
def test_bounds(source: str, values: dict[str, Any]) -> None:
    template = Template.compile("%" + source)
    tracemalloc.start()
    start = time.thread_time()
    try:
        with pytest.raises(TemplateError) as caught:
            template.render(values, Binder(), secrets={"k": MILLION})
        taken = time.thread_time() - start
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.message.startswith("Template Syntax Error: The template")
    assert len(caught.value.message) < 1_000
    assert taken < 20  # watching memory makes all of it several times slower
    assert peak < 400_000_000


def test_all_renderings_of_one_request_share_a_time() -> None:
    """A pipe may read hundreds of nodes."""
    template = Template.compile("%{% for a in 'x' * 100 %}{% if Array(x) == [] %}{% end %}{% end %}")
    binder = Binder()
    start = time.thread_time()
    with pytest.raises(TemplateError, match="runs longer"):
        for _ in range(10_000):
            template.render({"x": "1," * 3_000}, binder)
    assert time.thread_time() - start < 4 * MAX_REQUEST_SECONDS


def test_what_real_templates_do_stays_far_below() -> None:
    template = Template.compile(
        "%SELECT 1 AS a WHERE {% set seen = [] %}{% for last, x in enumerate_with_last(Array(ids)) %}"
        "{% if x not in seen %}{% set seen = seen + [x] %}id = {{x}}{% if not last %} OR {% end %}{% end %}{% end %}"
    )
    binder = Binder()
    template.render({"ids": ",".join(f"id_{n}" for n in range(2_000))}, binder)
    assert len(binder.params) == 2_000
    big = Template.compile("%SELECT 1 AS a WHERE x IN {{Array(ids)}} AND y = {{String(y)}}")
    big.render({"ids": ",".join(f"id_{n}" for n in range(90_000)), "y": MILLION}, Binder())


@pytest.mark.parametrize(
    "source",
    [
        "{{" + "(" * 5_000 + "1" + ")" * 5_000 + "}}",
        "{{" + "[" * 5_000 + "]" * 5_000 + "}}",
        "{{" + "-" * 15_000 + "1}}",
        "{{" + "not " * 4_000 + "a}}",
        "{{" + "+".join(["a"] * 9_000) + "}}",
        "{{" + " and ".join(["a"] * 2_500) + "}}",
        "{{" + "a if a else " * 1_500 + "a}}",
        "{{a" + "[0]" * 5_000 + "}}",
        "{{a" + ".split()" * 2_000 + "}}",
        "{{" + "Int32(" * 2_000 + "a" + ")" * 2_000 + "}}",
        "{{'" + "x" * 30_000 + "'}}",
        "{% if a %}" * 400,
        "{% for a in b %}" * 400 + "{% end %}" * 400,
        "{% try %}" * 400 + "{% except %}{% end %}" * 400,
        "{% if a %}" + "{% elif a %}" * 5_000 + "{% end %}",
        "{{9" + "9" * 5_000 + "}}",
        "x" * 1_000_001,
        "{{a}}\n" * 50_000,
        "{{'}} " * 50_000,
        "{% set a = 1 %}" * 50_000,
    ],
)
def test_sources_that_are_too_deep_fail_at_once(source: str) -> None:
    start = time.thread_time()
    with pytest.raises(TemplateError) as caught:
        Template.compile("%" + source).render({"a": "1"}, Binder())
    assert time.thread_time() - start < 10
    assert len(caught.value.message) < 1_000
