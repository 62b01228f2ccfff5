"""Messages of a round: RoundStart, Update, UpdateAck, RoundStatus, RoundComplete, Model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from propeller_fl.errors import MessageError
from propeller_fl.wire._codecs import Format, decode_document, encode_document
from propeller_fl.wire._fields import Fields, Scalar
from propeller_fl.wire._labels import UPDATE_LABELS
from propeller_fl.wire._quantised import Delta, is_delta
from propeller_fl.wire._reasons import Reason
from propeller_fl.wire._tensors import (
    Shapes,
    Tensors,
    check_name,
    check_shapes,
    decode_tensors,
    shapes_of,
)
from propeller_fl.wire._topics import check_id, check_model_uri, is_sha256

_quoted: Final = json.encoder.encode_basestring_ascii  # as in all our JSON

MAX_PARTICIPANTS: Final = 100_000
MAX_TIMEOUT_S: Final = 86_400.0
MAX_SAMPLES: Final = 2**43  # times MAX_PARTICIPANTS it still fits 63 bits
MAX_VERSION: Final = 10**18 - 1
MAX_URI_CHARS: Final = 256


class Mode(StrEnum):
    """What the module is asked to do."""

    TRAIN = "train"
    EVALUATE = "evaluate"


class UpdateFormat(StrEnum):
    """What proplets are asked to write. A reader tells by the document and takes any of them.

    JSON        numbers as text
    CBOR        float32
    FLOAT16     CBOR with half the bytes a number and labels for names
    INT8_DELTA  CBOR with a byte or less a number: the difference to the base model
    """

    JSON = "json"
    CBOR = "cbor"
    FLOAT16 = "float16"
    INT8_DELTA = "int8-delta"


@dataclass(frozen=True, slots=True)
class RoundStart:
    """A round as an operator asks for it (``fl/rounds/start``).

    ``k_of_n`` updates end the round early; at the deadline, ``timeout_s`` seconds after it was
    accepted, at least ``min_updates`` are needed for it to yield a model.
    """

    round_id: str
    model_uri: str
    task_wasm_image: str
    participants: tuple[str, ...]
    hyperparams: Mapping[str, Scalar]
    k_of_n: int
    timeout_s: float
    min_updates: int = 1
    strategy: str = "fedavg"
    update_format: UpdateFormat = UpdateFormat.JSON
    mode: Mode = Mode.TRAIN
    image_sha256: str = ""
    strategy_args: Mapping[str, Scalar] = field(default_factory=dict)

    @classmethod
    def decode(cls, data: bytes) -> RoundStart:
        """Raises :class:`MessageError` with the offending field's name."""
        fields = Fields(decode_document(data))
        participants = _participants(fields.sequence("participants"))
        k_of_n = fields.integer("k_of_n", low=1, high=len(participants))
        start = cls(
            round_id=fields.id("round_id"),
            model_uri=check_model_uri(fields.text("model_uri", max_chars=256), "model_uri"),
            task_wasm_image=fields.text("task_wasm_image", max_chars=1024),
            participants=participants,
            hyperparams=fields.flat("hyperparams"),
            k_of_n=k_of_n,
            timeout_s=fields.number("timeout_s"),
            min_updates=fields.integer("min_updates", 1, low=1, high=k_of_n),
            strategy=fields.text("strategy", "fedavg", max_chars=64),
            update_format=fields.choice("update_format", UpdateFormat, UpdateFormat.JSON),
            mode=fields.choice("mode", Mode, Mode.TRAIN),
            image_sha256=fields.text("image_sha256", "", max_chars=64),
            strategy_args=fields.flat("strategy_args", {}),
        )
        if not 0 < start.timeout_s <= MAX_TIMEOUT_S:
            raise _bad("timeout_s", f"is {start.timeout_s:g}", "more than 0, at most a day")
        if start.image_sha256 and not is_sha256(start.image_sha256):
            raise _bad("image_sha256", "is not a digest", "64 lower-case hexadecimal digits")
        return start

    def encode(self) -> bytes:
        """The canonical JSON form: the same round always gives the same bytes."""
        document = {
            "round_id": self.round_id,
            "model_uri": self.model_uri,
            "task_wasm_image": self.task_wasm_image,
            "participants": list(self.participants),
            "hyperparams": dict(sorted(self.hyperparams.items())),
            "k_of_n": self.k_of_n,
            "timeout_s": float(self.timeout_s),  # as it is decoded, so that 30 is no other start
            "min_updates": self.min_updates,
            "strategy": self.strategy,
            "update_format": self.update_format,
            "mode": self.mode,
            "image_sha256": self.image_sha256,
        }
        if self.strategy_args:  # else as before there were any: a start keeps its digest
            document["strategy_args"] = dict(sorted(self.strategy_args.items()))
        return encode_document(document, Format.JSON)

    def digest(self) -> str:
        """SHA-256 of the canonical form: two starts with one digest ask for the same round."""
        return hashlib.sha256(self.encode()).hexdigest()


def decode_update(data: bytes) -> dict[str, Any]:
    """:func:`decode_document` for an update, whose members may have labels in the place of names.

    Raises :class:`MessageError` (``undecodable``).
    """
    return decode_document(data, UPDATE_LABELS)


