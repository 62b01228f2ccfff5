"""From kept updates to the next model and the round's completion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from propeller_fl.config import CoordinatorConfig
from propeller_fl.coordinator._reading import MAX_METRICS
from propeller_fl.learn import WeightedMean, mean_metrics
from propeller_fl.rounds import Close, Round
from propeller_fl.store import KeptUpdate, RoundStore
from propeller_fl.wire import (
    Mode,
    Model,
    RoundComplete,
    model_uri,
    model_version,
    size_of,
    unflatten,
)


@dataclass(frozen=True, slots=True)
class MadeModel:
    """A global model as it is published."""

    version: int
    uri: str
    body: bytes


def aggregate(round_: Round, store: RoundStore, config: CoordinatorConfig) -> MadeModel | None:
    """Average the kept updates by their number of samples, in the order of proplet ids.

    Returns ``None`` in a round that only evaluates. Raises :class:`ValueError` when the updates
    cannot be averaged, when the broker would not take the model, or when no version is left.
    """
    opening = round_.opening
    if opening.start.mode is Mode.EVALUATE:
        return None
    mean = WeightedMean(size_of(opening.base_shapes))
    for update in store.updates(opening.start.round_id):
        mean.add(update.vector, update.num_samples)
    version = store.latest_version() + 1
    uri = model_uri(version)
    if model_version(uri) != version:
        raise ValueError(
            f"there is no version after {version - 1}, which somebody has published; move the "
            "coordinator's store away, and clear that model on the broker"
        )
    model = Model(unflatten(mean.result(), dict(opening.base_shapes)), version)
    body = model.encode(config.model_format)
    if len(body) > config.max_model_bytes:
        raise ValueError(
            f"the new model has {len(body)} bytes as {config.model_format}, at most "
            f"{config.max_model_bytes} are published; try coordinator.model_format = cbor"
        )
    return MadeModel(version, uri, body)


def completion(
    round_: Round,
    close: Close,
    made: MadeModel | None,
    sha256: str,
    store: RoundStore,
    now_s: float,
) -> RoundComplete:
    """The message that ends a round. Without a new model it names the one the round began with."""
    start = round_.opening.start
    uri = made.uri if made else start.model_uri
    version = made.version if made else model_version(uri)
    return RoundComplete(
        round_id=start.round_id,
        status=close.outcome,
        model_version=version if version is not None else 0,
        model_topic=uri,
        num_updates=len(round_.accepted),
        total_samples=sum(receipt.num_samples for receipt in round_.accepted.values()),
        update_bytes=sum(receipt.size_bytes for receipt in round_.accepted.values()),
        completed_at=datetime.fromtimestamp(now_s, UTC).isoformat().replace("+00:00", "Z"),
        sha256=sha256,
        metrics=mean_metrics(_reports(store.updates(start.round_id))),
        refused=round_.refused,
        missing=round_.missing,
        detail=close.detail,
    )


def _reports(updates: Iterator[KeptUpdate]) -> Iterator[tuple[Mapping[str, float], int]]:
    """What the updates report, of at most so many different metrics as one of them may have: all
    of it goes into one message."""
    names: set[str] = set()
    for update in updates:
        told = {}
        for name, value in update.metrics.items():
            if name in names or len(names) < MAX_METRICS:
                names.add(name)
                told[name] = value
        yield told, update.num_samples
