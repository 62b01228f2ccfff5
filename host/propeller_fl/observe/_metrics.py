"""Every metric there is, by the service it is of: a process has those of the services it runs.

Counters and times are told as facts. Gauges and the counts that services keep themselves are read
when somebody scrapes. Names end in their unit, as Prometheus has it.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client import disable_created_metrics as _show_no_times_of_creation
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from propeller_fl import __version__
from propeller_fl.errors import PropellerError
from propeller_fl.observe._facts import (
    AggregationBegun,
    Fact,
    ModelStored,
    ModuleRan,
    RoundEnded,
    RoundOpened,
    RoundRefused,
    TaskEnded,
    TaskSent,
    UpdateRefused,
    UpdatesAccepted,
)
from propeller_fl.wire import Outcome, Reason

PREFIX: Final = "propeller_fl"

_show_no_times_of_creation()  # type: ignore[no-untyped-call]  # a series more for every one of ours, which nobody looks at

_ROUND_S: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 86400)
_AGGREGATION_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 120)
_MODULE_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_MAX_BEGUN: Final = 4096  # aggregations that are timed at once

Reading = Mapping[str, float]
"""Values by the one label of their metric; of one without labels, by the empty text."""


class Metrics:
    """The registry of one process, and what writes to it. Any thread.

    ``clock`` gives seconds since the epoch as the coordinator counts them; ``elapsed`` seconds
    that never go back.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._elapsed = elapsed
        self._begun: dict[str, float] = {}  # aggregations, by round id
        self._coordinator: _OfCoordinator | None = None
        self._manager: _OfManager | None = None
        self._model_server: _OfModelServer | None = None
        self._proplets: _OfProplets | None = None
        self._refused: Counter | None = None
        self._queues: dict[str, Callable[[], int]] = {}
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        info = Gauge(
            f"{PREFIX}_build_info",
            "1, for what its labels say of the program.",
            ["version", "python"],
            registry=self.registry,
        )
        info.labels(__version__, platform.python_version()).set(1)
        self.read_gauge(
            "queue_messages",
            "Messages that wait for a service to handle them.",
            lambda: {name: float(depth()) for name, depth in list(self._queues.items())},
            label="queue",
        )

    # --- which services there are

    def has_coordinator(self) -> None:
        self._coordinator = _OfCoordinator(self.registry)
        self._count_refused("coordinator")

    def has_manager(self) -> None:
        self._manager = _OfManager(self.registry)
        self._count_refused("manager")

    def has_model_server(self) -> None:
        self._model_server = _OfModelServer(self.registry)

    def has_proplets(self) -> None:
        self._proplets = _OfProplets(self.registry)

    def has_queue(self, name: str, depth: Callable[[], int]) -> None:
        """Something waits there, so many messages; any thread asks."""
        self._queues[name] = depth

    def read_gauge(
        self, name: str, text: str, read: Callable[[], Reading], *, label: str = ""
    ) -> None:
        """A gauge that is read whenever somebody scrapes, on that thread. What ``read`` cannot have
        (it raises :class:`PropellerError`) is left out."""
        self.registry.register(_Read(GaugeMetricFamily, f"{PREFIX}_{name}", text, label, read))

    def read_counter(
        self, name: str, text: str, read: Callable[[], Reading], *, label: str = ""
    ) -> None:
        """Likewise what only grows; ``name`` without ``_total``."""
        self.registry.register(_Read(CounterMetricFamily, f"{PREFIX}_{name}", text, label, read))

    # --- what services tell

    def coordinator_tells(self, fact: Fact) -> None:
        """A :data:`Watcher`."""
        to = self._coordinator
        assert to is not None, "has_coordinator comes first"
        match fact:
            case UpdatesAccepted(count=count, size_bytes=size_bytes):
                to.updates_accepted.inc(count)
                to.updates_accepted_bytes.inc(size_bytes)
            case UpdateRefused(reason=reason):
                self._refuse("coordinator", reason)
            case RoundOpened():
                to.rounds_opened.inc()
            case RoundRefused(reason=reason):
                to.rounds_refused.labels(reason).inc()
            case AggregationBegun(round_id):
                if len(self._begun) < _MAX_BEGUN:
                    self._begun.setdefault(round_id, self._elapsed())
            case RoundEnded(round_id, outcome, opened_at_s):
                to.rounds_ended.labels(outcome).inc()
                to.round_duration.labels(outcome).observe(max(0.0, self._clock() - opened_at_s))
                begun_s = self._begun.pop(round_id, None)
                if begun_s is not None:
                    to.aggregation_duration.observe(self._elapsed() - begun_s)

    def manager_tells(self, fact: Fact) -> None:
        """A :data:`Watcher`."""
        to = self._manager
        assert to is not None, "has_manager comes first"
        match fact:
            case UpdateRefused(reason=reason):
                self._refuse("manager", reason)
            case TaskSent():
                to.tasks_sent.inc()
            case TaskEnded(error=error):
                to.tasks_ended.labels(_status(error)).inc()

    def model_server_tells(self, fact: Fact) -> None:
        """A :data:`Watcher`."""
        to = self._model_server
        assert to is not None, "has_model_server comes first"
        if isinstance(fact, ModelStored):
            to.models_stored.inc()
            to.models_stored_bytes.inc(fact.size_bytes)

    def proplets_tell(self, fact: Fact) -> None:
        """A :data:`Watcher`."""
        to = self._proplets
        assert to is not None, "has_proplets comes first"
        if isinstance(fact, ModuleRan):
            to.module_runs.labels(_status(fact.error)).inc()
            to.module_duration.observe(fact.duration_s)

    def _count_refused(self, service: str) -> None:
        if self._refused is None:
            self._refused = Counter(
                f"{PREFIX}_updates_refused",
                "Updates that do not count, by who refused them and why.",
                ["service", "reason"],
                registry=self.registry,
            )
        for reason in Reason:
            self._refused.labels(service, str(reason))

    def _refuse(self, service: str, reason: str) -> None:
        assert self._refused is not None
        self._refused.labels(service, reason).inc()


