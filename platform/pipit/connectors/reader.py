"""One data source's topic into its table: the consumer, its partitions, and the cuts that are stored of them.

Two tasks: one takes records from the client as long as there is room, one stores cuts. What is held is bounded; while
the engine is away nothing more is fetched, and the consumer stays in its group. A cut is pending in Kafka before any of
its rows is inserted (`position.py`), so a process that is killed anywhere, or loses a partition, leaves no more and no
less than the next owner makes up for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaConnectionError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
)
from aiokafka.structs import OffsetAndMetadata

from pipit.connectors import client_log, position, status, topic_id
from pipit.connectors.decode import Decoder, RegistryAway, key_text
from pipit.connectors.position import Committed, Range
from pipit.connectors.registry import Registry
from pipit.connectors.source import Source
from pipit.datafiles.connectors import OF_REGISTRY
from pipit.errors import NotFound, PipitError
from pipit.ingest import records

log = logging.getLogger("pipit.connectors")

CUT_ROWS = 50_000
CUT_BYTES = 8 << 20
CUT_SECONDS = 0.5
HELD_BYTES = 64 << 20  # of one topic, in this process
MAX_VALUE_BYTES = 10 << 20  # larger values go to the quarantine
_AT_ONCE = 5000  # records; the event loop is not kept longer
_FETCH_MS = 200
_REVOKE_SECONDS = 15.0  # for the cut that is being stored, before a partition is given away
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_SESSION_PAUSE, _LONGEST_SESSION_PAUSE = 1.0, 30.0
_MOVED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class CutOf:
    """Which records: a cut's place. `identity` is its token."""

    source: Source
    partition: int
    range: Range
    identity: str


class Sink(Protocol):
    async def store(self, cut: CutOf, rows: Sequence[bytes]) -> int:
        """The rows are in the table when it returns, once however often it is called: the number of bad ones."""
        ...

    async def done(self, cut: CutOf) -> None:
        """The topic's position is past the cut: it is never stored again."""
        ...

    def unfinished(self, source: Source) -> set[str]:
        """The identities of cuts that were begun here and are not done."""
        ...

    async def drop(self, source: Source, identities: Collection[str]) -> None:
        """These are done, though whoever stored them did not say so."""
        ...


class Moved(Exception):
    """The partitions are being given out anew: what was not stored is for who gets them."""


@dataclass(slots=True, eq=False)
class Part:
    """A partition that this process owns."""

    tp: TopicPartition
    committed: Committed
    read_to: int  # the next offset that the client will give
    rows: deque[tuple[int, bytes]] = field(default_factory=deque)
    size: int = 0
    since: float = 0.0  # when the oldest row came
    revoked: bool = False
    moved_on: bool = False  # `committed` is more than Kafka knows
    stored: CutOf | None = None  # Kafka does not know yet

    def add(self, row: bytes, offset: int) -> None:
        if not self.rows:
            self.since = time.monotonic()
        self.rows.append((offset, row))
        self.size += len(row)

    def is_due(self, now: float) -> bool:
        pending = self.committed.pending
        if pending is not None:
            return self.read_to > pending.last
        if not self.rows:
            return False
        return len(self.rows) >= CUT_ROWS or self.size >= CUT_BYTES or now - self.since >= CUT_SECONDS

    def take(self) -> tuple[Range, list[bytes]]:
        """The next cut: the one that is pending, or as much as fits."""
        pending = self.committed.pending
        taken: list[bytes] = []
        size, last = 0, self.committed.next - 1
        while self.rows:
            offset, row = self.rows[0]
            if pending is not None and offset > pending.last:
                break
            if pending is None and taken and (len(taken) >= CUT_ROWS or size + len(row) > CUT_BYTES):
                break
            self.rows.popleft()
            taken.append(row)
            size, last = size + len(row), offset
        self.size -= size
        return pending or Range(self.committed.next, last), taken


