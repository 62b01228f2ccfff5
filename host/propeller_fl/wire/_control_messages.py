"""Control messages between manager and proplets, in Propeller's field names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from propeller_fl.errors import MessageError
from propeller_fl.wire._codecs import decode_document
from propeller_fl.wire._fields import Fields
from propeller_fl.wire._reasons import Reason


@dataclass(frozen=True, slots=True)
class Discovery:
    """A proplet introduces itself (``control/proplet/create``).

    ``metadata`` is free text by name: ``runtime``, ``arch``, ``memory_bytes``, ``version`` and
    ``own_start_topic`` (``"true"``: it also listens on ``control/manager/start/{proplet_id}``).
    """

    proplet_id: str
    namespace: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def decode(cls, data: bytes) -> Discovery:
        """Raises :class:`MessageError`."""
        fields = Fields(decode_document(data))
        metadata = fields.mapping("metadata", {})
        return cls(
            proplet_id=fields.id("proplet_id"),
            namespace=fields.text("namespace", ""),
            metadata={key: _as_text(value, "metadata") for key, value in metadata.items()},
        )

    def encode(self) -> bytes:
        return _json(
            proplet_id=self.proplet_id, namespace=self.namespace, metadata=dict(self.metadata)
        )


class Liveness(StrEnum):
    """What a heartbeat, or the last will, says."""

    ALIVE = "alive"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Alive:
    """A heartbeat, or the last will (``control/proplet/alive``)."""

    proplet_id: str
    status: Liveness = Liveness.ALIVE
    namespace: str = ""

    @classmethod
    def decode(cls, data: bytes) -> Alive:
        """Raises :class:`MessageError`."""
        fields = Fields(decode_document(data))
        return cls(
            proplet_id=fields.id("proplet_id"),
            status=fields.choice("status", Liveness, Liveness.ALIVE),
            namespace=fields.text("namespace", ""),
        )

    def encode(self) -> bytes:
        return _json(proplet_id=self.proplet_id, status=self.status, namespace=self.namespace)


@dataclass(frozen=True, slots=True)
class TaskStart:
    """One task for one proplet: run this image with this environment."""

    id: str
    name: str
    proplet_id: str
    image_url: str
    env: Mapping[str, str]
    image_sha256: str = ""

    @classmethod
    def decode(cls, data: bytes) -> TaskStart:
        """Raises :class:`MessageError`."""
        fields = Fields(decode_document(data))
        env = Fields(fields.mapping("env", {}))
        return cls(
            id=fields.text("id", max_chars=160),
            name=fields.text("name", "", max_chars=256),
            proplet_id=fields.id("proplet_id"),
            image_url=fields.text("image_url", max_chars=1024),
            env={key: env.text(key, max_chars=1 << 20) for key in fields.mapping("env", {})},
            image_sha256=fields.text("image_sha256", "", max_chars=64),
        )

    def encode(self) -> bytes:
        return _json(
            id=self.id,
            name=self.name,
            proplet_id=self.proplet_id,
            image_url=self.image_url,
            image_sha256=self.image_sha256,
            env=dict(self.env),
        )


@dataclass(frozen=True, slots=True)
class TaskStop:
    """Stop a task, wherever it stands; unknown ids are ignored."""

    id: str
    proplet_id: str = ""

    @classmethod
    def decode(cls, data: bytes) -> TaskStop:
        """Raises :class:`MessageError`."""
        fields = Fields(decode_document(data))
        return cls(fields.text("id", max_chars=160), fields.id("proplet_id", ""))

    def encode(self) -> bytes:
        return _json(id=self.id, proplet_id=self.proplet_id)


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How a task ended: exactly one of ``results`` and ``error`` is not empty."""

    task_id: str
    proplet_id: str
    results: str = ""
    error: str = ""

    @classmethod
    def decode(cls, data: bytes) -> TaskResult:
        """Raises :class:`MessageError`."""
        document = decode_document(data)
        fields = Fields(document)
        return cls(
            task_id=fields.text("task_id", max_chars=160),
            proplet_id=fields.id("proplet_id", ""),
            results=_as_text(document.get("results"), "results"),
            error=fields.text("error", "", max_chars=65_536),
        )

    def encode(self) -> bytes:
        return _json(
            task_id=self.task_id,
            proplet_id=self.proplet_id,
            results=self.results or None,
            error=self.error or None,
        )


@dataclass(frozen=True, slots=True)
class LaunchReport:
    """Who was launched for a round and who was not (``fl/rounds/{round_id}/launch``, retained).

    ``absent`` proplets are not alive; their task goes out when they come back. ``failed`` gives
    the error each proplet reported. ``error`` says why nothing was launched at all.
    """

    round_id: str
    launched: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    error: str = ""

    @classmethod
    def decode(cls, data: bytes) -> LaunchReport:
        """Raises :class:`MessageError`."""
        fields = Fields(decode_document(data))
        failed = Fields(fields.mapping("failed", {}))
        return cls(
            round_id=fields.id("round_id"),
            launched=fields.texts("launched"),
            absent=fields.texts("absent"),
            failed={key: failed.text(key) for key in fields.mapping("failed", {})},
            error=fields.text("error", ""),
        )

    def encode(self) -> bytes:
        return _json(
            round_id=self.round_id,
            launched=list(self.launched),
            absent=list(self.absent),
            failed=dict(self.failed),
            error=self.error,
        )


def _json(**document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def _as_text(value: Any, field: str) -> str:
    """A text as it is; anything else that JSON can hold as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):  # an array in CBOR; nested too deep
        raise MessageError(
            Reason.BAD_FIELD, f"{field} holds what is no text", field=field, hint="text is wanted"
        ) from None
