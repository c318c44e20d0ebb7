"""The id of a topic in its cluster: a topic that is deleted and made again under its name has another one.

aiokafka asks for metadata in a version that knows no ids, so the request is written here. A cluster that does not know
this version gives no id; there a topic that was made anew shows only in that its group has no commits any more.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from aiokafka.errors import for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

_VERSION = 12
_TEXT = CompactString("utf-8")
_NO_ID = bytes(16)


class _Id(AbstractType[bytes]):
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


class _Answer(Response):
    API_KEY = 3
    API_VERSION = _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), ("tags", TaggedFields)),
        ),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _TEXT),
                ("topic_id", _Id),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("index", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("in_sync", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Asked(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = _VERSION
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Id), ("name", _TEXT), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Metadata(Request[_Asked]):
    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_Asked]) -> _Asked:
        return request_struct_class([(_NO_ID, self._topic, {})], False, False, {})


async def identify(client: Any, topic: str) -> tuple[str, str]:
    """The ids of the cluster and of the topic. `client`: an AIOKafkaClient that is connected.

    Raises what the cluster says of the topic: UnknownTopicOrPartitionError, TopicAuthorizationFailedError.
    """
    cluster = str(getattr(client.cluster, "cluster_id", None) or "")
    try:
        answer = await client.send(client.get_random_node(), _Metadata(topic))
    except NotImplementedError:
        return cluster, ""
    for found in answer.topics:
        if found[1] == topic and found[0]:
            raise for_code(found[0])(topic)
    ids = [found[2] for found in answer.topics if found[1] == topic]
    return answer.cluster_id or cluster, ids[0].hex() if ids and ids[0] != _NO_ID else ""
