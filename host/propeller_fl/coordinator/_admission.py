"""Whether a round that was asked for may be opened."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from propeller_fl.coordinator._large_rounds import LargeRoom
from propeller_fl.errors import MessageError, StrategyError, UnknownStrategyError
from propeller_fl.learn import strategy
from propeller_fl.rounds import Opening
from propeller_fl.store import RoundStore
from propeller_fl.wire import Manifest, Mode, Model, Phase, Reason, RoundStart, shapes_of


@dataclass(frozen=True, slots=True)
class Admitted:
    """Open it."""

    opening: Opening


@dataclass(frozen=True, slots=True)
class AlreadyKnown:
    """The same round was asked for before: nothing to do.

    ``pruned``: how it ended, where nothing else is known of it any more.
    """

    pruned: Phase | None = None


@dataclass(frozen=True, slots=True)
class ModelUnknown:
    """Its model has not been seen; it may still turn up."""


@dataclass(frozen=True, slots=True)
class Refused:
    """``id_in_use``: the id is another round's, whose own status must stand."""

    reason: str
    detail: str
    id_in_use: bool = False


Verdict = Admitted | AlreadyKnown | ModelUnknown | Refused


def judge(
    start: RoundStart, start_sha256: str, store: RoundStore, now_s: float, room: LargeRoom
) -> Verdict:
    """Judge a well-formed start, whose digest is ``start_sha256``, against what the store holds.

    ``room`` is what there is for the files of updates."""
    known = store.known_round(start.round_id)
    if known is not None and known.phase is Phase.REFUSED:
        return Refused(Reason.STOPPED, stopped_before(start.round_id))
    if known is not None:
        if known.start_sha256 == start_sha256:
            return AlreadyKnown(known.phase if known.pruned else None)
        return Refused(
            Reason.ROUND_ID_USED,
            f"round_id {start.round_id} is another round's; choose a new one",
            id_in_use=True,
        )
    try:
        check_strategy(start)
    except UnknownStrategyError as err:
        return Refused(Reason.UNKNOWN_STRATEGY, str(err))
    except StrategyError as err:
        return Refused(Reason.BAD_FIELD, str(err))
    body = store.model(start.model_uri)
    if body is None:
        return ModelUnknown()
    try:
        manifest = Manifest.decode(body)
        if manifest is not None and start.mode is not Mode.EVALUATE:
            refused = room.refusal(start, manifest)
            if refused is not None:
                return Refused(*refused)
        shapes = shapes_of(Model.decode(body).tensors) if manifest is None else manifest.shapes
    except MessageError as err:
        return Refused(err.reason, f"model {start.model_uri} cannot be used: {err}")
    except StrategyError as err:
        return Refused(Reason.BAD_FIELD, str(err))
    sha256 = hashlib.sha256(body).hexdigest()
    return Admitted(Opening(start, now_s, shapes, sha256, manifest is not None))


def stopped_before(round_id: str) -> str:
    """Why no round is ever opened under an id that was stopped while it was nobody's."""
    return f"round {round_id} was stopped before it was opened; choose a new round_id"


def check_strategy(start: RoundStart) -> None:
    """Whether the strategy can do what is asked of it. Raises :class:`StrategyError`.

    ``min_updates`` of 1 is what a start has that says nothing of it: then only ``k_of_n`` must be
    enough, and a round that ends with fewer than the strategy needs fails with that reason.
    """
    chosen = strategy(start.strategy, start.strategy_args)
    fewest = start.min_updates if start.min_updates > 1 else start.k_of_n
    try:
        chosen.check_counts(fewest, start.k_of_n)
        chosen.hyperparams(start.hyperparams)
    except StrategyError:
        raise
    except Exception as err:  # somebody else's code
        raise StrategyError(f"strategy {start.strategy} failed: {err!r}") from err
