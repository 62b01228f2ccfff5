"""Signatures of Wasm modules: Ed25519 (RFC 8032) over a module's digest."""

from __future__ import annotations

from propeller_fl.signing._keys import PrivateKey, PublicKey
from propeller_fl.signing._signatures import (
    Signatures,
    annotation,
    read_annotation,
    read_signature_file,
    signature_path,
    signed_message,
    write_signature_file,
)
from propeller_fl.signing._trust import TrustedKeys

__all__ = [
    "PrivateKey",
    "PublicKey",
    "Signatures",
    "TrustedKeys",
    "annotation",
    "read_annotation",
    "read_signature_file",
    "signature_path",
    "signed_message",
    "write_signature_file",
]
