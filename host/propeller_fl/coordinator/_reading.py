"""From bytes to what the round's rules ask about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from propeller_fl.errors import MessageError
from propeller_fl.rounds import UpdateFacts
from propeller_fl.store import facts_of
from propeller_fl.wire import (
    Reason,
    Tensor,
    Tensors,
    Update,
    UpdateLayouts,
    UpdateManifest,
    UpdateSender,
    flatten,
    unflatten,
)

MAX_METRICS: Final = 256
"""Metrics that one update may report."""

_MAX_METRIC_NAME_CHARS: Final = 128
_MAX_DETAIL_CHARS: Final = 1024


class ReadUpdate(NamedTuple):
    """A well-formed update: what the rules judge, and what is kept if they accept it.

    ``tensors`` are empty where the update holds differences and nobody knows to what: the rules
    refuse such an update. Or all are in ``whole``, one after the other as in ``facts.shapes``.
    """

    facts: UpdateFacts
    metrics: Mapping[str, float]
    tensors: Tensors
    whole: Tensor | None = None

    def vector(self, shapes: Mapping[str, tuple[int, ...]]) -> Tensor:
        """All arrays as one float32 vector, in the order of ``shapes``, those of the base model; an
        evaluation has none."""
        if self.whole is None:
            return flatten(self.tensors, shapes if self.tensors else {})
        if not self.facts.shapes or list(self.facts.shapes) == list(shapes):
            return self.whole
        return flatten(unflatten(self.whole, self.facts.shapes), shapes)


@dataclass(frozen=True, slots=True)
class ReadOffer:
    """A well-formed manifest of an update that is a file, and its document."""

    facts: UpdateFacts
    document: bytes


@dataclass(frozen=True, slots=True)
class UnreadableUpdate:
    """Bytes that are no update. Ids are empty where they could not be made out."""

    round_id: str
    proplet_id: str
    reason: str
    detail: str


def read_update(
    payload: bytes,
    sha256: str,
    max_bytes: int,
    base_of: Callable[[Update], Tensors | None] = lambda update: None,
    sender: str = "",
    layouts: UpdateLayouts | None = None,
) -> ReadUpdate | ReadOffer | UnreadableUpdate:
    """Read a forwarded update; ``sha256`` is that of ``payload``.

    ``base_of`` gives the model an update was trained from, or ``None`` when the rules are going to
    refuse the update anyway: by its round, its base model or its shapes. ``sender`` is whom its
    protected topic named, where that has come along: an update that names another is his, refused.
    ``layouts`` are those of updates before, and make no difference but to the time it takes.
    """
    plain = layouts.read(payload) if layouts is not None and len(payload) <= max_bytes else None
    if plain is not None and sender in ("", plain.proplet_id):
        return ReadUpdate(
            UpdateFacts(
                plain.round_id,
                plain.proplet_id,
                plain.base_model_uri,
                plain.num_samples,
                plain.shapes,
                sha256,
                len(payload),
            ),
            plain.metrics,
            {},
            plain.vector,
        )
    try:
        if len(payload) > max_bytes:
            raise MessageError(
                Reason.TOO_LARGE, f"the update has {len(payload)} bytes, at most {max_bytes} go in"
            )
        if sender:
            said = UpdateSender.decode(payload)
            if said.proplet_id not in ("", sender):
                err = MessageError(
                    Reason.IDENTITY,
                    f"proplet_id is {said.proplet_id!r} in the update, which {sender!r} has sent",
                    field="proplet_id",
                )
                return UnreadableUpdate(said.round_id, sender, str(err.reason), str(err))
        offer = UpdateManifest.decode(payload)
        if offer is not None:
            _check_metrics(offer.metrics)
            return ReadOffer(facts_of(offer, sha256), payload)
        update = Update.decode(payload)
        if not update.proplet_id:
            raise MessageError(Reason.MISSING_FIELD, "proplet_id is missing", field="proplet_id")
        _check_metrics(update.metrics)
        if layouts is not None:
            layouts.learn(payload, update)
        tensors = update.tensors
        if update.deltas:
            base = base_of(update)
            tensors = update.on(base) if base is not None else {}
    except MessageError as err:
        return _unreadable(payload, err)
    facts = UpdateFacts(
        round_id=update.round_id,
        proplet_id=update.proplet_id,
        base_model_uri=update.base_model_uri,
        num_samples=update.num_samples,
        shapes=update.shapes,
        sha256=sha256,
        size_bytes=len(payload),
    )
    return ReadUpdate(facts, update.metrics, tensors)


def _check_metrics(metrics: Mapping[str, float]) -> None:
    """Their means go into one message that everyone reads."""
    if len(metrics) > MAX_METRICS:
        raise MessageError(
            Reason.BAD_FIELD,
            f"metrics has {len(metrics)} members, at most {MAX_METRICS} go in",
            field="metrics",
        )
    if any(len(name) > _MAX_METRIC_NAME_CHARS for name in metrics):
        raise MessageError(
            Reason.BAD_FIELD,
            f"metrics has a name of more than {_MAX_METRIC_NAME_CHARS} characters",
            field="metrics",
        )


def _unreadable(payload: bytes, err: MessageError) -> UnreadableUpdate:
    try:
        sender = UpdateSender.decode(payload)
    except MessageError:
        sender = UpdateSender("", "")
    detail = str(err)[:_MAX_DETAIL_CHARS]  # it may quote the sender
    return UnreadableUpdate(sender.round_id, sender.proplet_id, str(err.reason), detail)
