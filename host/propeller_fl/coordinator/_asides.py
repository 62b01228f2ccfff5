"""Messages about a round that are neither starts nor updates: what each makes happen to it."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from propeller_fl.errors import MessageError
from propeller_fl.link import Incoming
from propeller_fl.rounds import Stopped, TasksFailed
from propeller_fl.wire import LaunchReport, Reason, RoundStop, Topics

_MAX_ERROR_CHARS: Final = 200


def read_aside(
    topics: Topics, incoming: Incoming, open_rounds: Container[str]
) -> tuple[str, Stopped | TasksFailed | None] | None:
    """The round that is spoken of, and what happens to it; ``None`` for any other message.

    Of rounds that are not open, reports of their launch are not even read: brokers retain many.
    Raises :class:`MessageError`.
    """
    round_id = topics.parse_round_stop(incoming.topic)
    if round_id is not None:
        return round_id, Stopped(RoundStop.received(round_id, incoming.payload).detail)
    round_id = topics.parse_launch(incoming.topic)
    if round_id is None:
        return None
    if round_id not in open_rounds:
        return round_id, None
    report = LaunchReport.decode(incoming.payload)
    if report.round_id != round_id:
        raise MessageError(Reason.IDENTITY, f"it names the round {report.round_id}")
    return round_id, TasksFailed({p: _line(error) for p, error in report.failed.items()})


def _line(error: str) -> str:
    """What a proplet said, so that it can be kept and shown: JSON can spell half of a surrogate
    pair."""
    text = " ".join(error[:_MAX_ERROR_CHARS].split())
    return text.encode(errors="backslashreplace").decode()
