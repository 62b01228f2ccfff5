"""Control messages between manager and proplets, in Propeller's field names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from propeller_fl.errors import MessageError
from propeller_fl.wire._codecs import decode_document
from propeller_fl.wire._fields import Fields, Scalar
from propeller_fl.wire._reasons import Reason
from propeller_fl.wire._signatures import decode_signatures, encode_signatures
from propeller_fl.wire._topics import check_model_uri

_MAX_FORMAT_CHARS: Final = 32


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
class FlSpec:
    """What a task of a round is about (``fl`` in TaskStart), so that its proplet can check what it
    trains on. The module itself reads the environment, which says the same.

    ``model_sha256`` is the digest of the document on ``model_uri``, empty when it is not known;
    ``format`` what the update is to be written in; ``deadline`` when the round ends at the latest,
    in seconds since the epoch, 0 when that is not known.
    """

    round_id: str
    model_uri: str
    model_sha256: str = ""
    format: str = "json"
    deadline: float = 0.0
    hyperparams: Mapping[str, Scalar] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> FlSpec:
        """From a decoded object. Raises :class:`MessageError`, which names ``fl.…``."""
        fields = Fields(document)
        try:
            deadline = fields.number("deadline", 0.0)
            if deadline < 0:
                raise MessageError(
                    Reason.BAD_FIELD, f"deadline is {deadline:g}", field="deadline", hint="from 0"
                )
            return cls(
                round_id=fields.id("round_id"),
                model_uri=check_model_uri(fields.text("model_uri", max_chars=256), "model_uri"),
                model_sha256=fields.digest("model_sha256"),
                format=fields.text("format", "json", max_chars=_MAX_FORMAT_CHARS),
                deadline=deadline,
                hyperparams=fields.flat("hyperparams", {}),
            )
        except MessageError as err:
            raise MessageError(
                err.reason, f"fl.{err.args[0]}", field=f"fl.{err.field}", hint=err.hint
            ) from None

    def document(self) -> dict[str, Any]:
        return {
            "round_id": self.round_id,
            "model_uri": self.model_uri,
            "model_sha256": self.model_sha256,
            "format": self.format,
            "deadline": self.deadline,
            "hyperparams": dict(self.hyperparams),
        }


@dataclass(frozen=True, slots=True)
class TaskStart:
    """One task for one proplet: run this image with this environment.

    ``fl`` is there in tasks of a round, but not in those of Propeller's managers.
    """

    id: str
    name: str
    proplet_id: str
    image_url: str
    env: Mapping[str, str]
    image_sha256: str = ""
    fl: FlSpec | None = None
    image_signatures: Mapping[str, bytes] = field(default_factory=dict)  # 64 bytes, by key id

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
            fl=FlSpec.of(fields.mapping("fl")) if fields.has("fl") else None,
            image_signatures=decode_signatures(
                fields.mapping("image_signatures", {}), "image_signatures"
            ),
        )

    def encode(self) -> bytes:
        extra: dict[str, Any] = {} if self.fl is None else {"fl": self.fl.document()}
        if self.image_signatures:
            extra["image_signatures"] = encode_signatures(self.image_signatures)
        return _json(
            id=self.id,
            name=self.name,
            proplet_id=self.proplet_id,
            image_url=self.image_url,
            image_sha256=self.image_sha256,
            env=dict(self.env),
            **extra,
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
