"""A proplet that requires signatures runs no other module."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hil_tests.boards import Board
from hil_tests.desk import Desk
from propeller_fl.signing import PrivateKey, signed_message
from tests.proplet.modules import say

SIGNING_KEY = PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
"""What signing_key.pub, which is built into the firmware, is the public half of."""
STRANGER = PrivateKey.generate()
UNSIGNED = "unsigned_image: this proplet runs signed modules only"
STRANGE = "untrusted_signature: none is of a key that this proplet trusts"
OTHER_IMAGE = "untrusted_signature: that of a trusted key is not of this module"


def sign(image: bytes, *keys: PrivateKey) -> dict[str, bytes]:
    message = signed_message(hashlib.sha256(image).hexdigest())
    return {key.public.key_id: key.sign(message) for key in keys}


@pytest.mark.parametrize("variant", ["signed"])
def test_only_what_a_trusted_key_has_signed_is_run(board: Board, desk: Desk) -> None:
    image, other = say("signed"), say("other")
    key_id = SIGNING_KEY.public.key_id
    tampered = bytearray(sign(image, SIGNING_KEY)[key_id])
    tampered[40] ^= 1
    for given, error in (
        ({}, UNSIGNED),
        (sign(image, STRANGER), STRANGE),
        (sign(other, SIGNING_KEY), OTHER_IMAGE),
        ({key_id: bytes(tampered)}, OTHER_IMAGE),
        (sign(image, STRANGER, SIGNING_KEY), ""),
        ({}, UNSIGNED),  # what has run before is no exception
    ):
        result = desk.result(desk.task(desk.image(image), signatures=given))
        assert (result.error, result.results) == (error, "" if error else "signed")


def test_a_proplet_that_requires_none_takes_them_along(board: Board, desk: Desk) -> None:
    image = say("as ever")
    result = desk.result(desk.task(desk.image(image), signatures=sign(image, STRANGER)))
    assert result.results == "as ever"
