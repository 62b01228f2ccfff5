"""Control messages between manager and proplets, in Propeller's field names."""

from __future__ import annotations

import base64
import binascii
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
MAX_CHUNKS: Final = 65_536
"""Most pieces of an image that comes from a registry."""

_MAX_BASE64_CHARS: Final = 12 * 1024 * 1024
_MAX_WORDS: Final = 256  # of inputs and cli_args, each
_MAX_WORD_CHARS: Final = 65_536
_NUMBERS: Final = ("total_memory_bytes",)  # of metadata, which Propeller wants as such
_BEYOND_US: Final = ("encrypted", "latent")  # what a Propeller task may ask for and cannot have


@dataclass(frozen=True, slots=True)
class Discovery:
    """A proplet introduces itself (``control/proplet/create``).

    ``metadata`` is free text by name: ``runtime``, ``arch``, ``memory_bytes``, ``version`` and
    ``own_start_topic`` (``"true"``: it also listens on ``control/manager/start/{proplet_id}``);
    and what Propeller shows of a proplet: ``os``, ``hostname``, ``cpu_arch``,
    ``total_memory_bytes``, ``proplet_version``, ``wasm_runtime``.
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
            proplet_id=self.proplet_id,
            namespace=self.namespace,
            metadata={
                key: int(value) if key in _NUMBERS and value.isdecimal() else value
                for key, value in self.metadata.items()
            },
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
    in seconds since the epoch, 0 when that is not known; ``strategy`` what makes a model of the
    updates, for those who sum them on the way; empty when that is not known.
    """

    round_id: str
    model_uri: str
    model_sha256: str = ""
    format: str = "json"
    deadline: float = 0.0
    hyperparams: Mapping[str, Scalar] = field(default_factory=dict)
    strategy: str = ""

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
                strategy=fields.text("strategy", "", max_chars=64),
            )
        except MessageError as err:
            raise MessageError(
                err.reason, f"fl.{err.args[0]}", field=f"fl.{err.field}", hint=err.hint
            ) from None

    def document(self) -> dict[str, Any]:
        document = {
            "round_id": self.round_id,
            "model_uri": self.model_uri,
            "model_sha256": self.model_sha256,
            "format": self.format,
            "deadline": self.deadline,
            "hyperparams": dict(self.hyperparams),
        }
        return document | ({"strategy": self.strategy} if self.strategy else {})


