"""Fixed parameters win, whatever the request does (attacks B01 to B24)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipit.access.params import MAX_PARAMETERS, MAX_VALUE_BYTES, RequestParams, SentParameter, merge
from pipit.errors import BadRequest, TooLarge

FIXED = {"tenant_id": "A"}


def params(*pairs: tuple[str, object], source: str = "query") -> RequestParams:
    return RequestParams(tuple(SentParameter(source, name, value) for name, value in pairs))


@pytest.mark.parametrize("source", ["query", "form", "json"])
def test_b01_b08_b09_the_fixed_value_wins_silently(source: str) -> None:
    assert merge(params(("tenant_id", "B"), source=source), FIXED) == {"tenant_id": "A"}


def test_b02_b08_b10_repeated_in_every_order_and_source() -> None:
    sent = RequestParams(
        (
            SentParameter("query", "tenant_id", "B"),
            SentParameter("query", "tenant_id", "A"),
            SentParameter("form", "tenant_id", "B"),
            SentParameter("json", "tenant_id", ["B"]),
            SentParameter("json", "tenant_id", {"B": 1}),
            SentParameter("json", "tenant_id", None),
        )
    )
    assert merge(sent, FIXED) == {"tenant_id": "A"}
    assert merge(RequestParams(sent.sent[::-1]), FIXED) == {"tenant_id": "A"}


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
    merged = merge(params((name, "B"), ("tenant_id", "B")), FIXED)
    assert merged == {name: "B", "tenant_id": "A"}


def test_b02_nobody_may_say_a_thing_twice() -> None:
    for sent in (
        params(("limit", "1"), ("limit", "2")),
        params(("limit", "1"), ("limit", "1")),
        RequestParams((SentParameter("query", "limit", "1"), SentParameter("json", "limit", 1))),
        RequestParams((SentParameter("query", "limit", "1"), SentParameter("form", "limit", "1"))),
        params(("limit", None), ("limit", "1")),
    ):
        with pytest.raises(BadRequest, match="limit") as caught:
            merge(sent, FIXED)
        assert caught.value.status == 400


def test_a_list_may_be_said_in_several_values() -> None:
    """B02 does not hold for an Array: each value is an element of it."""
    sent = params(("ids", "a"), ("other", "1"), ("ids", "b,c"), ("ids", None))
    assert merge(sent, {}, {"ids"}) == {"ids": ["a", "b,c"], "other": "1"}
    assert merge(params(("ids", ["a"]), ("ids", "b")), {}, {"ids"}) == {"ids": ["a", "b"]}
    assert merge(params(("ids", "a,b")), {}, {"ids"}) == {"ids": "a,b"}  # one value: its text is split
    assert merge(params(("ids", "x"), ("ids", "y")), {"ids": "A"}, {"ids"}) == {"ids": "A"}  # the token's
    with pytest.raises(TooLarge):
        merge(params(*(("ids", "x" * 300_000) for _ in range(5))), {}, {"ids"})


def test_what_means_nothing_may_be_said_twice() -> None:
    assert merge(params(("cli_version", "1"), ("cli_version", "2")), {}) == {"cli_version": "2"}


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
    assert merge(params(("a", sent), source="json"), {}) == {"a": seen}


@pytest.mark.parametrize("value", ["\ud800", ["\ud800"], {"a": "\ud800"}])
def test_half_a_character_is_refused(value: object) -> None:
    with pytest.raises(BadRequest):
        merge(params(("a", value), source="json"), {})


@pytest.mark.parametrize("value", ["x" * (MAX_VALUE_BYTES + 1), "é" * MAX_VALUE_BYTES, ["x" * MAX_VALUE_BYTES]])
def test_b23_a_value_that_is_too_long(value: object) -> None:
    with pytest.raises(TooLarge) as caught:
        merge(params(("a", value)), {})
    assert caught.value.status == 413


def test_b24_too_many_parameters_and_too_long_a_name() -> None:
    merge(params(*((f"p{i}", "") for i in range(MAX_PARAMETERS))), {})
    for sent in (params(*((f"p{i}", "") for i in range(5000))), params(("p" * 2000, "1"))):
        with pytest.raises(BadRequest):
            merge(sent, FIXED)


@given(
    sent=st.lists(
        st.tuples(
            st.sampled_from(["query", "form", "json"]),
            st.sampled_from(["tenant_id", "TENANT_ID", "tenant_id[]", "team"]) | st.text(max_size=5),
            st.text(max_size=5) | st.integers() | st.lists(st.text(max_size=3), max_size=2) | st.none(),
        ),
        max_size=8,
    ),
)
def test_b01_no_request_changes_a_fixed_parameter(
    sent: list[tuple[str, str, object]]
) -> None:
    fixed = {"tenant_id": "A", "team": 5}
    try:
        merged = merge(RequestParams(tuple(SentParameter(*one) for one in sent)), fixed)
    except BadRequest:
        return
    assert {name: merged[name] for name in fixed} == fixed
    assert merged.keys() <= {name for _, name, _ in sent} | fixed.keys()
