"""What is said about experiments, by whichever way an operator comes."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime

from propeller_fl.errors import RequestError
from propeller_fl.wire import Command, ExperimentPhase, ExperimentStart, ExperimentStatus

_LEADS_TO = {
    Command.PAUSE: (ExperimentPhase.PAUSED,),
    Command.RESUME: (ExperimentPhase.RUNNING,),
    Command.STOP: (),  # but to its end
}


def parse_experiment(
    text: str,
    where: str,
    *,
    name: str = "x",
    experiment_id: str | None = None,
    rounds: int | None = None,
) -> ExperimentStart:
    """The experiment that a TOML ``text`` describes; ``where`` it is from is for errors.

    ``experiment_id`` and ``rounds`` take the place of what it says; where it says no id, one is
    made of ``name`` and the time. Raises :class:`RequestError` for what is no TOML,
    :class:`MessageError` for what cannot be.
    """
    try:
        document = tomllib.loads(text)
        made = f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        document["experiment_id"] = experiment_id or document.get("experiment_id", made)
        if rounds is not None:
            document["stop"] = {**document.get("stop", {}), "rounds": rounds}
        encoded = json.dumps(document).encode()
    except (tomllib.TOMLDecodeError, TypeError, RecursionError) as err:
        raise RequestError(f"{where}: {err}", hint="docs/experiments.md has examples") from err
    return ExperimentStart.decode(encoded)


def is_obeyed(command: Command, status: ExperimentStatus) -> bool:
    """Whether this is where ``command`` leads to, or it cannot lead anywhere any more."""
    over = status.phase is ExperimentPhase.STOPPING or status.phase.ended
    return over or status.phase in _LEADS_TO[command]
