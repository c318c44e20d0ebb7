"""docs/audit.md against the code: every finding is listed with what it means."""

from __future__ import annotations

import re
from pathlib import Path

from pipit.audit.findings import CODES

TEXT = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()


def test_every_code_is_documented() -> None:
    assert dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", TEXT.partition("## Findings")[2], re.MULTILINE)) == dict(CODES)
