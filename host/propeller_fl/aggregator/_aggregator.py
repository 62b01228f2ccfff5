"""The proplet upstream, with the devices here behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from propeller_fl.access import AccessRole, Credential
from propeller_fl.aggregator._devices import Devices
from propeller_fl.aggregator._local_runs import LocalRuns
from propeller_fl.config import AggregatorConfig, BrokerConfig, Settings
from propeller_fl.errors import ConfigError
from propeller_fl.link import Link
from propeller_fl.login import broker_address
from propeller_fl.operator import Operator
from propeller_fl.proplet import PropletHost, Seat, wall_clock
from propeller_fl.store import LocalRoundStore
from propeller_fl.wire import Topics

_RUNTIME: Final = "aggregator"


class Aggregator:
    """Takes part upstream from :meth:`start` on.

    ``link`` is a session with the local broker, not started yet, and the caller's to close, as is
    ``store``; ``operator`` makes further ones. ``directory`` keeps modules and models on their way.

    Raises :class:`ConfigError` when it is not clear where upstream is, and as whom to log in.
    """

    def __init__(
        self,
        settings: Settings,
        link: Link,
        store: LocalRoundStore,
        operator: Callable[[], Operator],
        directory: Path,
    ) -> None:
        config = settings.aggregator
        self.proplet_id, seat, topics = _seat(config, settings.broker.allow_plain)
        self._devices = Devices(link, settings.topics, config, settings.manager.liveness_timeout_s)
        runs = LocalRuns(config, self._devices, store, operator, directory / "images", wall_clock)
        self._host = PropletHost(
            {self.proplet_id: seat},
            topics,
            replace(settings.proplet, ids=(self.proplet_id,), models_url=""),
            keepalive_s=settings.broker.keepalive_s,
            large=settings.large,
            large_dir=directory / "models",
            updates_dir=directory / "updates",
            runs=runs,
            runtime=_RUNTIME,
        )
        self.address = replace(seat.address, username=None, password=None)

    @property
    def client_id(self) -> str:
        """What the session upstream is shown as."""
        return "upstream"

    @property
    def connected(self) -> bool:
        """Whether it is up. Any thread."""
        return self._host.count_sessions()["disconnected"] == 0

    @property
    def queued(self) -> int:
        """Messages that the broker upstream has not taken yet. Any thread."""
        return self._host.queued

    def start(self) -> None:
        """Listen to the devices, and begin to connect upstream."""
        self._devices.start()
        self._host.start()

    def wait_connected(self, timeout_s: float) -> None:
        """Return once the session upstream is up. Raises :class:`LinkError`."""
        self._host.wait_connected(timeout_s)

    def stop(self) -> None:
        """Say goodbye upstream. Local rounds go on; their tasks come again. Final."""
        self._host.stop()


def _seat(config: AggregatorConfig, allow_plain: bool) -> tuple[str, Seat, Topics]:
    """Who we are upstream, how to get there, and the topics."""
    broker = BrokerConfig(
        url=config.upstream_url,
        password_file=config.upstream_password_file,
        ca_file=config.upstream_ca_file,
        allow_plain=allow_plain,
    )
    if config.upstream_credential is None:
        if not config.upstream_url:
            raise ConfigError(
                "aggregator.upstream_url is empty, and no aggregator.upstream_credential is named",
                hint="name the broker of the deployment to take part in, or the file that "
                "`propeller-fl proplet enroll` made there",
            )
        return config.id, Seat(broker_address(broker)), Topics(config.upstream_topic_prefix)
    credential = Credential.load(config.upstream_credential.expanduser())
    if credential.role is not AccessRole.PROPLET:
        raise ConfigError(
            f"{config.upstream_credential} is of the {credential.role}, not of a proplet",
            hint="`propeller-fl proplet enroll NAME` upstream makes one",
        )
    address = broker_address(broker, credential, away=True)
    seat = Seat(address, credential.client_id, credential.own_topics)
    prefix = config.upstream_topic_prefix or credential.topic_prefix
    return credential.name, seat, Topics(prefix)