@dataclass(frozen=True, slots=True)
class Update:
    """What one proplet has learned: a whole model, tensor by tensor either as it is (``tensors``,
    float32) or as its difference to the base model (``deltas``).

    An evaluation has metrics and no tensors.
    """

    round_id: str
    proplet_id: str
    base_model_uri: str
    num_samples: int
    metrics: Mapping[str, float]
    tensors: Tensors
    deltas: Mapping[str, Delta] = field(default_factory=dict)

    @classmethod
    def decode(cls, data: bytes) -> Update:
        """Raises :class:`MessageError`; ``proplet_id`` may be absent and is then empty."""
        fields = Fields(decode_update(data))
        update = fields.mapping("update")
        deltas = {
            check_name(name, "update"): Delta.parse(value, f"update.{name}")
            for name, value in update.items()
            if is_delta(value)
        }
        whole = {name: value for name, value in update.items() if name not in deltas}
        return cls(
            round_id=fields.id("round_id"),
            proplet_id=fields.id("proplet_id", ""),
            base_model_uri=fields.text("base_model_uri", max_chars=MAX_URI_CHARS),
            num_samples=num_samples_of(fields),
            metrics=fields.scalars("metrics"),
            tensors=decode_tensors(whole, "update", empty=True),
            deltas=deltas,
        )

    @property
    def shapes(self) -> Shapes:
        """The shape of each tensor, whole or not."""
        return shapes_of(self.tensors) | {name: delta.shape for name, delta in self.deltas.items()}

    def on(self, base: Tensors) -> Tensors:
        """The whole model in float32, with ``deltas`` added to the tensors of ``base``.

        Raises :class:`TensorError` when ``base`` has other tensors or shapes, a difference cannot
        be read, or a sum is not finite.
        """
        check_shapes(self.shapes, shapes_of(base))
        return {
            name: self.deltas[name].added_to(array, f"update.{name}")
            if name in self.deltas
            else self.tensors[name]
            for name, array in base.items()
        }


@dataclass(frozen=True, slots=True)
class UpdateSender:
    """The part of an update that says whose it is and for which round."""

    round_id: str
    proplet_id: str

    @classmethod
    def decode(cls, data: bytes) -> UpdateSender:
        """Raises :class:`MessageError` for a document without a readable sender."""
        fields = Fields(decode_update(data))
        return cls(fields.id("round_id"), fields.id("proplet_id", ""))


class AckStatus(StrEnum):
    """The coordinator's answer to an update."""

    ACCEPTED = "accepted"
    REFUSED = "refused"


class UpdateAck(NamedTuple):
    """The update with this digest is durable, or refused and why."""

    round_id: str
    proplet_id: str
    status: AckStatus
    sha256: str
    reason: str = ""
    detail: str = ""

    @classmethod
    def decode(cls, data: bytes) -> UpdateAck:
        """Raises :class:`MessageError`."""
        fields = Fields(decode_document(data))
        return cls(
            round_id=fields.id("round_id"),
            proplet_id=fields.id("proplet_id"),
            status=fields.choice("status", AckStatus),
            sha256=fields.text("sha256", max_chars=64),
            reason=fields.text("reason", ""),
            detail=fields.text("detail", ""),
        )

    def encode(self) -> bytes:
        """Made by hand, in a third of an encoder's time: there is one for each update."""
        return (
            f'{{"round_id":{_quoted(self.round_id)},"proplet_id":{_quoted(self.proplet_id)},'
            f'"status":{_quoted(self.status)},"reason":{_quoted(self.reason)},'
            f'"detail":{_quoted(self.detail[:1024])},"sha256":{_quoted(self.sha256)}}}'
        ).encode()


class Phase(StrEnum):
    """Where a round stands. REFUSED is a round that never was."""

    REFUSED = "refused"
    OPEN = "open"
    AGGREGATING = "aggregating"
    COMPLETE = "complete"
    FAILED = "failed"

    @property
    def closed(self) -> bool:
        return self is not Phase.OPEN and self is not Phase.AGGREGATING


