"""RoundStop: an operator ends a round before its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from propeller_fl.errors import MessageError
from propeller_fl.wire._codecs import Format, decode_document, encode_document
from propeller_fl.wire._fields import Fields
from propeller_fl.wire._reasons import Reason

MAX_STOP_REASON_CHARS: Final = 500
"""Of the reason an operator gives."""


@dataclass(frozen=True, slots=True)
class RoundStop:
    """End this round now, without a model (``fl/rounds/{round_id}/stop``). Again is harmless.

    ``reason`` is for people, at most 500 characters, and may be empty.
    """

    round_id: str
    reason: str = ""

    @classmethod
    def decode(cls, data: bytes) -> RoundStop:
        """Raises :class:`MessageError`."""
        fields = Fields(decode_document(data))
        return cls(
            round_id=fields.id("round_id"),
            reason=fields.text("reason", "", max_chars=MAX_STOP_REASON_CHARS),
        )

    @classmethod
    def received(cls, round_id: str, data: bytes) -> RoundStop:
        """One that came on the topic of ``round_id``. Raises :class:`MessageError`, also when it
        names another round than that."""
        stop = cls.decode(data)
        if stop.round_id != round_id:
            raise MessageError(Reason.IDENTITY, f"it names the round {stop.round_id}")
        return stop

    @property
    def detail(self) -> str:
        """As the round's completion says it."""
        # JSON can spell half of a surrogate pair, which is no Unicode and cannot be kept
        reason = self.reason.strip().encode(errors="backslashreplace").decode()
        return f"stopped by operator: {reason}" if reason else "stopped by operator"

    def encode(self) -> bytes:
        return encode_document({"round_id": self.round_id, "reason": self.reason}, Format.JSON)
