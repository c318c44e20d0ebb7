"""How to reach an object store: what a `.connection` of TYPE s3 or gcs says. Shows no secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import yarl

from pipit.connectors.source import Refused
from pipit.datafiles.resources import Connection

TYPES = ("s3", "gcs")
_GCS = "https://storage.googleapis.com"
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,40}\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """`endpoint` is empty for AWS itself. `path_style`: the bucket stands in the path and not in the host's name."""

    kind: str
    endpoint: str
    region: str
    path_style: bool
    key: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)

    @classmethod
    def of(cls, connection: Connection) -> Place:
        """Raises Refused."""
        given = connection.settings
        for word, value in given.items():
            if "{{" in value:
                raise Refused(f"{word} needs a secret that is not there: set it, and deploy again")
        if connection.type == "gcs":
            return cls._of_gcs(given)
        if not (given.get("S3_ACCESS_KEY") and given.get("S3_SECRET")):
            raise Refused("S3_ARN is not supported yet: the connection needs S3_ACCESS_KEY and S3_SECRET")
        endpoint, region = given.get("S3_ENDPOINT", ""), given.get("S3_REGION", "")
        if not _REGION.match(region):
            raise Refused(f"S3_REGION '{region[:60]}' is no region")
        style = given.get("S3_PATH_STYLE", "") or ("True" if endpoint else "False")
        return cls("s3", _checked(endpoint), region, style == "True", given["S3_ACCESS_KEY"], given["S3_SECRET"])

    @classmethod
    def _of_gcs(cls, given: Mapping[str, str]) -> Place:
        key = given.get("GCS_HMAC_ACCESS_ID") or given.get("GCS_ACCESS_ID", "")
        secret = given.get("GCS_HMAC_SECRET") or given.get("GCS_SECRET", "")
        if not (key and secret):
            raise Refused(
                "GCS_SERVICE_ACCOUNT_CREDENTIALS_JSON is not supported yet: the connection needs GCS_HMAC_ACCESS_ID "
                "and GCS_HMAC_SECRET"
            )
        return cls("gcs", _checked(given.get("GCS_ENDPOINT", "") or _GCS), "auto", True, key, secret)

    @property
    def url(self) -> yarl.URL:
        """Of the host that is connected to."""
        return yarl.URL(self.endpoint or f"https://s3.{self.region}.amazonaws.com")

    @property
    def name(self) -> str:
        """For people."""
        return str(self.url.origin())


def _checked(endpoint: str) -> str:
    if not endpoint:
        return ""
    try:
        url = yarl.URL(endpoint)
        _ = url.port
    except ValueError:
        url = yarl.URL()
    if url.scheme not in ("http", "https") or not url.host or url.user is not None or url.query_string:
        raise Refused(f"the endpoint '{endpoint[:100]}' is no URL such as https://host:port")
    return str(url.origin())
