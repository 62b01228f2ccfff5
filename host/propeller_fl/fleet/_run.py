"""The simulation itself: start everything, connect the fleet, run and measure the rounds."""

from __future__ import annotations

import contextlib
import gc
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from propeller_fl.errors import ConfigError, RequestError
from propeller_fl.fleet._crew import Crew
from propeller_fl.fleet._plan import IMAGE, FleetPlan, RoundPlan
from propeller_fl.fleet._services import Services, Usage
from propeller_fl.fleet._training import Trainer
from propeller_fl.operator import Operator
from propeller_fl.wire import Model, RoundComplete, RoundStart, Topics, UpdateFormat, model_uri

_CONNECT_S: Final = 600.0
_OPEN_S: Final = 60.0
_MARGIN_S: Final = 60.0  # past a round's deadline, for aggregation and the way here
_IDLE_S: Final = 60.0
_CALM_S: Final = 60.0
_TOLERANCE: Final = 1e-5  # of float32 sums in another order, relative to the largest number
_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


@dataclass(frozen=True, slots=True)
class FleetRound:
    """One round, measured.

    ``seconds``     from the start's publication until its completion was heard
    ``sent``        updates on the broker, repeats included; ``lost_…`` by the profile alone
    ``up_bytes``    payloads of updates and results; ``down_bytes`` of tasks, answers and stops
    ``cpu_s``       processor time by process, ``rss_bytes`` memory at its end
    ``mean_error``  the largest difference of the new model to the mean of what the accepted
                    proplets sent, relative to the largest number; None where it is not known who
                    was accepted
    """

    number: int
    status: str
    seconds: float
    accepted: int
    refused: Mapping[str, int]
    dropped: int
    real: int
    sent: int
    lost_updates: int
    lost_answers: int
    update_bytes: int
    up_bytes: int
    down_bytes: int
    cpu_s: Mapping[str, float]
    rss_bytes: Mapping[str, int]
    mean_error: float | None

    @property
    def right(self) -> bool:
        """It ended with a model, and that is the mean."""
        fits = self.mean_error is None or self.mean_error <= _TOLERANCE
        return self.status == "complete" and fits


@dataclass(frozen=True, slots=True)
class FleetResult:
    """All rounds, and what connecting took."""

    proplets: int
    sessions: int
    connect_s: float
    rounds: tuple[FleetRound, ...]

    @property
    def ok(self) -> bool:
        return all(each.right for each in self.rounds)


