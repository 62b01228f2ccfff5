"""Identities: who may do what, credentials to prove who one is, and brokers that enforce it.

    desk = AccessDesk.init(data_dir, Plan(hosts=("192.168.1.10",)), ["board-1"])
    desk.enroll("board-2")      # a file to be carried to its machine
    desk.revoke("board-1")      # the running broker hangs up on it

The table of permissions is :func:`grants_of`; configurations of nats-server and mosquitto are made
from it.
"""

from __future__ import annotations

from ._board import board_settings, loaded_settings
from ._book import Plan, Revoked
from ._credential import Credential
from ._desk import AccessDesk
from ._identity import Identity
from ._keyring import Keyring
from ._nodes import NodePlace
from ._permissions import SERVICE_ROLES, AccessRole, Grants, grants_of
from ._secret_files import make_private, write_private
from ._tokens import TokenBook

__all__ = [
    "SERVICE_ROLES",
    "AccessDesk",
    "AccessRole",
    "Credential",
    "Grants",
    "Identity",
    "Keyring",
    "NodePlace",
    "Plan",
    "Revoked",
    "TokenBook",
    "board_settings",
    "grants_of",
    "loaded_settings",
    "make_private",
    "write_private",
]
