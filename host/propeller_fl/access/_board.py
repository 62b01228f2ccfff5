"""A credential for a board: what is typed on its console, or built into its firmware.

The keys are those of docs/firmware.md.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

from propeller_fl.access._credential import Credential
from propeller_fl.link import BrokerAddress


def board_settings(credential: Credential) -> Iterator[tuple[str, str]]:
    """Keys and values of the firmware's configuration; a value may be empty."""
    address = BrokerAddress.parse(credential.broker, tls=credential.tls)
    # firmware knows one place: of a cluster each board has one of the nodes
    address = address.places[address.home_of(credential.name)]
    yield "proplet_id", credential.name
    yield "topic_prefix", credential.topic_prefix
    yield "own_topics", "yes" if credential.own_topics else "no"
    yield "broker_host", address.host
    yield "broker_port", str(address.port)
    yield "broker_user", credential.name
    yield "broker_password", credential.password
    yield "tls_ca", _base64(credential.authority)
    yield "tls_certificate", _base64(credential.certificate)
    yield "tls_key", _base64(credential.key)


def loaded_settings(credential: Credential) -> str:
    """Lines ``key=value``, as an emulator, a debugger or a file for native_sim brings them."""
    return "".join(f"{key}={value}\n" for key, value in board_settings(credential) if value)


def _base64(der: bytes) -> str:
    return base64.b64encode(der).decode()
