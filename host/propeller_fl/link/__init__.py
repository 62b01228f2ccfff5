"""MQTT: sessions that come back, many of them on one thread, and a broker to talk to.

    with LinkLoop() as loop:
        link = Link(loop, BrokerAddress.parse("mqtt://127.0.0.1:1883"), "coordinator")
        link.subscribe("fml/updates", lambda incoming: work.put(incoming))  # … incoming.ack() later
        link.start()
        link.wait_connected(timeout_s=10)
        link.publish("fl/rounds/start", payload).wait(timeout_s=10)
        link.close(timeout_s=5)

Callbacks and handlers run on the loop's thread and must be quick; everything else may be called
from any thread.
"""

from __future__ import annotations

from ._address import BrokerAddress, TlsOptions, is_loopback
from ._asking import opens_session
from ._broker_reload import reload_broker
from ._cluster import ROUTE_PORT, ClusterNode, RouteSecurity
from ._delivery import Delivery
from ._embedded import BrokerSecurity, BrokerSettings, EmbeddedBroker
from ._incoming import Incoming, take_batch
from ._link import Link
from ._loop import LinkLoop, Timer
from ._options import Backoff, LinkLimits, Will
from ._probe import Finding, probe_broker

__all__ = [
    "ROUTE_PORT",
    "Backoff",
    "BrokerAddress",
    "BrokerSecurity",
    "BrokerSettings",
    "ClusterNode",
    "Delivery",
    "EmbeddedBroker",
    "Finding",
    "Incoming",
    "Link",
    "LinkLimits",
    "LinkLoop",
    "RouteSecurity",
    "Timer",
    "TlsOptions",
    "Will",
    "is_loopback",
    "opens_session",
    "probe_broker",
    "reload_broker",
    "take_batch",
]
