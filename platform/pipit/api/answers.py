"""What Pipit itself has to say, as JSON."""

from __future__ import annotations

from typing import Any

from starlette import responses

from pipit import jsontext


class JSONResponse(responses.JSONResponse):
    """Starlette's, written by `jsontext`. Dates and the like are their texts."""

    def render(self, content: Any) -> bytes:
        return jsontext.text(content, default=str).encode("utf-8", "replace")  # no answer holds half a character
