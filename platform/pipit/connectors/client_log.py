"""What the Kafka client logs of an attempt to connect: why a broker refused is told nowhere else.

At DEBUG it logs its requests, and with them passwords: that is never switched on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_attempt: ContextVar[list[str] | None] = ContextVar("attempt", default=None)


class _Kept(logging.Handler):
    """Of whom it is, each attempt's task knows: others' messages are not mixed in."""

    def emit(self, record: logging.LogRecord) -> None:
        said = _attempt.get()
        if said is not None:
            said.append(record.getMessage()[:300])


_client = logging.getLogger("aiokafka")
_client.setLevel(logging.INFO)
for _name in ("aiokafka.conn", "aiokafka.client"):
    logging.getLogger(_name).setLevel(logging.INFO)
_client.addHandler(_Kept(logging.ERROR))


@contextmanager
def told() -> Iterator[list[str]]:
    """The errors that are logged inside, in this task and those that it begins."""
    said: list[str] = []
    before = _attempt.set(said)
    try:
        yield said
    finally:
        _attempt.reset(before)