def _status(error: str) -> str:
    return "failed" if error else "done"


class _Read(Collector):
    """One metric whose values are asked for when it is scraped."""

    def __init__(
        self,
        kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
        name: str,
        text: str,
        label: str,
        read: Callable[[], Reading],
    ) -> None:
        self._kind = kind
        self._name = name
        self._text = text
        self._label = label
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """So that two of one name are found when they are made, without reading either."""
        yield self._kind(self._name, self._text, labels=[self._label] if self._label else [])

    def collect(self) -> Iterator[Metric]:
        try:
            values = self._read()
        except PropellerError:
            return
        family = self._kind(self._name, self._text, labels=[self._label] if self._label else [])
        for value_of, value in values.items():
            family.add_metric([value_of] if self._label else [], value)
        yield family


class _OfCoordinator:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.rounds_opened = Counter(
            f"{PREFIX}_rounds_opened", "Rounds opened since the start.", registry=registry
        )
        self.rounds_refused = Counter(
            f"{PREFIX}_rounds_refused",
            "Rounds that were asked for and not opened, by reason.",
            ["reason"],
            registry=registry,
        )
        self.rounds_ended = Counter(
            f"{PREFIX}_rounds_ended",
            "Rounds that have ended, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.round_duration = Histogram(
            f"{PREFIX}_round_duration_seconds",
            "From the opening of a round to its end, by outcome.",
            ["outcome"],
            buckets=_ROUND_S,
            registry=registry,
        )
        self.aggregation_duration = Histogram(
            f"{PREFIX}_aggregation_duration_seconds",
            "From a round's last update to its model in the store.",
            buckets=_AGGREGATION_S,
            registry=registry,
        )
        self.updates_accepted = Counter(
            f"{PREFIX}_updates_accepted", "Updates that count.", registry=registry
        )
        self.updates_accepted_bytes = Counter(
            f"{PREFIX}_updates_accepted_bytes",
            "Bytes of the updates that count, as they travelled.",
            registry=registry,
        )
        for outcome in Outcome:
            self.rounds_ended.labels(str(outcome))
            self.round_duration.labels(str(outcome))
        for reason in Reason:
            self.rounds_refused.labels(str(reason))


class _OfManager:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.tasks_sent = Counter(
            f"{PREFIX}_tasks_sent",
            "Tasks that the broker has taken, sent again ones too.",
            registry=registry,
        )
        self.tasks_ended = Counter(
            f"{PREFIX}_tasks_ended",
            "Results of tasks that proplets have sent, by how the task ended.",
            ["status"],
            registry=registry,
        )
        for status in ("done", "failed"):
            self.tasks_ended.labels(status)


class _OfModelServer:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.models_stored = Counter(
            f"{PREFIX}_models_stored", "Models written to disk.", registry=registry
        )
        self.models_stored_bytes = Counter(
            f"{PREFIX}_models_stored_bytes", "Bytes of those models.", registry=registry
        )


class _OfProplets:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.module_runs = Counter(
            f"{PREFIX}_module_runs",
            "Runs of training modules in this process, by how they ended.",
            ["status"],
            registry=registry,
        )
        self.module_duration = Histogram(
            f"{PREFIX}_module_run_duration_seconds",
            "How long each of those runs took.",
            buckets=_MODULE_S,
            registry=registry,
        )
        for status in ("done", "failed"):
            self.module_runs.labels(status)
