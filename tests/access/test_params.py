"""Fixed parameters win, whatever the request does (ATTACKS B01 to B24)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipit.access.context import SecurityContext, TokenKind
from pipit.access.params import MAX_PARAMETERS, MAX_VALUE_BYTES, Parameter, RequestParams, merge
from pipit.errors import BadRequest, TooLarge

TENANT = SecurityContext("w", TokenKind.JWT, "acme")
STATIC = SecurityContext("w", TokenKind.STATIC, "t")
FIXED = {"tenant_id": "A"}


def params(*pairs: tuple[str, object], source: str = "query") -> RequestParams:
    return RequestParams(tuple(Parameter(source, name, value) for name, value in pairs))


@pytest.mark.parametrize("source", ["query", "form", "json"])
@pytest.mark.parametrize("security", [TENANT, STATIC])
def test_b01_b08_b09_the_fixed_value_wins_silently(source: str, security: SecurityContext) -> None:
    assert merge(params(("tenant_id", "B"), source=source), FIXED, security) == {"tenant_id": "A"}


def test_b02_b08_b10_repeated_in_every_order_and_source() -> None:
    sent = RequestParams(
        (
            Parameter("query", "tenant_id", "B"),
            Parameter("query", "tenant_id", "A"),
            Parameter("form", "tenant_id", "B"),
            Parameter("json", "tenant_id", ["B"]),
            Parameter("json", "tenant_id", {"B": 1}),
            Parameter("json", "tenant_id", None),
        )
    )
    assert merge(sent, FIXED, TENANT) == {"tenant_id": "A"}
    assert merge(RequestParams(sent.sent[::-1]), FIXED, TENANT) == {"tenant_id": "A"}


@pytest.mark.parametrize(
    "name",
    [
        "Tenant_ID",
        "TENANT_ID",
        "tenant_id[]",
        "tenant_id[0]",
        "tenant_id.x",
        "tenant_id ",
        " tenant_id",
        "+tenant_id",
        "tenant_id\0",
        "tenant_id\n",
        "tenant_ıd",
        "tenant\u200b_id",
        "tenant_id;a",
    ],
)
def test_b03_b05_b06_b07_another_spelling_is_another_name(name: str) -> None:
    merged = merge(params((name, "B"), ("tenant_id", "B")), FIXED, TENANT)
    assert merged == {name: "B", "tenant_id": "A"}


def test_b02_a_tenant_may_not_say_a_thing_twice() -> None:
    for sent in (
        params(("limit", "1"), ("limit", "2")),
        params(("limit", "1"), ("limit", "1")),
        RequestParams((Parameter("query", "limit", "1"), Parameter("json", "limit", 1))),
        RequestParams((Parameter("query", "limit", "1"), Parameter("form", "limit", "1"))),
        params(("limit", None), ("limit", "1")),
    ):
        with pytest.raises(BadRequest, match="limit") as caught:
            merge(sent, FIXED, TENANT)
        assert caught.value.status == 400


def test_a_workspace_token_has_the_dialect_the_last_one_counts() -> None:
    assert merge(params(("a", "1"), ("a", "2")), {}, STATIC) == {"a": "2"}
    assert merge(params(("a", "1"), ("a", None)), {}, STATIC) == {}


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("x", "x"),
        ("", ""),
        (5, 5),
        (1.5, 1.5),
        (True, True),
        ([1, 2], [1, 2]),
        (["a"], ["a"]),
        ([], []),
        ({"a": 1}, {"a": 1}),
        ([[1]], [[1]]),
        ([None], [None]),
        ([{"a": "é"}], [{"a": "é"}]),
    ],
)
def test_b11_what_the_template_sees(sent: object, seen: object) -> None:
    assert merge(params(("a", sent), source="json"), {}, TENANT) == {"a": seen}


@pytest.mark.parametrize("value", ["\ud800", ["\ud800"], {"a": "\ud800"}])
def test_half_a_character_is_refused(value: object) -> None:
    with pytest.raises(BadRequest):
        merge(params(("a", value), source="json"), {}, TENANT)


@pytest.mark.parametrize("value", ["x" * (MAX_VALUE_BYTES + 1), "é" * MAX_VALUE_BYTES, ["x" * MAX_VALUE_BYTES]])
def test_b23_a_value_that_is_too_long(value: object) -> None:
    for security in (TENANT, STATIC):
        with pytest.raises(TooLarge) as caught:
            merge(params(("a", value)), {}, security)
        assert caught.value.status == 413


def test_b24_too_many_parameters_and_too_long_a_name() -> None:
    merge(params(*((f"p{i}", "") for i in range(MAX_PARAMETERS))), {}, TENANT)
    for sent in (params(*((f"p{i}", "") for i in range(5000))), params(("p" * 2000, "1"))):
        with pytest.raises(BadRequest):
            merge(sent, FIXED, TENANT)


@given(
    sent=st.lists(
        st.tuples(
            st.sampled_from(["query", "form", "json"]),
            st.sampled_from(["tenant_id", "TENANT_ID", "tenant_id[]", "team"]) | st.text(max_size=5),
            st.text(max_size=5) | st.integers() | st.lists(st.text(max_size=3), max_size=2) | st.none(),
        ),
        max_size=8,
    ),
    security=st.sampled_from([TENANT, STATIC]),
)
def test_b01_no_request_changes_a_fixed_parameter(
    sent: list[tuple[str, str, object]], security: SecurityContext
) -> None:
    fixed = {"tenant_id": "A", "team": 5}
    try:
        merged = merge(RequestParams(tuple(Parameter(*one) for one in sent)), fixed, security)
    except BadRequest:
        return
    assert {name: merged[name] for name in fixed} == fixed
    assert merged.keys() <= {name for _, name, _ in sent} | fixed.keys()
