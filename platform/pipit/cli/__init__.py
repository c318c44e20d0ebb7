"""The command `pipit`. `main` is the entry point; each module holds the commands that its name says.

Beside a running server (`server.json` in the data directory) every command talks to it over HTTP; without one it
starts what it needs in its own process, over HTTP too, so there is one code path. Results go to standard output,
all else to standard error. An error is a sentence and a hint, never a stack trace; tokens and secrets are printed
only where the command's purpose is to hand one out. What is slow to import is imported where it is used: `--help`
must not wait for it.

Exit codes: 0 done, 1 the project or the request has errors, 2 wrong usage, 3 no server answers or none can start.
"""

from pipit.cli.main import app, main

__all__ = ["app", "main"]
