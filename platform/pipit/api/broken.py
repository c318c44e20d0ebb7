"""The end of an answer that had begun and cannot be completed."""

from __future__ import annotations


class BrokenOff(Exception):
    """Raised through the application after the first byte. Whoever holds the connection ends it without the last chunk,
    so that every HTTP client sees that the answer is not whole. `at_once`: what is not sent yet is thrown away."""

    def __init__(self, reason: str, *, at_once: bool = False) -> None:
        super().__init__(reason)
        self.at_once = at_once
