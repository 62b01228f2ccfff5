"""What is signed of a module, and the file that holds its signatures."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from propeller_fl.errors import MessageError, SignatureError
from propeller_fl.wire import decode_signatures, encode_signatures

Signatures = Mapping[str, bytes]
"""The 64 bytes of each signature, by the id of its key."""

_DOMAIN: Final = b"propeller-fl image v1\0"
_MAX_FILE_BYTES: Final = 16 * 1024


def signed_message(image_sha256: str) -> bytes:
    """The bytes that are signed: what they are for, and the 32 bytes of the module's SHA-256."""
    return _DOMAIN + bytes.fromhex(image_sha256)


def signature_path(module: Path) -> Path:
    """Where the signatures of a module in a file are."""
    return module.with_name(module.name + ".sig")


def read_signatures(document: Any, where: str) -> dict[str, bytes]:
    """From texts in base64 by key id, as they travel. Raises :class:`SignatureError`."""
    if not isinstance(document, dict):
        raise SignatureError(f"{where}: the signatures are no object")
    try:
        return decode_signatures(document, "signatures")
    except MessageError as err:
        raise SignatureError(f"{where}: {err.args[0]}", hint=err.hint) from None


def annotation(signatures: Signatures) -> str:
    """All of them in a line, as they stand in a registry."""
    return json.dumps(encode_signatures(signatures), separators=(",", ":"))


def read_annotation(text: str, where: str) -> dict[str, bytes]:
    """The other way round; an empty text has none. Raises :class:`SignatureError`."""
    try:
        return read_signatures(json.loads(text[:_MAX_FILE_BYTES]), where) if text else {}
    except (ValueError, RecursionError):
        raise SignatureError(f"{where}: the signatures are no JSON") from None


def read_signature_file(path: Path, image_sha256: str) -> dict[str, bytes]:
    """The signatures of the module with this digest; none where there is no file. Raises
    :class:`SignatureError` for a file of another module, too."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as err:
        raise SignatureError(f"signatures in {path}: {err.strerror}") from err
    try:
        document = json.loads(data) if len(data) <= _MAX_FILE_BYTES else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise SignatureError(f"{path} holds no signatures", hint="`propeller-fl client sign` does")
    if document.get("image_sha256") != image_sha256:
        raise SignatureError(
            f"{path} signs another module than the one with sha256 {image_sha256}",
            hint="was it rebuilt? Look at it, and sign it again",
        )
    return read_signatures(document.get("signatures"), str(path))


def write_signature_file(path: Path, image_sha256: str, signatures: Signatures) -> None:
    """Whole or not at all. Raises :class:`SignatureError`."""
    document = {"image_sha256": image_sha256, "signatures": encode_signatures(signatures)}
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(json.dumps(document, indent=2) + "\n")
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as err:
        raise SignatureError(f"{path} cannot be written: {err.strerror}") from err
