"""How property tests draw. `make test` draws the same examples in every run, so that no run fails by chance; `make fuzz`
draws fresh ones, PIPIT_FUZZ times as many. A failure that it finds becomes an `@example` or a test of its own.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("PIPIT_FUZZ", "0"))


def examples(number: int) -> int:
    """`max_examples` of a property test: `number` in `make test`."""
    return number * (TIMES or 1)


def load_profile() -> None:
    """The settings that a test's own `@settings` starts from. What depends on the machine's speed is off."""
    settings.register_profile(
        "pipit",
        derandomize=not TIMES,
        max_examples=examples(100),
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=set(HealthCheck) - {HealthCheck.differing_executors, HealthCheck.nested_given},
    )
    settings.load_profile("pipit")