def simulate(
    plan: FleetPlan,
    say: Callable[[str], None] = lambda line: None,
    ended: Callable[[FleetRound], None] = lambda row: None,
) -> FleetResult:
    """Run ``plan``; ``ended`` is called after each round.

    Raises :class:`ConfigError` when this machine does not allow so many sessions, and what
    services and sessions raise.
    """
    check_ports(plan.session_count)
    _prepare(plan.output)
    topics = Topics()
    with contextlib.ExitStack() as stack:
        trainer = stack.enter_context(Trainer(plan, plan.output / "compiled"))
        services = stack.enter_context(Services(plan))
        operator = stack.enter_context(Operator(services.address, topics, timeout_s=_OPEN_S))
        first = operator.document(model_uri(0))
        trainer.record(first, _recording_env(plan))
        crew = stack.enter_context(Crew(plan, services.address, topics, trainer))
        say(f"connecting {plan.proplets:,} proplets over {plan.session_count:,} sessions")
        begin_s = time.monotonic()
        crew.connect(_CONNECT_S)
        connect_s = time.monotonic() - begin_s
        say(f"connected in {connect_s:.1f} s")
        stack.enter_context(_few_collections())
        rows = []
        for number in range(1, plan.rounds + 1):
            services.wait_calm(_CALM_S)
            row = _Round(plan, plan.round(number), crew, services, operator, trainer).run()
            rows.append(row)
            ended(row)
    return FleetResult(plan.proplets, plan.session_count, connect_s, tuple(rows))


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    """Leave millions of objects that stay alone: each look at all of them takes a second."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def check_ports(sessions: int) -> None:
    """Raise :class:`ConfigError` when so many connections cannot go to one port of this machine."""
    try:
        low, high = map(int, _EPHEMERAL.read_text().split())
    except (OSError, ValueError):
        return  # not Linux: connecting will tell
    if high - low + 1 < sessions:
        raise ConfigError(
            f"{sessions} connections to one address need as many local ports, and there are "
            f"{high - low + 1}",
            hint='sysctl net.ipv4.ip_local_port_range="1024 65535", or --sessions',
        )


def _prepare(output: Path) -> None:
    """Start afresh where an earlier simulation wrote, and only there."""
    if output.exists() and any(output.iterdir()):
        if not (output / "broker").exists():
            raise RequestError(
                f"{output} holds something that is not an earlier simulation's",
                hint="name an empty directory with --output",
            )
        shutil.rmtree(output)
    output.mkdir(parents=True, exist_ok=True)


def _recording_env(plan: FleetPlan) -> dict[str, str]:
    return {
        "ROUND_ID": "recording",
        "PROPLET_ID": "recording",
        "MODEL_URI": model_uri(0),
        "HYPERPARAMS": json.dumps(_hyperparams(plan)),
        "FL_UPDATE_FORMAT": UpdateFormat.CBOR.value,
    }


def _hyperparams(plan: FleetPlan) -> dict[str, int | float]:
    return {"epochs": plan.epochs, "lr": plan.lr, "batch_size": 16}


class _Round:
    """One round of a connected fleet."""

    def __init__(
        self,
        plan: FleetPlan,
        this: RoundPlan,
        crew: Crew,
        services: Services,
        operator: Operator,
        trainer: Trainer,
    ) -> None:
        self._plan = plan
        self._this = this
        self._crew = crew
        self._services = services
        self._operator = operator
        self._trainer = trainer
        self._id = f"fleet-{this.number:04d}"

    def run(self) -> FleetRound:
        base = self._operator.document(model_uri(self._this.number - 1))
        start = self._start()
        crew, ledger = self._crew, self._crew.ledger
        crew.begin(self._this, self._id)
        before, lost_before = self._services.usage(), crew.lost
        begin_s = time.monotonic()
        self._operator.start_round(start)
        complete = ledger.wait_complete(self._plan.timeout_s + _MARGIN_S)
        seconds = time.monotonic() - begin_s
        if complete is None:
            raise RequestError(
                f"round {self._id} has not ended", hint=f"see the logs in {self._plan.output}"
            )
        after = self._services.usage()
        ledger.wait_idle(complete.num_updates, _IDLE_S)
        crew.end(self._id)
        return self._row(complete, seconds, base, before, after, lost_before)

    def _start(self) -> RoundStart:
        plan = self._plan
        document = {
            "round_id": self._id,
            "model_uri": model_uri(self._this.number - 1),
            "task_wasm_image": IMAGE,
            "participants": plan.ids,
            "hyperparams": _hyperparams(plan),
            "k_of_n": self._this.k,
            "timeout_s": plan.timeout_s,
            "update_format": UpdateFormat.CBOR.value,
        }
        return RoundStart.decode(json.dumps(document).encode())

    def _row(
        self,
        complete: RoundComplete,
        seconds: float,
        base: bytes,
        before: Mapping[str, Usage],
        after: Mapping[str, Usage],
        lost_before: tuple[int, int],
    ) -> FleetRound:
        traffic = self._crew.ledger.traffic
        lost = self._crew.lost
        return FleetRound(
            number=self._this.number,
            status=complete.status,
            seconds=seconds,
            accepted=complete.num_updates,
            refused=dict(complete.refused),
            dropped=int(self._this.drops.sum()),
            real=len(traffic.real.keys() & traffic.accepted),
            sent=traffic.updates_sent,
            lost_updates=lost[0] - lost_before[0],
            lost_answers=lost[1] - lost_before[1],
            update_bytes=complete.update_bytes,
            up_bytes=traffic.up_bytes,
            down_bytes=traffic.down_bytes,
            cpu_s={name: after[name].cpu_s - usage.cpu_s for name, usage in before.items()},
            rss_bytes={name: usage.rss_bytes for name, usage in after.items()},
            mean_error=self._mean_error(complete, base),
        )

    def _mean_error(self, complete: RoundComplete, base: bytes) -> float | None:
        traffic = self._crew.ledger.traffic
        if complete.model_version != self._this.number:
            return None
        if len(traffic.accepted) != complete.num_updates:
            return None
        mean = self._trainer.mean(base, traffic.accepted, traffic.real)
        found = Model.decode(self._operator.document(complete.model_topic)).tensors
        largest = max(float(np.abs(values).max()) for values in mean.values())
        error = max(float(np.abs(found[name] - values).max()) for name, values in mean.items())
        return error / largest if largest else error
