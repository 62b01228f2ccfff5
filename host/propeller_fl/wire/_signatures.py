"""Signatures of an image, as they travel: base64 by the id of the key."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

from propeller_fl.errors import MessageError
from propeller_fl.wire._fields import shown
from propeller_fl.wire._reasons import Reason

MAX_SIGNATURES: Final = 4  # a board holds no more
SIGNATURE_BYTES: Final = 64
_KEY_ID: Final = re.compile(r"[0-9a-f]{16}")


def decode_signatures(document: Mapping[str, Any], field: str) -> dict[str, bytes]:
    """The bytes of each by key id. Raises :class:`MessageError`, which names ``field``."""
    if len(document) > MAX_SIGNATURES:
        raise MessageError(
            Reason.BAD_FIELD,
            f"{field} has {len(document)} members",
            field=field,
            hint=f"at most {MAX_SIGNATURES}",
        )
    found: dict[str, bytes] = {}
    for key_id, text in document.items():
        signature = _decoded(text) if isinstance(text, str) else b""
        if not _KEY_ID.fullmatch(key_id) or len(signature) != SIGNATURE_BYTES:
            raise MessageError(
                Reason.BAD_FIELD,
                f"{field}.{shown(key_id)} is no signature",
                field=field,
                hint="64 bytes in base64, under 16 lower-case hexadecimal digits",
            )
        found[key_id] = signature
    return found


def encode_signatures(signatures: Mapping[str, bytes]) -> dict[str, str]:
    """The other way round."""
    return {key_id: base64.b64encode(signatures[key_id]).decode() for key_id in sorted(signatures)}


def _decoded(text: str) -> bytes:
    """Empty unless ``text`` is the one way to write these bytes."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return b""
    return data if base64.b64encode(data).decode() == text else b""
