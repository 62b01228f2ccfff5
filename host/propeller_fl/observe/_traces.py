"""One OpenTelemetry trace a round, made of what coordinator, manager and proplets tell.

    round        coordinator, from its opening to its end
    ├── collect    … until it has its updates
    ├── aggregate  … until its model is in the store
    └── task       manager, one a proplet: from the broker's taking it to the proplet's result
        └── module   proplet, its run

No message carries any of it: ids are digests of the round's id, and of the proplet's beside it, so
that processes that know nothing of each other name the same spans.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags

from propeller_fl import __version__
from propeller_fl.config import TracingConfig
from propeller_fl.errors import ConfigError
from propeller_fl.observe._facts import (
    AggregationBegun,
    Fact,
    ModuleRan,
    RoundEnded,
    TaskEnded,
    TaskSent,
    Watcher,
)

_MAX_OPEN: Final = 100_000  # tasks, and rounds, whose end is waited for; the oldest is given up
_SEND_S: Final = 2.0  # tries again for so long; it also keeps us from ending, where nobody listens
_STOP_MS: Final = 5_000

_K = TypeVar("_K")

Attributes = dict[str, str | int]


def trace_id_of(round_id: str) -> int:
    """128 bits, the same in every process."""
    return int.from_bytes(_digest(round_id)[:16], "big")


def exporter_of(config: TracingConfig) -> SpanExporter:
    """Where spans go: a file, or a collector. Raises :class:`ConfigError`."""
    if config.file is None:
        return OTLPSpanExporter(endpoint=config.endpoint, timeout=_SEND_S)
    try:
        return _FileExporter(config.file)
    except OSError as err:
        raise ConfigError(f"tracing.file {config.file}: {err.strerror}") from err


class Traces:
    """Spans of the services of one process, sent by ``exporter`` from a thread of its own. What it
    cannot get rid of in time is dropped. ``clock`` gives seconds since the epoch."""

    def __init__(self, exporter: SpanExporter, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._processor = BatchSpanProcessor(exporter)
        self._begun: OrderedDict[str, int] = OrderedDict()  # aggregations
        self._sent: OrderedDict[tuple[str, str], int] = OrderedDict()  # tasks

    def close(self) -> None:
        """Send what there is. Final."""
        self._processor.force_flush(_STOP_MS)
        self._processor.shutdown()  # type: ignore[no-untyped-call]

    def of_coordinator(self) -> Watcher:
        span = _Spans("coordinator", self._processor)

        def tell(fact: Fact) -> None:
            match fact:
                case AggregationBegun(round_id):
                    _note(self._begun, round_id, self._now_ns())
                case RoundEnded(round_id, outcome, opened_at_s, num_updates):
                    root, now_ns = _root(round_id), self._now_ns()
                    opened_ns = min(int(opened_at_s * 1e9), now_ns)
                    begun_ns = self._begun.pop(round_id, now_ns)
                    about: Attributes = {
                        "propeller_fl.round_id": round_id,
                        "propeller_fl.outcome": str(outcome),
                        "propeller_fl.updates": num_updates,
                    }
                    error = "the round has failed" if outcome == "failed" else ""
                    span.emit("collect", opened_ns, begun_ns, parent=root)
                    if begun_ns < now_ns:
                        span.emit("aggregate", begun_ns, now_ns, parent=root)
                    span.emit("round", opened_ns, now_ns, own=root, about=about, error=error)

        return tell

    def of_manager(self) -> Watcher:
        span = _Spans("manager", self._processor)

        def tell(fact: Fact) -> None:
            match fact:
                case TaskSent(round_id, proplet_id):
                    _note(self._sent, (round_id, proplet_id), self._now_ns())
                case TaskEnded(task_id, proplet_id, error):
                    round_id = task_id.removesuffix(f".{proplet_id}")  # as the manager names tasks
                    if round_id == task_id:
                        return  # of no round
                    now_ns = (
                        self._now_ns()
                    )  # a result may overtake the broker's receipt of its task
                    span.emit(
                        "task",
                        self._sent.pop((round_id, proplet_id), now_ns),
                        now_ns,
                        own=_task(round_id, proplet_id),
                        parent=_root(round_id),
                        about=_about(round_id, proplet_id),
                        error=error,
                    )

        return tell

    def of_proplets(self) -> Watcher:
        span = _Spans("proplet", self._processor)

        def tell(fact: Fact) -> None:
            match fact:
                case ModuleRan(round_id, proplet_id, duration_s, error) if round_id:
                    now_ns = self._now_ns()
                    span.emit(
                        "module",
                        now_ns - int(duration_s * 1e9),
                        now_ns,
                        parent=_task(round_id, proplet_id),
                        about=_about(round_id, proplet_id),
                        error=error,
                    )

        return tell

    def _now_ns(self) -> int:
        return int(self._clock() * 1e9)


class _Spans:
    """Emits spans of one service, under ids that are given."""

    def __init__(self, service: str, processor: BatchSpanProcessor) -> None:
        self._ids = _GivenIds()
        resource = Resource.create(
            {"service.name": f"propeller-fl-{service}", "service.version": __version__}
        )
        provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        provider.add_span_processor(processor)
        self._tracer = provider.get_tracer("propeller_fl", __version__)

    def emit(
        self,
        name: str,
        begun_ns: int,
        ended_ns: int,
        *,
        own: SpanContext | None = None,
        parent: SpanContext | None = None,
        about: Attributes | None = None,
        error: str = "",
    ) -> None:
        context = Context()
        if parent is not None:
            context = trace.set_span_in_context(NonRecordingSpan(parent), context)
        with self._ids.given(own):
            span = self._tracer.start_span(
                name, context, attributes=dict(about or {}), start_time=begun_ns
            )
        if error:
            span.set_status(StatusCode.ERROR, error[:1000])
        span.end(ended_ns)


class _GivenIds(RandomIdGenerator):
    """Random ids, but for a span whose ids are given, on the thread that gave them."""

    def __init__(self) -> None:
        self._local = threading.local()

    def given(self, own: SpanContext | None) -> _GivenIds:
        self._local.own = own
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self._local.own = None

    def generate_span_id(self) -> int:
        own: SpanContext | None = getattr(self._local, "own", None)
        return own.span_id if own else super().generate_span_id()

    def generate_trace_id(self) -> int:
        own: SpanContext | None = getattr(self._local, "own", None)
        return own.trace_id if own else super().generate_trace_id()


class _FileExporter(ConsoleSpanExporter):
    """One span a line, as JSON."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        super().__init__(out=self._file, formatter=lambda span: span.to_json(indent=None) + "\n")

    def shutdown(self) -> None:
        self._file.close()


def _note(times: OrderedDict[_K, int], key: _K, now_ns: int) -> None:
    times.setdefault(key, now_ns)
    if len(times) > _MAX_OPEN:
        times.popitem(last=False)


def _about(round_id: str, proplet_id: str) -> Attributes:
    return {"propeller_fl.round_id": round_id, "propeller_fl.proplet_id": proplet_id}


def _root(round_id: str) -> SpanContext:
    return _context(round_id, _digest(round_id)[16:24])


def _task(round_id: str, proplet_id: str) -> SpanContext:
    return _context(round_id, _digest(round_id, proplet_id)[16:24])


def _context(round_id: str, span_id: bytes) -> SpanContext:
    return SpanContext(
        trace_id_of(round_id),
        int.from_bytes(span_id, "big"),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


def _digest(*ids: str) -> bytes:
    """Of ids, in which there is no slash."""
    return hashlib.sha256("/".join(("propeller-fl", *ids)).encode()).digest()
