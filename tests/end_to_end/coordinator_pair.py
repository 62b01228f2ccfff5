"""Two coordinators on one database, as processes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import httpx

from propeller_fl.store import PostgresAddress
from tests.support.brokers import RunningBroker
from tests.support.postgres import PostgresServer
from tests.support.services import Service
from tests.support.wait import wait_until

_END_SESSION: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks"
    " WHERE locktype = 'advisory' AND objid = 'lead'::regclass"
)


class Pair:
    """Two coordinators, each with a directory of its own."""

    def __init__(self, directory: Path, broker: RunningBroker, database: PostgresAddress) -> None:
        settings = (
            f"coordinator.database_url={database.url}",
            f"coordinator.database_password_file={database.password_file}",
            "metrics.enabled=true",
            "metrics.http_port=0",
        )
        self.members = [
            Service(directory / name, broker.address, "coordinator", settings=settings)
            for name in ("one", "two")
        ]
        self.leader, self.standby = self.members
        self._database = database

    def start(self) -> None:
        """The first leads."""
        for member, says in zip(self.members, ("leading", "standing by"), strict=True):
            member.start()
            member.wait_for(says)
            member.wait_for("ready: metrics")

    def stop(self) -> None:
        for member in self.members:
            member.stop()

    def cut_off_the_leader(self, server: PostgresServer) -> None:
        """End its session with the database."""
        server.execute(self._database, _END_SESSION)

    def take_turns(self) -> None:
        """Until the one that stood by leads."""
        self.leader, self.standby = self.standby, self.leader
        wait_until(lambda: what_it_is(self.leader) == "leader", 60, "the other one leads")

    def wait_whole(self) -> None:
        """Until one of them leads, whichever that is, and one stands by."""

        def is_whole() -> bool:
            parts = {what_it_is(member): member for member in self.members}
            if set(parts) != {"leader", "standby"}:
                return False
            self.leader, self.standby = parts["leader"], parts["standby"]
            return True

        wait_until(is_whole, 60, "one leads and one stands by")

    def start_standby(self) -> None:
        """The one that led, which is gone, is back."""
        self.standby.forget_log()
        self.standby.start()
        self.standby.wait_for("standing by")
        self.standby.wait_for("ready: metrics")


def what_it_is(service: Service) -> str:
    """By its own word, as long as it is ready."""
    *_, address = re.findall(r"ready: metrics at (http://\S+)/metrics", service.log)
    said = httpx.get(f"{address}/readyz", timeout=30).json()
    return str(said["coordinator"]) if said["ready"] else ""


def leads(service: Service) -> bool:
    """By its metrics."""
    *_, address = re.findall(r"ready: metrics at (http://\S+)/metrics", service.log)
    return "propeller_fl_coordinator_leads 1.0" in httpx.get(f"{address}/metrics", timeout=30).text
