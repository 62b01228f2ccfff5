"""Targets: everything that reads a message, a model, an update or a module's output."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol, Self

import cbor2
import numpy as np

from propeller_fl.coordinator._reading import ReadOffer, ReadUpdate, read_update
from propeller_fl.errors import MessageError, PropellerError
from propeller_fl.proplet import prepare_update
from propeller_fl.store import ModelFormat, convert, read_model_file
from propeller_fl.wire import (
    UPDATE_LABELS,
    Alive,
    Command,
    Delta,
    Discovery,
    ExperimentCommand,
    ExperimentPhase,
    ExperimentStart,
    ExperimentStatus,
    FlSpec,
    Format,
    LaunchReport,
    Manifest,
    Model,
    PartsWanted,
    RoundComplete,
    RoundStart,
    RoundStatus,
    RoundStop,
    TaskResult,
    TaskStart,
    TaskStop,
    Tensors,
    Update,
    UpdateAck,
    UpdateManifest,
    UpdateSender,
    decode_document,
    decode_update,
    encode_document,
    index_update,
    is_sha256,
    shapes_of,
)
from tests.fuzz.mutate import document_mutator
from tests.fuzz.target import Broken, Target, raised_at

_FIXTURES: Final = Path(__file__).resolve().parents[1] / "fixtures" / "messages"
_MAX_UPDATE_BYTES: Final = 32_768
_MAX_ERROR_CHARS: Final = 2_000
_ROUND, _PROPLET = "r-0001", "proplet-1"
_PLAIN_TYPES: Final = (str, bool, int, float, bytes, type(None))


class _Message(Protocol):
    @classmethod
    def decode(cls, data: bytes) -> Self: ...

    def encode(self) -> bytes: ...


def document_targets() -> Iterator[Target]:
    """One for each kind of message, and those that read more than one kind."""
    for kind, sample in _SAMPLES.items():
        yield _target(_kebab(kind.__name__), _message_check(kind), [sample.encode()])
    updates = [encode_document(_UPDATE, form) for form in Format]
    models = [encode_document({**_TENSORS, "version": 7}, form) for form in Format]
    yield _target("document", _check_document, [*updates, *models])
    yield _target("model", _check_model, models)
    updates += [encode_document(_COMPACT, Format.CBOR)]
    yield _target("update", _check_update, updates)
    yield _target("manifest", _check_manifest, [_MANIFEST.encode()])
    yield _target("update-manifest", _check_update_manifest, [_UPDATE_MANIFEST.encode()])
    yield _target("update-index", _check_index, updates)
    yield _model_files()
    yield _target("update-sender", _check_sender, updates)
    yield _target("read-update", _check_read_update, [*updates, _UPDATE_MANIFEST.encode()])
    yield _target("module-output", _check_output, updates)


def _target(name: str, check: Callable[[bytes], Hashable], seeds: list[bytes]) -> Target:
    names = sorted({field for seed in seeds for field in _names(decode_update(seed))})
    tokens = [*(f'"{field}":'.encode() for field in names), *_TOKENS]

    def attempt(data: bytes) -> Hashable:
        try:
            return check(data)
        except PropellerError as error:
            return _refusal(error, names)

    def make_seeds() -> list[bytes]:
        both = [form for seed in seeds for form in (seed, _other_form(seed))]
        fixtures = sorted(_FIXTURES.glob(f"*/{name.replace('-', '_')}-*.json"))
        return both + [path.read_bytes() for path in fixtures]

    return Target(name, attempt, document_mutator(tokens, names), make_seeds)


def _model_files() -> Target:
    """What ``model put`` reads: the forms of numpy and safetensors beside ours."""
    document = encode_document({**_TENSORS, "version": 7}, Format.CBOR)
    tokens = [b'"dtype":"F32"', b'"data_offsets":[0,8]', b"'descr': '<f4'", b"'shape': (2,)"]

    def attempt(data: bytes) -> Hashable:
        try:
            model = read_model_file(data)
        except PropellerError as error:
            return _refusal(error, ())
        again = read_model_file(convert(model.encode(Format.CBOR), ModelFormat.NPZ))
        if model.encode(Format.CBOR) != again.encode(Format.CBOR):
            raise Broken(f"{model!r} came back as {again!r}")
        return len(model.tensors)

    def make_seeds() -> list[bytes]:
        return [convert(document, form) for form in ModelFormat]

    return Target("model-file", attempt, document_mutator(tokens, ["version"]), make_seeds)


def _refusal(error: PropellerError, names: Sequence[str]) -> Hashable:
    """Errors go into logs and acknowledgements: one line, not too long, of characters only."""
    text = str(error)
    if not text.isprintable() or len(text) > _MAX_ERROR_CHARS:
        raise Broken(f"this error is no line for a log: {text[:200]!r}") from error
    if not isinstance(error, MessageError):
        raise Broken(f"bytes from the wire gave a {type(error).__name__}") from error
    return raised_at(error), error.reason, error.field if error.field in names else ""


# messages


def _message_check(kind: type[_Message]) -> Callable[[bytes], Hashable]:
    def check(data: bytes) -> Hashable:
        message = kind.decode(data)
        written = message.encode()
        again = kind.decode(written)
        if again != _as_written(message) or again.encode() != written:
            raise Broken(f"{message!r} came back as {again!r}")
        return kind.__name__

    return check


def _check_manifest(data: bytes) -> Hashable:
    found = Manifest.decode(data)
    if found is None:
        return None
    if Manifest.decode(found.encode()) != found:
        raise Broken(f"{found!r} did not come back")
    if sum(len(found.place(index)) for index in range(len(found.parts))) != found.size_bytes:
        raise Broken(f"the parts of {found!r} are not the file")
    return len(found.parts)


def _check_update_manifest(data: bytes) -> Hashable:
    found = UpdateManifest.decode(data)
    if found is None:
        return None
    if UpdateManifest.decode(found.encode()) != found:
        raise Broken(f"{found!r} did not come back")
    sender = UpdateSender.decode(data)  # as the manager reads it
    if (sender.round_id, sender.proplet_id) != (found.round_id, found.proplet_id):
        raise Broken(f"{found!r} is somebody else's for the manager")
    return len(found.file.parts), len(found.metrics)


def _check_index(data: bytes) -> Hashable:
    """What is found without reading an update whole is what is found in all of it."""
    index = index_update(io.BytesIO(data), len(data))
    if decode_update(index.rest).get("update") != {}:
        raise Broken(f"the rest is {index.rest[:200]!r}")
    try:
        update = Update.decode(data)
    except MessageError:  # what it says beside the arrays is judged elsewhere, and numbers too
        return len(index.tensors)
    if update.deltas or update.shapes != index.shapes:
        raise Broken(f"shapes {update.shapes} were found as {index.shapes}")
    for name, place in index.tensors.items():
        if isinstance(place, range):
            found = data[place.start : place.stop]
        else:
            found = np.float32(place).tobytes()
        if found != update.tensors[name].tobytes():
            raise Broken(f"tensor {name!r} is not at {place}")
    return len(index.tensors)


def _as_written(message: _Message) -> _Message:
    """An acknowledgement of ours is short, also when its detail is not."""
    if isinstance(message, UpdateAck):
        return message._replace(detail=message.detail[:1024])
    return message


# documents


def _check_document(data: bytes) -> Hashable:
    document = decode_document(data)
    kinds = {type(item) for item in _leaves(document)}
    if strange := kinds.difference((*_PLAIN_TYPES, np.ndarray)):
        raise Broken(f"a document holds {strange}")
    return frozenset(kind.__name__ for kind in kinds)


def _leaves(value: Any) -> Iterator[Any]:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item)
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        else:
            yield item


def _check_model(data: bytes) -> Hashable:
    model = Model.decode(data)
    for form in Format:
        again = Model.decode(model.encode(form))
        _same_tensors(again.tensors, model.tensors)
        if again.version != model.version:
            raise Broken(f"version {model.version} came back as {again.version}")
    return model.version is None, _ranks(model.tensors)


def _check_update(data: bytes) -> Hashable:
    update = Update.decode(data)
    for form in Format:
        written = update if form is Format.CBOR else replace(update, deltas={})
        again = Update.decode(encode_document(_update_document(written), form))
        _same_tensors(again.tensors, update.tensors)
        if replace(again, tensors={}, deltas={}) != replace(update, tensors={}, deltas={}):
            raise Broken(f"{update!r} came back as {again!r}")
        for name, delta in written.deltas.items():
            if _parts(again.deltas[name]) != _parts(delta):
                raise Broken(f"difference {name!r} came back as {again.deltas[name]!r}")
    kind = bool(update.proplet_id), bool(update.metrics), _ranks(update.tensors)
    if not update.deltas:
        return kind
    try:
        _check_whole(update.on(_zeros(update)), update)
    except MessageError as error:  # refusing is right: it says how
        return kind, _refusal(error, [])
    return kind, "whole"


def _parts(delta: Delta) -> Hashable:
    return delta.scale, delta.shape, delta.packed.tobytes()


def _zeros(update: Update) -> Tensors:
    """A base model for it. What it takes is bounded by the update's own bytes."""
    if sum(int(np.prod(shape)) for shape in update.shapes.values()) > 8 * _MAX_UPDATE_BYTES:
        raise Broken("a few bytes ask for much memory")
    return {name: np.zeros(shape, np.float32) for name, shape in update.shapes.items()}


