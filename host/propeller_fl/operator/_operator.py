"""Start rounds, watch them, read and publish models."""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from propeller_fl.errors import LinkError, MessageError, RequestError
from propeller_fl.link import BrokerAddress, Incoming, Link, LinkLoop
from propeller_fl.operator._experiments import is_obeyed
from propeller_fl.parts import Fetcher, PartsServer, places_of
from propeller_fl.wire import (
    Command,
    ExperimentCommand,
    ExperimentPhase,
    ExperimentStart,
    ExperimentStatus,
    LaunchReport,
    Manifest,
    Model,
    Phase,
    RoundComplete,
    RoundStart,
    RoundStatus,
    RoundStop,
    Topics,
    model_uri,
    model_version,
)

_log = logging.getLogger(__name__)

RoundEvent = RoundStatus | LaunchReport | RoundComplete

_FIRST_LULL_S: Final = 0.25
_LONGEST_LULL_S: Final = 4.0
_SUBSCRIBE_S: Final = 10.0
_NO_PART_S: Final = 60.0


class Operator:
    """A short-lived session: a context manager that is connected inside.

    Raises :class:`LinkError` when the broker is out of reach.
    """

    def __init__(self, address: BrokerAddress, topics: Topics, *, timeout_s: float = 10.0) -> None:
        self._topics = topics
        self._timeout_s = timeout_s
        self._loop = LinkLoop(name="operator")
        client_id = f"operator-{uuid.uuid4().hex[:12]}"
        self._link = Link(self._loop, address, client_id, clean_session=True)

    def __enter__(self) -> Self:
        self._loop.start()
        try:
            self._link.start()
            self._link.wait_connected(self._timeout_s)
        except BaseException:
            self._loop.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._link.close(2.0)
        self._loop.stop()

    def start_round(self, start: RoundStart) -> None:
        """Ask for a round; returns once the coordinator has opened it.

        Raises :class:`RequestError` with the reason when it refuses, or when nobody answers.
        """
        with _Subscription(self._link, self._topics.status(start.round_id)) as statuses:
            self._publish(self._topics.round_start, start.encode())
            deadline_s = time.monotonic() + self._timeout_s
            for payload in statuses.until(deadline_s):
                status = RoundStatus.decode(payload)
                if status.start_sha256 != start.digest():
                    continue
                if status.phase is Phase.REFUSED:
                    raise RequestError(f"round {start.round_id} is refused: {status.detail}")
                return
        raise RequestError(
            f"nobody has opened round {start.round_id} within {self._timeout_s:g} s",
            hint="is a coordinator running on this broker, with the same topic prefix?",
        )

    def stop_round(self, round_id: str, reason: str = "") -> RoundStatus:
        """End a round now, without a model; returns how it has ended, which may be otherwise if it
        had before. No round is ever opened under an id that is stopped before there is one: then
        the status is ``refused``.

        Raises :class:`RequestError` when nobody answers.
        """
        with _Subscription(self._link, self._topics.status(round_id)) as statuses:
            self._publish(self._topics.round_stop(round_id), RoundStop(round_id, reason).encode())
            for payload in statuses.until(time.monotonic() + self._timeout_s):
                status = RoundStatus.decode(payload)
                if status.phase.closed:
                    return status
        raise RequestError(
            f"nobody has stopped round {round_id} within {self._timeout_s:g} s",
            hint="is a coordinator running on this broker, with the same topic prefix? It stops "
            "the round as soon as it is back; ask again to be sure",
        )

    def watch(self, round_id: str, timeout_s: float) -> Iterator[RoundEvent]:
        """What happens in a round from now on, until it ends.

        Raises :class:`RequestError` when it has not ended after ``timeout_s``.
        """
        deadline_s = time.monotonic() + timeout_s
        kinds: dict[str, Callable[[bytes], RoundEvent]] = {
            self._topics.status(round_id): RoundStatus.decode,
            self._topics.launch(round_id): LaunchReport.decode,
            self._topics.complete(round_id): RoundComplete.decode,
        }
        with _Subscription(self._link, *kinds) as messages:
            for topic, payload in messages.with_topics_until(deadline_s):
                try:
                    event = kinds[topic](payload)
                except MessageError as err:
                    _log.warning("%s ignored: %s", topic, err)
                    continue
                yield event
                refused = isinstance(event, RoundStatus) and event.phase is Phase.REFUSED
                if isinstance(event, RoundComplete) or refused:
                    return
        raise RequestError(f"round {round_id} has not ended within {timeout_s:g} s")

    def start_experiment(self, start: ExperimentStart) -> ExperimentStatus:
        """Ask for an experiment; returns once it is durable, with where it stands.

        Raises :class:`RequestError` with the reason when it is refused, or when nobody answers.
        """
        return self._ask_experiment(
            start.experiment_id,
            self._topics.experiment_start,
            start.encode(),
            lambda status: status.start_sha256 in ("", start.digest()),
        )

    def command_experiment(self, experiment_id: str, command: Command) -> ExperimentStatus:
        """Pause, resume or stop an experiment; returns where it then stands, which is not where it
        should if that cannot be. Raises as :meth:`start_experiment`."""
        return self._ask_experiment(
            experiment_id,
            self._topics.experiment_command(experiment_id),
            ExperimentCommand(experiment_id, command).encode(),
            lambda status: is_obeyed(command, status),
        )

    def watch_experiment(self, experiment_id: str, timeout_s: float) -> Iterator[ExperimentStatus]:
        """Where it stands, whenever that changes, until it ends. Raises :class:`RequestError` when
        it has not after ``timeout_s``."""
        topic = self._topics.experiment_status(experiment_id)
        with _Subscription(self._link, topic) as statuses:
            for payload in statuses.until(time.monotonic() + timeout_s):
                status = ExperimentStatus.decode(payload)
                yield status
                if status.phase.ended:
                    return
        raise RequestError(f"experiment {experiment_id} has not ended within {timeout_s:g} s")

    def _ask_experiment(
        self,
        experiment_id: str,
        topic: str,
        message: bytes,
        answers: Callable[[ExperimentStatus], bool],
    ) -> ExperimentStatus:
        with _Subscription(self._link, self._topics.experiment_status(experiment_id)) as statuses:
            self._publish(topic, message)
            for payload in statuses.until(time.monotonic() + self._timeout_s):
                status = ExperimentStatus.decode(payload)
                if not answers(status):
                    continue
                if status.phase is ExperimentPhase.REFUSED:
                    raise RequestError(f"experiment {experiment_id} is refused: {status.detail}")
                return status
        raise RequestError(
            f"nobody has answered for experiment {experiment_id} within {self._timeout_s:g} s",
            hint="is there such an experiment, and does `propeller-fl up` or `experiment serve` "
            "run on this broker, with the same topic prefix?",
        )

    def model(self, uri: str) -> tuple[Model, bytes]:
        """The model retained on ``uri`` (no prefix), decoded and as its bytes.

        Raises :class:`RequestError` when there is none.
        """
        payload = self.document(uri)
        return Model.decode(payload), payload

    def document(self, uri: str) -> bytes:
        """What is retained on ``uri``: a model's document, or a large one's manifest. Raises as
        :meth:`model`."""
        with _Subscription(self._link, self._topics.absolute(uri)) as messages:
            for payload in messages.until(time.monotonic() + self._timeout_s):
                return payload
        raise RequestError(
            f"there is no model on {uri}", hint="`propeller-fl model list` shows what there is"
        )

    def model_versions(self, settle_s: float = 1.0) -> dict[int, bytes]:
        """Every retained global model, by version; what arrives within ``settle_s``."""
        found: dict[int, bytes] = {}
        with _Subscription(self._link, self._topics.any_model) as messages:
            for topic, payload in messages.with_topics_until(time.monotonic() + settle_s):
                version = model_version(self._topics.relative(topic) or "")
                if version is not None:
                    found[version] = payload
        return dict(sorted(found.items()))

    def fetch(self, manifest: Manifest, path: Path, window: int = 16) -> None:
        """Put a large model's file together at ``path``. What is there of it is kept.

        Raises :class:`LinkError` when no parts come, :class:`MessageError` when the file is not
        what the manifest says.
        """
        fetcher = Fetcher(
            self._link, self._topics, self._link.client_id, window, patience_s=_NO_PART_S
        )
        fetcher.fetch(manifest, path, threading.Event(), "--output")

    def put_large(self, manifest: Manifest, path: Path) -> None:
        """As :meth:`put_model`, with the file at ``path``, whose parts are published as they are
        asked for."""
        document, topic = manifest.encode(), self._topics.model(manifest.version)
        places = dict(places_of(manifest, path))
        server = PartsServer(self._link, self._topics, places.get)
        server.start()
        try:
            with _Subscription(self._link, topic) as messages:
                self._publish(self._topics.model_publish, document)
                server.last_asked_s = time.monotonic()
                while time.monotonic() - server.last_asked_s < _NO_PART_S:
                    for payload in messages.until(time.monotonic() + 1.0):
                        if payload == document:
                            return
                        raise _another_model(manifest.version)
        finally:
            server.stop()
        raise _nobody_published(manifest.version, _NO_PART_S)

    def put_model(self, version: int, document: bytes) -> None:
        """Have the model server keep ``document`` as ``version``, and return when it is retained.

        Raises :class:`RequestError` when that version has other bytes, or nobody takes it.
        """
        with _Subscription(self._link, self._topics.model(version)) as messages:
            self._publish(self._topics.model_publish, document)
            for payload in messages.until(time.monotonic() + self._timeout_s):
                if payload == document:
                    return
                raise _another_model(version)
        raise _nobody_published(version, self._timeout_s)

    def _publish(self, topic: str, payload: bytes) -> None:
        try:
            self._link.publish(topic, payload).wait(self._timeout_s)
        except MessageError as err:
            raise LinkError(str(err)) from err


