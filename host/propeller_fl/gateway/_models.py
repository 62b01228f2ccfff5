"""Models and data over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from propeller_fl.config import GatewayConfig
from propeller_fl.errors import PropellerError, RequestError
from propeller_fl.gateway._errors import Refusal
from propeller_fl.gateway._heard import Heard, encoded
from propeller_fl.link import BrokerAddress
from propeller_fl.operator import Operator
from propeller_fl.proplet import DataSource
from propeller_fl.store import ModelFormat, convert
from propeller_fl.wire import Format, Model, check_id, decode_document

_LOOK_S: Final = 1.0  # how long something retained may take


class Models:
    """Any thread; a method may take as long as ``config.wait_s``."""

    def __init__(
        self,
        heard: Heard,
        address: BrokerAddress,
        config: GatewayConfig,
        data: DataSource | None,
    ) -> None:
        self._heard = heard
        self._address = address
        self._config = config
        self._data = data

    def put(self, version: int, model: Mapping[str, Any]) -> None:
        """Have the model server keep it."""
        decoded = Model.decode(encoded({**model, "version": version}))
        with Operator(self._address, self._heard.topics, timeout_s=self._config.wait_s) as operator:
            try:
                operator.put_model(version, decoded.encode(Format.JSON))
            except RequestError as error:
                raise Refusal(409, error.args[0], where="version", hint=error.hint) from None

    def versions(self) -> list[int]:
        with self._heard.lock:
            return sorted(self._heard.versions)

    def get(self, version: int) -> bytes:
        """A model as JSON, with its version; a large one is its manifest."""

        def known() -> bytes | None:
            return self._heard.models.get(version)

        topic = self._heard.topics.model(version)
        payload = self._heard.wait(known, topic, wait_s=min(_LOOK_S, self._config.wait_s))
        if payload is None:
            raise Refusal(404, f"there is no model version {version}", where="version")
        if "manifest" in decode_document(payload):
            return payload
        return convert(payload, ModelFormat.JSON)

    def dataset(self, proplet_id: str, *, rows: bool) -> dict[str, Any]:
        """A proplet's data: rows as Propeller's demo has them, or arrays as our modules read
        them, who take nothing else beside those."""
        check_id(proplet_id, "proplet_id")
        if self._data is None:
            raise Refusal(404, "no data are served here", hint="set gateway.data")
        try:
            data = self._data.data_of(proplet_id)
            document = decode_document(data if isinstance(data, bytes) else data.read_bytes())
        except (PropellerError, OSError) as error:
            raise Refusal(404, f"there are no data of {proplet_id}: {error}") from None
        x, y = (_plain(document[name]) for name in ("x", "y"))
        scale = document.get("x_scale", 1)
        x = [[value * scale for value in row] for row in x]
        if not rows:
            return {"x": x, "y": y}
        samples = [{"x": row, "y": label} for row, label in zip(x, y, strict=True)]
        said = {"schema": "fl-demo-dataset-v1", "proplet_id": proplet_id, "size": len(samples)}
        return said | {"data": samples}


def _plain(value: Any) -> list[Any]:
    """A matrix or a list, from JSON or CBOR, as lists."""
    plain: list[Any] = value.tolist() if hasattr(value, "tolist") else list(value)
    return plain