def _check_whole(tensors: Tensors, update: Update) -> None:
    if shapes_of(tensors) != update.shapes:
        raise Broken(f"shapes {update.shapes} came out as {shapes_of(tensors)}")
    for name, array in tensors.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise Broken(f"tensor {name!r} is {array!r}")


def _update_document(update: Update) -> dict[str, Any]:
    sender = {"proplet_id": update.proplet_id} if update.proplet_id else {}
    return {
        "round_id": update.round_id,
        **sender,
        "base_model_uri": update.base_model_uri,
        "num_samples": update.num_samples,
        "metrics": dict(update.metrics),
        "update": {
            **update.tensors,
            **{name: delta.document() for name, delta in update.deltas.items()},
        },
    }


def _check_sender(data: bytes) -> Hashable:
    sender = UpdateSender.decode(data)
    return bool(sender.proplet_id)


def _check_read_update(data: bytes) -> Hashable:
    read = read_update(data, "0" * 64, _MAX_UPDATE_BYTES, _zeros)
    if isinstance(read, ReadUpdate):
        if shapes_of(read.tensors) != read.facts.shapes:
            raise Broken(f"{read!r} has lost a tensor")
        if not read.facts.proplet_id or not np.isfinite(list(read.metrics.values())).all():
            raise Broken(f"{read!r} is not fit to be counted")
        return "read"
    if isinstance(read, ReadOffer):
        if not read.facts.in_parts or not read.facts.proplet_id:
            raise Broken(f"{read!r} is not fit to be fetched")
        return "offer"
    return read.reason, bool(read.round_id), bool(read.proplet_id)


