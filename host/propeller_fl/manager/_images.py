"""From an image reference to a Wasm module's bytes."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import logging
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from propeller_fl import disk
from propeller_fl.config import RegistryConfig
from propeller_fl.errors import ImageError, SignatureError
from propeller_fl.oci import ANNOTATION, Blobs, Reference, Registry
from propeller_fl.signing import (
    Signatures,
    read_annotation,
    read_signature_file,
    signature_path,
)
from propeller_fl.wire import MAX_SIGNATURES

_log = logging.getLogger(__name__)

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]+):(.*)", re.DOTALL)
_WASM_MAGIC: Final = b"\0asm"
_MAX_IMAGE_BYTES: Final = 64 * 1024 * 1024
_MAP_IT: Final = 'or let it stand for a module at hand: [manager] images = {{ "{0}" = "…" }}'


@dataclass(frozen=True, slots=True)
class Image:
    """A Wasm module and the SHA-256 of its bytes, in lower-case hexadecimal. ``pinned`` is a
    reference that leads to these very bytes even if the one it was fetched by comes to mean others,
    or empty."""

    data: bytes = field(repr=False)
    sha256: str
    pinned: str = ""
    signatures: Signatures = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """What a source has for a reference, when there is more to say than the bytes. ``signatures``
    are those that came with them, in JSON; ``beside`` is a file that may hold some."""

    data: bytes = field(repr=False)
    pinned: str = ""
    signatures: str = ""
    beside: Path | None = None


class ImageSource(Protocol):
    """Where the references of one scheme lead. ``fetch`` may block; the caller has a thread."""

    def fetch(self, reference: str) -> bytes | Found:
        """The bytes behind ``reference``, scheme included. Raises :class:`ImageError`."""
        ...


class BuiltinImages:
    """``builtin:linear``: modules in ``directory`` (default: those of this package).

    Each is ``{name}.wasm`` and has a line in ``SHA256SUMS`` beside it.
    """

    def __init__(self, directory: Traversable | None = None) -> None:
        self._directory = directory or importlib.resources.files("propeller_fl") / "modules"

    def fetch(self, reference: str) -> bytes:
        name = reference.removeprefix("builtin:")
        sums = self._sums()
        if name not in sums:
            known = ", ".join(f"builtin:{known}" for known in sorted(sums)) or "none at all"
            raise ImageError(f"there is no module {reference!r} in the package", hint=known)
        try:
            data = (self._directory / f"{name}.wasm").read_bytes()
        except OSError as err:
            raise ImageError(
                f"{reference}: {err.strerror}",
                hint=disk.remedy(err, "") or "`make` builds it, or install again",
            ) from err
        if hashlib.sha256(data).hexdigest() != sums[name]:
            raise ImageError(
                f"{reference} is not the module that SHA256SUMS names",
                hint="the installation is damaged: install again",
            )
        return data

    def _sums(self) -> dict[str, str]:
        """Digest by name."""
        try:
            lines = (self._directory / "SHA256SUMS").read_text().splitlines()
        except OSError as err:
            raise ImageError(
                f"SHA256SUMS of the package's modules: {err.strerror}",
                hint=disk.remedy(err, "") or "the installation is damaged: install again",
            ) from err
        entries = [line.split() for line in lines if line.strip()]
        return {
            entry[1].removeprefix("*").removesuffix(".wasm"): entry[0]
            for entry in entries
            if len(entry) == 2
        }


class ImageFiles:
    """``file:///path`` and plain paths."""

    def fetch(self, reference: str) -> Found:
        try:
            path = self._path(reference)
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # a pipe never ends, nor does /dev/zero
                raise ImageError(f"image {reference!r} is no regular file")
            if status.st_size > _MAX_IMAGE_BYTES:
                raise ImageError(
                    f"{path} has {status.st_size} bytes", hint=f"at most {_MAX_IMAGE_BYTES}"
                )
            return Found(path.read_bytes(), beside=signature_path(path))
        except ValueError as err:  # half an IPv6 address, a zero byte, half a character
            raise ImageError(f"image {reference!r} is no path: {err}") from None
        except OSError as err:
            raise ImageError(
                f"image {reference!r}: {err.strerror}",
                hint=disk.remedy(err, "task_wasm_image")
                or "the path is one of the manager's machine; " + _MAP_IT.format(reference[:80]),
            ) from err

    @staticmethod
    def _path(reference: str) -> Path:
        if not reference.startswith("file:"):
            return Path(reference)
        parts = urlsplit(reference)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ImageError(f"image {reference!r} is no local file", hint="file:///absolute/path")
        return Path(unquote(parts.path))


