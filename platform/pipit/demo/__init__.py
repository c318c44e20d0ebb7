"""The demo of `pipit serve --demo`: sample events of three customers, and a page that shows the isolation.

`demo_routes(mint)` are the routes of the page, `stream_events(...)` sends the events, `banner(...)` is what
the terminal says. They talk to the rest of Pipit over HTTP, and get tokens from the `Mint` given to them.
"""

from pipit.demo.banner import banner
from pipit.demo.page import Mint, demo_routes
from pipit.demo.stream import stream_events

__all__ = ["Mint", "banner", "demo_routes", "stream_events"]