def _check_output(data: bytes) -> Hashable:
    """What a module wrote is sent on as it is, with the proplet's name in it."""
    output = prepare_update(data, _ROUND, _PROPLET)
    document, original = decode_update(output.payload), decode_update(data)
    if document.get("proplet_id") != _PROPLET or document.get("round_id") != _ROUND:
        raise Broken(f"the output is sent as {output.payload[:200]!r}")
    names = [name for name in document if name in original]
    if names != list(original) or len(document) - len(names) > 1 or not is_sha256(output.sha256):
        raise Broken(f"the output has become {output.payload[:200]!r}")
    return output.payload == data, output.num_samples is None


def _same_tensors(found: Tensors, expected: Tensors) -> None:
    if list(found) != list(expected):
        raise Broken(f"tensors {list(expected)} came back as {list(found)}")
    for name, array in expected.items():
        again = found[name]
        if again.shape != array.shape or again.tobytes() != array.tobytes():
            raise Broken(f"tensor {name!r} {array!r} came back as {again!r}")


def _ranks(tensors: Tensors) -> Hashable:
    return frozenset(array.ndim for array in tensors.values())


# seeds

_TENSORS: Final[dict[str, Any]] = {
    "W": np.arange(6, dtype=np.float32).reshape(2, 3) / 8,
    "b": np.array([0.5, -1.5, 3e38], np.float32),
    "s": np.array(0.25, np.float32),
}
_UPDATE: Final[dict[str, Any]] = {
    "round_id": _ROUND,
    "proplet_id": _PROPLET,
    "base_model_uri": "fl/models/global_model_v0",
    "num_samples": 10,
    "metrics": {"loss": 0.5, "accuracy": 1},
    "update": _TENSORS,
}
_MANIFEST: Final = Manifest(
    7, 10_000, "c" * 64, 4096, ("a" * 64, "b" * 64, "a" * 64), {"w": (10, 20), "b": ()}
)

_UPDATE_MANIFEST: Final = UpdateManifest(
    _ROUND, _PROPLET, "fl/models/global_model_v7", 10, {"loss": 0.5}, _MANIFEST
)