def _another_model(version: int) -> RequestError:
    return RequestError(
        f"{model_uri(version)} is another model",
        hint="a version is never used twice: leave --version out for the next one",
    )


def _nobody_published(version: int, waited_s: float) -> RequestError:
    return RequestError(
        f"nobody has published {model_uri(version)} within {waited_s:g} s",
        hint="is a model server running on this broker, with the same topic prefix? Its log says "
        "why it refuses a model",
    )


class _Subscription:
    """Messages on some topics while the block lasts, the same bytes again left out.

    What is published retained while a broker takes our SUBSCRIBE can reach us neither as retained
    nor as new (seen with the embedded broker), so in a lull we subscribe again and are sent what
    is retained now.
    """

    def __init__(self, link: Link, *topics: str) -> None:
        self._link = link
        self._names = topics
        self._inbox: queue.SimpleQueue[Incoming] = queue.SimpleQueue()
        self._last: dict[str, bytes] = {}

    def __enter__(self) -> Self:
        self._subscribe()
        return self

    def __exit__(self, *_: object) -> None:
        for topic in self._names:
            self._link.unsubscribe(topic)

    def with_topics_until(self, deadline_s: float) -> Iterator[tuple[str, bytes]]:
        lull_s = _FIRST_LULL_S
        while (left_s := deadline_s - time.monotonic()) > 0:
            try:
                incoming = self._inbox.get(timeout=min(left_s, lull_s))
            except queue.Empty:
                self._subscribe()
                lull_s = min(2 * lull_s, _LONGEST_LULL_S)
                continue
            incoming.ack()
            if self._last.get(incoming.topic) != incoming.payload:
                self._last[incoming.topic] = incoming.payload
                yield incoming.topic, incoming.payload

    def _subscribe(self) -> None:
        for delivery in [
            self._link.subscribe(topic, self._inbox.put, qos=0) for topic in self._names
        ]:
            delivery.wait(_SUBSCRIBE_S)

    def until(self, deadline_s: float) -> Iterator[bytes]:
        return (payload for _, payload in self.with_topics_until(deadline_s))
