"""One data source's bucket into its table: looks for objects that are not loaded, fetches them, loads them in batches.

What is loaded stands in the state, by the key and the version (ETag and size). A batch is written there before its rows
are inserted, under tokens of its own, and its objects after that: a process that is killed in between finds the batch,
and inserts it again under the same tokens. An object that cannot be loaded is tried again after a while, alone, then
parked with its reason: others are not kept waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import msgspec
from cronsim import CronSim

from pipit.catalog.catalog import Catalog
from pipit.catalog.snapshot import Snapshot, Table, Workspace
from pipit.catalog.state import ImportedRow
from pipit.connectors.buckets import batch as batches
from pipit.connectors.buckets.batch import Batch, Fetched, Group, Member
from pipit.connectors.buckets.source import AUTO, ON_DEMAND, ONCE, BucketSource
from pipit.connectors.buckets.status import BucketStatus
from pipit.connectors.buckets.store import Object, ObjectGone, Store, StoreAway, StoreRefuses
from pipit.datafiles.buckets import format_of
from pipit.errors import Conflict, DiskFull, NotFound, PipitError, QueryTimeout, Unavailable, UnprocessableWrite
from pipit.ingest.files.arrive import arrive
from pipit.ingest.files.remote import AllowedHosts
from pipit.ingest.files.store import FileStore, Load, Tally

log = logging.getLogger("pipit.connectors")

LOADED, FAILED, PARKED = "loaded", "failed", "parked"
MOST_ATTEMPTS = 4
RETRY_SECONDS = 2.0  # before the second attempt; before the third four times as long, and so on
POLL_SECONDS = 10.0  # of @auto, between two looks at the bucket,
POLL_SHARE = 10  # and at least so many times as long as a look takes
_AT_ONCE = 8  # objects that are fetched
_AHEAD_BYTES = 64 << 20  # of them, at most, but for one alone
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


class Loader(Protocol):
    async def append(self, workspace: Workspace, load: Load, table: Table) -> Tally:
        """The rows of a file on the disk, once however often it is called."""
        ...


class Told(Protocol):
    """Writes to `tinybird.datasources_ops_log`."""

    async def write(
        self,
        workspace: Workspace,
        *,
        event_type: str,
        datasource: str,
        elapsed: float,
        error: str = "",
        options: Mapping[str, Any] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Means:
    """What all readers of a server share. `folder`: of files that the engine may read."""

    catalog: Catalog
    loader: Callable[[FileStore], Loader]
    folder: Path
    allowed: AllowedHosts
    operations: Told
    turns: asyncio.Semaphore
    max_file_bytes: int
    poll_seconds: float = POLL_SECONDS
    retry_seconds: float = RETRY_SECONDS


class Pass(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last look that saw to the whole bucket."""

    uri: str = ""
    at: str = ""


@dataclass(slots=True)
class Outcome:
    """Of one look at the bucket."""

    found: int = 0
    objects: int = 0
    rows: int = 0
    bytes: int = 0
    quarantined: int = 0
    failed: int = 0
    seconds_to_list: float = 0.0
    later: bool = False  # some objects are to be tried again


class Waits(Exception):
    """Not now: the text says what for."""


