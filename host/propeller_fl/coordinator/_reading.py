"""From bytes to what the round's rules ask about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from propeller_fl.errors import MessageError
from propeller_fl.rounds import UpdateFacts
from propeller_fl.wire import Reason, Tensors, Update, UpdateSender, shapes_of


@dataclass(frozen=True, slots=True)
class ReadUpdate:
    """A well-formed update: what the rules judge, and what is kept if they accept it."""

    facts: UpdateFacts
    metrics: Mapping[str, float]
    tensors: Tensors


@dataclass(frozen=True, slots=True)
class UnreadableUpdate:
    """Bytes that are no update. Ids are empty where they could not be made out."""

    round_id: str
    proplet_id: str
    reason: str
    detail: str


def read_update(payload: bytes, sha256: str, max_bytes: int) -> ReadUpdate | UnreadableUpdate:
    """Read a forwarded update; ``sha256`` is that of ``payload``."""
    try:
        if len(payload) > max_bytes:
            raise MessageError(
                Reason.TOO_LARGE, f"the update has {len(payload)} bytes, at most {max_bytes} go in"
            )
        update = Update.decode(payload)
        if not update.proplet_id:
            raise MessageError(Reason.MISSING_FIELD, "proplet_id is missing", field="proplet_id")
    except MessageError as err:
        return _unreadable(payload, err)
    facts = UpdateFacts(
        round_id=update.round_id,
        proplet_id=update.proplet_id,
        base_model_uri=update.base_model_uri,
        num_samples=update.num_samples,
        shapes=shapes_of(update.tensors),
        sha256=sha256,
        size_bytes=len(payload),
    )
    return ReadUpdate(facts, update.metrics, update.tensors)


def _unreadable(payload: bytes, err: MessageError) -> UnreadableUpdate:
    try:
        sender = UpdateSender.decode(payload)
    except MessageError:
        sender = UpdateSender("", "")
    return UnreadableUpdate(sender.round_id, sender.proplet_id, str(err.reason), str(err))
