"""Propeller's HTTP face, behind its routes."""

from __future__ import annotations

from propeller_fl.config import GatewayConfig
from propeller_fl.gateway._fleet import Fleet, Results
from propeller_fl.gateway._heard import Heard
from propeller_fl.gateway._models import Models
from propeller_fl.gateway._rounds import Rounds
from propeller_fl.gateway._tasks import TaskBook
from propeller_fl.link import BrokerAddress, Link
from propeller_fl.proplet import DataSource
from propeller_fl.wire import Topics


class Gateway:
    """``link`` must not be started yet; ``start`` does that. Give it a persistent session.

    ``rounds``, ``models`` and ``fleet`` may be used from any thread, may take as long as
    ``config.wait_s``, and raise ``Refusal``, ``MessageError`` for what a request holds, or
    ``LinkError``.
    """

    def __init__(
        self,
        link: Link,
        address: BrokerAddress,
        topics: Topics,
        config: GatewayConfig,
        book: TaskBook,
        data: DataSource | None = None,
    ) -> None:
        self._results = Results(book)
        self._heard = Heard(link, topics, config.wait_s, self._results.take)
        self.rounds = Rounds(self._heard, config)
        self.models = Models(self._heard, address, config, data)
        self.fleet = Fleet(self._heard, book)

    def start(self) -> None:
        self._heard.start()

    def stop(self) -> None:
        """The link and the book are the caller's to close."""
        self._results.close()

    @property
    def broker_up(self) -> bool:
        return self._heard.link.connected
