"""One schedule: a world, everyone in it, some rounds, and the claims of the ledger.

Everything follows from the seed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from propeller_fl.config import CoordinatorConfig
from propeller_fl.errors import MessageError
from propeller_fl.store import RoundStore
from propeller_fl.wire import RoundStart, RoundStop
from tests.simulation.broker import Broker
from tests.simulation.ledger import Ledger
from tests.simulation.parties import Manager, ModelServer, Proplet
from tests.simulation.process import CoordinatorProcess, Disk, Points, Subject
from tests.simulation.world import Violation, World

STORM_S = 20.0
"""From then on there are no faults any more."""

PATIENCE_S = 300.0
"""By then everything must have come to its end."""

V0 = b'{"w":[0.5,-0.5],"b":0.0,"version":0}'
NAMES = ("a", "b", "c", "d")
MOMENTA = ({"lr": 1.0, "momentum": 0.5}, {"lr": 0.75, "momentum": 0.875})
"""What rounds with a strategy that remembers ask of it."""


class Simulation:
    """``run`` it once. ``world.lines`` is its trace."""

    def __init__(self, seed: int, subject: Subject, *, tracing: bool) -> None:
        self.world = world = World(seed, tracing=tracing)
        rng = world.rng
        config = CoordinatorConfig(keep_rounds=rng.choice((0, 0, 1, 2)))
        self._ledger = ledger = Ledger(world, config.keep_rounds)
        self._broker = broker = Broker(world, self._arrived)
        self._disk = disk = empty_database()
        disk.points = Points(world)
        disk.committed = lambda: ledger.committed(disk.look)
        self._server = ModelServer(world, broker)
        proplets = {
            name: Proplet(world, broker, name, rng.choice((0.5, 2.0)), fickle=rng.random() < 0.15)
            for name in NAMES[: rng.randint(1, len(NAMES))]
        }
        self._proplets = proplets
        manager = Manager(world, broker, proplets)
        for proplet in proplets.values():
            proplet.manager = manager
            proplet.start()
        self._coordinator = CoordinatorProcess(world, broker, disk, ledger, config, subject)
        ledger.clock_s = self._coordinator.clock_s
        self._coordinator.start()
        world.note(
            "%s, keep_rounds %s, proplets %s", world.weather, config.keep_rounds, proplets.keys()
        )
        self._plans = 0
        self._plan(
            rng.random() * 3.0,
            partial(broker.publish, "fl/models/global_model_v0", V0, retain=True),
        )
        for number in range(rng.randint(1, 3)):
            self._plan(rng.random() * STORM_S * 0.8, partial(self._ask_for_round, f"r{number}"))
        for _ in range(rng.choice((0, 0, 1, 2))):  # also of rounds that never were, and again
            self._plan(rng.random() * STORM_S, partial(self._stop_round, f"r{rng.randint(0, 3)}"))
        if rng.random() < 0.1:
            self._plan(rng.random() * STORM_S, self._publish_a_model)
        for _ in range(rng.choice((0, 0, 1, 3))):
            self._plan(rng.random() * STORM_S, self._send_rubbish)
        world.at(STORM_S, self._calm_down)

    def run(self) -> None:
        """Raises :class:`Violation`."""
        latest_s = self.world.now_s + STORM_S + PATIENCE_S
        if not self.world.run(self._at_rest, latest_s):
            raise Violation(f"no rest: {self._unrest()}")
        starts = {_identity(payload) for payload in set(self._broker.session.starts)}
        self._ledger.at_the_end(self._disk.look, self._broker.retained, starts)

    def _plan(self, delay_s: float, event: Callable[[], None]) -> None:
        """Something that will be done, whatever happens."""
        self._plans += 1
        self.world.at(delay_s, partial(self._do, event))

    def _do(self, event: Callable[[], None]) -> None:
        self._plans -= 1
        event()

    def _calm_down(self) -> None:
        self.world.note("it is calm from now on")
        self.world.calm = True

    def _at_rest(self) -> bool:
        return (
            not self._plans
            and self._coordinator.idle
            and self._broker.session.empty
            and all(proplet.idle for proplet in self._proplets.values())
        )

    def _unrest(self) -> str:
        return (
            f"coordinator idle {self._coordinator.idle}, "
            f"unacknowledged {self._broker.session.unacknowledged}, "
            f"proplets idle {[p.idle for p in self._proplets.values()]}"
        )

    def _arrived(self, topic: str, payload: bytes, retain: bool) -> None:
        self._ledger.arrived(topic, payload, retain)
        if topic == "fl/models/publish":
            self._server.take(payload)

    # --- the operator

    def _ask_for_round(self, round_id: str) -> None:
        rng = self.world.rng
        start = self._some_start(round_id)
        self._publish_start(start)
        if rng.random() < 0.2:  # to be sure, or much later
            self._plan(rng.random() * STORM_S, partial(self._publish_start, start))
        if rng.random() < 0.15:
            other = self._some_start(round_id)
            self._plan(rng.random() * 5.0, partial(self._publish_start, other))

    def _some_start(self, round_id: str) -> dict[str, Any]:
        rng = self.world.rng
        known = list(self._proplets)
        names = known if rng.random() < 0.8 else [*known, "nobody"]
        k_of_n = rng.randint(1, len(names))
        version = self._server.newest()
        if rng.random() < 0.15:
            version += rng.choice((1, 1, 50))  # perhaps it is made in time
        start: dict[str, Any] = {
            "round_id": round_id,
            "model_uri": f"fl/models/global_model_v{version}",
            "task_wasm_image": "builtin:linear",
            "participants": names,
            "hyperparams": {"lr": 0.1},
            "k_of_n": k_of_n,
            "timeout_s": rng.choice((2.0, 8.0, 25.0)),
            "min_updates": rng.randint(1, k_of_n),
            "mode": "evaluate" if rng.random() < 0.1 else "train",
        }
        if rng.random() < 0.5:
            start |= {"strategy": "fedavgm", "strategy_args": rng.choice(MOMENTA)}
        if rng.random() < 0.05:
            start["k_of_n"] = 0
        return start

    def _publish_start(self, start: dict[str, Any]) -> None:
        self._broker.publish("fl/rounds/start", json.dumps(start).encode())

    def _stop_round(self, round_id: str) -> None:
        stop = RoundStop(round_id, "for a reason")
        self._broker.publish(f"fl/rounds/{round_id}/stop", stop.encode())

    # --- strangers

    def _publish_a_model(self) -> None:
        """Somebody publishes a model, of a version far from ours."""
        version = self._server.newest() + 10
        model = json.dumps({"w": [0.25, 0.75], "b": 1.0, "version": version}).encode()
        self._broker.publish(f"fl/models/global_model_v{version}", model, retain=True)

    def _send_rubbish(self) -> None:
        rng = self.world.rng
        document: dict[str, Any] = {
            "round_id": f"r{rng.randint(0, 4)}",
            "proplet_id": rng.choice((*NAMES, "stranger")),
            "base_model_uri": f"fl/models/global_model_v{rng.randint(0, 2)}",
            "num_samples": rng.choice((1, 0)),
            "metrics": {},
            "update": {"w": [1.0] * rng.randint(1, 3), "b": rng.choice((1.0, 1e39))},
        }
        payload = json.dumps(document).encode()
        payload = payload[: rng.choice((len(payload), rng.randint(0, len(payload))))]
        self._broker.publish("fml/updates", payload)


REAL = Subject()


def run(seed: int, subject: Subject = REAL, *, tracing: bool = False) -> list[str]:
    """Run the schedule of this seed; returns its trace. Raises :class:`Violation`, with the seed
    and the command that shows it."""
    simulation = Simulation(seed, subject, tracing=tracing)
    try:
        simulation.run()
    except (Exception, Violation) as err:
        command = f"PROPELLER_SIMULATION_SEED={seed} pytest tests/simulation/test_schedules.py"
        trace = "\n".join(simulation.world.lines)
        raise Violation(f"seed {seed}: {err}; to see it: {command}\n{trace}") from err
    return simulation.world.lines


def _identity(payload: bytes) -> tuple[str, str]:
    """What an answer to this start names: its round, and its digest if it can be read."""
    try:
        start = RoundStart.decode(payload)
    except MessageError:
        return json.loads(payload)["round_id"], ""
    return start.round_id, start.digest()


def empty_database() -> Disk:
    """In memory, with its tables."""
    disk = sqlite3.connect(":memory:", isolation_level=None, factory=Disk)
    disk.deserialize(_image())
    return disk


@cache
def _image() -> bytes:
    with sqlite3.connect(":memory:", isolation_level=None) as database:
        RoundStore(database)
        return database.serialize()
