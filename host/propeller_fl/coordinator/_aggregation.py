"""From kept updates to the next model and the round's completion."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from propeller_fl.config import CoordinatorConfig
from propeller_fl.coordinator._reading import MAX_METRICS
from propeller_fl.errors import (
    DamagedStoreError,
    LostLeadError,
    MessageError,
    StoreError,
    StrategyError,
)
from propeller_fl.learn import State, mean_metrics, strategy, strategy_digest
from propeller_fl.rounds import Close, Opening, Round
from propeller_fl.store import KeptState, RoundStore
from propeller_fl.wire import (
    Mode,
    Model,
    RoundComplete,
    flatten,
    model_uri,
    model_version,
    shapes_of,
    unflatten,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MadeModel:
    """A global model as it is published."""

    version: int
    uri: str
    body: bytes


def aggregate(round_: Round, store: RoundStore, config: CoordinatorConfig) -> MadeModel | None:
    """Let the round's strategy make a model of the kept updates, in the order of proplet ids.

    What the strategy remembers is kept at once, for the model that is returned; ``None`` in a round
    that only evaluates. Raises :class:`ValueError` when the strategy makes no model, or none of
    finite numbers, when the broker would not take the model, or when no version is left.
    """
    opening = round_.opening
    if opening.start.mode is Mode.EVALUATE:
        return None
    made = _run_strategy(opening, store)
    version = store.next_version()
    uri = model_uri(version)
    if model_version(uri) != version:
        raise ValueError(
            f"there is no version after {version - 1}, which somebody has published; move the "
            "coordinator's store away, and clear that model on the broker"
        )
    model = Model(unflatten(made.vector, dict(opening.base_shapes)), version)
    body = model.encode(config.model_format)
    if len(body) > config.max_model_bytes:
        raise ValueError(
            f"the new model has {len(body)} bytes as {config.model_format}, at most "
            f"{config.max_model_bytes} are published; try coordinator.model_format = cbor"
        )
    if made.state.arrays or made.state.numbers:
        store.put_strategy_state(uri, made.strategy_sha256, made.state)
    return MadeModel(version, uri, body)


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """What a strategy makes, and the digest under which it may go on from that."""

    vector: NDArray[np.float32]
    state: KeptState
    strategy_sha256: str


def _run_strategy(opening: Opening, store: RoundStore) -> _Made:
    start = opening.start
    base = _base(opening, store)
    updates = store.kept_updates(start.round_id, base.size)
    try:
        sha256 = strategy_digest(start.strategy, start.strategy_args)
        kept = store.strategy_state(start.model_uri, sha256)
        state = State(kept.arrays, kept.numbers) if kept else State()
        with np.errstate(all="ignore"):  # what is not finite is refused below
            result = strategy(start.strategy, start.strategy_args).aggregate(base, updates, state)
            made = _Made(_checked(result.model, base.shape), _checked_state(result.state), sha256)
    except (StoreError, LostLeadError, DamagedStoreError):
        raise
    except StrategyError as err:
        raise ValueError(str(err)) from err
    except Exception as err:  # perhaps somebody else's code: it must not end the coordinator
        _log.exception("strategy %s failed", start.strategy, extra={"round_id": start.round_id})
        raise ValueError(f"strategy {start.strategy} failed: {err}") from err
    if result.state and not state:
        _log.info(
            "strategy %s begins afresh: it has remembered nothing with %s",
            start.strategy,
            start.model_uri,
            extra={"round_id": start.round_id},
        )
    return made


def _base(opening: Opening, store: RoundStore) -> NDArray[np.float32]:
    """The model the round began with, as one vector."""
    uri = opening.start.model_uri
    body = store.model(uri) or b""
    if opening.base_sha256 and hashlib.sha256(body).hexdigest() != opening.base_sha256:
        raise ValueError(f"model {uri} has other bytes than when the round began")
    try:
        tensors = Model.decode(body).tensors
    except MessageError as err:
        raise ValueError(f"model {uri} cannot be used any more: {err}") from err
    shapes = dict(opening.base_shapes)
    if shapes_of(tensors) != shapes:
        raise ValueError(f"model {uri} has other arrays than when the round began")
    base = flatten(tensors, shapes)
    base.setflags(write=False)
    return base


def _checked(model: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """As float32, if it is a model. Raises :class:`StrategyError`."""
    if model.shape != shape:
        raise StrategyError(f"the new model is of shape {model.shape}, not {shape}")
    vector = model.astype(np.float32)
    bad = vector.size - int(np.isfinite(vector).sum())
    if bad:
        raise StrategyError(
            f"{bad} of {vector.size} parameters of the new model are not finite",
            hint="a smaller learning rate, of proplets or strategy, may help",
        )
    return vector


def _checked_state(state: State) -> KeptState:
    """As it is stored, if it is finite. Raises :class:`StrategyError`."""
    arrays = {name: np.asarray(array, np.float64) for name, array in state.arrays.items()}
    numbers = {name: float(value) for name, value in state.numbers.items()}
    for name, array in (*arrays.items(), ("numbers", np.array(list(numbers.values())))):
        if array.ndim != 1 or not np.isfinite(array).all():
            raise StrategyError(f"what would be remembered as {name} is no vector, or not finite")
    return KeptState(arrays, numbers)


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
        metrics=mean_metrics(_told(store.reports(start.round_id))),
        refused=round_.refused,
        missing=round_.missing,
        detail=close.detail,
    )


def _told(
    reports: Iterator[tuple[Mapping[str, float], int]],
) -> Iterator[tuple[Mapping[str, float], int]]:
    """What the updates report, of at most so many different metrics as one of them may have: all
    of it goes into one message."""
    names: set[str] = set()
    for metrics, num_samples in reports:
        told = {}
        for name, value in metrics.items():
            if name in names or len(names) < MAX_METRICS:
                names.add(name)
                told[name] = value
        yield told, num_samples
