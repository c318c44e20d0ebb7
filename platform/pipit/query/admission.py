"""How many reads run at once: of one token name, and in all. So that one token's slow queries leave room for others.

A slot is for the engine's work; one of `unread_answers` is kept until the client has the last byte of its answer.

The engine works its queries off first come, first served; without this a token with many slow ones is everybody's
delay. Who finds no slot waits in its token's line; free slots go to the lines in turn. A line is short in time: who
has waited too long gets RateLimited if its own token is the reason, else Unavailable. For one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AbstractAsyncContextManager

from pipit.access.context import SecurityContext
from pipit.errors import RateLimited, Reason, Unavailable

# The engine's child runs 64 queries at once; what is left is for deploys, loads and the examination of new texts.
_OF_ONE = 16
_IN_ALL = 48
_PATIENCE = 5.0  # seconds
_LINE = 500  # who waits is held in memory; more than so many are refused at once
# Answers that clients have not read to the end: three (one token) and four (all) times as many as may run at once. Each
# holds up to 256 KB of what is sent, beside what `query.held` counts.
_UNREAD_OF_ONE = 48
_UNREAD_IN_ALL = 192

Name = tuple[str, str, str]  # workspace, environment, token


def name_of(security: SecurityContext) -> Name:
    return (security.workspace_id, security.environment, security.name)


def unread_answers() -> Admission:
    """For reads whose answers are not taken to the last byte yet: each holds some memory of this process."""
    return Admission(
        of_one=_UNREAD_OF_ONE,
        in_all=_UNREAD_IN_ALL,
        what="answers that it has not read yet",
        busy="The server waits for too many clients that have not read their answers yet",
        hint="Read them to the end, or close their connections.",
    )


class Admission:
    def __init__(
        self,
        *,
        of_one: int = _OF_ONE,
        in_all: int = _IN_ALL,
        patience: float = _PATIENCE,
        what: str = "queries running",
        busy: str = "The server is busy with other queries",
        hint: str = "Try again when they are done, and make them faster.",
    ) -> None:
        """For a refusal: `what` there may be so many of for one token, that all are taken (`busy`), and what to do."""
        self._what = what
        self._busy = busy
        self._hint = hint
        self._of_one = of_one
        self._in_all = in_all
        self._patience = patience
        self._running: dict[Name, int] = {}
        self._total = 0
        self.begun = 0  # queries since the start
        self._lines: dict[Name, deque[asyncio.Future[None]]] = {}  # in the order of their turns; none is empty

    def held(self, security: SecurityContext, *, patient: bool = False) -> AbstractAsyncContextManager[None]:
        """A slot until the context ends. `patient`: a job's. It may take long to come, and its line is not that of the
        token's clients: a job holds the lock of its table meanwhile.

        Raises RateLimited, Unavailable on entering.
        """
        return _Slot(self, security, patient)

    async def _enter(self, name: Name, shown: str, patient: bool) -> None:
        # Nobody who waits is overtaken: where there is a line of this name, or a slot that is another's by turn.
        if name not in self._lines and self._is_free(name):
            self._take(name)
        else:
            await self._wait(name, shown, None if patient else self._patience)

    def _is_free(self, name: Name) -> bool:
        return self._total < self._in_all and self._running.get(name, 0) < self._of_one

    def _take(self, name: Name) -> None:
        self._running[name] = self._running.get(name, 0) + 1
        self._total += 1
        self.begun += 1

    def _give_back(self, name: Name) -> None:
        left = self._running[name] - 1
        if left:
            self._running[name] = left
        else:
            del self._running[name]
        self._total -= 1
        self._next()

    def _next(self) -> None:
        """Gives what is free to the lines, one slot to each in turn."""
        while self._total < self._in_all:
            name = next((one for one in self._lines if self._is_free(one)), None)
            if name is None:
                return
            line = self._lines.pop(name)
            turn = line.popleft()
            if line:
                self._lines[name] = line  # to the end of the round
            if not turn.done():
                self._take(name)
                turn.set_result(None)

    async def _wait(self, name: Name, shown: str, patience: float | None) -> None:
        line = self._lines.setdefault(name, deque())
        if len(line) >= _LINE and patience is not None:
            raise self._refusal(name, shown)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(turn)
        try:
            async with asyncio.timeout(patience):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._give_back(name)  # it came, and nobody is there to use it
            else:
                self._leave(name, turn)
            if isinstance(error, TimeoutError):
                raise self._refusal(name, shown) from None
            raise

    def _leave(self, name: Name, turn: asyncio.Future[None]) -> None:
        line = self._lines.get(name)
        if line is not None and turn in line:
            line.remove(turn)
            if not line:
                del self._lines[name]

    def _refusal(self, name: Name, shown: str) -> RateLimited | Unavailable:
        if self._running.get(name, 0) >= self._of_one:
            return RateLimited(
                f"The token '{shown}' has {self._of_one} {self._what}, which is as many as it may",
                hint=self._hint,
                headers={"Retry-After": "1"},
                reason=Reason.TOO_MUCH_AT_ONCE,
            )
        return Unavailable(self._busy, hint="Try again in a second.", reason=Reason.SERVER_BUSY)


class _Slot:
    __slots__ = ("_admission", "_name", "_patient", "_shown")

    def __init__(self, admission: Admission, security: SecurityContext, patient: bool) -> None:
        self._admission = admission
        self._shown = security.name
        self._patient = patient
        workspace, environment, token = name_of(security)
        self._name = (workspace, environment, f"{token} (jobs)" if patient else token)

    async def __aenter__(self) -> None:
        await self._admission._enter(self._name, self._shown, self._patient)

    async def __aexit__(self, *error: object) -> None:
        self._admission._give_back(self._name)