@dataclass(frozen=True, slots=True)
class RoundStatus:
    """Where a round stands (``fl/rounds/{round_id}/status``, retained).

    ``start_sha256`` is :meth:`RoundStart.digest` of the round this speaks of, so that whoever saw
    another start under the same id knows that it is not theirs. ``model_sha256`` is the digest of
    the model's document that the round was opened on, or empty when that is not known.
    ``deadline_at_s`` is in seconds since the epoch. ``answered`` lists who is in; it is left empty
    in rounds of more than 1,000 participants, where it would outweigh the updates.
    """

    round_id: str
    phase: Phase
    start_sha256: str
    k_of_n: int = 0
    participants: int = 0
    accepted: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    deadline_at_s: float = 0.0
    model_sha256: str = ""
    answered: tuple[str, ...] = ()
    reason: str = ""
    detail: str = ""

    @classmethod
    def decode(cls, data: bytes) -> RoundStatus:
        """Raises :class:`MessageError`."""
        fields = Fields(decode_document(data))
        return cls(
            round_id=fields.id("round_id"),
            phase=fields.choice("phase", Phase),
            start_sha256=fields.text("start_sha256", ""),
            k_of_n=fields.integer("k_of_n", 0, low=0, high=MAX_PARTICIPANTS),
            participants=fields.integer("participants", 0, low=0, high=MAX_PARTICIPANTS),
            accepted=fields.integer("accepted", 0, low=0, high=MAX_PARTICIPANTS),
            refused={key: int(count) for key, count in fields.scalars("refused").items()},
            deadline_at_s=fields.number("deadline_at_s", 0.0),
            model_sha256=fields.digest("model_sha256"),
            answered=fields.texts("answered"),
            reason=fields.text("reason", ""),
            detail=fields.text("detail", ""),
        )

    def encode(self) -> bytes:
        return _json(
            round_id=self.round_id,
            phase=self.phase,
            start_sha256=self.start_sha256,
            k_of_n=self.k_of_n,
            participants=self.participants,
            accepted=self.accepted,
            refused=dict(self.refused),
            deadline_at_s=self.deadline_at_s,
            model_sha256=self.model_sha256,
            answered=list(self.answered),
            reason=self.reason,
            detail=self.detail,
        )


class Outcome(StrEnum):
    """How a round ended. TIMEOUT yielded a model from fewer than k updates; FAILED yielded none."""

    COMPLETE = "complete"
    TIMEOUT = "timeout"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RoundComplete:
    """The end of a round, as Propeller's demo publishes it, and what we add.

    ``model_version`` and ``model_topic`` are the current model's: the new one, or, when the round
    failed, the one it started from. ``metrics`` are means weighted by ``num_samples``;
    ``update_bytes`` is what the updates that counted weighed on the wire.
    """

    round_id: str
    status: Outcome
    model_version: int
    model_topic: str
    num_updates: int
    total_samples: int
    completed_at: str
    update_bytes: int = 0
    sha256: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    detail: str = ""

    @classmethod
    def decode(cls, data: bytes) -> RoundComplete:
        """Raises :class:`MessageError`."""
        fields = Fields(decode_document(data))
        return cls(
            round_id=fields.id("round_id"),
            status=fields.choice("status", Outcome, Outcome.COMPLETE),
            model_version=fields.integer("model_version", low=0, high=MAX_VERSION),
            model_topic=fields.text("model_topic"),
            num_updates=fields.integer("num_updates", low=0, high=MAX_PARTICIPANTS),
            total_samples=fields.integer("total_samples", low=0, high=2**63),
            completed_at=fields.text("completed_at"),
            update_bytes=fields.integer("update_bytes", 0, low=0, high=2**63),
            sha256=fields.text("sha256", ""),
            metrics=fields.scalars("metrics"),
            refused={key: int(count) for key, count in fields.scalars("refused").items()},
            missing=fields.texts("missing"),
            detail=fields.text("detail", ""),
        )

    def encode(self) -> bytes:
        return _json(
            round_id=self.round_id,
            status=self.status,
            model_version=self.model_version,
            model_topic=self.model_topic,
            num_updates=self.num_updates,
            total_samples=self.total_samples,
            completed_at=self.completed_at,
            update_bytes=self.update_bytes,
            sha256=self.sha256,
            metrics=dict(self.metrics),
            refused=dict(self.refused),
            missing=list(self.missing),
            detail=self.detail,
        )


@dataclass(frozen=True, slots=True)
class Model:
    """Tensors and, where it is a global model, its version."""

    tensors: Tensors
    version: int | None = None

    @classmethod
    def decode(cls, data: bytes) -> Model:
        """Raises :class:`MessageError`."""
        document = decode_document(data)
        version = None
        if "version" in document:
            version = Fields(document).integer("version", low=0, high=MAX_VERSION)
            del document["version"]
        return cls(decode_tensors(document, "model"), version)

    def encode(self, form: Format) -> bytes:
        document: dict[str, Any] = dict(self.tensors)
        if self.version is not None:
            document["version"] = self.version
        return encode_document(document, form)


def _json(**document: Any) -> bytes:
    return encode_document(document, Format.JSON)


def _bad(name: str, what: str, hint: str) -> MessageError:
    return MessageError(Reason.BAD_FIELD, f"{name} {what}", field=name, hint=hint)


def _participants(values: list[Any]) -> tuple[str, ...]:
    if not 1 <= len(values) <= MAX_PARTICIPANTS:
        raise _bad("participants", f"has {len(values)} names", f"from 1 to {MAX_PARTICIPANTS}")
    seen: dict[str, None] = {}
    for value in values:
        if not isinstance(value, str):
            raise _bad("participants", f"holds a {type(value).__name__}", "text only")
        if check_id(value, "participants") in seen:
            raise _bad("participants", f"names {value!r} twice", "each proplet once")
        seen[value] = None
    return tuple(seen)


def num_samples_of(fields: Fields) -> int:
    try:
        return fields.integer("num_samples", low=1, high=MAX_SAMPLES)
    except MessageError as err:
        raise MessageError(Reason.BAD_NUM_SAMPLES, err.args[0], field="num_samples") from None
