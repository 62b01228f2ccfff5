"""Pull and push. See the distribution and image specifications of the OCI."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from propeller_fl.config import RegistryConfig
from propeller_fl.errors import ImageError
from propeller_fl.oci import _manifest as manifests
from propeller_fl.oci._blobs import Blobs
from propeller_fl.oci._credentials import Login, login_for
from propeller_fl.oci._manifest import Descriptor
from propeller_fl.oci._reference import Reference
from propeller_fl.oci._transport import Transport

_log = logging.getLogger(__name__)

ANNOTATION: Final = "propeller-fl.signatures"
"""On the layer of a module: its signatures, as in the file beside one."""

_MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024  # what registries are to take at least


@dataclass(frozen=True, slots=True)
class Pulled:
    """A module; ``reference`` names these very bytes for ever, whatever becomes of the tag."""

    data: bytes = field(repr=False)
    reference: Reference
    annotations: Mapping[str, str]


class Registry:
    """Talks to any registry. Any thread.

    ``blobs`` keeps what was pulled: what is asked for by digest and is there costs no request.
    ``login`` gives a host's login, by default Docker's.
    """

    def __init__(
        self,
        config: RegistryConfig,
        blobs: Blobs,
        *,
        login: Callable[[str], Login | None] = login_for,
    ) -> None:
        self._config = config
        self._blobs = blobs
        self._login = login

    def pull(self, reference: Reference, max_bytes: int) -> Pulled:
        """The module of at most ``max_bytes`` behind ``reference``; each digest is checked.

        Raises :class:`ImageError`, or :class:`RegistryError` when the same may do later.
        """
        transport = self._transport(reference, "pull")
        data, content_type = self._manifest(transport, reference)
        pinned = reference.pinned(hashlib.sha256(data).hexdigest())
        document = manifests.read(data, content_type, str(reference))
        annotations = document.annotations
        if document.manifests is not None:
            entry = manifests.choose_manifest(document.manifests, str(reference))
            data, content_type = self._manifest(transport, reference.pinned(entry.digest))
            document = manifests.read(data, content_type, str(reference))
            annotations = {**annotations, **document.annotations}
        layer = manifests.choose_layer(document, max_bytes, str(reference))
        module = self._blobs.get(layer.digest, layer.size)
        if module is None:
            self._blobs.put(layer.digest, self._checked(transport, layer, reference))
            module = self._blobs.get(layer.digest, layer.size)
        if module is None or len(module) != layer.size:
            raise ImageError(f"{reference}: the module has another size than its manifest says")
        _log.info("%s pulled as %s, %d bytes", reference, pinned, layer.size)
        return Pulled(module, pinned, {**annotations, **layer.annotations})

    def push(
        self, reference: Reference, module: bytes, annotations: Mapping[str, str]
    ) -> Reference:
        """Store a module under the tag of ``reference``, with annotations on its layer; returns
        the reference by digest. The same module and annotations make the same digest."""
        if reference.digest:
            raise ImageError(f"{reference} names a digest", hint="push to a tag: …/name:tag")
        transport = self._transport(reference, "pull,push")
        layer = Descriptor(manifests.WASM_LAYER, _sha256(module), len(module), annotations)
        config_data = _json(
            {"architecture": "wasm", "os": "wasip1", "layerDigests": [f"sha256:{layer.digest}"]}
        )
        config = Descriptor(manifests.WASM_CONFIG, _sha256(config_data), len(config_data))
        for descriptor, data in ((layer, module), (config, config_data)):
            self._upload(transport, descriptor, data)
        manifest = _json(
            {
                "schemaVersion": 2,
                "mediaType": manifests.MANIFEST,
                "config": config.document(),
                "layers": [layer.document()],
            }
        )
        pinned = reference.pinned(_sha256(manifest))
        answer = transport.request(
            "PUT",
            f"{transport.base}manifests/{reference.tag}",
            headers={"Content-Type": manifests.MANIFEST},
            body=manifest,
        )
        said = answer.headers.get("Docker-Content-Digest", pinned.version)
        if answer.status != 201 or said != pinned.version:
            raise ImageError(
                f"{reference}: the manifest was answered with status {answer.status}"
                f" and digest {said[:80]}, not 201 and {pinned.version}"
            )
        return pinned

    def _transport(self, reference: Reference, actions: str) -> Transport:
        deadline_s = time.monotonic() + self._config.timeout_s
        return Transport(reference, actions, self._config, self._login, deadline_s)

    def _manifest(self, transport: Transport, reference: Reference) -> tuple[bytes, str]:
        """Manifest or index, and the type in its header, if it was fetched just now."""
        if reference.digest:
            kept = self._blobs.get(reference.digest, _MAX_MANIFEST_BYTES)
            if kept is not None:
                return kept, manifests.MANIFEST
        answer = transport.request(
            "GET",
            f"{transport.base}manifests/{reference.version}",
            headers={"Accept": ", ".join(manifests.ACCEPTED), "Accept-Encoding": "identity"},
            max_bytes=_MAX_MANIFEST_BYTES,
        )
        if answer.status != 200:
            raise ImageError(f"{reference}: no manifest, but status {answer.status}")
        digest = _sha256(answer.body)
        said = answer.headers.get("Docker-Content-Digest", "")
        wanted = reference.digest or said.removeprefix("sha256:") or digest
        if digest != wanted:
            raise ImageError(
                f"{reference}: the manifest has the digest {digest}, not {wanted[:64]}",
                hint="the registry, or somebody between, has changed it",
            )
        self._blobs.put(digest, [answer.body])
        return answer.body, answer.headers.get("Content-Type", "").partition(";")[0].strip()

    @staticmethod
    def _checked(transport: Transport, layer: Descriptor, reference: Reference) -> Iterator[bytes]:
        """The bytes of a layer; raises at their end unless they have its digest."""
        digest = hashlib.sha256()
        for chunk in transport.stream(f"{transport.base}blobs/sha256:{layer.digest}", layer.size):
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != layer.digest:
            raise ImageError(
                f"{reference}: the module has the digest {digest.hexdigest()}, not {layer.digest}",
                hint="the registry, or somebody between, has changed it",
            )

    @staticmethod
    def _upload(transport: Transport, descriptor: Descriptor, data: bytes) -> None:
        """Unless it is there."""
        name = f"sha256:{descriptor.digest}"
        if transport.request("HEAD", f"{transport.base}blobs/{name}").status == 200:
            return
        begun = transport.request("POST", f"{transport.base}blobs/uploads/", body=b"")
        location = transport.upload_target(begun.headers.get("Location", ""))
        mark = "&" if urlsplit(location).query else "?"
        ended = transport.request(
            "PUT",
            f"{location}{mark}digest={name}",
            headers={"Content-Type": "application/octet-stream"},
            body=data,
        )
        if begun.status != 202 or ended.status != 201:
            raise ImageError(
                f"{location.partition('?')[0]}: the upload was answered with {begun.status} and"
                f" {ended.status}, not 202 and 201"
            )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
