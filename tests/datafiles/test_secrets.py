"""Secrets: placeholders parse, values come back as they are, and nothing of a value is in a message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipit.datafiles import parse_connection, parse_project, render_secrets, secret_names, with_secrets
from pipit.errors import ProjectError

HEAD = "TYPE kafka\nKAFKA_BOOTSTRAP_SERVERS a:9092\n"
LINES = [
    'KAFKA_SECRET {{ tb_secret("s") }}',
    "KAFKA_SECRET {{tb_secret('s')}} # a comment",
    'KAFKA_SECRET "{{ tb_secret("s") }}"',
    'KAFKA_SECRET >\n    {{ tb_secret("s") }}',
]


def rendered(line: str, value: str) -> str:
    text = render_secrets(HEAD + line + "\n", {"s": value}, file="k.connection")
    return parse_connection(text, file="k.connection").settings["KAFKA_SECRET"]


@pytest.mark.parametrize("line", LINES[:3])
@given(
    value=st.text(
        st.characters(exclude_characters="\n\r\0\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029{}", codec="utf-8"), min_size=1
    )
)
def test_a_secret_of_one_line_comes_back_as_it_is(line: str, value: str) -> None:
    assert rendered(line, value) == value
    project = with_secrets(parse_project({"k.connection": HEAD + line + "\n"}), {"s": value})
    assert project.connections["k"].settings["KAFKA_SECRET"] == value
    assert "tb_secret" in project.files["k.connection"]


def test_a_secret_of_several_lines_cannot_become_directives() -> None:
    pem = "-----BEGIN\nTYPE s3\n# x\nend-----\n"
    text = HEAD + 'KAFKA_SSL_CA_PEM >\n{{ tb_secret("s") }}\n'
    parsed = parse_connection(render_secrets(text, {"s": pem}, file="k.connection"), file="k.connection")
    assert parsed.settings["KAFKA_SSL_CA_PEM"] == pem.rstrip("\n")
    assert parsed.type == "kafka"
    with pytest.raises(ProjectError, match="several lines needs a block"):
        render_secrets(HEAD + LINES[0], {"s": "a\nTOKEN b READ"}, file="k.connection")


def test_defaults_and_missing_secrets() -> None:
    text = HEAD + 'KAFKA_KEY {{ tb_secret("k", "dflt") }}\nKAFKA_SECRET {{ tb_secret("x") }}\n'
    assert secret_names(text) == ("x",)
    expected = (
        "Cannot access secret 'x'. Check the secret exists in the Workspace and the token has the required scope."
    )
    with pytest.raises(ProjectError) as caught:
        render_secrets(text, {}, file="k.connection")
    assert [(e.message, e.line, e.column) for e in caught.value.errors] == [(expected, 4, 14)]
    with pytest.raises(ProjectError) as caught:
        with_secrets(parse_project({"k.connection": text}), {})
    assert [(e.message, e.line, e.column) for e in caught.value.errors] == [(expected, 4, 14)]
    filled = with_secrets(parse_project({"k.connection": text}), {"x": ""}).connections["k"]
    assert (filled.settings["KAFKA_KEY"], filled.settings["KAFKA_SECRET"]) == ("dflt", "")


def test_secrets_in_expressions_and_never_in_policies() -> None:
    text = (
        "SCHEMA >\n    a DateTime\n"
        'ENGINE_TTL "a + INTERVAL {{ tb_secret("days") }} DAY"\n'
        "ROW_POLICY a = {{String(context.a)}}\n"
    )
    project = with_secrets(parse_project({"e.datasource": text}), {"days": "30"})
    assert project.datasources["e"].engine.ttl == "a + INTERVAL 30 DAY"
    again = parse_project({"e.datasource": render_secrets(text, {"days": "30"}, file="e.datasource")})
    assert again.datasources["e"].engine.ttl == "a + INTERVAL 30 DAY"
    policy = again.datasources["e"].row_policy
    assert policy is not None and policy.condition == "a = {{String(context.a)}}"
    with pytest.raises(ProjectError, match="A ROW_POLICY cannot use secrets"):
        parse_project({"e.datasource": 'SCHEMA >\n    a String\nROW_POLICY a = {{ tb_secret("x") }}\n'})
    with pytest.raises(ProjectError, match="Only tb_secret can be used here"):
        parse_project({"e.datasource": "SCHEMA >\n    a String\nTAGS {{ String(x) }}\n"})
