"""Who may do what, and what a no says (attacks B16, B19, B21, B22, E08, G01, G02, J01)."""

from __future__ import annotations

import pytest

from pipit.access import grants
from pipit.access.context import Scalar, Scope, SecurityContext, TokenKind
from pipit.errors import Forbidden, NotFound

ADMIN = SecurityContext("w", TokenKind.ADMIN, "workspace admin token")


def static(*scopes: Scope) -> SecurityContext:
    return SecurityContext("w", TokenKind.STATIC, "dashboards", scopes)


def tenant(*scopes: Scope) -> SecurityContext:
    return SecurityContext("w", TokenKind.JWT, "acme", scopes)


def pipe(name: str = "top_pages", **fixed: Scalar) -> Scope:
    return Scope("PIPES:READ", name, fixed_params=fixed)


def test_reading_a_pipe() -> None:
    for security in (ADMIN, static(Scope("WORKSPACE:READ_ALL")), static(Scope("ADMIN")), static(pipe())):
        assert grants.read_pipe(security, "top_pages", ("customer_id",)) == {}
    assert grants.read_pipe(tenant(pipe(customer_id="acme")), "top_pages", ("customer_id",)) == {"customer_id": "acme"}
    assert grants.read_pipe(tenant(pipe()), "top_pages", ()) == {}


@pytest.mark.parametrize(
    "name", ["a_private", "A", "a.json", "a/../b", "a ", "", "a\0", "*", "%", "a%", "b", "PIPES:READ:a"]
)
def test_b22_a_name_is_compared_exactly(name: str) -> None:
    for security in (tenant(pipe("a")), static(pipe("a"))):
        with pytest.raises(Forbidden):
            grants.read_pipe(security, name, ())
        assert not grants.may_read_pipe(security, name)


def test_e08_an_unreadable_pipe_and_none_get_the_same_answer() -> None:
    for security in (tenant(pipe("a")), static(pipe("a"))):
        answers = []
        for exists in (True, False):
            with pytest.raises(Forbidden) as caught:
                grants.read_pipe(security, "secret_pipe", (), exists=exists)
            answers.append(caught.value.body())
        assert answers[0] == answers[1]
        assert "PIPES:READ" in str(answers[0]["error"])
        assert "secret_pipe" in str(answers[0]["error"])


def test_who_may_read_is_told_that_there_is_nothing() -> None:
    for security in (ADMIN, tenant(pipe("gone"))):
        with pytest.raises(NotFound, match="The pipe 'gone' does not exist"):
            grants.read_pipe(security, "gone", (), exists=False)


@pytest.mark.parametrize("fixed", [{}, {"other": "x"}, {"customer_id": ""}, {"CUSTOMER_ID": "acme"}])
def test_b16_b19_a_declared_parameter_that_the_jwt_leaves_open(fixed: dict[str, Scalar]) -> None:
    with pytest.raises(Forbidden, match="does not fix the parameter 'customer_id'") as caught:
        grants.read_pipe(tenant(pipe(**fixed)), "top_pages", ("customer_id",))
    assert "FIXED_PARAMS" in caught.value.hint


@pytest.mark.parametrize("value", [0, False, "0", " "])
def test_b16_any_other_value_fixes_it(value: Scalar) -> None:
    assert grants.read_pipe(tenant(pipe(customer_id=value)), "top_pages", ("customer_id",)) == {"customer_id": value}


def test_b21_should_two_scopes_ever_disagree_nothing_is_chosen() -> None:
    with pytest.raises(Forbidden, match="two values"):
        grants.read_pipe(tenant(pipe(customer_id="A"), pipe(customer_id="B")), "top_pages", ())
    with pytest.raises(Forbidden, match="two values"):
        grants.read_pipe(tenant(pipe(customer_id=1), pipe(customer_id=True)), "top_pages", ())


def test_a_jwt_has_no_scope_of_a_workspace_token() -> None:
    for type in ("ADMIN", "ADMIN_USER", "WORKSPACE:READ_ALL", "TOKENS", "WORKSPACE:DEPLOY"):
        security = tenant(Scope(type))
        for decide in (grants.require_admin, grants.require_tokens, grants.deploy):
            with pytest.raises(Forbidden):
                decide(security)
        assert not grants.may_read_pipe(security, "a")
        assert not grants.may_read_datasource(security, "a")
        with pytest.raises(Forbidden):
            grants.append(security, "a")


def test_j01_each_management_scope_opens_its_own_door() -> None:
    doors = {"TOKENS": grants.require_tokens, "WORKSPACE:DEPLOY": grants.deploy, "ADMIN": grants.require_admin}
    for mine in doors:
        for other, door in doors.items():
            security = static(Scope(mine))
            if mine in (other, "ADMIN"):
                door(security)
            else:
                with pytest.raises(Forbidden):
                    door(security)
    for door in doors.values():
        door(ADMIN)
        with pytest.raises(Forbidden, match="dashboards"):
            door(static(pipe()))


def test_g01_g02_appending() -> None:
    append = Scope("DATASOURCES:APPEND", "events", fixed_values={"customer_id": "acme"})
    assert grants.append(tenant(append), "events") == {"customer_id": "acme"}
    assert grants.append(static(Scope("DATASOURCES:APPEND", "events")), "events") == {}
    assert grants.append(ADMIN, "events") == {}
    reader = Scope("DATASOURCES:READ", "events")
    for security, name in ((tenant(append), "users"), (tenant(reader), "events"), (static(reader), "events")):
        answers = []
        for exists in (True, False):
            with pytest.raises(Forbidden, match="DATASOURCES:APPEND") as caught:
                grants.append(security, name, exists=exists)
            answers.append(caught.value.body())
        assert answers[0] == answers[1]
    with pytest.raises(NotFound, match='Data Source "events" does not exist'):
        grants.append(ADMIN, "events", exists=False)


def test_reading_a_data_source_and_its_quarantine_g17() -> None:
    security = static(Scope("DATASOURCES:READ", "events"))
    grants.read_datasource(security, "events")
    grants.read_datasource(security, "events_quarantine")
    for name in ("users", "users_quarantine", "events_quarantine_quarantine", "Events"):
        with pytest.raises(Forbidden, match="DATASOURCES:READ"):
            grants.read_datasource(security, name)
    with pytest.raises(NotFound):
        grants.read_datasource(ADMIN, "gone", exists=False)


def test_sql_of_a_static_token_reads_what_its_scopes_name() -> None:
    security = static(Scope("DATASOURCES:READ", "events"), pipe("top_pages"))
    grants.read_sql(security, {"events", "top_pages"})
    with pytest.raises(Forbidden, match="'users'"):
        grants.read_sql(security, {"events", "users"})
    grants.read_sql(ADMIN, {"events", "users"})
    with pytest.raises(Forbidden, match="JWT"):
        grants.read_sql(tenant(Scope("DATASOURCES:READ", "events")), {"events"})


def test_a_name_in_a_message_is_printable_and_short() -> None:
    with pytest.raises(Forbidden) as caught:
        grants.read_pipe(tenant(), "\x1b[31m" + "x" * 5000 + "\n", ())
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 300
