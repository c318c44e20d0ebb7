"""Encrypts the secrets of the state, with keys that are not on the disk: those of PIPIT_SECRETS_KEY.

The cipher is AES-256-GCM. Each encrypted text is bound to its row (table, workspace, name): moved to another row, it
cannot be decrypted. The id of the key is stored beside it, so a wrong key is noticed before anything is read. Without
keys, texts are stored as they are.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from pipit.errors import BadRequest, Reason

VARIABLE = "PIPIT_SECRETS_KEY"
MIN_CHARACTERS = 16
_NONCE_BYTES, _KEY_BYTES, _ID_BYTES = 12, 32, 8
# A key has to be the same on every machine that reads the state, so there is no salt but this one: use long keys.
_SALT = b"pipit secrets key"


@dataclass(frozen=True, slots=True)
class Seals:
    """`first` is the id of the key that seals; all open. Without keys `first` is empty."""

    first: str = ""
    _ciphers: Mapping[str, AESGCM] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    def knows(self, key_id: str) -> bool:
        return not key_id or key_id in self._ciphers

    def seal(self, text: str, row: Sequence[str]) -> tuple[str, str]:
        """What to keep of the text, and the id of the key that opens it; empty for a text as it is."""
        if not self.first:
            return text, ""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self.first].encrypt(nonce, text.encode(), msgspec.json.encode(list(row)))
        return base64.b64encode(nonce + sealed).decode(), self.first

    def open(self, text: str, key_id: str, row: Sequence[str]) -> str:
        """Raises BadRequest for a text that was not sealed for this row, or not with a key that is known."""
        if not key_id:
            return text
        self.check(key_id)
        try:
            sealed = base64.b64decode(text, validate=True)
            nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            return self._ciphers[key_id].decrypt(nonce, rest, msgspec.json.encode(list(row))).decode()
        except (InvalidTag, ValueError):
            raise BadRequest(
                f"A secret in the state was changed by somebody else than Pipit ({row[0]} of workspace {row[1]})",
                hint="Put the data directory back from a backup.",
                reason=Reason.SECRETS_UNREADABLE,
            ) from None

    def check(self, key_id: str) -> None:
        """Raises BadRequest where none of the keys has this id."""
        if self.knows(key_id):
            return
        if not self.first:
            raise BadRequest(
                f"The secrets are encrypted, and {VARIABLE} is not set",
                hint=f"Set {VARIABLE} to the key that they were written with. Nothing was changed.",
                reason=Reason.SECRETS_UNREADABLE,
            )
        raise BadRequest(
            f"The secrets are encrypted with another key than {VARIABLE} has",
            hint=f"Set {VARIABLE} to the key that they were written with; to replace it, to both: the new one, a "
            "comma, the old one. Nothing was changed.",
            reason=Reason.SECRETS_UNREADABLE,
        )


NO_SEALS = Seals()


def read_seals(value: str) -> Seals:
    """From PIPIT_SECRETS_KEY: one key, or several with commas between them. Raises BadRequest."""
    if not value.strip():
        return NO_SEALS
    keys = [key.strip() for key in value.split(",")]
    short = next((number for number, key in enumerate(keys, 1) if len(key) < MIN_CHARACTERS), 0)
    if short:
        which = f"Key {short} of {VARIABLE}" if len(keys) > 1 else VARIABLE
        raise BadRequest(
            f"{which} is too short: {len(keys[short - 1])} of at least {MIN_CHARACTERS} characters",
            hint="Such as the output of `openssl rand -base64 32`. A comma stands between keys, never in one.",
            reason=Reason.SECRETS_UNREADABLE,
        )
    ciphers: dict[str, AESGCM] = {}
    for key in keys:
        made = Scrypt(salt=_SALT, length=_KEY_BYTES + _ID_BYTES, n=1 << 14, r=8, p=1).derive(key.encode())
        ciphers.setdefault(made[_KEY_BYTES:].hex(), AESGCM(made[:_KEY_BYTES]))
    return Seals(next(iter(ciphers)), MappingProxyType(ciphers))
