"""The list of defences fits the code: each can be taken out, and the tests that should notice exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from attacks.defences import DEFENCES, Defence
from attacks.neuter import taken_out

ROOT = Path(__file__).parents[2]


def test_names_are_names() -> None:
    names = [defence.name for defence in DEFENCES]
    assert len(set(names)) == len(names)
    assert {name for defence in DEFENCES for name in defence.together_with} <= set(names)


@pytest.mark.parametrize("defence", DEFENCES, ids=lambda defence: defence.name)
def test_an_entry_fits_the_code(defence: Defence) -> None:
    text = (ROOT / "platform/pipit" / defence.file).read_text()
    assert taken_out(text, defence) != text
    assert defence.tests
    for test in defence.tests:
        path, _, name = test.partition("::")
        assert (ROOT / path).exists(), test
        function = name.partition("[")[0]
        assert not name or re.search(rf"^(async )?def {function}\(", (ROOT / path).read_text(), re.MULTILINE), test