class TopicReader:
    def __init__(self, source: Source, sink: Sink, turns: asyncio.Semaphore, told: status.Status) -> None:
        """`turns`: how many cuts of all topics are stored at once; who waited longest is next."""
        self.source, self.status = source, told
        self._sink, self._turns = sink, turns
        self._consumer: AIOKafkaConsumer | None = None
        self._parts: dict[TopicPartition, Part] = {}
        self._assigned: set[TopicPartition] | None = None  # not looked at yet
        self._assignments = 0
        self._changed = asyncio.Event()  # for who takes records
        self._ready = asyncio.Event()  # for who stores cuts
        self._idle = asyncio.Event()  # no cut is being stored
        self._idle.set()
        self._cluster = self._topic = ""
        registry = Registry(source.broker.registry)
        self._values = Decoder(source.value_format, registry) if source.value_format in OF_REGISTRY else None
        self._keys = Decoder(source.key_format, registry) if source.key_format in OF_REGISTRY else None
        self._registry = registry

    async def run(self) -> None:
        """Until it is cancelled. Whatever goes wrong is told and tried again."""
        pause = _SESSION_PAUSE
        while True:
            began = time.monotonic()
            try:
                await self._session()
            except asyncio.CancelledError:
                await self._registry.close()
                raise
            except Exception as error:
                if self.status.become("error", reason(error)):
                    self._warn(reason(error))
            if time.monotonic() - began > _LONGEST_SESSION_PAUSE:
                pause = _SESSION_PAUSE
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_SESSION_PAUSE)

    async def settle(self, seconds: float) -> None:
        """Before it is cancelled: the cut that is being stored ends, and no other begins."""
        self._revoke()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()

    async def _session(self) -> None:
        consumer = AIOKafkaConsumer(**self.source.consumer_options(), **_fetching())
        tasks: list[asyncio.Task[None]] = []
        self._parts, self._assigned, self._consumer = {}, None, consumer
        try:
            with client_log.told() as said:
                try:
                    await consumer.start()
                except KafkaConnectionError:
                    raise Unreadable(said[-1] if said else "no broker answers") from None
            consumer.subscribe([self.source.topic], listener=_Listener(self))
            tasks = [asyncio.create_task(self._take()), asyncio.create_task(self._store())]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._revoke()
            self.status.partitions.clear()
            with contextlib.suppress(KafkaError):
                await consumer.stop()

    # Partitions come and go.

    async def revoked(self) -> None:
        """The cut that is being stored ends, if it can; its position is committed."""
        moved = self._revoke()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REVOKE_SECONDS):
                await self._idle.wait()
        with contextlib.suppress(Moved, KafkaError):
            await self._commit({}, moved)

    def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        self._assigned = set(partitions)
        self._assignments += 1
        self._changed.set()
        self._ready.set()

    def _revoke(self) -> list[Part]:
        moved = list(self._parts.values())
        for part in moved:
            part.revoked = True
        self._parts = {}
        self._changed.set()
        self._ready.set()
        return moved

    async def _begin(self, partitions: set[TopicPartition]) -> None:
        """Finds where each of them stands, and writes down where the new ones begin."""
        consumer = self._client
        self._cluster, self._topic = await topic_id.identify(consumer._client, self.source.topic)
        self.status.partitions.clear()
        if not partitions:
            self.status.become("reading", "other processes of the group read all partitions")
            return
        unfinished = self._sink.unfinished(self.source)
        numbers = consumer.partitions_for_topic(self.source.topic) or ()
        everyone = partitions | {TopicPartition(self.source.topic, number) for number in numbers}
        found = await consumer._coordinator.fetch_committed_offsets(list(everyone))
        await self._sink.drop(self.source, unfinished - self._pending(found))
        beginnings = await consumer.beginning_offsets(list(partitions))
        ends = await consumer.end_offsets(list(partitions))
        read_before = any(one.offset >= 0 for one in found.values())
        parts: dict[TopicPartition, Part] = {}
        for tp in partitions:
            one = found.get(tp)
            if one is None or one.offset < 0:
                # A partition that was added to the topic later begins at its beginning: nothing of it is left out.
                start = beginnings[tp] if self.source.earliest or read_before else ends[tp]
                begun, fresh = Committed(start, self._topic, position.new_epoch()), True
            elif position.is_of_another_topic(one.metadata, self._topic):
                self._warn(f"partition {tp.partition}: the topic was made anew, and is read from its beginning")
                begun, fresh = Committed(beginnings[tp], self._topic, position.new_epoch()), True
            else:
                begun, fresh = position.committed(one.offset, one.metadata, self._topic), False
                fresh = begun.metadata != one.metadata
            if begun.next < beginnings[tp]:
                lost = beginnings[tp] - begun.next
                self._warn(f"partition {tp.partition}: offsets of {lost} records were deleted before they were read")
                pending = begun.pending if begun.pending and begun.pending.last >= beginnings[tp] else None
                begun = Committed(begun.next if pending else beginnings[tp], begun.topic, begun.epoch, pending)
            consumer.seek(tp, max(begun.next, beginnings[tp]))
            parts[tp] = Part(tp, begun, begun.next, moved_on=fresh)
            self.status.partitions[tp.partition] = status.Partition(begun.next, ends[tp])
        await self._commit({}, parts.values())
        self._parts = parts
        self.status.become("reading")

    def _pending(self, found: Mapping[TopicPartition, OffsetAndMetadata]) -> set[str]:
        """The cuts that the group's commits call pending."""
        pending: set[str] = set()
        for tp, one in found.items():
            at = position.committed(one.offset, one.metadata, self._topic)
            if at.pending is not None:
                pending.add(self._identity(tp, at, at.pending))
        return pending

    def _identity(self, tp: TopicPartition, at: Committed, range: Range) -> str:
        return position.identity(self._cluster, at.topic, tp.partition, range, at.epoch)

    # Records.

    async def _take(self) -> None:
        consumer = self._client
        while True:
            self._changed.clear()
            if self._assigned is not None:
                partitions, self._assigned = self._assigned, None
                with contextlib.suppress(Moved):
                    await self._begin(partitions)
            parts = self._parts
            if not parts or sum(part.size for part in parts.values()) >= HELD_BYTES:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await self._changed.wait()
                if not parts and self._assigned is None:
                    consumer._coordinator.check_errors()
                continue
            share = max(CUT_BYTES, HELD_BYTES // len(parts))
            wanted = [tp for tp, part in parts.items() if part.size < share]
            try:
                batches = await consumer.getmany(*wanted, timeout_ms=_FETCH_MS, max_records=self._at_once)
            except (NoOffsetForPartitionError, IllegalStateError):
                continue  # said of a partition before its position was set, or after it was given away
            except OffsetOutOfRangeError as error:
                raise Unreadable(
                    f"the topic does not have the offset that is to be read next ({_offsets(error)}): it lost records, "
                    "or was made anew. Reset the group's offsets to go on"
                ) from None
            for tp, found in batches.items():
                part = parts[tp]
                if not part.revoked:
                    await self._learn(found)
                    began = time.monotonic()
                    self._hold(part, found)
                    if (seen := self.status.partitions.get(tp.partition)) is not None:
                        seen.done.seconds_to_encode += time.monotonic() - began
            for tp, part in parts.items():
                if not part.revoked and (tp in batches or not part.rows):
                    with contextlib.suppress(IllegalStateError):  # it was just given away
                        part.read_to = await consumer.position(tp)
                        self._see(part)
            self._ready.set()

    @property
    def _at_once(self) -> int:
        return _AT_ONCE // 5 if self._values or self._keys else _AT_ONCE

    async def _learn(self, found: Sequence[ConsumerRecord[bytes | None, bytes | None]]) -> None:
        """The schemas of these records. While the registry is away the topic waits."""
        pause = _FIRST_PAUSE
        while self._values or self._keys:
            try:
                if self._values:
                    await self._values.prepare(record.value for record in found)
                if self._keys:
                    await self._keys.prepare(record.key for record in found)
            except RegistryAway as error:
                if self.status.become("waiting", str(error)):
                    self._warn(str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                if pause > _FIRST_PAUSE:
                    self.status.become("reading")
                return

    def _decoded(self, value: bytes, key: bytes) -> tuple[bytes, bytes, str]:
        """The JSON text of a value, its key as it is shown, and what is wrong with either."""
        json, problem = b"", ""
        if self._values and value:
            json, problem = self._values.decode(value)
            problem = problem and f"the value: {problem}"
        if self._keys and key:
            text, wrong = self._keys.decode(key)
            if wrong:
                return json, key, problem or f"the key: {wrong}"
            key = key_text(text)
        return json, key, problem

    def _hold(self, part: Part, found: Sequence[ConsumerRecord[bytes | None, bytes | None]]) -> None:
        encode, headers = records.encode, self.source.headers
        decoding = self._values is not None or self._keys is not None
        for record in found:
            value, key, json, problem = record.value or b"", record.key or b"", b"", ""
            if len(value) > MAX_VALUE_BYTES:
                problem = f"the value is larger than {MAX_VALUE_BYTES >> 20} MB"
            elif decoding:
                json, key, problem = self._decoded(value, key)
            row = encode(
                value, record.offset, record.timestamp, key, record.headers if headers else (), json, problem
            )
            part.add(row, record.offset)

    def _see(self, part: Part) -> None:
        seen = self.status.partitions.get(part.tp.partition)
        if seen is not None:
            # Up to where a transaction is open nothing can be read.
            end = self._client.last_stable_offset(part.tp) or self._client.highwater(part.tp) or part.read_to
            seen.end, seen.position = max(end, part.read_to), part.committed.next

    # Cuts.

    async def _store(self) -> None:
        while True:
            self._ready.clear()
            now = time.monotonic()
            due = [part for part in self._parts.values() if part.is_due(now)]
            try:
                if due:
                    await self._put(min(due, key=lambda part: part.since))
                    self._changed.set()
                    continue
                self._skip_gaps()
                await self._commit({}, self._parts.values())
            except Moved:
                await self._wait_for_partitions()
                continue
            waits = [part.since + CUT_SECONDS - now for part in self._parts.values() if part.rows]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(waits, default=1.0)):
                    await self._ready.wait()

    def _skip_gaps(self) -> None:
        """Control records and what compaction removed need no insert: the position passes them."""
        for part in self._parts.values():
            if not part.rows and part.committed.pending is None and part.read_to > part.committed.next:
                part.committed = Committed(part.read_to, part.committed.topic, part.committed.epoch)
                part.moved_on = True

    async def _wait_for_partitions(self) -> None:
        """A commit was refused: the group gives its partitions out anew, and tells soon."""
        seen = self._assignments
        self._revoke()
        async with asyncio.timeout(_MOVED_SECONDS):
            while self._assignments == seen:
                self._ready.clear()
                await self._ready.wait()

    async def _put(self, part: Part) -> None:
        """The next cut of a partition: pending, stored, and its position is past it."""
        again = part.committed.pending is not None
        range, rows = part.take()
        before = part.committed
        if not again:
            part.committed = Committed(before.next, before.topic, before.epoch, range)
            await self._commit({part.tp: part}, self._parts.values())
        if rows:
            cut = CutOf(self.source, part.tp.partition, range, self._identity(part.tp, before, range))
            began = time.monotonic()
            self._idle.clear()
            try:
                bad = await self._insert(part, cut, rows)
                part.stored = cut
            finally:
                self._idle.set()
            self._count(part, len(rows), sum(map(len, rows)), bad, time.monotonic() - began)
        part.committed = Committed(range.last + 1, before.topic, before.epoch)
        part.moved_on = True
        self._see(part)

    def _count(self, part: Part, rows: int, size: int, bad: int, seconds: float) -> None:
        told = self.status
        told.rows += rows - bad
        told.bytes += size
        told.quarantined += bad
        told.last_record_at = time.time()
        seen = told.partitions.get(part.tp.partition)
        if seen is not None:
            seen.done.rows += rows
            seen.done.bytes += size
            seen.done.bad += bad
            seen.done.seconds_to_store += seconds

    async def _insert(self, part: Part, cut: CutOf, rows: Sequence[bytes]) -> int:
        pause = _FIRST_PAUSE
        while True:
            try:
                async with self._turns:
                    bad = await self._sink.store(cut, rows)
            except NotFound:
                raise
            except Exception as error:
                if self.status.become("waiting", reason(error)):
                    self._warn(f"waits: {reason(error)}")
            else:
                self.status.become("reading")
                return bad
            if part.revoked:
                raise Moved
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _commit(self, now: Mapping[TopicPartition, Part], others: Iterable[Part]) -> None:
        """Tells Kafka where these stand, and in the same request where others have come to."""
        parts = {part.tp: part for part in others if part.moved_on} | dict(now)
        if not parts:
            return
        offsets = {tp: OffsetAndMetadata(p.committed.next, p.committed.metadata) for tp, p in parts.items()}
        sent = {tp: part.committed for tp, part in parts.items()}
        try:
            await self._client.commit(offsets)
        except (CommitFailedError, IllegalStateError):
            raise Moved from None
        for tp, part in parts.items():
            part.moved_on = part.moved_on and part.committed is not sent[tp]
            if part.stored is not None and part.stored.range.last < sent[tp].next:
                stored, part.stored = part.stored, None
                await self._sink.done(stored)

    @property
    def _client(self) -> AIOKafkaConsumer:
        assert self._consumer is not None
        return self._consumer

    def _warn(self, message: str) -> None:
        log.warning("%s: topic %s: %s", self.source.name, self.source.topic, message)


class Unreadable(Exception):
    """Needs a person; the text says what to do."""


class _Listener(ConsumerRebalanceListener):
    def __init__(self, reader: TopicReader) -> None:
        self._reader = reader

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        if revoked:
            await self._reader.revoked()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._reader.assigned(assigned)


def reason(error: BaseException) -> str:
    """For a status: what happened, and no secret."""
    if isinstance(error, PipitError):
        return error.message
    if isinstance(error, Unreadable):
        return str(error)
    if isinstance(error, UnknownTopicOrPartitionError):
        return "the topic does not exist"
    if isinstance(error, KafkaError):
        return f"{type(error).__name__}: {str(error)[:300]}"
    if isinstance(error, TimeoutError):
        return "the broker did not answer in time"
    return f"{type(error).__name__}: {str(error)[:300]}"


def _offsets(error: OffsetOutOfRangeError) -> str:
    found: Any = error.args[0] if error.args else {}
    if not isinstance(found, dict):
        return "unknown"
    return ", ".join(f"partition {tp.partition}: {offset}" for tp, offset in found.items())


def _fetching() -> dict[str, Any]:
    return {"max_partition_fetch_bytes": 1 << 20, "fetch_max_bytes": 32 << 20}
