"""The firmware's verification of signatures against OpenSSL's, on the same cases."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tests.firmware.toolchain import Compiler, include_flags

L = 2**252 + 27742317777372353535851937790883648493
CASES = 400


def flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def make_case(rng: random.Random) -> tuple[bytes, bytes, bytes]:
    """Key, signature and message: a sound case, or one with one fault."""
    private = Ed25519PrivateKey.from_private_bytes(rng.randbytes(32))
    key = private.public_key().public_bytes_raw()
    message = rng.randbytes(rng.choice([0, 1, 54, 63, 64, 127, 128, 500]))
    signature = private.sign(message)
    match rng.randrange(7):
        case 0:
            signature = flipped(signature, rng)
        case 1:
            key = flipped(key, rng)
        case 2:
            s = int.from_bytes(signature[32:], "little") + L
            signature = signature[:32] + s.to_bytes(32, "little")
        case 3:
            message += b"!"
        case 4:
            signature = signature[:32] + rng.randbytes(32)
    return key, signature, message


def openssl_verifies(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def test_it_comes_to_the_same_verdicts(
    compiler: Compiler, core_objects: list[Path], tmp_path: Path
) -> None:
    program = tmp_path / "verdicts"
    source = Path(__file__).with_name("ed25519_verdicts.c")
    compiler.build(program, [source, *core_objects], include_flags())
    rng = random.Random(8032)
    cases = [make_case(rng) for _ in range(CASES)]
    said = subprocess.run(
        [program],
        input=b"".join(
            key + signature + len(message).to_bytes(2, "little") + message
            for key, signature, message in cases
        ),
        capture_output=True,
        check=True,
        timeout=100,
    ).stdout.decode()
    wanted = "".join("1" if openssl_verifies(*case) else "0" for case in cases)
    assert said == wanted
    assert 0.2 < wanted.count("1") / CASES < 0.5
