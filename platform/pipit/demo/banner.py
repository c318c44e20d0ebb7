"""What `make demo` prints: where the page is, and `curl` lines that show the isolation in a terminal."""

from __future__ import annotations

import time

from pipit.demo.page import TOKEN_SECONDS, VIEWERS, Mint

_PIPE = "top_features"


def banner(base_url: str, mint: Mint) -> str:
    """Plain text, ready to paste: two customers ask the same, then one of them asks for the other's rows."""
    first, second = VIEWERS[0], VIEWERS[1]
    url = f"{base_url}/v0/pipes/{_PIPE}.json"
    variables = {v.id: v.customer.upper() for v in (first, second)}
    tokens = [
        mint(
            name=f"demo-{v.id}",
            scopes=[s for s in v.scopes if s.resource == _PIPE],
            context=v.context,
            expires_at=int(time.time()) + TOKEN_SECONDS,
        )
        for v in (first, second)
    ]

    def curl(variable: str, query: str) -> str:
        return f"curl -H \"Authorization: Bearer ${variable}\" '{url}?{query}'"

    return "\n".join(
        [
            f"  The page: {base_url}/demo",
            "",
            "  In a terminal: a token for each of two customers (good for an hour),",
            "",
            *(f"{name}='{token}'" for name, token in zip(variables.values(), tokens, strict=True)),
            "",
            "  the same question from both,",
            "",
            *(curl(name, "limit=3") for name in variables.values()),
            "",
            f"  and {first.label} asking for the rows of {second.label}: the answer stays its own.",
            "",
            curl(variables[first.id], f"limit=3&customer_id={second.customer}"),
            "",
        ]
    )
