"""Keys, signatures and whom a proplet trusts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from propeller_fl.errors import KeyFileError, SignatureError
from propeller_fl.signing import (
    PrivateKey,
    PublicKey,
    TrustedKeys,
    annotation,
    read_annotation,
    read_signature_file,
    signed_message,
    write_signature_file,
)

IMAGE = b"\0asm\1\0\0\0"
SHA256 = hashlib.sha256(IMAGE).hexdigest()
MESSAGE = signed_message(SHA256)
KEY, OTHER = PrivateKey.generate(), PrivateKey.generate()
L = 2**252 + 27742317777372353535851937790883648493


def signatures(*keys: PrivateKey, message: bytes = MESSAGE) -> dict[str, bytes]:
    return {key.public.key_id: key.sign(message) for key in keys}


@pytest.fixture
def trusted(tmp_path: Path) -> TrustedKeys:
    keys = TrustedKeys(tmp_path / "trusted")
    keys.add(KEY.public)
    return keys


def test_the_message_says_what_it_is_for() -> None:
    assert b"propeller-fl image v1\0" + hashlib.sha256(IMAGE).digest() == MESSAGE


# --- keys


def test_a_pair_is_written_for_its_owner_alone(tmp_path: Path) -> None:
    KEY.save(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert PrivateKey.read(tmp_path / "key").public == KEY.public
    assert PublicKey.read(tmp_path / "key.pub") == KEY.public
    for name in ("key", "key.pub"):
        with pytest.raises(KeyFileError, match="is there already"):
            OTHER.save(tmp_path / name.removesuffix(".pub"))
        shutil.move(tmp_path / "key", tmp_path / "moved")
        shutil.copy(tmp_path / "moved", tmp_path / "key")
    assert PublicKey.read(tmp_path / "key.pub") == KEY.public


def test_a_private_key_is_never_shown() -> None:
    assert "0x" not in repr(KEY)
    assert repr(KEY) == "PrivateKey()"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["genpkey", "-algorithm", "x25519"], "another kind than Ed25519"),
        (["genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:x"], "is encrypted"),
        (None, "no private key in PEM"),
    ],
)
def test_a_private_key_that_is_none(tmp_path: Path, options: list[str] | None, says: str) -> None:
    path = tmp_path / "key"
    if options is None:
        path.write_text("hello")
    elif shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    else:
        subprocess.run(["openssl", *options, "-out", path], check=True, capture_output=True)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=says):
        PrivateKey.read(path)


def test_a_private_key_that_others_can_read(tmp_path: Path) -> None:
    KEY.save(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(KeyFileError, match=r"open to other users.*chmod 600"):
        PrivateKey.read(tmp_path / "key")


def test_the_private_key_in_place_of_the_public_one(tmp_path: Path) -> None:
    KEY.save(tmp_path / "key")
    with pytest.raises(KeyFileError, match=r"give the \.pub file"):
        PublicKey.read(tmp_path / "key")


@pytest.mark.parametrize(
    "raw",
    [
        bytes(32),
        b"\1" + bytes(31),
        b"\1" + bytes(30) + b"\x80",
        b"\xec" + 30 * b"\xff" + b"\x7f",
        b"\xee" + 30 * b"\xff" + b"\x7f",  # 1, not reduced
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
    ],
)
def test_a_key_that_anybody_could_sign_for(raw: bytes) -> None:
    with pytest.raises(KeyFileError, match="anybody could sign"):
        PublicKey(raw)


# --- what is verified


def test_a_signature_of_a_trusted_key(trusted: TrustedKeys) -> None:
    assert trusted.require(IMAGE, signatures(KEY)) == KEY.public.key_id
    assert trusted.require(IMAGE, signatures(OTHER, KEY)) == KEY.public.key_id


def _malleable() -> dict[str, bytes]:
    """The same signature with L added to s, which holds in arithmetic."""
    signature = KEY.sign(MESSAGE)
    s = int.from_bytes(signature[32:], "little") + L
    return {KEY.public.key_id: signature[:32] + s.to_bytes(32, "little")}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "^unsigned_image: .*client sign"),
        (signatures(OTHER), "^untrusted_signature: .* trusts .*client trust"),
        (signatures(KEY, message=signed_message(64 * "0")), "^untrusted_signature: that of key"),
        (signatures(KEY, message=hashlib.sha256(IMAGE).digest()), "^untrusted_signature: that of"),
        (signatures(KEY, message=IMAGE), "^untrusted_signature: that of"),
        ({KEY.public.key_id: OTHER.sign(MESSAGE)}, "^untrusted_signature: that of"),
        ({KEY.public.key_id: bytes(64)}, "^untrusted_signature: that of"),
        (_malleable(), "^untrusted_signature: that of"),
    ],
    ids=["none", "stranger", "another module", "no domain", "module itself", "wrong key", "zeros",
         "malleable"],
)  # fmt: skip
def test_what_is_refused(trusted: TrustedKeys, given: dict[str, bytes], says: str) -> None:
    with pytest.raises(SignatureError, match=says):
        trusted.require(IMAGE, given)


def test_nobody_is_trusted_at_first(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match=r"untrusted_signature.* trusts nobody"):
        TrustedKeys(tmp_path / "none").require(IMAGE, signatures(KEY))


def test_a_key_that_is_removed_has_had_its_last_word(trusted: TrustedKeys) -> None:
    trusted.add(OTHER.public)
    assert set(trusted.known()) == {KEY.public, OTHER.public}
    trusted.remove(KEY.public.key_id)
    assert trusted.known() == [OTHER.public]
    with pytest.raises(SignatureError, match="untrusted"):
        trusted.require(IMAGE, signatures(KEY))
    with pytest.raises(KeyFileError, match=f"no key .* is trusted.*{OTHER.public.key_id}"):
        trusted.remove(KEY.public.key_id)


# --- the place of trusted keys


def key_file(directory: Path) -> Path:
    [path] = directory.iterdir()
    return path


def open_directory(directory: Path) -> None:
    directory.chmod(0o775)


def give_away_directory(directory: Path) -> None:
    shutil.chown(directory, user=12345)


def open_file(directory: Path) -> None:
    key_file(directory).chmod(0o666)


def give_away_file(directory: Path) -> None:
    shutil.chown(key_file(directory), user=12345)


def link_file(directory: Path) -> None:
    path = key_file(directory)
    target = path.rename(directory.parent / "elsewhere.pub")
    path.symlink_to(target)


def pipe(directory: Path) -> None:
    path = key_file(directory)
    path.unlink()
    os.mkfifo(path)


def junk(directory: Path) -> None:
    key_file(directory).write_text("-----BEGIN PUBLIC KEY-----\nhello\n")


@pytest.mark.parametrize(
    "spoil", [open_directory, give_away_directory, open_file, give_away_file, link_file, pipe, junk]
)
def test_a_key_that_others_may_have_put_there_is_not_trusted(
    trusted: TrustedKeys, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    if spoil in (give_away_directory, give_away_file) and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    spoil(tmp_path / "trusted")
    with pytest.raises((KeyFileError, SignatureError)):
        trusted.require(IMAGE, signatures(KEY))


def test_nothing_is_added_where_others_may_write(trusted: TrustedKeys, tmp_path: Path) -> None:
    open_directory(tmp_path / "trusted")
    with pytest.raises(KeyFileError, match=r"may be written by others.*chmod go-w"):
        trusted.add(OTHER.public)


# --- files


def test_a_file_of_signatures(tmp_path: Path) -> None:
    path = tmp_path / "a.wasm.sig"
    assert read_signature_file(path, SHA256) == {}
    given = signatures(KEY, OTHER)
    write_signature_file(path, SHA256, given)
    assert read_signature_file(path, SHA256) == given
    assert read_annotation(annotation(given), "x") == given
    with pytest.raises(SignatureError, match="signs another module"):
        read_signature_file(path, 64 * "0")


FIVE = {f"{n:016x}": 86 * "A" + "==" for n in range(5)}


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "[]",
        json.dumps({"image_sha256": SHA256}),
        json.dumps({"image_sha256": SHA256, "signatures": {"x": "y"}}),
        json.dumps({"image_sha256": SHA256, "signatures": {16 * "a": 7}}),
        json.dumps({"image_sha256": SHA256, "signatures": FIVE}),
        "[" * 10_000,
        "x" * 100_000,
    ],
)
def test_a_file_that_holds_no_signatures(tmp_path: Path, document: str) -> None:
    path = tmp_path / "a.sig"
    path.write_text(document)
    with pytest.raises(SignatureError, match=r"a\.sig"):
        read_signature_file(path, SHA256)
