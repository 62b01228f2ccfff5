"""Wasm modules in OCI registries: ``oci://host/name:tag`` and ``oci://host/name@sha256:…``."""

from __future__ import annotations

from propeller_fl.oci._blobs import Blobs
from propeller_fl.oci._credentials import Login, login_for
from propeller_fl.oci._reference import Reference
from propeller_fl.oci._registry import ANNOTATION, Pulled, Registry

__all__ = ["ANNOTATION", "Blobs", "Login", "Pulled", "Reference", "Registry", "login_for"]
