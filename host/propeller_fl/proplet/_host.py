"""Many proplets in one process: one link loop, one pool of workers, one runtime."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from propeller_fl.config import LargeConfig, PropletConfig
from propeller_fl.errors import ConfigError, MessageError
from propeller_fl.link import BrokerAddress, Link, LinkLimits, LinkLoop
from propeller_fl.observe import Watcher, nobody
from propeller_fl.parts import HttpAccess
from propeller_fl.proplet._board import Board
from propeller_fl.proplet._contents import Contents
from propeller_fl.proplet._data import DataSource, data_source
from propeller_fl.proplet._large_update import LargeUpdates
from propeller_fl.proplet._registry import RegistryImages
from propeller_fl.proplet._runs import RunsTasks
from propeller_fl.proplet._service import RUNTIME, Proplet, last_will
from propeller_fl.proplet._workers import Workers
from propeller_fl.wire import Topics, check_id

_log = logging.getLogger(__name__)

_LIMITS = LinkLimits()
_LARGE = LargeConfig()


@dataclass(frozen=True, slots=True)
class Seat:
    """How one proplet comes to the broker.

    ``client_id``   of its session; empty: made of its id
    ``own_topics``  whether it speaks on control topics of its own, which the broker keeps for it,
                    and not on those that all proplets share
    """

    address: BrokerAddress
    client_id: str = ""
    own_topics: bool = False


class PropletHost:
    """The proplets ``config.ids``, up to some thousands. Use as a context manager, or call
    :meth:`start` and :meth:`stop`.

    ``address``    of the broker: one for all, or a seat for each id
    ``data``       where their samples are; by default what ``config.data`` says
    ``cache_dir``  keeps compiled modules between processes; None: they are compiled in each
    ``trusted_keys``  whose modules are run, where ``config.require_signature``
    ``large_dir``  keeps the files of large models likewise; None: they are fetched in each
    ``http_access``  what ``config.models_url`` wants to see of who reads there
    ``updates_dir``  keeps updates to large models until they are answered; None: a temporary one
    ``watch``  hears of each run of a module
    ``runs``  carries out the tasks in place of our own workers, and is closed with us; ``runtime``
              is what proplets then say that they are

    Raises ``ConfigError`` for ids, data or limits that cannot be.
    """

    def __init__(
        self,
        address: BrokerAddress | Mapping[str, Seat],
        topics: Topics,
        config: PropletConfig,
        *,
        data: DataSource | None = None,
        cache_dir: Path | None = None,
        keepalive_s: int = 30,
        limits: LinkLimits = _LIMITS,
        large: LargeConfig = _LARGE,
        large_dir: Path | None = None,
        trusted_keys: Path | None = None,
        http_access: HttpAccess | None = None,
        updates_dir: Path | None = None,
        watch: Watcher = nobody,
        runs: RunsTasks | None = None,
        runtime: str = RUNTIME,
    ) -> None:
        _check(config, limits)
        self._loop = LinkLoop(expected_links=len(config.ids), name="proplets")
        trusted_keys = trusted_keys or config.trusted_keys
        seats = (
            dict.fromkeys(config.ids, Seat(address))
            if isinstance(address, BrokerAddress)
            else address
        )
        links = [
            Link(
                self._loop,
                seats[proplet_id].address,
                seats[proplet_id].client_id or _client_id(topics, proplet_id),
                will=last_will(topics, config, proplet_id, own_topics=seats[proplet_id].own_topics),
                clean_session=True,
                keepalive_s=keepalive_s,
                limits=limits,
            )
            for proplet_id in config.ids
        ]
        self._updates = LargeUpdates(links[0], topics, config, large, updates_dir)
        self._workers: RunsTasks = runs or Workers(
            config,
            data or data_source(config.data, config.ids),
            cache_dir=cache_dir,
            trusted_keys=trusted_keys,
            updates=self._updates,
            watch=watch,
        )
        board = Board(links[0], self._loop)
        self._contents = Contents(
            links[0],
            self._loop,
            topics,
            large,
            large_dir,
            config.models_url,
            name=config.ids[0],
            http_access=http_access,
        )
        registry = RegistryImages(links[0], self._loop, topics)
        self._proplets = [
            Proplet(
                link,
                self._loop,
                topics,
                config,
                proplet_id,
                board,
                self._workers,
                self._contents,
                registry,
                own_topics=seats[proplet_id].own_topics,
                runtime=runtime,
            )
            for link, proplet_id in zip(links, config.ids, strict=True)
        ]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(proplet.id for proplet in self._proplets)

    def start(self) -> None:
        """Begin to connect, and keep at it until :meth:`stop`."""
        self._loop.start()
        for proplet in self._proplets:
            proplet.link.start()

    def count_sessions(self) -> dict[str, int]:
        """How many proplets have a session with the broker, and how many have not. Any thread."""
        connected = sum(proplet.link.connected for proplet in self._proplets)
        return {"connected": connected, "disconnected": len(self._proplets) - connected}

    @property
    def queued(self) -> int:
        """Messages of all proplets that the broker has not taken yet. Any thread."""
        return sum(proplet.link.queued for proplet in self._proplets)

    @property
    def runs_queued(self) -> int:
        """Runs of modules that wait for a worker. Any thread."""
        return self._workers.queued

    def wait_connected(self, timeout_s: float) -> None:
        """Return once all are connected. Raises ``LinkError`` as ``Link.wait_connected`` does."""
        deadline_s = time.monotonic() + timeout_s
        for proplet in self._proplets:
            proplet.link.wait_connected(max(0.0, deadline_s - time.monotonic()))

    def stop(self, timeout_s: float = 5.0) -> None:
        """Say that all are offline, hang up, and stop the modules that are running: nobody would
        hear of their updates. The manager sends tasks under way again. Final."""
        deadline_s = time.monotonic() + timeout_s
        for proplet in self._proplets:
            proplet.leave()
        for number, proplet in enumerate(self._proplets):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                _log.warning("%d proplets hang up without goodbye", len(self._proplets) - number)
                break
            proplet.link.close(left_s)
        self._contents.close()
        self._loop.stop()
        self._workers.close()
        self._updates.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _client_id(topics: Topics, proplet_id: str) -> str:
    """Unlike any other service's, and any other proplet's on a broker with several prefixes.
    nats-server takes none with a dot in it."""
    return topics.absolute(f"proplet/{proplet_id}").replace("/", "-").replace(".", "~")


def _check(config: PropletConfig, limits: LinkLimits) -> None:
    if not config.ids:
        raise ConfigError("proplet.ids is empty", hint="name at least one proplet")
    seen: set[str] = set()
    for proplet_id in config.ids:
        try:
            check_id(proplet_id, "proplet.ids")
        except MessageError as error:
            raise ConfigError(error.args[0], hint=error.hint) from None
        if proplet_id in seen:
            raise ConfigError(f"proplet.ids names {proplet_id} twice", hint="each proplet once")
        seen.add(proplet_id)
    if config.output_bytes > limits.max_payload_bytes:
        raise ConfigError(
            f"proplet.output_bytes is {config.output_bytes}, and a message can have no more than "
            f"{limits.max_payload_bytes} bytes",
            hint="lower it, or raise the link's and the broker's limit",
        )
