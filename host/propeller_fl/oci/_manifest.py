"""Manifests and indexes: which bytes of a repository are the module. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from propeller_fl.errors import ImageError

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
ACCEPTED: Final = (
    MANIFEST,
    INDEX,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
WASM_LAYER: Final = "application/wasm"
WASM_CONFIG: Final = "application/vnd.wasm.config.v0+json"
_WASM_LAYERS: Final = (WASM_LAYER, "application/vnd.wasm.content.layer.v1+wasm")
_WASM_SYSTEMS: Final = ("wasip1", "wasi", "")  # not wasip2, of which components are
_TITLE: Final = "org.opencontainers.image.title"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_ENTRIES: Final = 1000


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a document says of other bytes: ``digest`` is 64 hex digits, ``size`` in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""
    architecture: str = ""
    os: str = ""

    def document(self) -> dict[str, Any]:
        extra = {"annotations": dict(self.annotations)} if self.annotations else {}
        digest = f"sha256:{self.digest}"
        return {"mediaType": self.media_type, "digest": digest, "size": self.size, **extra}


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest, of ``layers``, or an index, of ``manifests``; the other is None."""

    layers: Sequence[Descriptor] | None
    manifests: Sequence[Descriptor] | None
    annotations: Mapping[str, str]


def read(data: bytes, content_type: str, where: str) -> Document:
    """Raises :class:`ImageError`; ``where`` names the document in it."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise ImageError(f"{where}: the manifest is no JSON") from None
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise ImageError(f"{where}: the manifest is not of schema version 2")
    media_type = document.get("mediaType", content_type)
    if media_type not in ACCEPTED:
        raise ImageError(
            f"{where}: the manifest is of type {str(media_type)[:80]!r}",
            hint="wanted: OCI or Docker's",
        )
    is_index = media_type in (ACCEPTED[1], ACCEPTED[3])
    # One that could be read as either means different things to different readers.
    if ("manifests" in document) != is_index or ("layers" in document) == is_index:
        raise ImageError(f"{where}: the manifest is not what its type {media_type} says")
    entries = document["manifests" if is_index else "layers"]
    if not isinstance(entries, list) or len(entries) > _MAX_ENTRIES:
        raise ImageError(f"{where}: the manifest has no list of entries, or too long a one")
    found = [_descriptor(entry, where) for entry in entries]
    annotations = _annotations(document.get("annotations"))
    return Document(None, found, annotations) if is_index else Document(found, None, annotations)


def choose_manifest(manifests: Sequence[Descriptor], where: str) -> Descriptor:
    """The one entry of an index that is for Wasm. Raises :class:`ImageError`."""
    found = [entry for entry in manifests if _is_wasm(entry)]
    if len(found) != 1:
        has = ", ".join(sorted({f"{e.os or '?'}/{e.architecture or '?'}" for e in manifests})[:8])
        raise ImageError(
            f"{where}: the index has {len(found)} entries for wasm; it has {has or 'none at all'}",
            hint="push one for wasip1/wasm, or name the manifest by its digest",
        )
    if found[0].media_type in (ACCEPTED[1], ACCEPTED[3]):
        raise ImageError(
            f"{where}: the entry for wasm is an index again",
            hint="name the manifest by its digest",
        )
    return found[0]


def choose_layer(document: Document, max_bytes: int, where: str) -> Descriptor:
    """The one layer of a manifest that is a module. Raises :class:`ImageError`, also when it is
    larger than ``max_bytes``."""
    layers = document.layers or ()
    found = [layer for layer in layers if layer.media_type in _WASM_LAYERS]
    if not found:  # a file as oras pushes it, when it was not told a type
        found = [layer for layer in layers if layer.annotations.get(_TITLE, "").endswith(".wasm")]
    if len(found) != 1:
        has = ", ".join(layer.media_type[:80] for layer in layers[:8]) or "none at all"
        raise ImageError(
            f"{where}: {len(found)} layers are a Wasm module; there are {has}",
            hint=f"push one layer of type {WASM_LAYER}: `propeller-fl client push` does",
        )
    if found[0].size > max_bytes:
        raise ImageError(
            f"{where}: the module has {found[0].size} bytes", hint=f"at most {max_bytes}"
        )
    return found[0]


def _is_wasm(entry: Descriptor) -> bool:
    if entry.architecture == "wasm":
        return entry.os in _WASM_SYSTEMS
    return not entry.architecture and "wasm" in re.split(r"[./+]", entry.artifact_type)


def _descriptor(entry: Any, where: str) -> Descriptor:
    if isinstance(entry, dict):
        media_type, digest, size = (entry.get(name) for name in ("mediaType", "digest", "size"))
        platform = entry.get("platform") or {}
        if (
            isinstance(media_type, str)
            and isinstance(digest, str)
            and _DIGEST.fullmatch(digest)
            and isinstance(size, int)
            and not isinstance(size, bool)
            and size >= 0
            and isinstance(platform, dict)
        ):
            return Descriptor(
                media_type,
                digest.removeprefix("sha256:"),
                size,
                _annotations(entry.get("annotations")),
                str(entry.get("artifactType") or ""),
                str(platform.get("architecture") or ""),
                str(platform.get("os") or ""),
            )
    raise ImageError(f"{where}: an entry of the manifest has no mediaType, sha256 digest and size")


def _annotations(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(text, str)}
