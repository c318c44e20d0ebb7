"""The list of defences fits the code: each can be taken out, and the tests that should notice exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from attacks.defences import DEFENCES
from attacks.removal import Defence, EntryError, Way, taken_out

ROOT = Path(__file__).parents[2]


@cache
def read(path: str) -> str:
    return (ROOT / path).read_text()


@cache
def functions(path: str) -> frozenset[str]:
    return frozenset(re.findall(r"^(?:async )?def (\w+)\(", read(path), re.MULTILINE))


def test_names_are_names() -> None:
    names = [defence.name for defence in DEFENCES]
    assert len(set(names)) == len(names)
    assert {name for defence in DEFENCES for name in defence.together_with} <= set(names)


@pytest.mark.parametrize("defence", DEFENCES, ids=lambda defence: defence.name)
def test_an_entry_fits_the_code(defence: Defence) -> None:
    text = read(f"platform/pipit/{defence.file}")
    assert taken_out(text, defence) != text
    assert defence.tests
    for test in defence.tests:
        path, _, name = test.partition("::")
        assert (ROOT / path).exists(), test
        function = name.partition("[")[0]
        assert not name or function in functions(path), test


def test_no_entry_hangs_on_the_exact_text_of_a_file() -> None:
    """A line that is formatted in another way is the same line: an entry names its function and what is there."""
    assert [defence.name for defence in DEFENCES if defence.way is Way.TEXT] == []


@pytest.mark.parametrize("file", sorted({defence.file for defence in DEFENCES}))
def test_an_entry_outlives_another_layout_of_its_file(file: str) -> None:
    text = read(f"platform/pipit/{file}")
    plain = ast.unparse(ast.parse(text))  # without comments, blank lines and line breaks
    for defence in DEFENCES:
        if defence.file == file:
            assert ast.unparse(ast.parse(taken_out(plain, defence))) == ast.unparse(ast.parse(taken_out(text, defence))), defence.name


SOURCE = '''
LIMITS = {"a": 1, "b": 2}
BITS: int = LOW | HIGH


class Door:
    def open(self, who, key):
        """Two
        lines."""
        if who.banned or not fits(key, self.lock):
            raise Refused(reason=Reason.NO_ENTRY)
        for one in who.bags:
            look(one)
        with light(), guard(self):
            record(who)
        return hinge(key, force=1)
'''


@pytest.mark.parametrize(
    ("way", "where", "old", "new", "gone", "then"),
    [
        (Way.CHECK, "Door.open", "banned", "", "who.banned or", "if False:"),
        (Way.CHECK, "Door.open", "NO_ENTRY", "who.tall", "who.banned", "if who.tall:"),
        (Way.CHECK, "Door.open", "banned fits", "", "who.banned", "if False:"),
        (Way.OPERAND, "Door.open", "banned", "", "who.banned", "if not fits(key, self.lock):"),
        (Way.OPERAND, "Door.open", "fits", "False", "fits(", "if who.banned or False:"),
        (Way.LOOP, "Door.open", "who.bags", "", "who.bags", "for one in ():"),
        (Way.STATEMENT, "Door.open", "record", "", "record(", "pass"),
        (Way.STATEMENT, "Door.open", "guard", "", "guard(", "with light():"),
        (Way.CALL, "Door.open", "fits", "_call or _2", "if who.banned or not fits", "not (fits(key, self.lock) or self.lock)"),
        (Way.CALL, "Door.open", "look one", "_1", "look(", "one\n"),
        (Way.ENTRY, "Door.open", "force", "", "force", "hinge(key)"),
        (Way.ENTRY, "LIMITS", "b", "", "'b'", "{'a': 1}"),
        (Way.ENTRY, "LIMITS", "a b", "0", "1", "{'a': 0, 'b': 0}"),
        (Way.OPERAND, "BITS", "HIGH", "", "HIGH", "BITS: int = LOW"),
        (Way.BODY, "Door.open", "", "return None", "hinge", "return None"),
        (Way.VALUE, "LIMITS", "", "{}", "'a'", "LIMITS = {}"),
        (Way.EXPRESSION, "Door.open", "hinge( key,force = 1 )", "key", "hinge", "return key"),
        (Way.TEXT, "", "LOW | ", "", "LOW", "BITS: int = HIGH"),
    ],
)
def test_what_can_be_taken_out(way: Way, where: str, old: str, new: str, gone: str, then: str) -> None:
    without = taken_out(SOURCE, Defence("one", "door.py", old, new, (), (), where, way))
    changed = "\n".join(line for line in without.splitlines() if line not in SOURCE.splitlines())
    assert gone not in changed
    assert then in without


@pytest.mark.parametrize(
    ("way", "where", "old", "new"),
    [
        (Way.CHECK, "Door.close", "banned", ""),  # no such function
        (Way.CHECK, "Door.open", "late", ""),  # nothing there
        (Way.CALL, "Door.open", "fits", "no Python"),
        (Way.VALUE, "Door.open", "", "1"),
        (Way.BODY, "LIMITS", "", "pass"),
        (Way.ENTRY, "LIMITS", "a c", ""),  # one of two
        (Way.TEXT, "", "who", ""),  # several times
    ],
)
def test_an_entry_that_does_not_fit_is_an_error(way: Way, where: str, old: str, new: str) -> None:
    with pytest.raises(EntryError):
        taken_out(SOURCE, Defence("one", "door.py", old, new, (), (), where, way))
