"""A proplet that requires signatures runs no other module, and does not even look at one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from propeller_fl.config import PropletConfig
from propeller_fl.errors import ConfigError, SignatureError
from propeller_fl.proplet import Workers, events
from propeller_fl.signing import PrivateKey, TrustedKeys, signed_message
from propeller_fl.wire import TaskStart
from tests.proplet.modules import say

KEY = PrivateKey.generate()
GOOD = say("good")


class NoData:
    def data_of(self, proplet_id: str, *, held_out: bool = False) -> bytes:
        return b"{}"


def run(directory: Path, image: bytes, signatures: dict[str, bytes]) -> bytes:
    config = PropletConfig(require_signature=True)
    start = TaskStart("t", "", "p", "/a", {}, image_signatures=signatures)
    with Workers(
        config, NoData(), cache_dir=directory / "cache", trusted_keys=directory / "trusted"
    ) as workers:
        return workers.run("p", events.Run(start, image, None)).result(60).payload


def sign(image: bytes) -> dict[str, bytes]:
    message = signed_message(hashlib.sha256(image).hexdigest())
    return {KEY.public.key_id: KEY.sign(message)}


@pytest.fixture(autouse=True)
def trusted(tmp_path: Path) -> None:
    TrustedKeys(tmp_path / "trusted").add(KEY.public)


def test_a_signed_module_runs(tmp_path: Path) -> None:
    assert run(tmp_path, GOOD, sign(GOOD)) == b"good"


@pytest.mark.parametrize(
    ("signatures", "says"), [({}, "^unsigned_image"), (sign(say("evil")), "^untrusted_signature")]
)
def test_another_is_refused_and_not_compiled(
    tmp_path: Path, signatures: dict[str, bytes], says: str
) -> None:
    with pytest.raises(SignatureError, match=says):
        run(tmp_path, GOOD, signatures)
    assert not (tmp_path / "cache").exists()
    with pytest.raises(SignatureError, match=says):  # the contract would name another fault
        run(tmp_path, b"no module", signatures)


def test_what_was_compiled_before_is_refused_as_well(tmp_path: Path) -> None:
    run(tmp_path, GOOD, sign(GOOD))
    with pytest.raises(SignatureError, match="unsigned_image"):
        run(tmp_path, GOOD, {})


def test_a_signature_is_not_required_by_halves() -> None:
    with pytest.raises(ConfigError, match=r"require_signature.*proplet\.trusted_keys"):
        Workers(PropletConfig(require_signature=True), NoData())
