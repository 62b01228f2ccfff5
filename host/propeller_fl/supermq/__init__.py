"""What SuperMQ needs before our services may use it as their broker: its auth service's key, and a
domain, a channel and a client for each of ours."""

from __future__ import annotations

from propeller_fl.supermq._api import Api, Endpoints, Login
from propeller_fl.supermq._keys import KEY_NAME, write_signing_key
from propeller_fl.supermq._provision import Plan, Provisioned, provision

__all__ = [
    "KEY_NAME",
    "Api",
    "Endpoints",
    "Login",
    "Plan",
    "Provisioned",
    "provision",
    "write_signing_key",
]
