"""Identities: who may do what, credentials to prove who one is, and brokers that enforce it.

    desk = AccessDesk.init(data_dir, Plan(hosts=("192.168.1.10",)), ["board-1"])
    desk.enroll("board-2")      # a file to be carried to its machine
    desk.revoke("board-1")      # the running broker hangs up on it

The table of permissions is :func:`grants_of`; configurations of nats-server and mosquitto are made
from it.
"""

from __future__ import annotations

from ._credential import Credential
from ._desk import SETTINGS_FILE, AccessDesk, Plan, Revoked
from ._identity import Identity
from ._permissions import SERVICE_ROLES, AccessRole, Grants, grants_of

__all__ = [
    "SERVICE_ROLES",
    "SETTINGS_FILE",
    "AccessDesk",
    "AccessRole",
    "Credential",
    "Grants",
    "Identity",
    "Plan",
    "Revoked",
    "grants_of",
]