@dataclass(frozen=True, slots=True)
class TaskStart:
    """One task: run this image with this environment.

    ``fl`` is there in tasks of a round, but not in those of Propeller's managers. What follows it
    is theirs, for tasks that are of no round. ``proplet_id`` is empty, or ``broadcast`` set, in a
    task for every proplet that reads it. ``file`` is the image itself, in place of ``image_url``.
    ``name`` is the exported function to call, ``inputs`` its arguments, numbers as text; or those
    of a command, after ``cli_args``. A ``daemon`` runs until it is stopped. ``unsupported`` names
    the field that asks for what no proplet of ours can do, or is empty.
    """

    id: str
    name: str
    proplet_id: str
    image_url: str
    env: Mapping[str, str]
    image_sha256: str = ""
    fl: FlSpec | None = None
    file: bytes = field(default=b"", repr=False)
    inputs: tuple[str, ...] = ()
    cli_args: tuple[str, ...] = ()
    daemon: bool = False
    broadcast: bool = False
    mode: str = ""
    unsupported: str = ""
    image_signatures: Mapping[str, bytes] = field(default_factory=dict)  # 64 bytes, by key id

    @classmethod
    def decode(cls, data: bytes) -> TaskStart:
        """Raises :class:`MessageError`."""
        fields = Fields(decode_document(data))
        env = Fields(fields.mapping("env", {}))
        file = _bytes_of(fields, "file")
        return cls(
            id=fields.text("id", max_chars=160),
            name=fields.text("name", "", max_chars=256),
            proplet_id=fields.id("proplet_id", ""),
            image_url=fields.text("image_url", *([""] if file else []), max_chars=1024),
            env={key: env.text(key, max_chars=1 << 20) for key in fields.mapping("env", {})},
            image_sha256=fields.text("image_sha256", "", max_chars=64),
            fl=FlSpec.of(fields.mapping("fl")) if fields.has("fl") else None,
            file=file,
            inputs=_words(fields, "inputs"),
            cli_args=_words(fields, "cli_args"),
            daemon=fields.boolean("daemon", False),
            broadcast=fields.boolean("broadcast", False),
            mode=fields.text("mode", "", max_chars=64),
            unsupported=next((n for n in _BEYOND_US if fields.boolean(n, False)), ""),
            image_signatures=decode_signatures(
                fields.mapping("image_signatures", {}), "image_signatures"
            ),
        )

    def encode(self) -> bytes:
        """What is Propeller's and says nothing is left out."""
        optional: dict[str, Any] = {
            "fl": None if self.fl is None else self.fl.document(),
            "file": base64.b64encode(self.file).decode(),
            "inputs": list(self.inputs),
            "cli_args": list(self.cli_args),
            "daemon": self.daemon,
            "broadcast": self.broadcast,
            "mode": self.mode,
            self.unsupported: bool(self.unsupported),
            "image_signatures": encode_signatures(self.image_signatures),
        }
        return _json(
            id=self.id,
            name=self.name,
            proplet_id=self.proplet_id,
            image_url=self.image_url,
            image_sha256=self.image_sha256,
            env=dict(self.env),
            **{name: value for name, value in optional.items() if value},
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
class ImageRequest:
    """A proplet asks for an image by the name in its task (``registry/proplet``)."""

    app_name: str

    @classmethod
    def decode(cls, data: bytes) -> ImageRequest:
        """Raises :class:`MessageError`."""
        return cls(_app_name(Fields(decode_document(data))))

    def encode(self) -> bytes:
        return _json(app_name=self.app_name)


@dataclass(frozen=True, slots=True)
class ImageChunk:
    """A piece of an image (``registry/server``); all but the last have one size.

    Every proplet hears the chunks for all of them.
    """

    app_name: str
    chunk_idx: int
    total_chunks: int
    data: bytes = field(repr=False)

    @classmethod
    def decode(cls, data: bytes) -> ImageChunk:
        """Raises :class:`MessageError`."""
        fields = Fields(decode_document(data))
        total = fields.integer("total_chunks", low=1, high=MAX_CHUNKS)
        return cls(
            app_name=_app_name(fields),
            chunk_idx=fields.integer("chunk_idx", low=0, high=total - 1),
            total_chunks=total,
            data=_bytes_of(fields, "data", needed=True),
        )

    def encode(self) -> bytes:
        """In this order: a reader that streams must know what the data are before they come."""
        return _json(
            app_name=self.app_name,
            chunk_idx=self.chunk_idx,
            total_chunks=self.total_chunks,
            data=base64.b64encode(self.data).decode(),
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


def _app_name(fields: Fields) -> str:
    name = fields.text("app_name", max_chars=1024)
    if not name:
        raise MessageError(Reason.MISSING_FIELD, "app_name is empty", field="app_name")
    return name


def _bytes_of(fields: Fields, name: str, *, needed: bool = False) -> bytes:
    """A field in base64."""
    text = fields.text(name, *([] if needed else [""]), max_chars=_MAX_BASE64_CHARS)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as err:
        raise MessageError(
            Reason.BAD_FIELD, f"{name} is no base64: {err}", field=name, hint="RFC 4648, padded"
        ) from None


def _words(fields: Fields, name: str) -> tuple[str, ...]:
    """An array of texts and numbers as texts, empty when absent."""
    words: list[str] = []
    for value in fields.sequence(name, []):
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            what = f"{name} holds a {type(value).__name__}"
            raise MessageError(Reason.BAD_FIELD, what, field=name, hint="texts or numbers")
        words.append(value if isinstance(value, str) else json.dumps(value))
    if len(words) > _MAX_WORDS or any(len(word) > _MAX_WORD_CHARS for word in words):
        raise MessageError(
            Reason.BAD_FIELD,
            f"{name} is too long",
            field=name,
            hint=f"at most {_MAX_WORDS} of at most {_MAX_WORD_CHARS} characters",
        )
    return tuple(words)


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
