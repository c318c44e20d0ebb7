"""Inside of `{% %}` the allow-list of `{{ }}` does not hold: Python's expressions, functions and methods, as Python has
them, within the limits. Each case is asked of Python itself."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pipit.errors import TemplateError
from pipit.templates import Binder, Template, python
from pipit.templates.failures import BadExpression

A = "Hello, World"
SAME_AS_PYTHON = [
    *(f"a.{name}()" for name in (
        *("lower", "upper", "strip", "lstrip", "rstrip", "title", "capitalize", "swapcase", "casefold", "isdigit"),
        *("isalpha", "isalnum", "isspace", "islower", "isupper", "istitle", "isnumeric", "isdecimal", "isascii"),
        *("split", "rsplit", "splitlines", "isidentifier"),
    )),
    *(f"a.{name}('l')" for name in (
        *("startswith", "endswith", "find", "rfind", "index", "rindex", "count", "split", "rsplit", "partition"),
        *("rpartition", "strip", "lstrip", "rstrip", "removeprefix", "removesuffix"),
    )),
    "a.startswith(('x', 'He'))", "a.startswith('lo', 3)", "a.find('zz')", "a.zfill(20)", "a.ljust(15, '.')", "a.rjust(15)",
    "a.center(20, '*')", "a.replace('l', 'L', 1)", "'-'.join(a.split(', '))", "a.split(',', maxsplit=1)", "a.split(sep='o')",
    "a.lower().split(',')[1].strip().upper()", "a[::-1]", "a[1:8:2]", "a[-3:]", "a[0]", "len(a) // 2", "len(a) / 5",
    "len(a) % 5", "-7 // 2", "-7 % 3", "7.5 // 2", "2 ** 10", "2 ** -1", "10 % 4 == 2", "1 < 2 < 3", "(1 + 2) * 3 / 4",
    "list(range(5))", "list(range(2, 9, 3))", "list(range(5, 0, -2))", "list(range(0))", "list(enumerate(['x', 'y']))",
    "list(enumerate('xy', 1))", "list(enumerate('xy', start=5))", "list(zip([1, 2], 'ab'))", "list(zip([1], [2], [3]))",
    "list(reversed([1, 2, 3]))", "str(5)", "str(1.5)", "str('x')", "str(True)", "bool('')", "bool([0])", "round(2.567, 2)",
    "round(2.5)", "round(7)", "round(1234, -2)", "abs(-5)", "sum([1, 2, 3])", "sum([1.5, 2])", "sum([1], 10)",
    "sorted(['b', 'a', 'c'])", "sorted([3, 1, 2], reverse=True)", "sorted('bca')", "list(tuple([1, 2]))",
    "tuple([1, 2]) == (1, 2)", "dict([('a', 1)])['a']", "dict(a=1, b=2)['b']", "sorted(set([3, 1, 3]))", "len({1, 2, 2})",
    "3 in {1, 2, 3}", "sorted({1, 2} | {3})", "sorted({1, 2} & {2, 3})", "sorted({1, 2} - {2})", "sorted({1, 2} ^ {2, 3})",
    "6 & 3", "6 | 3", "6 ^ 3", "any([0, '', 1])", "all([1, 'x'])", "any(x > 2 for x in [1, 2, 3])", "all(x for x in [])",
    "max(len(x) for x in a.split())", "isinstance(a, str)", "isinstance(5, (str, int))", "isinstance(a, list)",
    "isinstance({}, dict)", "isinstance([], list)", "isinstance({1}, list)", "isinstance((1,), tuple)", "isinstance({1}, set)",
    "[x * 2 for x in [1, 2, 3]]", "[x for x in range(9) if x % 2 if x > 3]", "[x + y for x in 'ab' for y in 'cd']",
    "[[y for y in range(x)] for x in range(3)]", "[x.strip() for x in a.split(',') if x.strip()]", "['x'.upper()]",
    "{k: v for k, v in [('a', 1), ('b', 2)]}['b']", "sorted({x % 3 for x in range(10)})", "{v: k for k, v in {'a': 1}.items()}[1]",
    "list({'a': 1, 'b': 2})", "sorted({'a': 1, 'b': 2}.keys())", "sorted({'a': 1, 'b': 2}.values())", "{'a': 1}.get('b', 7)",
    "{'a': 1}.copy()['a']", "[1, 2, 1].count(1)", "[1, 2, 1].index(2)", "(1, 2).index(2)", "[1].copy()", "'{}-{}'.format(a, 1)",
    "'{1}{0}'.format('x', 'y')", "'{n}'.format(n=a)", "'{:05d}|{:.2f}|{:>6}|{:,}'.format(7, 1.234, 'x', 1234567)", "'{{}}'.format()",
    "'%s and %d' % (a, 5)", "'%s' % a", "'%05.2f%%' % 1.5", "'%(x)s' % {'x': a}", "'%x' % 255", "f'{a}!'", "f'{1 + 1:03d}'",
    "f'{a.lower()}-{len(a)}'", "list(map(int, ['1', '2']))", "list(map(str, [1, 2]))", "','.join(map(str, [1, 2]))",
    "list(filter(None, [0, 1, '', 2]))", "list(divmod(7, 2))", "'a' if a.startswith('H') else 'b'", "not a.islower()",
    "a.lower() in ['hello, world']", "a.split(',')[0] + '!'", "'x' * 3 + 'y'", "[1] + [2] * 2", "min([3, 1]) + max(1, 2)",
    "[i for i, x in enumerate(a) if x == 'l']", "''.join(x for x in a if x.isalpha())", "[x for x in a][2]",
    "sorted([w.lower() for w in a.replace(',', '').split()])", "[x if x > 1 else -x for x in range(3)]",
]  # fmt: skip


def plain(value: Any) -> Any:
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def ours(expression: str, values: dict[str, Any]) -> Any:
    binder = Binder()
    Template.compile("%{% set found = " + expression + " %}SELECT 1 AS one WHERE x = {{found}}").render(values, binder)
    return next(iter(binder.params.values())) if len(binder.params) == 1 else list(binder.params.values())


@pytest.mark.parametrize("expression", SAME_AS_PYTHON)
def test_it_is_what_python_has(expression: str) -> None:
    expected = plain(eval(expression, {}, {"a": A}))  # this file's own text
    found = plain(ours(expression, {"a": A}))
    flat = re.findall(r"[^\[\], ]+", str(expected))
    assert found == expected or re.findall(r"[^\[\], ]+", str(found)) == flat  # tuples are bound part by part
    assert type(found) is type(expected) or isinstance(expected, list)
    for statement in (
        f"{{% if ({expression}) == ({expression}) %}}1{{% end %}}",
        f"{{% for x in [{expression}] %}}1{{% end %}}",
    ):
        assert Template.compile("%" + statement).render({"a": A}, Binder()).strip() == "1"


@pytest.mark.parametrize(
    "expression", [e for e in SAME_AS_PYTHON if re.search(r"for | % |//| / |\.upper|range|f'|set\(", e)]
)
def test_what_is_printed_keeps_the_list(expression: str) -> None:
    with pytest.raises(TemplateError, match="Invalid"):
        Template.compile("%{{" + expression.replace("{", " {").replace("}", "} ") + "}}")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% set l = [] %}{% for i in range(3) %}{% set _ = l.append(i) %}{% end %}{{len(l)}}", "3"),
        ("{% set l = ['b', 'a'] %}{% set x = l.sort() %}{{l}}", "['a','b']"),
        ("{% set l = [1, 2, 3] %}{% set x = l.pop() %}{{x}}{{len(l)}}", "32"),
        ("{% set l = [1, 2, 3] %}{% set x = l.pop(0) %}{% set y = l.remove(3) %}{% set z = l.insert(0, 9) %}{{l}}", "[9,2]"),
        ("{% set l = [1] %}{% set x = l.extend([2]) %}{% set y = l.reverse() %}{{l}}", "[2,1]"),
        ("{% set d = {} %}{% set x = d.update({'a': 1}) %}{% set y = d.setdefault('b', 2) %}{{y}}{{d.get('a')}}", "21"),
        ("{% set d = {'a': 1} %}{% set x = d.pop('a') %}{{x}}{{len(d)}}", "10"),
        ("{% set s = set() %}{% for i in [1, 1, 2] %}{% set _ = s.add(i) %}{% end %}{{len(s)}}", "2"),
        ("{% set l = [1] %}{% if l.append(2) is None and len(l) == 2 %}1{% end %}", "1"),
        ("{% set x = 5 %}{% set l = [x for x in [1, 2]] %}{{x}}", "5"),
        ("{% set l = [a for a in [1, 2]] %}{{a}}", "'Hello, World'"),
        ("{% for i in range(2) %}{% try %}{% set l = [i * x for x in range(3)] %}{{sum(l)}}{% except %}{% end %}{% end %}".replace(
            "{{sum(l)}}", "{{len(l)}}"), "33"),
        ("{% for i in range(4) %}{% if i % 2 == 0 %}{{i}}{% end %}{% end %}", "02"),
        ("{% for k, v in {'a': 1, 'b': 2}.items() %}{{v}}{% end %}", "12"),
        ("{% for i, (x) in enumerate(['p', 'r']) %}{{i}}{% end %}", "01"),
        ("{% while len(a) % 5 != 0 %}{% set a = a[1:] %}{% end %}{{a}}", "'llo, World'"),
        ("{% if a.lower().startswith('hello') %}1{% elif a.upper() == 'X' %}2{% end %}", "1"),
        ("{% set from = [from for from in 'xy'] %}{{len(from)}}", "2"),
    ],
)  # fmt: skip
def test_statements(source: str, text: str) -> None:
    assert Template.compile("%" + source).render({"a": A}, Binder()).strip() == text


# --- a bad expression in a branch that is not taken

BAD = [
    *("loop.first", "foo(a)", "a.b", "a.foo()", "a[0]()", "a.__class__", "foo()()", "a @ a", "[*a]", "Int32()"),
    *(
        "a.append(1).x",
        "open('/etc/passwd')",
        "isinstance(a, foo)",
        "map(foo, a)",
    ),
]
PLACES = [
    "{% if b %}@{% end %}",
    "{% if not b %}1{% else %}@{% end %}",
    "{% if not b %}1{% elif c %}@{% end %}",
    "{% for x in Array(b, 'Int8', defined=False) or [] %}@{% end %}",
    "{% while b %}@{% break %}{% end %}",
    "{% for x in [1] %}{% break %}{% else %}@{% end %}",
    "{% if not b %}1{% else %}{% if a %}@{% end %}{% end %}",
]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", PLACES)
def test_a_branch_that_is_not_taken_may_be_bad(place: str, bad: str) -> None:
    for written in (
        f"{{{{{bad}}}}}",
        f"{{% if {bad} %}}{{% end %}}",
        f"{{% set y = {bad} %}}",
        f"{{% for y in {bad} %}}{{% end %}}",
    ):
        source = "%\n SELECT 1\n" + place.replace("@", written)
        template = Template.compile(source, traced=True)
        assert template.render({}, Binder()).strip().startswith("SELECT 1")
        (problem,) = template.problems
        assert isinstance(problem, BadExpression) and problem.line == 3
        assert source.splitlines()[2][problem.column - 1 :].startswith(("{{", "{%"))


@pytest.mark.parametrize("bad", BAD)
def test_it_fails_where_it_is_come_to(bad: str) -> None:
    template = Template.compile("%\n{% if b %}\n  {{" + bad + "}}{% end %} SELECT 1")
    with pytest.raises(BadExpression) as caught:
        template.render({"b": "1"}, Binder())
    (problem,) = template.problems
    assert (caught.value.message, caught.value.line, caught.value.column) == (problem.message, 3, 3)
    assert caught.value.status == 400


@pytest.mark.parametrize("bad", BAD)
def test_what_every_request_comes_to_is_an_error_of_the_deploy(bad: str) -> None:
    for source in (
        f"{{{{{bad}}}}}",
        f"{{% if {bad} %}}{{% end %}}",
        f"{{% while {bad} %}}{{% end %}}",
        f"{{% for x in {bad} %}}{{% end %}}",
    ):
        with pytest.raises(TemplateError):
            Template.compile("%" + source)


@pytest.mark.parametrize(
    "expression", ["b and foo(a)", "a or foo(a)", "foo(a) if b else 1", "1 if a else a.b", "[foo(x) for x in []]"]
)
def test_the_part_that_is_not_computed_may_be_bad(expression: str) -> None:
    template = Template.compile("%{% if " + expression + " %}1{% end %}")
    assert len(template.problems) == 1
    template.render({"a": "x"}, Binder())


@pytest.mark.parametrize("source", ["{{format}}", "{{tb_secret(a)}}", "{{cache_ttl('2m')}}", "{% import os %}", "{{a b}}", "{{}}", "'{{a}}'"])
def test_what_no_template_may_say_is_an_error_in_every_branch(source: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template.compile("%{% if b %}" + source + "{% end %}")
    assert not isinstance(caught.value, BadExpression)


def test_hints() -> None:
    def hint(source: str) -> str:
        with pytest.raises(TemplateError) as caught:
            Template.compile("%" + source)
        return caught.value.hint

    assert "{% set x = " in hint("{{a.upper()}}") and "{% set x = " in hint("{{range(3)}}")
    assert hint("{{Strng(a)}}") == "Did you mean String?"
    assert hint("{{Arry(a)}}") == "Did you mean Array?"
    assert hint("{% if a.startwith('x') %}{% end %}") == "Did you mean startswith?"
    assert hint("{{foo(a)}}") == "" and hint("{{open(a)}}") == ""


# --- the sandbox

HOSTILE = [
    *("a.__class__", "a.upper.__self__", "''.__class__.__mro__", "[].__class__", "().__class__.__bases__[0]", "range.__self__"),
    *("type(a)", "vars()", "globals()", "locals()", "getattr(a, 'x')", "setattr(a, 'x', 1)", "eval('1')", "exec('1')"),
    *("compile('1', '', 'eval')", "__import__('os')", "open('/etc/passwd')", "print(1)", "input()", "dir()", "help()", "id(a)"),
    *("hash(a)", "memoryview(a)", "bytes(3)", "bytearray(3)", "object()", "super()", "iter(a)", "next(a)", "callable(a)"),
    *("a.encode()", "a.format_map({})", "a.translate({})", "a.maketrans('a', 'b')", "a.expandtabs(10)", "(lambda: 1)()"),
    *("(x := 5)", "[*range(3)]", "max(*[1])", "dict(**{})", "range", "str", "a.join", "state", "lookup('a')", "emit(1)"),
    *("comprehension0()", "comprehend([], 'list', a)", "collect(1)", "change('a', 'append', 1)", "method_of('x', a)"),
    *("map(lookup, a)", "map(range, a)", "map(tb_secret, ['k'])", "map(lambda x: x, a)", "filter(int, a)", "sorted(a, key=len)"),
    *("isinstance(a, type)", "isinstance(a, object)", "isinstance(a, a)", "~5", "1 << 5000", "await_(a)", "1j", "b'x'", "..."),
    *("[x async for x in a]", "f'{a!r}'", "f'{a:{a}}'", "f'{a.__class__}'", "(yield)", "a.append.x", "{**{}}", "[].append(1)"),
]  # fmt: skip


@pytest.mark.parametrize("expression", HOSTILE)
def test_the_sandbox_holds(expression: str) -> None:
    """C03, C06, K72: what is not listed does not compile; a name alone is a parameter that no request has."""
    for source in (
        f"{{% set x = {expression} %}}{{{{x}}}}",
        f"{{% if {expression} %}}{{{{a}}}}{{% end %}}",
        f"{{% for x in {expression} %}}{{% end %}}",
    ):
        try:
            text = Template.compile("%" + source).render({"a": "x"}, Binder(), secrets={"k": "hunter2"})
        except TemplateError as error:
            assert not re.search(r"object at|<class|built-in|jinja|\.py|hunter2", error.message)
        else:
            assert text.strip() == "" and re.fullmatch(r"\(?\w+\)?", expression)


@pytest.mark.parametrize(
    "text",
    ["{0.__class__}", "{a.__class__}", "{0[0]}", "{a[k]}", "{0!r}", "{0:{0}}", "{:99999d}", "{:>999999}", "{:.9999f}", "{", "}", "{1}",
     "{-1}", "{b}", "%(a.b)s", "%99999d", "%*d", "%.99999f", "%n", "%", "%(a", "%1$s", "%r", "%a", "%c"],
)  # fmt: skip
def test_formats_read_nothing_and_stay_small(text: str) -> None:
    """C06, K72."""
    for expression in (
        f"'{text}'.format(5, a=7)",
        f"'{text}' % 5",
        f"'{text}' % {{'a': 5}}",
        "t.format(5, a=7)",
        "t % 5",
    ):
        template = Template.compile("%{% set x = " + expression + " %}{{x}}")
        binder = Binder()
        try:
            template.render({"t": text}, binder)
        except TemplateError as error:
            assert not re.search(r"object at|<class|__", error.message.replace(text, ""))
        else:
            assert str(binder.params["p1"]) in (text, "5")


def test_every_method_and_function_is_pure_of_attributes() -> None:
    """What `getattr` could find on a value is not what the tables have."""
    for name in ("__class__", "__init__", "format_map", "encode", "translate", "mro", "gi_frame", "f_globals"):
        assert name not in python.METHODS and name not in python.FUNCTIONS


def test_what_makes_hashes_equal_is_few() -> None:
    """K74: whole numbers whose hashes are equal make a set quadratic; Python looks at no clock meanwhile."""
    numbers = ",".join(str(n * (2**61 - 1)) for n in range(1, 5_100))
    for expression in ("set(l)", "{n for n in l}", "{n: 1 for n in l}", "dict(zip(l, l))", "{1} | l", "{1} - l"):
        template = Template.compile("%{% set l = Array(a, 'Int256') %}{% set x = " + expression + " %}")
        template.render({"a": numbers[:2_000].rpartition(",")[0]}, Binder())
        with pytest.raises(TemplateError, match="large numbers or tuples"):
            template.render({"a": numbers}, Binder())


def test_a_width_is_refused_before_the_text_is_made() -> None:
    """K74."""
    for name in ("zfill", "ljust", "rjust", "center"):
        with pytest.raises(TemplateError, match="larger than"):
            Template.compile("%{% set x = a." + name + "(10**13) %}").render({"a": "x"}, Binder())


@pytest.mark.parametrize("field", ["{0!r}", "{0!s}", "{!a}", "{a.b}", "{0.real}", "{a[0]}"])
def test_a_field_of_a_format_is_a_number_or_a_name(field: str) -> None:
    """C06, K72."""
    with pytest.raises(TemplateError, match=r"A field of format\(\) is a number or a name"):
        Template.compile("%{% set x = '" + field + "'.format(5, a=7) %}").render({}, Binder())
