"""Deployments as ``propeller-fl init`` makes them, on the brokers it makes them for."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from propeller_fl.access import AccessDesk, AccessRole, Credential, Plan
from propeller_fl.link import BrokerAddress, BrokerSettings, EmbeddedBroker, opens_session
from tests.support.brokers import free_port
from tests.support.wait import wait_until

WATCHER = "watcher"  # on mosquitto, which has no user that may do all


@dataclass(frozen=True)
class Guarded:
    """A broker that knows its users, and the desk that made them."""

    kind: str
    desk: AccessDesk
    place: BrokerAddress

    def credential(self, name: str) -> Credential:
        identity = next(one for one in self.desk.identities() if one.name == name)
        return Credential.load(self.desk.path_of(name, identity.role))

    def address(self, name: str) -> BrokerAddress:
        return self.credential(name).address(self.place)

    @property
    def watcher(self) -> BrokerAddress:
        """One who may do everything."""
        address = self.address("broker") if self.kind == "nats" else self.address("observer")
        if self.kind == "nats":
            return address
        return BrokerAddress(self.place.host, self.place.port, WATCHER, "sees all", tls=address.tls)


@contextlib.contextmanager
def guarded(
    kind: str, directory: Path, *, proplets: list[str], prefix: str = "", shared: bool = False
) -> Iterator[Guarded]:
    broker = "embedded" if kind == "nats" else "mosquitto"
    port = 0 if kind == "nats" else free_port()
    plan = Plan(broker=broker, port=port, topic_prefix=prefix, shared_topics=shared)  # type: ignore[arg-type]
    desk = AccessDesk.init(directory, plan, proplets)
    if kind == "nats":
        with EmbeddedBroker(
            directory / "broker", BrokerSettings(port=0), security=desk.broker_security()
        ) as running:
            yield Guarded(kind, desk, running.address)
        return
    with _mosquitto(directory / "mosquitto"):
        made = Guarded(kind, desk, BrokerAddress("127.0.0.1", port))
        # a real session: a connection that just ends can cost mosquitto 2.0 another one
        wait_until(lambda: opens_session(made.address("observer")), 60, "mosquitto listens")
        yield made


@contextlib.contextmanager
def _mosquitto(directory: Path) -> Iterator[None]:
    binary = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        pytest.skip("mosquitto is not installed")
    with (directory / "acl").open("a") as acl:
        acl.write(f"\nuser {WATCHER}\ntopic readwrite #\ntopic readwrite $SYS/#\n")
    subprocess.run(
        ["mosquitto_passwd", "-b", str(directory / "passwords"), WATCHER, "sees all"],
        check=True,
        capture_output=True,
    )
    with (directory / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "-c", str(directory / "mosquitto.conf")], stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


ROLES = [role.value for role in AccessRole if role not in (AccessRole.BROKER, AccessRole.PROPLET)]
