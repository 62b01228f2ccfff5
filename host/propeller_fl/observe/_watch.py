"""What a deployment shows of its services: metrics and readiness, put together as they start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from starlette.types import ASGIApp

from propeller_fl.config import TracingConfig
from propeller_fl.errors import ConfigError
from propeller_fl.observe._app import observe_app
from propeller_fl.observe._facts import Fact, Watcher, nobody
from propeller_fl.observe._metrics import Metrics
from propeller_fl.observe._readiness import Readiness, unwritable

if TYPE_CHECKING:
    from propeller_fl.observe._traces import Traces


class Session(Protocol):
    """A session with the broker, such as a Link."""

    @property
    def client_id(self) -> str: ...

    @property
    def connected(self) -> bool: ...

    @property
    def queued(self) -> int: ...


class Coordinates(Protocol):
    @property
    def queued(self) -> int: ...

    def count_rounds(self) -> dict[str, int]: ...


class TakesTurns(Coordinates, Protocol):
    @property
    def leads(self) -> bool: ...

    @property
    def amiss(self) -> str: ...

    @property
    def session(self) -> Session | None: ...


class Forwarded(Protocol):
    @property
    def forwarded(self) -> int: ...


class Manages(Protocol):
    @property
    def queued(self) -> int: ...

    @property
    def updates_queued(self) -> int: ...

    def count_proplets(self) -> dict[str, int]: ...

    def forwarded(self) -> Forwarded: ...


class ServesModels(Protocol):
    @property
    def queued(self) -> int: ...


class HostsProplets(Protocol):
    @property
    def queued(self) -> int: ...

    @property
    def runs_queued(self) -> int: ...

    def count_sessions(self) -> dict[str, int]: ...


class Watch:
    """Knows the services of one process. Each ``watches_…`` gives what to hand to a service that is
    about to be made, each ``has_…`` takes it once it is there.

    ``enabled``  false: nobody will ask, and nothing is counted
    ``failure``  what ended a service, if something has
    """

    def __init__(self, *, enabled: bool, failure: Callable[[], BaseException | None]) -> None:
        self._enabled = enabled
        self._traces: Traces | None = None
        self._failure = failure
        self._sessions: list[Session] = []
        self._turns: TakesTurns | None = None
        self.metrics = Metrics()
        self.readiness = Readiness()
        self.metrics.read_gauge(
            "ready",
            "Whether the process can do its work: 1 as /readyz says 200, else 0.",
            lambda: {"": float(not self.readiness.amiss())},
        )
        self.metrics.read_gauge(
            "broker_connected",
            "Whether a service's session with the broker is up, by client id.",
            lambda: {one.client_id: float(one.connected) for one in self._all_sessions()},
            label="session",
        )
        self.metrics.read_gauge(
            "session_queue_messages",
            "Messages of that session that the broker has not taken yet.",
            lambda: {one.client_id: float(one.queued) for one in self._all_sessions()},
            label="session",
        )

    @property
    def app(self) -> ASGIApp:
        """What is served of it."""
        return observe_app(self.metrics, self.readiness, self._failure)

    def has_traces(self, traces: Traces) -> None:
        """Who hears of rounds as well; before the services. It is the caller's to close."""
        self._traces = traces

    def has_session(self, session: Session) -> None:
        self._sessions.append(session)
        self.readiness.add(
            f"broker, as {session.client_id}", lambda: "" if session.connected else "not connected"
        )

    def has_store(self, service: str, directory: Path) -> None:
        """``service`` keeps what it promises in ``directory``."""
        self.readiness.add(f"store of the {service}", lambda: unwritable(directory))

    def watches_coordinator(self) -> Watcher:
        self.metrics.has_coordinator()
        traces = self._traces.of_coordinator() if self._traces else None
        return self._watchers(self.metrics.coordinator_tells, traces)

    def has_turns(self, turns: TakesTurns) -> None:
        """A coordinator that others stand by for, or the other way round."""
        self._turns = turns
        self.readiness.tell("coordinator", lambda: "leader" if turns.leads else "standby")
        self.readiness.add("database of the coordinator", lambda: turns.amiss)

        def session() -> str:
            link = turns.session
            return "not connected" if link is not None and not link.connected else ""

        self.readiness.add("broker, as coordinator", session)
        self.has_coordinator(turns, lambda: turns.leads)

    def has_coordinator(
        self, coordinator: Coordinates, leads: Callable[[], bool] = lambda: True
    ) -> None:
        self.metrics.read_gauge(
            "coordinator_leads",
            "1 in the process whose coordinator owns the rounds, 0 where it stands by.",
            lambda: {"": float(leads())},
        )
        self.metrics.has_queue("coordinator", lambda: coordinator.queued)
        self.metrics.read_gauge(
            "rounds",
            "Rounds that have not ended: waiting for their model, open, aggregating.",
            lambda: _floats(coordinator.count_rounds()),
            label="state",
        )

    def watches_manager(self) -> Watcher:
        self.metrics.has_manager()
        traces = self._traces.of_manager() if self._traces else None
        return self._watchers(self.metrics.manager_tells, traces)

    def has_manager(self, manager: Manages) -> None:
        self.metrics.has_queue("manager", lambda: manager.queued)
        self.metrics.has_queue("manager-updates", lambda: manager.updates_queued)
        self.metrics.read_gauge(
            "proplets",
            "Proplets that the manager knows: alive, and silent for too long or offline.",
            lambda: _floats(manager.count_proplets()),
            label="state",
        )
        self.metrics.read_counter(
            "updates_forwarded",
            "Updates that the broker has taken from the manager for the coordinator.",
            lambda: {"": float(manager.forwarded().forwarded)},
        )

    def watches_model_server(self) -> Watcher:
        self.metrics.has_model_server()
        return self._watchers(self.metrics.model_server_tells, None)

    def has_model_server(
        self, server: ServesModels, latest_version: Callable[[], int | None]
    ) -> None:
        def latest() -> dict[str, float]:
            version = latest_version()
            return {} if version is None else {"": float(version)}

        self.metrics.has_queue("model-server", lambda: server.queued)
        self.metrics.read_gauge("latest_model_version", "The highest version on disk.", latest)

    def watches_proplets(self) -> Watcher:
        self.metrics.has_proplets()
        traces = self._traces.of_proplets() if self._traces else None
        return self._watchers(self.metrics.proplets_tell, traces)

    def has_proplets(self, proplets: HostsProplets) -> None:
        self.metrics.has_queue("module-runs", lambda: proplets.runs_queued)
        self.metrics.has_queue("proplet-sessions", lambda: proplets.queued)
        self.metrics.read_gauge(
            "proplet_sessions",
            "Proplets of this process, by whether their session with the broker is up.",
            lambda: _floats(proplets.count_sessions()),
            label="state",
        )
        self.readiness.add("broker, as proplets", lambda: _all_up(proplets.count_sessions()))

    def _all_sessions(self) -> list[Session]:
        """A coordinator that stands by has none, and misses none."""
        leading = self._turns.session if self._turns else None
        return [*self._sessions, *([leading] if leading else [])]

    def _watchers(self, metrics: Watcher, traces: Watcher | None) -> Watcher:
        if traces is None:
            return metrics if self._enabled else nobody
        if not self._enabled:
            return traces

        def both(fact: Fact) -> None:
            metrics(fact)
            traces(fact)

        return both


def open_traces(config: TracingConfig) -> Traces | None:
    """Where these settings want traces. Raises :class:`ConfigError` where what makes them is not
    installed, or their file cannot be written."""
    if not config.enabled:
        return None
    try:
        from propeller_fl.observe._traces import Traces, exporter_of
    except ImportError as err:
        raise ConfigError(
            f"tracing.enabled needs OpenTelemetry, and there is no {err.name}",
            hint='pip install "propeller-fl[trace]"',
        ) from err
    return Traces(exporter_of(config))


def _floats(counts: Mapping[str, int]) -> dict[str, float]:
    return {name: float(count) for name, count in counts.items()}


def _all_up(sessions: Mapping[str, int]) -> str:
    down = sessions.get("disconnected", 0)
    return f"{down} of {sum(sessions.values())} not connected" if down else ""