class BucketReader:
    def __init__(self, source: BucketSource, means: Means, told: BucketStatus) -> None:
        self.source, self.status = source, told
        self._means = means
        self._state = means.catalog.state
        # Batches on the disk. Nobody else's are there, and what is not written down can be thrown away.
        self._files = FileStore(means.folder / source.database / source.name)
        self._loader = means.loader(self._files)
        self._next_look = 0.0
        self._asked = asyncio.Event()
        self._answers: list[asyncio.Future[Outcome]] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._ending = False

    async def run(self) -> None:
        """Until it is cancelled. Whatever goes wrong is told and tried again."""
        try:
            await self._run()
        finally:
            for answer in self._answers:
                if not answer.done():
                    answer.set_exception(Unavailable("The bucket is not read here any more", retry_after=2))

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                await self._session()
            except StoreAway as error:
                self._tell("waiting", str(error))
            except Waits as error:
                self._tell("waiting", str(error))
            except (Unavailable, QueryTimeout) as error:
                self._tell("waiting", error.message)
            except PipitError as error:
                self._tell("error", error.message)
            except StoreRefuses as error:
                self._tell("error", str(error))
            except Exception as error:
                log.exception("the bucket of '%s' cannot be loaded", self.source.name)
                self._tell("error", f"It failed inside Pipit ({type(error).__name__}); the server's log says how.")
            if time.monotonic() - began > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def settle(self, seconds: float) -> None:
        """Before it is cancelled: the batch that is being loaded ends, and no other begins."""
        self._ending = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()

    async def sync(self) -> Outcome:
        """Looks at the bucket now, and tries what is parked again; returns when all that it found is seen to."""
        answer = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self._asked.set()
        found: Outcome = await answer
        return found

    def _tell(self, state: str, note: str = "") -> None:
        if self.status.become(state, note) and state in ("waiting", "error"):
            log.warning("the bucket of '%s': %s", self.source.name, note)

    # --- when

    async def _session(self) -> None:
        async with Store.opened(self.source.place, self._means.allowed) as store:
            await self._go_on(store)
            while True:
                answers, self._answers = self._answers, []
                self._asked.clear()
                if not answers and not await self._is_due():
                    self._tell("ready")
                    await self._wait(self._means.poll_seconds if self.source.schedule == AUTO else 1.0)
                    continue
                try:
                    found = await self._whole(store, again=bool(answers))
                except BaseException:
                    self._answers = [*answers, *self._answers]  # whoever asked waits until it works
                    raise
                for answer in answers:
                    if not answer.done():
                        answer.set_result(found)

    async def _is_due(self) -> bool:
        if self.source.schedule == AUTO:
            return time.time() >= self._next_look
        last = msgspec.json.decode(
            await self._state.import_pass(self.source.database_id, self.source.name) or b"{}", type=Pass
        )
        if last.uri != self.source.text:
            return True
        if self.source.schedule in (ON_DEMAND, ONCE):
            return False
        since = datetime.fromisoformat(last.at).replace(tzinfo=UTC)
        due = next(CronSim(self.source.schedule, since))
        return due <= datetime.now(UTC)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._asked.wait()

    async def _whole(self, store: Store, *, again: bool) -> Outcome:
        """A look, and for a schedule that does not come back by itself another one after what failed can be tried."""
        total = Outcome()
        while True:
            found = await self._look(store, again=again)
            took = found.seconds_to_list
            total.found += found.found
            total.objects += found.objects
            total.rows += found.rows
            total.bytes += found.bytes
            total.quarantined += found.quarantined
            total.failed += found.failed
            self.status.looked_at = time.time()
            self._next_look = time.time() + max(self._means.poll_seconds, POLL_SHARE * took)
            if not found.later:
                break
            if self.source.schedule == AUTO and not again:
                self._next_look = time.time() + max(self._means.retry_seconds, took)
                break
            again = False
            await asyncio.sleep(self._means.retry_seconds)
        value = msgspec.json.encode(Pass(self.source.text, datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")))
        if self.source.schedule != AUTO:
            await self._state.put_import_pass(self.source.database_id, self.source.name, value.decode())
        return total

    # --- what

    async def _look(self, store: Store, *, again: bool) -> Outcome:
        outcome = Outcome()
        self.status.found = 0
        prepared = self._prepared(store, outcome, again=again)
        async with contextlib.aclosing(_ahead(prepared)) as coming:
            async for one in coming:
                self._tell("loading")
                await self._put_batch(one)
                await self._load(one, outcome)
        self._tell("ready")
        return outcome

    async def _wanted(self, store: Store, outcome: Outcome, *, again: bool) -> AsyncIterator[Member]:
        """The objects that are not loaded in the version that is there, page by page."""
        source = self.source
        pages = store.pages(source.uri.bucket, source.uri.prefix)
        while True:
            began = time.monotonic()
            page = await anext(pages, None)
            outcome.seconds_to_list += time.monotonic() - began
            if page is None:
                return
            matching = await asyncio.to_thread(self._matching, page)
            if not matching:
                continue
            keys = sorted((one.key for one in matching), key=str.encode)
            known = await self._state.imported(
                source.database_id, source.name, source.bucket_id, keys[0], keys[-1]
            )
            empty: list[ImportedRow] = []
            for one in matching:
                row = known.get(one.key)
                if row is not None and row.object_version != one.version:
                    row = None
                if row is not None and (row.status == LOADED or (row.status == PARKED and not again)):
                    continue
                if row is not None and row.status == FAILED and not again and not self._is_time(row):
                    outcome.later = True
                    continue
                if not one.size:
                    empty.append(ImportedRow(one.key, one.version, LOADED))
                    continue
                outcome.found += 1
                self.status.found += 1
                attempts = row.attempts if row is not None and row.status == FAILED else 0
                yield Member(one.key, one.etag, one.size, attempts)
            if empty:
                await self._put_rows(empty)

    def _matching(self, page: Sequence[Object]) -> list[Object]:
        source = self.source
        return [
            one
            for one in page
            if source.uri.matches(one.key)
            and not (one.key.endswith("/") and not one.size)  # a folder, as consoles make them
            and (source.since is None or one.modified >= source.since)
        ]

    def _is_time(self, row: ImportedRow) -> bool:
        last = datetime.fromisoformat(row.at).replace(tzinfo=UTC)
        return datetime.now(UTC) >= last + timedelta(seconds=self._means.retry_seconds * 4 ** (row.attempts - 1))

    # --- fetching

    async def _prepared(self, store: Store, outcome: Outcome, *, again: bool) -> AsyncIterator[Batch]:
        open_groups: dict[object, Group] = {}
        async for one in self._fetched(store, self._wanted(store, outcome, again=again), outcome):
            if one.alone:
                yield await asyncio.to_thread(batches.made, self._files, [one])
                continue
            group = open_groups.get(one.shape)
            if group is not None and group.takes(one):
                group.add(one)
                continue
            open_groups[one.shape] = Group(one)
            if group is not None:
                yield await asyncio.to_thread(batches.made, self._files, group.objects)
        for group in open_groups.values():
            yield await asyncio.to_thread(batches.made, self._files, group.objects)

    async def _fetched(
        self, store: Store, wanted: AsyncIterator[Member], outcome: Outcome
    ) -> AsyncIterator[Fetched]:
        """Some at once, in their order."""
        window: deque[tuple[Member, asyncio.Task[Fetched | None]]] = deque()
        size, coming = 0, None
        more = True
        try:
            while True:
                while more:
                    if coming is None:
                        coming = await anext(wanted, None)
                        more = coming is not None
                    if coming is None or len(window) >= _AT_ONCE or (window and size + coming.size > _AHEAD_BYTES):
                        break
                    window.append((coming, asyncio.create_task(self._fetch(store, coming, outcome))))
                    size, coming = size + coming.size, None
                if not window:
                    return
                member, task = window.popleft()
                size -= member.size
                found = await task
                if found is not None:
                    yield found
        finally:
            for _, task in window:
                task.cancel()
            await asyncio.gather(*(task for _, task in window), return_exceptions=True)

    async def _fetch(self, store: Store, member: Member, outcome: Outcome) -> Fetched | None:
        """None: it is gone, or failed and that is written down."""
        format = self.source.format or format_of(member.key)
        try:
            if not format:
                raise _Unloadable("its name does not say its format: set IMPORT_FORMAT, or narrow IMPORT_BUCKET_URI")
            return await self._taken_apart(store, member, format)
        except ObjectGone:
            return None  # the next look sees what is there then
        except (DiskFull, Unavailable):
            raise
        except (StoreAway, StoreRefuses) as error:
            await store.answers(self.source.uri.bucket)  # else it is not this object's fault
            await self._failed([member], str(error), outcome)
        except _Unloadable as error:
            await self._failed([member], str(error), outcome)
        except PipitError as error:
            await self._failed([member], error.message, outcome)
        return None

    async def _taken_apart(self, store: Store, member: Member, format: str) -> Fetched:
        """Raises PipitError and what the store raises."""
        table = self._table(self._snapshot)
        folder = await asyncio.to_thread(self._files.make, f"in-{id(member)}-{time.monotonic_ns()}")
        try:
            object = Object(member.key, member.etag, member.size, datetime.fromtimestamp(0, UTC))
            arrived = await arrive(
                store.read(self.source.uri.bucket, object),
                folder,
                format,
                columns=[column.name for column in table.datasource.columns if column.type],
                parameters={},
                limit=self._means.max_file_bytes,
            )
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise
        return Fetched(member, self.source.name_of(member.key), format, arrived, folder)

    # --- loading

    async def _load(self, one: Batch, outcome: Outcome | None = None) -> None:
        """Raises Waits, Unavailable, QueryTimeout: it goes on with it later."""
        if self._ending:
            raise Waits("the server stops")
        self._idle.clear()
        try:
            async with self._means.turns:
                await self._load_now(one, outcome or Outcome())
        finally:
            self._idle.set()

    async def _load_now(self, one: Batch, outcome: Outcome) -> None:
        snapshot, began, error = self._snapshot, time.monotonic(), ""
        table = self._table(snapshot)
        tally = Tally()
        try:
            tally = await self._loader.append(snapshot.workspace, one.load, table)
        except (Unavailable, QueryTimeout):
            raise
        except Conflict as conflict:
            raise Waits(conflict.message) from None
        except UnprocessableWrite as failure:  # the rows are stored
            error = failure.message
        except PipitError as failure:
            await self._failed(one.members, failure.message, outcome)
            await self._end(one)
            return
        rows = [ImportedRow(m.key, m.version, LOADED, m.attempts, m.rows or tally.rows) for m in one.members]
        await self._put_rows(rows)
        await self._end(one)
        status = self.status
        outcome.objects += len(rows)
        outcome.rows += tally.rows
        outcome.quarantined += tally.bad
        outcome.bytes += one.load.bytes
        status.objects += len(rows)
        status.rows += tally.rows
        status.quarantined += tally.bad
        status.bytes += one.load.bytes
        await self._log(one.members, snapshot, time.monotonic() - began, error, tally, one.load)

    async def _failed(self, members: Sequence[Member], why: str, outcome: Outcome) -> None:
        rows: list[ImportedRow] = []
        for member in members:
            attempts = member.attempts + 1
            status = PARKED if attempts >= MOST_ATTEMPTS else FAILED
            outcome.later = outcome.later or status == FAILED
            rows.append(ImportedRow(member.key, member.version, status, attempts, 0, why))
        parked = [row.object for row in rows if row.status == PARKED]
        outcome.failed += len(parked)
        self.status.failed += len(parked)
        await self._put_rows(rows)
        for key in parked:
            log.warning("%s is not loaded into '%s': %s", self.source.name_of(key), self.source.name, why)
        if parked:
            await self._log([m for m in members if m.key in parked], self._snapshot, 0.0, why, Tally(), None)

    async def _log(
        self,
        members: Sequence[Member],
        snapshot: Snapshot,
        elapsed: float,
        error: str,
        tally: Tally,
        load: Load | None,
    ) -> None:
        await self._means.operations.write(
            snapshot.workspace,
            event_type="append",
            datasource=self.source.name,
            elapsed=elapsed,
            error=error,
            options={
                "connection": self.source.connection,
                "file": self.source.name_of(members[0].key),
                "files": len(members),
            },
            more={
                "import_id": load.id if load else None,
                "rows": tally.rows,
                "rows_quarantine": tally.bad,
                "operation_id": load.id if load else "",
                "written_rows": tally.rows,
                "written_bytes": load.bytes if load else 0,
                "written_rows_quarantine": tally.bad,
            },
        )

    async def _put_rows(self, rows: Sequence[ImportedRow]) -> None:
        source = self.source
        await self._state.put_imported(source.database_id, source.name, source.bucket_id, rows)

    async def _put_batch(self, one: Batch) -> None:
        source = self.source
        value = msgspec.json.encode((source.bucket_id, one)).decode()
        await self._state.put_import_batch(source.database_id, source.name, one.id, value)

    async def _end(self, one: Batch) -> None:
        source = self.source
        await self._state.put_import_batch(source.database_id, source.name, one.id, "", done=True)
        await asyncio.to_thread(self._files.remove, one.id)

    # --- what a process before left

    async def _go_on(self, store: Store) -> None:
        """With the batches that were written down and did not end."""
        await asyncio.to_thread(self._files.root.mkdir, parents=True, exist_ok=True)
        mine = (self.source.database_id, self.source.name)
        left = [(id, value) for place, name, id, value in await self._state.import_batches() if (place, name) == mine]
        await asyncio.to_thread(self._files.clear, [id for id, _ in left])
        for id, value in left:
            bucket_id, one = msgspec.json.decode(value, type=tuple[str, Batch])
            if bucket_id != self.source.bucket_id:
                continue  # of a bucket that is not this data source's any more
            if await asyncio.to_thread(self._files.get, id) is None:
                try:
                    await self._made_again(store, one)
                except (ObjectGone, _Unloadable) as error:
                    log.warning("a batch of '%s' cannot be made again: %s", self.source.name, error)
                    why = "it changed after a crash, while it was being loaded: some of its rows may be in the table"
                    rows = [ImportedRow(m.key, m.version, PARKED, m.attempts, 0, why) for m in one.members]
                    await self._put_rows(rows)
                    await self._end(one)
                    continue
            await self._load(one)

    async def _made_again(self, store: Store, one: Batch) -> None:
        """On a disk that does not have it any more, from the very same versions."""
        fetched = [await self._taken_apart(store, member, one.load.format) for member in one.members]
        await asyncio.to_thread(self._files.remove, one.id)
        again = await asyncio.to_thread(lambda: batches.made(self._files, fetched, id=one.id))
        if again.load != one.load:
            raise _Unloadable("its columns are read in another way now")

    @property
    def _snapshot(self) -> Snapshot:
        return self._means.catalog.snapshot(self.source.workspace)

    def _table(self, snapshot: Snapshot) -> Table:
        """Raises NotFound."""
        table = snapshot.tables.get(self.source.name)
        if table is None:
            raise NotFound(f"The data source '{self.source.name}' was deleted")
        return table


class _Unloadable(Exception):
    """The text is for people."""


async def _ahead(batches: AsyncIterator[Batch]) -> AsyncGenerator[Batch]:
    """One more is prepared while one is loaded."""
    queue: asyncio.Queue[Callable[[], Batch] | None] = asyncio.Queue(1)

    def raiser(error: BaseException) -> Callable[[], Batch]:
        def call() -> Batch:
            raise error

        return call

    async def fill() -> None:
        try:
            async for one in batches:
                await queue.put(lambda one=one: one)  # type: ignore[misc]
        except Exception as error:
            await queue.put(raiser(error))
        await queue.put(None)

    task = asyncio.create_task(fill())
    try:
        while (call := await queue.get()) is not None:
            yield call()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
