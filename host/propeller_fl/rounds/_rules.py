"""The rules that refuse an update. Each returns a reason and a sentence, or nothing."""

from __future__ import annotations

from typing import Final

from propeller_fl.errors import TensorError
from propeller_fl.rounds._events import Opening, UpdateFacts
from propeller_fl.wire import Mode, Reason, check_shapes, size_of

MAX_HEADER_BYTES: Final = 4 * 1024 * 1024
"""What a safetensors file has beside its numbers, at most."""


def refusal(opening: Opening, update: UpdateFacts) -> tuple[str, str] | None:
    """Why ``update`` cannot count in the round ``opening`` describes, or ``None`` if it can.

    That it came in time, and only once, is the state machine's to say.
    """
    start = opening.start
    if update.round_id != start.round_id:
        return Reason.IDENTITY, f"it names round {update.round_id}, sent to {start.round_id}"
    if update.proplet_id not in opening.participants:
        return Reason.NOT_PARTICIPANT, f"{update.proplet_id} does not take part in this round"
    if update.base_model_uri != start.model_uri:
        return (
            Reason.STALE_BASE_MODEL,
            f"it was trained from {update.base_model_uri[:80]!a}, "
            f"the round is on {start.model_uri}",
        )
    if update.num_samples <= 0:
        return Reason.BAD_NUM_SAMPLES, f"num_samples is {update.num_samples}"
    if start.mode is Mode.TRAIN and update.in_parts != opening.in_parts:
        ways = ("one document", "a manifest and parts")
        return (
            Reason.BAD_FIELD,
            f"it comes as {ways[update.in_parts]}, and the model as {ways[opening.in_parts]}",
        )
    try:
        check_shapes(update.shapes, opening.base_shapes if start.mode is Mode.TRAIN else {})
    except TensorError as err:
        return err.reason, str(err)
    if update.in_parts:
        most_bytes = 4 * size_of(update.shapes) + MAX_HEADER_BYTES
        if update.size_bytes > most_bytes:
            return (
                Reason.TOO_LARGE,
                f"its file has {update.size_bytes} bytes, and the model's numbers and names take "
                f"at most {most_bytes}",
            )
    return None
