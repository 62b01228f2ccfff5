"""From references to modules."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest

from propeller_fl.config import ManagerConfig
from propeller_fl.errors import ImageError
from propeller_fl.manager import BuiltinImages, ImageLibrary

from .conftest import WASM

SHA256 = hashlib.sha256(WASM).hexdigest()


@pytest.fixture
def wasm(tmp_path: Path) -> Path:
    path = tmp_path / "a client.wasm"
    path.write_bytes(WASM)
    return path


def test_path_and_url(wasm: Path) -> None:
    library = ImageLibrary({})
    for reference in (str(wasm), wasm.as_uri(), f"file://localhost{wasm}"):
        image = library.fetch(reference)
        assert (image.data, image.sha256) == (WASM, SHA256)


def test_mapping_comes_first_and_is_logged(wasm: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    reference = "oci://example/fl-client-wasm:latest"
    assert ImageLibrary({reference: str(wasm)}).fetch(reference).sha256 == SHA256
    assert f"{reference} is mapped to {wasm}" in caplog.messages


@pytest.mark.parametrize("name", ["linear", "softmax"])
def test_builtin_modules_of_the_package(name: str) -> None:
    assert ImageLibrary({}).fetch(f"builtin:{name}").data.startswith(WASM)


def test_the_example_image_is_mapped_by_default() -> None:
    library = ImageLibrary(ManagerConfig().images)
    example = library.fetch("oci://example/fl-client-wasm:latest")
    assert example == library.fetch("builtin:linear")


def test_builtin_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{SHA256}  linear.wasm\n")
    with pytest.raises(ImageError, match=r"'builtin:cubic'.*builtin:linear"):
        BuiltinImages(tmp_path).fetch("builtin:cubic")


def test_builtin_that_was_tampered_with(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{SHA256}  linear.wasm\n")
    (tmp_path / "linear.wasm").write_bytes(WASM + b"!")
    with pytest.raises(ImageError, match="is not the module that SHA256SUMS names"):
        BuiltinImages(tmp_path).fetch("builtin:linear")


def test_no_such_file() -> None:
    with pytest.raises(ImageError, match=r"No such file.*\[manager\] images"):
        ImageLibrary({}).fetch("/nowhere/client.wasm")


def test_a_url_of_another_machine() -> None:
    with pytest.raises(ImageError, match="no local file"):
        ImageLibrary({}).fetch("file://elsewhere/client.wasm")


@pytest.mark.parametrize("reference", ["/dev/zero", "a\0b", "file:///a%00b", "file://["])
def test_a_reference_that_is_no_file_at_all(reference: str) -> None:
    with pytest.raises(ImageError, match=r"no regular file|no path"):
        ImageLibrary({}).fetch(reference)


def test_a_reference_cannot_publish_any_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("password")
    with pytest.raises(ImageError, match="not a Wasm module"):
        ImageLibrary({}).fetch(str(secret))


@pytest.mark.parametrize("reference", ["oci://example/other:latest", "https://example/x.wasm"])
def test_unknown_scheme_says_how_to_map_it(reference: str) -> None:
    with pytest.raises(ImageError) as caught:
        ImageLibrary({}).fetch(reference)
    assert reference in caught.value.hint


def test_another_digest_than_asked_for(wasm: Path) -> None:
    library = ImageLibrary({})
    assert library.fetch(str(wasm), SHA256).sha256 == SHA256
    with pytest.raises(ImageError, match="the round asks for"):
        library.fetch(str(wasm), "0" * 64)


def test_a_source_can_be_added() -> None:
    class Registry:
        def fetch(self, reference: str) -> bytes:
            return WASM + reference.encode()

    library = ImageLibrary({}, {"oci": Registry()})
    assert library.fetch("oci://example/x:1").data == WASM + b"oci://example/x:1"
