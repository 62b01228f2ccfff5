"""Messages of an experiment, which is many rounds: ExperimentStart, ExperimentCommand and
ExperimentStatus."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from propeller_fl.errors import MessageError
from propeller_fl.wire._codecs import Format, decode_document, encode_document
from propeller_fl.wire._experiment_rules import Evaluation, Schedule, Selection, StopRules
from propeller_fl.wire._fields import Fields, Scalar, shown
from propeller_fl.wire._reasons import Reason
from propeller_fl.wire._round_messages import MAX_TIMEOUT_S, UpdateFormat
from propeller_fl.wire._topics import check_model_uri, is_sha256, model_uri

MAX_EXPERIMENT_ID_CHARS: Final = 54
"""Of an experiment's id, so that those of its rounds are ids, too."""

_KNOWN: Final = frozenset(
    "experiment_id task_wasm_image model_uri participants hyperparams schedule stop evaluate "
    "timeout_s strategy strategy_args update_format image_sha256 seed".split()
)


@dataclass(frozen=True, slots=True)
class ExperimentStart:
    """An experiment as an operator asks for it (``fl/experiments/start``).

    Its first round trains the model at ``model_uri``, each one after it what the last has made.
    ``seed`` goes into the choice of participants.
    """

    experiment_id: str
    task_wasm_image: str
    participants: Selection
    stop: StopRules
    model_uri: str = model_uri(0)
    hyperparams: Mapping[str, Scalar] = field(default_factory=dict)
    schedule: Mapping[str, Schedule] = field(default_factory=dict)
    evaluate: Evaluation = field(default_factory=Evaluation)
    timeout_s: float = 60.0
    strategy: str = "fedavg"
    strategy_args: Mapping[str, Scalar] = field(default_factory=dict)
    update_format: UpdateFormat = UpdateFormat.JSON
    image_sha256: str = ""
    seed: int = 0

    @classmethod
    def decode(cls, data: bytes) -> ExperimentStart:
        """Raises :class:`MessageError` with the offending field's name; a name that is not known is
        one, so that a rule with a slip of the pen is not left out of an experiment of hours."""
        document = decode_document(data)
        fields = Fields(document)
        start = cls(
            experiment_id=check_experiment_id(fields.id("experiment_id")),
            task_wasm_image=fields.text("task_wasm_image", max_chars=1024),
            participants=Selection.parse(fields.mapping("participants", {})),
            stop=StopRules.parse(fields.mapping("stop")),
            model_uri=check_model_uri(
                fields.text("model_uri", model_uri(0), max_chars=256), "model_uri"
            ),
            hyperparams=fields.flat("hyperparams", {}),
            schedule={
                name: Schedule.parse(name, value)
                for name, value in fields.mapping("schedule", {}).items()
            },
            evaluate=Evaluation.parse(fields.mapping("evaluate", {})),
            timeout_s=fields.number("timeout_s", 60.0),
            strategy=fields.text("strategy", "fedavg", max_chars=64),
            strategy_args=fields.flat("strategy_args", {}),
            update_format=fields.choice("update_format", UpdateFormat, UpdateFormat.JSON),
            image_sha256=fields.text("image_sha256", "", max_chars=64),
            seed=fields.integer("seed", 0, low=0, high=2**53),
        )
        start._check(set(document))
        return start

    def _check(self, names: set[str]) -> None:
        if unknown := sorted(names - _KNOWN):
            raise _bad(unknown[0], "is not known", f"one of {', '.join(sorted(_KNOWN))}")
        if not 0 < self.timeout_s <= MAX_TIMEOUT_S:
            raise _bad("timeout_s", f"is {self.timeout_s:g}", "more than 0, at most a day")
        if self.image_sha256 and not is_sha256(self.image_sha256):
            raise _bad("image_sha256", "is not a digest", "64 lower-case hexadecimal digits")
        for name in self.schedule:
            base = self.hyperparams.get(name)
            if isinstance(base, bool) or not isinstance(base, int | float):
                raise _bad(
                    "schedule", f"names {shown(name)}", "a number of hyperparams, which it changes"
                )

    def document(self) -> dict[str, Any]:
        """The canonical form, as plain values."""
        return {
            "experiment_id": self.experiment_id,
            "task_wasm_image": self.task_wasm_image,
            "model_uri": self.model_uri,
            "participants": self.participants.document(),
            "hyperparams": dict(sorted(self.hyperparams.items())),
            "schedule": {name: rule.document() for name, rule in sorted(self.schedule.items())},
            "stop": self.stop.document(),
            "evaluate": self.evaluate.document(),
            "timeout_s": float(self.timeout_s),
            "strategy": self.strategy,
            "strategy_args": dict(sorted(self.strategy_args.items())),
            "update_format": self.update_format,
            "image_sha256": self.image_sha256,
            "seed": self.seed,
        }

    def encode(self) -> bytes:
        """The canonical JSON form: the same experiment always gives the same bytes."""
        return encode_document(self.document(), Format.JSON)

    def digest(self) -> str:
        """SHA-256 of the canonical form."""
        return hashlib.sha256(self.encode()).hexdigest()


