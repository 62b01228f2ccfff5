"""Rounds over HTTP: publishes what operators and managers would, and waits for what is said."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from propeller_fl.config import GatewayConfig
from propeller_fl.gateway._errors import Refusal
from propeller_fl.gateway._heard import Heard, encoded
from propeller_fl.wire import (
    AckStatus,
    Phase,
    RoundComplete,
    RoundStart,
    RoundStatus,
    UpdateAck,
    check_id,
    decode_update,
    model_uri,
)

_LOOK_S: Final = 1.0  # how long something retained may take
_GONE: Final = (Phase.COMPLETE, Phase.FAILED)


class Rounds:
    """Any thread; a method may take as long as ``config.wait_s``."""

    def __init__(self, heard: Heard, config: GatewayConfig) -> None:
        self._heard = heard
        self._config = config

    def start(self, wanted: Mapping[str, Any]) -> RoundStart:
        """Start a round, and return once the coordinator has opened it. ``wanted``: an experiment
        in Propeller's fields."""
        document = {**wanted, "model_uri": wanted.get("model_ref") or model_uri(0)}
        participants = wanted.get("participants")
        document["k_of_n"] = wanted.get("k_of_n") or (
            min(3, len(participants)) if isinstance(participants, list) else 1
        )
        document["timeout_s"] = wanted.get("timeout_s") or 60
        document["hyperparams"] = wanted.get("hyperparams") or {}
        document["task_wasm_image"] = wanted.get("task_wasm_image") or self._config.task_wasm_image
        start = RoundStart.decode(encoded(document))
        key = start.round_id, start.digest()

        def judged() -> RoundStatus | None:
            return self._heard.statuses.get(key)

        self._heard.publish(self._heard.topics.round_start, start.encode())
        status = self._heard.wait(judged, self._heard.topics.status(start.round_id))
        if status is None:
            raise Refusal(
                504,
                f"nobody has opened round {start.round_id} within {self._config.wait_s:g} s",
                hint="is a coordinator running on this broker, with the same topic prefix?",
            )
        if status.phase is Phase.REFUSED:
            raise Refusal(409, f"round {start.round_id} is refused: {status.detail}")
        return start

    def task_of(self, round_id: str, proplet_id: str) -> dict[str, Any]:
        """What a proplet is to do in a round that is open, in Propeller's fields."""
        check_id(round_id, "round_id")
        with self._heard.lock:
            start = self._heard.starts.get(round_id)
        if start is None:
            raise Refusal(404, f"no start of a round {round_id} has been heard", where="round_id")
        if proplet_id and proplet_id not in start.participants:
            raise Refusal(
                404, f"{proplet_id} takes no part in round {round_id}", where="proplet_id"
            )
        return {
            "round_id": round_id,
            "model_ref": start.model_uri,
            "config": {"proplet_id": proplet_id},
            "hyperparams": dict(start.hyperparams),
        }

    def status(self, round_id: str) -> dict[str, Any]:
        """Where a round stands."""
        check_id(round_id, "round_id")

        def known() -> RoundStatus | RoundComplete | None:
            return self._heard.completes.get(round_id) or self._heard.latest.get(round_id)

        topics = self._heard.topics.status(round_id), self._heard.topics.complete(round_id)
        found = self._heard.wait(known, *topics, wait_s=min(_LOOK_S, self._config.wait_s))
        if found is None:
            raise Refusal(
                404, f"there is no round {round_id}, or it was long ago", where="round_id"
            )
        with self._heard.lock:
            complete, status = self._heard.completes.get(round_id), self._heard.latest.get(round_id)
        said: dict[str, Any] = {
            "round_id": round_id,
            "completed": complete is not None or (status is not None and status.phase in _GONE),
            "num_updates": complete.num_updates if complete else status.accepted if status else 0,
            "k_of_n": status.k_of_n if status else 0,
        }
        if complete is not None:
            said |= {
                "model_version": complete.model_version,
                "outcome": str(complete.status),
                "metrics": dict(complete.metrics),
                "detail": complete.detail,
            }
        return said

    def last(self) -> dict[str, Any]:
        """The round that ended last, of those that were heard of, and what may follow it."""
        with self._heard.lock:
            ended = max(self._heard.completes.values(), key=lambda c: c.completed_at, default=None)
            version = max(self._heard.versions, default=None)
        if ended is None:
            return {"next_round_available": False, "message": "no round has ended"}
        version = ended.model_version if version is None else version
        return {
            "next_round_available": True,
            "last_completed_round": ended.round_id,
            "new_model_version": version,
            "model_uri": model_uri(version),
            "status": "ready",
        }

    def update(self, payload: bytes, speaker: str = "") -> UpdateAck:
        """Hand an update in, for whom it says it is from, and return the coordinator's answer.
        With ``speaker``, it must be from that proplet."""
        document = decode_update(payload)
        ids = []
        for name in ("round_id", "proplet_id"):
            value = document.get(name)
            if not isinstance(value, str) or not value:
                raise Refusal(400, f"{name} is missing", where=name)
            ids.append(check_id(value, name))
        round_id, proplet_id = ids
        if speaker and proplet_id != speaker:
            raise Refusal(403, f"this token is of {speaker}", where="proplet_id")
        key = round_id, proplet_id, hashlib.sha256(payload).hexdigest()
        with self._heard.lock:
            self._heard.acks.pop(key, None)  # a new answer is wanted
        self._heard.publish(self._heard.topics.update(round_id, proplet_id), payload)
        ack = self._heard.wait(lambda: self._heard.acks.get(key))
        if ack is None:
            raise Refusal(
                504,
                f"the coordinator has not answered within {self._config.wait_s:g} s",
                hint="send the same again: it counts once",
            )
        if ack.status is not AckStatus.ACCEPTED:
            detail = ack.detail or "the coordinator refused the update"
            raise Refusal(409, f"{ack.reason}: {detail}", where=ack.reason)
        return ack
