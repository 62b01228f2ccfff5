"""What a task from upstream comes to here: a round of our devices, and of its end one update.

Pure: time is an argument. The mean of means is FedAvg's of all, because each mean is weighted by
the samples behind it; see docs/aggregation.md for what float32 changes about that.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from propeller_fl.config import AggregatorConfig
from propeller_fl.errors import MessageError, RequestError
from propeller_fl.learn import is_of_mean
from propeller_fl.proplet import Output, events
from propeller_fl.wire import (
    FlSpec,
    Format,
    Mode,
    RoundComplete,
    RoundStart,
    Tensors,
    UpdateFormat,
    encode_document,
)

SLOTS: Final = 64
"""Topics for models from upstream, used in turn, so that broker and coordinator keep no more."""

_MAX_TIMEOUT_S: Final = 86_400.0  # of a round
_ID_CHARS: Final = 64
_MARK_CHARS: Final = 16  # of a task's digest in an id


@dataclass(frozen=True, slots=True)
class Errand:
    """A task of a round upstream. ``sha256`` is of all that decides what its devices learn: a task
    with the same one is the same, even if it comes again after a crash."""

    about: FlSpec
    mode: Mode
    image: bytes = field(repr=False)
    image_sha256: str
    model: bytes = field(repr=False)
    model_sha256: str
    sha256: str


def errand_of(run: events.Run) -> Errand:
    """Raises :class:`RequestError` for a task that devices cannot do in common, and
    :class:`StrategyError` for a strategy that is not known here."""
    about = run.start.fl
    if about is None:
        raise RequestError(
            "this is an aggregator, and the task is of no round, or does not say of which",
            hint="it takes tasks of rounds from managers of Propeller FL; others run on a proplet",
        )
    _check_strategy(about.strategy)
    if not isinstance(run.model, bytes):
        raise RequestError(
            f"an aggregator cannot pass on {about.model_uri}, a model in parts",
            hint="let these devices take part in the round without one",
        )
    mode = Mode.EVALUATE if run.start.env.get("FL_MODE") == Mode.EVALUATE else Mode.TRAIN
    image_sha256 = hashlib.sha256(run.image).hexdigest()
    model_sha256 = hashlib.sha256(run.model).hexdigest()
    facts = [about.document(), mode, image_sha256, model_sha256]
    sha256 = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Errand(about, mode, run.image, image_sha256, run.model, model_sha256, sha256)


def _check_strategy(name: str) -> None:
    if not name:
        raise RequestError(
            "the task does not say by which strategy its round makes a model",
            hint="update the manager upstream: not every strategy can be given a mean of updates",
        )
    if not is_of_mean(name):
        raise RequestError(
            f"strategy {name} needs the update of each device, and an aggregator sends their mean",
            hint="let these devices take part in the round without an aggregator, or choose a "
            "strategy of the mean, such as fedavg",
        )


def local_start(
    errand: Errand,
    devices: Collection[str],
    config: AggregatorConfig,
    *,
    number: int,
    is_used: Callable[[str], bool],
    image: Path,
    now_s: float | None,
) -> RoundStart:
    """The round of ``devices`` that does the errand.

    It has the id of the round upstream, since a module may draw its random numbers from that; only
    where another task has had that id, one that is its own. ``image`` is where the module is,
    ``now_s`` seconds since the epoch, or None on a machine that does not know.

    Raises :class:`RequestError` when there are fewer devices than make an update.
    """
    if len(devices) < config.min_local:
        raise RequestError(
            f"{len(devices)} devices are alive here, and at least {config.min_local} must answer",
            hint="look after the devices, or lower aggregator.min_local",
        )
    round_id = errand.about.round_id
    if is_used(round_id):
        mark = errand.sha256[:_MARK_CHARS]
        round_id = f"{round_id[: _ID_CHARS - _MARK_CHARS - 1]}-{mark}"
    wanted = math.ceil(config.k_fraction * len(devices) - 1e-9)
    return RoundStart(
        round_id=round_id,
        model_uri=f"fl/models/upstream-{number % SLOTS}",
        task_wasm_image=str(image),
        participants=tuple(sorted(devices)),
        hyperparams=errand.about.hyperparams,
        k_of_n=max(wanted, config.min_local),
        timeout_s=_patience_s(errand.about.deadline, config, now_s),
        min_updates=config.min_local,
        update_format=_format(errand.about.format),
        mode=errand.mode,
        image_sha256=errand.image_sha256,
    )


def _patience_s(deadline_s: float, config: AggregatorConfig, now_s: float | None) -> float:
    """Until a little before the round upstream ends. By a clock that says it is over, or in days,
    the two clocks differ, and upstream decides what is too late."""
    if now_s is None or not 0 < deadline_s - now_s <= _MAX_TIMEOUT_S:
        return config.timeout_s
    left_s = deadline_s - now_s
    return left_s - min(config.reserve_s, left_s / 2)


def _format(name: str) -> UpdateFormat:
    """A format that is not known here is asked of nobody: each reader takes any that is."""
    return UpdateFormat(name) if name in list(UpdateFormat) else UpdateFormat.JSON


def update_of(errand: Errand, proplet_id: str, complete: RoundComplete, tensors: Tensors) -> Output:
    """The one update, of a local round that ended well; ``tensors`` is the mean it made, and empty
    after an evaluation.

    JSON where that is asked for, and float32 in CBOR for any other format: the mean is not rounded
    a second time. The same round always gives the same bytes.

    Raises :class:`RequestError` when there is nothing to weigh it by.
    """
    if complete.num_updates < 1 or complete.total_samples < 1:
        raise RequestError(f"local round {complete.round_id} ended without a sample")
    document = {
        "round_id": errand.about.round_id,
        "proplet_id": proplet_id,
        "base_model_uri": errand.about.model_uri,
        "num_samples": complete.total_samples,
        "metrics": dict(complete.metrics),
        "update": dict(tensors),
    }
    form = Format.JSON if errand.about.format == UpdateFormat.JSON else Format.CBOR
    try:
        return Output(encode_document(document, form), complete.total_samples)
    except (MessageError, ValueError) as err:
        raise RequestError(f"the mean of local round {complete.round_id}: {err}") from err
