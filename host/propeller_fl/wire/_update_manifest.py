"""What stands for an update that is too large for one message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from propeller_fl.wire._codecs import Format, decode_document, format_of
from propeller_fl.wire._fields import Fields
from propeller_fl.wire._manifest import Manifest
from propeller_fl.wire._round_messages import num_samples_of
from propeller_fl.wire._topics import model_version

_MEMBER: Final = "manifest"


@dataclass(frozen=True, slots=True)
class UpdateManifest:
    """An update whose arrays are a safetensors file, of which the parts are asked for.

    ``file`` describes it; its version is that of the base model, or 0 where that has none.
    """

    round_id: str
    proplet_id: str
    base_model_uri: str
    num_samples: int
    metrics: Mapping[str, float]
    file: Manifest

    @classmethod
    def decode(cls, data: bytes) -> UpdateManifest | None:
        """The manifest that stands for an update, ``None`` where the document is the update itself,
        or none at all. Raises :class:`MessageError` for a manifest that cannot be."""
        if format_of(data) is not Format.JSON or b'"manifest"' not in data:
            return None
        document = decode_document(data)
        if not isinstance(document.get(_MEMBER), dict) or document.get("update") is not None:
            return None
        fields = Fields(document)
        base_model_uri = fields.text("base_model_uri", max_chars=256)
        return cls(
            round_id=fields.id("round_id"),
            proplet_id=fields.id("proplet_id"),
            base_model_uri=base_model_uri,
            num_samples=num_samples_of(fields),
            metrics=fields.scalars("metrics"),
            file=Manifest.parse(document[_MEMBER], model_version(base_model_uri) or 0),
        )

    def encode(self) -> bytes:
        """Always the same bytes for the same update."""
        document = {
            "round_id": self.round_id,
            "proplet_id": self.proplet_id,
            "base_model_uri": self.base_model_uri,
            "num_samples": self.num_samples,
            "metrics": dict(self.metrics),
            _MEMBER: self.file.member(),
        }
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
