"""Claims are typed strictly: nothing that could end as "no filter" gets through (attacks A20, A23, A24, B21)."""

from __future__ import annotations

from typing import Any

import pytest

from pipit.access.claims import read_claims, read_context, read_rps, read_scopes, strict_object
from pipit.errors import Forbidden


def scopes_refused(*scopes: object) -> str:
    with pytest.raises(Forbidden) as caught:
        read_scopes(list(scopes))
    return caught.value.message


@pytest.mark.parametrize(
    "value",
    [None, "", [], {}, [""], ["a", None], ["a", ["b"]], [{}], {"id": "a"}, float("inf"), "A\0B", "\ud800", ["a", 1]],
)
def test_a23_a_context_value_that_says_nothing_is_refused_and_named(value: object) -> None:
    with pytest.raises(Forbidden) as caught:
        read_context({"customer_id": value})
    assert "customer_id" in caught.value.message


@pytest.mark.parametrize("value", ["A,B", "A' OR 1=1 --", "{{x}}", "%27", " ", 0, True, 1.5, -1, "Α"])
def test_a23_a25_a26_other_scalars_stay_as_they_are(value: object) -> None:
    assert read_context({"customer_id": value})["customer_id"] == value
    assert type(read_context({"customer_id": value})["customer_id"]) is type(value)


def test_a23_an_array_becomes_a_tuple() -> None:
    assert read_context({"team": ["a", "b"]}) == {"team": ("a", "b")}


@pytest.mark.parametrize("value", [None, "acme", ["acme"], 1, True])
def test_a_context_is_an_object(value: object) -> None:
    with pytest.raises(Forbidden, match="context"):
        read_context(value)


def test_keys_of_a_context_are_texts_and_few() -> None:
    for context in ({"": "acme"}, {"\0": "acme"}, {f"k{i}": 1 for i in range(101)}, {"k": ["x"] * 1001}):
        with pytest.raises(Forbidden):
            read_context(context)


def test_a_token_without_a_context_has_an_empty_one() -> None:
    security = read_claims({"scopes": [], "exp": 1}, "w")
    assert security.context == {}
    assert security.rps == 0
    assert security.name == "jwt"


@pytest.mark.parametrize("scopes", [None, {}, "PIPES:READ:a", 1])
def test_scopes_are_a_list(scopes: object) -> None:
    with pytest.raises(Forbidden, match="scopes"):
        read_scopes(scopes)


@pytest.mark.parametrize(
    "scope",
    [
        "PIPES:READ:a",
        {},
        {"type": "PIPES:READ"},
        {"type": "PIPES:READ", "resource": ""},
        {"type": "PIPES:READ", "resource": None},
        {"type": "PIPES:READ", "resource": ["a"]},
        {"type": "PIPES:READ", "resource": "a\0"},
        {"type": "ADMIN"},
        {"type": "ADMIN", "resource": "a"},
        {"type": "TOKENS", "resource": "a"},
        {"type": "WORKSPACE:READ_ALL", "resource": "a"},
        {"type": "DATASOURCES:DROP", "resource": "a"},
        {"type": "pipes:read", "resource": "a"},
        {"type": ["PIPES:READ"], "resource": "a"},
        {"type": "PIPES:READ", "resource": "a", "filter": "1"},
        {"type": "PIPES:READ", "resource": "a", "fixedParams": {"x": 1}},
        {"type": "DATASOURCES:READ", "resource": "a", "fixed_params": {"x": 1}},
        {"type": "DATASOURCES:READ", "resource": "a", "filter": ""},
        {"type": "DATASOURCES:READ", "resource": "a", "filter": " "},
        {"type": "DATASOURCES:READ", "resource": "a", "filter": 1},
        {"type": "DATASOURCES:READ", "resource": "a", "filter": ["x = 1"]},
        {"type": "DATASOURCES:APPEND", "resource": "a", "filter": "x = 1"},
        {"type": "DATASOURCES:APPEND", "resource": "a", "fixed_values": []},
        {"type": "DATASOURCES:APPEND", "resource": "a", "fixed_values": {"tenant": ""}},
        {"type": "DATASOURCES:APPEND", "resource": "a", "fixed_values": {"tenant": ["a", ""]}},
    ],
)
def test_a_scope_that_a_jwt_cannot_have(scope: object) -> None:
    scopes_refused(scope)


@pytest.mark.parametrize("value", [None, [], {}, ["a"], float("inf"), "a\0b", "\udfff"])
def test_a23_fixed_params_are_scalars(value: object) -> None:
    message = scopes_refused({"type": "PIPES:READ", "resource": "a", "fixed_params": {"tenant": value}})
    assert "tenant" in message


def test_fields_that_a_client_leaves_empty_are_no_mistake() -> None:
    (scope,) = read_scopes([{"type": "PIPES:READ", "resource": "a", "fixed_params": None, "filter": ""}])
    assert not scope.fixed_params


def test_b21_two_scopes_of_one_pipe_that_fix_it_differently() -> None:
    def scope(**fixed: Any) -> dict[str, Any]:
        return {"type": "PIPES:READ", "resource": "a", "fixed_params": fixed}

    for first, second in (
        (scope(tenant="A"), scope(tenant="B")),
        (scope(tenant="A"), scope()),
        (scope(tenant="A"), scope(tenant="A", more=1)),
        (scope(tenant=1), scope(tenant=True)),
        (scope(tenant=1), scope(tenant=1.0)),
    ):
        assert "different" in scopes_refused(first, second)
        assert "different" in scopes_refused(second, first)
    assert len(read_scopes([scope(tenant="A"), scope(tenant="A")])) == 2
    assert len(read_scopes([scope(tenant="A"), {**scope(tenant="B"), "resource": "b"}])) == 2


def test_b21_two_appends_that_set_a_column_differently() -> None:
    scope = {"type": "DATASOURCES:APPEND", "resource": "a", "fixed_values": {"tenant": "A"}}
    scopes_refused(scope, {**scope, "fixed_values": {"tenant": "B"}})


@pytest.mark.parametrize(("limits", "rps"), [(None, 0), ({}, 0), ({"rps": 10}, 10), ({"rps": 10.0}, 10)])
def test_rps(limits: object, rps: int) -> None:
    assert read_rps(limits) == rps


@pytest.mark.parametrize("value", [0, -1, None])
def test_rps_of_zero_or_less_is_no_limit(value: object) -> None:
    assert read_rps({"rps": value}) == 0


@pytest.mark.parametrize("limits", [10, [10], "10", {"rps": "10"}, {"rps": True}, {"rps": 0.5}, {"rps": [1]}])
def test_a_limit_that_is_not_understood_is_refused(limits: object) -> None:
    with pytest.raises(Forbidden, match="limits"):
        read_rps(limits)


@pytest.mark.parametrize("name", ["", None, 1, ["a"], "a\nb", "a" * 257, "\x1b[31m"])
def test_a18_a_name_that_would_spoil_a_log_line_is_refused(name: object) -> None:
    with pytest.raises(Forbidden) as caught:
        read_claims({"name": name, "scopes": []}, "w")
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "data", [b"", b"1", b"[]", b"null", b'"a"', b"{", b"\xff{}", b'{"a":1,"a":1}', b'{"a":{"b":1,"b":2}}', b'{"a":NaN}']
)
def test_a19_strict_json(data: bytes) -> None:
    with pytest.raises(ValueError):
        strict_object(data)