class Command(StrEnum):
    """What an operator may ask of an experiment. A round that is under way is never cut off."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class ExperimentCommand:
    """A word to one experiment (``fl/experiments/{experiment_id}/command``)."""

    experiment_id: str
    command: Command

    @classmethod
    def decode(cls, data: bytes) -> ExperimentCommand:
        """Raises :class:`MessageError`."""
        fields = Fields(decode_document(data))
        return cls(
            experiment_id=check_experiment_id(fields.id("experiment_id")),
            command=fields.choice("command", Command),
        )

    def encode(self) -> bytes:
        return _json(experiment_id=self.experiment_id, command=self.command)


class ExperimentPhase(StrEnum):
    """Where an experiment stands. REFUSED is one that never was."""

    REFUSED = "refused"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"  # when the round under way has ended
    STOPPED = "stopped"
    COMPLETE = "complete"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        return self not in (self.RUNNING, self.PAUSED, self.STOPPING)


@dataclass(frozen=True, slots=True)
class ExperimentStatus:
    """Where an experiment stands (``fl/experiments/{experiment_id}/status``, retained).

    ``rounds`` is how many that train have ended, of ``of_rounds``; ``round_id`` is under way, or
    empty. ``model_uri`` is the newest model of it, ``metrics`` are those of the last round that
    yielded any and ``evaluation`` those of the last one that evaluated. ``best`` is the best value
    of the metric that the stop rules name, in round ``best_round``, 0 while there is none.
    ``reason`` is a code: why it was refused or ended.
    """

    experiment_id: str
    phase: ExperimentPhase
    start_sha256: str
    rounds: int = 0
    of_rounds: int = 0
    round_id: str = ""
    model_uri: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    evaluation: Mapping[str, float] = field(default_factory=dict)
    best: float = 0.0
    best_round: int = 0
    reason: str = ""
    detail: str = ""

    @classmethod
    def decode(cls, data: bytes) -> ExperimentStatus:
        """Raises :class:`MessageError`."""
        fields = Fields(decode_document(data))
        return cls(
            experiment_id=fields.id("experiment_id"),
            phase=fields.choice("phase", ExperimentPhase),
            start_sha256=fields.digest("start_sha256"),
            rounds=fields.integer("rounds", 0, low=0, high=2**53),
            of_rounds=fields.integer("of_rounds", 0, low=0, high=2**53),
            round_id=fields.text("round_id", ""),
            model_uri=fields.text("model_uri", ""),
            metrics=fields.scalars("metrics"),
            evaluation=fields.scalars("evaluation"),
            best=fields.number("best", 0.0),
            best_round=fields.integer("best_round", 0, low=0, high=2**53),
            reason=fields.text("reason", ""),
            detail=fields.text("detail", ""),
        )

    def encode(self) -> bytes:
        return _json(
            experiment_id=self.experiment_id,
            phase=self.phase,
            start_sha256=self.start_sha256,
            rounds=self.rounds,
            of_rounds=self.of_rounds,
            round_id=self.round_id,
            model_uri=self.model_uri,
            metrics=dict(self.metrics),
            evaluation=dict(self.evaluation),
            best=self.best,
            best_round=self.best_round,
            reason=self.reason,
            detail=self.detail[:1024],
        )


def check_experiment_id(value: str) -> str:
    """An id of an experiment; raises :class:`MessageError`."""
    if len(value) > MAX_EXPERIMENT_ID_CHARS:
        raise _bad(
            "experiment_id",
            f"has {len(value)} characters",
            f"at most {MAX_EXPERIMENT_ID_CHARS}, so that its rounds can be named after it",
        )
    return value


def _json(**document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def _bad(name: str, what: str, hint: str) -> MessageError:
    name = shown(name)
    return MessageError(Reason.BAD_FIELD, f"{name} {what}", field=name, hint=hint)