class OciImages:
    """``oci://…``, by tag or digest. ``directory`` keeps what was pulled."""

    def __init__(self, config: RegistryConfig, directory: Path) -> None:
        self._registry = Registry(config, Blobs(directory))

    def fetch(self, reference: str) -> Found:
        pulled = self._registry.pull(Reference.parse(reference), _MAX_IMAGE_BYTES)
        signatures = pulled.annotations.get(ANNOTATION, "")
        return Found(pulled.data, str(pulled.reference), signatures)


class ImageLibrary:
    """Finds images: first in ``mapping`` (reference → another one), then by scheme.

    ``sources`` adds schemes, or replaces those that are known: ``builtin`` and ``file``.
    ``signatures`` is a directory that may have ``{sha256}.sig`` of any module, wherever it is from.
    """

    def __init__(
        self,
        mapping: Mapping[str, str],
        sources: Mapping[str, ImageSource] | None = None,
        signatures: Path | None = None,
    ) -> None:
        self._mapping = mapping
        self._signatures = signatures
        self._files = ImageFiles()
        self._sources: dict[str, ImageSource] = {
            "builtin": BuiltinImages(),
            "file": self._files,
            **(sources or {}),
        }

    def fetch(self, reference: str, sha256: str = "") -> Image:
        """The module behind ``reference``; its digest must be ``sha256`` if that is not empty.

        Raises :class:`ImageError` when it cannot be had, is another one, or is no Wasm module.
        """
        target = self._mapping.get(reference, reference)
        if target != reference:
            _log.info("%s is mapped to %s", reference, target)
        fetched = self._source_of(target).fetch(target)
        found = fetched if isinstance(fetched, Found) else Found(fetched)
        data = found.data
        if not data.startswith(_WASM_MAGIC):  # else a reference could publish any file we can read
            raise ImageError(f"{target} is not a Wasm module", hint="wanted: a binary .wasm file")
        digest = hashlib.sha256(data).hexdigest()
        image = Image(data, digest, found.pinned, self._signatures_of(found, digest, target))
        if sha256 and image.sha256 != sha256:
            raise ImageError(
                f"{target} has sha256 {image.sha256}, the round asks for {sha256}",
                hint="was it rebuilt? Start a new round with the new digest",
            )
        return image

    def may_serve(self, reference: str) -> bool:
        """Whether somebody else may have what is behind ``reference``: all but files that the
        mapping does not name."""
        return reference in self._mapping or not (
            _SCHEME.fullmatch(reference) is None or reference.startswith("file:")
        )

    def _signatures_of(self, found: Found, sha256: str, target: str) -> dict[str, bytes]:
        """All that can be found and read. Whether they are worth anything is the proplets' to say,
        and so whether the module runs without."""
        signatures: dict[str, bytes] = {}
        files = [found.beside] if found.beside else []
        if self._signatures is not None:
            files.append(self._signatures / f"{sha256}.sig")
        sources: list[Callable[[], dict[str, bytes]]] = [
            functools.partial(read_annotation, found.signatures, target),
            *(functools.partial(read_signature_file, path, sha256) for path in files),
        ]
        for read in sources:
            try:
                signatures.update(read())
            except SignatureError as err:
                _log.warning("signatures left out: %s", err)
        return dict(sorted(signatures.items())[:MAX_SIGNATURES])

    def _source_of(self, reference: str) -> ImageSource:
        match = _SCHEME.fullmatch(reference)
        if match is None:
            return self._files
        source = self._sources.get(match[1])
        if source is None:
            raise ImageError(
                f"nothing here can fetch {reference[:80]!r}",
                hint=f"known: {', '.join(sorted(self._sources))}, or a path; "
                + _MAP_IT.format(reference[:80]),
            )
        return source