_COMPACT: Final[dict[Any, Any]] = {
    label: (
        _UPDATE
        | {
            "update": {
                "W": Delta.between(_TENSORS["W"] * 3, _TENSORS["W"]).document(),
                "b": _TENSORS["b"],
            }
        }
    )[name]
    for label, name in UPDATE_LABELS.items()
}
_SAMPLES: Final[dict[type[_Message], _Message]] = {
    type(message): message
    for message in (
        RoundStart(
            round_id=_ROUND,
            model_uri="fl/models/global_model_v0",
            task_wasm_image="builtin:linear",
            participants=("proplet-1", "proplet-2"),
            hyperparams={"epochs": 1, "lr": 0.5, "shuffle": True, "name": "é"},
            k_of_n=2,
            timeout_s=30.0,
            image_sha256="0" * 64,
        ),
        UpdateAck.decode(
            b'{"round_id":"r-1","proplet_id":"p-1","status":"refused","sha256":"00",'
            b'"reason":"bad_field","detail":"x"}'
        ),
        RoundStatus.decode(
            b'{"round_id":"r-1","phase":"open","start_sha256":"00","k_of_n":1,"participants":2,'
            b'"accepted":1,"refused":{"duplicate":3},"deadline_at_s":1.5,"answered":["p-1"],'
            b'"model_sha256":"' + b"0" * 64 + b'",'
            b'"reason":"","detail":""}'
        ),
        RoundComplete.decode(
            b'{"round_id":"r-1","status":"timeout","model_version":4,"model_topic":"fl/models/x",'
            b'"num_updates":1,"total_samples":9,"completed_at":"2026-01-01T00:00:00Z",'
            b'"update_bytes":7,"sha256":"","metrics":{"loss":0.5},"refused":{"duplicate":1},'
            b'"missing":["p-2"],"detail":"d"}'
        ),
        Discovery(_PROPLET, "default", {"runtime": "wasmtime", "memory_bytes": "1"}),
        Alive(_PROPLET),
        TaskStart(
            id="r-1.p-1",
            name="train",
            proplet_id=_PROPLET,
            image_url="fl/images/" + "0" * 64,
            env={"ROUND_ID": "r-1", "HYPERPARAMS": "{}"},
            image_sha256="0" * 64,
            fl=FlSpec(
                "r-1",
                "fl/models/x",
                "0" * 64,
                "cbor",
                1.5,
                {"lr": 0.5, "name": "é", "on": True},
                "fedavg",
            ),
            image_signatures={"0123456789abcdef": bytes(range(64))},
        ),
        TaskStop("r-1.p-1", _PROPLET),
        ExperimentStart.decode(
            b'{"experiment_id":"x","task_wasm_image":"builtin:softmax","seed":7,'
            b'"hyperparams":{"lr":0.5,"epochs":5},"evaluate":{"every":2,"timeout_s":9.5},'
            b'"participants":{"tags":{"a":"b"},"fraction":0.5,"at_least":2,"at_most":9},'
            b'"schedule":{"lr":{"factor":0.5,"every":2,"limit":0.1},"epochs":{"steps":[[2,1]]}},'
            b'"stop":{"rounds":9,"metric":"loss","goal":"min","target":0.1,"patience":2}}'
        ),
        RoundStop("r-1", "the data are wrong"),
        ExperimentCommand("x", Command.PAUSE),
        ExperimentStatus(
            "x",
            ExperimentPhase.RUNNING,
            "0" * 64,
            1,
            9,
            "x-r2",
            "fl/models/x",
            {"loss": 0.5},
            {"accuracy": 0.5},
            0.5,
            1,
            "rounds",
            "d",
        ),
        PartsWanted(_PROPLET, ("0" * 64, "f" * 64)),
        TaskResult("r-1.p-1", _PROPLET, error="trap: unreachable"),
        LaunchReport(_ROUND, ("p-1",), ("p-2",), {"p-3": "exit: status 1"}, "no image"),
    )
}
_TOKENS: Final = (
    b"null",
    b"true",
    b"NaN",
    b"-Infinity",
    b"1e309",
    b"18446744073709551616",
    b'"\\ud800"',
    b"[[",
    b"]]",
    b"{}",
    b"\xd8\x28\x82\x82\x02\x02\xd8\x55",
    b"\xd8\x55\x48",
    b"\xfb\x7f\xf0\0\0\0\0\0\0",
    b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x9f",
    b"\xbf",
    b"\xff",
)


def _names(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for name, value in document.items():
            yield name
            yield from _names(value)


def _other_form(seed: bytes) -> bytes:
    """A document of JSON in CBOR, one of CBOR as it is."""
    return cbor2.dumps(json.loads(seed)) if seed[:1] == b"{" else seed


def _kebab(name: str) -> str:
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).strip("-")
